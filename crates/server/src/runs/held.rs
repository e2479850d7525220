//! The events of a run as they are held, page by page.

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::names::RunId;
use wire::run_events::{HeldEvent, PAGE_EVENTS_MAX, RunEvents};

use crate::error::{Doing as _, Failure};
use crate::people::auth::User;
use crate::routes::parse;
use crate::state::AppState;

/// Bytes of events in one page. Most have some hundred; a page of the longest must still fit into memory twice.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// Which page.
#[derive(Debug, Deserialize)]
pub(crate) struct Wanted {
    /// Only events with a higher `seq`.
    #[serde(default)]
    after: u64,
}

/// `GET /api/v1/runs/{run}/events`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(run): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<RunEvents>, Failure> {
    let run: RunId = parse(&run)?;
    let found: Option<(i64, i64, String, String)> = sqlx::query_as(
        "SELECT runs.take, runs.acknowledged, devices.site, devices.seen_site FROM runs JOIN devices ON devices.id = runs.device \
         WHERE runs.id = $1",
    )
    .bind(run.to_string())
    .fetch_optional(state.db().read())
    .await
    .doing("read a run")?;
    let found = found.filter(|(_, _, site, seen)| user.sees(&(site.as_str(), seen.as_str())));
    let Some((take, acknowledged, ..)) = found else {
        return Err(Failure::not_found(format!("run {run}")));
    };
    // One more than fits says whether there is another page.
    let mut rows: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT seq, received_at_ms, bytes FROM events WHERE run = $1 AND take = $2 AND seq > $3 ORDER BY seq LIMIT $4",
    )
    .bind(run.to_string())
    .bind(take)
    .bind(i64::try_from(wanted.after).unwrap_or(i64::MAX))
    .bind(PAGE_EVENTS_MAX + 1)
    .fetch_all(state.db().read())
    .await
    .doing("read the events of a run")?;
    let fitting = fitting(rows.iter().map(|(_, _, bytes)| bytes.len()));
    let is_last = rows.len() == fitting;
    rows.truncate(fitting);
    let events = rows.into_iter().map(held).collect::<Result<Vec<_>, _>>()?;
    let next_after = events
        .last()
        .filter(|_| !is_last)
        .map(|event: &HeldEvent| event.seq);
    Ok(Json(RunEvents {
        run,
        take: u64::try_from(take).unwrap_or(0),
        acknowledged: u64::try_from(acknowledged).unwrap_or(0),
        events,
        next_after,
    }))
}

/// How many of the events go into one page.
fn fitting(lengths: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let mut count = 0;
    for length in lengths.take(usize::try_from(PAGE_EVENTS_MAX).unwrap_or(usize::MAX)) {
        bytes += length;
        if bytes > PAGE_BYTES_MAX && count > 0 {
            break;
        }
        count += 1;
    }
    count
}

fn held((seq, received_at_ms, bytes): (i64, i64, Vec<u8>)) -> Result<HeldEvent, Failure> {
    let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| Failure::Stored {
        what: "event",
        source,
    };
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.into()))?;
    let event = RawValue::from_string(text).map_err(|error| unreadable(error.into()))?;
    Ok(HeldEvent {
        seq: u64::try_from(seq).unwrap_or(0),
        received_at_ms,
        event,
    })
}

#[cfg(test)]
mod tests {
    use super::{PAGE_BYTES_MAX, fitting};

    #[test]
    fn a_page_ends_by_count_or_by_bytes_but_never_before_its_first_event() {
        assert_eq!(fitting([10; 3].into_iter()), 3);
        assert_eq!(fitting(std::iter::repeat_n(10, 2000)), 1000);
        assert_eq!(fitting([PAGE_BYTES_MAX + 1, 1].into_iter()), 1);
        assert_eq!(fitting([1, PAGE_BYTES_MAX, 1].into_iter()), 1);
        assert_eq!(fitting(std::iter::empty()), 0);
    }
}
