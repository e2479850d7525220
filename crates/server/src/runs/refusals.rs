//! Orders that their machines didn't take. It is a machine's own word: shown, told once for each reason, and nothing
//! follows from it.

use serde_json::json;
use wire::device_api::{CheckInBody, RefusalReason, RefusedOrder};
use wire::order::Order;
use wire::reasons::MachineReason;
use wire::webhooks::WebhookEvent;

use crate::db::Write;
use crate::error::{Doing as _, Failure, to_json};
use crate::people::audit::audit;
use crate::runs::rows::StoredDevice;
use crate::webhooks::outbox::emit_run;

/// Notes that a machine refuses the order that it is handed out now, if it says so. `before` is what was stored of it.
pub(crate) async fn note(
    db: &mut Write,
    before: &StoredDevice,
    body: &CheckInBody,
    order: &Order,
) -> Result<(), Failure> {
    let refused = body.refused.as_ref().filter(|it| it.run == order.run);
    let Some(refused) = refused else {
        return Ok(());
    };
    let said = to_json("write why an order was refused", &said(refused, order))?;
    sqlx::query("UPDATE devices SET waiting = $1 WHERE id = $2")
        .bind(&said)
        .bind(&before.id)
        .execute(&mut **db)
        .await
        .doing("store why an order was refused")?;
    let run = order.run.to_string();
    if !is_news(db, &run, refused.reason).await? {
        return Ok(());
    }
    let detail = format!("{}: {}", before.serial, refused.text);
    audit(db, "device", "order-refused", &run, &detail).await?;
    let refusal = json!({ "reason": refused.reason, "text": refused.text });
    let more = json!({ "refusal": refusal });
    emit_run(db, WebhookEvent::RunRefused, order.run, more).await
}

/// Whether nobody was told yet that this run was refused for this reason. What a machine says besides makes no news of it.
async fn is_news(db: &mut Write, run: &str, reason: RefusalReason) -> Result<bool, Failure> {
    let reason = to_json("write why an order was refused", &reason)?;
    let told: String = sqlx::query_scalar("SELECT refusals_told FROM runs WHERE id = $1")
        .bind(run)
        .fetch_one(&mut **db)
        .await
        .doing("look for what was told of a run")?;
    if told.split(' ').any(|told| told == reason) {
        return Ok(false);
    }
    sqlx::query("UPDATE runs SET refusals_told = $1 WHERE id = $2")
        .bind(format!("{told} {reason}"))
        .bind(run)
        .execute(&mut **db)
        .await
        .doing("note what was told of a run")?;
    Ok(true)
}

/// Forgets it: the machine has begun, or gone on.
pub(crate) async fn forget(db: &mut Write, run: &str) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE devices SET waiting = '' WHERE waiting <> '' AND id = (SELECT device FROM runs WHERE id = $1)",
    )
    .bind(run)
    .execute(&mut **db)
    .await
    .doing("forget that an order was refused")?;
    Ok(())
}

fn said(refused: &RefusedOrder, order: &Order) -> MachineReason {
    let named = order.deployment.as_ref().map(ToString::to_string);
    let deployment = named.unwrap_or_default();
    let why = refused.text.clone();
    match refused.reason {
        RefusalReason::NoWarrant => MachineReason::RefusedWithoutWarrant { deployment },
        RefusalReason::UnknownKey => MachineReason::RefusedUnknownKey { deployment },
        RefusalReason::BadWarrant => MachineReason::RefusedBadWarrant { deployment },
        RefusalReason::OtherWarrant => MachineReason::RefusedOtherWarrant { deployment, why },
        RefusalReason::UnknownDisk => MachineReason::RefusedUnknownDisk { deployment, why },
        RefusalReason::Unknown => MachineReason::RefusedBecause { deployment, why },
    }
}
