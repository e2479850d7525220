//! Who is in a collection, and why. One rule for lists, previews, plans and orders, evaluated when it is asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use sequence::expression::Condition;
use sqlx::{AnyConnection, AssertSqlSafe};
use wire::admin_api::CollectionRow;
use wire::assets::AssetState;
use wire::collections::{CollectionRule, LIMITS_DEEP_MAX, MemberWhy};
use wire::names::{CollectionName, DeviceId};
use wire::reasons::MemberReason;

use crate::db::only;
use crate::error::{Doing as _, Failure, said, stored_text, to_json};
use crate::fleet::targeting::rules::{self, Subject};
use crate::state::now_ms;

/// How old a *count* of members may be when a machine begins; who is in is never older than the question.
const COUNTS_LIVE_MS: i64 = 5000;

/// A collection besides its lists.
struct Definition {
    rule: Option<Condition>,
    limit_to: Option<CollectionName>,
}

/// All collections, with their lists for one device or for all.
pub(crate) struct Definitions {
    collections: BTreeMap<CollectionName, Definition>,
    direct: HashMap<String, HashSet<String>>,
    excluded: HashMap<String, HashMap<String, String>>,
    /// Devices that are retired or stolen, and which: they are in no collection.
    out_of_use: HashMap<String, MemberReason>,
}

/// Whether a device is in, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) is_in: bool,
    pub(crate) why: MemberWhy,
    pub(crate) reason: MemberReason,
}

impl Verdict {
    fn new(why: MemberWhy, reason: MemberReason) -> Self {
        Self {
            is_in: matches!(why, MemberWhy::Direct | MemberWhy::Rule),
            why,
            reason,
        }
    }
}

