//! What is due on a device: the one rule behind orders, plans, previews and the status of deployments.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use sqlx::{AnyConnection, AssertSqlSafe};
use wire::admin_api::{Deployment, Purpose};
use wire::deployments::{DAY_MINUTES, Window};
use wire::names::CollectionName;
use wire::reasons::{MachineReason, MemberReason};

use crate::db::only;
use crate::error::{Doing as _, Failure, stored};
use crate::fleet::targeting::membership;
use crate::fleet::targeting::sites::time_zone;

/// A machine that waits for a window to open asks at the latest this often.
const WINDOW_SECONDS_MAX: i64 = 900;

/// What is known of a device and a deployment when it is asked whether the one is due on the other.
pub(crate) struct Standing<'s> {
    /// The state of the latest run of this deployment on this device, if there was one.
    pub(crate) latest: Option<&'s str>,
    /// Someone said that the deployment leaves this device alone.
    pub(crate) is_cancelled: bool,
    pub(crate) zone: &'s TimeZone,
    pub(crate) now: i64,
}

/// Why a deployment isn't due on a device that is in its collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotDue {
    /// For the device's screen.
    pub(crate) said: Box<MachineReason>,
    /// For lists: the same for many devices.
    pub(crate) reason: MemberReason,
    /// When to ask again, if that makes sense.
    pub(crate) retry_seconds: Option<u64>,
}

impl NotDue {
    fn new(reason: MemberReason, said: MachineReason) -> Self {
        Self {
            said: Box::new(said),
            reason,
            retry_seconds: None,
        }
    }
}

/// Whether a device in its collection begins (or goes on with) a deployment that isn't stopped. Caps and places are
/// asked for afterwards: they concern all devices together.
pub(crate) fn is_due(deployment: &Deployment, standing: &Standing<'_>) -> Result<(), NotDue> {
    let name = || deployment.name.to_string();
    if standing.is_cancelled {
        return Err(NotDue::new(
            MemberReason::Cancelled,
            MachineReason::Cancelled { deployment: name() },
        ));
    }
    match standing.latest {
        Some("completed") => {
            return Err(NotDue::new(
                MemberReason::DoneAlready,
                MachineReason::DoneAlready { deployment: name() },
            ));
        }
        Some("aborted") => {
            return Err(NotDue::new(
                MemberReason::Stopped,
                MachineReason::Stopped { deployment: name() },
            ));
        }
        // Whoever has begun goes on, at any hour and whatever the purpose.
        Some(_) => return Ok(()),
        None => {}
    }
    if deployment.purpose == Purpose::Available {
        return Err(NotDue::new(
            MemberReason::Available,
            MachineReason::Available { deployment: name() },
        ));
    }
    match &deployment.window {
        Some(window) => in_window(deployment, window, standing),
        None => Ok(()),
    }
}

fn in_window(
    deployment: &Deployment,
    window: &Window,
    standing: &Standing<'_>,
) -> Result<(), NotDue> {
    let name = || deployment.name.to_string();
    let at = |ms: i64| {
        jiff::Timestamp::from_millisecond(ms)
            .unwrap_or_default()
            .to_zoned_datetime(standing.zone.clone())
    };
    if let Some(start) = window.starts_at_ms.filter(|start| standing.now < *start) {
        let begins = MachineReason::BeginsAt {
            deployment: name(),
            when: at(start).strftime("%Y-%m-%d %H:%M").to_string(),
        };
        return Err(NotDue {
            retry_seconds: soon((start - standing.now) / 1000),
            ..NotDue::new(MemberReason::NotOpenYet, begins)
        });
    }
    if window.ends_at_ms.is_some_and(|end| standing.now >= end) {
        return Err(NotDue::new(
            MemberReason::Over,
            MachineReason::Over { deployment: name() },
        ));
    }
    let Some(daily) = window.daily else {
        return Ok(());
    };
    let now = at(standing.now);
    let minute = i64::from(now.hour()) * 60 + i64::from(now.minute());
    let (from, to) = (i64::from(daily.from_minute), i64::from(daily.to_minute));
    let is_open = if from < to {
        (from..to).contains(&minute)
    } else {
        minute >= from || minute < to
    };
    if is_open {
        return Ok(());
    }
    let wait = (from - minute).rem_euclid(i64::from(DAY_MINUTES)) * 60;
    let begins = MachineReason::BeginsBetween {
        deployment: name(),
        hours: daily.to_string(),
    };
    Err(NotDue {
        retry_seconds: soon(wait),
        ..NotDue::new(MemberReason::OutsideHours, begins)
    })
}

