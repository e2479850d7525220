//! The list of runs: those that fit a filter, newest first, cut into pages by the database.
//!
//! What a filter says about the device is looked up in the fleet in memory; what it says about the run is part of the
//! query. Whether a run that goes on has stalled is known only to whoever looks at it, so those are looked at one by one.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use wire::admin_api::{DeviceRow, DeviceState, RunRow};
use wire::names::RunId;

use super::rows::{StoredRun, runs_sql};
use crate::error::{Doing as _, Failure, stored_text};
use crate::limits::STALLED_AFTER;
use crate::people::auth::{User, millis};
use crate::people::roles::Reach;
use crate::state::{AppState, now_ms};
use crate::web::filter::state_key;

/// The states that a run can be in.
pub(crate) const RUN_STATES: [DeviceState; 5] = [
    DeviceState::Running,
    DeviceState::Stalled,
    DeviceState::Failed,
    DeviceState::Stopped,
    DeviceState::Completed,
];

/// The filter as it stands in an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RunQuery {
    pub(crate) state: String,
    pub(crate) site: String,
    pub(crate) collection: String,
    pub(crate) deployment: String,
    pub(crate) model: String,
    pub(crate) device: String,
    pub(crate) since: String,
}

impl RunQuery {
    /// Names and values of what narrows.
    pub(crate) fn pairs(&self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("state", &self.state),
            ("site", &self.site),
            ("collection", &self.collection),
            ("deployment", &self.deployment),
            ("model", &self.model),
            ("device", &self.device),
            ("since", &self.since),
        ];
        let narrowing = pairs
            .into_iter()
            .map(|(name, value)| (name, value.trim().to_owned()));
        narrowing.filter(|(_, value)| !value.is_empty()).collect()
    }

    fn state(&self) -> Result<Option<DeviceState>, Failure> {
        let wanted = self.state.trim();
        let state = RUN_STATES
            .into_iter()
            .find(|state| state_key(*state) == wanted);
        if state.is_none() && !wanted.is_empty() {
            let message = format!("a run is never {wanted}");
            return Err(Failure::bad_request("bad-state", message)
                .hint("running, stalled, failed, stopped or completed"));
        }
        Ok(state)
    }

    /// The moment since which runs are wanted; 0 for all.
    fn since_ms(&self) -> Result<i64, Failure> {
        let text = self.since.trim();
        if text.is_empty() {
            return Ok(0);
        }
        let day = text.parse::<Date>().ok();
        let begin = |day: Date| TimeZone::system().to_timestamp(day.at(0, 0, 0, 0)).ok();
        let moment = day.and_then(begin);
        let moment = moment.or_else(|| text.parse().ok());
        let moment = moment.ok_or_else(|| {
            Failure::bad_request("bad-since", format!("`{text}` is no day"))
                .hint("write it as 2026-08-17, or as 2026-08-17T08:00:00Z")
        })?;
        Ok(moment.as_millisecond())
    }

    fn is_about_devices(&self) -> bool {
        !self.model.trim().is_empty() || !self.device.trim().is_empty()
    }

    /// Whether this device's runs are wanted.
    fn admits(&self, row: &DeviceRow) -> bool {
        let device = self.device.trim().to_lowercase();
        let name = row.name.as_deref().unwrap_or_default();
        let called = [&row.serial, &row.asset_tag, name];
        let is_model = [row.model.product.as_str(), ""].contains(&self.model.trim());
        is_model
            && (device.is_empty()
                || row.device.to_string() == device
                || called.iter().any(|own| own.to_lowercase() == device))
    }
}

/// Where a page begins: behind this run.
struct Behind {
    started_at_ms: i64,
    id: String,
}

impl AppState {
    /// The runs that someone sees and the query wants, newest first: `limit` of them behind `cursor`, and whether there
    /// are more.
    pub(crate) async fn runs_for(
        &self,
        user: &User,
        query: &RunQuery,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<RunRow>, bool), Failure> {
        let (state, since_ms) = (query.state()?, query.since_ms()?);
        let mut behind = self.behind(user, cursor).await?;
        let reach = match &user.reach {
            Reach::Everywhere => "",
            Reach::Site(own) => own,
            Reach::Nowhere => return Ok((Vec::new(), false)),
        };
        let devices = if query.is_about_devices() {
            let fleet = self.fleet().await?;
            let meant = fleet.rows().iter().filter(|row| query.admits(row));
            Some(meant.map(|row| row.device.to_string()).collect::<Vec<_>>())
        } else {
            None
        };
        if devices.as_ref().is_some_and(Vec::is_empty) {
            return Ok((Vec::new(), false));
        }
        let sql = sql(state, devices.as_ref().map_or(0, Vec::len));
        let mut rows = Vec::new();
        loop {
            let batch = limit.saturating_add(1);
            let mut runs = sqlx::query_as(sqlx::AssertSqlSafe(sql.as_str()))
                .bind(query.site.trim())
                .bind(query.deployment.trim())
                .bind(query.collection.trim())
                .bind(since_ms)
                .bind(behind.started_at_ms)
                .bind(&behind.id)
                .bind(now_ms() - millis(STALLED_AFTER))
                .bind(i64::try_from(batch).unwrap_or(i64::MAX))
                .bind(reach);
            for device in devices.iter().flatten() {
                runs = runs.bind(device);
            }
            let runs: Vec<StoredRun> = runs
                .fetch_all(self.db().read())
                .await
                .doing("read the runs")?;
            let is_last = runs.len() < batch;
            for run in &runs {
                let row = self.run_row_of(run).await?;
                if state.is_some_and(|state| state != row.state) {
                    continue;
                }
                if rows.len() == limit {
                    return Ok((rows, true));
                }
                rows.push(row);
            }
            let Some(last) = runs.last().filter(|_| !is_last) else {
                return Ok((rows, false));
            };
            behind = Behind {
                started_at_ms: last.started_at_ms,
                id: last.id.clone(),
            };
        }
    }

