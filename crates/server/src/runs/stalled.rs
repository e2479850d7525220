//! Watches for runs that have fallen silent: nobody sends an event for what doesn't happen.

use std::time::Duration;

use serde_json::json;
use wire::names::RunId;
use wire::webhooks::WebhookEvent;

use crate::db::commit;
use crate::error::{Doing as _, Failure, chain, stored_text};
use crate::limits::SEEN_NOTED_EVERY_MS;
use crate::people::auth::millis;
use crate::state::{AppState, Change, now_ms, stopped};
use crate::webhooks::outbox::emit_run;

/// Runs that are looked at in one round.
const RUNS_AT_ONCE: i64 = 500;
/// A round is at least as long as this, and a quarter of the limit.
const ROUND_MIN: Duration = Duration::from_millis(100);

/// Watches until the server stops.
pub(crate) async fn watch(state: AppState) {
    let limit = state.stalled_after();
    loop {
        tokio::select! {
            () = stopped(state.stopping()) => return,
            () = tokio::time::sleep((limit / 4).max(ROUND_MIN)) => {}
        }
        if let Err(error) = round(&state, limit).await {
            tracing::error!(error = %chain(&error), "cannot look for runs that have stalled, trying again");
        }
    }
}

/// Tells of each run that has stalled since it was last heard of.
pub(crate) async fn round(state: &AppState, limit: Duration) -> Result<(), Failure> {
    // What a run sends is not always noted on the disk at once.
    let before = now_ms() - millis(limit) - SEEN_NOTED_EVERY_MS.min(millis(limit) / 4);
    let silent: Vec<(String, i64)> = sqlx::query_as(
        "SELECT id, last_seen_at_ms FROM runs WHERE state = 'running' AND stall_told = 0 AND last_seen_at_ms < $1 \
         ORDER BY last_seen_at_ms LIMIT $2",
    )
    .bind(before)
    .bind(RUNS_AT_ONCE)
    .fetch_all(state.db().read())
    .await
    .doing("look for runs that have stalled")?;
    for (id, last_seen_at_ms) in silent {
        let mut db = state.db().write().await?;
        let told = sqlx::query(
            "UPDATE runs SET stall_told = 1 WHERE id = $1 AND state = 'running' AND stall_told = 0 \
             AND last_seen_at_ms < $2",
        )
        .bind(&id)
        .bind(before)
        .execute(&mut *db)
        .await
        .doing("note that a run has stalled")?;
        if told.rows_affected() == 0 {
            continue;
        }
        let run: RunId = stored_text("run id", &id)?;
        let more = json!({ "last-seen-at-ms": last_seen_at_ms });
        emit_run(&mut db, WebhookEvent::RunStalled, run, more).await?;
        commit(db).await?;
        tracing::warn!(run.id = %run, "run {run} has stalled");
        state.changed(Change::Run(run));
    }
    Ok(())
}
