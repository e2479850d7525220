//! Sites for the admin API, and where machines are seen.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use ipnet::IpNet;
use sqlx::AnyConnection;
use wire::admin_api::DeviceRow;
use wire::names::DeviceId;
use wire::sites::{
    MOVES_MAX, MisplacedDevice, SLOTS_MAX, SUBNETS_MAX, SiteChange, SiteDetail, SiteMove,
    SiteMoved, SiteRow, WaitingDevice,
};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::targeting::{queue, subnets};
use crate::fleet::version::fleet_changes;
use crate::limits::{ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX, STALLED_AFTER, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::{User, millis};
use crate::people::roles::Reach;
use crate::routes::read_json;
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, Change, now_ms};
use crate::text::clean;

/// A site as stored: code, name, slots, expected seconds, time zone.
type Stored = (String, String, i64, i64, String);

/// `GET /api/v1/sites`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<SiteRow>>, Failure> {
    state.site_rows(&user.reach).await.map(Json)
}

/// `GET /api/v1/sites/{code}`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(code): Path<String>,
) -> Result<Json<SiteDetail>, Failure> {
    state.site_detail(&user.reach, &code).await.map(Json)
}

/// `PUT /api/v1/sites/{code}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(code): Path<String>,
    body: Body,
) -> Result<Json<SiteDetail>, Failure> {
    let code = site_code(&code)?;
    let change: SiteChange = read_json(body, JSON_BYTES_MAX).await?;
    check(&change)?;
    let mut db = state.db().write().await?;
    sqlx::query("INSERT INTO sites (code, name) VALUES ($1, $2) ON CONFLICT (code) DO NOTHING")
        .bind(&code)
        .bind(&code)
        .execute(&mut *db)
        .await
        .doing("store a site")?;
    store(&mut db, &code, &change).await?;
    audit(
        &mut db,
        &user.name,
        "site-stored",
        &code,
        &in_words(&change),
    )
    .await?;
    commit(db).await?;
    state.site_detail(&user.reach, &code).await.map(Json)
}

/// `DELETE /api/v1/sites/{code}`: a site that no device belongs to.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(code): Path<String>,
) -> Result<Json<SiteRow>, Failure> {
    let row = state.site_detail(&user.reach, &code).await?.site;
    let mut db = state.db().write().await?;
    let devices: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM devices WHERE site = $1")
        .bind(&code)
        .fetch_one(&mut *db)
        .await
        .doing("count the devices of a site")?;
    let classes: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM classes WHERE site = $1")
        .bind(&code)
        .fetch_one(&mut *db)
        .await
        .doing("count the classes of a site")?;
    if devices + classes > 0 {
        let message = format!("{devices} devices and {classes} classes belong to site {code}");
        return Err(Failure::conflict("in-use", message).hint("give them another site first"));
    }
    for sql in [
        "DELETE FROM site_subnets WHERE site = $1",
        "DELETE FROM secrets WHERE site = $1",
        "UPDATE devices SET seen_site = '' WHERE seen_site = $1",
        "DELETE FROM sites WHERE code = $1",
    ] {
        sqlx::query(sql)
            .bind(&code)
            .execute(&mut *db)
            .await
            .doing("remove a site")?;
    }
    audit(&mut db, &user.name, "site-removed", &code, "").await?;
    commit(db).await?;
    Ok(Json(row))
}

