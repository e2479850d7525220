//! Delivers what is in the outbox. A message is tried until its receiver has taken it or all waits are used up; each attempt
//! carries the same id, so that a receiver tells a repetition from a new message.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sqlx::FromRow;
use tokio::task::JoinSet;
use wire::reasons::PauseReason;

use super::post::{self, Answer, PostError};
use super::sign::WebhookKey;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, chain, to_json};
use crate::people::audit::audit;
use crate::people::auth::millis;
use crate::state::{AppState, now_ms, stopped};

/// Messages under way to one receiver: a slow one is not flooded and holds up no other.
const UNDER_WAY_MAX: usize = 4;
/// How often the outbox is looked into, if nothing says that there is something.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// How long things that happen at once are gathered.
const GATHERED_FOR: Duration = Duration::from_millis(100);
/// How long messages under way may go on when the server stops.
const LAST_ANSWERS_TIME_MAX: Duration = Duration::from_secs(5);
/// How long messages and what came of them are kept.
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// Messages that wait for one receiver: a week of the largest fleet. Older ones are given up.
const WAITING_MAX: i64 = 100_000;
/// How often that is looked after.
const TIDIED_EVERY: Duration = Duration::from_secs(600);
/// The receiver will never take anything again, says RFC 9110.
const GONE: u16 = 410;

/// The waits between attempts: more than a day in all, so that a receiver may be down for a night and a morning.
pub(crate) const WAITS: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(3600),
    Duration::from_secs(2 * 3600),
    Duration::from_secs(4 * 3600),
    Duration::from_secs(8 * 3600),
    Duration::from_secs(12 * 3600),
];

/// One message for one receiver.
#[derive(Debug, Clone, FromRow)]
pub(super) struct Delivery {
    pub(super) webhook: i64,
    pub(super) event: i64,
    message_id: String,
    body: String,
    attempts: i64,
    url: String,
    ca_pem: String,
    salt: String,
    old_salt: String,
    old_until_ms: i64,
}

macro_rules! deliveries_sql {
    ($rest:literal) => {
        concat!(
            "SELECT webhook_deliveries.webhook, webhook_deliveries.event, webhook_events.message_id, ",
            "webhook_events.body, webhook_deliveries.attempts, webhooks.url, webhooks.ca_pem, webhooks.salt, ",
            "webhooks.old_salt, webhooks.old_until_ms ",
            "FROM webhook_deliveries JOIN webhook_events ON webhook_events.id = webhook_deliveries.event ",
            "JOIN webhooks ON webhooks.id = webhook_deliveries.webhook ",
            $rest
        )
    };
}

/// Delivers until the server stops.
pub(crate) async fn run(state: AppState) {
    let mut under_way = BTreeSet::new();
    let mut tasks = JoinSet::new();
    let mut changes = state.subscribe();
    let mut tidied: Option<Instant> = None;
    loop {
        if tidied.is_none_or(|at| at.elapsed() > TIDIED_EVERY) {
            tidied = Some(Instant::now());
            if let Err(error) = tidy(&state).await {
                tracing::error!(error = %chain(&error), "cannot tidy the outbox of webhooks, trying again later");
            }
        }
        match due(&state, &under_way).await {
            Ok(deliveries) => {
                for delivery in deliveries {
                    under_way.insert((delivery.webhook, delivery.event));
                    let state = state.clone();
                    tasks.spawn(async move {
                        let which = (delivery.webhook, delivery.event);
                        if let Err(error) = attempt(&state, &delivery).await {
                            tracing::error!(error = %chain(&error), "cannot note what came of a message of a webhook");
                        }
                        which
                    });
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "cannot look into the outbox of webhooks")
            }
        }
        tokio::select! {
            () = stopped(state.stopping()) => break,
            Some(Ok(which)) = tasks.join_next() => { under_way.remove(&which); }
            // Whoever is told too late of changes looks all the same.
            _ = changes.recv() => tokio::time::sleep(GATHERED_FOR).await,
            () = tokio::time::sleep(LOOKED_EVERY) => {}
        }
    }
    // What is cut off here is sent again under the same id after the next start.
    let all = async { while tasks.join_next().await.is_some() {} };
    let _cut_off = tokio::time::timeout(LAST_ANSWERS_TIME_MAX, all).await;
}