    async fn behind(&self, user: &User, cursor: Option<&str>) -> Result<Behind, Failure> {
        let Some(cursor) = cursor else {
            return Ok(Behind {
                started_at_ms: i64::MAX,
                id: String::new(),
            });
        };
        let gone = || {
            Failure::bad_request("bad-cursor", "the run of this cursor is gone")
                .hint("read the list from its beginning")
        };
        let run: RunId = stored_text("run id", cursor).map_err(|_| gone())?;
        let run = self.stored_run(run).await?;
        let run = run.filter(|run| user.sees(run)).ok_or_else(gone)?;
        Ok(Behind {
            started_at_ms: run.started_at_ms,
            id: run.id,
        })
    }
}

/// The query. A run may be quieter in the database than it is in memory, so that those which may have stalled are a few
/// more than those which have.
fn sql(state: Option<DeviceState>, devices: usize) -> String {
    let state = match state {
        Some(DeviceState::Completed) => "AND runs.state = 'completed'",
        Some(DeviceState::Failed) => "AND runs.state = 'failed'",
        Some(DeviceState::Stopped) => "AND runs.state = 'aborted'",
        Some(DeviceState::Stalled) => "AND runs.state = 'running' AND runs.last_seen_at_ms < $7",
        Some(DeviceState::Running) => "AND runs.state = 'running'",
        _ => "",
    };
    let devices = match devices {
        0 => String::new(),
        count => {
            let places: Vec<_> = (10..10 + count).map(|place| format!("${place}")).collect();
            format!("AND runs.device IN ({})", places.join(", "))
        }
    };
    // Every parameter stands in every query, so that all are bound the same way.
    format!(
        "{} {state} {devices} ORDER BY runs.started_at_ms DESC, runs.id LIMIT $8",
        runs_sql!(
            "WHERE ($9 = '' OR devices.site = $9 OR devices.seen_site = $9) AND ($1 = '' OR devices.site = $1) AND ($2 = '' OR runs.deployment = $2) \
             AND ($3 = '' OR deployments.collection = $3) AND runs.started_at_ms >= $4 AND $7 > 0 \
             AND (runs.started_at_ms < $5 OR (runs.started_at_ms = $5 AND runs.id > $6))"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::sample;

    #[test]
    fn a_query_is_read_or_refused() {
        let query = |state: &str, since: &str| RunQuery {
            state: state.into(),
            since: since.into(),
            ..RunQuery::default()
        };
        for state in RUN_STATES {
            assert_eq!(query(state_key(state), "").state().unwrap(), Some(state));
        }
        assert_eq!(query("", "").state().unwrap(), None);
        for no_run in ["staged", "done", "Failed"] {
            assert!(query(no_run, "").state().is_err(), "{no_run}");
        }
        assert_eq!(query("", "").since_ms().unwrap(), 0);
        let exact = query("", " 2026-08-17T08:00:00Z ").since_ms().unwrap();
        assert_eq!(exact, 1_786_953_600_000);
        let day = query("", "2026-08-17").since_ms().unwrap();
        assert!((day - exact).abs() < 86_400_000);
        assert!(query("", "yesterday").since_ms().is_err());
    }

    #[test]
    fn devices_are_meant_by_any_of_their_names() {
        let row = &sample::devices()[0];
        let admits = |model: &str, device: &str| {
            let query = RunQuery {
                model: model.into(),
                device: device.into(),
                ..RunQuery::default()
            };
            query.admits(row)
        };
        let id = row.device.to_string();
        let name = row.name.as_deref().unwrap();
        for called in [
            row.serial.to_lowercase().as_str(),
            &row.asset_tag,
            name,
            &id,
        ] {
            assert!(
                admits("", called) && admits(&row.model.product, called),
                "{called}"
            );
            assert!(!admits("another", called));
        }
        assert!(!admits("", "PF") && admits("", ""));
    }
}
