//! One simulated device: a state machine that speaks the real protocol whenever its time has come.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use client::{Client, ClientError};
use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use wire::device_api::{
    CHECK_IN_CONTEXT, CheckIn, CheckInBody, CheckInReply, EVENTS_MAX, EventBatch,
};
use wire::event::{Environment, Event, EventBody};
use wire::facts::Facts;
use wire::names::RunId;
use wire::order::Order;

use super::measure::Call;
use super::play::World;
use super::random::Random;
use super::script::{self, Moment, Trouble, What};

/// Events that come in a burst go out together, as the agent does it.
const BURST_PAUSE: Duration = Duration::from_millis(200);
/// The first and the longest wait before a server that didn't answer is asked again.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long the line of a simulated device may be silent.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// After a power cut the last events are sent once more, though the server has them: that happens, too.
const REPEATED: usize = 4;

/// How a device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum End {
    /// Its run is done, and the server knows.
    Done,
    /// Its run failed, and the server knows.
    Failed,
    /// An admin stopped its run.
    Stopped,
    /// It fell silent in the middle of its run, as it was told to.
    Silent,
    /// The server had nothing for it to do.
    Idle,
    /// The server didn't recognise it.
    Quarantined,
    /// The server refused it.
    Refused,
    /// Something went wrong that nobody meant to.
    Broken,
}

/// What a device is at.
#[derive(Debug)]
enum Phase {
    /// It must check in.
    CheckIn,
    /// It runs its order.
    Play,
    /// It asks again now and then; this is how it ends if nothing changes.
    Wait(End),
    /// It is over.
    Over(End),
}

/// What a device remembers on its disk, so that the fleet can go on another time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Remembered {
    pub(super) run: RunId,
    /// Moments of its script that are over and known to the server.
    position: usize,
    /// The last event that the server has.
    seq: u64,
    boot: u32,
    /// The step that failed, and the server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed_at: Option<wire::names::StepPath>,
    /// Whether it is at another try: the script is that of the try then.
    #[serde(default)]
    is_again: bool,
}

impl Remembered {
    /// Whether it stands in front of its error, as far as it knows.
    const fn has_failed(&self) -> bool {
        self.failed_at.is_some() && !self.is_again
    }
}

/// An event on the device's disk.
struct Line {
    seq: u64,
    position: usize,
    json: Box<RawValue>,
}

pub(super) struct Device {
    pub(super) serial: String,
    facts: Facts,
    key: SigningKey,
    trouble: Trouble,
    /// How it is meant to end, if it gets an order or none as it should.
    pub(super) meant: End,
    random: Random,
    client: Option<Client>,
    /// With the session; none until it checked in.
    session: Option<Client>,
    phase: Phase,
    order: Option<Box<Order>>,
    script: Vec<Moment>,
    /// The next moment of the script.
    position: usize,
    /// When the script began.
    began: Instant,
    seq: u64,
    boot: u32,
    boot_at_ms: u64,
    /// How long the machine had been on when the script began.
    uptime_before_ms: u64,
    line_down_until_ms: u64,
    unsent: VecDeque<Line>,
    /// The last few that the server has.
    recent: VecDeque<Line>,
    progress: Option<Box<RawValue>>,
    /// `seq` and digest of every event that the server says it has.
    pub(super) acknowledged: Vec<(u64, u64)>,
    failed_at: Option<wire::names::StepPath>,
    /// Whether the script is that of another try.
    is_again: bool,
    last_sent: Option<Instant>,
    failures: u32,
    remembered: Option<Remembered>,
    pub(super) why: Option<String>,
}

/// The digest of an event's bytes; only ever compared within one process.
pub(super) fn digest(json: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    json.hash(&mut hasher);
    hasher.finish()
}

