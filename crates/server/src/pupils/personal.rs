//! What the law asks for: everything that is kept of one person, and erasing it; by hand, or when its time is up.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Path, State};
use wire::names::PupilId;
use wire::pupils::{Erasure, ExportedAct, ExportedPupil, PupilExport};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, chain};
use crate::limits::LIST_ROWS_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::pupils::store::{HistoryOf, pupil_for_in};
use crate::routes::parse;
use crate::state::{AppState, now_ms, stopped};
use crate::webhooks::outbox::erase_pupil;

/// How often it is looked whose time is up: retention counts in days.
const LOOKED_EVERY: Duration = Duration::from_secs(3600);
/// Mistakes that were undone are kept so long, for requests that come twice.
const UNDONE_KEPT_MS: i64 = DAY_MS;
const DAY_MS: i64 = 24 * 3600 * 1000;
/// Who erases when nobody asked for it.
const BY_TIME: &str = "retention";

/// `GET /api/v1/pupils/{id}/export`
pub(crate) async fn export(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<PupilExport>, Failure> {
    let id: PupilId = parse(&id)?;
    let pupil = state.pupil_for(&user, id).await?;
    let mut db = state.db().write().await?;
    audit(&mut db, &user.name, "pupil-exported", &id.to_string(), "").await?;
    commit(db).await?;
    let acts: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT at_ms, who, action FROM audit WHERE subject = $1 OR detail = $2 OR detail = $3 ORDER BY id LIMIT $4",
    )
    .bind(id.to_string())
    .bind(format!("to pupil {id}"))
    .bind(format!("of pupil {id}"))
    .bind(LIST_ROWS_MAX)
    .fetch_all(state.db().read())
    .await
    .doing("read what the audit says of a pupil")?;
    let acts = acts.into_iter().map(|(at_ms, who, action)| ExportedAct {
        at: time_text(at_ms),
        who,
        action,
    });
    Ok(Json(PupilExport {
        exported_at: time_text(now_ms()),
        pupil: ExportedPupil {
            pupil: id,
            external_id: pupil.external_id,
            name: pupil.name,
            site: pupil.site,
            site_name: pupil.site_name,
            class: pupil.class,
            known_since: time_text(pupil.created_at_ms),
            last_listed: time_text(pupil.listed_at_ms),
            left: (pupil.left_at_ms > 0).then(|| time_text(pupil.left_at_ms)),
        },
        assignments: state.history_for(&user, HistoryOf::Pupil(id)).await?,
        audit: acts.collect(),
    }))
}

fn time_text(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(|_| String::new(), |time| time.to_string())
}

/// `POST /api/v1/pupils/{id}/erase`
pub(crate) async fn erase(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<Erasure>, Failure> {
    let id: PupilId = parse(&id)?;
    let mut db = state.db().write().await?;
    let pupil = pupil_for_in(&mut db, &user, id).await?;
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT devices.serial FROM assignments JOIN devices ON devices.id = assignments.device \
         WHERE assignments.pupil = $1 AND assignments.returned_at_ms = 0 ORDER BY devices.serial",
    )
    .bind(&pupil.id)
    .fetch_all(&mut *db)
    .await
    .doing("look up what a pupil has")?;
    if !open.is_empty() {
        return Err(Failure::conflict(
            "device-out",
            format!("the pupil still has {}", open.join(", ")),
        )
        .hint("take it back first: nobody would know any more who has it"));
    }
    let assignments = erase_in(&mut db, &user.name, &pupil.id).await?;
    commit(db).await?;
    Ok(Json(Erasure {
        pupil: id,
        assignments,
    }))
}

/// Empties everything personal; the random id and the times of hand-outs remain.
async fn erase_in(db: &mut Write, who: &str, pupil: &str) -> Result<u32, Failure> {
    sqlx::query(
        "UPDATE pupils SET external_id = '', external_key = id, name = '', class = '', erased_at_ms = $1 \
         WHERE id = $2 AND erased_at_ms = 0",
    )
    .bind(now_ms())
    .bind(pupil)
    .execute(&mut **db)
    .await
    .doing("erase a pupil")?;
    // People write names into notes.
    let assignments =
        sqlx::query("UPDATE assignments SET note = '', condition_note = '' WHERE pupil = $1")
            .bind(pupil)
            .execute(&mut **db)
            .await
            .doing("erase the notes on a pupil's devices")?;
    erase_pupil(db, pupil).await?;
    audit(db, who, "pupil-erased", pupil, "").await?;
    Ok(u32::try_from(assignments.rows_affected()).unwrap_or(u32::MAX))
}

/// Erases, for as long as the server runs, the pupils whose time is up.
pub(crate) async fn erase_in_time(state: AppState) {
    let stopping = state.stopping();
    loop {
        match erase_due(&state, now_ms()).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "erased {count} pupils whose time was up"),
            Err(error) => tracing::error!(
                error = %chain(&error),
                "cannot erase the pupils whose time is up; it is tried again in an hour"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOKED_EVERY) => {}
            () = stopped(stopping.clone()) => return,
        }
    }
}

