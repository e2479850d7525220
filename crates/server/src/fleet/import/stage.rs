//! Changes to thousands of assets that hold nobody up.
//!
//! Writers take turns, and ten thousand rows take a second to write. So rows are laid out first, a few hundred in each
//! turn, where nobody looks: assets in tables of their own, and what is most of it, fields and the rows of the import, at
//! its final place under the name of this attempt, which nobody asks for yet. Then one short transaction makes sure that
//! the fleet is still the one that the plan rests on, takes the assets over by a handful of statements, and names the
//! attempt. Whenever that ends early, nothing has happened; what lies there is swept away at the next start.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::changes::{Changes, KeptRow};
use super::plan::Values;
use crate::connection::for_client;
use crate::db::{Db, Write, commit};
use crate::error::{Doing as _, Failure, chain};
use crate::fleet::identity::name_key;
use crate::fleet::version::{fleet_changes, fleet_version};
use crate::state::now_ms;

/// Values of one statement, and of one turn: none takes longer than a few milliseconds, and there are few of them, as each
/// waits for its turn. SQLite allows 32 766.
const BATCH_VALUES: usize = 8000;
/// Rows, or devices with their fields, that are cleared away from a table in one turn.
const CLEARED_ROWS: usize = 1000;

/// Plans that are made for one request: a fleet that changes all the time is too lively for an import.
pub(crate) const PLANS_MAX: usize = 3;

/// The tables whose rows are counted before they are taken over. Fields go away together with their asset's row.
const COUNTED: [&str; 4] = [
    "staged_assets",
    "staged_devices",
    "staged_sites",
    "laid_rows",
];

const ASSETS: Batch = Batch::new(
    "staged_assets",
    &[
        "stage",
        "device",
        "serial",
        "serial_key",
        "asset_tag",
        "asset_tag_key",
        "uuid",
        "vendor",
        "product",
        "sku",
        "baseboard",
        "site",
        "class",
    ],
);
const FIELDS: Batch = Batch::new("laid_fields", &["stage", "device", "name", "value"]);
const DEVICES: Batch = Batch::new("staged_devices", &["stage", "what", "device"]);
const SITES: Batch = Batch::new("staged_sites", &["stage", "code", "name", "named"]);
const ROWS: Batch = Batch::new(
    "laid_rows",
    &[
        "stage", "line", "device", "serial", "result", "detail", "was", "became", "joined",
    ],
);

const JOIN: &str = "join";
const LEAVE: &str = "leave";
const REMOVE: &str = "remove";

/// What is taken over in any case; `$1` is the stage.
const TAKE_OVER: [&str; 3] = [
    "INSERT INTO sites (code, name) SELECT code, name FROM staged_sites WHERE stage = $1 AND named = 0 \
     ON CONFLICT (code) DO NOTHING",
    "INSERT INTO sites (code, name) SELECT code, name FROM staged_sites WHERE stage = $1 AND named = 1 \
     ON CONFLICT (code) DO UPDATE SET name = excluded.name",
    // The serial number of an asset never changes but in its spelling.
    "INSERT INTO devices (id, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, baseboard, site, \
     class, message, waiting, facts, identity, staged, imported_at_ms, checked_in_at_ms, last_seen_at_ms, fields_stage) \
     SELECT device, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, baseboard, site, \
     class, '', '', '{}', '[]', '', $2, 0, 0, stage FROM staged_assets WHERE stage = $1 \
     ON CONFLICT (id) DO UPDATE SET serial = excluded.serial, asset_tag = excluded.asset_tag, \
     asset_tag_key = excluded.asset_tag_key, uuid = excluded.uuid, vendor = excluded.vendor, \
     product = excluded.product, sku = excluded.sku, baseboard = excluded.baseboard, site = excluded.site, \
     class = excluded.class, imported_at_ms = excluded.imported_at_ms, fields_stage = excluded.fields_stage",
];

/// How devices are removed, with all that is nothing without them. Their fields are cleared away afterwards.
const REMOVE_DEVICES: [&str; 5] = [
    "DELETE FROM collection_members WHERE device IN",
    "DELETE FROM collection_excluded WHERE device IN",
    "DELETE FROM waiting WHERE device IN",
    "DELETE FROM device_sessions WHERE device IN",
    "DELETE FROM devices WHERE id IN",
];