impl Device {
    pub(super) fn new(
        facts: Facts,
        key: SigningKey,
        trouble: Trouble,
        meant: End,
        random: Random,
        remembered: Option<Remembered>,
    ) -> Self {
        Self {
            serial: facts.serial.clone(),
            facts,
            key,
            trouble,
            meant,
            random,
            client: None,
            session: None,
            phase: Phase::CheckIn,
            order: None,
            script: Vec::new(),
            position: 0,
            began: Instant::now(),
            seq: 0,
            boot: 1,
            boot_at_ms: 0,
            uptime_before_ms: 0,
            line_down_until_ms: 0,
            unsent: VecDeque::new(),
            recent: VecDeque::new(),
            progress: None,
            acknowledged: Vec::new(),
            failed_at: None,
            is_again: false,
            last_sent: None,
            failures: 0,
            remembered,
            why: None,
        }
    }

    /// How it ended, or would if all ended now.
    pub(super) const fn end(&self) -> End {
        match self.phase {
            Phase::Over(end) | Phase::Wait(end) => end,
            Phase::CheckIn | Phase::Play => End::Broken,
        }
    }

    /// Whether it is at work, or only waits for something to change.
    pub(super) const fn is_active(&self) -> bool {
        matches!(self.phase, Phase::CheckIn | Phase::Play)
    }

    /// Its run, if it has one.
    pub(super) fn run(&self) -> Option<RunId> {
        self.order.as_ref().map(|order| order.run)
    }

    /// What it would find on its disk after a power cut.
    pub(super) fn remember(&self) -> Option<Remembered> {
        let run = self.run()?;
        let unsent = self.unsent.front();
        Some(Remembered {
            run,
            position: unsent.map_or(self.position, |line| line.position),
            seq: unsent.map_or(self.seq, |line| line.seq - 1),
            boot: self.boot,
            failed_at: self
                .failed_at
                .clone()
                .filter(|_| unsent.is_none() || self.is_again),
            is_again: self.is_again,
        })
    }

    /// Does what is due. Answers when it wants to be called again; never, if it is over.
    pub(super) fn turn(&mut self, world: &World) -> Option<Duration> {
        let result = match self.phase {
            Phase::Over(_) => return None,
            Phase::Wait(end) if world.is_over_for(end) => {
                self.phase = Phase::Over(end);
                return None;
            }
            Phase::CheckIn | Phase::Wait(_) => self.check_in(world),
            Phase::Play => self.play(world),
        };
        match result {
            Ok(next) => {
                self.failures = 0;
                next
            }
            Err(error) => self.trip(world, &error),
        }
    }

    /// The server didn't do it.
    fn trip(&mut self, world: &World, error: &ClientError) -> Option<Duration> {
        if error.status() == Some(401) {
            // The session is too old, as after a restart of the server on another disk.
            self.session = None;
            return Some(Duration::ZERO);
        }
        if !error.is_temporary() && error.status() != Some(403) {
            self.phase = Phase::Over(End::Broken);
            self.why = Some(error.to_string());
            return None;
        }
        world.measure.note_failure(error);
        self.failures += 1;
        let wait = BACK_OFF
            .0
            .saturating_mul(1 << self.failures.min(6))
            .min(BACK_OFF.1);
        let luck = self.random.between(50, 150);
        Some(wait * u32::try_from(luck).unwrap_or(100) / 100)
    }

