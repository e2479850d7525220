//! The pupils themselves: listed, read, added, corrected.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use wire::names::PupilId;
use wire::pupils::{PUPIL_TEXT_CHARS_MAX, PupilDetail, PupilEntry, PupilRow, PupilSearch};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::pupils::store::{HistoryOf, pupil_for_in, pupil_key};
use crate::routes::{parse, read_json};
use crate::state::{AppState, now_ms};
use crate::text::clean;

/// Which pupils.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Filter {
    /// The site's code.
    pub(crate) site: String,
    /// The class, in any case.
    pub(crate) class: String,
    /// Only those without a device (`true`).
    pub(crate) without: bool,
    /// Also those who were erased: rows that say nothing but a random id.
    pub(crate) erased: bool,
}

impl Filter {
    /// Whether a pupil is meant.
    pub(crate) fn admits(&self, row: &PupilRow) -> bool {
        (self.site.is_empty() || self.site == row.site)
            && (self.class.is_empty() || self.class.to_lowercase() == row.class.to_lowercase())
            && (!self.without || row.devices.is_empty())
            && (self.erased || row.erased_at_ms.is_none())
    }
}

/// `GET /api/v1/pupils`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<PupilRow>>, Failure> {
    let mut rows = state.pupil_rows_for(&user).await?;
    rows.retain(|row| filter.admits(row));
    Ok(Json(rows))
}

/// `POST /api/v1/pupils/search`
pub(crate) async fn search(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<Vec<PupilRow>>, Failure> {
    let wanted: PupilSearch = read_json(body, JSON_BYTES_MAX).await?;
    let filter = Filter {
        site: wanted.site,
        class: wanted.class,
        without: wanted.without,
        erased: false,
    };
    let mut rows = state.pupil_rows_for(&user).await?;
    rows.retain(|row| filter.admits(row) && is_called(row, &wanted.text));
    Ok(Json(rows))
}

/// Whether all words of a text stand in a pupil's name or number.
pub(crate) fn is_called(row: &PupilRow, text: &str) -> bool {
    let called = format!("{} {}", row.name, row.external_id).to_lowercase();
    let text = text.to_lowercase();
    text.split_whitespace().all(|word| called.contains(word))
}

/// `GET /api/v1/pupils/{id}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<PupilDetail>, Failure> {
    state.pupil_detail_for(&user, parse(&id)?).await.map(Json)
}

impl AppState {
    /// A pupil and every device they ever had, or 404.
    pub(crate) async fn pupil_detail_for(
        &self,
        user: &User,
        id: PupilId,
    ) -> Result<PupilDetail, Failure> {
        let pupil = self.pupil_for(user, id).await?;
        let held = self.held_by(&pupil).await?;
        Ok(PupilDetail {
            pupil: pupil.row(held)?,
            history: self.history_for(user, HistoryOf::Pupil(id)).await?,
        })
    }
}

/// `POST /api/v1/pupils`
pub(crate) async fn post(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<PupilDetail>, Failure> {
    let entry = cleaned(read_json(body, JSON_BYTES_MAX).await?)?;
    let id = PupilId::random();
    let mut db = state.db().write().await?;
    require_fit(&mut db, &user, &entry, id).await?;
    insert(&mut db, id, &entry).await?;
    audit(&mut db, &user.name, "pupil-added", &id.to_string(), "").await?;
    commit(db).await?;
    state.pupil_detail_for(&user, id).await.map(Json)
}

/// `PUT /api/v1/pupils/{id}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<PupilDetail>, Failure> {
    let id: PupilId = parse(&id)?;
    let entry = cleaned(read_json(body, JSON_BYTES_MAX).await?)?;
    let mut db = state.db().write().await?;
    let before = pupil_for_in(&mut db, &user, id).await?;
    if before.erased_at_ms != 0 {
        return Err(
            Failure::conflict("erased", "everything personal of this pupil was erased")
                .hint("add them as a new pupil"),
        );
    }
    require_fit(&mut db, &user, &entry, id).await?;
    update(&mut db, id, &entry).await?;
    audit(&mut db, &user.name, "pupil-changed", &id.to_string(), "").await?;
    commit(db).await?;
    state.pupil_detail_for(&user, id).await.map(Json)
}

