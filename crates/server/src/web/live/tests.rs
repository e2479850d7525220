//! Live updates over a source that is a list in memory.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::header;
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, watch};
use wire::admin_api::{DeviceRow, DeviceState, RunDetail};
use wire::names::DeviceId;

use super::super::sample;
use super::super::section::Section;
use super::super::visitor::Visitor;
use super::*;

const SIGHT: Sight = Sight {
    words: Words::ENGLISH,
    may_operate: true,
};
use crate::fleet::view::{Holder, Holders};
use crate::people::auth::User;

#[derive(Clone)]
struct Fake {
    user: User,
    rows: Arc<Mutex<Vec<DeviceRow>>>,
    kept: Arc<Mutex<HashMap<DeviceId, Arc<DeviceRow>>>>,
    holders: Arc<Mutex<Holders>>,
    change: watch::Sender<u64>,
}

struct FakeChanges(watch::Receiver<u64>);

impl Changes for FakeChanges {
    async fn next(&mut self) -> Option<Touched> {
        self.0.changed().await.ok().map(|()| Touched::Anything)
    }
}

impl Fake {
    fn new() -> Self {
        Self {
            rows: Arc::new(Mutex::new(sample::devices())),
            kept: Arc::default(),
            change: watch::channel(0).0,
            user: Visitor::sample(Words::ENGLISH, Section::Overview).user,
            holders: Arc::default(),
        }
    }

    fn hand_out(&self, number: usize, pupil: &str) {
        let row = self.rows.lock().unwrap()[number].clone();
        let holder = Holder {
            name: pupil.to_owned(),
            site: row.site.clone(),
        };
        self.holders.lock().unwrap().insert(row.device, holder);
        self.kept.lock().unwrap().insert(row.device, Arc::new(row));
        self.change(|_| ());
    }

    fn change(&self, change: impl FnOnce(&mut Vec<DeviceRow>)) {
        change(&mut self.rows.lock().unwrap());
        self.change.send_modify(|number| *number += 1);
    }
}

impl Source for Fake {
    type Changes = FakeChanges;

    fn changes(&self) -> FakeChanges {
        FakeChanges(self.change.subscribe())
    }
    fn news(&self) -> FakeChanges {
        self.changes()
    }
    fn user(&self) -> &User {
        &self.user
    }
    async fn fleet(&self) -> Result<Arc<Fleet>, Failure> {
        let rows = self.rows.lock().unwrap().clone();
        let kept = rows.into_iter().map(|row| {
            let mut known = self.kept.lock().unwrap();
            let known = known
                .entry(row.device)
                .or_insert_with(|| Arc::new(row.clone()));
            if **known != row {
                *known = Arc::new(row);
            }
            Arc::clone(known)
        });
        let holders = self.holders.lock().unwrap().clone();
        Ok(Arc::new(Fleet::of(kept.collect()).held_by(holders)))
    }
    async fn device_row(&self, device: DeviceId) -> Result<Option<DeviceRow>, Failure> {
        Ok(self
            .rows
            .lock()
            .unwrap()
            .iter()
            .find(|row| row.device == device)
            .cloned())
    }
    async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, Failure> {
        let rows = self.rows.lock().unwrap();
        Ok(rows
            .iter()
            .filter_map(|row| row.run.as_ref())
            .find(|row| row.run == run)
            .map(sample::detail))
    }
}

fn permit() -> OwnedSemaphorePermit {
    Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap()
}

/// An open stream of updates.
struct Live(Body);

impl Live {
    fn overview(source: &Fake) -> Self {
        let stream = overview(
            source.clone(),
            Words::ENGLISH,
            Filter::default(),
            0,
            permit(),
        );
        Self::of(stream.into_response())
    }

    fn run(source: &Fake, run: RunId, after: u64) -> Self {
        Self::of(super::run(source.clone(), SIGHT, run, after, permit()).into_response())
    }

    fn of(response: axum::response::Response) -> Self {
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        Self(response.into_body())
    }

    /// The next event: its name and its data.
    async fn next(&mut self) -> Option<(String, serde_json::Value)> {
        let frame = self.0.frame().await?.unwrap().into_data().unwrap();
        let text = String::from_utf8(frame.to_vec()).unwrap();
        let field = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        Some((
            field("event:"),
            serde_json::from_str(&field("data:")).unwrap(),
        ))
    }
}

