//! The view that other programs read: `docs/formats/asset-computers.md`.
//!
//! It is made anew when the server starts and its text has changed, not by a migration: it reads JSON and the clock, for
//! which the two databases have other words.

use super::{Engine, Write, commit};
use crate::db::Db;
use crate::error::{Doing as _, Failure};
use crate::limits::STALLED_AFTER;

const NAME: &str = "asset_computers";

/// Its columns in order: first the texts that people read, then the numbers behind them.
pub(crate) const COLUMNS: &[&str] = &[
    "device_id",
    "serial",
    "asset_tag",
    "uuid",
    "vendor",
    "product",
    "sku",
    "host_name",
    "site_code",
    "site_name",
    "class",
    "state",
    "pupil_id",
    "pupil_name",
    "staged_at",
    "staged_at_ms",
    "checked_in_at",
    "checked_in_at_ms",
    "completed_at",
    "completed_at_ms",
    "deployment",
    "sequence",
    "prestage",
    "prestage_version",
    "macs",
    "last_seen_at",
    "last_seen_at_ms",
    "imported_at",
    "imported_at_ms",
    "asset_state",
    "asset_state_since",
    "asset_state_since_ms",
    "assigned_name",
];

impl Db {
    /// Makes the view, or makes it anew if it has changed. What was granted on it stays.
    pub(super) async fn make_views(&self) -> Result<(), Failure> {
        let select = select(self.engine);
        let mut db = self.write().await?;
        match self.engine {
            Engine::Sqlite => {
                let create = format!("CREATE VIEW {NAME} AS {select}");
                let known: Option<String> = sqlx::query_scalar(
                    "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = $1",
                )
                .bind(NAME)
                .fetch_optional(&mut *db)
                .await
                .doing("look for the view asset_computers")?;
                if known.as_deref() == Some(create.as_str()) {
                    return Ok(());
                }
                run(&mut db, format!("DROP VIEW IF EXISTS {NAME}")).await?;
                run(&mut db, create).await?;
            }
            Engine::Postgres => {
                run(
                    &mut db,
                    format!("CREATE OR REPLACE VIEW {NAME} AS {select}"),
                )
                .await?
            }
        }
        commit(db).await
    }
}

async fn run(db: &mut Write, sql: String) -> Result<(), Failure> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut **db)
        .await
        .doing("make the view asset_computers")?;
    Ok(())
}

/// One key of a JSON text as a text; NULL if it isn't there.
fn key(engine: Engine, json: &str, key: &str) -> String {
    match engine {
        Engine::Sqlite => format!("json_extract({json}, '$.\"{key}\"')"),
        Engine::Postgres => format!("(CAST({json} AS json) ->> '{key}')"),
    }
}

/// Milliseconds since 1970 as ISO text; NULL stays NULL.
fn iso(engine: Engine, ms: &str) -> String {
    match engine {
        Engine::Sqlite => format!("strftime('%Y-%m-%dT%H:%M:%SZ', ({ms}) / 1000, 'unixepoch')"),
        Engine::Postgres => {
            format!(
                "to_char(to_timestamp(({ms}) / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
            )
        }
    }
}

const fn now(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => "(CAST(strftime('%s', 'now') AS INTEGER) * 1000)",
        Engine::Postgres => "CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)",
    }
}

/// The MAC addresses in a JSON text of facts, with a space between two.
const fn macs(engine: Engine) -> &'static str {
    match engine {
        Engine::Sqlite => {
            "(SELECT group_concat(json_extract(value, '$.mac'), ' ') FROM json_each(facts, '$.network'))"
        }
        Engine::Postgres => {
            "(SELECT string_agg(item.value ->> 'mac', ' ') \
             FROM json_array_elements(CAST(facts AS json) -> 'network') item(value))"
        }
    }
}

