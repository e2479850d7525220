//! A second person for mass actions. What would write over the disks of more machines than the server was told waits until another
//! administrator than the one who asked has approved it. Until then the deployment stays as it is, stopped or with its old cap, so
//! that nothing which hands out orders has to know of it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use sqlx::AnyConnection;
use wire::admin_api::Deployment;
use wire::deployments::{Approval, ApproveRequest, Awaited, DeclineRequest, DeploymentStatus};
use wire::names::{DeploymentName, DeviceId, RunId};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::lifecycle::{
    confirmed, failed_runs, find, raised, resumed, retried, tell, wipes,
};
use crate::fleet::targeting::preview::{number, to_confirm};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::{DAY_MS, User};
use crate::people::roles::{May, Reach};
use crate::people::users::hands_in;
use crate::routes::{parse, read_json_if_any};
use crate::state::{AppState, now_ms};
use crate::text::clean;

/// For how long whoever made an account, or gave it its role or its password, may be the person who uses it.
const HANDS_DAYS: i64 = 7;

/// What somebody asks for.
pub(crate) struct Asked {
    pub(crate) what: Awaited,
    /// What the cap is to become, if that is asked.
    pub(crate) cap: u32,
    /// Whose failed runs are to go on, if that is asked; empty for those of all sites.
    pub(crate) site: String,
    /// How many machines it is about.
    pub(crate) machines: u32,
}

impl Asked {
    /// That machines begin a deployment, or go on with it.
    pub(crate) const fn resume(machines: u32) -> Self {
        Self {
            what: Awaited::Resume,
            cap: 0,
            site: String::new(),
            machines,
        }
    }
}

/// What awaits approval, and who asked.
struct Stored {
    asked: Asked,
    who: String,
    at_ms: i64,
}

impl AppState {
    /// Whether a second person must approve that a deployment does something to so many machines.
    pub(crate) async fn needs_second(
        &self,
        db: &mut AnyConnection,
        deployment: &Deployment,
        machines: u32,
    ) -> Result<bool, Failure> {
        let above = self.second_person_above();
        Ok(above > 0 && machines > above && wipes(db, deployment).await?)
    }

    /// Whether a second person must approve that so many runs go on together. They have the orders of the day they began, so
    /// it doesn't matter what the deployment says by now.
    pub(crate) fn too_many_go_on(&self, runs: u32) -> bool {
        let above = self.second_person_above();
        above > 0 && runs > above
    }

    /// Refuses what nobody has begin alone: what writes over disks, once it and what else they had begin within a day, whatever
    /// that did, are more machines than the server was told, all at once or one by one.
    pub(crate) async fn refuse_alone(
        &self,
        db: &mut AnyConnection,
        user: &User,
        deployment: &Deployment,
        devices: usize,
    ) -> Result<(), Failure> {
        let above = self.second_person_above();
        if above == 0 {
            return Ok(());
        }
        let earlier = begun_alone(db, user).await?;
        let all = earlier.saturating_add(number(devices));
        if !self.needs_second(db, deployment, all).await? {
            return Ok(());
        }
        let message = format!(
            "it writes over disks, and once one person had {above} runs begin within a day, whatever those did, nothing of the kind begins \
             by them alone; you had {earlier} begin"
        );
        Err(Failure::conflict("too-many-devices", message).hint(
            "make a required deployment for a collection of them: a second administrator approves that",
        ))
    }

    /// Every deployment that awaits approval, by name.
    pub(crate) async fn awaited(&self) -> Result<Vec<DeploymentName>, Failure> {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT deployment FROM deployment_approvals ORDER BY deployment")
                .fetch_all(self.db().read())
                .await
                .doing("read what awaits approval")?;
        let names = names
            .iter()
            .map(|name| stored_text("deployment name", name));
        names.collect()
    }
}

/// How many runs somebody had begin within the last day, by naming their machines.
async fn begun_alone(db: &mut AnyConnection, user: &User) -> Result<u32, Failure> {
    let begun: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM audit WHERE who = $1 AND at_ms >= $2 AND action IN ('run-started', 'run-rerun')",
    )
    .bind(&user.name)
    .bind(now_ms() - DAY_MS)
    .fetch_one(db)
    .await
    .doing("count what somebody had begin")?;
    Ok(u32::try_from(begun).unwrap_or(u32::MAX))
}

