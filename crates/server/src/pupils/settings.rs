//! Settings of the hand-out.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State};
use wire::pupils::{HandOutSettings, OWNER_LINE_CHARS_MAX, RETENTION_DAYS_MAX};

use crate::db::commit;
use crate::error::{Doing as _, Failure};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::read_json;
use crate::state::AppState;
use crate::text::clean;

const RETENTION_DAYS: &str = "retention-days";
const OWNER_LINE: &str = "owner-line";

impl AppState {
    /// The settings of the hand-out.
    pub(crate) async fn hand_out_settings(&self) -> Result<HandOutSettings, Failure> {
        let stored: Vec<(String, String)> =
            sqlx::query_as("SELECT name, value FROM hand_out_settings")
                .fetch_all(self.db().read())
                .await
                .doing("read the settings of the hand-out")?;
        let mut settings = HandOutSettings::default();
        for (name, value) in stored {
            match name.as_str() {
                RETENTION_DAYS => {
                    settings.retention_days = value.parse().map_err(|source| Failure::Stored {
                        what: "retention time",
                        source: Box::<dyn std::error::Error + Send + Sync>::from(
                            source as std::num::ParseIntError,
                        ),
                    })?;
                }
                OWNER_LINE => settings.owner_line = value,
                _ => {}
            }
        }
        Ok(settings)
    }
}

/// `GET /api/v1/hand-out-settings`
pub(crate) async fn get(State(state): State<AppState>) -> Result<Json<HandOutSettings>, Failure> {
    state.hand_out_settings().await.map(Json)
}

/// `PUT /api/v1/hand-out-settings`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<HandOutSettings>, Failure> {
    let settings: HandOutSettings = read_json(body, JSON_BYTES_MAX).await?;
    if settings.retention_days > RETENTION_DAYS_MAX {
        return Err(Failure::bad_request(
            "too-long",
            format!("pupils are kept for at most {RETENTION_DAYS_MAX} days"),
        )
        .hint("0 keeps them until someone erases them"));
    }
    let values = [
        (RETENTION_DAYS, settings.retention_days.to_string()),
        (
            OWNER_LINE,
            clean(&settings.owner_line, OWNER_LINE_CHARS_MAX),
        ),
    ];
    let mut db = state.db().write().await?;
    for (name, value) in values {
        sqlx::query(
            "INSERT INTO hand_out_settings (name, value) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&mut *db)
        .await
        .doing("store a setting of the hand-out")?;
    }
    let detail = format!("pupils are kept {} days", settings.retention_days);
    audit(&mut db, &user.name, "settings-stored", "hand-out", &detail).await?;
    commit(db).await?;
    state.hand_out_settings().await.map(Json)
}
