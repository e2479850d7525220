//! Live updates: server-sent events that carry rendered fragments of a page, whenever something on it has changed.
//!
//! One task per open page. It gathers changes, renders, and sends only what differs from what it sent before. Clocks
//! tick in the browser, so an idle fleet sends nothing but a beat.

mod source;

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use wire::names::{DeviceId, RunId};

use super::filter::Filter;
use super::{overview, run};
use crate::error::Failure;
pub(super) use source::Seen;
use source::{Changes, Source, Touched};

/// At most two updates a second: an eye reads no faster, and a busy fleet changes a hundred times as often.
const SEND_EVERY: Duration = Duration::from_millis(500);
/// So often something is said even if nothing changes; the script takes 25 seconds of silence for a dead line. Rows are
/// read again too: that a device has gone silent is no event.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// Then the stream ends and the browser asks again, so that a session that was ended stops hearing soon.
const STREAM_LIFE: Duration = Duration::from_secs(300);
/// A browser that reads nothing holds the task no longer than this many updates.
const UPDATES_WAITING_MAX: usize = 2;

type Update = Result<Event, Infallible>;

/// Follows one thing for one open page.
trait Follow: Send + Sync + 'static {
    /// Whether the change concerns the page.
    fn concerns(&self, touched: Touched) -> bool;
    /// What to send now; `None` if nothing has changed.
    fn update(&mut self) -> impl Future<Output = Result<Option<Event>, Failure>> + Send;
}

/// The stream of the overview.
pub(super) fn overview<S: Source>(
    source: S,
    filter: Filter,
    permit: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Update>> {
    let changes = source.changes();
    follow(
        changes,
        Overview {
            source,
            filter,
            versions: HashMap::new(),
            order: Vec::new(),
            tiles: String::new(),
        },
        permit,
    )
}

/// The stream of one run; log lines up to `after` are on the page already.
pub(super) fn run<S: Source>(
    source: S,
    run: RunId,
    after: u64,
    permit: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Update>> {
    let changes = source.changes();
    follow(
        changes,
        Run {
            source,
            run,
            device: None,
            after,
            parts: HashMap::new(),
        },
        permit,
    )
}

fn follow(
    changes: impl Changes,
    page: impl Follow,
    permit: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Update>> {
    let (sender, receiver) = mpsc::channel(UPDATES_WAITING_MAX);
    tokio::spawn(async move {
        let life = tokio::time::sleep(STREAM_LIFE);
        tokio::select! {
            () = pump(changes, page, &sender) => {}
            () = life => {}
            () = sender.closed() => {}
        }
        drop(permit);
    });
    Sse::new(stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    }))
}

/// Ends when the browser is gone or the server stops.
async fn pump(mut changes: impl Changes, mut page: impl Follow, sender: &mpsc::Sender<Update>) {
    loop {
        let event = match page.update().await {
            Ok(event) => event.unwrap_or_else(|| Event::default().event("beat").data("0")),
            // The page still shows what it had; it is read again with the next beat.
            Err(error) => {
                warn!(error = %super::chain(&error), "cannot update an open page, trying again");
                Event::default().event("beat").data("0")
            }
        };
        let sent_at = Instant::now();
        if sender.send(Ok(event)).await.is_err()
            || wait(&mut changes, &page, sent_at).await.is_none()
        {
            return;
        }
    }
}

/// Waits until the next update is due; `None` when the server stops.
async fn wait(changes: &mut impl Changes, page: &impl Follow, sent_at: Instant) -> Option<()> {
    let mut due = sent_at + BEAT_EVERY;
    loop {
        match timeout_at(due, changes.next()).await {
            Err(_) => return Some(()),
            Ok(None) => return None,
            // More may come until the update is due; they go into the same one.
            Ok(Some(touched)) if page.concerns(touched) => due = due.min(sent_at + SEND_EVERY),
            Ok(Some(_)) => {}
        }
    }
}

struct Overview<S> {
    source: S,
    filter: Filter,
    versions: HashMap<String, String>,
    order: Vec<String>,
    tiles: String,
}

impl<S: Source> Follow for Overview<S> {
    fn concerns(&self, _: Touched) -> bool {
        true
    }

    async fn update(&mut self) -> Result<Option<Event>, Failure> {
        let rows = self.source.device_rows().await?;
        let now_ms = super::now_ms();
        let selected = overview::select(&rows, &self.filter);
        let mut changed = serde_json::Map::new();
        let mut versions = HashMap::new();
        let mut order = Vec::new();
        for row in selected.iter().take(overview::ROWS_MAX) {
            let (id, version) = (overview::row_id(row), overview::version(row));
            if self.versions.get(&id) != Some(&version) {
                changed.insert(
                    id.clone(),
                    overview::device(row, now_ms).into_string().into(),
                );
            }
            order.push(id.clone());
            versions.insert(id, version);
        }
        self.versions = versions;
        let tiles = overview::tiles(&rows, &self.filter).into_string();
        let same = changed.is_empty() && order == self.order && tiles == self.tiles;
        let tiles_changed = (tiles != self.tiles).then(|| tiles.clone());
        (self.order, self.tiles) = (order, tiles);
        if same {
            return Ok(None);
        }
        let update = json!({
            "rows": changed,
            "order": self.order,
            "tiles": tiles_changed,
            "count": overview::count(selected.len(), rows.len()),
        });
        Ok(Some(
            Event::default().event("overview").data(update.to_string()),
        ))
    }
}

struct Run<S> {
    source: S,
    run: RunId,
    device: Option<DeviceId>,
    after: u64,
    parts: HashMap<&'static str, String>,
}

impl<S: Source> Follow for Run<S> {
    fn concerns(&self, touched: Touched) -> bool {
        match touched {
            Touched::Run(run) => run == self.run,
            Touched::Device(device) => Some(device) == self.device,
            Touched::Anything => true,
        }
    }

    async fn update(&mut self) -> Result<Option<Event>, Failure> {
        let Some(detail) = self.source.run_detail(self.run).await? else {
            return Ok(None);
        };
        self.device = Some(detail.row.device);
        let device = self.source.device_row(detail.row.device).await?;
        let mut changed = serde_json::Map::new();
        for (id, part) in run::parts(&detail, device.as_ref()) {
            let html = part.into_string();
            if self.parts.get(id) != Some(&html) {
                changed.insert(id.to_owned(), html.clone().into());
                self.parts.insert(id, html);
            }
        }
        let first_new = detail.log.partition_point(|line| line.seq <= self.after);
        let first_shown = first_new.max(detail.log.len().saturating_sub(run::LOG_LINES_MAX));
        let lines = &detail.log[first_shown..];
        self.after = lines.last().map_or(self.after, |line| line.seq);
        if changed.is_empty() && lines.is_empty() {
            return Ok(None);
        }
        let log = (!lines.is_empty()).then(|| run::log_lines(lines).into_string());
        let update = json!({ "parts": changed, "log": log });
        Ok(Some(Event::default().event("run").data(update.to_string())))
    }
}

#[cfg(test)]
mod tests;