impl Definitions {
    /// Reads them; lists only of this device, if one is named.
    pub(crate) async fn read(
        db: &mut AnyConnection,
        device: Option<&str>,
    ) -> Result<Self, Failure> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT name, rule, limit_to FROM collections ORDER BY name")
                .fetch_all(&mut *db)
                .await
                .doing("read the collections")?;
        let mut collections = BTreeMap::new();
        for (name, rule, limit_to) in rows {
            let name: CollectionName = stored_text("collection name", &name)?;
            collections.insert(name, definition(&rule, &limit_to)?);
        }
        let which = only("device", device);
        let members: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT collection, device FROM collection_members WHERE {which}"
        )))
        .bind(device.unwrap_or_default())
        .fetch_all(&mut *db)
        .await
        .doing("read the members of collections")?;
        let kept_out: Vec<(String, String, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT collection, device, reason FROM collection_excluded WHERE {which}"
        )))
        .bind(device.unwrap_or_default())
        .fetch_all(&mut *db)
        .await
        .doing("read who is kept out of collections")?;
        let mut direct: HashMap<String, HashSet<String>> = HashMap::new();
        for (collection, device) in members {
            direct.entry(collection).or_default().insert(device);
        }
        let mut excluded: HashMap<String, HashMap<String, String>> = HashMap::new();
        for (collection, device, reason) in kept_out {
            excluded
                .entry(collection)
                .or_default()
                .insert(device, reason);
        }
        let out_of_use: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT id, asset_state FROM devices WHERE asset_state <> 'in-use' AND {}",
            only("id", device)
        )))
        .bind(device.unwrap_or_default())
        .fetch_all(&mut *db)
        .await
        .doing("read which devices are out of use")?;
        Ok(Self {
            collections,
            direct,
            excluded,
            out_of_use: out_of_use
                .into_iter()
                .map(|(device, state)| (device, out_of_use_as(&state)))
                .collect(),
        })
    }

    /// The same with another rule for one collection, for a preview.
    pub(crate) fn supposing(
        mut self,
        name: &CollectionName,
        rule: &CollectionRule,
    ) -> Result<Self, Failure> {
        self.check_limit(name, &rule.limit_to)?;
        rules::parse(&rule.rule)?;
        self.collections
            .insert(name.clone(), definition(&rule.rule, &rule.limit_to)?);
        Ok(self)
    }

    /// A limiting collection must exist, and the chain of them must end.
    fn check_limit(&self, name: &CollectionName, limit_to: &str) -> Result<(), Failure> {
        if limit_to.is_empty() {
            return Ok(());
        }
        let mut next = Some(crate::routes::parse::<CollectionName>(limit_to)?);
        let mut deep = 0;
        while let Some(limit) = next {
            if limit == *name || deep == LIMITS_DEEP_MAX {
                return Err(Failure::bad_request(
                    "bad-limit",
                    format!(
                        "collection {name} can't be limited by {limit_to}: that would go round, or be more than {LIMITS_DEEP_MAX} deep"
                    ),
                ));
            }
            let definition = self.collections.get(&limit).ok_or_else(|| {
                Failure::not_found(format!("collection {limit}")).hint("create it first")
            })?;
            next = definition.limit_to.clone();
            deep += 1;
        }
        Ok(())
    }

    /// Whether there is such a collection.
    pub(crate) fn knows(&self, name: &CollectionName) -> bool {
        self.collections.contains_key(name)
    }

    /// Whether lists alone decide, so that no device has to be looked at.
    fn are_lists(&self) -> bool {
        let mut all = self.collections.values();
        all.all(|definition| definition.rule.is_none() && definition.limit_to.is_none())
    }

    fn by_list(&self) -> BTreeMap<String, BTreeSet<CollectionName>> {
        let mut of_all: BTreeMap<String, BTreeSet<CollectionName>> = BTreeMap::new();
        for name in self.names() {
            let excluded = self.excluded.get(name.as_str());
            for device in self.direct.get(name.as_str()).into_iter().flatten() {
                let is_excluded = excluded.is_some_and(|list| list.contains_key(device));
                if !is_excluded && !self.out_of_use.contains_key(device) {
                    of_all
                        .entry(device.clone())
                        .or_default()
                        .insert(name.clone());
                }
            }
        }
        of_all
    }

    /// All names.
    pub(crate) fn names(&self) -> impl Iterator<Item = &CollectionName> {
        self.collections.keys()
    }

    /// Whether `device` is in, and why.
    pub(crate) fn judge(&self, name: &CollectionName, device: &Subject) -> Verdict {
        self.judge_within(name, device, LIMITS_DEEP_MAX)
    }

    fn judge_within(&self, name: &CollectionName, device: &Subject, deeper: usize) -> Verdict {
        let id = device.device.id.as_str();
        let Some(definition) = self.collections.get(name) else {
            return Verdict::new(MemberWhy::NoMatch, MemberReason::NoCollection);
        };
        if let Some(reason) = self
            .excluded
            .get(name.as_str())
            .and_then(|list| list.get(id))
        {
            return Verdict::new(MemberWhy::Excluded, said(reason));
        }
        let is_direct = self
            .direct
            .get(name.as_str())
            .is_some_and(|list| list.contains(id));
        let found = match &definition.rule {
            _ if is_direct => Verdict::new(MemberWhy::Direct, MemberReason::Direct),
            None => Verdict::new(MemberWhy::NoMatch, MemberReason::NothingPutsIn),
            Some(rule) => match rule.is_true(&device.scope) {
                Ok(true) => Verdict::new(MemberWhy::Rule, MemberReason::RuleFits),
                Ok(false) => Verdict::new(MemberWhy::NoMatch, MemberReason::RuleDoesNotFit),
                Err(error) => {
                    let error = error.to_string();
                    Verdict::new(MemberWhy::Undecided, MemberReason::Undecided { error })
                }
            },
        };
        if let Some(state) = self.out_of_use.get(id).filter(|_| found.is_in) {
            return Verdict::new(MemberWhy::OutOfUse, state.clone());
        }
        match &definition.limit_to {
            Some(limit) if found.is_in => {
                let is_inside = deeper > 0 && self.judge_within(limit, device, deeper - 1).is_in;
                if is_inside {
                    found
                } else {
                    let collection = limit.to_string();
                    Verdict::new(MemberWhy::Limited, MemberReason::Limited { collection })
                }
            }
            _ => found,
        }
    }

    /// The collections that a device is in.
    pub(crate) fn of(&self, device: &Subject) -> BTreeSet<CollectionName> {
        self.names()
            .filter(|name| self.judge(name, device).is_in)
            .cloned()
            .collect()
    }
}

