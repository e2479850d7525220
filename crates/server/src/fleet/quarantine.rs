//! Quarantine: machines that are nobody yet, and what people decide about them. A decision is kept until the machine
//! asks again; see `runs::decided`, which carries it out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use serde::Deserialize;
use wire::facts::Facts;
use wire::names::DeviceId;
use wire::quarantine::{
    Candidate, DECIDED_MAX, Decide, Decision, Pending, QuarantineReason, QuarantineRow,
};
use wire::reasons::{AsideReason, Evidence, texts};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, all_said, said, stored, to_json};
use crate::fleet::identity::{Names, name_key, score, swapped, uuid_key};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::Reach;
use crate::routes::read_json;
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;

/// Assets that a machine may be, as many as are shown.
const CANDIDATES_SHOWN_MAX: usize = 5;

/// Hexadecimal digits of a MAC address.
const MAC_DIGITS: usize = 12;

/// What a machine calls itself.
pub(crate) fn names(facts: &Facts) -> Names {
    Names {
        serial: name_key(&facts.serial),
        uuid: facts.uuid.and_then(uuid_key),
        asset_tag: name_key(&facts.asset_tag),
        uuid_is_shared: false,
    }
}

#[derive(sqlx::FromRow)]
struct Stranger {
    id: String,
    device_key: String,
    facts: String,
    message: String,
    identity: String,
    reason: String,
    claims: String,
    first_seen_at_ms: i64,
    last_seen_at_ms: i64,
    seen_address: String,
    seen_site: String,
    decision: Option<String>,
    device: Option<String>,
    decided_by: Option<String>,
    decided_at_ms: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Record {
    id: String,
    serial: String,
    asset_tag: String,
    uuid: String,
    site: String,
    device_key: Option<String>,
}

/// The fleet by the names that machines are recognised by.
struct Records {
    records: Vec<Record>,
    by_serial: HashMap<String, usize>,
    by_uuid: HashMap<String, Vec<usize>>,
    by_tag: HashMap<String, Vec<usize>>,
    /// Assets by the MAC addresses that files name: a hint, never a proof.
    by_mac: HashMap<String, BTreeSet<usize>>,
}

impl Records {
    async fn load(connection: &mut sqlx::AnyConnection) -> Result<Self, Failure> {
        let records: Vec<Record> = sqlx::query_as(
            "SELECT devices.id, devices.serial, devices.asset_tag, devices.uuid, devices.site, device_keys.device_key \
             FROM devices LEFT JOIN device_keys ON device_keys.device = devices.id",
        )
        .fetch_all(&mut *connection)
        .await
        .doing("read the fleet")?;
        let macs: Vec<(String, String)> =
            sqlx::query_as("SELECT value, device FROM device_fields WHERE name = 'mac'")
                .fetch_all(&mut *connection)
                .await
                .doing("read the MAC addresses of the fleet")?;
        let mut all = Self {
            by_serial: HashMap::new(),
            by_uuid: HashMap::new(),
            by_tag: HashMap::new(),
            by_mac: HashMap::new(),
            records,
        };
        let mut macs_by_device: HashMap<String, String> = macs
            .into_iter()
            .map(|(cell, device)| (device, cell))
            .collect();
        for (at, record) in all.records.iter().enumerate() {
            if let Some(serial) = name_key(&record.serial) {
                all.by_serial.insert(serial, at);
            }
            if !record.uuid.is_empty() {
                all.by_uuid.entry(record.uuid.clone()).or_default().push(at);
            }
            if let Some(tag) = name_key(&record.asset_tag) {
                all.by_tag.entry(tag).or_default().push(at);
            }
            for mac in macs_of(
                macs_by_device
                    .remove(&record.id)
                    .as_deref()
                    .unwrap_or_default(),
            ) {
                all.by_mac.entry(mac).or_default().insert(at);
            }
        }
        Ok(all)
    }

    /// By device id or serial number.
    fn find(&self, text: &str, reach: &Reach) -> Result<&Record, Failure> {
        let serial = name_key(text).and_then(|serial| self.by_serial.get(&serial));
        let found = match serial {
            Some(at) => self.records.get(*at),
            None => self.records.iter().find(|record| record.id == text),
        };
        found
            .filter(|record| reach.covers(&record.site))
            .ok_or_else(|| Failure::not_found(format!("asset {text}")))
    }

