//! Whether the server is alive, and whether it can do its work. Both are public and say no more than that.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use camino::Utf8Path;

use crate::error::{Doing as _, Failure, chain};
use crate::limits::READY_BYTES_MIN;
use crate::state::{AppState, blocking};

/// How long a verdict stands: anyone may ask, and finding out takes the database's only writer for a moment.
const VERDICT_LIFE: Duration = Duration::from_secs(2);

/// The last verdict.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Vec<&'static str>)>>);

/// `GET /healthz`: the server answers. Whoever restarts servers asks this.
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it can do its work. Whoever sends machines to servers asks this.
pub(crate) async fn readyz(State(state): State<AppState>) -> Response {
    let wrong = verdict(&state).await;
    if wrong.is_empty() {
        return "ready\n".into_response();
    }
    let text = format!("not ready: {}\n", wrong.join(", "));
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn verdict(state: &AppState) -> Vec<&'static str> {
    let known = |readiness: &Readiness| {
        let verdict = readiness
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let fresh = verdict
            .as_ref()
            .filter(|(at, _)| at.elapsed() < VERDICT_LIFE);
        fresh.map(|(_, wrong)| wrong.clone())
    };
    if let Some(wrong) = known(state.readiness()) {
        return wrong;
    }
    let mut wrong = Vec::new();
    for (name, result) in [
        ("database", database(state).await),
        ("library", library(state).await),
        ("disk space", disk_space(state).await),
    ] {
        if let Err(error) = result {
            tracing::error!(error = %chain(&error), "not ready: {name}");
            wrong.push(name);
        }
    }
    let mut verdict = state
        .readiness()
        .0
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    *verdict = Some((Instant::now(), wrong.clone()));
    wrong
}

/// Something can be written; it is taken back.
async fn database(state: &AppState) -> Result<(), Failure> {
    let mut db = state.db().write().await?;
    sqlx::query(
        "INSERT INTO challenges (challenge, expires_at_ms) VALUES ('', 0) ON CONFLICT DO NOTHING",
    )
    .execute(&mut *db)
    .await
    .doing("write into the database")?;
    db.rollback().await
}

async fn library(state: &AppState) -> Result<(), Failure> {
    let folder = state.data().join("library");
    blocking(move || {
        let found = folder.read_dir_utf8().map(drop);
        found.map_err(|source| Failure::File {
            what: "list",
            path: folder,
            source,
        })
    })
    .await
}

async fn disk_space(state: &AppState) -> Result<(), Failure> {
    let folder = state.data().to_owned();
    blocking(move || {
        let free = free_bytes(&folder)?;
        if free >= READY_BYTES_MIN {
            return Ok(());
        }
        let source = std::io::Error::new(
            std::io::ErrorKind::StorageFull,
            format!("only {free} bytes are free, {READY_BYTES_MIN} are needed"),
        );
        Err(Failure::File {
            what: "go on writing into",
            path: folder,
            source,
        })
    })
    .await
}

fn free_bytes(folder: &Utf8Path) -> Result<u64, Failure> {
    let found = rustix::fs::statvfs(folder.as_std_path()).map_err(|error| Failure::File {
        what: "look at the disk of",
        path: folder.to_owned(),
        source: error.into(),
    })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
