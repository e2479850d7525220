//! One asset: all that is known of it, and correcting it.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use wire::assets::{AssetChange, AssetDetail, AssetSeen};
use wire::facts::Facts;
use wire::names::DeviceId;
use wire::package::Model;
use wire::reasons::{Evidence, texts};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, all_said, stored};
use crate::fleet::identity::name_key;
use crate::fleet::targeting::names;
use crate::fleet::version::fleet_changes;
use crate::limits::{ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, Change};
use crate::text::clean;

/// Digits of a key that people compare.
const KEY_DIGITS_SHOWN: usize = 8;

/// `GET /api/v1/devices/{id}/asset`
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<AssetDetail>, Failure> {
    state.asset_for(&user, parse(&id)?).await.map(Json)
}

impl AppState {
    /// All that is known of an asset, or 404.
    pub(crate) async fn asset_for(
        &self,
        user: &User,
        id: DeviceId,
    ) -> Result<AssetDetail, Failure> {
        let row = self.device_row_for(user, id).await?;
        let device = row.ok_or_else(|| Failure::not_found(format!("device {id}")))?;
        let asset = self.device_for(user, id).await?;
        let (identity, imported_at_ms): (String, i64) =
            sqlx::query_as("SELECT identity, imported_at_ms FROM devices WHERE id = $1")
                .bind(&asset.id)
                .fetch_one(self.db().read())
                .await
                .doing("read an asset")?;
        let fields: Vec<(String, String)> =
            sqlx::query_as("SELECT name, value FROM device_fields WHERE device = $1")
                .bind(&asset.id)
                .fetch_all(self.db().read())
                .await
                .doing("read the fields of an asset")?;
        let key: Option<String> =
            sqlx::query_scalar("SELECT device_key FROM device_keys WHERE device = $1")
                .bind(&asset.id)
                .fetch_optional(self.db().read())
                .await
                .doing("read the key of a device")?;
        Ok(AssetDetail {
            device,
            imported_at_ms: (imported_at_ms > 0).then_some(imported_at_ms),
            uuid: asset.uuid.clone(),
            model: Model {
                vendor: asset.vendor.clone(),
                product: asset.product.clone(),
                sku: asset.sku.clone(),
                baseboard: asset.baseboard.clone(),
            },
            fields: fields.into_iter().collect::<BTreeMap<_, _>>(),
            key: key.map(|key| key.chars().take(KEY_DIGITS_SHOWN).collect()),
            seen: seen(&asset, &identity)?,
        })
    }
}

fn seen(asset: &StoredDevice, identity: &str) -> Result<Option<AssetSeen>, Failure> {
    if asset.checked_in_at_ms == 0 {
        return Ok(None);
    }
    let facts: Facts = stored("facts", &asset.facts)?;
    let evidence: Vec<Evidence> = all_said("evidence", identity)?;
    Ok(Some(AssetSeen {
        at_ms: asset.checked_in_at_ms,
        address: asset.seen_address.clone(),
        serial: facts.serial,
        asset_tag: facts.asset_tag,
        uuid: facts.uuid.map(|uuid| uuid.to_string()).unwrap_or_default(),
        model: Model {
            vendor: facts.vendor,
            product: facts.product,
            sku: facts.sku,
            baseboard: facts.baseboard,
        },
        macs: facts.network.into_iter().map(|one| one.mac).collect(),
        evidence: texts(&evidence),
        said: evidence,
    }))
}

