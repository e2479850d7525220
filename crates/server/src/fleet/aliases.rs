//! Names that vendors use for models, and whose machines call themselves otherwise: an import that says one is about the
//! model that it stands for.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use sqlx::AnyConnection;
use wire::classes::{ALIASES_MAX, AliasChange, ModelAlias};
use wire::package::Model;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored};
use crate::fleet::targeting::preview::prestages;
use crate::fleet::version::fleet_changes;
use crate::limits::{ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::read_json;
use crate::state::{AppState, now_ms};
use crate::text::clean;

/// How the name of a model is compared: letter case and the number of blanks say nothing.
pub(crate) fn model_key(name: &str) -> String {
    let words: Vec<&str> = name.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// What vendors call models: vendor and product of each, by the key of the other name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Aliases(HashMap<String, (String, String)>);

impl Aliases {
    pub(crate) async fn read(db: &mut AnyConnection) -> Result<Self, Failure> {
        let aliases = stored_aliases(db).await?.into_iter();
        let by_key = aliases.map(|alias| (model_key(&alias.alias), (alias.vendor, alias.product)));
        Ok(Self(by_key.collect()))
    }

    /// Vendor and product of the model that is called so by a vendor.
    pub(crate) fn meant(&self, product: &str) -> Option<&(String, String)> {
        self.0.get(&model_key(product))
    }

    /// The model that is meant.
    pub(crate) fn resolved(&self, model: Model) -> Model {
        match self.meant(&model.product) {
            Some((vendor, product)) => Model {
                vendor: vendor.clone(),
                product: product.clone(),
                ..model
            },
            None => model,
        }
    }
}

/// The models that a name can stand for, as machines and sticks say them, prestages are for them, and other names stand for
/// them: vendor and product, by the key of the product.
pub(crate) type KnownModels = BTreeMap<String, (String, String)>;

pub(crate) async fn known_models(db: &mut AnyConnection) -> Result<KnownModels, Failure> {
    let mut known = KnownModels::new();
    let mut know = |vendor: String, product: String| {
        if !product.is_empty() {
            let key = model_key(&product);
            known.entry(key).or_insert((vendor, product));
        }
    };
    for sql in [
        "SELECT DISTINCT facts FROM devices WHERE facts <> ''",
        "SELECT document FROM receipts",
    ] {
        let documents: Vec<String> = sqlx::query_scalar(sql)
            .fetch_all(&mut *db)
            .await
            .doing("read what machines say they are")?;
        for document in documents {
            let said: Said = stored("model of a machine", &document)?;
            know(said.vendor, said.product);
        }
    }
    for (_, model, _) in prestages(db).await? {
        know(model.vendor, model.product);
    }
    for alias in stored_aliases(db).await? {
        know(alias.vendor, alias.product);
    }
    Ok(known)
}

/// Who made a machine and what it is, among whatever else a document says.
#[derive(serde::Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Said {
    vendor: String,
    product: String,
}

async fn stored_aliases(db: &mut AnyConnection) -> Result<Vec<ModelAlias>, Failure> {
    let rows: Vec<(String, String, String, String, i64)> = sqlx::query_as(
        "SELECT alias, vendor, product, set_by, set_at_ms FROM model_aliases ORDER BY alias_key",
    )
    .fetch_all(db)
    .await
    .doing("read the names that vendors use")?;
    let row = |(alias, vendor, product, set_by, set_at_ms)| ModelAlias {
        alias,
        vendor,
        product,
        set_by,
        set_at_ms,
    };
    Ok(rows.into_iter().map(row).collect())
}

impl AppState {
    /// The names that vendors use, in order.
    pub(crate) async fn model_aliases(&self) -> Result<Vec<ModelAlias>, Failure> {
        let mut db = self.db().read().acquire().await.doing("read the models")?;
        stored_aliases(&mut db).await
    }

    /// The models that a name can stand for.
    pub(crate) async fn known_models(&self) -> Result<KnownModels, Failure> {
        let mut db = self.db().read().acquire().await.doing("read the models")?;
        known_models(&mut db).await
    }
}

/// `GET /api/v1/model-aliases`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<ModelAlias>>, Failure> {
    state.model_aliases().await.map(Json)
}

