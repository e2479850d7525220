//! Places: how many machines run at a site (or in a deployment) at a time, and who comes next.
//!
//! A place is held by a run that shows a sign of life, and by nothing else: there is no counter that could be wrong. A
//! machine that dies loses its place when its run counts as stalled, and its turn when it doesn't ask again. Nobody waits
//! for anyone to begin. A run that was begun is never held back: its device may be anywhere, without a network.

use sqlx::AnyConnection;
use wire::names::{DeploymentName, DeviceId};
use wire::reasons::MachineReason;

use crate::db::Write;
use crate::error::{Doing as _, Failure};
use crate::limits::STALLED_AFTER;
use crate::people::auth::millis;

/// A machine that is about to get a place asks again this soon.
const ASK_SECONDS_MIN: u64 = 15;
/// One far back in the queue asks again within this time, so that its turn isn't lost when those before it go home.
const ASK_SECONDS_MAX: u64 = 120;
/// A machine that is so much late with asking has been switched off. Agents of before 0.4 ask every minute, whatever
/// they are told; that is why this is longer.
const LATE_MS_MAX: i64 = 75_000;

/// A machine in the queue.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Waiter {
    pub(crate) device: String,
    pub(crate) arrived_at_ms: i64,
    pub(crate) asks_again_at_ms: i64,
}

impl Waiter {
    fn is_alive(&self, now: i64) -> bool {
        now <= self.asks_again_at_ms + LATE_MS_MAX
    }
}

/// What becomes of a machine that would begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It may.
    Begin,
    /// It waits.
    Wait {
        /// Its place in the queue, from 1.
        place: usize,
        /// When to ask again.
        retry_seconds: u64,
    },
}

/// Whose turn it is. `live` counts the runs that hold a place; `queue` may hold `me` already.
pub(crate) fn turn(slots: usize, live: usize, queue: &[Waiter], me: &str, now: i64) -> Turn {
    let arrived = arrival(queue, me, now);
    let before_me = queue
        .iter()
        .filter(|other| other.device != me && other.is_alive(now))
        .filter(|other| (other.arrived_at_ms, other.device.as_str()) < (arrived, me))
        .count();
    // Whoever came first takes a free place at its next asking; what is left over is mine at once.
    if live + before_me < slots {
        return Turn::Begin;
    }
    let place = before_me + 1;
    let later = u64::try_from(place.saturating_sub(slots) / 5).unwrap_or(ASK_SECONDS_MAX);
    Turn::Wait {
        place,
        retry_seconds: (ASK_SECONDS_MIN + later).min(ASK_SECONDS_MAX),
    }
}

/// Since when `me` has been waiting: one that was away too long begins at the end.
fn arrival(queue: &[Waiter], me: &str, now: i64) -> i64 {
    queue
        .iter()
        .find(|waiter| waiter.device == me && waiter.is_alive(now))
        .map_or(now, |waiter| waiter.arrived_at_ms)
}

/// What limits how many machines run at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit<'l> {
    /// The site where the machine is.
    Site(&'l str),
    /// The deployment.
    Deployment(&'l str),
}

impl Limit<'_> {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Site(_) => "site",
            Self::Deployment(_) => "deployment",
        }
    }

    const fn name(&self) -> &str {
        match self {
            Self::Site(name) | Self::Deployment(name) => name,
        }
    }
}

/// Runs that hold a place.
pub(crate) async fn live(db: &mut Write, limit: Limit<'_>, now: i64) -> Result<usize, Failure> {
    let sql = match limit {
        Limit::Site(_) => {
            "SELECT COUNT(*) FROM runs JOIN devices ON devices.id = runs.device \
             WHERE runs.state = 'running' AND runs.last_seen_at_ms > $1 \
             AND CASE WHEN devices.seen_site <> '' THEN devices.seen_site ELSE devices.site END = $2"
        }
        Limit::Deployment(_) => {
            "SELECT COUNT(*) FROM runs WHERE state = 'running' AND last_seen_at_ms > $1 AND deployment = $2"
        }
    };
    let count: i64 = sqlx::query_scalar(sql)
        .bind(now - millis(STALLED_AFTER))
        .bind(limit.name())
        .fetch_one(&mut **db)
        .await
        .doing("count the runs that hold a place")?;
    Ok(usize::try_from(count).unwrap_or(0))
}

async fn queue(db: &mut Write, limit: Limit<'_>) -> Result<Vec<Waiter>, Failure> {
    let sql = match limit {
        Limit::Site(_) => {
            "SELECT device, arrived_at_ms, asks_again_at_ms FROM waiting WHERE held_by = 'site' AND site = $1"
        }
        Limit::Deployment(_) => {
            "SELECT device, arrived_at_ms, asks_again_at_ms FROM waiting \
             WHERE held_by = 'deployment' AND deployment = $1"
        }
    };
    sqlx::query_as(sql)
        .bind(limit.name())
        .fetch_all(&mut **db)
        .await
        .doing("read who waits")
}

