//! Slows down whoever guesses passwords: wrong logins are counted per address.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::limits::{LOGIN_FAILURES_MAX, LOGIN_NAMES_MAX, LOGIN_WINDOW};

/// Wrong logins of late. Counted by address and not by user: nobody can lock someone else out.
#[derive(Default)]
pub(crate) struct Throttle {
    failures: Mutex<BTreeMap<Option<IpAddr>, VecDeque<Instant>>>,
}

impl Throttle {
    /// How long this address has to wait, in seconds; `None` if it may try now.
    pub(crate) fn wait_seconds(&self, who: Option<IpAddr>, now: Instant) -> Option<u64> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let times = failures.get_mut(&who)?;
        times.retain(|time| now.duration_since(*time) < LOGIN_WINDOW);
        if times.len() < LOGIN_FAILURES_MAX {
            return None;
        }
        let oldest = times.front()?;
        Some((LOGIN_WINDOW - now.duration_since(*oldest)).as_secs() + 1)
    }

    /// Counts a wrong login.
    pub(crate) fn failed(&self, who: Option<IpAddr>, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= LOGIN_NAMES_MAX {
            failures.retain(|_, times| {
                times
                    .back()
                    .is_some_and(|time| now.duration_since(*time) < LOGIN_WINDOW)
            });
        }
        if failures.len() >= LOGIN_NAMES_MAX {
            failures.pop_first();
        }
        failures.entry(who).or_default().push_back(now);
    }

    /// A right login clears the slate.
    pub(crate) fn succeeded(&self, who: Option<IpAddr>) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&who);
    }
}

#[cfg(test)]
mod tests {
    use super::Throttle;
    use crate::limits::{LOGIN_FAILURES_MAX, LOGIN_WINDOW};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Instant;

    #[test]
    fn too_many_wrong_logins_of_one_address_wait_and_others_do_not() {
        let throttle = Throttle::default();
        let who = Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
        let now = Instant::now();
        for _ in 0..LOGIN_FAILURES_MAX {
            assert_eq!(throttle.wait_seconds(who, now), None);
            throttle.failed(who, now);
        }
        assert!(throttle.wait_seconds(who, now).is_some());
        assert_eq!(throttle.wait_seconds(None, now), None);
        assert_eq!(throttle.wait_seconds(who, now + LOGIN_WINDOW), None);
    }

    #[test]
    fn a_right_login_clears_the_slate() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..LOGIN_FAILURES_MAX {
            throttle.failed(None, now);
        }
        throttle.succeeded(None);
        assert_eq!(throttle.wait_seconds(None, now), None);
    }
}