/// `POST /api/v1/devices/move-to-seen-site`
pub(crate) async fn move_to_seen(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<SiteMoved>, Failure> {
    let wanted: SiteMove = read_json(body, JSON_BYTES_MAX).await?;
    if wanted.devices.len() > MOVES_MAX {
        return Err(Failure::bad_request(
            "too-many-devices",
            format!("at most {MOVES_MAX} devices are moved at once"),
        ));
    }
    let mut answer = SiteMoved::default();
    let mut moved = Vec::new();
    let mut db = state.db().write().await?;
    for device in wanted.devices {
        let StoredDevice {
            site,
            seen_site: seen,
            ..
        } = state.own_device_in(&user, &mut db, device).await?;
        if seen.is_empty() || seen == site {
            answer.unmoved += 1;
            continue;
        }
        sqlx::query("UPDATE devices SET site = seen_site WHERE id = $1")
            .bind(device.to_string())
            .execute(&mut *db)
            .await
            .doing("move a device to another site")?;
        let detail = format!("from {site} to {seen}");
        audit(
            &mut db,
            &user.name,
            "site-changed",
            &device.to_string(),
            &detail,
        )
        .await?;
        answer.moved += 1;
        moved.push(device);
    }
    fleet_changes(&mut db).await?;
    commit(db).await?;
    for device in moved {
        state.changed(Change::Device(device));
    }
    Ok(Json(answer))
}

/// Notes where a machine checks in from. An address that no site has takes nothing back: a machine in the wrong subnet
/// is still where it was.
pub(crate) async fn note_seen(
    db: &mut Write,
    device: DeviceId,
    address: Option<IpAddr>,
) -> Result<(), Failure> {
    if address.is_none() {
        return Ok(());
    }
    let (address, site) = seen_from(db, address).await?;
    sqlx::query(
        "UPDATE devices SET seen_address = $1, seen_site = CASE WHEN $2 = '' THEN seen_site ELSE $2 END WHERE id = $3",
    )
    .bind(address)
    .bind(site)
    .bind(device.to_string())
    .execute(&mut **db)
    .await
    .doing("note where a machine is")?;
    Ok(())
}

/// The address as a text, and the site that has it; empty for what isn't known.
pub(crate) async fn seen_from(
    db: &mut Write,
    address: Option<IpAddr>,
) -> Result<(String, String), Failure> {
    let Some(address) = address else {
        return Ok(Default::default());
    };
    let subnets = all_subnets(db).await?;
    let site = subnets::site_of(address, &subnets).unwrap_or_default();
    Ok((address.to_canonical().to_string(), site.to_owned()))
}

async fn all_subnets(db: &mut AnyConnection) -> Result<Vec<(IpNet, String)>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT subnet, site FROM site_subnets ORDER BY subnet")
            .fetch_all(db)
            .await
            .doing("read the subnets")?;
    rows.into_iter()
        .map(|(subnet, site)| Ok((stored_text("subnet", &subnet)?, site)))
        .collect()
}

/// How many machines may run at a site at a time; 0 for no limit.
pub(crate) async fn slots_of(db: &mut Write, site: &str) -> Result<usize, Failure> {
    let slots: Option<i64> = sqlx::query_scalar("SELECT slots FROM sites WHERE code = $1")
        .bind(site)
        .fetch_optional(&mut **db)
        .await
        .doing("read the places of a site")?;
    Ok(usize::try_from(slots.unwrap_or(0)).unwrap_or(0))
}

/// A code as it is stored.
pub(crate) fn site_code(text: &str) -> Result<String, Failure> {
    let code = clean(text, ASSET_TEXT_CHARS_MAX);
    if code.is_empty() || code != text {
        return Err(Failure::bad_request(
            "bad-name",
            format!("{text:?} can't be the code of a site"),
        )
        .hint("use what stands in the asset file, such as BJO"));
    }
    Ok(code)
}

fn check(change: &SiteChange) -> Result<(), Failure> {
    if change.slots.is_some_and(|slots| slots > SLOTS_MAX) {
        let message = format!("a site has at most {SLOTS_MAX} places; 0 means no limit");
        return Err(Failure::bad_request("bad-slots", message));
    }
    if let Some(zone) = change.time_zone.as_deref().filter(|zone| !zone.is_empty()) {
        time_zone(zone)?;
    }
    let subnets = change.subnets.as_deref().unwrap_or_default();
    if subnets.len() > SUBNETS_MAX {
        let message = format!("a site has at most {SUBNETS_MAX} subnets");
        return Err(Failure::bad_request("too-many-subnets", message));
    }
    for text in subnets {
        subnets::parse(text).map_err(|why| Failure::bad_request("bad-subnet", why))?;
    }
    Ok(())
}

/// A time zone by its name; empty is UTC.
pub(crate) fn time_zone(name: &str) -> Result<jiff::tz::TimeZone, Failure> {
    if name.is_empty() {
        return Ok(jiff::tz::TimeZone::UTC);
    }
    jiff::tz::TimeZone::get(name).map_err(|_| {
        Failure::bad_request("bad-time-zone", format!("{name:?} is no time zone"))
            .hint("use a name such as Europe/Oslo")
    })
}