    /// The likeliest first.
    fn candidates(&self, facts: &Facts, claims: &str, reach: &Reach) -> Vec<Candidate> {
        let machine = names(facts);
        let mut found: BTreeSet<usize> = BTreeSet::new();
        found.extend(machine.serial.iter().filter_map(|s| self.by_serial.get(s)));
        for uuid in machine.uuid.iter().flat_map(|uuid| [*uuid, swapped(*uuid)]) {
            found.extend(self.by_uuid.get(&uuid.to_string()).into_iter().flatten());
        }
        let tags = machine
            .asset_tag
            .iter()
            .filter_map(|tag| self.by_tag.get(tag));
        found.extend(tags.flatten());
        for mac in facts.network.iter().flat_map(|one| macs_of(&one.mac)) {
            found.extend(self.by_mac.get(&mac).into_iter().flatten());
        }
        found.extend(self.records.iter().position(|record| record.id == claims));
        let mut candidates: Vec<Candidate> = found
            .into_iter()
            .filter_map(|at| Some((at, self.records.get(at)?)))
            .filter(|(_, record)| reach.covers(&record.site))
            .map(|(at, record)| self.candidate(&machine, facts, at, record))
            .collect();
        // Of two with the same score, the one with more hints.
        candidates.sort_by(|a, b| {
            let order = (b.score, b.evidence.len()).cmp(&(a.score, a.evidence.len()));
            order.then(a.device.cmp(&b.device))
        });
        candidates.truncate(CANDIDATES_SHOWN_MAX);
        candidates
    }

    fn candidate(&self, machine: &Names, facts: &Facts, at: usize, record: &Record) -> Candidate {
        let uuid = record.uuid.parse().ok();
        let sharers = self.by_uuid.get(&record.uuid).map_or(0, Vec::len);
        let asset = Names {
            serial: name_key(&record.serial),
            uuid,
            asset_tag: name_key(&record.asset_tag),
            uuid_is_shared: sharers > 1,
        };
        let (score, mut evidence) = score(machine, &asset);
        for interface in &facts.network {
            let is_named = |mac| self.by_mac.get(&mac).is_some_and(|all| all.contains(&at));
            if macs_of(&interface.mac).into_iter().any(is_named) {
                let mac = interface.mac.clone();
                evidence.push(Evidence::Mac { mac });
            }
        }
        Candidate {
            device: record.id.clone(),
            serial: record.serial.clone(),
            asset_tag: record.asset_tag.clone(),
            site: record.site.clone(),
            score,
            evidence: texts(&evidence),
            said: evidence,
            is_bound: record.device_key.is_some(),
        }
    }
}

/// The MAC addresses in a cell, as they are compared: vendors write two or more into one, and each in their own way.
fn macs_of(cell: &str) -> Vec<String> {
    let words = cell.split(|c: char| !c.is_ascii_hexdigit() && !":-.".contains(c));
    let digits = words.map(|word| word.chars().filter(char::is_ascii_hexdigit));
    let keys = digits.map(|digits| digits.collect::<String>().to_lowercase());
    keys.filter(|key| key.len() == MAC_DIGITS && key.chars().any(|digit| digit != '0'))
        .collect()
}

/// All machines in quarantine that someone sees, by id: those who look after one site see who claims to be theirs, and
/// who asks from there.
async fn rows(
    connection: &mut sqlx::AnyConnection,
    records: &Records,
    reach: &Reach,
) -> Result<Vec<(QuarantineRow, Facts, String)>, Failure> {
    let strangers: Vec<Stranger> = sqlx::query_as(
        "SELECT strangers.id, strangers.device_key, facts, message, identity, reason, claims, first_seen_at_ms, \
         last_seen_at_ms, seen_address, seen_site, decision, device, decided_by, decided_at_ms FROM strangers \
         LEFT JOIN quarantine_decisions ON quarantine_decisions.device_key = strangers.device_key \
         ORDER BY last_seen_at_ms DESC, strangers.id",
    )
    .fetch_all(connection)
    .await
    .doing("read the quarantine")?;
    let mut rows = Vec::with_capacity(strangers.len());
    for stranger in strangers {
        let facts: Facts = stored("facts", &stranger.facts)?;
        let candidates = records.candidates(&facts, &stranger.claims, reach);
        let is_theirs = !candidates.is_empty()
            || (!stranger.seen_site.is_empty() && reach.covers(&stranger.seen_site));
        if *reach != Reach::Everywhere && !is_theirs {
            continue;
        }
        let key = stranger.device_key.clone();
        rows.push((row(stranger, &facts, candidates)?, facts, key));
    }
    Ok(rows)
}

fn row(
    stranger: Stranger,
    facts: &Facts,
    candidates: Vec<Candidate>,
) -> Result<QuarantineRow, Failure> {
    let reason = QuarantineReason::ALL
        .into_iter()
        .find(|reason| reason.word() == stranger.reason)
        .unwrap_or(QuarantineReason::Unknown);
    let decision = match stranger.decision {
        Some(decision) => Some(Pending {
            decision: stored("decision", &decision)?,
            device: stranger.device.filter(|device| !device.is_empty()),
            by: stranger.decided_by.unwrap_or_default(),
            at_ms: stranger.decided_at_ms.unwrap_or_default(),
        }),
        None => None,
    };
    let why: AsideReason = said(&stranger.message);
    let evidence: Vec<Evidence> = all_said("evidence", &stranger.identity)?;
    Ok(QuarantineRow {
        machine: stranger.id,
        key: stranger.device_key.chars().take(8).collect(),
        reason,
        message: why.to_string(),
        said: Some(why),
        evidence: texts(&evidence),
        evidence_said: evidence,
        vendor: facts.vendor.clone(),
        product: facts.product.clone(),
        serial: facts.serial.clone(),
        asset_tag: facts.asset_tag.clone(),
        uuid: facts.uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
        macs: facts.network.iter().map(|i| i.mac.clone()).collect(),
        first_seen_at_ms: if stranger.first_seen_at_ms > 0 {
            stranger.first_seen_at_ms
        } else {
            stranger.last_seen_at_ms
        },
        last_seen_at_ms: stranger.last_seen_at_ms,
        address: stranger.seen_address,
        seen_site: stranger.seen_site,
        candidates,
        decision,
    })
}

/// Everything in quarantine that someone sees.
pub(crate) async fn all(state: &AppState, user: &User) -> Result<Vec<QuarantineRow>, Failure> {
    let mut connection = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read the quarantine")?;
    let records = Records::load(&mut connection).await?;
    let rows = rows(&mut connection, &records, &user.reach).await?;
    Ok(rows.into_iter().map(|(row, ..)| row).collect())
}

/// Which machines are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Wanted {
    /// Only those that asked from this site; empty for all.
    pub(crate) site: String,
}

