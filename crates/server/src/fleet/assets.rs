//! The import of asset files: all of a file or nothing.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use wire::admin_api::{AssetImportReport, AssetImportRow};
use wire::names::{CollectionName, DeviceId};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored_text};
use crate::fleet::asset_file::{AssetFile, AssetLine, Field, decode, parse as parse_file};
use crate::fleet::identity::name_key;
use crate::limits::ASSET_FILE_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_body};
use crate::state::{AppState, Change, blocking, now_ms};

/// How an import is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Options {
    /// Also put every row into this collection.
    #[serde(default)]
    collection: Option<String>,
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// An asset as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
struct Asset {
    id: String,
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

/// What an import found out.
struct Outcome {
    rows: Vec<AssetImportRow>,
    devices: Vec<DeviceId>,
}

/// `POST /api/v1/assets/import`
pub(crate) async fn import(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(options): Query<Options>,
    body: Body,
) -> Result<Json<AssetImportReport>, Failure> {
    let collection: Option<CollectionName> =
        options.collection.as_deref().map(parse).transpose()?;
    let bytes = read_body(body, ASSET_FILE_BYTES_MAX).await?;
    let file = blocking(move || {
        parse_file(&decode(&bytes)).map_err(|error| {
            Failure::refused(StatusCode::UNPROCESSABLE_ENTITY, "bad-asset-file", error.to_string())
                .hint("the first line holds the titles of the columns, such as: serial;asset tag;site;class")
        })
    })
    .await?;
    let invalid = file
        .rows
        .iter()
        .filter(|row| !row.problems.is_empty())
        .count();
    let mut db = state.db().write().await?;
    if let Some(collection) = &collection {
        require_collection(&mut db, collection).await?;
    }
    // Everything is tried for real; without a commit it never was.
    let outcome = apply(&mut db, &file, collection.as_ref()).await?;
    let is_stored = invalid == 0 && !options.dry_run;
    if is_stored {
        let detail = format!("{} rows", file.rows.len());
        let subject = collection
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        audit(&mut db, &user.name, "assets-imported", &subject, &detail).await?;
        commit(db).await?;
        for device in outcome.devices {
            state.changed(Change::Device(device));
        }
    } else {
        drop(db);
    }
    let count = |result| {
        let rows = outcome
            .rows
            .iter()
            .filter(|row| row.result == result)
            .count();
        u32::try_from(rows).unwrap_or(u32::MAX)
    };
    let (new, changed, unchanged, invalid) = (
        count("new"),
        count("changed"),
        count("unchanged"),
        count("invalid"),
    );
    let columns = file.columns.into_iter().map(|(title, field)| {
        let field = field.map_or("ignored", Field::name).to_owned();
        (title, field)
    });
    let columns = columns.collect();
    Ok(Json(AssetImportReport {
        dry_run: options.dry_run,
        columns,
        rows: outcome.rows,
        new,
        changed,
        unchanged,
        invalid,
    }))
}

async fn require_collection(db: &mut Write, collection: &CollectionName) -> Result<(), Failure> {
    let known: Option<String> = sqlx::query_scalar("SELECT name FROM collections WHERE name = $1")
        .bind(collection.as_str())
        .fetch_optional(&mut **db)
        .await
        .doing("look up a collection")?;
    match known {
        Some(_) => Ok(()),
        None => Err(Failure::not_found(format!("collection {collection}")).hint("create it first")),
    }
}

async fn apply(
    db: &mut Write,
    file: &AssetFile,
    collection: Option<&CollectionName>,
) -> Result<Outcome, Failure> {
    sqlx::query("INSERT INTO sites (code, name) VALUES ('', '') ON CONFLICT (code) DO NOTHING")
        .execute(&mut **db)
        .await
        .doing("store the nameless site")?;
    let mut outcome = Outcome {
        rows: Vec::with_capacity(file.rows.len()),
        devices: Vec::new(),
    };
    let mut sites: BTreeMap<String, String> = BTreeMap::new();
    for line in &file.rows {
        let (result, device) = if line.problems.is_empty() {
            store_sites(db, line, &mut sites).await?;
            let (result, device) = store(db, line).await?;
            (result, Some(device))
        } else {
            ("invalid", None)
        };
        if let (Some(device), Some(collection)) = (device, collection) {
            sqlx::query(
                "INSERT INTO collection_members (collection, device) VALUES ($1, $2) \
                 ON CONFLICT (collection, device) DO NOTHING",
            )
            .bind(collection.as_str())
            .bind(device.to_string())
            .execute(&mut **db)
            .await
            .doing("put a device into a collection")?;
        }
        outcome.devices.extend(device);
        outcome.rows.push(AssetImportRow {
            line: line.line,
            serial: line.values.get(&Field::Serial).cloned().unwrap_or_default(),
            result: result.to_owned(),
            problems: line.problems.clone(),
        });
    }
    Ok(outcome)
}

/// A site is known by its code; without one its name stands in.
fn site_code(line: &AssetLine) -> Option<&String> {
    let filled = |field| line.values.get(&field).filter(|text| !text.is_empty());
    filled(Field::SiteCode).or_else(|| filled(Field::SiteName))
}

async fn store_sites(
    db: &mut Write,
    line: &AssetLine,
    known: &mut BTreeMap<String, String>,
) -> Result<(), Failure> {
    let Some(code) = site_code(line) else {
        return Ok(());
    };
    let name = line
        .values
        .get(&Field::SiteName)
        .filter(|name| !name.is_empty());
    if known.get(code) == Some(name.unwrap_or(code)) {
        return Ok(());
    }
    let sql = match name {
        Some(_) => {
            "INSERT INTO sites (code, name) VALUES ($1, $2) ON CONFLICT (code) DO UPDATE SET name = excluded.name"
        }
        None => "INSERT INTO sites (code, name) VALUES ($1, $2) ON CONFLICT (code) DO NOTHING",
    };
    sqlx::query(sql)
        .bind(code)
        .bind(name.unwrap_or(code))
        .execute(&mut **db)
        .await
        .doing("store a site")?;
    known.insert(code.clone(), name.unwrap_or(code).clone());
    Ok(())
}

async fn store(db: &mut Write, line: &AssetLine) -> Result<(&'static str, DeviceId), Failure> {
    let known: Option<Asset> = sqlx::query_as(
        "SELECT id, serial, asset_tag, uuid, vendor, product, sku, baseboard, site, class FROM devices \
         WHERE serial_key = $1",
    )
    .bind(&line.serial_key)
    .fetch_optional(&mut **db)
    .await
    .doing("look up an asset")?;
    let before = known.clone().unwrap_or_else(|| Asset {
        id: DeviceId::random().to_string(),
        serial: line.values.get(&Field::Serial).cloned().unwrap_or_default(),
        asset_tag: String::new(),
        uuid: String::new(),
        vendor: String::new(),
        product: String::new(),
        sku: String::new(),
        baseboard: String::new(),
        site: String::new(),
        class: String::new(),
    });
    let after = merged(&before, line);
    let device: DeviceId = stored_text("device id", &after.id)?;
    let result = match &known {
        None => "new",
        Some(known) if *known == after => return Ok(("unchanged", device)),
        Some(_) => "changed",
    };
    sqlx::query(
        "INSERT INTO devices (id, serial, serial_key, asset_tag, asset_tag_key, uuid, vendor, product, sku, baseboard, \
         site, class, message, waiting, facts, identity, staged, imported_at_ms, checked_in_at_ms, last_seen_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, '', '', '{}', '[]', '', $13, 0, 0) \
         ON CONFLICT (id) DO UPDATE SET serial = excluded.serial, asset_tag = excluded.asset_tag, \
         asset_tag_key = excluded.asset_tag_key, uuid = excluded.uuid, vendor = excluded.vendor, \
         product = excluded.product, sku = excluded.sku, baseboard = excluded.baseboard, site = excluded.site, \
         class = excluded.class, imported_at_ms = excluded.imported_at_ms",
    )
    .bind(&after.id)
    .bind(&after.serial)
    .bind(&line.serial_key)
    .bind(&after.asset_tag)
    .bind(name_key(&after.asset_tag).unwrap_or_default())
    .bind(&after.uuid)
    .bind(&after.vendor)
    .bind(&after.product)
    .bind(&after.sku)
    .bind(&after.baseboard)
    .bind(&after.site)
    .bind(&after.class)
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("store an asset")?;
    Ok((result, device))
}

/// What a row says, over what was known; columns the file doesn't have change nothing.
fn merged(before: &Asset, line: &AssetLine) -> Asset {
    let value = |field, old: &String| line.values.get(&field).unwrap_or(old).clone();
    Asset {
        id: before.id.clone(),
        serial: value(Field::Serial, &before.serial),
        asset_tag: value(Field::AssetTag, &before.asset_tag),
        uuid: value(Field::Uuid, &before.uuid),
        vendor: value(Field::Vendor, &before.vendor),
        product: value(Field::Product, &before.product),
        sku: value(Field::Sku, &before.sku),
        baseboard: value(Field::Baseboard, &before.baseboard),
        site: site_code(line).unwrap_or(&before.site).clone(),
        class: value(Field::Class, &before.class),
    }
}