fn out_of_use_as(state: &str) -> MemberReason {
    if state == AssetState::Stolen.word() {
        MemberReason::Stolen
    } else {
        MemberReason::Retired
    }
}

fn definition(rule: &str, limit_to: &str) -> Result<Definition, Failure> {
    Ok(Definition {
        // A stored rule that this release can't read brings nobody in; it is shown as wrong where it is edited.
        rule: rules::parse(rule).ok().flatten(),
        limit_to: match limit_to {
            "" => None,
            name => Some(stored_text("collection name", name)?),
        },
    })
}

/// The collections that one device is in.
pub(crate) async fn of_device(
    db: &mut AnyConnection,
    device: &str,
) -> Result<BTreeSet<CollectionName>, Failure> {
    let definitions = Definitions::read(db, Some(device)).await?;
    if definitions.are_lists() {
        return Ok(definitions.by_list().remove(device).unwrap_or_default());
    }
    let subjects = rules::subjects(db, Some(device)).await?;
    Ok(subjects
        .first()
        .map(|subject| definitions.of(subject))
        .unwrap_or_default())
}

/// The collections of every device, by device id.
pub(crate) async fn of_all(
    db: &mut AnyConnection,
) -> Result<BTreeMap<String, BTreeSet<CollectionName>>, Failure> {
    let definitions = Definitions::read(db, None).await?;
    if definitions.are_lists() {
        return Ok(definitions.by_list());
    }
    let subjects = rules::subjects(db, None).await?;
    Ok(subjects
        .iter()
        .map(|subject| (subject.device.id.clone(), definitions.of(subject)))
        .collect())
}

/// Few devices are looked at one by one; more of them all at once.
const SINGLY_MAX: usize = 50;

/// The collections of these devices (or of all), by device id; others may be among them.
pub(crate) async fn of_some(
    db: &mut AnyConnection,
    ids: Option<&[DeviceId]>,
) -> Result<BTreeMap<String, BTreeSet<CollectionName>>, Failure> {
    let definitions = Definitions::read(db, None).await?;
    if definitions.are_lists() {
        return Ok(definitions.by_list());
    }
    let mut subjects = Vec::new();
    match ids.filter(|ids| ids.len() <= SINGLY_MAX) {
        None => subjects = rules::subjects(db, None).await?,
        Some(ids) => {
            for id in ids {
                subjects.extend(rules::subjects(db, Some(&id.to_string())).await?);
            }
        }
    }
    Ok(subjects
        .iter()
        .map(|subject| (subject.device.id.clone(), definitions.of(subject)))
        .collect())
}

/// Every collection with the number of members that `sees` says yes to, by the site they belong to and the one where they are.
pub(crate) async fn collection_rows(
    db: &mut AnyConnection,
    sees: &(dyn Fn((&str, &str)) -> bool + Sync),
) -> Result<Vec<CollectionRow>, Failure> {
    let titles: Vec<(String, String)> =
        sqlx::query_as("SELECT name, title FROM collections ORDER BY name")
            .fetch_all(&mut *db)
            .await
            .doing("read the collections")?;
    let sites: Vec<(String, String, String)> =
        sqlx::query_as("SELECT id, site, seen_site FROM devices")
            .fetch_all(&mut *db)
            .await
            .doing("read the sites of devices")?;
    let seen: HashSet<String> = sites
        .into_iter()
        .filter(|(_, site, seen)| sees((site, seen)))
        .map(|(id, ..)| id)
        .collect();
    let mut counts: BTreeMap<CollectionName, u32> = BTreeMap::new();
    for (device, collections) in of_all(db).await? {
        for name in collections.into_iter().filter(|_| seen.contains(&device)) {
            *counts.entry(name).or_insert(0) += 1;
        }
    }
    titles
        .into_iter()
        .map(|(name, title)| {
            let name: CollectionName = stored_text("collection name", &name)?;
            let members = counts.get(&name).copied().unwrap_or(0);
            Ok(CollectionRow {
                name,
                title,
                members,
            })
        })
        .collect()
}