/// A machine is told when to ask only if that is soon: one that has an OS shall start it meanwhile.
fn soon(seconds: i64) -> Option<u64> {
    let seconds = u64::try_from(seconds).ok()?;
    (seconds <= WINDOW_SECONDS_MAX.unsigned_abs()).then_some(seconds.max(15))
}

/// Deployments that aren't stopped, oldest first.
pub(crate) async fn active(db: &mut AnyConnection) -> Result<Vec<Deployment>, Failure> {
    let documents: Vec<String> = sqlx::query_scalar(
        "SELECT document FROM deployments WHERE stopped = 0 ORDER BY created_at_ms, name",
    )
    .fetch_all(db)
    .await
    .doing("look for deployments")?;
    documents
        .iter()
        .map(|document| stored("deployment", document))
        .collect()
}

/// The time zones of sites that have one, by code.
pub(crate) async fn zones(db: &mut AnyConnection) -> Result<BTreeMap<String, TimeZone>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT code, time_zone FROM sites WHERE time_zone <> ''")
            .fetch_all(db)
            .await
            .doing("read the time zones of sites")?;
    // One that this machine's table has forgotten is UTC: better an hour off than nobody begins.
    Ok(rows
        .into_iter()
        .filter_map(|(code, name)| Some((code, time_zone(&name).ok()?)))
        .collect())
}

/// By device and deployment: the state of the latest run, for one device or for all.
pub(crate) async fn latest_states(
    db: &mut AnyConnection,
    device: Option<&str>,
) -> Result<BTreeMap<(String, String), String>, Failure> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT device, deployment, state FROM runs WHERE {} ORDER BY started_at_ms, id DESC",
        only("device", device)
    )))
    .bind(device.unwrap_or_default())
    .fetch_all(db)
    .await
    .doing("read the states of runs")?;
    Ok(rows
        .into_iter()
        .map(|(device, deployment, state)| ((device, deployment), state))
        .collect())
}

/// Pairs of device and deployment that were cancelled, for one device or for all.
pub(crate) async fn cancelled(
    db: &mut AnyConnection,
    device: Option<&str>,
) -> Result<std::collections::BTreeSet<(String, String)>, Failure> {
    let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT device, deployment FROM deployment_cancelled WHERE {}",
        only("device", device)
    )))
    .bind(device.unwrap_or_default())
    .fetch_all(db)
    .await
    .doing("read which deployments are cancelled")?;
    Ok(rows.into_iter().collect())
}