/// Does the work to its end even if the caller leaves: what is laid out is also taken over or cleared away.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    tokio::spawn(for_client(work))
        .await
        .map_err(|error| Failure::System {
            what: "carry out an import",
            source: error.into(),
        })?
}

/// Changes that are laid out.
#[derive(Debug)]
pub(crate) struct Stage {
    id: String,
    /// The fleet that they rest on.
    version: i64,
    joins: u64,
    /// Rows of all tables that are counted.
    rows: u64,
}

impl Stage {
    /// Lays changes out that rest on a version of the fleet.
    pub(crate) async fn lay_out(db: &Db, version: i64, changes: Changes) -> Result<Self, Failure> {
        let mut stage = Self {
            id: Uuid::new_v4().to_string(),
            version,
            joins: changes.join.len() as u64,
            rows: 0,
        };
        match stage.write(db, changes).await {
            Ok(()) => Ok(stage),
            Err(failure) => {
                stage.clear(db).await;
                Err(failure)
            }
        }
    }

    async fn write(&mut self, db: &Db, changes: Changes) -> Result<(), Failure> {
        let id = self.id.as_str();
        let mut count = 0;
        let sites = changes.sites.into_iter().map(|(code, name)| {
            let named = name.is_some().into();
            let name = name.unwrap_or_else(|| code.clone());
            vec![text(id), text(code), text(name), Bound::Number(named)]
        });
        count += SITES.write(db, sites).await?;
        for (what, devices) in [
            (JOIN, changes.join),
            (LEAVE, changes.leave),
            (REMOVE, changes.remove),
        ] {
            let rows = devices
                .into_iter()
                .map(|device| vec![text(id), text(what), text(device)]);
            count += DEVICES.write(db, rows).await?;
        }
        let assets = changes.assets.iter();
        let assets = assets.map(|(device, values)| asset(id, device, values));
        count += ASSETS.write(db, assets).await?;
        let fields = changes.assets.into_iter().flat_map(|(device, values)| {
            let fields = values.fields.into_iter();
            fields.map(move |(name, value)| vec![text(id), text(&device), text(name), text(value)])
        });
        FIELDS.write(db, fields).await?;
        let rows = changes.rows.into_iter().map(|row| kept_row(id, row));
        count += ROWS.write(db, rows).await?;
        self.rows = count;
        Ok(())
    }

    /// Carries out what is laid out, if the fleet is still the one it rests on. If not, this writer's transaction is to be
    /// dropped, and a new plan is needed.
    pub(crate) async fn take_over(
        &self,
        db: &mut Write,
        import: Option<i64>,
        collection: &str,
    ) -> Result<bool, Failure> {
        let holds = fleet_version(db).await? == self.version
            && self.is_whole(db).await?
            && !self.would_remove_too_much(db).await?;
        if !holds {
            return Ok(false);
        }
        fleet_changes(db).await?;
        for sql in TAKE_OVER {
            let mut query = sqlx::query(sql).bind(&self.id);
            if sql.contains("$2") {
                query = query.bind(now_ms());
            }
            query
                .execute(&mut **db)
                .await
                .doing("take over the assets of an import")?;
        }
        let joined = sqlx::query(
            "INSERT INTO collection_members (collection, device) SELECT $2, device FROM staged_devices \
             WHERE stage = $1 AND what = 'join' ON CONFLICT (collection, device) DO NOTHING",
        )
        .bind(&self.id)
        .bind(collection)
        .execute(&mut **db)
        .await
        .doing("take over the members of an import")?;
        sqlx::query(
            "DELETE FROM collection_members WHERE collection = $2 AND device IN \
             (SELECT device FROM staged_devices WHERE stage = $1 AND what = 'leave')",
        )
        .bind(&self.id)
        .bind(collection)
        .execute(&mut **db)
        .await
        .doing("take devices out of a collection")?;
        for sql in REMOVE_DEVICES {
            let removed =
                "(SELECT device FROM staged_devices WHERE stage = $1 AND what = 'remove')";
            sqlx::query(AssertSqlSafe(format!("{sql} {removed}")))
                .bind(&self.id)
                .execute(&mut **db)
                .await
                .doing("remove the devices of an import")?;
        }
        if let Some(import) = import {
            sqlx::query("UPDATE imports SET stage = $1 WHERE id = $2")
                .bind(&self.id)
                .bind(import)
                .execute(&mut **db)
                .await
                .doing("keep the rows of an import")?;
        }
        Ok(joined.rows_affected() == self.joins)
    }

