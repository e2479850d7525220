//! What lists and pages show: rows of devices and runs, put together from the database and from live runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use sequence::lint::shown;
use serde_json::Value;
use sqlx::{AnyConnection, FromRow};
use wire::admin_api::{
    CollectionRow, Deployment, DeviceRow, DeviceState, KeyProtection, LogLine, RunDetail, RunRow,
    RunVariable, StepRow,
};
use wire::assets::{AssetState, OutOfUse};
use wire::device_api::Staged;
use wire::event::{Event, EventBody, LogLevel};
use wire::facts::Facts;
use wire::names::{CollectionName, DeviceId, PrestageName, RunId, StepPath};
use wire::package::Model;
use wire::reasons::{AsideReason, Evidence, MachineReason, texts};
use wire::receipt::ReceiptResult;

use crate::catalog::keys;
use crate::db::DbRow;
use crate::error::{Doing as _, Failure, all_said, said, stored, stored_text};
use crate::fleet::targeting::lifecycle::wipes;
use crate::fleet::targeting::membership;
use crate::fleet::view::{Fleet, Holder, Holders, as_of};
use crate::limits::{LAST_LINE_CHARS_MAX, LAST_LINES_MAX, STALLED_AFTER};
use crate::people::auth::millis;
use crate::runs::expected::{as_seconds, expected};
use crate::runs::live::{Live, read_event};
use crate::runs::retry::to_rerun;
use crate::state::{AppState, now_ms};

/// Log lines in a run's detail; older ones stay in the database.
const LOG_LINES_MAX: usize = 2000;

/// Runs of one device on its pages: a machine that was tried more often has another trouble.
const DEVICE_RUNS_MAX: i64 = 50;
/// Ids in one query: SQLite and PostgreSQL take thousands, and longer lists are no quicker.
const IDS_MAX: usize = 200;

/// Rows of whatever database it is.
trait FromDbRow: for<'r> FromRow<'r, DbRow> + Send + Unpin {}
impl<T: for<'r> FromRow<'r, DbRow> + Send + Unpin> FromDbRow for T {}

/// What a receipt says that a row shows.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Claim {
    result: ReceiptResult,
    prestage: Option<PrestageName>,
    prestage_version: Option<u32>,
}

impl Claim {
    fn bundle(&self) -> Option<String> {
        Some(format!(
            "{}@{}",
            self.prestage.as_ref()?,
            self.prestage_version?
        ))
    }
}

/// A device as stored.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StoredDevice {
    pub(crate) id: String,
    pub(crate) serial: String,
    pub(crate) serial_key: String,
    pub(crate) asset_tag: String,
    pub(crate) uuid: String,
    pub(crate) vendor: String,
    pub(crate) product: String,
    pub(crate) sku: String,
    pub(crate) baseboard: String,
    pub(crate) site: String,
    pub(crate) site_name: String,
    pub(crate) class: String,
    pub(crate) message: String,
    pub(crate) waiting: String,
    pub(crate) facts: String,
    pub(crate) staged: String,
    pub(crate) seen_site: String,
    seen_site_name: String,
    boot_image: String,
    pub(crate) key_protection: String,
    pub(crate) seen_address: String,
    pub(crate) assigned_name: String,
    pub(crate) asset_state: String,
    asset_state_reason: String,
    asset_state_by: String,
    pub(crate) asset_state_at_ms: i64,
    pub(crate) checked_in_at_ms: i64,
    pub(crate) last_seen_at_ms: i64,
}

/// A run as stored, with what the lists need of its device and deployment.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StoredRun {
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) serial: String,
    pub(crate) site: String,
    pub(crate) seen_site: String,
    deployment: String,
    sequence: String,
    pub(crate) state: String,
    server_bytes: i64,
    pub(crate) started_at_ms: i64,
    ended_at_ms: i64,
    last_seen_at_ms: i64,
    identity: String,
    take: i64,
    document: String,
    expected_there: i64,
}

