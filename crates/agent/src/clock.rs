//! The machine's own clock: time since it started. The time of day of an unboxed laptop is wrong: it is observed, so
//! that a sequence can ask whether it is believable, and nothing is ever timed with it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use sequence::engine::Clock;

/// How often a wait looks whether it may end.
const STEP_MS: u64 = 100;

/// Milliseconds since the kernel started, time asleep included.
pub(crate) fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
    seconds * 1000 + millis
}

/// The time of day in seconds since 1970, as the machine has it; `None` before that.
pub(crate) fn unix_seconds() -> Option<i64> {
    let now = clock_gettime(ClockId::Realtime).tv_sec;
    (now >= 0).then_some(now)
}

/// Pauses this thread. The only place that does.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until `done` says so or `limit` is over; says which.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = uptime_ms() + u64::try_from(limit.as_millis()).unwrap_or(u64::MAX / 2);
    loop {
        if done() {
            return true;
        }
        let now = uptime_ms();
        if now >= end {
            return false;
        }
        pause(Duration::from_millis(STEP_MS.min(end - now)));
    }
}

/// The clock of the engine.
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn uptime_ms(&self) -> u64 {
        uptime_ms()
    }

    fn wait(&self, milliseconds: u64, until: &dyn Fn() -> bool) {
        wait_until(Duration::from_millis(milliseconds), until);
    }
}