    fn client(&mut self, world: &World) -> Result<Client, ClientError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = Client::new(&world.url, &world.ca_pem, ANSWER_TIMEOUT)?;
        self.client = Some(client.clone());
        Ok(client)
    }

    fn sign(&self, challenge: String, body: String) -> CheckIn {
        let signed = [CHECK_IN_CONTEXT, challenge.as_bytes(), body.as_bytes()].concat();
        CheckIn {
            challenge,
            device_key: hex(self.key.verifying_key().as_bytes()),
            signature: hex(&self.key.sign(&signed).to_bytes()),
            body,
        }
    }

    fn ask(&mut self, world: &World) -> Result<CheckInReply, ClientError> {
        let client = self.client(world)?;
        let challenge = world
            .measure
            .time(Call::Challenge, || client.challenge())?
            .challenge;
        let body = CheckInBody {
            key: None,
            facts: self.facts.clone(),
            agent: concat!("simulated ", env!("CARGO_PKG_VERSION")).to_owned(),
            environment: Some(Environment::BootImage),
            staged: None,
            run: self.run(),
            mark: None,
            wipe_keys: Vec::new(),
            refused: None,
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let check_in = self.sign(challenge, body);
        world
            .measure
            .time(Call::CheckIn, || client.check_in(&check_in))
    }

    fn check_in(&mut self, world: &World) -> Result<Option<Duration>, ClientError> {
        let was_waiting_after = match self.phase {
            Phase::Wait(end) => Some(end),
            _ => None,
        };
        match self.ask(world)? {
            CheckInReply::Run {
                session,
                order,
                go_on,
                ..
            } => {
                self.session = self
                    .client
                    .as_ref()
                    .map(|client| client.with_token(&session));
                if was_waiting_after == Some(End::Failed) && !go_on && self.run() == Some(order.run)
                {
                    // Shown the failed order again: nobody has asked for another try.
                    return Ok(Some(self.ask_again(world)));
                }
                let is_known = |known: &Remembered| known.run == order.run && known.has_failed();
                if !go_on && self.remembered.as_ref().is_some_and(is_known) {
                    // Switched on again, it stands in front of its error as before.
                    self.meant = End::Failed;
                    return Ok(self.wait(world, End::Failed));
                }
                self.phase = Phase::Play;
                let is_retry = go_on && was_waiting_after == Some(End::Failed);
                self.begin(world, order, is_retry);
                Ok(Some(Duration::ZERO))
            }
            CheckInReply::Idle { message, .. } => {
                self.why = Some(message);
                Ok(self.wait(world, End::Idle))
            }
            CheckInReply::Quarantined { message, .. } => {
                self.why = Some(message);
                Ok(self.wait(world, End::Quarantined))
            }
            CheckInReply::Refused { message } => {
                self.why = Some(message);
                Ok(self.wait(world, End::Refused))
            }
        }
    }

    /// Checks in once more in the middle of a run: the session was in memory.
    fn renew_session(&mut self, world: &World) -> Result<Option<Client>, ClientError> {
        if let Some(session) = &self.session {
            return Ok(Some(session.clone()));
        }
        match self.ask(world)? {
            CheckInReply::Run { session, order, .. } if Some(order.run) == self.run() => {
                self.session = self
                    .client
                    .as_ref()
                    .map(|client| client.with_token(&session));
                Ok(self.session.clone())
            }
            CheckInReply::Refused { message }
            | CheckInReply::Quarantined { message, .. }
            | CheckInReply::Idle { message, .. } => {
                self.why = Some(message);
                self.phase = Phase::Over(End::Broken);
                Ok(None)
            }
            CheckInReply::Run { .. } => {
                self.why =
                    Some("the server handed out another order in the middle of the run".into());
                self.phase = Phase::Over(End::Broken);
                Ok(None)
            }
        }
    }

    fn wait(&mut self, world: &World, end: End) -> Option<Duration> {
        self.phase = Phase::Wait(end);
        Some(self.ask_again(world))
    }

    fn ask_again(&mut self, world: &World) -> Duration {
        let luck = u32::try_from(self.random.between(80, 120)).unwrap_or(100);
        world.pace.ask_again * luck / 100
    }

    /// Takes an order: from its beginning, from where it was, or from the step that failed.
    fn begin(&mut self, world: &World, order: Order, is_retry: bool) {
        let known = self
            .remembered
            .take()
            .filter(|known| known.run == order.run);
        if let Some(known) = &known {
            self.failed_at.clone_from(&known.failed_at);
        }
        let again_from = self
            .failed_at
            .clone()
            .filter(|_| is_retry || known.is_some());
        let calm = Trouble::default();
        let was_again = known.as_ref().is_some_and(|known| known.is_again);
        self.is_again = again_from.is_some();
        let trouble = if self.is_again {
            self.meant = End::Done;
            &calm
        } else {
            &self.trouble
        };
        let random = Random::new(
            world.seed,
            &format!("{} {}", self.serial, u8::from(self.is_again)),
        );
        self.script = script::script(
            &order,
            &self.facts,
            &world.scenario,
            trouble,
            random,
            again_from.as_ref(),
        );
        self.uptime_before_ms = if is_retry {
            // It stood there with its error on the screen, and was on all the time.
            self.uptime_before_ms
                + world
                    .simulated_ms(self.began)
                    .saturating_sub(self.boot_at_ms)
        } else {
            0
        };
        self.position = 0;
        self.boot_at_ms = 0;
        self.line_down_until_ms = 0;
        self.began = Instant::now();
        if let Some(known) = known {
            self.seq = known.seq;
            self.boot = known.boot + 1;
            // Another try begins at the beginning of its own script.
            if self.is_again == was_again {
                self.position = known.position.min(self.script.len());
            }
            let at_ms = self
                .script
                .get(self.position)
                .map_or(0, |moment| moment.at_ms);
            self.boot_at_ms = at_ms;
            self.began = world.back_in_time(at_ms);
            self.order = Some(Box::new(order));
            self.record(
                world,
                EventBody::RunResumed {
                    environment: wire::event::Environment::BootImage,
                },
                at_ms,
            );
            return;
        }
        if !is_retry {
            self.seq = 0;
            self.boot = 1;
            self.failed_at = None;
            self.unsent.clear();
            self.acknowledged.clear();
        }
        self.order = Some(Box::new(order));
    }

    fn event(&self, body: EventBody, seq: u64, at_ms: u64) -> Option<Box<RawValue>> {
        let event = Event {
            run: self.run()?,
            seq,
            boot: self.boot,
            uptime_ms: self.uptime_before_ms + at_ms.saturating_sub(self.boot_at_ms),
            body,
        };
        serde_json::value::to_raw_value(&event).ok()
    }

    fn record(&mut self, world: &World, body: EventBody, at_ms: u64) {
        if let EventBody::RunFailed { path, .. } = &body {
            self.failed_at = Some(path.clone());
        }
        let seq = self.seq + 1;
        if let Some(json) = self.event(body, seq, at_ms) {
            self.seq = seq;
            if let Some(journal) = &world.journal {
                journal.made(&self.serial, &json);
            }
            let position = self.position;
            self.unsent.push_back(Line {
                seq,
                position,
                json,
            });
        }
    }

    /// Lives through what is due by now.
    fn live(&mut self, world: &World, now_ms: u64) -> bool {
        while let Some(moment) = self.script.get(self.position) {
            if moment.at_ms > now_ms {
                break;
            }
            let Moment { at_ms, what } = moment.clone();
            match what {
                What::Event(body) => self.record(world, body, at_ms),
                What::Progress(progress) => {
                    self.progress = self.event(EventBody::Progress(progress), self.seq, at_ms);
                }
                What::Start { is_cut } => {
                    self.boot += 1;
                    (self.boot_at_ms, self.uptime_before_ms) = (at_ms, 0);
                    self.progress = None;
                    (self.client, self.session) = (None, None);
                    while is_cut && let Some(line) = self.recent.pop_back() {
                        self.unsent.push_front(line);
                    }
                }
                What::LineDownUntil(until_ms) => {
                    self.line_down_until_ms = until_ms;
                    (self.client, self.session) = (None, None);
                }
                What::Silence => return false,
            }
            self.position += 1;
        }
        true
    }

    fn play(&mut self, world: &World) -> Result<Option<Duration>, ClientError> {
        let now_ms = world.simulated_ms(self.began);
        if !self.live(world, now_ms) {
            // What it did before it fell silent is known, unless its line was down, too.
            if self.unsent.is_empty() || self.line_down_until_ms > now_ms {
                self.phase = Phase::Over(End::Silent);
                return Ok(None);
            }
        }
        let is_script_over = self.position >= self.script.len();
        if self.line_down_until_ms > now_ms {
            return Ok(Some(self.next_due(world, now_ms)));
        }
        let is_heartbeat_due = self
            .last_sent
            .is_none_or(|at| at.elapsed() >= world.pace.heartbeat);
        if !self.unsent.is_empty() || is_heartbeat_due {
            let Some(session) = self.renew_session(world)? else {
                return Ok(None);
            };
            if self.send(world, &session)? {
                self.stop(now_ms);
                return Ok(Some(Duration::ZERO));
            }
        }
        if is_script_over && self.unsent.is_empty() {
            return Ok(self.finish(world));
        }
        Ok(Some(self.next_due(world, now_ms)))
    }

    /// Sends what there is; true if an admin wants the run stopped.
    fn send(&mut self, world: &World, session: &Client) -> Result<bool, ClientError> {
        let Some(run) = self.run() else {
            return Ok(false);
        };
        let mut events: Vec<Box<RawValue>> = self
            .unsent
            .iter()
            .take(EVENTS_MAX - 1)
            .map(|line| line.json.clone())
            .collect();
        if events.len() == self.unsent.len() {
            events.extend(self.progress.take());
        }
        let batch = EventBatch {
            interface_bytes: self.seq * 2000,
            events,
        };
        let is_empty = self.unsent.is_empty();
        let call = if is_empty {
            Call::Heartbeat
        } else {
            Call::Events
        };
        let ack = world.measure.time(call, || session.events(run, &batch))?;
        self.last_sent = Some(Instant::now());
        if let Some(journal) = &world.journal {
            journal.acknowledged(&self.serial, ack.acknowledged);
        }
        if ack.acknowledged > self.seq {
            // The program ended before it could write down how far it was.
            self.seq = ack.acknowledged;
        }
        while self
            .unsent
            .front()
            .is_some_and(|line| line.seq <= ack.acknowledged)
        {
            let Some(line) = self.unsent.pop_front() else {
                break;
            };
            if self
                .acknowledged
                .last()
                .is_none_or(|(seq, _)| *seq < line.seq)
            {
                self.acknowledged.push((line.seq, digest(line.json.get())));
            }
            self.recent.push_back(line);
            if self.recent.len() > REPEATED {
                self.recent.pop_front();
            }
        }
        Ok(ack.stop && !self.is_ending())
    }

    /// Whether its run is over but for the telling.
    fn is_ending(&self) -> bool {
        self.position >= self.script.len()
    }

    fn stop(&mut self, now_ms: u64) {
        self.script.truncate(self.position);
        self.script.push(Moment {
            at_ms: now_ms,
            what: What::Event(EventBody::RunAborted {
                reason: "an admin stopped the run".into(),
            }),
        });
    }

    /// The script is over, and the server knows.
    fn finish(&mut self, world: &World) -> Option<Duration> {
        let last = self
            .script
            .iter()
            .rev()
            .find_map(|moment| match &moment.what {
                What::Event(body) => Some(body),
                _ => None,
            });
        match last {
            Some(EventBody::RunFailed { .. }) => self.wait(world, End::Failed),
            Some(EventBody::RunAborted { .. }) => {
                self.phase = Phase::Over(End::Stopped);
                None
            }
            _ => {
                self.phase = Phase::Over(End::Done);
                None
            }
        }
    }

    fn next_due(&self, world: &World, now_ms: u64) -> Duration {
        let next_ms = self
            .script
            .get(self.position)
            .map_or(now_ms, |moment| moment.at_ms);
        let is_down = self.line_down_until_ms > now_ms;
        let next_ms = if is_down && self.position >= self.script.len() {
            self.line_down_until_ms
        } else {
            next_ms
        };
        let moment = world.real(next_ms.saturating_sub(now_ms));
        let heartbeat = match self.last_sent {
            Some(at) if !is_down => world.pace.heartbeat.saturating_sub(at.elapsed()),
            _ => world.pace.heartbeat,
        };
        moment.min(heartbeat).max(BURST_PAUSE)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