    /// Whether all that was laid out is there: another server on the same database may have swept it at its start.
    async fn is_whole(&self, db: &mut Write) -> Result<bool, Failure> {
        let counts =
            COUNTED.map(|table| format!("(SELECT COUNT(*) FROM {table} WHERE stage = $1)"));
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT {}", counts.join(" + "))))
            .bind(&self.id)
            .fetch_one(&mut **db)
            .await
            .doing("count what an import laid out")?;
        Ok(u64::try_from(rows) == Ok(self.rows))
    }

    /// Whether a device that is to be removed is needed by now.
    async fn would_remove_too_much(&self, db: &mut Write) -> Result<bool, Failure> {
        let used: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM staged_devices WHERE stage = $1 AND what = 'remove' AND (\
             device IN (SELECT id FROM devices WHERE checked_in_at_ms > 0) OR \
             device IN (SELECT device FROM device_keys) OR device IN (SELECT device FROM runs) OR \
             device IN (SELECT device FROM assignments))",
        )
        .bind(&self.id)
        .fetch_one(&mut **db)
        .await
        .doing("look whether the devices of an import are in use")?;
        Ok(used > 0)
    }

    /// Clears away what was laid out, whether it was taken over or not. What can't be cleared is swept at the next start.
    pub(crate) async fn clear(&self, db: &Db) {
        if let Err(failure) = sweep(db, Some(&self.id)).await {
            tracing::warn!(error = %chain(&failure), "cannot clear away what an import laid out");
        }
    }
}

/// Clears away what one import laid out; at the start of the server, what all of them did. What was taken over stays.
pub(crate) async fn sweep(db: &Db, stage: Option<&str>) -> Result<(), Failure> {
    let found = if stage.is_some() {
        "stage = $1"
    } else {
        "stage <> $1"
    };
    // Fields first, in one turn with the row that says whose they are: what is whole in these tables has all its fields.
    let mut turns = Vec::new();
    for table in ["staged_assets", "staged_devices"] {
        let some = format!(
            "(SELECT device FROM {table} WHERE {found} ORDER BY device LIMIT {CLEARED_ROWS})"
        );
        turns.push(vec![
            format!(
                "DELETE FROM laid_fields WHERE device IN {some} AND NOT EXISTS (SELECT 1 FROM devices \
                 WHERE devices.id = laid_fields.device AND devices.fields_stage = laid_fields.stage)"
            ),
            format!("DELETE FROM {table} WHERE {found} AND device IN {some}"),
        ]);
    }
    turns.push(vec![format!("DELETE FROM staged_sites WHERE {found}")]);
    let idle = format!("{found} AND stage NOT IN (SELECT stage FROM imports)");
    turns.push(vec![format!(
        "DELETE FROM laid_rows WHERE {idle} AND line IN \
         (SELECT line FROM laid_rows WHERE {idle} ORDER BY line LIMIT {CLEARED_ROWS})"
    )]);
    for turn in turns {
        let mut left = true;
        while left {
            let mut write = db.write().await?;
            for sql in &turn {
                let swept = sqlx::query(AssertSqlSafe(sql.as_str()))
                    .bind(stage.unwrap_or_default())
                    .execute(&mut *write)
                    .await
                    .doing("clear away what an import laid out")?;
                left = swept.rows_affected() > 0;
            }
            commit(write).await?;
        }
    }
    Ok(())
}

fn asset(stage: &str, device: &str, values: &Values) -> Vec<Bound> {
    let key = |name: &str| name_key(name).unwrap_or_default();
    vec![
        text(stage),
        text(device),
        text(&values.serial),
        text(key(&values.serial)),
        text(&values.asset_tag),
        text(key(&values.asset_tag)),
        text(&values.uuid),
        text(&values.vendor),
        text(&values.product),
        text(&values.sku),
        text(&values.baseboard),
        text(&values.site),
        text(&values.class),
    ]
}

fn kept_row(stage: &str, row: KeptRow) -> Vec<Bound> {
    vec![
        text(stage),
        Bound::Number(row.line),
        text(row.device),
        text(row.serial),
        text(row.result.word()),
        text(row.detail),
        text(row.was),
        text(row.became),
        Bound::Number(row.joined.into()),
    ]
}

fn text(text: impl Into<String>) -> Bound {
    Bound::Text(text.into())
}

/// `INSERT … VALUES ($1, $2), ($3, $4)…`; each row has as many texts or numbers as `columns`.
struct Batch {
    table: &'static str,
    columns: &'static [&'static str],
}

