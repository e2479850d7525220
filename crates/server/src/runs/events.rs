//! Events of devices: stored as received, each once, in order; then the run is shown as they tell it.

use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use serde_json::{Value, json};
use sqlx::FromRow;
use wire::admin_api::Deployment;
use wire::device_api::{EVENTS_MAX, EventAck, EventBatch};
use wire::event::{Event, EventBody};
use wire::names::RunId;
use wire::reasons::MemberReason;
use wire::webhooks::WebhookEvent;

use crate::connection::Connection;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, chain, stored};
use crate::fleet::targeting::membership::take_out;
use crate::limits::{
    EVENT_BATCH_BYTES_MAX, EVENT_BYTES_MAX, RUN_EVENTS_MAX, RUN_TAKES_MAX, SEEN_NOTED_EVERY_MS,
};
use crate::people::auth::DeviceSession;
use crate::routes::{parse, read_json};
use crate::runs::live::{Entry, EventHead, Live, read_event, told_name};
use crate::runs::refusals;
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;
use crate::webhooks::outbox::emit_run;

/// Errors of a failed run that others are told, outermost first, and how much of each.
const TOLD_ERRORS_MAX: usize = 10;
const TOLD_ERROR_CHARS_MAX: usize = 500;

/// An event as received and as read.
struct Received {
    bytes: Vec<u8>,
    head: EventHead,
    event: Event,
}

/// What is stored of the run before a batch.
#[derive(FromRow)]
struct Before {
    state: String,
    stop: i64,
    take: i64,
    acknowledged: i64,
    document: String,
    first: Option<Vec<u8>>,
}

/// What a batch changes.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The run began anew: what was stored is of an earlier take.
    anew: bool,
    /// Indices of the events to store, in order.
    store: Vec<usize>,
    /// Everything up to here is stored then.
    acknowledged: u64,
}

/// `POST /device/v1/runs/{run}/events`
pub(crate) async fn post(
    State(state): State<AppState>,
    Extension(session): Extension<DeviceSession>,
    connection: Option<Extension<Connection>>,
    Path(run): Path<String>,
    body: Body,
) -> Result<Json<EventAck>, Failure> {
    let run: RunId = parse(&run)?;
    let batch: EventBatch = read_json(body, EVENT_BATCH_BYTES_MAX).await?;
    let received = read(run, &batch)?;
    // Other devices' runs are told from unknown ones to nobody.
    let is_ours = state
        .stored_run(run)
        .await?
        .is_some_and(|stored| stored.device == session.device.to_string());
    if !is_ours {
        return Err(Failure::not_found(format!("run {run} of this device")));
    }
    let connection = connection
        .map(|Extension(connection)| connection)
        .unwrap_or_default();
    connection.belongs_to(run);
    let entry = state.views().get(state.db(), run).await?;
    let gate = entry.gate.lock().await;
    let ack = take_in(
        &state,
        &connection,
        &entry,
        run,
        &received,
        batch.interface_bytes,
    )
    .await?;
    drop(gate);
    state.changed(Change::Run(run));
    state.changed(Change::Device(session.device));
    Ok(Json(ack))
}

fn read(run: RunId, batch: &EventBatch) -> Result<Vec<Received>, Failure> {
    if batch.events.len() > EVENTS_MAX {
        return Err(Failure::bad_request(
            "too-many-events",
            format!("a batch has at most {EVENTS_MAX} events"),
        ));
    }
    batch
        .events
        .iter()
        .map(|raw| {
            let bytes = raw.get().as_bytes();
            if bytes.len() > EVENT_BYTES_MAX {
                let message = format!("an event has at most {EVENT_BYTES_MAX} bytes");
                return Err(Failure::bad_request("event-too-long", message));
            }
            let Some((head, event)) = read_event(bytes) else {
                return Err(Failure::bad_request("bad-event", "an event can't be read"));
            };
            if head.run != run {
                return Err(Failure::bad_request(
                    "bad-event",
                    "an event belongs to another run",
                ));
            }
            Ok(Received {
                bytes: bytes.to_vec(),
                head,
                event,
            })
        })
        .collect()
}