/// What is due, as much as may be under way besides.
async fn due(state: &AppState, under_way: &BTreeSet<(i64, i64)>) -> Result<Vec<Delivery>, Failure> {
    let webhooks: Vec<i64> =
        sqlx::query_scalar("SELECT id FROM webhooks WHERE state = 'active' ORDER BY id")
            .fetch_all(state.db().read())
            .await
            .doing("read the webhooks")?;
    let mut all = Vec::new();
    for webhook in webhooks {
        let busy = under_way.iter().filter(|(id, _)| *id == webhook).count();
        if busy >= UNDER_WAY_MAX {
            continue;
        }
        let found: Vec<Delivery> = sqlx::query_as(deliveries_sql!(
            "WHERE webhook_deliveries.webhook = $1 AND webhook_deliveries.state = 'waiting' \
             AND webhook_deliveries.due_at_ms <= $2 \
             ORDER BY webhook_deliveries.due_at_ms, webhook_deliveries.event LIMIT $3"
        ))
        .bind(webhook)
        .bind(now_ms())
        .bind(i64::try_from(UNDER_WAY_MAX).unwrap_or(1))
        .fetch_all(state.db().read())
        .await
        .doing("read what is to be delivered")?;
        let fresh = found
            .into_iter()
            .filter(|it| !under_way.contains(&(it.webhook, it.event)));
        all.extend(fresh.take(UNDER_WAY_MAX - busy));
    }
    Ok(all)
}

/// One delivery of one webhook.
pub(super) async fn find(
    state: &AppState,
    webhook: i64,
    event: i64,
) -> Result<Option<Delivery>, Failure> {
    sqlx::query_as(deliveries_sql!(
        "WHERE webhook_deliveries.webhook = $1 AND webhook_deliveries.event = $2"
    ))
    .bind(webhook)
    .bind(event)
    .fetch_optional(state.db().read())
    .await
    .doing("read a delivery")
}

/// Tries once and notes what came of it.
pub(super) async fn attempt(state: &AppState, delivery: &Delivery) -> Result<(), Failure> {
    let now = now_ms();
    let seconds = now / 1000;
    let headers = [
        ("webhook-id", delivery.message_id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        (
            "webhook-signature",
            signatures(state.webhook_key(), delivery, now),
        ),
    ];
    let start = Instant::now();
    let result = post::post(
        &delivery.url,
        &delivery.ca_pem,
        &headers,
        delivery.body.clone(),
    )
    .await;
    note(state, delivery, now, start.elapsed(), &result).await
}

/// The header `webhook-signature`. A receiver that hasn't got the new secret yet finds the signature of the old one in it.
fn signatures(key: &WebhookKey, delivery: &Delivery, at_ms: i64) -> String {
    let signature = |salt: &str| {
        let secret = key.secret(salt);
        secret.signature(&delivery.message_id, at_ms / 1000, &delivery.body)
    };
    let new = signature(&delivery.salt);
    match delivery.old_until_ms > at_ms {
        true => format!("{new} {}", signature(&delivery.old_salt)),
        false => new,
    }
}

/// What becomes of a delivery.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Delivered,
    Again(Duration),
    GivenUp(PauseReason),
}

fn next(result: &Result<Answer, PostError>, attempts: usize, waits: &[Duration]) -> Next {
    match result {
        Ok(answer) if (200..300).contains(&answer.status) => Next::Delivered,
        Ok(answer) if answer.status == GONE => Next::GivenUp(PauseReason::GoneForGood),
        _ => match waits.get(attempts) {
            Some(wait) => Next::Again(*wait),
            None => Next::GivenUp(match result {
                Ok(answer) => PauseReason::NotTaken {
                    status: answer.status,
                },
                Err(_) => PauseReason::NotAnswered,
            }),
        },
    }
}