impl Wanted {
    pub(crate) fn matches(&self, row: &QuarantineRow) -> bool {
        self.site.is_empty() || row.seen_site == self.site
    }
}

/// `GET /api/v1/quarantine`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<QuarantineRow>>, Failure> {
    let mut rows = all(&state, &user).await?;
    rows.retain(|row| wanted.matches(row));
    Ok(Json(rows))
}

/// `POST /api/v1/quarantine/decide`
pub(crate) async fn decide(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<Vec<QuarantineRow>>, Failure> {
    let mut wish: Decide = read_json(body, JSON_BYTES_MAX).await?;
    if wish.machines.is_empty() || wish.machines.len() > DECIDED_MAX {
        let message = format!("a decision is about 1 to {DECIDED_MAX} machines");
        return Err(Failure::bad_request("bad-decision", message));
    }
    tidy(&mut wish.decision);
    let mut db = state.db().write().await?;
    let records = Records::load(&mut db).await?;
    let rows = rows(&mut db, &records, &user.reach).await?;
    let rows: BTreeMap<&str, &(QuarantineRow, Facts, String)> = rows
        .iter()
        .map(|row| (row.0.machine.as_str(), row))
        .collect();
    let mut targets = BTreeSet::new();
    for machine in &wish.machines {
        let (row, facts, key) = rows
            .get(machine.as_str())
            .copied()
            .ok_or_else(|| Failure::not_found(format!("machine {machine} in quarantine")))?;
        let device = target(&wish.decision, row, facts, &records, &user.reach)?;
        if let Some(device) = &device
            && !targets.insert(device.clone())
        {
            return Err(unfit(
                "two of these machines would be the same asset".into(),
            ));
        }
        let device = device.unwrap_or_default();
        check_site(&mut db, &wish.decision, &user.reach).await?;
        store(&mut db, key, &wish.decision, &device, &user).await?;
        let detail = format!("{} {device}", word(&wish.decision));
        audit(
            &mut db,
            &user.name,
            "quarantine-decided",
            machine,
            detail.trim(),
        )
        .await?;
    }
    commit(db).await?;
    for machine in wish.machines.iter().filter_map(|id| id.parse().ok()) {
        state.changed(Change::Device(machine));
    }
    let decided: BTreeSet<&String> = wish.machines.iter().collect();
    let mut rows = all(&state, &user).await?;
    rows.retain(|row| decided.contains(&row.machine));
    Ok(Json(rows))
}

fn tidy(decision: &mut Decision) {
    match decision {
        Decision::NewAsset { site, class } => {
            *site = clean(site, TITLE_CHARS_MAX);
            *class = clean(class, TITLE_CHARS_MAX);
        }
        Decision::Reject { reason } => *reason = clean(reason, TITLE_CHARS_MAX),
        Decision::IsAsset { .. } | Decision::ReplaceKey { .. } => {}
    }
}

/// The word for a decision.
pub(crate) const fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::IsAsset { .. } => "is-asset",
        Decision::NewAsset { .. } => "new-asset",
        Decision::ReplaceKey { .. } => "replace-key",
        Decision::Reject { .. } => "reject",
    }
}