/// Decides what to store: the next events without a gap, nothing twice.
fn plan(received: &[(&EventHead, &Event)], acknowledged: u64, first: Option<&Event>) -> Plan {
    // Another release may write the same event with other bytes, so what they mean is compared.
    let is_anew = |(head, event): &(&EventHead, &Event)| {
        head.seq == 1 && head.is_start() && first.is_some_and(|first| first != *event)
    };
    let anew = received.iter().any(is_anew);
    let mut acknowledged = if anew { 0 } else { acknowledged };
    let mut store = Vec::new();
    for (index, (head, _)) in received.iter().enumerate() {
        if !head.is_lossy() && head.seq == acknowledged + 1 && acknowledged < RUN_EVENTS_MAX {
            store.push(index);
            acknowledged += 1;
        }
    }
    Plan {
        anew,
        store,
        acknowledged,
    }
}

async fn take_in(
    state: &AppState,
    connection: &Connection,
    entry: &Entry,
    run: RunId,
    received: &[Received],
    interface_bytes: u64,
) -> Result<EventAck, Failure> {
    let now = now_ms();
    let before = before(state, run).await?;
    let acknowledged = u64::try_from(before.acknowledged).unwrap_or(0);
    let heads: Vec<_> = received
        .iter()
        .map(|event| (&event.head, &event.event))
        .collect();
    let first = before
        .first
        .as_deref()
        .and_then(read_event)
        .map(|(_, event)| event);
    let plan = plan(&heads, acknowledged, first.as_ref());
    let (boot, highest) = {
        let live = entry.live();
        let boot = received
            .iter()
            .map(|event| event.head.boot)
            .max()
            .unwrap_or(0)
            .max(live.view.boot)
            .max(1);
        (
            boot,
            interface_bytes.max(live.interface_bytes.get(&boot).copied().unwrap_or(0)),
        )
    };
    if !plan.store.is_empty() || plan.anew || now - entry.live().noted_at_ms > SEEN_NOTED_EVERY_MS {
        let charged = connection.take_uncharged();
        let result = store(
            state,
            run,
            &before,
            &plan,
            received,
            (boot, highest),
            charged,
            now,
        )
        .await;
        if let Err(failure) = result {
            if let Some((_, bytes)) = charged {
                connection.put_back(bytes);
            }
            return Err(failure);
        }
        entry.live().noted_at_ms = now;
        let stored = u64::try_from(plan.store.len()).unwrap_or(0);
        state.metrics().events.fetch_add(stored, Ordering::Relaxed);
    }
    let mut live = entry.live();
    if plan.anew {
        *live = Live {
            interface_bytes: std::mem::take(&mut live.interface_bytes),
            noted_at_ms: now,
            ..Live::default()
        };
    }
    for (index, event) in received.iter().enumerate() {
        if event.head.is_lossy() || plan.store.contains(&index) {
            live.apply(&event.event, now);
        }
    }
    live.interface_bytes.insert(boot, highest);
    live.last_seen_at_ms = now;
    Ok(EventAck {
        acknowledged: plan.acknowledged,
        stop: before.stop != 0,
    })
}

async fn before(state: &AppState, run: RunId) -> Result<Before, Failure> {
    sqlx::query_as(
        "SELECT runs.state, runs.stop, runs.take, runs.acknowledged, deployments.document, events.bytes AS first \
         FROM runs JOIN deployments ON deployments.name = runs.deployment \
         LEFT JOIN events ON events.run = runs.id AND events.take = runs.take AND events.seq = 1 WHERE runs.id = $1",
    )
    .bind(run.to_string())
    .fetch_one(state.db().read())
    .await
    .doing("read a run")
}