macro_rules! devices_sql {
    ($rest:literal) => {
        concat!(
            "SELECT devices.id, devices.serial, devices.serial_key, devices.asset_tag, devices.uuid, ",
            "devices.vendor, devices.product, devices.sku, devices.baseboard, devices.site, ",
            "sites.name AS site_name, devices.class, ",
            "devices.message, devices.waiting, devices.facts, devices.staged, ",
            "devices.seen_site, COALESCE(seen.name, '') AS seen_site_name, devices.boot_image, ",
            "COALESCE(device_keys.protection, '') AS key_protection, ",
            "devices.seen_address, devices.assigned_name, devices.asset_state, devices.asset_state_reason, ",
            "devices.asset_state_by, devices.asset_state_at_ms, ",
            "devices.checked_in_at_ms, devices.last_seen_at_ms ",
            "FROM devices JOIN sites ON sites.code = devices.site ",
            "LEFT JOIN sites seen ON seen.code = devices.seen_site ",
            "LEFT JOIN device_keys ON device_keys.device = devices.id ",
            $rest
        )
    };
}

pub(crate) use devices_sql;

/// Runs with what the lists need of their devices and deployments.
macro_rules! runs_sql {
    ($rest:literal) => {
        concat!(
            "SELECT runs.id, runs.device, devices.serial, devices.site, devices.seen_site, runs.deployment, runs.sequence, runs.state, ",
            "runs.server_bytes, runs.started_at_ms, runs.ended_at_ms, runs.last_seen_at_ms, runs.identity, runs.take, ",
            "deployments.document, COALESCE(place.expected_seconds, 0) AS expected_there ",
            "FROM runs JOIN devices ON devices.id = runs.device ",
            "JOIN deployments ON deployments.name = runs.deployment ",
            "LEFT JOIN sites place ON place.code = COALESCE(NULLIF(devices.seen_site, ''), devices.site) ",
            $rest
        )
    };
}

pub(crate) use runs_sql;

impl StoredDevice {
    /// The model: as imported, completed by what was seen.
    pub(crate) fn model(&self) -> Model {
        let imported = Model {
            vendor: self.vendor.clone(),
            product: self.product.clone(),
            sku: self.sku.clone(),
            baseboard: self.baseboard.clone(),
        };
        // What firmware says is what rules match on; what was typed into a file only stands in for it.
        match stored::<Facts>("facts", &self.facts) {
            Ok(facts) if !facts.product.is_empty() => Model {
                vendor: facts.vendor,
                product: facts.product,
                sku: facts.sku,
                baseboard: facts.baseboard,
            },
            _ => imported,
        }
    }

    /// The site where the machine is: where it last checked in, else where the import puts it.
    pub(crate) fn place(&self) -> &str {
        if self.seen_site.is_empty() {
            &self.site
        } else {
            &self.seen_site
        }
    }

    /// Why it is out of use, if it is.
    pub(crate) fn out_of_use(&self) -> Option<OutOfUse> {
        let state = AssetState::of_word(&self.asset_state).unwrap_or_default();
        (state != AssetState::InUse).then(|| OutOfUse {
            state,
            reason: self.asset_state_reason.clone(),
            by: self.asset_state_by.clone(),
            at_ms: self.asset_state_at_ms,
        })
    }

    /// What the device said was staged on it, at its latest check-in that told.
    pub(crate) fn staged(&self) -> Result<Option<Staged>, Failure> {
        if self.staged.is_empty() {
            return Ok(None);
        }
        stored("staged content", &self.staged).map(Some)
    }
}

