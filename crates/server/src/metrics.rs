//! What the server counts of itself, in Prometheus' text format. No names of machines, people or sites: a scraper is not
//! someone who may see them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use wire::device_api::CheckInReply;

use crate::error::{Doing as _, Failure};
use crate::people::auth::millis;
use crate::state::{AppState, now_ms};

/// Upper bounds of a histogram's buckets, in seconds: from a cached page to what people call hanging.
const BOUNDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// Routes, methods and statuses that are told apart. All there are is a few hundred; whatever comes beyond is one.
const SERIES_MAX: usize = 2000;
/// The route of what matches none, so that nobody makes a series for each address they try.
const NO_ROUTE: &str = "none";

/// Times in buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    /// Takes in one time.
    pub(crate) fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        if let Some(index) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[index].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text, name: &str, labels: &str) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut sum = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            sum += bucket.load(Ordering::Relaxed);
            text.line(&format!(
                "{name}_bucket{{{labels}{separator}le=\"{bound}\"}} {sum}"
            ));
        }
        let count = self.count.load(Ordering::Relaxed).max(sum);
        text.line(&format!(
            "{name}_bucket{{{labels}{separator}le=\"+Inf\"}} {count}"
        ));
        let micros = self.micros.load(Ordering::Relaxed);
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{labels}}}")
        };
        text.line(&format!(
            "{name}_sum{labels} {}.{:06}",
            micros / 1_000_000,
            micros % 1_000_000
        ));
        text.line(&format!("{name}_count{labels} {count}"));
    }
}

/// What is counted as it happens. The rest is asked of the database when somebody wants to know.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, String, u16), u64>>,
    /// By route: how long answers took.
    answers: Mutex<BTreeMap<String, Histogram>>,
    /// Events that were stored.
    pub(crate) events: AtomicU64,
    /// Check-ins by answer, as in [`CHECK_INS`].
    check_ins: [AtomicU64; 4],
}

/// The names of [`Metrics::check_ins`].
const CHECK_INS: [&str; 4] = ["run", "idle", "refused", "quarantined"];

impl Metrics {
    /// Counts a check-in.
    pub(crate) fn checked_in(&self, reply: &CheckInReply) {
        let index = match reply {
            CheckInReply::Run { .. } => 0,
            CheckInReply::Refused { .. } => 2,
            CheckInReply::Quarantined { .. } => 3,
            _ => 1,
        };
        self.check_ins[index].fetch_add(1, Ordering::Relaxed);
    }

    fn answered(&self, method: &str, route: &str, status: u16, time: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (route.to_owned(), method.to_owned(), status);
        if requests.len() < SERIES_MAX || requests.contains_key(&key) {
            *requests.entry(key).or_default() += 1;
        }
        drop(requests);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < SERIES_MAX || answers.contains_key(route) {
            answers.entry(route.to_owned()).or_default().observe(time);
        }
    }
}

/// Counts every request and how long its answer took to begin.
pub(crate) async fn count(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| NO_ROUTE.to_owned(), |path| path.as_str().to_owned());
    // Methods are free text, too.
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "PATCH" | "HEAD" | "OPTIONS") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let start = Instant::now();
    let response = next.run(request).await;
    state
        .metrics()
        .answered(&method, &route, response.status().as_u16(), start.elapsed());
    response
}

