//! Writes what a plan says, in batches: ten thousand rows are one short transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::AssertSqlSafe;
use wire::imports::RowResult;
use wire::names::{CollectionName, DeviceId};

use super::columns::Field;
use super::plan::{Fleet, Known, Planned, Values, site_code};
use crate::db::Write;
use crate::error::{Doing as _, Failure, to_json};
use crate::fleet::identity::name_key;
use crate::state::now_ms;

/// Rows of one statement: few statements, and far below the 32 766 parameters that SQLite allows.
const BATCH_ROWS: usize = 400;

/// `INSERT … VALUES ($1, $2), ($3, $4)…`, then `tail`; each row has as many texts or numbers as `columns`.
pub(crate) struct Batch {
    table: &'static str,
    columns: &'static [&'static str],
    tail: &'static str,
}

/// One value of a batch.
pub(crate) enum Bound {
    Text(String),
    Number(i64),
}

impl Batch {
    pub(crate) const fn new(
        table: &'static str,
        columns: &'static [&'static str],
        tail: &'static str,
    ) -> Self {
        Self {
            table,
            columns,
            tail,
        }
    }

    /// Writes all rows.
    pub(crate) async fn write(&self, db: &mut Write, rows: Vec<Vec<Bound>>) -> Result<(), Failure> {
        let mut rows = rows.into_iter();
        loop {
            let batch: Vec<Vec<Bound>> = rows.by_ref().take(BATCH_ROWS).collect();
            if batch.is_empty() {
                return Ok(());
            }
            // The text holds names of ours and numbers of parameters, nothing from outside.
            let mut query = sqlx::query(AssertSqlSafe(self.sql(batch.len())));
            for value in batch.into_iter().flatten() {
                query = match value {
                    Bound::Text(text) => query.bind(text),
                    Bound::Number(number) => query.bind(number),
                };
            }
            query
                .execute(&mut **db)
                .await
                .doing("write a batch of an import")?;
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
        sql.push(' ');
        sql.push_str(self.tail);
        sql
    }
}

const DEVICES: Batch = Batch::new(
    "devices",
    &[
        "id",
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
        "message",
        "waiting",
        "facts",
        "identity",
        "staged",
        "imported_at_ms",
        "checked_in_at_ms",
        "last_seen_at_ms",
    ],
    "ON CONFLICT (id) DO UPDATE SET serial = excluded.serial, asset_tag = excluded.asset_tag, \
     asset_tag_key = excluded.asset_tag_key, uuid = excluded.uuid, vendor = excluded.vendor, \
     product = excluded.product, sku = excluded.sku, baseboard = excluded.baseboard, site = excluded.site, \
     class = excluded.class, imported_at_ms = excluded.imported_at_ms",
);
const FIELDS: Batch = Batch::new(
    "device_fields",
    &["device", "name", "value"],
    "ON CONFLICT (device, name) DO UPDATE SET value = excluded.value",
);
const MEMBERS: Batch = Batch::new(
    "collection_members",
    &["collection", "device"],
    "ON CONFLICT (collection, device) DO NOTHING",
);
const IMPORT_ROWS: Batch = Batch::new(
    "import_rows",
    &[
        "import_id",
        "line",
        "device",
        "serial",
        "result",
        "detail",
        "was",
        "became",
        "joined",
    ],
    "",
);
const SITE_NAMES: Batch = Batch::new(
    "sites",
    &["code", "name"],
    "ON CONFLICT (code) DO UPDATE SET name = excluded.name",
);
const SITE_CODES: Batch = Batch::new("sites", &["code", "name"], "ON CONFLICT (code) DO NOTHING");

fn text(text: impl Into<String>) -> Bound {
    Bound::Text(text.into())
}

/// An asset as it is stored.
#[derive(sqlx::FromRow)]
struct Asset {
    id: String,
    serial_key: String,
    serial: String,
    asset_tag: String,
    uuid: String,
    vendor: String,
    product: String,
    sku: String,
    baseboard: String,
    site: String,
    class: String,
}

/// The whole fleet, as an import compares with it.
pub(crate) async fn fleet(connection: &mut sqlx::AnyConnection) -> Result<Fleet, Failure> {
    let assets: Vec<Asset> = sqlx::query_as(
        "SELECT id, serial_key, serial, asset_tag, uuid, vendor, product, sku, baseboard, site, class FROM devices",
    )
    .fetch_all(&mut *connection)
    .await
    .doing("read the fleet")?;
    let fields: Vec<(String, String, String)> =
        sqlx::query_as("SELECT device, name, value FROM device_fields")
            .fetch_all(&mut *connection)
            .await
            .doing("read the fields of the fleet")?;
    let mut fields_by_device: HashMap<String, BTreeMap<String, String>> = HashMap::new();
    for (device, name, value) in fields {
        fields_by_device
            .entry(device)
            .or_default()
            .insert(name, value);
    }
    let mut fleet = Fleet::default();
    for asset in assets {
        let values = Values {
            serial: asset.serial,
            asset_tag: asset.asset_tag,
            uuid: asset.uuid,
            vendor: asset.vendor,
            product: asset.product,
            sku: asset.sku,
            baseboard: asset.baseboard,
            site: asset.site,
            class: asset.class,
            fields: fields_by_device.remove(&asset.id).unwrap_or_default(),
        };
        let device = asset.id;
        fleet.insert(asset.serial_key, Known { device, values });
    }
    Ok(fleet)
}