async fn store(db: &mut Write, code: &str, change: &SiteChange) -> Result<(), Failure> {
    let texts = [
        ("UPDATE sites SET name = $1 WHERE code = $2", &change.name),
        (
            "UPDATE sites SET time_zone = $1 WHERE code = $2",
            &change.time_zone,
        ),
    ];
    for (sql, text) in texts {
        if let Some(text) = text {
            sqlx::query(sql)
                .bind(clean(text, TITLE_CHARS_MAX))
                .bind(code)
                .execute(&mut **db)
                .await
                .doing("store a site")?;
        }
    }
    let numbers = [
        (
            "UPDATE sites SET slots = $1 WHERE code = $2",
            change.slots.map(i64::from),
        ),
        (
            "UPDATE sites SET expected_seconds = $1 WHERE code = $2",
            change
                .expected_seconds
                .map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
        ),
    ];
    for (sql, number) in numbers {
        if let Some(number) = number {
            sqlx::query(sql)
                .bind(number)
                .bind(code)
                .execute(&mut **db)
                .await
                .doing("store a site")?;
        }
    }
    match &change.subnets {
        Some(subnets) => store_subnets(db, code, subnets).await,
        None => Ok(()),
    }
}

async fn store_subnets(db: &mut Write, code: &str, texts: &[String]) -> Result<(), Failure> {
    sqlx::query("DELETE FROM site_subnets WHERE site = $1")
        .bind(code)
        .execute(&mut **db)
        .await
        .doing("forget the subnets of a site")?;
    for text in texts {
        let subnet = subnets::parse(text).map_err(|why| Failure::bad_request("bad-subnet", why))?;
        let other: Option<String> =
            sqlx::query_scalar("SELECT site FROM site_subnets WHERE subnet = $1")
                .bind(subnet.to_string())
                .fetch_optional(&mut **db)
                .await
                .doing("look up a subnet")?;
        match other {
            Some(other) if other == code => continue,
            Some(other) => {
                return Err(Failure::conflict(
                    "subnet-taken",
                    format!("subnet {subnet} belongs to site {other} already"),
                )
                .hint(
                    "a subnet belongs to one site; a smaller one inside it may belong to another",
                ));
            }
            None => {}
        }
        sqlx::query("INSERT INTO site_subnets (subnet, site) VALUES ($1, $2)")
            .bind(subnet.to_string())
            .bind(code)
            .execute(&mut **db)
            .await
            .doing("store a subnet")?;
    }
    Ok(())
}

fn in_words(change: &SiteChange) -> String {
    let parts = [
        change.name.as_ref().map(|name| format!("name {name}")),
        change
            .subnets
            .as_ref()
            .map(|subnets| format!("subnets {}", subnets.join(" "))),
        change.slots.map(|slots| format!("{slots} slots")),
        change
            .expected_seconds
            .map(|seconds| format!("expected {seconds} s")),
        change
            .time_zone
            .as_ref()
            .map(|zone| format!("time zone {zone}")),
    ];
    clean(
        &parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        TITLE_CHARS_MAX,
    )
}