/// The deployment that each device runs, or would begin at its next check-in; by device id. Caps, places and windows are
/// left out: that a machine has to wait doesn't change what is due.
pub(crate) async fn due_deployments(
    db: &mut AnyConnection,
    device: Option<&str>,
) -> Result<BTreeMap<String, Deployment>, Failure> {
    let deployments = active(db).await?;
    let members: BTreeMap<String, std::collections::BTreeSet<CollectionName>> = match device {
        Some(id) => [(id.to_owned(), membership::of_device(db, id).await?)].into(),
        None => membership::of_all(db).await?,
    };
    let latest = latest_states(db, device).await?;
    let cancelled = cancelled(db, device).await?;
    let mut due = BTreeMap::new();
    for (device, collections) in &members {
        let first = deployments.iter().find(|deployment| {
            let key = (device.clone(), deployment.name.to_string());
            let standing = Standing {
                latest: latest.get(&key).map(String::as_str),
                is_cancelled: cancelled.contains(&key),
                zone: &TimeZone::UTC,
                now: 0,
            };
            let always = Deployment {
                window: None,
                ..(*deployment).clone()
            };
            collections.contains(&deployment.collection) && is_due(&always, &standing).is_ok()
        });
        if let Some(deployment) = first {
            due.insert(device.clone(), deployment.clone());
        }
    }
    let running: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT runs.device, deployments.document FROM runs JOIN deployments ON deployments.name = runs.deployment \
         WHERE runs.state = 'running' AND {} ORDER BY runs.started_at_ms",
        only("runs.device", device)
    )))
    .bind(device.unwrap_or_default())
    .fetch_all(db)
    .await
    .doing("look for runs that go on")?;
    for (device, document) in running {
        due.insert(device, stored("deployment", &document)?);
    }
    Ok(due)
}

#[cfg(test)]
mod tests {
    use super::{Standing, is_due};
    use jiff::tz::TimeZone;
    use wire::admin_api::{Deployment, Purpose};
    use wire::deployments::Window;
    use wire::reasons::MemberReason;

    fn deployment(window: Option<Window>) -> Deployment {
        Deployment {
            name: "autumn".parse().unwrap(),
            collection: "pupils".parse().unwrap(),
            sequence: "deploy".parse().unwrap(),
            purpose: Purpose::Required,
            expected_seconds: 900,
            leave_collection_on_success: true,
            cap: 10,
            stopped: false,
            slots: 0,
            window,
        }
    }

    /// The reason and when to ask again, at a moment in Oslo.
    fn check(
        window: &Window,
        moment: &str,
        latest: Option<&str>,
    ) -> Option<(MemberReason, Option<u64>)> {
        let zone = TimeZone::get("Europe/Oslo").unwrap();
        let now = moment.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let standing = Standing {
            latest,
            is_cancelled: false,
            zone: &zone,
            now,
        };
        is_due(&deployment(Some(window.clone())), &standing)
            .err()
            .map(|not| (not.reason, not.retry_seconds))
    }

    #[test]
    fn hours_are_those_of_the_site() {
        let night = Window {
            daily: Some("16:00-06:00".parse().unwrap()),
            ..Window::default()
        };
        // Oslo is two hours before UTC in August, one in January.
        for (moment, is_open) in [
            ("2026-08-17T13:59:00Z", false),
            ("2026-08-17T14:00:00Z", true),
            ("2026-08-17T23:00:00Z", true),
            ("2026-08-18T03:59:00Z", true),
            ("2026-08-18T04:00:00Z", false),
            ("2026-01-12T14:30:00Z", false),
            ("2026-01-12T15:00:00Z", true),
        ] {
            assert_eq!(check(&night, moment, None).is_none(), is_open, "{moment}");
        }
        // Soon enough to wait for, or not; whoever has begun goes on.
        assert_eq!(
            check(&night, "2026-08-17T13:50:00Z", None),
            Some((MemberReason::OutsideHours, Some(600)))
        );
        assert_eq!(
            check(&night, "2026-08-17T10:00:00Z", None),
            Some((MemberReason::OutsideHours, None))
        );
        assert_eq!(check(&night, "2026-08-17T10:00:00Z", Some("failed")), None);
    }

    #[test]
    fn a_window_opens_and_closes() {
        let at = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let week = Window {
            starts_at_ms: at("2026-08-17T06:00:00Z"),
            ends_at_ms: at("2026-08-22T06:00:00Z"),
            daily: None,
        };
        let reason = |moment| check(&week, moment, None).map(|(reason, _)| reason);
        assert_eq!(
            reason("2026-08-17T05:59:59Z"),
            Some(MemberReason::NotOpenYet)
        );
        assert_eq!(reason("2026-08-17T06:00:00Z"), None);
        assert_eq!(reason("2026-08-22T06:00:00Z"), Some(MemberReason::Over));
    }
}
