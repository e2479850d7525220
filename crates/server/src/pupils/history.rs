//! Hand-outs and returns, listed.

use axum::Json;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use serde::Deserialize;
use wire::assignments::AssignmentRow;
use wire::names::{DeviceId, PupilId};

use crate::days::midnight;
use crate::error::{Doing as _, Failure};
use crate::limits::LIST_ROWS_MAX;
use crate::people::auth::User;
use crate::pupils::store::{HistoryOf, StoredAssignment, assignments_sql};
use crate::routes::parse;
use crate::spreadsheet::{self, TABLE_ROWS_MAX};
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
    /// A part of serial number, asset tag, class or whoever handed it out or took it back. Never of a pupil's name: addresses
    /// are kept in logs.
    pub(crate) text: String,
    /// The first day of hand-outs, and the last.
    pub(crate) since: String,
    pub(crate) until: String,
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

/// `GET /api/v1/assignments.csv`: all that fit, the newest ones if there are more than a table holds.
pub(crate) async fn csv(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(filter): Query<Filter>,
) -> Result<Response, Failure> {
    let rows = state.hand_outs(&user, &filter, TABLE_ROWS_MAX).await?;
    let columns = [
        "serial",
        "asset-tag",
        "site",
        "number",
        "name",
        "class",
        "handed-out",
        "handed-out-by",
        "returned",
        "returned-by",
        "condition",
        "note",
    ];
    let rows = rows.into_iter().map(|row| {
        vec![
            row.serial,
            row.asset_tag,
            row.site,
            row.external_id,
            row.name,
            row.class,
            spreadsheet::moment(row.handed_out_at_ms),
            row.handed_out_by,
            row.returned_at_ms
                .map_or_else(String::new, spreadsheet::moment),
            row.returned_by,
            row.condition,
            row.note,
        ]
    });
    spreadsheet::file("hand-outs.csv", &columns, rows)
}

impl Filter {
    /// Names and values of what narrows, as they stand in an address.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let open = match self.open {
            true => "true",
            false => "",
        };
        let pairs = [
            ("device", self.device.as_str()),
            ("pupil", &self.pupil),
            ("site", &self.site),
            ("text", self.text.trim()),
            ("since", self.since.trim()),
            ("until", self.until.trim()),
            ("open", open),
        ];
        let narrowing = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        narrowing
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    }

    fn holds(&self, row: &AssignmentRow) -> bool {
        let text = self.text.trim().to_lowercase();
        let said = [
            &row.serial,
            &row.asset_tag,
            &row.class,
            &row.handed_out_by,
            &row.returned_by,
        ];
        (text.is_empty() || said.iter().any(|said| said.to_lowercase().contains(&text)))
            && (!self.open || row.returned_at_ms.is_none())
    }
}

impl AppState {
    /// Hand-outs and returns, newest first, as many as a list has.
    pub(crate) async fn assignments_for(
        &self,
        user: &User,
        filter: &Filter,
    ) -> Result<Vec<AssignmentRow>, Failure> {
        let limit = usize::try_from(LIST_ROWS_MAX).unwrap_or(usize::MAX);
        self.hand_outs(user, filter, limit).await
    }

    async fn hand_outs(
        &self,
        user: &User,
        filter: &Filter,
        limit: usize,
    ) -> Result<Vec<AssignmentRow>, Failure> {
        let from_ms = midnight(&filter.since, 0)?.unwrap_or(i64::MIN);
        let to_ms = midnight(&filter.until, 1)?.unwrap_or(i64::MAX);
        // What a text is looked for in is known only of rows that were read.
        let read = match filter.text.trim() {
            "" => limit,
            _ => TABLE_ROWS_MAX,
        };
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
                 AND assignments.handed_out_at_ms >= $5 \
                 ORDER BY assignments.handed_out_at_ms DESC, assignments.id LIMIT $4"
            ))
            .bind(filter.before.unwrap_or(i64::MAX).min(to_ms))
            .bind(i64::from(filter.open))
            .bind(self.site_filter(user, filter))
            .bind(i64::try_from(read).unwrap_or(i64::MAX))
            .bind(from_ms)
            .fetch_all(self.db().read())
            .await
            .doing("read the assignments")?;
            stored
                .into_iter()
                .filter_map(|row| row.row_for(user).transpose())
                .collect::<Result<_, _>>()?
        };
        rows.retain(|row| filter.holds(row) && (from_ms..to_ms).contains(&row.handed_out_at_ms));
        rows.truncate(limit);
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