/// Notes what somebody asks for, until somebody else decides. Asked again, it is the newest that counts.
pub(crate) async fn ask(
    db: &mut Write,
    user: &User,
    name: &DeploymentName,
    asked: &Asked,
) -> Result<(), Failure> {
    if let Some(other) = look_up(db, name).await?
        && (other.asked.what != asked.what || other.asked.site != asked.site)
    {
        let message = format!("deployment {name} awaits approval of something else");
        return Err(Failure::conflict("awaits-approval", message).hint(format!(
            "have it approved or declined first: `forestage deployment status {name}`"
        )));
    }
    sqlx::query(
        "INSERT INTO deployment_approvals (deployment, what, cap, site, machines, who, at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (deployment) DO UPDATE SET what = excluded.what, \
         cap = excluded.cap, site = excluded.site, machines = excluded.machines, who = excluded.who, at_ms = excluded.at_ms",
    )
    .bind(name.as_str())
    .bind(asked.what.word())
    .bind(i64::from(asked.cap))
    .bind(&asked.site)
    .bind(i64::from(asked.machines))
    .bind(&user.name)
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("note what awaits approval")?;
    let detail = format!("{}, {} machines", asked.what.word(), asked.machines);
    audit(db, &user.name, "approval-requested", name.as_str(), &detail).await
}

/// Whether this awaits approval.
pub(crate) async fn awaits(
    db: &mut AnyConnection,
    name: &DeploymentName,
    what: Awaited,
) -> Result<bool, Failure> {
    let stored = look_up(db, name).await?;
    Ok(stored.is_some_and(|stored| stored.asked.what == what))
}

/// Nothing of this kind awaits approval any more.
async fn forget(db: &mut Write, name: &DeploymentName, what: Awaited) -> Result<(), Failure> {
    sqlx::query("DELETE FROM deployment_approvals WHERE deployment = $1 AND what = $2")
        .bind(name.as_str())
        .bind(what.word())
        .execute(&mut **db)
        .await
        .doing("forget what awaited approval")?;
    Ok(())
}

/// Drops what awaits approval, if it is such that something else overtook it. Whoever asked finds in the audit why it is gone.
pub(crate) async fn overtake(
    db: &mut Write,
    user: &User,
    name: &DeploymentName,
    is_overtaken: impl FnOnce(&Asked) -> bool + Send,
) -> Result<(), Failure> {
    let stored = look_up(db, name).await?;
    let Some(Stored { asked, who, .. }) = stored.filter(|stored| is_overtaken(&stored.asked))
    else {
        return Ok(());
    };
    forget(db, name, asked.what).await?;
    let detail = format!("{}, asked for by {who}", asked.what.word());
    audit(db, &user.name, "approval-overtaken", name.as_str(), &detail).await
}

/// What awaits approval, as people are told it.
pub(crate) async fn of(
    db: &mut AnyConnection,
    deployment: &Deployment,
) -> Result<Option<Approval>, Failure> {
    let Some(stored) = look_up(db, &deployment.name).await? else {
        return Ok(None);
    };
    Ok(Some(Approval {
        confirm: words(db, deployment, &stored.asked).await?,
        what: stored.asked.what,
        machines: stored.asked.machines,
        asked_by: stored.who,
        asked_at_ms: stored.at_ms,
    }))
}

/// `POST /api/v1/deployments/{name}/approve`: what was asked for is done.
pub(crate) async fn approve(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<DeploymentStatus>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let request: ApproveRequest = read_json_if_any(body, JSON_BYTES_MAX).await?;
    if user.is_scoped() {
        let message = "a token with scopes can't approve: that is for a person";
        return Err(
            Failure::refused(StatusCode::FORBIDDEN, "forbidden", message)
                .hint("approve it on the deployment's page, or after `forestage login`"),
        );
    }
    let mut db = state.db().write().await?;
    let deployment = find(&mut db, &name).await?;
    let Stored { asked, who, .. } = require(&mut db, &name).await?;
    if who == user.name {
        let message = "whoever asked for it can't approve it";
        return Err(
            Failure::refused(StatusCode::FORBIDDEN, "same-person", message)
                .hint("another administrator approves it; you can take it back"),
        );
    }
    let since = now_ms() - HANDS_DAYS * DAY_MS;
    let theirs = hands_in(&mut db, &who, since).await?;
    let ours = hands_in(&mut db, &user.name, since).await?;
    if let Some(hand) = ours.intersection(&theirs).next() {
        let message = format!(
            "{who} asked for it, and in the last {HANDS_DAYS} days {hand} made one of your two accounts, or gave it its role or \
             its password: you may be one person"
        );
        return Err(
            Failure::refused(StatusCode::FORBIDDEN, "same-person", message).hint(
                "an administrator approves it whose account is older, or comes from elsewhere",
            ),
        );
    }
    confirmed(
        &request.confirm,
        &words(&mut db, &deployment, &asked).await?,
    )?;
    forget(&mut db, &name, asked.what).await?;
    let detail = format!(
        "{}, {} machines, asked for by {who}",
        asked.what.word(),
        asked.machines
    );
    audit(
        &mut db,
        &user.name,
        "approval-given",
        name.as_str(),
        &detail,
    )
    .await?;
    let again = done(&mut db, &user, deployment, &asked).await?;
    commit(db).await?;
    tell(&state, &again);
    state.deployment_status(&user, &name).await.map(Json)
}