/// `POST /api/v1/devices/{id}/asset`: what isn't named stays, an empty text empties it.
pub(crate) async fn change(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<AssetDetail>, Failure> {
    let id: DeviceId = parse(&id)?;
    let wanted: AssetChange = read_json(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let before = state.own_device_in(&user, &mut db, id).await?;
    let after = Corrected::of(&before, wanted)?;
    let changes = after.changes_of(&before);
    if !changes.is_empty() {
        after.check(&mut db, &user, &before).await?;
        after.store(&mut db, &before.id).await?;
        fleet_changes(&mut db).await?;
        let detail = changes.join(", ");
        audit(&mut db, &user.name, "asset-changed", &before.id, &detail).await?;
        commit(db).await?;
        state.members().forget();
        state.changed(Change::Device(id));
    } else {
        drop(db);
    }
    state.asset_for(&user, id).await.map(Json)
}

/// What can be corrected of an asset, as it is to be.
struct Corrected {
    site: String,
    class: String,
    asset_tag: String,
    name: String,
}

impl Corrected {
    fn of(before: &StoredDevice, wanted: AssetChange) -> Result<Self, Failure> {
        let text = |what: &str, wanted: Option<String>, before: &str| match wanted {
            None => Ok(before.to_owned()),
            Some(text) if text.chars().count() > ASSET_TEXT_CHARS_MAX => Err(Failure::bad_request(
                "bad-asset",
                format!("the {what} is longer than {ASSET_TEXT_CHARS_MAX} characters"),
            )),
            Some(text) => Ok(clean(&text, ASSET_TEXT_CHARS_MAX)),
        };
        Ok(Self {
            site: text("site", wanted.site, &before.site)?,
            class: text("class", wanted.class, &before.class)?,
            asset_tag: text("asset tag", wanted.asset_tag, &before.asset_tag)?,
            name: text("name", wanted.name, &before.assigned_name)?,
        })
    }

    /// What differs, for the audit.
    fn changes_of(&self, before: &StoredDevice) -> Vec<String> {
        let pairs = [
            ("site", &before.site, &self.site),
            ("class", &before.class, &self.class),
            ("asset tag", &before.asset_tag, &self.asset_tag),
            ("name", &before.assigned_name, &self.name),
        ];
        let differing = pairs.into_iter().filter(|(_, old, new)| old != new);
        differing
            .map(|(what, old, new)| format!("{what} {old:?} to {new:?}"))
            .collect()
    }

    async fn check(
        &self,
        db: &mut Write,
        user: &User,
        before: &StoredDevice,
    ) -> Result<(), Failure> {
        let known: Option<String> = sqlx::query_scalar("SELECT code FROM sites WHERE code = $1")
            .bind(&self.site)
            .fetch_optional(&mut **db)
            .await
            .doing("look up a site")?;
        // Whoever looks after one site can't send machines to another, nor learn which there are.
        if known.is_none() || !user.covers(&self.site) {
            return Err(Failure::not_found(format!("site {}", self.site))
                .hint("make the site first, or ask an administrator"));
        }
        if self.asset_tag != before.asset_tag {
            self.check_tag(db, before).await?;
        }
        if self.name != before.assigned_name && !self.name.is_empty() {
            names::check_one(db, &before.id, &self.name).await?;
        }
        Ok(())
    }

    async fn check_tag(&self, db: &mut Write, before: &StoredDevice) -> Result<(), Failure> {
        let tag = &self.asset_tag;
        let Some(key) = name_key(tag) else {
            return match tag.is_empty() {
                true => Ok(()),
                false => {
                    let message = format!("{tag:?} is a placeholder, not an asset tag");
                    Err(Failure::bad_request("bad-asset", message))
                }
            };
        };
        let owner: Option<String> = sqlx::query_scalar(
            "SELECT serial FROM devices WHERE asset_tag_key = $1 AND id <> $2 ORDER BY serial LIMIT 1",
        )
        .bind(key)
        .bind(&before.id)
        .fetch_optional(&mut **db)
        .await
        .doing("look for an asset tag")?;
        match owner {
            None => Ok(()),
            Some(_) => Err(Failure::refused(
                StatusCode::CONFLICT,
                "tag-taken",
                format!("another machine has the asset tag {tag}"),
            )
            .hint("find it by its asset tag, and correct the one that is wrong")),
        }
    }

    async fn store(&self, db: &mut Write, id: &str) -> Result<(), Failure> {
        sqlx::query(
            "UPDATE devices SET site = $1, class = $2, asset_tag = $3, asset_tag_key = $4, assigned_name = $5 \
             WHERE id = $6",
        )
        .bind(&self.site)
        .bind(&self.class)
        .bind(&self.asset_tag)
        .bind(name_key(&self.asset_tag).unwrap_or_default())
        .bind(&self.name)
        .bind(id)
        .execute(&mut **db)
        .await
        .doing("correct an asset")?;
        Ok(())
    }
}