/// Asks for a place under each limit; the first that has none is the one waited for. Begins only if all have one.
pub(crate) async fn ask(
    db: &mut Write,
    device: &str,
    (site, deployment): (&str, &str),
    limits: &[(Limit<'_>, usize)],
    now: i64,
) -> Result<Option<(MachineReason, u64)>, Failure> {
    for (limit, slots) in limits.iter().copied().filter(|(_, slots)| *slots > 0) {
        let live = live(db, limit, now).await?;
        let queue = queue(db, limit).await?;
        if let Turn::Wait {
            place,
            retry_seconds,
        } = turn(slots, live, &queue, device, now)
        {
            let arrived = arrival(&queue, device, now);
            let asks_again = now + i64::try_from(retry_seconds).unwrap_or(0) * 1000;
            note(
                db,
                device,
                (site, deployment),
                limit.kind(),
                (arrived, asks_again),
            )
            .await?;
            let (live, slots, place) = (live as u64, slots as u64, place as u64);
            let said = match limit {
                Limit::Site(site) => MachineReason::WaitsAtSite {
                    live,
                    slots,
                    site: site.to_owned(),
                    place,
                },
                Limit::Deployment(name) => MachineReason::WaitsForDeployment {
                    live,
                    slots,
                    deployment: name.to_owned(),
                    place,
                },
            };
            return Ok(Some((said, retry_seconds)));
        }
    }
    leave(db, device).await?;
    Ok(None)
}

async fn note(
    db: &mut Write,
    device: &str,
    (site, deployment): (&str, &str),
    held_by: &str,
    (arrived_at_ms, asks_again_at_ms): (i64, i64),
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO waiting (device, deployment, site, held_by, arrived_at_ms, asks_again_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (device) DO UPDATE SET deployment = excluded.deployment, \
         site = excluded.site, held_by = excluded.held_by, arrived_at_ms = excluded.arrived_at_ms, \
         asks_again_at_ms = excluded.asks_again_at_ms",
    )
    .bind(device)
    .bind(deployment)
    .bind(site)
    .bind(held_by)
    .bind(arrived_at_ms)
    .bind(asks_again_at_ms)
    .execute(&mut **db)
    .await
    .doing("note who waits")?;
    Ok(())
}

/// Takes a machine out of the queue.
pub(crate) async fn leave(db: &mut Write, device: &str) -> Result<(), Failure> {
    sqlx::query("DELETE FROM waiting WHERE device = $1")
        .bind(device)
        .execute(&mut **db)
        .await
        .doing("take a machine out of the queue")?;
    Ok(())
}

/// Sends everyone home who waits to begin a deployment.
pub(crate) async fn send_home(db: &mut Write, deployment: &DeploymentName) -> Result<(), Failure> {
    sqlx::query("DELETE FROM waiting WHERE deployment = $1")
        .bind(deployment.as_str())
        .execute(&mut **db)
        .await
        .doing("send those home who wait")?;
    Ok(())
}

/// A machine that waits, with what is told of it.
pub(crate) type Queued = (String, String, String, String, i64, i64);

/// Everyone who waits and is still asking, in order of arrival: device, serial number, deployment, site.
pub(crate) async fn everyone(db: &mut AnyConnection, now: i64) -> Result<Vec<Queued>, Failure> {
    sqlx::query_as(
        "SELECT waiting.device, devices.serial, waiting.deployment, waiting.site, waiting.arrived_at_ms, \
         waiting.asks_again_at_ms FROM waiting JOIN devices ON devices.id = waiting.device \
         WHERE waiting.asks_again_at_ms >= $1 ORDER BY waiting.arrived_at_ms, waiting.device",
    )
    .bind(now - LATE_MS_MAX)
    .fetch_all(db)
    .await
    .doing("read who waits")
}

/// A queue entry's device.
pub(crate) fn device_of(queued: &Queued) -> Result<DeviceId, Failure> {
    crate::error::stored_text("device id", &queued.0)
}

#[cfg(test)]
mod tests {
    use super::{ASK_SECONDS_MAX, LATE_MS_MAX, Turn, Waiter, turn};
    use crate::limits::STALLED_AFTER;
    use proptest::prelude::*;

    /// One machine as the model moves it.
    #[derive(Debug, Clone, Default)]
    struct Machine {
        /// When it is switched on.
        on_at: i64,
        /// When it dies, if it does.
        dies_at: Option<i64>,
        /// How long its run takes.
        takes: i64,
        began_at: Option<i64>,
        seen_at: i64,
        asks_at: i64,
    }

    impl Machine {
        fn is_on(&self, now: i64) -> bool {
            now >= self.on_at && self.dies_at.is_none_or(|dies| now < dies)
        }

        fn is_done(&self, now: i64) -> bool {
            self.began_at.is_some_and(|began| {
                let end = began + self.takes;
                now >= end && self.dies_at.is_none_or(|dies| dies >= end)
            })
        }

        /// As the server counts it: a dead one holds its place until it counts as stalled.
        fn holds_place(&self, now: i64) -> bool {
            let stalled = i64::try_from(STALLED_AFTER.as_secs()).unwrap();
            self.began_at.is_some() && !self.is_done(now) && self.seen_at > now - stalled
        }
    }

    fn machines() -> impl Strategy<Value = Vec<Machine>> {
        let machine = (
            0..600_i64,
            proptest::option::weighted(0.3, 0..3000_i64),
            20..900_i64,
        )
            .prop_map(|(on_at, dies, takes)| Machine {
                on_at,
                dies_at: dies.map(|after| on_at + after),
                takes,
                asks_at: on_at,
                ..Machine::default()
            });
        proptest::collection::vec(machine, 1..40)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn never_more_than_the_slots_and_no_free_place_beside_someone_who_waits(
            mut machines in machines(), slots in 1..6_usize,
        ) {
            let mut queue: Vec<Waiter> = Vec::new();
            // How long there has been a free place while someone alive was waiting.
            let mut idle_for = 0;
            // Nothing lives longer than all of them one after the other.
            for now in 0..40_000_i64 {
                for machine in &mut machines {
                    if machine.began_at.is_some() && machine.is_on(now) && !machine.is_done(now) {
                        machine.seen_at = now;
                    }
                }
                for index in 0..machines.len() {
                    let machine = &machines[index];
                    if !machine.is_on(now) || machine.began_at.is_some() || machine.asks_at > now {
                        continue;
                    }
                    let live = machines.iter().filter(|other| other.holds_place(now)).count();
                    let name = format!("{index:03}");
                    // The server keeps nothing but the queue and the runs: a restart is nothing to it.
                    match turn(slots, live, &queue, &name, now * 1000) {
                        Turn::Begin => {
                            prop_assert!(live < slots);
                            queue.retain(|waiter| waiter.device != name);
                            let machine = &mut machines[index];
                            (machine.began_at, machine.seen_at) = (Some(now), now);
                        }
                        Turn::Wait { retry_seconds, .. } => {
                            prop_assert!(retry_seconds <= ASK_SECONDS_MAX);
                            let arrived = super::arrival(&queue, &name, now * 1000);
                            queue.retain(|waiter| waiter.device != name);
                            let asks_at = now + i64::try_from(retry_seconds).unwrap();
                            queue.push(Waiter {
                                device: name,
                                arrived_at_ms: arrived,
                                asks_again_at_ms: asks_at * 1000,
                            });
                            machines[index].asks_at = asks_at;
                        }
                    }
                }
                let live = machines.iter().filter(|machine| machine.holds_place(now)).count();
                prop_assert!(live <= slots);
                let waits = machines.iter().any(|machine| machine.is_on(now) && machine.began_at.is_none());
                idle_for = if live < slots && waits { idle_for + 1 } else { 0 };
                // One asking interval, and the time until a dead one before it is known to be dead.
                let patience = i64::try_from(ASK_SECONDS_MAX).unwrap() * 2 + LATE_MS_MAX / 1000 * 2;
                prop_assert!(idle_for <= patience, "at {now} s");
                if machines.iter().all(|machine| machine.is_done(now) || (now >= machine.on_at && !machine.is_on(now))) {
                    return Ok(());
                }
            }
            prop_assert!(false, "someone never got a place");
        }
    }

    #[test]
    fn whoever_came_first_begins_first() {
        let waiter = |device: &str, arrived| Waiter {
            device: device.into(),
            arrived_at_ms: arrived,
            asks_again_at_ms: 60_000,
        };
        let queue = [waiter("a", 1000), waiter("b", 2000), waiter("c", 3000)];
        let check = |me, live| turn(2, live, &queue, me, 50_000);
        assert_eq!(check("a", 1), Turn::Begin);
        assert!(matches!(check("b", 1), Turn::Wait { place: 2, .. }));
        assert_eq!(check("b", 0), Turn::Begin);
        assert!(matches!(check("new", 0), Turn::Wait { place: 4, .. }));
        // Two minutes later nobody has asked again.
        assert_eq!(turn(2, 1, &queue, "new", 200_000), Turn::Begin);
    }
}