impl AppState {
    /// Every site that `reach` covers, by code.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn site_rows(&self, reach: &Reach) -> Result<Vec<SiteRow>, Failure> {
        let devices = self.device_rows().await?;
        let reading = self.db().read().acquire().await;
        let mut db = reading.doing("read the sites")?;
        let now = now_ms();
        let sites: Vec<Stored> = sqlx::query_as(
            "SELECT code, name, slots, expected_seconds, time_zone FROM sites WHERE code <> '' ORDER BY code",
        )
        .fetch_all(&mut *db)
        .await
        .doing("read the sites")?;
        let subnets = all_subnets(&mut db).await?;
        let seen = seen_sites(&mut db).await?;
        let live = live_by_site(&mut db, now).await?;
        let queue = queue::everyone(&mut db, now).await?;
        drop(db);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let rows = sites.into_iter().filter(|site| reach.covers(&site.0)).map(
            |(code, name, slots, expected, time_zone)| {
                let own: Vec<&DeviceRow> = devices
                    .iter()
                    .filter(|row| row.site == code && row.out_of_use.is_none())
                    .collect();
                let is_there =
                    |row: &&&DeviceRow| seen.get(&row.device).is_some_and(|seen| *seen != code);
                let mut states = BTreeMap::new();
                for row in &own {
                    *states.entry(state_word(row)).or_insert(0) += 1;
                }
                SiteRow {
                    subnets: subnets
                        .iter()
                        .filter(|(_, site)| *site == code)
                        .map(|(net, _)| net.to_string())
                        .collect(),
                    slots: u32::try_from(slots).unwrap_or(0),
                    expected_seconds: u64::try_from(expected).unwrap_or(0),
                    devices: number(own.len()),
                    elsewhere: number(own.iter().filter(is_there).count()),
                    visitors: number(
                        devices
                            .iter()
                            .filter(|row| row.site != code && seen.get(&row.device) == Some(&code))
                            .count(),
                    ),
                    live: live.get(&code).copied().unwrap_or(0),
                    waiting: number(queue.iter().filter(|waiting| waiting.3 == code).count()),
                    states,
                    code,
                    name,
                    time_zone,
                }
            },
        );
        Ok(rows.collect())
    }

    /// One site, with who waits there and who is in the wrong place.
    ///
    /// # Errors
    /// If there is no such site (for this caller), or the database fails.
    pub async fn site_detail(&self, reach: &Reach, code: &str) -> Result<SiteDetail, Failure> {
        let rows = self.site_rows(reach).await?;
        let site = rows
            .into_iter()
            .find(|row| row.code == code)
            .ok_or_else(|| Failure::not_found(format!("site {code}")))?;
        let reading = self.db().read().acquire().await;
        let mut db = reading.doing("read the sites")?;
        let everyone = queue::everyone(&mut db, now_ms()).await?;
        let queue = everyone
            .iter()
            .filter(|waiting| waiting.3 == code)
            .map(|waiting| {
                Ok(WaitingDevice {
                    device: queue::device_of(waiting)?,
                    serial: waiting.1.clone(),
                    deployment: stored_text("deployment name", &waiting.2)?,
                    arrived_at_ms: waiting.4,
                    asks_again_at_ms: waiting.5,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        let misplaced: Vec<(String, String, String, String)> = sqlx::query_as(
            "SELECT id, serial, site, seen_site FROM devices \
             WHERE seen_site <> '' AND seen_site <> site AND (site = $1 OR seen_site = $1) ORDER BY serial",
        )
        .bind(code)
        .fetch_all(&mut *db)
        .await
        .doing("read who is in the wrong place")?;
        let misplaced = misplaced
            .into_iter()
            .map(|(id, serial, site, seen_site)| {
                Ok(MisplacedDevice {
                    device: stored_text("device id", &id)?,
                    serial,
                    site,
                    seen_site,
                })
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        Ok(SiteDetail {
            site,
            queue,
            misplaced,
        })
    }
}

/// The state of a device as the API writes it.
pub(crate) fn state_word(row: &DeviceRow) -> String {
    row.state.to_string().replace(' ', "-")
}

/// Where each device was last seen, if at any site.
async fn seen_sites(db: &mut AnyConnection) -> Result<BTreeMap<DeviceId, String>, Failure> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT id, seen_site FROM devices WHERE seen_site <> ''")
            .fetch_all(db)
            .await
            .doing("read where machines are")?;
    rows.into_iter()
        .map(|(id, site)| Ok((stored_text("device id", &id)?, site)))
        .collect()
}

/// Runs that hold a place, by site.
async fn live_by_site(db: &mut AnyConnection, now: i64) -> Result<BTreeMap<String, u32>, Failure> {
    let sites: Vec<String> = sqlx::query_scalar(
        "SELECT CASE WHEN devices.seen_site <> '' THEN devices.seen_site ELSE devices.site END \
         FROM runs JOIN devices ON devices.id = runs.device \
         WHERE runs.state = 'running' AND runs.last_seen_at_ms > $1",
    )
    .bind(now - millis(STALLED_AFTER))
    .fetch_all(db)
    .await
    .doing("count the runs that hold a place")?;
    let mut live = BTreeMap::new();
    for site in sites {
        *live.entry(site).or_insert(0) += 1;
    }
    Ok(live)
}
