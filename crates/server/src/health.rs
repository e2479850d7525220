//! Whether the server is well.

use axum::extract::State;

use crate::error::{Doing as _, Failure};
use crate::state::AppState;

/// `GET /healthz`: the server answers and the database does too.
pub(crate) async fn healthz(State(state): State<AppState>) -> Result<&'static str, Failure> {
    let _one: i64 = sqlx::query_scalar("SELECT 1")
        .fetch_one(state.db().read())
        .await
        .doing("ask the database")?;
    Ok("ok\n")
}
