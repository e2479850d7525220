//! Rules of collections for the admin API: stored, tried out, and why a device is in or out.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use sqlx::AnyConnection;
use wire::collections::{
    CollectionPreview, CollectionRule, DEVICES_MAX, ExclusionChange, MemberWhy, Membership,
    RuleChange,
};
use wire::names::{CollectionName, DeviceId};
use wire::reasons::MemberReason;

use crate::db::commit;
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::membership::{self, Definitions, Verdict};
use crate::fleet::targeting::rules::{self, Subject};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::routes::{parse, read_json};
use crate::state::{AppState, Change};
use crate::text::clean;

/// Devices in a preview unless more are asked for.
const PREVIEWED: usize = 200;

/// What a preview supposes; without any of it, what is stored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Supposed {
    #[serde(default)]
    rule: Option<String>,
    #[serde(default)]
    limit_to: Option<String>,
    /// Devices to name, at most.
    #[serde(default)]
    limit: Option<usize>,
}

/// `GET /api/v1/collections/{name}/rule`
pub(crate) async fn get(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<Json<CollectionRule>, Failure> {
    state.collection_rule(&parse(&name)?).await.map(Json)
}

/// `PUT /api/v1/collections/{name}/rule`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<CollectionPreview>, Failure> {
    let name: CollectionName = parse(&name)?;
    let change: RuleChange = read_json(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let rule = changed(stored(&mut db, &name).await?, change);
    let definitions = Definitions::read(&mut db, None).await?;
    definitions.supposing(&name, &rule)?;
    sqlx::query("UPDATE collections SET rule = $1, limit_to = $2 WHERE name = $3")
        .bind(&rule.rule)
        .bind(&rule.limit_to)
        .bind(name.as_str())
        .execute(&mut *db)
        .await
        .doing("store the rule of a collection")?;
    let detail = format!("rule {:?}, limited to {:?}", rule.rule, rule.limit_to);
    audit(&mut db, &user.name, "rule-stored", name.as_str(), &detail).await?;
    commit(db).await?;
    state.members().forget();
    let preview = state
        .collection_preview(&user.reach, &name, None, PREVIEWED)
        .await?;
    // Whoever left by it is told of, too.
    for device in state.stored_devices().await? {
        state.changed(Change::Device(stored_text("device id", &device.id)?));
    }
    Ok(Json(preview))
}

/// `GET /api/v1/collections/{name}/preview`
pub(crate) async fn preview(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(supposed): Query<Supposed>,
) -> Result<Json<CollectionPreview>, Failure> {
    let name: CollectionName = parse(&name)?;
    let limit = supposed.limit.unwrap_or(PREVIEWED).min(DEVICES_MAX);
    let change = RuleChange {
        rule: supposed.rule,
        limit_to: supposed.limit_to,
    };
    let rule = match change == RuleChange::default() {
        true => None,
        false => Some(changed(state.collection_rule(&name).await?, change)),
    };
    state
        .collection_preview(&user.reach, &name, rule, limit)
        .await
        .map(Json)
}

/// `POST /api/v1/collections/{name}/excluded`
pub(crate) async fn exclude(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<CollectionPreview>, Failure> {
    let name: CollectionName = parse(&name)?;
    let change: ExclusionChange = read_json(body, JSON_BYTES_MAX).await?;
    if change.exclude.len() + change.include.len() > DEVICES_MAX {
        let message = format!("at most {DEVICES_MAX} devices are changed at once");
        return Err(Failure::bad_request("too-many-devices", message));
    }
    let who = user.name.clone();
    let reason = match clean(&change.reason, TITLE_CHARS_MAX) {
        none if none.is_empty() => MemberReason::KeptOut { who },
        reason => MemberReason::KeptOutBecause { reason, who },
    };
    let mut db = state.db().write().await?;
    require(&Definitions::read(&mut db, None).await?, &name)?;
    for device in &change.exclude {
        state.own_device_in(&user, &mut db, *device).await?;
        membership::exclude(&mut db, &name, &device.to_string(), &reason).await?;
    }
    for device in &change.include {
        state.own_device_in(&user, &mut db, *device).await?;
        membership::lift(&mut db, &name, &device.to_string()).await?;
    }
    let detail = format!(
        "{} kept out, {} let in: {reason}",
        change.exclude.len(),
        change.include.len()
    );
    audit(
        &mut db,
        &user.name,
        "exclusions-changed",
        name.as_str(),
        &detail,
    )
    .await?;
    commit(db).await?;
    state.members().forget();
    for device in change.exclude.iter().chain(&change.include) {
        state.changed(Change::Device(*device));
    }
    state
        .collection_preview(&user.reach, &name, None, PREVIEWED)
        .await
        .map(Json)
}

/// What the rule becomes; what isn't changed stays.
fn changed(stored: CollectionRule, change: RuleChange) -> CollectionRule {
    let tidy = |change: Option<String>, stored| change.map_or(stored, |text| text.trim().into());
    CollectionRule {
        rule: tidy(change.rule, stored.rule),
        limit_to: tidy(change.limit_to, stored.limit_to),
    }
}

async fn stored(db: &mut AnyConnection, name: &CollectionName) -> Result<CollectionRule, Failure> {
    let found: Option<(String, String)> =
        sqlx::query_as("SELECT rule, limit_to FROM collections WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(db)
            .await
            .doing("read the rule of a collection")?;
    let (rule, limit_to) = found.ok_or_else(|| Failure::not_found(format!("collection {name}")))?;
    Ok(CollectionRule { rule, limit_to })
}

fn require(definitions: &Definitions, name: &CollectionName) -> Result<(), Failure> {
    if definitions.knows(name) {
        Ok(())
    } else {
        Err(Failure::not_found(format!("collection {name}")))
    }
}

impl AppState {
    /// The stored rule.
    ///
    /// # Errors
    /// If there is no such collection, or the database fails.
    pub async fn collection_rule(&self, name: &CollectionName) -> Result<CollectionRule, Failure> {
        let reading = self.db().read().acquire().await;
        let mut db = reading.doing("read the rule of a collection")?;
        stored(&mut db, name).await
    }

    /// Who is in and why, with another rule if one is given; `limit` devices are named.
    ///
    /// # Errors
    /// If there is no such collection, the rule is wrong, or the database fails.
    pub async fn collection_preview(
        &self,
        reach: &Reach,
        name: &CollectionName,
        supposed: Option<CollectionRule>,
        limit: usize,
    ) -> Result<CollectionPreview, Failure> {
        let rule = match &supposed {
            Some(rule) => rule.clone(),
            None => self.collection_rule(name).await?,
        };
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read the collections")?;
        let mut definitions = Definitions::read(&mut db, None).await?;
        if let Some(rule) = &supposed {
            definitions = definitions.supposing(name, rule)?;
        }
        let subjects = rules::subjects(&mut db, None).await?;
        drop(db);
        let mut judged: Vec<(Subject, Verdict)> = subjects
            .into_iter()
            .filter(|subject| reach.covers(&subject.device.site))
            .map(|subject| {
                let verdict = definitions.judge(name, &subject);
                (subject, verdict)
            })
            .filter(|(_, verdict)| verdict.why != MemberWhy::NoMatch)
            .collect();
        let count = |why: MemberWhy| {
            let devices = judged
                .iter()
                .filter(|(_, verdict)| verdict.why == why)
                .count();
            u32::try_from(devices).unwrap_or(u32::MAX)
        };
        let (by_rule, direct) = (count(MemberWhy::Rule), count(MemberWhy::Direct));
        let (excluded, limited) = (count(MemberWhy::Excluded), count(MemberWhy::Limited));
        let undecided = count(MemberWhy::Undecided);
        // Members first, then what keeps others out.
        judged.sort_by_key(|(_, verdict)| verdict.why);
        judged.truncate(limit);
        let devices = judged
            .into_iter()
            .map(|(subject, verdict)| named(subject, verdict))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(CollectionPreview {
            name: name.clone(),
            rule,
            members: by_rule + direct,
            by_rule,
            excluded,
            limited,
            undecided,
            devices,
        })
    }
}

fn named(subject: Subject, verdict: Verdict) -> Result<Membership, Failure> {
    let device: DeviceId = stored_text("device id", &subject.device.id)?;
    Ok(Membership {
        device,
        model: subject.device.model().to_string(),
        serial: subject.device.serial,
        site: subject.device.site,
        class: subject.device.class,
        is_in: verdict.is_in,
        why: verdict.why,
        reason: verdict.reason.to_string(),
        said: Some(verdict.reason),
    })
}
