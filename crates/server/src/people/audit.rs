//! The audit: who did what.

use axum::Json;
use axum::extract::State;
use wire::admin_api::AuditRow;

use crate::db::Write;
use crate::error::{Doing as _, Failure};
use crate::limits::LIST_ROWS_MAX;
use crate::state::{AppState, now_ms};

/// Notes who did what.
pub(crate) async fn audit(
    db: &mut Write,
    who: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO audit (at_ms, who, action, subject, detail) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(now_ms())
    .bind(who)
    .bind(action)
    .bind(subject)
    .bind(detail)
    .execute(&mut **db)
    .await
    .doing("write the audit")?;
    tracing::info!(
        user.name = who,
        action,
        subject,
        "audit: {who} {action} {subject}"
    );
    Ok(())
}

/// `GET /api/v1/audit`
pub(crate) async fn audit_rows(
    State(state): State<AppState>,
) -> Result<Json<Vec<AuditRow>>, Failure> {
    let rows: Vec<(i64, String, String, String, String)> = sqlx::query_as(
        "SELECT at_ms, who, action, subject, detail FROM audit ORDER BY id DESC LIMIT $1",
    )
    .bind(LIST_ROWS_MAX)
    .fetch_all(state.db().read())
    .await
    .doing("read the audit")?;
    let row = |(at_ms, who, action, subject, detail)| AuditRow {
        at_ms,
        who,
        action,
        subject,
        detail,
    };
    Ok(Json(rows.into_iter().map(row).collect()))
}