/// Writes the valid rows of a plan. The devices are those that are new or changed.
pub(crate) async fn apply(
    db: &mut Write,
    import: Option<i64>,
    plan: &[Planned],
    collection: Option<&CollectionName>,
) -> Result<Vec<String>, Failure> {
    let members = match collection {
        Some(collection) => members(db, collection).await?,
        None => BTreeSet::new(),
    };
    let writes = Writes::of(import, plan, collection, &members)?;
    SITE_CODES.write(db, writes.site_codes).await?;
    SITE_NAMES.write(db, writes.site_names).await?;
    write_devices(db, writes.devices).await?;
    MEMBERS.write(db, writes.members).await?;
    IMPORT_ROWS.write(db, writes.rows).await?;
    Ok(writes.touched)
}

async fn members(db: &mut Write, collection: &CollectionName) -> Result<BTreeSet<String>, Failure> {
    let members: Vec<(String,)> =
        sqlx::query_as("SELECT device FROM collection_members WHERE collection = $1")
            .bind(collection.as_str())
            .fetch_all(&mut **db)
            .await
            .doing("read the members of a collection")?;
    Ok(members.into_iter().map(|(device,)| device).collect())
}

/// All that a plan writes.
#[derive(Default)]
struct Writes {
    site_codes: Vec<Vec<Bound>>,
    site_names: Vec<Vec<Bound>>,
    devices: Vec<(String, Values)>,
    members: Vec<Vec<Bound>>,
    rows: Vec<Vec<Bound>>,
    /// Devices that look different afterwards.
    touched: Vec<String>,
}

impl Writes {
    fn of(
        import: Option<i64>,
        plan: &[Planned],
        collection: Option<&CollectionName>,
        members: &BTreeSet<String>,
    ) -> Result<Self, Failure> {
        let mut writes = Self::default();
        writes.sites(plan);
        for row in plan {
            let device = row.result.is_valid().then(|| match &row.known {
                Some(known) => known.device.clone(),
                None => DeviceId::random().to_string(),
            });
            let mut joins = false;
            if let Some(device) = &device {
                let is_changed = row.result != RowResult::Unchanged;
                if is_changed {
                    writes.devices.push((device.clone(), row.becomes.clone()));
                }
                if let Some(collection) = collection.filter(|_| !members.contains(device)) {
                    joins = true;
                    let member = vec![text(collection.as_str()), text(device)];
                    writes.members.push(member);
                }
                if is_changed || joins {
                    writes.touched.push(device.clone());
                }
            }
            if let Some(import) = import {
                let device = device.unwrap_or_default();
                writes.rows.push(import_row(import, row, device, joins)?);
            }
        }
        Ok(writes)
    }

    fn sites(&mut self, plan: &[Planned]) {
        let mut named: BTreeMap<&str, &str> = BTreeMap::new();
        let mut codes: BTreeSet<&str> = BTreeSet::from([""]);
        for row in plan.iter().filter(|row| row.result.is_valid()) {
            codes.insert(&row.becomes.site);
            let name = row.row.text(&Field::SiteName);
            if let Some(code) = site_code(&row.row).filter(|_| !name.is_empty()) {
                named.insert(code, name);
            }
        }
        for code in codes.into_iter().filter(|code| !named.contains_key(code)) {
            self.site_codes.push(vec![text(code), text(code)]);
        }
        for (code, name) in named {
            self.site_names.push(vec![text(code), text(name)]);
        }
    }
}

fn import_row(
    import: i64,
    row: &Planned,
    device: String,
    joins: bool,
) -> Result<Vec<Bound>, Failure> {
    let was = match &row.known {
        Some(known) if row.result == RowResult::Changed => {
            to_json("write an import", &known.values)?
        }
        _ => String::new(),
    };
    let became = match row.result {
        RowResult::New | RowResult::Changed => to_json("write an import", &row.becomes)?,
        _ => String::new(),
    };
    Ok(vec![
        Bound::Number(import),
        Bound::Number(i64::try_from(row.row.line).unwrap_or(i64::MAX)),
        text(device),
        text(row.row.text(&Field::Serial)),
        text(row.result.word()),
        text(to_json("write an import", &row.problems)?),
        text(was),
        text(became),
        Bound::Number(joins.into()),
    ])
}

/// Writes values of devices, new or known, and their free fields.
pub(crate) async fn write_devices(
    db: &mut Write,
    devices: Vec<(String, Values)>,
) -> Result<(), Failure> {
    let now = now_ms();
    let rows = devices
        .iter()
        .map(|(device, values)| device_row(device, values, now))
        .collect();
    DEVICES.write(db, rows).await?;
    let ids: Vec<String> = devices.iter().map(|(device, _)| device.clone()).collect();
    delete_where(db, "DELETE FROM device_fields WHERE device IN", &ids).await?;
    let mut fields = Vec::new();
    for (device, values) in devices {
        for (name, value) in values.fields {
            fields.push(vec![text(&device), text(name), text(value)]);
        }
    }
    FIELDS.write(db, fields).await
}

fn device_row(device: &str, values: &Values, now: i64) -> Vec<Bound> {
    let key = |name: &str| name_key(name).unwrap_or_default();
    vec![
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
        text(""),
        text(""),
        text("{}"),
        text("[]"),
        text(""),
        Bound::Number(now),
        Bound::Number(0),
        Bound::Number(0),
    ]
}

/// `sql ($1, $2, …)` for all ids, in batches.
pub(crate) async fn delete_where(
    db: &mut Write,
    sql: &'static str,
    ids: &[String],
) -> Result<(), Failure> {
    for batch in ids.chunks(BATCH_ROWS) {
        let marks: Vec<String> = (1..=batch.len()).map(|n| format!("${n}")).collect();
        let mut query = sqlx::query(AssertSqlSafe(format!("{sql} ({})", marks.join(", "))));
        for id in batch {
            query = query.bind(id.clone());
        }
        query
            .execute(&mut **db)
            .await
            .doing("delete a batch of an import")?;
    }
    Ok(())
}
