//! Deployments: a sequence for a collection.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use wire::admin_api::Deployment;
use wire::deployments::{Awaited, DAY_MINUTES};
use wire::names::DeploymentName;

use crate::db::commit;
use crate::error::{Doing as _, Failure, to_json};
use crate::fleet::targeting::approvals::{self, Asked};
use crate::fleet::targeting::lifecycle::{confirmed, look_up};
use crate::fleet::targeting::preview::to_confirm;
use crate::fleet::targeting::queue;
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body};
use crate::state::{AppState, now_ms};
use crate::vault;

/// `GET /api/v1/deployments`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<Deployment>>, Failure> {
    state.deployments().await.map(Json)
}

/// What becomes of a deployment of this name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    /// It exists and is changed. Otherwise it is made, and must not exist.
    change: bool,
}

/// `PUT /api/v1/deployments/{name}`: makes one; with `?change=true` it changes one.
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(wanted): Query<Wanted>,
    body: Body,
) -> Result<Json<Deployment>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let body = read_body(body, JSON_BYTES_MAX).await?;
    let unread =
        |error| Failure::bad_request("bad-json", format!("the request can't be read: {error}"));
    let mut deployment: Deployment = serde_json::from_slice(&body).map_err(unread)?;
    let typed: Typed = serde_json::from_slice(&body).map_err(unread)?;
    if deployment.name != name {
        return Err(Failure::bad_request(
            "other-name",
            "the name in the path is another one",
        ));
    }
    if deployment.cap == 0 {
        return Err(Failure::bad_request(
            "no-cap",
            "a deployment that may touch no device does nothing",
        )
        .hint("set `cap` to the number of devices you mean to reach"));
    }
    check_window(&deployment)?;
    let mut db = state.db().write().await?;
    let before = look_up(&mut db, &name).await?;
    match &before {
        // Whether it is stopped is no matter of its settings: only a resume has machines begin again.
        Some(before) if wanted.change => deployment.stopped = before.stopped,
        Some(_) => {
            let message = format!("there is a deployment {name} already");
            return Err(Failure::conflict("name-taken", message)
                .hint("choose another name, or change it: `forestage deployment change`"));
        }
        None if wanted.change => {
            return Err(Failure::not_found(format!("deployment {name}"))
                .hint("`forestage deployment create` makes it"));
        }
        None => {}
    }
    // Whether collection and sequence exist is found out on the way.
    if let Some(words) = to_confirm(&mut db, &deployment).await? {
        confirmed(&typed.confirm, &words)?;
    }
    if !deployment.stopped {
        vault::refuse_unset(&mut db, &deployment.sequence).await?;
    }
    let reaches_more = before
        .as_ref()
        .is_none_or(|before| reaches_more(before, &deployment));
    // Whoever asked for that asked it of another deployment, in a way.
    if reaches_more {
        let is_of_before = |asked: &Asked| asked.what != Awaited::Resume;
        approvals::overtake(&mut db, &user, &name, is_of_before).await?;
    }
    // No machine begins it until somebody else has said yes, which resumes it. Whoever changes what awaits that can't say it.
    let could_begin =
        !deployment.stopped || approvals::awaits(&mut db, &name, Awaited::Resume).await?;
    let awaits = could_begin
        && reaches_more
        && state
            .needs_second(&mut db, &deployment, deployment.cap)
            .await?;
    deployment.stopped |= awaits;
    sqlx::query(
        "INSERT INTO deployments (name, collection, document, stopped, created_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET collection = excluded.collection, document = excluded.document, \
         stopped = excluded.stopped, cap_told = 0",
    )
    .bind(name.as_str())
    .bind(deployment.collection.as_str())
    .bind(to_json("write a deployment", &deployment)?)
    .bind(i64::from(deployment.stopped))
    .bind(now_ms())
    .execute(&mut *db)
    .await
    .doing("store a deployment")?;
    let detail = format!(
        "{} for {}, cap {}",
        deployment.sequence, deployment.collection, deployment.cap
    );
    let action = match wanted.change {
        true => "deployment-changed",
        false => "deployment-stored",
    };
    audit(&mut db, &user.name, action, name.as_str(), &detail).await?;
    if awaits {
        let asked = Asked::resume(deployment.cap);
        approvals::ask(&mut db, &user, &name, &asked).await?;
        queue::send_home(&mut db, &name).await?;
    }
    commit(db).await?;
    Ok(Json(deployment))
}

/// Whether a change lets machines begin it that might not before, or do something else to them.
pub(crate) fn reaches_more(before: &Deployment, after: &Deployment) -> bool {
    after.cap > before.cap
        || after.collection != before.collection
        || after.sequence != before.sequence
        || after.purpose != before.purpose
}

/// What a person typed beside a deployment that writes over disks.
#[derive(Debug, Default, Deserialize)]
struct Typed {
    #[serde(default)]
    confirm: String,
}

/// A window that never opens, and hours that are none, are mistakes.
fn check_window(deployment: &Deployment) -> Result<(), Failure> {
    let Some(window) = &deployment.window else {
        return Ok(());
    };
    let never = window
        .ends_at_ms
        .is_some_and(|end| window.starts_at_ms.is_some_and(|start| end <= start));
    let is_daily_wrong = window.daily.is_some_and(|daily| {
        daily.from_minute == daily.to_minute || daily.from_minute.max(daily.to_minute) > DAY_MINUTES
    });
    if never || is_daily_wrong {
        return Err(
            Failure::bad_request("bad-window", "this window never opens")
                .hint("it starts before it ends; daily hours are such as 16:00-06:00"),
        );
    }
    Ok(())
}
