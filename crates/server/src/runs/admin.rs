//! Runs for the admin API.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use wire::admin_api::{RunDetail, RunRow};
use wire::names::RunId;

use crate::db::commit;
use crate::error::{Doing as _, Failure};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::page::{PageQuery, next_page};
use crate::routes::parse;
use crate::runs::list::RunQuery;
use crate::spreadsheet::{self, TABLE_ROWS_MAX};
use crate::state::{AppState, Change};

/// Runs in an answer to someone who doesn't say how many.
const RUNS_MAX: usize = 5000;

/// `GET /api/v1/runs`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<RunQuery>,
    Query(page): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<RunRow>>), Failure> {
    let limit = page.limit_or(RUNS_MAX);
    let (rows, is_more) = state.runs_for(&user, &query, page.cursor(), limit).await?;
    // Who asks for no page gets the newest, and is told of no other.
    let next = rows.last().filter(|_| is_more && page.is_asked());
    let next = next.map(|row| row.run);
    let headers = next_page("/api/v1/runs", &query.pairs(), limit, next);
    Ok((headers, Json(rows)))
}

/// `GET /api/v1/runs.csv`: all runs that fit, the newest ones if there are more than a table holds.
pub(crate) async fn csv(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(query): Query<RunQuery>,
) -> Result<Response, Failure> {
    let (rows, _) = state.runs_for(&user, &query, None, TABLE_ROWS_MAX).await?;
    let columns = [
        "run",
        "serial",
        "name",
        "deployment",
        "sequence",
        "state",
        "step",
        "steps",
        "step-title",
        "started",
        "ended",
        "elapsed-seconds",
        "expected-seconds",
        "local-bytes",
        "network-bytes",
        "error",
    ];
    let rows = rows.into_iter().map(|row| {
        let local = row.content.unchanged.saturating_add(row.content.local);
        vec![
            row.run.to_string(),
            row.serial,
            row.name.unwrap_or_default(),
            row.deployment.to_string(),
            row.sequence.to_string(),
            row.state.to_string(),
            row.step_number.to_string(),
            row.step_count.to_string(),
            row.step_title,
            spreadsheet::moment(row.started_at_ms),
            row.ended_at_ms
                .map_or_else(String::new, spreadsheet::moment),
            row.elapsed_seconds.to_string(),
            row.expected_seconds.to_string(),
            local.to_string(),
            row.content.network_packed.to_string(),
            row.errors.join(": "),
        ]
    });
    spreadsheet::file("runs.csv", &columns, rows)
}

/// `GET /api/v1/runs/{run}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
) -> Result<Json<RunDetail>, Failure> {
    let run: RunId = parse(&run)?;
    let detail = state.run_detail_for(&user, run).await?;
    detail
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("run {run}")))
}

/// `POST /api/v1/runs/{run}/stop`: the device hears it within seconds, and stops at once.
pub(crate) async fn stop(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
) -> Result<Json<RunRow>, Failure> {
    let run: RunId = parse(&run)?;
    state.own_run(&user, run).await?;
    let mut db = state.db().write().await?;
    let stopped = sqlx::query("UPDATE runs SET stop = 1 WHERE id = $1 AND state = 'running'")
        .bind(run.to_string())
        .execute(&mut *db)
        .await
        .doing("stop a run")?;
    if stopped.rows_affected() == 0 {
        return match state.run_row(run).await? {
            Some(_) => Err(Failure::conflict(
                "not-running",
                format!("run {run} has ended already"),
            )),
            None => Err(Failure::not_found(format!("run {run}"))),
        };
    }
    audit(&mut db, &user.name, "run-stopped", &run.to_string(), "").await?;
    commit(db).await?;
    state.changed(Change::Run(run));
    let row = state.run_row(run).await?;
    row.map(Json)
        .ok_or_else(|| Failure::not_found(format!("run {run}")))
}
