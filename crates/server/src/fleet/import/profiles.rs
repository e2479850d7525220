//! Import profiles: how the files of one vendor are read, recognised by their titles.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use wire::imports::ImportProfile;
use wire::names::CollectionName;

use super::columns::{Field, Mapping, title_key};
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, to_json};
use crate::limits::{ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::state::{AppState, now_ms};
use crate::table::COLUMNS_MAX;

/// Profiles that are kept: vendors are few.
const PROFILES_MAX: usize = 200;

/// `GET /api/v1/import-profiles`
pub(crate) async fn list(
    State(state): State<AppState>,
) -> Result<Json<Vec<ImportProfile>>, Failure> {
    all(&state).await.map(Json)
}

/// All profiles, by name.
pub(crate) async fn all(state: &AppState) -> Result<Vec<ImportProfile>, Failure> {
    let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
        "SELECT name, titles, mapping, updated_by, updated_at_ms FROM import_profiles ORDER BY name",
    )
    .fetch_all(state.db().read())
    .await
    .doing("read the import profiles")?;
    rows.into_iter()
        .map(|(name, titles, mapping, updated_by, updated_at_ms)| {
            Ok(ImportProfile {
                name,
                titles: stored("titles of a profile", &titles)?,
                mapping: stored("mapping of a profile", &mapping)?,
                updated_by,
                updated_at_ms,
            })
        })
        .collect()
}

/// `PUT /api/v1/import-profiles/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<ImportProfile>, Failure> {
    let mut profile: ImportProfile = read_json(body, JSON_BYTES_MAX).await?;
    // A profile's name is typed like a collection's.
    let name: CollectionName = parse(&name)?;
    profile.name = name.to_string();
    profile.updated_by = user.name.clone();
    profile.updated_at_ms = now_ms();
    check(&profile)?;
    let known = all(&state).await?;
    if known.len() >= PROFILES_MAX && known.iter().all(|other| other.name != profile.name) {
        let message = format!("there are {PROFILES_MAX} import profiles already");
        return Err(Failure::conflict("too-many-profiles", message).hint("remove one first"));
    }
    let mut db = state.db().write().await?;
    save(&mut db, &profile).await?;
    audit(
        &mut db,
        &user.name,
        "import-profile-saved",
        &profile.name,
        "",
    )
    .await?;
    commit(db).await?;
    Ok(Json(profile))
}

async fn save(db: &mut Write, profile: &ImportProfile) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO import_profiles (name, titles, mapping, updated_by, updated_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET titles = excluded.titles, mapping = excluded.mapping, \
         updated_by = excluded.updated_by, updated_at_ms = excluded.updated_at_ms",
    )
    .bind(&profile.name)
    .bind(to_json("write titles", &profile.titles)?)
    .bind(to_json("write a mapping", &profile.mapping)?)
    .bind(&profile.updated_by)
    .bind(profile.updated_at_ms)
    .execute(&mut **db)
    .await
    .doing("store an import profile")?;
    Ok(())
}

/// `POST /api/v1/import-profiles/{name}/remove`
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<ImportProfile>, Failure> {
    let known = all(&state).await?;
    let profile = known
        .into_iter()
        .find(|profile| profile.name == name)
        .ok_or_else(|| Failure::not_found(format!("import profile {name}")))?;
    let mut db = state.db().write().await?;
    sqlx::query("DELETE FROM import_profiles WHERE name = $1")
        .bind(&name)
        .execute(&mut *db)
        .await
        .doing("remove an import profile")?;
    audit(&mut db, &user.name, "import-profile-removed", &name, "").await?;
    commit(db).await?;
    Ok(Json(profile))
}

fn check(profile: &ImportProfile) -> Result<(), Failure> {
    if profile.titles.is_empty() {
        return Err(unfit("a profile has the titles of its columns".into()));
    }
    if profile.titles.len() > COLUMNS_MAX || profile.mapping.len() > COLUMNS_MAX {
        return Err(unfit(format!(
            "a profile has at most {COLUMNS_MAX} columns"
        )));
    }
    let texts = profile.titles.iter().chain(profile.mapping.keys());
    if texts
        .into_iter()
        .any(|title| title.chars().count() > ASSET_TEXT_CHARS_MAX)
    {
        return Err(unfit(format!(
            "a title has at most {ASSET_TEXT_CHARS_MAX} characters"
        )));
    }
    mapping(&profile.mapping).map(|_| ())
}

fn unfit(message: String) -> Failure {
    Failure::refused(StatusCode::UNPROCESSABLE_ENTITY, "bad-profile", message)
}

/// What people wrote, checked.
pub(crate) fn mapping(written: &BTreeMap<String, String>) -> Result<Mapping, Failure> {
    written
        .iter()
        .map(|(title, field)| {
            let field: Field = field.parse().map_err(|error: super::columns::NoField| {
                Failure::refused(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "bad-mapping",
                    format!("column {title:?}: {error}"),
                )
            })?;
            Ok((title_key(title), field))
        })
        .collect()
}