impl AppState {
    /// Every device, and every machine in quarantine.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn device_rows(&self) -> Result<Vec<DeviceRow>, Failure> {
        let (fleet, now) = (self.fleet().await?, now_ms());
        Ok(fleet.rows().iter().map(|row| as_of(row, now)).collect())
    }

    /// One device; `None` if there is no such.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn device_row(&self, id: DeviceId) -> Result<Option<DeviceRow>, Failure> {
        let (fleet, now) = (self.fleet().await?, now_ms());
        Ok(fleet.row(id).map(|row| as_of(row, now)))
    }

    /// The rows of these devices (or of all), read from the database. Runs that ended are taken over from `known`.
    pub(crate) async fn read_device_rows(
        &self,
        ids: Option<&[DeviceId]>,
        known: &Fleet,
    ) -> Result<Vec<DeviceRow>, Failure> {
        let devices: Vec<StoredDevice> = self
            .read_some(devices_sql!(""), "devices.id", "", ids)
            .await
            .doing("read the devices")?;
        let runs: Vec<StoredRun> = self
            .read_some(
                runs_sql!(
                    "WHERE runs.started_at_ms = (SELECT MAX(newer.started_at_ms) FROM runs newer \
                     WHERE newer.device = runs.device)"
                ),
                "runs.device",
                " ORDER BY runs.id",
                ids,
            )
            .await
            .doing("read the latest runs")?;
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read the collections")?;
        let mut collections = membership::of_some(&mut db, ids).await?;
        let retired = keys::retired(&mut db).await?;
        drop(db);
        let mut latest: BTreeMap<String, StoredRun> = runs
            .into_iter()
            .map(|run| (run.device.clone(), run))
            .collect();
        let receipts = self
            .latest_receipts(ids.map(|_| devices.as_slice()))
            .await?;
        let mut rows = Vec::with_capacity(devices.len());
        for device in devices {
            let id: DeviceId = stored_text("device id", &device.id)?;
            let run = match latest.remove(&device.id) {
                Some(run) => Some(self.latest_run_row(&run, known.row(id)).await?),
                None => None,
            };
            let collections = collections.remove(&device.id).unwrap_or_default();
            let collections = collections.into_iter().collect();
            let receipt = receipts.get(&device.serial_key);
            let mut row = device_row(device, run, collections, receipt)?;
            let bundle = row.bundle.as_ref();
            row.retired_key = bundle.and_then(|bundle| retired.get(bundle).cloned());
            rows.push(row);
        }
        rows.extend(self.stranger_rows(ids).await?);
        Ok(rows)
    }

    /// Who has these devices (or all).
    pub(crate) async fn read_holders(&self, ids: Option<&[DeviceId]>) -> Result<Holders, Failure> {
        let held: Vec<(String, String, String)> = self
            .read_some(
                "SELECT assignments.device, pupils.name, pupils.site FROM assignments \
                 JOIN pupils ON pupils.id = assignments.pupil WHERE assignments.returned_at_ms = 0 \
                 AND pupils.erased_at_ms = 0",
                "assignments.device",
                "",
                ids,
            )
            .await
            .doing("read who has which device")?;
        held.into_iter()
            .map(|(device, name, site)| {
                Ok((stored_text("device id", &device)?, Holder { name, site }))
            })
            .collect()
    }

    /// Reads rows of these devices (or of all). Lists of ids are cut into pieces that every database takes.
    async fn read_some<T>(
        &self,
        select: &str,
        column: &str,
        order: &str,
        ids: Option<&[DeviceId]>,
    ) -> Result<Vec<T>, sqlx::Error>
    where
        T: FromDbRow,
    {
        let Some(ids) = ids else {
            let sql = format!("{select}{order}");
            return sqlx::query_as(sqlx::AssertSqlSafe(sql))
                .fetch_all(self.db().read())
                .await;
        };
        let mut rows = Vec::new();
        for some in ids.chunks(IDS_MAX) {
            let places: Vec<_> = (1..=some.len()).map(|place| format!("${place}")).collect();
            let join = if select.contains(" WHERE ") {
                "AND"
            } else {
                "WHERE"
            };
            let sql = format!("{select} {join} {column} IN ({}){order}", places.join(", "));
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(sql));
            for id in some {
                query = query.bind(id.to_string());
            }
            rows.extend(query.fetch_all(self.db().read()).await?);
        }
        Ok(rows)
    }

    /// The device that a run belongs to.
    pub(crate) async fn device_of_run(&self, run: RunId) -> Result<Option<DeviceId>, Failure> {
        let device: Option<String> = sqlx::query_scalar("SELECT device FROM runs WHERE id = $1")
            .bind(run.to_string())
            .fetch_optional(self.db().read())
            .await
            .doing("read the device of a run")?;
        device.map(|id| stored_text("device id", &id)).transpose()
    }

    /// A device's latest run. One that ended and says what it said is not folded from its events again.
    async fn latest_run_row(
        &self,
        run: &StoredRun,
        known: Option<&Arc<DeviceRow>>,
    ) -> Result<RunRow, Failure> {
        let known = known.and_then(|row| row.run.as_ref()).filter(|known| {
            known.run.to_string() == run.id
                && run.ended_at_ms > 0
                && known.ended_at_ms == Some(run.ended_at_ms)
                && known.state == run_state(&run.state, 0)
        });
        let Some(known) = known else {
            return self.run_row_of(run).await;
        };
        Ok(RunRow {
            server_bytes: u64::try_from(run.server_bytes).unwrap_or(0),
            last_seen_at_ms: known.last_seen_at_ms.max(run.last_seen_at_ms),
            ..known.clone()
        })
    }

    /// The words that have a run's machine run everything again, if that writes over its disk.
    async fn confirm_rerun(&self, run: &StoredRun) -> Result<Option<String>, Failure> {
        let deployment: Deployment = stored("deployment", &run.document)?;
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read what a run would do")?;
        let wipes = wipes(&mut db, &deployment).await?;
        Ok(wipes.then(|| to_rerun(&run.serial)))
    }

    /// Every device as stored.
    pub(crate) async fn stored_devices(&self) -> Result<Vec<StoredDevice>, Failure> {
        sqlx::query_as(devices_sql!("ORDER BY devices.site, devices.serial"))
            .fetch_all(self.db().read())
            .await
            .doing("read the devices")
    }

    /// The device as stored.
    pub(crate) async fn stored_device(
        &self,
        id: DeviceId,
    ) -> Result<Option<StoredDevice>, Failure> {
        sqlx::query_as(devices_sql!("WHERE devices.id = $1"))
            .bind(id.to_string())
            .fetch_optional(self.db().read())
            .await
            .doing("read a device")
    }

    /// The device as stored, inside a transaction.
    pub(crate) async fn stored_device_in(
        &self,
        db: &mut AnyConnection,
        id: DeviceId,
    ) -> Result<Option<StoredDevice>, Failure> {
        sqlx::query_as(devices_sql!("WHERE devices.id = $1"))
            .bind(id.to_string())
            .fetch_optional(db)
            .await
            .doing("read a device")
    }

    /// One run; `None` if there is no such.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn run_row(&self, run: RunId) -> Result<Option<RunRow>, Failure> {
        match self.stored_run(run).await? {
            Some(stored) => Ok(Some(self.run_row_of(&stored).await?)),
            None => Ok(None),
        }
    }

    /// One run with its steps and its log; `None` if there is no such.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn run_detail(&self, run: RunId) -> Result<Option<RunDetail>, Failure> {
        let Some(stored_run) = self.stored_run(run).await? else {
            return Ok(None);
        };
        let row = self.run_row_of(&stored_run).await?;
        let entry = self.views().get(self.db(), run).await?;
        let mut steps = steps(&entry.live());
        let median_model = self.add_medians(&row, &mut steps).await?;
        let last_lines = last_lines(&entry.live().view.last_lines);
        let events: Vec<(Vec<u8>, i64)> = sqlx::query_as(
            "SELECT bytes, received_at_ms FROM events WHERE run = $1 AND take = $2 ORDER BY seq",
        )
        .bind(&stored_run.id)
        .bind(stored_run.take)
        .fetch_all(self.db().read())
        .await
        .doing("read the events of a run")?;
        let mut log: Vec<LogLine> = events
            .iter()
            .filter_map(|(bytes, at)| {
                read_event(bytes).and_then(|(_, event)| log_line(&event, *at))
            })
            .collect();
        if log.len() > LOG_LINES_MAX {
            log.drain(..log.len() - LOG_LINES_MAX);
        }
        let evidence: Vec<Evidence> = all_said("evidence", &stored_run.identity)?;
        Ok(Some(RunDetail {
            row,
            steps,
            log,
            identity: texts(&evidence),
            said: evidence,
            last_lines,
            median_model,
            variables: self.variables_of(&stored_run.id).await?,
            confirm_rerun: self.confirm_rerun(&stored_run).await?,
            secrets: self.releases_of(&stored_run.id).await?,
        }))
    }

    async fn variables_of(&self, run: &str) -> Result<Vec<RunVariable>, Failure> {
        let order: String = sqlx::query_scalar("SELECT order_document FROM runs WHERE id = $1")
            .bind(run)
            .fetch_one(self.db().read())
            .await
            .doing("read the order of a run")?;
        variables(&order)
    }

    /// The latest runs of a device, newest first.
    pub(crate) async fn runs_of_device(&self, device: DeviceId) -> Result<Vec<RunRow>, Failure> {
        let runs: Vec<StoredRun> = sqlx::query_as(runs_sql!(
            "WHERE runs.device = $1 ORDER BY runs.started_at_ms DESC, runs.id LIMIT $2"
        ))
        .bind(device.to_string())
        .bind(DEVICE_RUNS_MAX)
        .fetch_all(self.db().read())
        .await
        .doing("read the runs of a device")?;
        let mut rows = Vec::with_capacity(runs.len());
        for run in &runs {
            rows.push(self.run_row_of(run).await?);
        }
        Ok(rows)
    }

    /// Puts beside each step how long it usually takes; tells the model that this is of, if it isn't of all.
    async fn add_medians(
        &self,
        row: &RunRow,
        steps: &mut [StepRow],
    ) -> Result<Option<String>, Failure> {
        let fleet = self.fleet().await?;
        let device = fleet.row(row.device);
        let model = device.map_or("", |device| device.model.product.as_str());
        let medians = self.history().medians(&fleet, row.sequence.as_str(), model);
        for step in steps {
            if let Some((ms, runs)) = medians.steps.get(step.path.as_str()) {
                (step.median_ms, step.median_runs) = (Some(*ms), *runs);
            }
        }
        Ok(medians.model.clone())
    }

    /// Every collection.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn collections(&self) -> Result<Vec<CollectionRow>, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read the collections")?;
        membership::collection_rows(&mut db, &|_| true).await
    }

    /// Every deployment, oldest first.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn deployments(&self) -> Result<Vec<Deployment>, Failure> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT document, stopped FROM deployments ORDER BY created_at_ms, name",
        )
        .fetch_all(self.db().read())
        .await
        .doing("read the deployments")?;
        rows.iter()
            .map(|(document, stopped)| {
                let deployment: Deployment = stored("deployment", document)?;
                Ok(Deployment {
                    stopped: *stopped != 0,
                    ..deployment
                })
            })
            .collect()
    }

    pub(crate) async fn stored_run(&self, run: RunId) -> Result<Option<StoredRun>, Failure> {
        sqlx::query_as(runs_sql!("WHERE runs.id = $1"))
            .bind(run.to_string())
            .fetch_optional(self.db().read())
            .await
            .doing("read a run")
    }

    /// What the factory said last of each of these devices (or of all), by serial number.
    async fn latest_receipts(
        &self,
        devices: Option<&[StoredDevice]>,
    ) -> Result<BTreeMap<String, Claim>, Failure> {
        let documents: Vec<(String, String)> = match devices {
            None => {
                sqlx::query_as("SELECT serial_key, document FROM receipts ORDER BY received_at_ms")
                    .fetch_all(self.db().read())
                    .await
            }
            Some(devices) => {
                let mut found = Vec::new();
                for device in devices {
                    let of_one: Result<Vec<_>, _> = sqlx::query_as(
                        "SELECT serial_key, document FROM receipts WHERE serial_key = $1 ORDER BY received_at_ms",
                    )
                    .bind(&device.serial_key)
                    .fetch_all(self.db().read())
                    .await;
                    found.extend(of_one.doing("read the receipts of a device")?);
                }
                Ok(found)
            }
        }
        .doing("read the receipts")?;
        let mut latest = BTreeMap::new();
        for (serial_key, document) in documents {
            let claim: Claim = stored("receipt", &document)?;
            match claim.result {
                ReceiptResult::Staged => latest.insert(serial_key, claim),
                ReceiptResult::Failed => latest.remove(&serial_key),
            };
        }
        Ok(latest)
    }

    async fn stranger_rows(&self, ids: Option<&[DeviceId]>) -> Result<Vec<DeviceRow>, Failure> {
        let strangers: Vec<(String, String, String, i64, String, String)> = self
            .read_some(
                "SELECT strangers.id, facts, message, last_seen_at_ms, seen_site, COALESCE(sites.name, '') \
                 FROM strangers LEFT JOIN sites ON sites.code = seen_site",
                "strangers.id",
                "",
                ids,
            )
            .await
            .doing("read the machines in quarantine")?;
        strangers
            .into_iter()
            .map(|(id, facts, message, seen, seen_site, seen_site_name)| {
                let facts: Facts = stored("facts", &facts)?;
                let aside: AsideReason = said(&message);
                Ok(DeviceRow {
                    device: stored_text("device id", &id)?,
                    name: None,
                    assigned_name: None,
                    serial: facts.serial,
                    asset_tag: facts.asset_tag,
                    model: Model {
                        vendor: facts.vendor,
                        product: facts.product,
                        sku: facts.sku,
                        baseboard: facts.baseboard,
                    },
                    site: String::new(),
                    site_name: String::new(),
                    class: String::new(),
                    state: DeviceState::Quarantined,
                    message: Some(aside.to_string()),
                    said: None,
                    aside: Some(aside),
                    run: None,
                    collections: Vec::new(),
                    last_seen_at_ms: Some(seen),
                    bundle: None,
                    retired_key: None,
                    boot_image: None,
                    key_protection: None,
                    seen_site: some(seen_site),
                    seen_site_name: some(seen_site_name),
                    pupil: None,
                    out_of_use: None,
                })
            })
            .collect()
    }

    pub(crate) async fn run_row_of(&self, run: &StoredRun) -> Result<RunRow, Failure> {
        let id: RunId = stored_text("run id", &run.id)?;
        let deployment: Deployment = stored("deployment", &run.document)?;
        let entry = self.views().get(self.db(), id).await?;
        let live = entry.live();
        let now = now_ms();
        let last_seen_at_ms = live
            .last_seen_at_ms
            .max(run.last_seen_at_ms)
            .max(run.started_at_ms);
        let ended_at_ms = (run.ended_at_ms > 0).then_some(run.ended_at_ms);
        let elapsed_ms = (ended_at_ms.unwrap_or(now) - run.started_at_ms).max(0);
        let current = live.view.current_step();
        let (expected_seconds, expected_from) = expected(
            deployment.expected_seconds,
            as_seconds(run.expected_there),
            self.history().usual_seconds(&run.sequence),
        );
        Ok(RunRow {
            run: id,
            device: stored_text("device id", &run.device)?,
            serial: run.serial.clone(),
            name: live.host_name(),
            deployment: stored_text("deployment name", &run.deployment)?,
            sequence: stored_text("sequence name", &run.sequence)?,
            state: run_state(&run.state, now - last_seen_at_ms),
            step_number: u32::try_from(live.view.step_number()).unwrap_or(u32::MAX),
            step_count: u32::try_from(live.view.steps.len()).unwrap_or(u32::MAX),
            step_title: current.map(|step| step.title.clone()).unwrap_or_default(),
            step_percent: current.and_then(sequence::view::StepView::percent),
            started_at_ms: run.started_at_ms,
            ended_at_ms,
            elapsed_seconds: u64::try_from(elapsed_ms / 1000).unwrap_or(0),
            expected_seconds,
            expected_from,
            content: live.view.content(),
            server_bytes: u64::try_from(run.server_bytes).unwrap_or(0),
            interface_bytes: live.interface_bytes.values().sum(),
            errors: live.view.errors.clone(),
            failed_step: live.view.failed_step.clone(),
            hint: live.view.hint.clone(),
            last_seen_at_ms,
        })
    }
}