fn unfit(message: impl Into<String>) -> Failure {
    Failure::refused(StatusCode::UNPROCESSABLE_ENTITY, "bad-pupil", message)
}

fn cleaned(entry: PupilEntry) -> Result<PupilEntry, Failure> {
    let text = |text: &str| clean(text, PUPIL_TEXT_CHARS_MAX);
    let entry = PupilEntry {
        external_id: text(&entry.external_id),
        name: text(&entry.name),
        site: text(&entry.site),
        class: text(&entry.class),
        several: entry.several,
    };
    if entry.external_id.is_empty() || entry.name.is_empty() {
        return Err(unfit("a pupil has a number (or user name) and a name"));
    }
    Ok(entry)
}

async fn require_fit(
    db: &mut Write,
    user: &User,
    entry: &PupilEntry,
    id: PupilId,
) -> Result<(), Failure> {
    let known: Option<String> = sqlx::query_scalar("SELECT code FROM sites WHERE code = $1")
        .bind(&entry.site)
        .fetch_optional(&mut **db)
        .await
        .doing("look up a site")?;
    if known.is_none() || !user.reach.covers(&entry.site) {
        return Err(unfit(format!("there is no site {}", entry.site)));
    }
    let other: Option<String> =
        sqlx::query_scalar("SELECT id FROM pupils WHERE external_key = $1 AND id <> $2")
            .bind(pupil_key(&entry.external_id))
            .bind(id.to_string())
            .fetch_optional(&mut **db)
            .await
            .doing("look up a pupil's number")?;
    match other {
        None => Ok(()),
        Some(_) => Err(Failure::conflict(
            "number-taken",
            format!("another pupil has the number {}", entry.external_id),
        )),
    }
}

/// Stores a new pupil.
pub(super) async fn insert(db: &mut Write, id: PupilId, entry: &PupilEntry) -> Result<(), Failure> {
    let now = now_ms();
    sqlx::query(
        "INSERT INTO pupils (id, external_id, external_key, name, site, class, several, created_at_ms, listed_at_ms, \
         left_at_ms, erased_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0)",
    )
    .bind(id.to_string())
    .bind(&entry.external_id)
    .bind(pupil_key(&entry.external_id))
    .bind(&entry.name)
    .bind(&entry.site)
    .bind(&entry.class)
    .bind(i64::from(entry.several))
    .bind(now)
    .bind(now)
    .execute(&mut **db)
    .await
    .doing("store a pupil")?;
    Ok(())
}

/// Stores what is known of a pupil now; whoever is named again has not left.
pub(super) async fn update(db: &mut Write, id: PupilId, entry: &PupilEntry) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE pupils SET external_id = $1, external_key = $2, name = $3, site = $4, class = $5, several = $6, \
         listed_at_ms = $7, left_at_ms = 0 WHERE id = $8",
    )
    .bind(&entry.external_id)
    .bind(pupil_key(&entry.external_id))
    .bind(&entry.name)
    .bind(&entry.site)
    .bind(&entry.class)
    .bind(i64::from(entry.several))
    .bind(now_ms())
    .bind(id.to_string())
    .execute(&mut **db)
    .await
    .doing("store a pupil")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PupilRow, is_called};
    use wire::names::PupilId;

    fn check(text: &str) -> bool {
        let row = PupilRow {
            pupil: PupilId::random(),
            external_id: "aseode01".into(),
            name: "Åse Marie Ødegård".into(),
            site: "BJO".into(),
            site_name: "Bjørnøya skole".into(),
            class: "8B".into(),
            several: false,
            devices: Vec::new(),
            left_at_ms: None,
            erased_at_ms: None,
        };
        is_called(&row, text)
    }

    #[test]
    fn every_word_is_looked_for_in_name_and_number() {
        for text in ["", "åse", "ØDEGÅRD åse", "ode01", " marie  ASEODE"] {
            assert!(check(text), "{text}");
        }
        for text in ["Åse Hansen", "8B", "Bjørnøya", "aseode02"] {
            assert!(!check(text), "{text}");
        }
    }
}