/// The ids of the members of a collection.
pub(crate) async fn members(
    db: &mut AnyConnection,
    name: &CollectionName,
) -> Result<BTreeSet<String>, Failure> {
    let definitions = Definitions::read(db, None).await?;
    if definitions.are_lists() {
        let of_all = definitions.by_list().into_iter();
        let members = of_all.filter(|(_, collections)| collections.contains(name));
        return Ok(members.map(|(device, _)| device).collect());
    }
    let subjects = rules::subjects(db, None).await?;
    Ok(subjects
        .into_iter()
        .filter(|subject| definitions.judge(name, subject).is_in)
        .map(|subject| subject.device.id)
        .collect())
}

/// The ids of the members of a collection that must exist.
pub(crate) async fn require_members(
    db: &mut AnyConnection,
    name: &CollectionName,
) -> Result<BTreeSet<String>, Failure> {
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM collections WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(&mut *db)
        .await
        .doing("look up a collection")?;
    match known {
        Some(_) => members(db, name).await,
        None => Err(Failure::not_found(format!("collection {name}")).hint("create it first")),
    }
}

/// Takes a device out: of the list, and out of what a rule says, too.
pub(crate) async fn take_out(
    db: &mut AnyConnection,
    name: &CollectionName,
    device: &str,
    reason: &MemberReason,
) -> Result<(), Failure> {
    sqlx::query("DELETE FROM collection_members WHERE collection = $1 AND device = $2")
        .bind(name.as_str())
        .bind(device)
        .execute(&mut *db)
        .await
        .doing("take a device out of a collection")?;
    let rule: Option<String> = sqlx::query_scalar("SELECT rule FROM collections WHERE name = $1")
        .bind(name.as_str())
        .fetch_optional(&mut *db)
        .await
        .doing("read the rule of a collection")?;
    match rule.as_deref() {
        None | Some("") => Ok(()),
        Some(_) => exclude(db, name, device, reason).await,
    }
}

/// Keeps a device out, whatever else says that it is in.
pub(crate) async fn exclude(
    db: &mut AnyConnection,
    name: &CollectionName,
    device: &str,
    reason: &MemberReason,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO collection_excluded (collection, device, reason, at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (collection, device) DO UPDATE SET reason = excluded.reason, at_ms = excluded.at_ms",
    )
    .bind(name.as_str())
    .bind(device)
    .bind(to_json("write why a device is kept out", reason)?)
    .bind(now_ms())
    .execute(db)
    .await
    .doing("keep a device out of a collection")?;
    Ok(())
}

/// Lifts what keeps a device out.
pub(crate) async fn lift(
    db: &mut AnyConnection,
    name: &CollectionName,
    device: &str,
) -> Result<(), Failure> {
    sqlx::query("DELETE FROM collection_excluded WHERE collection = $1 AND device = $2")
        .bind(name.as_str())
        .bind(device)
        .execute(db)
        .await
        .doing("let a device into a collection again")?;
    Ok(())
}

/// Puts a device in by hand, which also lifts what kept it out.
pub(crate) async fn put_in(
    db: &mut AnyConnection,
    name: &CollectionName,
    device: &str,
) -> Result<(), Failure> {
    lift(db, name, device).await?;
    sqlx::query(
        "INSERT INTO collection_members (collection, device) VALUES ($1, $2) \
         ON CONFLICT (collection, device) DO NOTHING",
    )
    .bind(name.as_str())
    .bind(device)
    .execute(db)
    .await
    .doing("put a device into a collection")?;
    Ok(())
}

/// Members of a collection, and when that was found out.
type Found = (i64, Arc<BTreeSet<String>>);

/// Members of collections as of some seconds ago, for counts that are asked for by every machine that begins.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<CollectionName, Found>>);

impl Cache {
    /// The members, not older than some seconds.
    pub(crate) async fn members(
        &self,
        db: &mut AnyConnection,
        name: &CollectionName,
    ) -> Result<Arc<BTreeSet<String>>, Failure> {
        let now = now_ms();
        if let Some((at, members)) = self.lock().get(name)
            && (0..COUNTS_LIVE_MS).contains(&(now - at))
        {
            return Ok(Arc::clone(members));
        }
        let members = Arc::new(members(db, name).await?);
        self.lock()
            .insert(name.clone(), (now, Arc::clone(&members)));
        Ok(members)
    }

    /// Forgets all of it, after a change of collections.
    pub(crate) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CollectionName, Found>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