/// As many as the format allows, whatever a device sends.
fn last_lines(said: &[String]) -> Vec<String> {
    let newest = &said[said.len().saturating_sub(LAST_LINES_MAX)..];
    newest
        .iter()
        .map(|line| crate::text::clean(line, LAST_LINE_CHARS_MAX))
        .collect()
}

pub(crate) fn run_state(stored: &str, silent_ms: i64) -> DeviceState {
    match stored {
        "completed" => DeviceState::Completed,
        "failed" => DeviceState::Failed,
        "aborted" => DeviceState::Stopped,
        _ if silent_ms > millis(STALLED_AFTER) => DeviceState::Stalled,
        _ => DeviceState::Running,
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn device_row(
    device: StoredDevice,
    run: Option<RunRow>,
    collections: Vec<CollectionName>,
    receipt: Option<&Claim>,
) -> Result<DeviceRow, Failure> {
    let bundle = device
        .staged()?
        .map(|staged| format!("{}@{}", staged.prestage, staged.version))
        .or_else(|| receipt.and_then(Claim::bundle));
    let state = match &run {
        Some(run) => run.state,
        None if device.checked_in_at_ms > 0 => DeviceState::CheckedIn,
        None if receipt.is_some() || !device.staged.is_empty() => DeviceState::Staged,
        None => DeviceState::Imported,
    };
    let last_seen = device
        .last_seen_at_ms
        .max(run.as_ref().map_or(0, |run| run.last_seen_at_ms));
    let failure = run
        .as_ref()
        .filter(|run| run.state == DeviceState::Failed)
        .and_then(|run| run.errors.first())
        .cloned();
    let mut row_said: Option<MachineReason> = match (device.message.as_str(), &failure) {
        ("", Some(_)) => None,
        ("", None) => Some(device.waiting.as_str())
            .filter(|text| !text.is_empty())
            .map(said),
        (message, _) => Some(said(message)),
    };
    let out_of_use = device.out_of_use();
    let assigned_name = some(device.assigned_name.clone());
    let mut row = DeviceRow {
        device: stored_text("device id", &device.id)?,
        name: run
            .as_ref()
            .and_then(|run| run.name.clone())
            .or_else(|| assigned_name.clone()),
        assigned_name,
        model: device.model(),
        serial: device.serial,
        asset_tag: device.asset_tag,
        site: device.site,
        site_name: device.site_name,
        class: device.class,
        state,
        message: None,
        said: None,
        aside: None,
        run,
        collections,
        last_seen_at_ms: (last_seen > 0).then_some(last_seen),
        bundle,
        // Whoever knows which keys are retired fills it in.
        retired_key: None,
        boot_image: some(device.boot_image),
        key_protection: KeyProtection::of_word(&device.key_protection),
        seen_site: some(device.seen_site),
        seen_site_name: some(device.seen_site_name),
        // Whoever knows for whom the row is fills it in.
        pupil: None,
        out_of_use,
    };
    if row.is_stolen_and_seen() {
        row_said = Some(match device.seen_address.as_str() {
            "" => MachineReason::StolenSeen,
            address => MachineReason::StolenSeenFrom {
                address: address.to_owned(),
            },
        });
    }
    row.message = match &row_said {
        Some(said) => Some(said.to_string()),
        None => failure,
    };
    row.said = row_said;
    Ok(row)
}

fn steps(live: &Live) -> Vec<StepRow> {
    let row = |step: &sequence::view::StepView| {
        let times = live.timeline.steps.get(&step.path);
        let message = step
            .message
            .clone()
            .or_else(|| step.errors.first().cloned());
        StepRow {
            path: step.path.clone(),
            title: step.title.clone(),
            kind: step.kind.clone(),
            state: step_state(step.state).to_owned(),
            offset_ms: times.map(|(start, _)| *start),
            duration_ms: times.and_then(|(start, end)| Some((*end)?.saturating_sub(*start))),
            attempts: step.attempts,
            plan: step.plan.clone().unwrap_or_default(),
            message,
            outcome: step.outcome,
            content: step.content,
            median_ms: None,
            median_runs: 0,
        }
    };
    live.view.steps.iter().map(row).collect()
}

const fn step_state(state: sequence::view::StepState) -> &'static str {
    use sequence::view::StepState;
    match state {
        StepState::Waiting => "waiting",
        StepState::Running | StepState::Retrying => "running",
        StepState::Done => "done",
        StepState::Warning => "warning",
        StepState::Skipped => "skipped",
        StepState::Failed => "failed",
    }
}

/// What the order of a run set. Whoever looks at it learns the names of secrets, never what they are.
fn variables(order: &str) -> Result<Vec<RunVariable>, Failure> {
    #[derive(serde::Deserialize)]
    struct Set {
        #[serde(default)]
        variables: BTreeMap<String, Value>,
    }
    let set: Set = stored("order", order)?;
    let tell = |(name, value): (String, Value)| {
        let value = shown(&name, &value).map(|value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        });
        RunVariable { name, value }
    };
    Ok(set.variables.into_iter().map(tell).collect())
}