/// The innermost part brings a device and what belongs to it together, the next takes texts apart, the outermost names
/// and orders the columns.
fn select(engine: Engine) -> String {
    let fact = |name| key(engine, "facts", name);
    let number = |json, name| format!("CAST({} AS BIGINT)", key(engine, json, name));
    let at = |column| iso(engine, column);
    let stalled_ms = STALLED_AFTER.as_millis();
    let (now, macs) = (now(engine), macs(engine));
    let (seen_vendor, seen_product, seen_sku, seen_uuid) =
        (fact("vendor"), fact("product"), fact("sku"), fact("uuid"));
    let (said, said_version) = (key(engine, "said", "prestage"), number("said", "version"));
    let (claimed, claimed_version) = (
        key(engine, "receipt", "prestage"),
        number("receipt", "prestage-version"),
    );
    // What a text says of the latest receipt: no text inside it can look like this, its quotes are escaped.
    let staged = "REPLACE(receipt, '\"result\":\"staged\"', '') <> receipt";
    format!(
        "SELECT device_id, serial, NULLIF(asset_tag, '') AS asset_tag, NULLIF(uuid, '') AS uuid, \
         NULLIF(vendor, '') AS vendor, NULLIF(product, '') AS product, NULLIF(sku, '') AS sku, \
         NULLIF(NULLIF(host_name, ''), '?') AS host_name, site_code, NULLIF(site_name, '') AS site_name, \
         NULLIF(class, '') AS class, state, NULLIF(pupil_id, '') AS pupil_id, NULLIF(pupil_name, '') AS pupil_name, \
         {staged_at} AS staged_at, staged_at_ms, {checked_in_at} AS checked_in_at, checked_in_at_ms, \
         {completed_at} AS completed_at, completed_at_ms, deployment, sequence, NULLIF(prestage, '') AS prestage, \
         prestage_version, NULLIF(macs, '') AS macs, {last_seen_at} AS last_seen_at, last_seen_at_ms, \
         {imported_at} AS imported_at, imported_at_ms, asset_state, \
         {asset_state_since} AS asset_state_since, asset_state_since_ms, assigned_name FROM (SELECT device_id, serial, asset_tag, \
         CASE WHEN uuid <> '' THEN uuid ELSE {seen_uuid} END AS uuid, \
         CASE WHEN {seen_product} <> '' THEN {seen_vendor} ELSE vendor END AS vendor, \
         CASE WHEN {seen_product} <> '' THEN {seen_product} ELSE product END AS product, \
         CASE WHEN {seen_product} <> '' THEN {seen_sku} ELSE sku END AS sku, \
         host_name, site_code, site_name, class, pupil_id, pupil_name, deployment, sequence, \
         CASE WHEN run_state = 'completed' THEN 'completed' WHEN run_state = 'failed' THEN 'failed' \
         WHEN run_state = 'aborted' THEN 'stopped' \
         WHEN run_state <> '' AND {now} - run_seen_at_ms > {stalled_ms} THEN 'stalled' \
         WHEN run_state <> '' THEN 'running' WHEN checked_in_at_ms > 0 THEN 'checked-in' \
         WHEN said <> '{{}}' OR {staged} THEN 'staged' ELSE 'imported' END AS state, \
         CASE WHEN {staged} THEN receipt_at_ms END AS staged_at_ms, \
         NULLIF(checked_in_at_ms, 0) AS checked_in_at_ms, NULLIF(completed_at_ms, 0) AS completed_at_ms, \
         COALESCE({said}, CASE WHEN {staged} THEN {claimed} END) AS prestage, \
         COALESCE({said_version}, CASE WHEN {staged} THEN {claimed_version} END) AS prestage_version, \
         {macs} AS macs, \
         NULLIF(CASE WHEN run_seen_at_ms > last_seen_at_ms THEN run_seen_at_ms ELSE last_seen_at_ms END, 0) \
         AS last_seen_at_ms, NULLIF(imported_at_ms, 0) AS imported_at_ms, asset_state, \
         NULLIF(asset_state_at_ms, 0) AS asset_state_since_ms, NULLIF(assigned_name, '') AS assigned_name FROM ({INNERMOST}) AS known) AS asset",
        staged_at = at("staged_at_ms"),
        checked_in_at = at("checked_in_at_ms"),
        completed_at = at("completed_at_ms"),
        last_seen_at = at("last_seen_at_ms"),
        imported_at = at("imported_at_ms"),
        asset_state_since = at("asset_state_since_ms"),
    )
}

const INNERMOST: &str = "SELECT devices.id AS device_id, devices.serial, devices.asset_tag, devices.uuid, \
    devices.vendor, devices.product, devices.sku, devices.site AS site_code, sites.name AS site_name, devices.class, \
    devices.checked_in_at_ms, devices.last_seen_at_ms, devices.imported_at_ms, \
    devices.asset_state, devices.asset_state_at_ms, devices.assigned_name, \
    CASE WHEN devices.facts = '' THEN '{\"network\":[]}' ELSE devices.facts END AS facts, \
    CASE WHEN devices.staged = '' THEN '{}' ELSE devices.staged END AS said, \
    COALESCE(receipts.document, '{}') AS receipt, receipts.received_at_ms AS receipt_at_ms, \
    COALESCE(runs.state, '') AS run_state, COALESCE(runs.last_seen_at_ms, 0) AS run_seen_at_ms, \
    runs.host_name, runs.deployment, runs.sequence, \
    (SELECT MAX(done.ended_at_ms) FROM runs done WHERE done.device = devices.id AND done.state = 'completed') \
    AS completed_at_ms, pupils.external_id AS pupil_id, pupils.name AS pupil_name \
    FROM devices JOIN sites ON sites.code = devices.site \
    LEFT JOIN runs ON runs.id = (SELECT latest.id FROM runs latest WHERE latest.device = devices.id \
    ORDER BY latest.started_at_ms DESC, latest.id DESC LIMIT 1) \
    LEFT JOIN receipts ON devices.serial_key <> '' AND receipts.digest = (SELECT newest.digest FROM receipts newest \
    WHERE newest.serial_key = devices.serial_key ORDER BY newest.received_at_ms DESC, newest.digest DESC LIMIT 1) \
    LEFT JOIN assignments ON assignments.device = devices.id AND assignments.returned_at_ms = 0 \
    AND assignments.undone = 0 \
    LEFT JOIN pupils ON pupils.id = assignments.pupil AND pupils.erased_at_ms = 0";

#[cfg(test)]
mod tests {
    use super::NAME;
    use crate::db::Db;

    /// What it does for each computer may not grow with the number of computers.
    #[tokio::test]
    async fn each_computer_is_looked_up_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8Path::from_path(folder.path()).unwrap();
        let db = Db::open(&path.join("a.db"), None).await.unwrap();
        let plan = format!("EXPLAIN QUERY PLAN SELECT * FROM {NAME}");
        let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(plan))
            .fetch_all(db.read())
            .await
            .unwrap();
        let of_runs = |alias: &str| {
            let searches = format!("SEARCH {alias} ");
            let mut found = steps.iter().filter(|step| step.3.starts_with(&searches));
            let step = found.next().unwrap_or_else(|| panic!("{steps:?}"));
            step.3.clone()
        };
        for alias in ["latest", "done"] {
            assert!(of_runs(alias).contains("device=?"), "{}", of_runs(alias));
        }
    }
}