/// `POST /api/v1/deployments/{name}/decline`: by another administrator, or taken back by whoever asked.
pub(crate) async fn decline(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<DeploymentStatus>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let request: DeclineRequest = read_json_if_any(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    find(&mut db, &name).await?;
    let Stored { asked, who, .. } = require(&mut db, &name).await?;
    if who != user.name && !user.may(May::Deploy) {
        let message = "only an administrator declines what somebody else asked";
        return Err(
            Failure::refused(StatusCode::FORBIDDEN, "forbidden", message).hint(format!(
                "ask an administrator, or {who}, who can take it back"
            )),
        );
    }
    forget(&mut db, &name, asked.what).await?;
    let mut detail = format!("{}, asked for by {who}", asked.what.word());
    let reason = clean(&request.reason, TITLE_CHARS_MAX);
    if !reason.is_empty() {
        detail = format!("{detail}: {reason}");
    }
    audit(
        &mut db,
        &user.name,
        "approval-declined",
        name.as_str(),
        &detail,
    )
    .await?;
    commit(db).await?;
    state.deployment_status(&user, &name).await.map(Json)
}

/// Does what was asked for; the runs that go on.
async fn done(
    db: &mut Write,
    user: &User,
    mut deployment: Deployment,
    asked: &Asked,
) -> Result<Vec<(RunId, DeviceId)>, Failure> {
    match asked.what {
        Awaited::Resume => resumed(db, user, &mut deployment).await,
        Awaited::RaiseCap => {
            raised(db, user, &mut deployment, asked.cap).await?;
            Ok(Vec::new())
        }
        Awaited::RetryFailed => {
            let reach = reach_of(&asked.site);
            Ok(retried(db, user, &reach, &deployment).await?.0)
        }
    }
}

/// The words that approve it: how many machines it is about by now.
async fn words(
    db: &mut AnyConnection,
    deployment: &Deployment,
    asked: &Asked,
) -> Result<String, Failure> {
    let name = &deployment.name;
    let machines = match asked.what {
        Awaited::Resume => {
            let resumed = Deployment {
                stopped: false,
                ..deployment.clone()
            };
            if let Some(words) = to_confirm(db, &resumed).await? {
                return Ok(words);
            }
            asked.machines
        }
        Awaited::RaiseCap => asked.cap,
        Awaited::RetryFailed => number(failed_runs(db, name, &reach_of(&asked.site)).await?.len()),
    };
    Ok(format!("{name} {machines}"))
}

fn reach_of(site: &str) -> Reach {
    match site {
        "" => Reach::Everywhere,
        site => Reach::Site(site.to_owned()),
    }
}

async fn require(db: &mut AnyConnection, name: &DeploymentName) -> Result<Stored, Failure> {
    let stored = look_up(db, name).await?;
    stored.ok_or_else(|| {
        let message = format!("nothing about deployment {name} awaits approval");
        Failure::conflict("nothing-awaited", message)
            .hint("somebody may have decided already: the audit says who")
    })
}

async fn look_up(db: &mut AnyConnection, name: &DeploymentName) -> Result<Option<Stored>, Failure> {
    let row: Option<(String, i64, String, i64, String, i64)> = sqlx::query_as(
        "SELECT what, cap, site, machines, who, at_ms FROM deployment_approvals WHERE deployment = $1",
    )
    .bind(name.as_str())
    .fetch_optional(db)
    .await
    .doing("read what awaits approval")?;
    let Some((what, cap, site, machines, who, at_ms)) = row else {
        return Ok(None);
    };
    let count = |stored: i64| u32::try_from(stored).unwrap_or(u32::MAX);
    let asked = Asked {
        what: stored_text("kind of approval", &what)?,
        cap: count(cap),
        site,
        machines: count(machines),
    };
    Ok(Some(Stored { asked, who, at_ms }))
}