fn unfit(message: String) -> Failure {
    Failure::conflict("bad-decision", message)
}

/// The device that a decision is about, if it can be carried out as things are.
fn target(
    decision: &Decision,
    row: &QuarantineRow,
    facts: &Facts,
    records: &Records,
    reach: &Reach,
) -> Result<Option<String>, Failure> {
    let serial = &row.serial;
    let (asset, replaces) = match decision {
        Decision::IsAsset { asset } => (asset, false),
        Decision::ReplaceKey { asset } => (asset, true),
        Decision::NewAsset { .. } => {
            let known = names(facts)
                .serial
                .and_then(|key| records.by_serial.get(&key).copied());
            return match known {
                Some(_) => Err(unfit(format!(
                    "an asset with serial number {serial} is there already"
                ))
                .hint("decide that the machine is this asset, or replace its key")),
                None => Ok(None),
            };
        }
        Decision::Reject { .. } => return Ok(None),
    };
    let record = match asset.as_deref().filter(|asset| !asset.is_empty()) {
        Some(asset) => records.find(asset, reach)?,
        None => {
            let best = match row.candidates.as_slice() {
                [best] => Some(best),
                [best, second, ..] if second.score < best.score => Some(best),
                _ => None,
            };
            let best = best.ok_or_else(|| {
                unfit(format!("machine {serial:?} has no single best candidate"))
                    .hint("say which asset it is")
            })?;
            records.find(&best.device, reach)?
        }
    };
    if record.device_key.is_some() && !replaces {
        return Err(unfit(format!("{} is bound to another key", record.serial))
            .hint("decide to replace its key, if its disk or mainboard was replaced"));
    }
    Ok(Some(record.id.clone()))
}

async fn check_site(db: &mut Write, decision: &Decision, reach: &Reach) -> Result<(), Failure> {
    let Decision::NewAsset { site, .. } = decision else {
        return Ok(());
    };
    let known: Option<String> = sqlx::query_scalar("SELECT code FROM sites WHERE code = $1")
        .bind(site)
        .fetch_optional(&mut **db)
        .await
        .doing("look up a site")?;
    if !reach.covers(site) || (known.is_none() && !site.is_empty()) {
        return Err(Failure::not_found(format!("site {site}")));
    }
    Ok(())
}

async fn store(
    db: &mut Write,
    key: &str,
    decision: &Decision,
    device: &str,
    user: &User,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO quarantine_decisions (device_key, decision, device, decided_by, decided_at_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (device_key) DO UPDATE SET decision = excluded.decision, \
         device = excluded.device, decided_by = excluded.decided_by, decided_at_ms = excluded.decided_at_ms",
    )
    .bind(key)
    .bind(to_json("write a decision", decision)?)
    .bind(device)
    .bind(&user.name)
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("store a decision")?;
    Ok(())
}

/// `POST /api/v1/quarantine/{machine}/undo`
pub(crate) async fn undo(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(machine): Path<String>,
) -> Result<Json<QuarantineRow>, Failure> {
    let gone = || Failure::not_found(format!("decision about machine {machine}"));
    let mut row = all(&state, &user)
        .await?
        .into_iter()
        .find(|row| row.machine == machine)
        .ok_or_else(gone)?;
    let mut db = state.db().write().await?;
    let deleted = sqlx::query(
        "DELETE FROM quarantine_decisions WHERE device_key IN (SELECT device_key FROM strangers WHERE id = $1)",
    )
    .bind(&machine)
    .execute(&mut *db)
    .await
    .doing("take a decision back")?;
    if deleted.rows_affected() == 0 {
        return Err(gone().hint("the machine may have acted on it already"));
    }
    audit(&mut db, &user.name, "quarantine-undecided", &machine, "").await?;
    commit(db).await?;
    if let Ok(id) = machine.parse::<DeviceId>() {
        state.changed(Change::Device(id));
    }
    row.decision = None;
    Ok(Json(row))
}
