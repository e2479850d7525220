//! Hand-outs and returns, listed.

use axum::Json;
use axum::extract::{Extension, Query, State};
use serde::Deserialize;
use wire::assignments::AssignmentRow;
use wire::names::{DeviceId, PupilId};

use crate::error::{Doing as _, Failure};
use crate::limits::LIST_ROWS_MAX;
use crate::people::auth::User;
use crate::pupils::store::{HistoryOf, StoredAssignment, assignments_sql};
use crate::routes::parse;
use crate::state::AppState;

/// Which assignments; one of `device` and `pupil` at most.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Filter {
    /// Only those of this device (its id).
    device: String,
    /// Only those of this pupil (the random id).
    pupil: String,
    /// The code of the device's site.
    pub(crate) site: String,
    /// Only devices that are out now (`true`).
    pub(crate) open: bool,
    /// Only hand-outs before this moment, in milliseconds since 1970: the last row of the page before.
    pub(crate) before: Option<i64>,
}

/// `GET /api/v1/assignments`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(filter): Query<Filter>,
) -> Result<Json<Vec<AssignmentRow>>, Failure> {
    state.assignments_for(&user, &filter).await.map(Json)
}

impl AppState {
    /// Hand-outs and returns, newest first.
    pub(crate) async fn assignments_for(
        &self,
        user: &User,
        filter: &Filter,
    ) -> Result<Vec<AssignmentRow>, Failure> {
        let mut rows = if !filter.device.is_empty() {
            let device: DeviceId = parse(&filter.device)?;
            self.history_for(user, HistoryOf::Device(device)).await?
        } else if !filter.pupil.is_empty() {
            let pupil: PupilId = parse(&filter.pupil)?;
            self.history_for(user, HistoryOf::Pupil(pupil)).await?
        } else {
            let stored: Vec<StoredAssignment> = sqlx::query_as(assignments_sql!(
                "WHERE assignments.undone = 0 AND assignments.handed_out_at_ms < $1 \
                 AND (assignments.returned_at_ms = 0 OR $2 = 0) AND (devices.site = $3 OR $3 = '') \
                 ORDER BY assignments.handed_out_at_ms DESC, assignments.id LIMIT $4"
            ))
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(i64::from(filter.open))
            .bind(self.site_filter(user, filter))
            .bind(LIST_ROWS_MAX)
            .fetch_all(self.db().read())
            .await
            .doing("read the assignments")?;
            stored
                .into_iter()
                .filter_map(|row| row.row_for(user).transpose())
                .collect::<Result<_, _>>()?
        };
        rows.retain(|row| !filter.open || row.returned_at_ms.is_none());
        Ok(rows)
    }

    /// Rows of other sites mustn't use up the limit of someone who sees one.
    fn site_filter(&self, user: &User, filter: &Filter) -> String {
        match &user.reach {
            crate::people::roles::Reach::Site(own) => own.clone(),
            _ => filter.site.clone(),
        }
    }
}