/// What an event adds to the log, if anything.
fn log_line(event: &Event, received_at_ms: i64) -> Option<LogLine> {
    let (level, step, text): (LogLevel, Option<&StepPath>, String) = match &event.body {
        EventBody::Log { path, level, text } => (*level, path.as_ref(), text.clone()),
        EventBody::RunStarted { steps, .. } => (
            LogLevel::Info,
            None,
            format!("the run begins: {} steps", steps.len()),
        ),
        EventBody::RunResumed { environment } => {
            let place = match environment {
                wire::event::Environment::BootImage => "the boot image",
                wire::event::Environment::Os => "the installed system",
            };
            (LogLevel::Info, None, format!("the run goes on in {place}"))
        }
        EventBody::RunSuspended { .. } => (LogLevel::Info, None, "the machine restarts".into()),
        EventBody::RunDone { .. } => (LogLevel::Info, None, "the run is done".into()),
        EventBody::RunAborted { reason } => (
            LogLevel::Warning,
            None,
            format!("the run was stopped: {reason}"),
        ),
        EventBody::RunFailed { path, errors, .. } => {
            (LogLevel::Error, Some(path), errors.join(": "))
        }
        EventBody::AttemptFailed {
            path,
            attempt,
            errors,
            wait_seconds,
        } => {
            let text = format!(
                "attempt {attempt} failed: {}; next in {wait_seconds} s",
                errors.join(": ")
            );
            (LogLevel::Warning, Some(path), text)
        }
        _ => return None,
    };
    let level = match level {
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    };
    Some(LogLine {
        seq: event.seq,
        received_at_ms,
        level: level.to_owned(),
        step: step.cloned(),
        text,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_run_tells_no_secret_of_its_order() {
        let order = r#"{ "variables": { "admin_password": "hunter2", "locale": "nb_NO",
            "wifi": { "ssid": "skole", "psk": "hunter2" } } }"#;
        let told = super::variables(order).unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|variable| (variable.name.as_str(), variable.value.as_deref()))
            .collect();
        let expected = [
            ("admin_password", None),
            ("locale", Some("nb_NO")),
            ("wifi", Some(r#"{"psk":"•••","ssid":"skole"}"#)),
        ];
        assert_eq!(told, expected);
    }
}
