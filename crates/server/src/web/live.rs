//! Live updates: server-sent events that carry rendered fragments of a page, whenever something on it has changed.
//!
//! One task per open page. It gathers changes, renders, and sends only what differs from what it sent before. Clocks
//! tick in the browser, so an idle fleet sends nothing but a beat.

mod source;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use futures_util::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use tracing::warn;
use wire::admin_api::DeviceRow;
use wire::names::{DeviceId, RunId};

use super::filter::{Clock, Filter};
use super::run::Sight;
use super::words::Words;
use super::{overview, run, wall};
use crate::error::Failure;
use crate::fleet::view::Fleet;
pub(super) use source::Seen;
use source::{Changes, Source, Touched};

/// At most four updates a second: an eye reads no faster, and a busy fleet changes a hundred times as often.
const SEND_EVERY: Duration = Duration::from_millis(250);
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

/// The stream of the overview; rows up to the update `at` are on the page already.
pub(super) fn overview<S: Source>(
    source: S,
    words: Words,
    filter: Filter,
    at: u64,
    permit: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Update>> {
    let changes = source.news();
    follow(
        changes,
        Overview {
            source,
            words,
            filter,
            at,
            before: Arc::default(),
            sent: None,
            tiles: String::new(),
        },
        permit,
    )
}

/// The stream of a screen on the wall.
pub(super) fn wall<S: Source>(
    source: S,
    words: Words,
    site: String,
    permit: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Update>> {
    let changes = source.news();
    let parts = HashMap::new();
    follow(
        changes,
        Wall {
            source,
            words,
            site,
            parts,
        },
        permit,
    )
}

/// The stream of one run; log lines up to `after` are on the page already.
pub(super) fn run<S: Source>(
    source: S,
    sight: Sight,
    run: RunId,
    after: u64,
    permit: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Update>> {
    let changes = source.changes();
    follow(
        changes,
        Run {
            source,
            sight,
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
    words: Words,
    filter: Filter,
    at: u64,
    /// The fleet at the latest update.
    before: Arc<Fleet>,
    /// The rows on the page, as they were sent; `None` before the first update.
    sent: Option<HashMap<DeviceId, Arc<DeviceRow>>>,
    tiles: String,
}

impl<S: Source> Follow for Overview<S> {
    fn concerns(&self, _: Touched) -> bool {
        true
    }

    async fn update(&mut self) -> Result<Option<Event>, Failure> {
        let fleet = self.source.fleet().await?;
        let clock = Clock::now();
        let user = self.source.user();
        let sight = overview::Sight {
            words: self.words,
            user,
            fleet: &fleet,
            filter: &self.filter,
        };
        let rows = overview::within(&fleet, &user.reach);
        let selected = overview::select(&rows, &self.filter, clock);
        let shown = &selected[..selected.len().min(overview::ROWS_MAX)];
        let (mut changed, mut cells) = (serde_json::Map::new(), serde_json::Map::new());
        let mut now_sent = HashMap::with_capacity(shown.len());
        for row in shown {
            let before = self.sent.as_ref().and_then(|sent| sent.get(&row.device));
            let is_on_page = match before {
                Some(before) => Arc::ptr_eq(before, row),
                None => self.sent.is_none() && fleet.is_unchanged_since(row.device, self.at),
            };
            if !is_on_page {
                let has_same_pupil =
                    fleet.pupil(user, row.device) == self.before.pupil(user, row.device);
                let moved = before
                    .filter(|_| has_same_pupil)
                    .and_then(|old| overview::cells(self.words, old, row, clock.now_ms));
                match moved {
                    Some(moved) => cells.insert(overview::row_id(row), moved),
                    None => changed.insert(
                        overview::row_id(row),
                        overview::device(sight, row, clock.now_ms)
                            .into_string()
                            .into(),
                    ),
                };
            }
            now_sent.insert(row.device, Arc::clone(row));
        }
        // The page may be older than the first update: it is told all rows it may keep. Later, those that have gone.
        let kept = self.sent.is_none().then(|| {
            let ids = shown.iter().map(|row| overview::row_id(row));
            ids.collect::<Vec<_>>()
        });
        let gone: Vec<_> = self
            .sent
            .iter()
            .flat_map(HashMap::values)
            .filter(|row| !now_sent.contains_key(&row.device))
            .map(|row| overview::row_id(row))
            .collect();
        let tiles = overview::tiles(self.words, &rows, &self.filter, clock).into_string();
        let tiles_changed = (tiles != self.tiles).then(|| tiles.clone());
        let same = self.sent.is_some()
            && changed.is_empty()
            && cells.is_empty()
            && gone.is_empty()
            && tiles_changed.is_none();
        (self.sent, self.tiles) = (Some(now_sent), tiles);
        self.before = Arc::clone(&fleet);
        if same {
            return Ok(None);
        }
        let update = json!({
            "at": fleet.at(),
            "rows": changed,
            "cells": cells,
            "kept": kept,
            "gone": gone,
            "tiles": tiles_changed,
            "count": overview::count(self.words, selected.len(), rows.len()),
        });
        Ok(Some(
            Event::default().event("overview").data(update.to_string()),
        ))
    }
}

/// The parts of a page as they were sent, by their ids.
type Parts = HashMap<&'static str, String>;

/// Those parts that aren't as they were sent before.
fn news_of(
    sent: &mut Parts,
    parts: impl IntoIterator<Item = (&'static str, maud::Markup)>,
) -> serde_json::Map<String, serde_json::Value> {
    let mut changed = serde_json::Map::new();
    for (id, part) in parts {
        let html = part.into_string();
        if sent.get(id) != Some(&html) {
            changed.insert(id.to_owned(), html.clone().into());
            sent.insert(id, html);
        }
    }
    changed
}

struct Wall<S> {
    source: S,
    words: Words,
    site: String,
    parts: Parts,
}

impl<S: Source> Follow for Wall<S> {
    fn concerns(&self, _: Touched) -> bool {
        true
    }

    async fn update(&mut self) -> Result<Option<Event>, Failure> {
        let fleet = self.source.fleet().await?;
        let rows = overview::belonging(&fleet, &self.source.user().reach);
        let parts = wall::parts(self.words, &rows, self.site.trim(), Clock::now());
        let changed = news_of(&mut self.parts, parts);
        let update = (!changed.is_empty()).then(|| json!({ "parts": changed }).to_string());
        Ok(update.map(|update| Event::default().event("parts").data(update)))
    }
}

struct Run<S> {
    source: S,
    sight: Sight,
    run: RunId,
    device: Option<DeviceId>,
    after: u64,
    parts: Parts,
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
        let parts = run::parts(self.sight, &detail, device.as_ref());
        let changed = news_of(&mut self.parts, parts);
        let first_new = detail.log.partition_point(|line| line.seq <= self.after);
        let first_shown = first_new.max(detail.log.len().saturating_sub(run::LOG_LINES_MAX));
        let lines = &detail.log[first_shown..];
        self.after = lines.last().map_or(self.after, |line| line.seq);
        if changed.is_empty() && lines.is_empty() {
            return Ok(None);
        }
        let log =
            (!lines.is_empty()).then(|| run::log_lines(self.sight.words, lines).into_string());
        let update = json!({ "parts": changed, "log": log });
        Ok(Some(Event::default().event("run").data(update.to_string())))
    }
}

#[cfg(test)]
mod tests;
