//! Thousands of devices and a few threads: whoever is due next is served next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::device::{Device, End};
use super::journal::Journal;
use super::measure::Measure;
use super::scenario::Scenario;
use super::speed::Speed;
use crate::settings::Settings;

/// A simulated device is a few calls deep.
const STACK_BYTES: usize = 512 << 10;
/// How often whoever watches is told.
const WATCH_PAUSE: Duration = Duration::from_millis(500);

/// How fast time goes, and how often devices speak.
pub(super) struct Pace {
    pub(super) speed: Speed,
    pub(super) heartbeat: Duration,
    pub(super) ask_again: Duration,
    /// How long those that wait stay when nobody is at work any more.
    pub(super) stay: Duration,
}

/// What all devices share.
pub(super) struct World {
    pub(super) url: String,
    pub(super) ca_pem: String,
    pub(super) seed: u64,
    pub(super) scenario: Scenario,
    pub(super) pace: Pace,
    pub(super) measure: Measure,
    pub(super) journal: Option<Journal>,
    active: AtomicUsize,
    /// When the last one had finished its work.
    calm_since: Mutex<Option<Instant>>,
}

impl World {
    /// On the server that somebody is logged in to.
    pub(super) fn new(
        server: &Settings,
        seed: u64,
        scenario: Scenario,
        pace: Pace,
        journal: Option<Journal>,
    ) -> Self {
        Self {
            url: server.url.clone(),
            ca_pem: server.ca_pem.clone(),
            seed,
            scenario,
            pace,
            measure: Measure::default(),
            journal,
            active: AtomicUsize::new(0),
            calm_since: Mutex::new(None),
        }
    }

    /// How much simulated time has gone by since then.
    pub(super) fn simulated_ms(&self, since: Instant) -> u64 {
        self.pace.speed.simulated_ms(since.elapsed())
    }

    /// How long so much simulated time takes.
    pub(super) fn real(&self, simulated_ms: u64) -> Duration {
        self.pace.speed.real(simulated_ms)
    }

    /// The moment from which so much simulated time has gone by now.
    pub(super) fn back_in_time(&self, simulated_ms: u64) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.real(simulated_ms)).unwrap_or(now)
    }

    /// Whether a device that waits need not wait any longer.
    pub(super) fn is_over_for(&self, end: End) -> bool {
        if self.active.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let calm_since = *self
            .calm_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Someone who waits for a place asks once more after the last one has left.
        let grace = if end == End::Idle {
            self.pace.ask_again * 2
        } else {
            Duration::ZERO
        };
        calm_since.is_some_and(|since| since.elapsed() >= self.pace.stay.max(grace))
    }

    fn moved(&self, was_active: bool, is_active: bool) {
        let change = match (was_active, is_active) {
            (true, false) => self.active.fetch_sub(1, Ordering::Relaxed) - 1,
            (false, true) => self.active.fetch_add(1, Ordering::Relaxed) + 1,
            _ => return,
        };
        let mut calm_since = self
            .calm_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *calm_since = (change == 0).then(Instant::now);
    }
}

type Queue = BinaryHeap<Reverse<(Instant, usize)>>;

struct Schedule {
    queue: Mutex<Queue>,
    wake: Condvar,
    left: AtomicUsize,
    is_stopped: AtomicBool,
}

/// Plays all devices to their ends, each from its own moment on. `watch` is called now and then, with how many are over;
/// it may write down how far everyone is.
pub(super) fn play(
    world: &World,
    devices: &[Mutex<Device>],
    starts: &[Duration],
    workers: usize,
    mut watch: impl FnMut(usize),
) -> std::io::Result<()> {
    let now = Instant::now();
    let queue = starts
        .iter()
        .enumerate()
        .map(|(index, start)| Reverse((now + *start, index)))
        .collect();
    world.active.store(devices.len(), Ordering::Relaxed);
    let schedule = Schedule {
        queue: Mutex::new(queue),
        wake: Condvar::new(),
        left: AtomicUsize::new(devices.len()),
        is_stopped: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let schedule = &schedule;
        for _ in 0..workers {
            let started = std::thread::Builder::new()
                .name("devices".into())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || work(world, devices, schedule));
            if let Err(error) = started {
                schedule.is_stopped.store(true, Ordering::Relaxed);
                schedule.wake.notify_all();
                return Err(error);
            }
        }
        while schedule.left.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(WATCH_PAUSE.min(Duration::from_millis(100)));
            watch(devices.len() - schedule.left.load(Ordering::Relaxed));
        }
        schedule.wake.notify_all();
        Ok(())
    })
}

fn work(world: &World, devices: &[Mutex<Device>], schedule: &Schedule) {
    while let Some((due, index)) = next(schedule) {
        world.measure.note_late(due.elapsed());
        let mut device = devices[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let was_active = device.is_active();
        let next = device.turn(world);
        world.moved(was_active, device.is_active());
        drop(device);
        match next {
            Some(pause) => {
                let due = Instant::now() + pause;
                let mut queue = schedule
                    .queue
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                queue.push(Reverse((due, index)));
                drop(queue);
                schedule.wake.notify_one();
            }
            None => {
                if schedule.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    schedule.wake.notify_all();
                }
            }
        }
    }
}

/// Waits for whoever is due next; none if all are over.
fn next(schedule: &Schedule) -> Option<(Instant, usize)> {
    let mut queue = schedule
        .queue
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    loop {
        if schedule.left.load(Ordering::Relaxed) == 0 || schedule.is_stopped.load(Ordering::Relaxed)
        {
            return None;
        }
        let now = Instant::now();
        let wait = match queue.peek() {
            Some(Reverse((due, _))) if *due <= now => {
                return queue.pop().map(|Reverse(next)| next);
            }
            Some(Reverse((due, _))) => *due - now,
            None => WATCH_PAUSE,
        };
        queue = schedule
            .wake
            .wait_timeout(queue, wait.min(WATCH_PAUSE))
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}