/// Erases the pupils whose time is up at `now`, and forgets mistakes that were undone.
async fn erase_due(state: &AppState, now: i64) -> Result<usize, Failure> {
    let days = state.hand_out_settings().await?.retention_days;
    let mut db = state.db().write().await?;
    sqlx::query("DELETE FROM assignments WHERE undone = 1 AND returned_at_ms < $1")
        .bind(now - UNDONE_KEPT_MS)
        .execute(&mut *db)
        .await
        .doing("forget hand-outs that were undone")?;
    let mut due: Vec<String> = Vec::new();
    if days > 0 {
        due = sqlx::query_scalar(
            "SELECT pupils.id FROM pupils WHERE pupils.erased_at_ms = 0 \
             AND (CASE WHEN pupils.left_at_ms > 0 THEN pupils.left_at_ms ELSE pupils.listed_at_ms END) < $1 \
             AND NOT EXISTS (SELECT 1 FROM assignments WHERE assignments.pupil = pupils.id \
             AND (assignments.returned_at_ms = 0 OR assignments.returned_at_ms >= $2)) ORDER BY pupils.id",
        )
        .bind(now - i64::from(days) * DAY_MS)
        .bind(now - i64::from(days) * DAY_MS)
        .fetch_all(&mut *db)
        .await
        .doing("look up whose time is up")?;
    }
    for pupil in &due {
        erase_in(&mut db, BY_TIME, pupil).await?;
    }
    commit(db).await?;
    Ok(due.len())
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use wire::boot_config::Trust;

    use super::{DAY_MS, erase_due};
    use crate::db::commit;
    use crate::state::AppState;

    /// Who is left of pupils that were listed, left or returned a device on these days (0: never), on day 400.
    async fn check(pupils: &[(&str, i64, i64, Option<i64>)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let data = Utf8Path::from_path(folder.path()).unwrap();
        let (_stop, stopping) = tokio::sync::watch::channel(false);
        let trust = Trust {
            format: 1,
            ca_pem: String::new(),
            bundle_keys: Vec::new(),
            wipe_keys: Vec::new(),
            server_urls: Vec::new(),
        };
        let state = AppState::open(
            data,
            None,
            trust,
            None,
            stopping,
            crate::serve::Patience::default(),
            0,
        )
        .await
        .unwrap();
        let mut db = state.db().write().await.unwrap();
        let asset = "INSERT INTO sites (code, name) VALUES ('BJO', 'Bjørnøya skole')";
        sqlx::query(asset).execute(&mut *db).await.unwrap();
        for (name, listed, left, returned) in pupils {
            sqlx::query(
                "INSERT INTO pupils (id, external_id, external_key, name, site, class, several, created_at_ms, \
                 listed_at_ms, left_at_ms, erased_at_ms) VALUES ($1, $1, $1, $1, 'BJO', '8B', 0, 0, $2, $3, 0)",
            )
            .bind(*name)
            .bind(listed * DAY_MS)
            .bind(left * DAY_MS)
            .execute(&mut *db)
            .await
            .unwrap();
            let Some(returned) = returned else { continue };
            sqlx::query(
                "INSERT INTO devices (id, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, \
                 baseboard, site, class, message, waiting, facts, identity, staged, imported_at_ms, checked_in_at_ms, \
                 last_seen_at_ms) VALUES ($1, $1, $1, '', '', '', '', '', '', '', 'BJO', '', '', '', '{}', '[]', '', 0, 0, 0)",
            )
            .bind(*name)
            .execute(&mut *db)
            .await
            .unwrap();
            sqlx::query(
                "INSERT INTO assignments (id, device, pupil, handed_out_at_ms, handed_out_by, note, returned_at_ms, \
                 returned_by, condition_note, ended_by, undone) VALUES ($1, $1, $1, 1, 'admin', '', $2, '', '', '', 0)",
            )
            .bind(*name)
            .bind(returned * DAY_MS)
            .execute(&mut *db)
            .await
            .unwrap();
        }
        commit(db).await.unwrap();
        erase_due(&state, 400 * DAY_MS).await.unwrap();
        sqlx::query_scalar("SELECT name FROM pupils WHERE name <> '' ORDER BY name")
            .fetch_all(state.db().read())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn time_is_up_a_year_after_the_last_sign_of_a_pupil() {
        let left = check(&[
            ("listed long ago", 10, 0, None),
            ("listed lately", 50, 0, None),
            ("left long ago", 5, 20, None),
            ("left lately", 5, 50, None),
            ("returned long ago", 10, 0, Some(30)),
            ("returned lately", 10, 0, Some(50)),
            ("still has one", 10, 20, Some(0)),
        ])
        .await;
        assert_eq!(
            left,
            [
                "left lately",
                "listed lately",
                "returned lately",
                "still has one"
            ]
        );
    }
}