/// One value of a batch.
enum Bound {
    Text(String),
    Number(i64),
}

impl Batch {
    const fn new(table: &'static str, columns: &'static [&'static str]) -> Self {
        Self { table, columns }
    }

    /// Writes all rows, each batch in a turn of its own, and says how many.
    async fn write(
        &self,
        db: &Db,
        mut rows: impl Iterator<Item = Vec<Bound>> + Send,
    ) -> Result<u64, Failure> {
        let rows_max = BATCH_VALUES / self.columns.len();
        let mut count = 0;
        loop {
            let batch: Vec<Vec<Bound>> = rows.by_ref().take(rows_max).collect();
            if batch.is_empty() {
                return Ok(count);
            }
            count += batch.len() as u64;
            // The text holds names of ours and numbers of parameters, nothing from outside.
            let mut query = sqlx::query(AssertSqlSafe(self.sql(batch.len())));
            for value in batch.into_iter().flatten() {
                query = match value {
                    Bound::Text(text) => query.bind(text),
                    Bound::Number(number) => query.bind(number),
                };
            }
            let mut write = db.write().await?;
            query
                .execute(&mut *write)
                .await
                .doing("lay out a batch of an import")?;
            commit(write).await?;
        }
    }

    fn sql(&self, rows: usize) -> String {
        let width = self.columns.len();
        let mut sql = format!(
            "INSERT INTO {} ({}) VALUES ",
            self.table,
            self.columns.join(", ")
        );
        for row in 0..rows {
            sql.push_str(if row == 0 { "(" } else { ", (" });
            for column in 0..width {
                let comma = if column == 0 { "" } else { ", " };
                sql.push_str(&format!("{comma}${}", row * width + column + 1));
            }
            sql.push(')');
        }
        sql
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use camino::Utf8Path;

    use super::super::changes::{Changes, KeptRow};
    use super::super::plan::Values;
    use super::{ASSETS, BATCH_VALUES, Stage, sweep};
    use crate::db::{Db, commit};
    use crate::fleet::version::{fleet_changes, fleet_version};
    use wire::imports::RowResult;

    /// More than one batch.
    const MACHINES: usize = BATCH_VALUES / ASSETS.columns.len() + 50;

    async fn open(folder: &tempfile::TempDir) -> Db {
        let path = Utf8Path::from_path(folder.path()).unwrap().join("a.db");
        Db::open(&path, None).await.unwrap()
    }

    async fn run(db: &Db, sql: &'static str) {
        let mut write = db.write().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut *write).await.unwrap();
        commit(write).await.unwrap();
    }

    async fn count(db: &Db, table: &str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        sqlx::query_scalar(sql).fetch_one(db.read()).await.unwrap()
    }

    /// What others see.
    async fn counts(db: &Db) -> [i64; 4] {
        let mut counts = [0; 4];
        for (at, table) in [
            "devices",
            "device_fields",
            "collection_members",
            "import_rows",
        ]
        .into_iter()
        .enumerate()
        {
            counts[at] = count(db, table).await;
        }
        counts
    }

    /// What lies there and doesn't count.
    async fn staged(db: &Db) -> i64 {
        let mut staged = 0;
        for table in ["staged_assets", "staged_devices", "staged_sites"] {
            staged += count(db, table).await;
        }
        for (all, those_that_count) in [
            ("laid_fields", "device_fields"),
            ("laid_rows", "import_rows"),
        ] {
            staged += count(db, all).await - count(db, those_that_count).await;
        }
        staged
    }

    async fn version(db: &Db) -> i64 {
        fleet_version(&mut db.read().acquire().await.unwrap())
            .await
            .unwrap()
    }

    fn arrivals() -> Changes {
        let mut changes = Changes::default();
        changes.sites.insert("BJO".into(), Some("Bjørkås".into()));
        for number in 0..MACHINES {
            let device = format!("device {number}");
            let values = Values {
                serial: format!("PF{number}"),
                site: "BJO".into(),
                fields: [("order-number".to_owned(), "4711".to_owned())].into(),
                ..Values::default()
            };
            changes.rows.push(KeptRow {
                line: i64::try_from(number).unwrap() + 2,
                device: device.clone(),
                serial: values.serial.clone(),
                result: RowResult::New,
                detail: "[]".into(),
                was: String::new(),
                became: String::new(),
                joined: true,
            });
            changes.join.push(device.clone());
            changes.assets.push((device, values));
        }
        changes
    }

    fn departures() -> Changes {
        Changes {
            remove: arrivals().join,
            ..Changes::default()
        }
    }

    async fn prepared(folder: &tempfile::TempDir) -> Db {
        let db = open(folder).await;
        run(
            &db,
            "INSERT INTO collections (name, title) VALUES ('laptops', ''); \
             INSERT INTO imports (id, file_name, digest, file_bytes, content, settings, state, counts, report, \
             uploaded_by, uploaded_at_ms, accepted_by, accepted_at_ms, undone_by, undone_at_ms) \
             VALUES (1, '', '', 0, '', '{}', 'draft', '{}', '', '', 0, '', 0, '', 0)",
        )
        .await;
        db
    }

    async fn carry_out(db: &Db, changes: Changes) -> bool {
        let import = (!changes.rows.is_empty()).then_some(1);
        let stage = Stage::lay_out(db, version(db).await, changes)
            .await
            .unwrap();
        let mut write = db.write().await.unwrap();
        let holds = stage
            .take_over(&mut write, import, "laptops")
            .await
            .unwrap();
        if holds {
            commit(write).await.unwrap();
        } else {
            drop(write);
        }
        stage.clear(db).await;
        holds
    }

    /// Asks only so many times how far it is.
    async fn cut_off<T>(work: impl Future<Output = T>, times: usize) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut left = times;
        std::future::poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            work.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Cuts the work off after each of its moments, one after the other, and starts again on what is left.
    async fn all_or_nothing(
        mut db: Db,
        folder: &tempfile::TempDir,
        changes: fn() -> Changes,
    ) -> Db {
        let before = counts(&db).await;
        for times in 1.. {
            let ended = cut_off(carry_out(&db, changes()), times).await;
            let at_once = counts(&db).await;
            drop(db);
            db = open(folder).await;
            sweep(&db, None).await.unwrap();
            assert_eq!(staged(&db).await, 0);
            if let Some(holds) = ended {
                assert!(holds);
                break;
            }
            if counts(&db).await != before {
                // It was just being committed, and all of it was.
                break;
            }
            assert_eq!(at_once, before, "cut off after {times}");
        }
        db
    }

    #[tokio::test]
    async fn cut_off_at_any_moment_it_is_all_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let db = prepared(&folder).await;
        let db = all_or_nothing(db, &folder, arrivals).await;
        let machines = i64::try_from(MACHINES).unwrap();
        assert_eq!(counts(&db).await, [machines; 4]);
        let db = all_or_nothing(db, &folder, departures).await;
        assert_eq!(counts(&db).await, [0, 0, 0, machines]);
        db.close().await;
    }

