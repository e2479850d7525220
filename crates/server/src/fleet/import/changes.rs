//! What a plan writes, and the fleet that it is made from.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::pool::PoolConnection;
use wire::imports::RowResult;
use wire::names::{CollectionName, DeviceId};

use super::columns::Field;
use super::plan::{CLEAR, Fleet, Known, Planned, Values, site_code};
use crate::error::{Doing as _, Failure, to_json};
use crate::fleet::aliases::Aliases;
use crate::fleet::assets::require_collection;
use crate::fleet::version::fleet_version;
use crate::state::AppState;

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

/// What a plan is made from.
#[derive(Debug, Default)]
pub(crate) struct Basis {
    /// Read before everything else: what changes meanwhile makes the plan an old one.
    pub(crate) version: i64,
    pub(crate) fleet: Fleet,
    /// The members of the collection that is imported into.
    pub(crate) members: BTreeSet<String>,
}

impl Basis {
    /// Reads it; a collection has to be there.
    pub(crate) async fn read(
        state: &AppState,
        collection: Option<&CollectionName>,
    ) -> Result<Self, Failure> {
        let mut connection = state.db().read().acquire().await.doing("read the fleet")?;
        if let Some(collection) = collection {
            require_collection(&mut connection, collection).await?;
        }
        Ok(Self {
            version: fleet_version(&mut connection).await?,
            fleet: fleet(&mut connection).await?,
            members: match collection {
                Some(collection) => members(&mut connection, collection).await?,
                None => BTreeSet::new(),
            },
        })
    }
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
    let mut fleet = Fleet::empty(Aliases::read(connection).await?);
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

async fn members(
    connection: &mut PoolConnection<sqlx::Any>,
    collection: &CollectionName,
) -> Result<BTreeSet<String>, Failure> {
    let members: Vec<(String,)> =
        sqlx::query_as("SELECT device FROM collection_members WHERE collection = $1")
            .bind(collection.as_str())
            .fetch_all(&mut **connection)
            .await
            .doing("read the members of a collection")?;
    Ok(members.into_iter().map(|(device,)| device).collect())
}

/// All that is written.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Codes and names; a code that the file has no name for keeps the one it has.
    pub(crate) sites: BTreeMap<String, Option<String>>,
    /// What devices become, new or known.
    pub(crate) assets: Vec<(String, Values)>,
    /// Devices that join the collection.
    pub(crate) join: Vec<String>,
    /// Devices that leave it.
    pub(crate) leave: Vec<String>,
    /// Devices that are removed.
    pub(crate) remove: Vec<String>,
    /// What is kept of each row.
    pub(crate) rows: Vec<KeptRow>,
}

/// A row of an import as it is kept.
#[derive(Debug)]
pub(crate) struct KeptRow {
    pub(crate) line: i64,
    pub(crate) device: String,
    pub(crate) serial: String,
    pub(crate) result: RowResult,
    pub(crate) detail: String,
    pub(crate) was: String,
    pub(crate) became: String,
    pub(crate) joined: bool,
}

impl Changes {
    /// The valid rows of a plan. With a collection, they join it.
    pub(crate) fn of(
        plan: &[Planned],
        members: Option<&BTreeSet<String>>,
    ) -> Result<Self, Failure> {
        let mut changes = Self {
            sites: sites(plan),
            ..Self::default()
        };
        for row in plan {
            let device = row.result.is_valid().then(|| match &row.known {
                Some(known) => known.device.clone(),
                None => DeviceId::random().to_string(),
            });
            let mut joined = false;
            if let Some(device) = &device {
                if row.result != RowResult::Unchanged {
                    changes.assets.push((device.clone(), row.becomes.clone()));
                }
                joined = members.is_some_and(|members| !members.contains(device));
                if joined {
                    changes.join.push(device.clone());
                }
            }
            changes
                .rows
                .push(kept_row(row, device.unwrap_or_default(), joined)?);
        }
        Ok(changes)
    }

    /// Devices that look different afterwards.
    pub(crate) fn devices(&self) -> BTreeSet<String> {
        let written = self.assets.iter().map(|(device, _)| device);
        let others = [&self.join, &self.leave, &self.remove];
        written
            .chain(others.into_iter().flatten())
            .cloned()
            .collect()
    }
}

fn sites(plan: &[Planned]) -> BTreeMap<String, Option<String>> {
    let mut sites: BTreeMap<&str, Option<&str>> = BTreeMap::from([("", None)]);
    for row in plan.iter().filter(|row| row.result.is_valid()) {
        sites.entry(&row.becomes.site).or_default();
        let name = row.row.text(&Field::SiteName);
        if let Some(code) = site_code(&row.row).filter(|_| !matches!(name, "" | CLEAR)) {
            sites.insert(code, Some(name));
        }
    }
    let owned = |(code, name): (&str, Option<&str>)| (code.to_owned(), name.map(str::to_owned));
    sites.into_iter().map(owned).collect()
}

fn kept_row(row: &Planned, device: String, joined: bool) -> Result<KeptRow, Failure> {
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
    Ok(KeptRow {
        line: i64::try_from(row.row.line).unwrap_or(i64::MAX),
        device,
        serial: row.row.text(&Field::Serial).to_owned(),
        result: row.result,
        detail: to_json("write an import", &row.problems)?,
        was,
        became,
        joined,
    })
}