#[expect(clippy::too_many_arguments, reason = "one transaction, one caller")]
async fn store(
    state: &AppState,
    run: RunId,
    before: &Before,
    plan: &Plan,
    received: &[Received],
    (boot, interface_bytes): (u32, u64),
    charged: Option<(RunId, u64)>,
    now: i64,
) -> Result<(), Failure> {
    let take = before.take + i64::from(plan.anew);
    if take > RUN_TAKES_MAX {
        return Err(Failure::conflict(
            "too-many-takes",
            "this run began anew too often",
        ));
    }
    let id = run.to_string();
    let mut db = state.db().write().await?;
    for index in &plan.store {
        let event = &received[*index];
        sqlx::query("INSERT INTO events (run, take, seq, received_at_ms, bytes) VALUES ($1, $2, $3, $4, $5)")
            .bind(&id)
            .bind(take)
            .bind(i64::try_from(event.head.seq).unwrap_or(i64::MAX))
            .bind(now)
            .bind(&event.bytes)
            .execute(&mut *db)
            .await
            .doing("store an event")?;
    }
    let events = plan.store.iter().map(|index| &received[*index].event);
    let after = events.fold(before.state.as_str(), |state, event| {
        state_after(state, &event.body)
    });
    let has_ended = after != "running";
    let told = plan.store.iter().rev();
    let host_name = told
        .filter_map(|index| told_name(&received[*index].event.body))
        .next();
    sqlx::query(
        "UPDATE runs SET take = $1, acknowledged = $2, state = $3, last_seen_at_ms = $4, \
         stall_told = 0, host_name = CASE WHEN $7 <> '' OR $8 = 1 THEN $7 ELSE host_name END, \
         ended_at_ms = CASE WHEN $5 = 0 THEN 0 WHEN ended_at_ms > 0 THEN ended_at_ms ELSE $4 END WHERE id = $6",
    )
    .bind(take)
    .bind(i64::try_from(plan.acknowledged).unwrap_or(i64::MAX))
    .bind(after)
    .bind(now)
    .bind(i64::from(has_ended))
    .bind(&id)
    .bind(host_name.unwrap_or_default())
    .bind(i64::from(plan.anew))
    .execute(&mut *db)
    .await
    .doing("store the state of a run")?;
    sqlx::query(
        "INSERT INTO run_boots (run, boot, interface_bytes) VALUES ($1, $2, $3) \
         ON CONFLICT (run, boot) DO UPDATE SET interface_bytes = excluded.interface_bytes",
    )
    .bind(&id)
    .bind(i64::from(boot))
    .bind(i64::try_from(interface_bytes).unwrap_or(i64::MAX))
    .execute(&mut *db)
    .await
    .doing("store the bytes of the interfaces")?;
    if let Some((payer, bytes)) = charged {
        add_server_bytes(&mut db, payer, bytes).await?;
    }
    let mut bodies = plan.store.iter().map(|index| &received[*index].event.body);
    if bodies.any(|body| {
        matches!(
            body,
            EventBody::RunStarted { .. } | EventBody::RunResumed { .. }
        )
    }) {
        refusals::forget(&mut db, &id).await?;
    }
    let stored = plan.store.iter().map(|index| &received[*index].event.body);
    for (event, more) in tidings(before, plan, after, stored) {
        emit_run(&mut db, event, run, more).await?;
    }
    if after == "completed" && before.state != "completed" {
        leave_collection(&mut db, run, before).await?;
    }
    commit(db).await?;
    if after != before.state {
        tracing::info!(run.id = %run, state = after, "run {run} is {after}");
    }
    Ok(())
}

/// What others are told of a batch that was stored.
fn tidings<'a>(
    before: &Before,
    plan: &Plan,
    after: &str,
    stored: impl DoubleEndedIterator<Item = &'a EventBody>,
) -> Vec<(WebhookEvent, Value)> {
    let mut tidings = Vec::new();
    // A run that begins anew after a power cut is the same run.
    if before.acknowledged == 0 && before.take == 1 && !plan.store.is_empty() && !plan.anew {
        tidings.push((WebhookEvent::RunStarted, json!({})));
    }
    if after == before.state {
        return tidings;
    }
    match after {
        "completed" => tidings.push((WebhookEvent::RunCompleted, json!({}))),
        "aborted" => tidings.push((WebhookEvent::RunStopped, json!({}))),
        "failed" => {
            let failure = stored.rev().find_map(|body| match body {
                EventBody::RunFailed { path, errors, .. } => {
                    let errors = errors.iter().take(TOLD_ERRORS_MAX);
                    let errors: Vec<String> = errors
                        .map(|error| clean(error, TOLD_ERROR_CHARS_MAX))
                        .collect();
                    Some(json!({ "step": path, "errors": errors }))
                }
                _ => None,
            });
            tidings.push((WebhookEvent::RunFailed, json!({ "failure": failure })));
        }
        _ => {}
    }
    tidings
}

/// The state of a run after an event.
fn state_after<'a>(state: &'a str, body: &EventBody) -> &'a str {
    match body {
        EventBody::RunDone { .. } => "completed",
        EventBody::RunFailed { .. } => "failed",
        EventBody::RunAborted { .. } => "aborted",
        // A failed run that is tried again runs.
        EventBody::RunStarted { .. }
        | EventBody::RunResumed { .. }
        | EventBody::StepStarted { .. }
            if state == "failed" =>
        {
            "running"
        }
        _ => state,
    }
}