    #[tokio::test]
    async fn what_rests_on_another_fleet_is_not_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let db = prepared(&folder).await;
        let stale = Stage::lay_out(&db, version(&db).await, arrivals())
            .await
            .unwrap();
        let mut write = db.write().await.unwrap();
        fleet_changes(&mut write).await.unwrap();
        commit(write).await.unwrap();
        let mut write = db.write().await.unwrap();
        assert!(
            !stale
                .take_over(&mut write, Some(1), "laptops")
                .await
                .unwrap()
        );
        drop(write);
        stale.clear(&db).await;
        assert_eq!((counts(&db).await, staged(&db).await), ([0; 4], 0));

        // Swept by another server's start.
        let swept = Stage::lay_out(&db, version(&db).await, arrivals())
            .await
            .unwrap();
        run(&db, "DELETE FROM staged_assets WHERE device = 'device 7'").await;
        let mut write = db.write().await.unwrap();
        assert!(
            !swept
                .take_over(&mut write, Some(1), "laptops")
                .await
                .unwrap()
        );
        drop(write);
        swept.clear(&db).await;

        // A member that came meanwhile was not brought by this import.
        assert!(carry_out(&db, arrivals()).await);
        let member = Changes {
            join: vec!["device 7".into()],
            ..Changes::default()
        };
        assert!(!carry_out(&db, member).await);
        // A machine that checked in meanwhile is never removed.
        run(
            &db,
            "UPDATE devices SET checked_in_at_ms = 5 WHERE id = 'device 7'",
        )
        .await;
        assert!(!carry_out(&db, departures()).await);
        assert_eq!(
            count(&db, "devices").await,
            i64::try_from(MACHINES).unwrap()
        );
        db.close().await;
    }
}