async fn note(
    state: &AppState,
    delivery: &Delivery,
    at_ms: i64,
    took: Duration,
    result: &Result<Answer, PostError>,
) -> Result<(), Failure> {
    let attempts = usize::try_from(delivery.attempts).unwrap_or(usize::MAX);
    let next = next(result, attempts, state.webhook_waits());
    let (status, answer, error) = match result {
        Ok(answer) => (i64::from(answer.status), answer.head.clone(), String::new()),
        Err(error) => (
            0,
            String::new(),
            to_json("write why no answer came", &error.said())?,
        ),
    };
    let mut db = state.db().write().await?;
    let (word, due_at_ms) = match next {
        Next::Delivered => ("delivered", 0),
        Next::Again(wait) => ("waiting", at_ms + millis(wait)),
        Next::GivenUp(_) => ("failed", 0),
    };
    let updated = sqlx::query(
        "UPDATE webhook_deliveries SET state = $1, attempts = attempts + 1, due_at_ms = $2 \
         WHERE webhook = $3 AND event = $4",
    )
    .bind(word)
    .bind(due_at_ms)
    .bind(delivery.webhook)
    .bind(delivery.event)
    .execute(&mut *db)
    .await
    .doing("note a delivery")?;
    if updated.rows_affected() == 0 {
        // Somebody has removed the webhook meanwhile.
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO webhook_attempts (webhook, event, at_ms, duration_ms, status, answer, error) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(delivery.webhook)
    .bind(delivery.event)
    .bind(at_ms)
    .bind(millis(took))
    .bind(status)
    .bind(answer)
    .bind(&error)
    .execute(&mut *db)
    .await
    .doing("note an attempt")?;
    if let Next::GivenUp(reason) = next {
        pause(&mut db, delivery.webhook, "server", &reason).await?;
    }
    commit(db).await
}

/// Pauses a webhook; what happens meanwhile waits.
pub(super) async fn pause(
    db: &mut Write,
    webhook: i64,
    who: &str,
    reason: &PauseReason,
) -> Result<(), Failure> {
    let paused = sqlx::query(
        "UPDATE webhooks SET state = 'paused', reason = $1 WHERE id = $2 AND state = 'active'",
    )
    .bind(to_json("write why a webhook is paused", reason)?)
    .bind(webhook)
    .execute(&mut **db)
    .await
    .doing("pause a webhook")?;
    if paused.rows_affected() == 0 {
        return Ok(());
    }
    tracing::error!(
        webhook.id = webhook,
        "webhook {webhook} is paused: {reason}"
    );
    audit(
        db,
        who,
        "webhook-paused",
        &webhook.to_string(),
        &reason.to_string(),
    )
    .await
}

/// Forgets what is old, and gives up what nobody will take any more.
async fn tidy(state: &AppState) -> Result<(), Failure> {
    let before = now_ms() - millis(KEPT_FOR);
    let mut db = state.db().write().await?;
    sqlx::query(
        "UPDATE webhook_deliveries SET state = 'failed' WHERE state = 'waiting' AND event <= \
         (SELECT older.event FROM webhook_deliveries older WHERE older.webhook = webhook_deliveries.webhook \
         AND older.state = 'waiting' ORDER BY older.event DESC LIMIT 1 OFFSET $1)",
    )
    .bind(WAITING_MAX)
    .execute(&mut *db)
    .await
    .doing("give up messages that wait for too long")?;
    for sql in [
        "DELETE FROM webhook_attempts WHERE event IN (SELECT id FROM webhook_events WHERE at_ms < $1)",
        "DELETE FROM webhook_deliveries WHERE event IN (SELECT id FROM webhook_events WHERE at_ms < $1)",
        "DELETE FROM webhook_events WHERE at_ms < $1",
    ] {
        sqlx::query(sql)
            .bind(before)
            .execute(&mut *db)
            .await
            .doing("forget old messages")?;
    }
    commit(db).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Result<Answer, PostError> {
        Ok(Answer {
            status,
            head: String::new(),
        })
    }

    #[test]
    fn the_old_secret_signs_until_its_time_is_over() {
        let key = WebhookKey::of([7; 32]);
        let delivery = Delivery {
            webhook: 1,
            event: 1,
            message_id: "m".into(),
            body: "{}".into(),
            attempts: 0,
            url: String::new(),
            ca_pem: String::new(),
            salt: "new".into(),
            old_salt: "old".into(),
            old_until_ms: 5000,
        };
        let signed = |salt: &str, seconds| key.secret(salt).signature("m", seconds, "{}");
        let both = format!("{} {}", signed("new", 4), signed("old", 4));
        assert_eq!(signatures(&key, &delivery, 4999), both);
        assert_eq!(signatures(&key, &delivery, 5000), signed("new", 5));
    }

    #[test]
    fn only_success_ends_a_delivery_well() {
        for status in [200, 202, 204] {
            assert_eq!(next(&answered(status), 0, &WAITS), Next::Delivered);
        }
        // Redirects are not followed: an address that has moved is a mistake that someone must see.
        for status in [301, 400, 404, 429, 500, 503] {
            assert_eq!(next(&answered(status), 0, &WAITS), Next::Again(WAITS[0]));
        }
        assert!(matches!(next(&answered(410), 0, &WAITS), Next::GivenUp(_)));
    }

    #[test]
    fn waits_grow_and_end() {
        let waits: Vec<Duration> = (0..WAITS.len())
            .map(
                |attempts| match next(&Err(PostError::Late), attempts, &WAITS) {
                    Next::Again(wait) => wait,
                    other => panic!("{other:?}"),
                },
            )
            .collect();
        assert!(waits.is_sorted());
        assert!(waits.iter().sum::<Duration>() > Duration::from_secs(24 * 3600));
        assert!(matches!(
            next(&Err(PostError::Late), WAITS.len(), &WAITS),
            Next::GivenUp(_)
        ));
    }
}