/// `PUT /api/v1/model-aliases/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<ModelAlias>, Failure> {
    let change: AliasChange = read_json(body, JSON_BYTES_MAX).await?;
    let alias = clean(&name, ASSET_TEXT_CHARS_MAX);
    let mut product = clean(&change.product, ASSET_TEXT_CHARS_MAX);
    if alias.is_empty() || product.is_empty() {
        let message = "a name stands for a model: both are needed";
        return Err(Failure::bad_request("bad-alias", message));
    }
    let key = model_key(&alias);
    if key == model_key(&product) {
        let message = format!("{alias} is the model's own name");
        return Err(Failure::bad_request("bad-alias", message)
            .hint("letter case and blanks make no difference"));
    }
    let mut db = state.db().write().await?;
    let aliases = Aliases::read(&mut db).await?;
    if let Some((_, meant)) = aliases.meant(&product) {
        let message = format!("{product} itself stands for {meant}");
        return Err(
            Failure::conflict("bad-alias", message).hint("name the model that machines say")
        );
    }
    if let Some((_, other)) = aliases
        .0
        .values()
        .find(|(_, other)| model_key(other) == key)
    {
        let message = format!("other names stand for {other}");
        return Err(Failure::conflict("bad-alias", message).hint("remove those names first"));
    }
    if aliases.0.len() >= ALIASES_MAX && !aliases.0.contains_key(&key) {
        let message = format!("there are {ALIASES_MAX} names already");
        return Err(Failure::conflict("too-many", message).hint("remove one that no file uses"));
    }
    let mut vendor = clean(&change.vendor, ASSET_TEXT_CHARS_MAX);
    // A model that is known is spelt as its machines spell it.
    if let Some((known_vendor, known)) = known_models(&mut db).await?.remove(&model_key(&product)) {
        product = known;
        if vendor.is_empty() {
            vendor = known_vendor;
        }
    }
    store(&mut db, &key, (&alias, &vendor, &product), &user.name).await?;
    // Whoever looks at a draft looks again.
    fleet_changes(&mut db).await?;
    audit(&mut db, &user.name, "model-alias-set", &alias, &product).await?;
    commit(db).await?;
    find(&state, &alias).await.map(Json)
}

async fn store(
    db: &mut Write,
    key: &str,
    (alias, vendor, product): (&str, &str, &str),
    by: &str,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO model_aliases (alias_key, alias, vendor, product, set_by, set_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (alias_key) DO UPDATE SET alias = excluded.alias, \
         vendor = excluded.vendor, product = excluded.product, set_by = excluded.set_by, set_at_ms = excluded.set_at_ms",
    )
    .bind(key)
    .bind(alias)
    .bind(vendor)
    .bind(product)
    .bind(by)
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("store a name that a vendor uses")?;
    Ok(())
}

/// `DELETE /api/v1/model-aliases/{name}`
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<ModelAlias>, Failure> {
    let alias = find(&state, &name).await?;
    let mut db = state.db().write().await?;
    sqlx::query("DELETE FROM model_aliases WHERE alias_key = $1")
        .bind(model_key(&alias.alias))
        .execute(&mut *db)
        .await
        .doing("forget a name that a vendor uses")?;
    fleet_changes(&mut db).await?;
    audit(
        &mut db,
        &user.name,
        "model-alias-removed",
        &alias.alias,
        &alias.product,
    )
    .await?;
    commit(db).await?;
    Ok(Json(alias))
}

async fn find(state: &AppState, name: &str) -> Result<ModelAlias, Failure> {
    let key = model_key(name);
    let all = state.model_aliases().await?;
    all.into_iter()
        .find(|alias| model_key(&alias.alias) == key)
        .ok_or_else(|| Failure::not_found(format!("other name {name} of a model")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_blanks_make_no_difference() {
        let names = Aliases(
            [(
                "elitebook 840 14 inch g10 notebook pc (5z1a2)".to_owned(),
                (
                    "HP".to_owned(),
                    "HP EliteBook 840 14 inch G10 Notebook PC".to_owned(),
                ),
            )]
            .into(),
        );
        let check = |product: &str| {
            let model = Model {
                vendor: "HP Norge".into(),
                product: product.into(),
                sku: "5Z1A2".into(),
                ..Model::default()
            };
            let resolved = names.resolved(model);
            (resolved.vendor, resolved.product, resolved.sku)
        };
        let meant = (
            "HP".into(),
            "HP EliteBook 840 14 inch G10 Notebook PC".into(),
            "5Z1A2".into(),
        );
        assert_eq!(
            check("  EliteBook 840  14 inch\tG10 Notebook PC (5z1a2)"),
            meant
        );
        let other = check("EliteBook 850");
        assert_eq!(
            other,
            ("HP Norge".into(), "EliteBook 850".into(), "5Z1A2".into())
        );
    }
}