/// The answer, line by line.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str) {
        let _written = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A family of numbers by one label.
    fn by(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &[(String, i64)]) {
        self.metric(name, kind, help);
        for (key, value) in values {
            self.line(&format!("{name}{{{label}=\"{}\"}} {value}", escaped(key)));
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// `GET /metrics`
pub(crate) async fn metrics(State(state): State<AppState>) -> Result<Response, Failure> {
    let mut text = Text::default();
    requests(&mut text, state.metrics());
    let numbers = state.db().numbers();
    text.metric(
        "forestage_database_turn_wait_seconds",
        "histogram",
        "How long writers waited for their turn.",
    );
    numbers
        .waits
        .write(&mut text, "forestage_database_turn_wait_seconds", "");
    text.metric(
        "forestage_database_turn_seconds",
        "histogram",
        "How long transactions that wrote took, commit included.",
    );
    numbers
        .turns
        .write(&mut text, "forestage_database_turn_seconds", "");
    stored(&state, &mut text).await?;
    let headers = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((headers, text.0).into_response())
}

fn requests(text: &mut Text, metrics: &Metrics) {
    let version = env!("CARGO_PKG_VERSION");
    text.metric("forestage_build_info", "gauge", "The release that runs.");
    text.line(&format!("forestage_build_info{{version=\"{version}\"}} 1"));
    text.metric(
        "forestage_http_requests_total",
        "counter",
        "Requests by route, method and status.",
    );
    for ((route, method, status), count) in metrics
        .requests
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        let route = escaped(route);
        text.line(&format!(
            "forestage_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}} {count}"
        ));
    }
    text.metric(
        "forestage_http_answer_seconds",
        "histogram",
        "From a request to the beginning of its answer; /device/v1/runs/{run}/events is the acknowledgement of events.",
    );
    for (route, histogram) in metrics
        .answers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        histogram.write(
            text,
            "forestage_http_answer_seconds",
            &format!("route=\"{}\"", escaped(route)),
        );
    }
    text.metric(
        "forestage_events_stored_total",
        "counter",
        "Events of devices that were stored.",
    );
    text.line(&format!(
        "forestage_events_stored_total {}",
        metrics.events.load(Ordering::Relaxed)
    ));
    text.metric(
        "forestage_check_ins_total",
        "counter",
        "Check-ins by answer.",
    );
    for (answer, count) in CHECK_INS.iter().zip(&metrics.check_ins) {
        let count = count.load(Ordering::Relaxed);
        text.line(&format!(
            "forestage_check_ins_total{{answer=\"{answer}\"}} {count}"
        ));
    }
}

/// What the database says at this moment.
async fn stored(state: &AppState, text: &mut Text) -> Result<(), Failure> {
    let by = async |sql: &'static str| -> Result<Vec<(String, i64)>, Failure> {
        sqlx::query_as(sql)
            .fetch_all(state.db().read())
            .await
            .doing("count for the metrics")
    };
    let runs = by("SELECT state, COUNT(*) FROM runs GROUP BY state ORDER BY state").await?;
    text.by(
        "forestage_runs",
        "gauge",
        "Runs by state; running ones include those that have stalled.",
        "state",
        &runs,
    );
    let stalled: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM runs WHERE state = 'running' AND last_seen_at_ms < $1",
    )
    .bind(now_ms() - millis(state.stalled_after()))
    .fetch_one(state.db().read())
    .await
    .doing("count for the metrics")?;
    text.metric(
        "forestage_runs_stalled",
        "gauge",
        "Running runs that have been silent for too long.",
    );
    text.line(&format!("forestage_runs_stalled {stalled}"));
    let machines = by("SELECT 'known', COUNT(*) FROM devices UNION ALL SELECT 'quarantined', COUNT(*) FROM strangers").await?;
    text.by(
        "forestage_machines",
        "gauge",
        "Machines that are known, and machines in quarantine.",
        "kind",
        &machines,
    );
    let outbox = by("SELECT state, COUNT(*) FROM webhook_deliveries WHERE state <> 'delivered' GROUP BY state ORDER BY state").await?;
    text.by(
        "forestage_webhook_deliveries",
        "gauge",
        "Messages that wait for a receiver, or were given up.",
        "state",
        &outbox,
    );
    let webhooks = by("SELECT state, COUNT(*) FROM webhooks GROUP BY state ORDER BY state").await?;
    text.by(
        "forestage_webhooks",
        "gauge",
        "Webhooks by state.",
        "state",
        &webhooks,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_adds_up() {
        let histogram = Histogram::default();
        for millis in [0, 1, 3, 30, 30, 60_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let mut text = Text::default();
        histogram.write(&mut text, "t", "");
        assert!(text.0.contains("t_bucket{le=\"0.001\"} 2\n"), "{}", text.0);
        assert!(text.0.contains("t_bucket{le=\"0.05\"} 5\n"), "{}", text.0);
        assert!(
            text.0
                .contains("t_bucket{le=\"10\"} 5\nt_bucket{le=\"+Inf\"} 6\n"),
            "{}",
            text.0
        );
        assert!(
            text.0.contains("t_sum 60.064000\nt_count 6\n"),
            "{}",
            text.0
        );
    }

    #[test]
    fn a_label_stays_one_label() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