async fn leave_collection(db: &mut Write, run: RunId, before: &Before) -> Result<(), Failure> {
    let deployment: Deployment = stored("deployment", &before.document)?;
    if !deployment.leave_collection_on_success {
        return Ok(());
    }
    let device: String = sqlx::query_scalar("SELECT device FROM runs WHERE id = $1")
        .bind(run.to_string())
        .fetch_one(&mut **db)
        .await
        .doing("read the device of a run")?;
    let reason = MemberReason::DoneBy {
        deployment: deployment.name.to_string(),
    };
    take_out(db, &deployment.collection, &device, &reason).await?;
    crate::people::audit::audit(
        db,
        "device",
        "left-collection",
        deployment.collection.as_str(),
        &format!("run {run} is done"),
    )
    .await
}

async fn add_server_bytes(db: &mut Write, run: RunId, bytes: u64) -> Result<(), Failure> {
    sqlx::query("UPDATE runs SET server_bytes = server_bytes + $1 WHERE id = $2")
        .bind(i64::try_from(bytes).unwrap_or(i64::MAX))
        .bind(run.to_string())
        .execute(&mut **db)
        .await
        .doing("store the bytes of a connection")?;
    Ok(())
}

/// Charges what a connection has carried since the last time to its run.
pub(crate) async fn charge(state: &AppState, connection: &Connection) -> Result<(), Failure> {
    let Some((run, bytes)) = connection.take_uncharged() else {
        return Ok(());
    };
    let result = async {
        let mut db = state.db().write().await?;
        add_server_bytes(&mut db, run, bytes).await?;
        commit(db).await
    }
    .await;
    if let Err(failure) = result {
        tracing::warn!(error = %chain(&failure), bytes, "the bytes of a connection are due again");
        connection.put_back(bytes);
        return Err(failure);
    }
    state.changed(Change::Run(run));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Plan, plan};
    use crate::runs::live::{EventHead, read_event};
    use proptest::prelude::*;
    use wire::event::Event;

    type Read = (EventHead, Event);

    fn event_at(seq: u64, uptime_ms: u64, kind: &str) -> Read {
        let event = serde_json::json!({"run": uuid::Uuid::nil(), "seq": seq, "boot": 1, "uptime-ms": uptime_ms,
            "body": {"kind": kind, "sequence": "s", "steps": []}});
        read_event(event.to_string().as_bytes()).unwrap()
    }

    fn event(seq: u64, kind: &str) -> Read {
        event_at(seq, 1, kind)
    }

    fn check(events: &[Read], acknowledged: u64, first: Option<&Read>) -> Plan {
        let received: Vec<_> = events.iter().map(|(head, event)| (head, event)).collect();
        plan(&received, acknowledged, first.map(|(_, event)| event))
    }

    #[test]
    fn duplicates_gaps_and_lossy_events_are_not_stored() {
        let events = [
            event(2, "log"),
            event(3, "log"),
            event(3, "log"),
            event(3, "progress"),
            event(5, "log"),
        ];
        assert_eq!(
            check(&events, 2, None),
            Plan {
                anew: false,
                store: vec![1],
                acknowledged: 3
            }
        );
        assert_eq!(
            check(&events, 0, None),
            Plan {
                anew: false,
                store: vec![],
                acknowledged: 0
            }
        );
    }

    #[test]
    fn a_run_that_begins_anew_is_told_from_a_repeated_event() {
        let first = event(1, "run-started");
        let same = check(&[first.clone(), event(2, "log")], 9, Some(&first));
        assert_eq!(
            same,
            Plan {
                anew: false,
                store: vec![],
                acknowledged: 9
            }
        );
        let anew = check(
            &[event_at(1, 7, "run-started"), event(2, "log")],
            9,
            Some(&first),
        );
        assert_eq!(
            anew,
            Plan {
                anew: true,
                store: vec![0, 1],
                acknowledged: 2
            }
        );
    }

    proptest! {
        #[test]
        fn any_delivery_ends_with_each_event_once(order in proptest::collection::vec(1_u64..20, 0..200)) {
            let mut acknowledged = 0;
            let mut stored = Vec::new();
            for seq in order {
                let plan = check(&[event(seq, "log")], acknowledged, None);
                stored.extend(plan.store.iter().map(|_| seq));
                acknowledged = plan.acknowledged;
            }
            prop_assert_eq!(stored, (1..=acknowledged).collect::<Vec<_>>());
        }
    }
}