#[tokio::test(start_paused = true)]
async fn the_overview_is_followed_row_by_row() {
    let source = Fake::new();
    let mut live = Live::overview(&source);
    let (name, all) = live.next().await.unwrap();
    assert_eq!(name, "overview");
    assert_eq!(all["rows"].as_object().unwrap().len(), 30);

    // Many changes at once make one update, of the changed row alone.
    let began = tokio::time::Instant::now();
    for percent in 1..=50 {
        source.change(|rows| rows[0].run.as_mut().unwrap().step_percent = Some(percent));
    }
    let (_, update) = live.next().await.unwrap();
    assert!(
        began.elapsed() >= std::time::Duration::from_millis(250),
        "at most four a second"
    );
    assert_eq!(update["rows"].as_object().unwrap().len(), 0);
    let cells = update["cells"].as_object().unwrap();
    assert_eq!(cells.len(), 1, "what moves is told without drawing the row");
    assert_eq!(cells.values().next().unwrap()[2], "50 %");
    assert!(update["tiles"].is_null(), "no count has changed");

    // A failure goes to the top and changes the counts; a removed device leaves the order.
    source.change(|rows| {
        rows[0].state = DeviceState::Failed;
        rows.truncate(29);
    });
    let (_, update) = live.next().await.unwrap();
    assert_eq!(update["gone"].as_array().unwrap().len(), 1);
    assert_eq!(update["rows"].as_object().unwrap().len(), 1);
    assert!(
        update["tiles"]
            .as_str()
            .unwrap()
            .contains("<span class=\"figure\">2</span>")
    );

    // Another pupil has a device that runs: the row is drawn, since no cell tells it.
    source.hand_out(1, "Kari Ødegård");
    let (_, update) = live.next().await.unwrap();
    assert_eq!(update["rows"].as_object().unwrap().len(), 1);
    assert!(update["rows"].to_string().contains("Kari Ødegård"));

    // Silence is broken by a beat, and the stream ends in the end.
    assert_eq!(live.next().await.unwrap().0, "beat");
    while let Some((name, _)) = live.next().await {
        assert_eq!(name, "beat");
    }
}

#[tokio::test(start_paused = true)]
async fn a_screen_on_the_wall_is_followed_part_by_part() {
    let source = Fake::new();
    let stream = super::wall(source.clone(), Words::ENGLISH, "BJO".into(), permit());
    let mut live = Live::of(stream.into_response());
    let (name, first) = live.next().await.unwrap();
    assert_eq!(
        (name.as_str(), first["parts"].as_object().unwrap().len()),
        ("parts", 4)
    );

    // What the screen doesn't tell is no news for it: of another site, and how far a step is.
    source.change(|rows| {
        rows[0].run.as_mut().unwrap().step_percent = Some(77);
        let other = rows.iter_mut().find(|row| row.site == "KON").unwrap();
        other.state = DeviceState::Failed;
    });
    assert_eq!(live.next().await.unwrap().0, "beat");
    source.change(|rows| rows[0].state = DeviceState::Stalled);
    let (_, update) = live.next().await.unwrap();
    let parts: Vec<_> = update["parts"].as_object().unwrap().keys().collect();
    assert_eq!(parts, ["wall-progress", "wall-tiles", "wall-trouble"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_followed_part_by_part_and_line_by_line() {
    let source = Fake::new();
    let row = sample::devices()[0].run.clone().unwrap();
    let lines = sample::detail(&row).log.len();
    let mut live = Live::run(&source, row.run, u64::try_from(lines).unwrap() - 1);
    let (name, first) = live.next().await.unwrap();
    assert_eq!(name, "run");
    assert_eq!(
        first["log"].as_str().unwrap().matches("<li").count(),
        1,
        "only what the page lacks"
    );
    assert!(first["parts"]["run-timeline"].is_string());

    source.change(|rows| rows[0].run.as_mut().unwrap().step_percent = Some(77));
    let (_, update) = live.next().await.unwrap();
    let parts: Vec<_> = update["parts"].as_object().unwrap().keys().collect();
    assert_eq!(parts, ["run-head"]);
    assert!(update["log"].is_null());
}
