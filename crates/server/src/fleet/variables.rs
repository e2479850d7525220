//! Variables: what administrators set for some devices, and which value wins. See `docs/formats/admin-api.md`.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use sequence::document::is_variable_name;
use sequence::lint::without_secrets;
use sequence::scope::{FACT_NAMES, ORDER_NAMES, OUTPUTS_NAME};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use wire::names::{CollectionName, DeviceId};
use wire::sequence::CompiledSequence;
use wire::variables::{
    DeviceVariables, EffectiveVariable, ScopeVariables, VALUE_BYTES_MAX, VARIABLES_MAX,
    VariableChange, VariableOrigin, VariableRow, VariableScope, model_name,
};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::fleet::identity::name_key;
use crate::fleet::targeting::classes::{Software, software};
use crate::fleet::targeting::membership;
use crate::limits::{ASSET_TEXT_CHARS_MAX, JSON_BYTES_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::May;
use crate::routes::{parse, read_json};
use crate::runs::due::due_deployments;
use crate::runs::orders::{STAGED_NAME, device_values, latest_sequence};
use crate::runs::rows::StoredDevice;
use crate::state::{AppState, now_ms};
use crate::text::clean;

/// The variable that lists the packages of a device's class.
const SOFTWARE_NAME: &str = "class_software";

/// One variable with the value that wins, and where that comes from.
pub(crate) type Layered = (String, Value, VariableOrigin);

/// Variables by scope and name, as far as they were read.
#[derive(Debug, Default)]
pub(crate) struct Scoped {
    variables: BTreeMap<(VariableScope, String), BTreeMap<String, Value>>,
    software: Software,
}

/// The names under which one device finds variables, one for each scope it has one of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScopeNames(Vec<(VariableScope, String)>);

impl ScopeNames {
    /// Those of a device that runs a deployment for `collection`.
    pub(crate) fn of(device: &StoredDevice, collection: Option<&CollectionName>) -> Self {
        let model = device.model();
        let names = [
            (
                VariableScope::Collection,
                collection.map(ToString::to_string).unwrap_or_default(),
            ),
            (
                VariableScope::Model,
                model_name(&model.vendor, &model.product),
            ),
            (VariableScope::Site, device.site.clone()),
            (VariableScope::Class, device.class.clone()),
            (VariableScope::Device, device.serial_key.clone()),
        ];
        Self(
            names
                .into_iter()
                .filter(|(_, name)| !name.is_empty())
                .collect(),
        )
    }

    /// Site and class, if it has both.
    fn class(&self) -> Option<(String, String)> {
        let name = |scope| {
            self.0
                .iter()
                .find(|(s, _)| *s == scope)
                .map(|(_, name)| name.clone())
        };
        Some((name(VariableScope::Site)?, name(VariableScope::Class)?))
    }

    fn has(&self, scope: VariableScope, name: &str) -> bool {
        self.0.iter().any(|(s, n)| *s == scope && n == name)
    }
}

/// The variables of a run, by name: those of the sequence, then of collection, model, site, class and device, then what
/// the server knows of the device. Later ones win.
pub(crate) fn layered(
    sequence: Option<&CompiledSequence>,
    names: &ScopeNames,
    scoped: &Scoped,
    known: Vec<(&'static str, Value)>,
) -> Vec<Layered> {
    let mut winners: BTreeMap<String, (Value, VariableOrigin)> = BTreeMap::new();
    if let Some(sequence) = sequence {
        let origin = VariableOrigin::Sequence {
            name: sequence.name.clone(),
        };
        for (key, value) in &sequence.variables {
            winners.insert(key.clone(), (value.clone(), origin.clone()));
        }
    }
    for (scope, name) in &names.0 {
        let origin = VariableOrigin::Scope {
            scope: *scope,
            name: name.clone(),
        };
        for (key, value) in scoped
            .variables
            .get(&(*scope, name.clone()))
            .into_iter()
            .flatten()
        {
            winners.insert(key.clone(), (value.clone(), origin.clone()));
        }
    }
    let software = names.class().and_then(|class| scoped.software.get(&class));
    let software = json!(software.map(Vec::as_slice).unwrap_or_default());
    for (key, value) in known.into_iter().chain([(SOFTWARE_NAME, software)]) {
        winners.insert(key.to_owned(), (value, VariableOrigin::Asset));
    }
    winners
        .into_iter()
        .map(|(key, (value, origin))| (key, value, origin))
        .collect()
}

/// A variable as people see it, who learn the names of secrets, never what they are.
pub(crate) fn told((key, value, origin): Layered) -> EffectiveVariable {
    EffectiveVariable {
        value: without_secrets(&key, &value),
        key,
        origin,
    }
}

/// Reads the variables that a device finds under these names.
pub(crate) async fn scoped_for(
    db: &mut AnyConnection,
    names: &ScopeNames,
) -> Result<Scoped, Failure> {
    let mut scoped = Scoped {
        software: software(db).await?,
        ..Scoped::default()
    };
    for (scope, name) in &names.0 {
        for row in rows_of(db, *scope, name).await? {
            scoped.add(row);
        }
    }
    Ok(scoped)
}

/// Reads all variables.
pub(crate) async fn all_scoped(db: &mut AnyConnection) -> Result<Scoped, Failure> {
    let mut scoped = Scoped {
        software: software(db).await?,
        ..Scoped::default()
    };
    for row in all_rows(db).await? {
        scoped.add(row);
    }
    Ok(scoped)
}

impl Scoped {
    fn add(&mut self, row: VariableRow) {
        self.variables
            .entry((row.scope, row.name))
            .or_default()
            .insert(row.key, row.value);
    }
}

type Stored = (String, String, String, String, i64);

fn row((scope, name, key, value, updated_at_ms): Stored) -> Result<VariableRow, Failure> {
    Ok(VariableRow {
        scope: stored_text("scope of a variable", &scope)?,
        name,
        key,
        value: stored("variable", &value)?,
        updated_at_ms,
    })
}

async fn all_rows(db: &mut AnyConnection) -> Result<Vec<VariableRow>, Failure> {
    let rows: Vec<Stored> = sqlx::query_as(
        "SELECT scope, name, key, value, updated_at_ms FROM variables ORDER BY scope, name, key",
    )
    .fetch_all(&mut *db)
    .await
    .doing("read the variables")?;
    rows.into_iter().map(row).collect()
}

async fn rows_of(
    db: &mut AnyConnection,
    scope: VariableScope,
    name: &str,
) -> Result<Vec<VariableRow>, Failure> {
    let rows: Vec<Stored> = sqlx::query_as(
        "SELECT scope, name, key, value, updated_at_ms FROM variables WHERE scope = $1 AND name = $2 ORDER BY key",
    )
    .bind(scope.to_string())
    .bind(name)
    .fetch_all(db)
    .await
    .doing("read the variables of a scope")?;
    rows.into_iter().map(row).collect()
}

/// Which variables are asked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Wanted {
    #[serde(default)]
    pub(crate) scope: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
}

/// `GET /api/v1/variables?scope=SCOPE&name=NAME`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Vec<VariableRow>>, Failure> {
    rows_for(&state, &user, &wanted).await.map(Json)
}

/// The variables that someone sees, by scope and name.
pub(crate) async fn rows_for(
    state: &AppState,
    user: &User,
    wanted: &Wanted,
) -> Result<Vec<VariableRow>, Failure> {
    let scope: Option<VariableScope> = wanted.scope.as_deref().map(parse).transpose()?;
    let name = match (scope, &wanted.name) {
        (Some(scope), Some(name)) => Some(compared(scope, name)?),
        (None, Some(_)) => {
            return Err(Failure::bad_request(
                "no-scope",
                "a name alone says nothing: give its scope too",
            ));
        }
        (_, None) => None,
    };
    let devices = state.stored_devices_for(user).await?;
    let is_seen = |row: &VariableRow| match row.scope {
        VariableScope::Site => user.covers(&row.name),
        VariableScope::Device => devices.iter().any(|device| device.serial_key == row.name),
        _ => true,
    };
    let mut db = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read the variables")?;
    let mut rows = all_rows(&mut db).await?;
    rows.retain(|row| {
        is_seen(row)
            && scope.is_none_or(|scope| row.scope == scope)
            && name.as_ref().is_none_or(|name| row.name == *name)
    });
    // Whoever sets them may read them again.
    if !user.may(May::Deploy) {
        for row in &mut rows {
            row.value = without_secrets(&row.key, &row.value);
        }
    }
    rows.sort_by(|left, right| {
        (left.scope, &left.name, &left.key).cmp(&(right.scope, &right.name, &right.key))
    });
    Ok(rows)
}

/// `POST /api/v1/variables`
pub(crate) async fn change(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<ScopeVariables>, Failure> {
    let change: VariableChange = read_json(body, JSON_BYTES_MAX).await?;
    let (scope, name) = (change.scope, compared(change.scope, &change.name)?);
    check(&change)?;
    let devices = state.stored_devices().await?;
    let mut db = state.db().write().await?;
    let fits = count_fitting(&mut db, scope, &name, &devices).await?;
    for (key, value) in &change.set {
        set(&mut db, scope, &name, key, value).await?;
    }
    for key in &change.unset {
        sqlx::query("DELETE FROM variables WHERE scope = $1 AND name = $2 AND key = $3")
            .bind(scope.to_string())
            .bind(&name)
            .bind(key)
            .execute(&mut *db)
            .await
            .doing("remove a variable")?;
    }
    let variables = rows_of(&mut db, scope, &name).await?;
    if variables.len() > VARIABLES_MAX {
        return Err(Failure::bad_request(
            "too-many-variables",
            format!("{scope} {name} would have more than {VARIABLES_MAX} variables"),
        ));
    }
    // Names, never values: what is secret to someone has no place in an audit.
    audit(
        &mut db,
        &user.name,
        "variables-changed",
        &format!("{scope} {name}"),
        &in_words(&change),
    )
    .await?;
    commit(db).await?;
    Ok(Json(ScopeVariables {
        scope,
        name,
        devices: fits,
        variables,
    }))
}

async fn set(
    db: &mut Write,
    scope: VariableScope,
    name: &str,
    key: &str,
    value: &Value,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO variables (scope, name, key, value, updated_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (scope, name, key) DO UPDATE SET value = excluded.value, updated_at_ms = excluded.updated_at_ms",
    )
    .bind(scope.to_string())
    .bind(name)
    .bind(key)
    .bind(to_json("write a variable", value)?)
    .bind(now_ms())
    .execute(&mut **db)
    .await
    .doing("store a variable")?;
    Ok(())
}

fn in_words(change: &VariableChange) -> String {
    let keys: Vec<&str> = change.set.keys().map(String::as_str).collect();
    let parts = [("set", keys.join(", ")), ("unset", change.unset.join(", "))];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(verb, keys)| format!("{verb} {keys}"))
        .collect();
    parts.join("; ")
}

/// What can be told without looking anything up. An unset key is checked too: it ends up in the audit.
fn check(change: &VariableChange) -> Result<(), Failure> {
    if change.set.len() > VARIABLES_MAX || change.unset.len() > VARIABLES_MAX {
        return Err(Failure::bad_request(
            "too-many-variables",
            format!("a change has at most {VARIABLES_MAX} variables"),
        ));
    }
    for key in change.set.keys().chain(&change.unset) {
        if !is_variable_name(key) {
            return Err(Failure::bad_request(
                "bad-variable",
                format!("{key:?} can't be the name of a variable"),
            )
            .hint("use small letters, digits and `_`, a letter first, at most 63"));
        }
        if is_reserved(key) {
            return Err(Failure::bad_request(
                "bad-variable",
                format!(
                    "`{key}` is a fact or comes from the asset, a variable can't have its name"
                ),
            )
            .hint("choose another name"));
        }
    }
    for (key, value) in &change.set {
        if to_json("write a variable", value)?.len() > VALUE_BYTES_MAX {
            return Err(Failure::bad_request(
                "too-long",
                format!("the value of `{key}` is longer than {VALUE_BYTES_MAX} bytes"),
            )
            .hint("put it into a package of kind `files`"));
        }
    }
    let both = change
        .unset
        .iter()
        .find(|key| change.set.contains_key(*key));
    match both {
        Some(key) => Err(Failure::bad_request(
            "bad-variable",
            format!("`{key}` can't be set and removed at once"),
        )),
        None => Ok(()),
    }
}

/// Names whose values are observed or come from the asset.
fn is_reserved(key: &str) -> bool {
    FACT_NAMES
        .iter()
        .chain(&ORDER_NAMES)
        .chain([&OUTPUTS_NAME, &STAGED_NAME])
        .any(|name| *name == key)
}

/// The name as it is stored and compared.
fn compared(scope: VariableScope, name: &str) -> Result<String, Failure> {
    let text = clean(name, 2 * ASSET_TEXT_CHARS_MAX + 1);
    let bad = |message: &str| Failure::bad_request("bad-name", message);
    match scope {
        VariableScope::Collection => Ok(parse::<CollectionName>(&text)?.to_string()),
        VariableScope::Model => match text.split_once('/') {
            Some((vendor, product)) if !vendor.trim().is_empty() && !product.trim().is_empty() => {
                Ok(model_name(vendor, product))
            }
            _ => Err(bad(
                "a model is written VENDOR/PRODUCT, as the firmware says them",
            )),
        },
        VariableScope::Site | VariableScope::Class if text.is_empty() => {
            Err(bad("the name of a site or a class is never empty"))
        }
        VariableScope::Site | VariableScope::Class => Ok(text),
        VariableScope::Device => {
            name_key(&text).ok_or_else(|| bad("this serial number means nothing"))
        }
    }
}

/// How many devices a scope name fits. A collection and a device must exist: they have names of their own, while models,
/// sites and classes are only what assets say.
async fn count_fitting(
    db: &mut Write,
    scope: VariableScope,
    name: &str,
    devices: &[StoredDevice],
) -> Result<u32, Failure> {
    if scope == VariableScope::Collection {
        let members = membership::require_members(db, &parse(name)?).await?.len();
        return Ok(u32::try_from(members).unwrap_or(u32::MAX));
    }
    let fits = devices
        .iter()
        .filter(|device| ScopeNames::of(device, None).has(scope, name))
        .count();
    if scope == VariableScope::Device && fits == 0 {
        return Err(
            Failure::not_found(format!("device with serial number {name}"))
                .hint("import the asset first"),
        );
    }
    Ok(u32::try_from(fits).unwrap_or(u32::MAX))
}

/// `GET /api/v1/devices/{id}/variables`
pub(crate) async fn of_device(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
) -> Result<Json<DeviceVariables>, Failure> {
    let id: DeviceId = parse(&id)?;
    let mut db = state
        .db()
        .read()
        .acquire()
        .await
        .doing("read the variables of a device")?;
    let device = state.device_for_in(&user, &mut db, id).await?;
    let due = due_deployments(&mut db, Some(&device.id)).await?;
    let deployment = due.get(&device.id);
    let names = ScopeNames::of(&device, deployment.map(|due| &due.collection));
    let sequence = match deployment {
        Some(due) => latest_sequence(&mut db, &due.sequence).await?,
        None => None,
    };
    let scoped = scoped_for(&mut db, &names).await?;
    let known = device_values(&device, device.staged()?.as_ref())?;
    let sequence = sequence.as_ref().map(|(_, sequence)| sequence);
    let variables = layered(sequence, &names, &scoped, known)
        .into_iter()
        .map(told)
        .collect();
    Ok(Json(DeviceVariables {
        device: id,
        serial: device.serial,
        deployment: deployment.map(|due| due.name.clone()),
        variables,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use wire::variables::{VariableChange, VariableRow, VariableScope};

    use super::{ScopeNames, Scoped, compared, layered};
    use crate::error::Failure;

    /// What wins for a device that is in all five scopes, when these have set `key`.
    fn check(set: &[(VariableScope, &str)], known: &[(&'static str, Value)]) -> String {
        let sequence = sequence::document::compile(
            "sequence: s\nvariables: { key: of-sequence }\nsteps: [{ id: e, finish: { action: stay } }]",
        )
        .unwrap()
        .sequence;
        let name = |scope| match scope {
            VariableScope::Model => "acme/book 14".to_owned(),
            other => format!("my-{other}"),
        };
        let names = ScopeNames(VariableScope::ALL.map(|scope| (scope, name(scope))).into());
        let mut scoped = Scoped::default();
        for (scope, of) in set {
            scoped.add(VariableRow {
                scope: *scope,
                name: (*of).to_owned(),
                key: "key".into(),
                value: json!(format!("of-{of}")),
                updated_at_ms: 0,
            });
        }
        let all = layered(Some(&sequence), &names, &scoped, known.to_vec());
        let lines = all
            .iter()
            .filter(|(key, _, _)| key != super::SOFTWARE_NAME)
            .map(|(key, value, origin)| format!("{key}={value} from {origin}"));
        lines.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn the_later_scope_wins() {
        let scopes = [
            (VariableScope::Collection, "my-collection"),
            (VariableScope::Model, "acme/book 14"),
            (VariableScope::Site, "my-site"),
            (VariableScope::Class, "my-class"),
            (VariableScope::Device, "my-device"),
        ];
        assert_eq!(check(&[], &[]), "key=\"of-sequence\" from sequence s");
        for count in 1..=scopes.len() {
            let (scope, name) = scopes[count - 1];
            assert_eq!(
                check(&scopes[..count], &[]),
                format!("key=\"of-{name}\" from {scope} {name}")
            );
        }
        assert_eq!(
            check(&[(VariableScope::Site, "another-site")], &[]),
            "key=\"of-sequence\" from sequence s"
        );
        assert_eq!(
            check(&scopes, &[("key", json!(1)), ("class", json!("8B"))]),
            "class=\"8B\" from the asset; key=1 from the asset"
        );
    }

    #[test]
    fn names_are_compared_as_devices_have_them() {
        let check = |scope, name: &str| compared(scope, name).ok();
        for (scope, name, expected) in [
            (
                VariableScope::Model,
                " Acme Inc. / Book 14/G2 ",
                Some("acme inc./book 14/g2"),
            ),
            (VariableScope::Model, "Book 14", None),
            (VariableScope::Model, "/Book 14", None),
            (
                VariableScope::Collection,
                "pupils-2026",
                Some("pupils-2026"),
            ),
            (VariableScope::Collection, "Pupils", None),
            (VariableScope::Site, " BJØ ", Some("BJØ")),
            (VariableScope::Site, " ", None),
            (VariableScope::Class, "1STA", Some("1STA")),
            (VariableScope::Device, "pf1", Some("PF1")),
            (VariableScope::Device, "Default string", None),
        ] {
            assert_eq!(check(scope, name).as_deref(), expected, "{scope} {name:?}");
        }
    }

    #[test]
    fn what_can_never_be_a_variable_is_refused() {
        let check = |set: &[(&str, Value)], unset: &[&str]| {
            let set: BTreeMap<String, Value> = set
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect();
            let result = super::check(&VariableChange {
                scope: VariableScope::Class,
                name: "8B".into(),
                set,
                unset: unset.iter().map(|key| (*key).to_owned()).collect(),
            });
            match result {
                Ok(()) => "fine".to_owned(),
                Err(Failure::Refused { error, .. }) => error.code,
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(check(&[("wifi", json!("school"))], &["room"]), "fine");
        for key in ["Wifi", "", "9a", "serial", "site", "staged", "outputs"] {
            assert_eq!(check(&[(key, json!(1))], &[]), "bad-variable", "{key}");
            assert_eq!(check(&[], &[key]), "bad-variable", "{key}");
        }
        assert_eq!(check(&[("a", json!(1))], &["a"]), "bad-variable");
        assert_eq!(check(&[("a", json!("x".repeat(4095)))], &[]), "too-long");
        assert_eq!(check(&[("a", json!("x".repeat(4094)))], &[]), "fine");
        let names: Vec<String> = (0..201).map(|number| format!("v{number}")).collect();
        let many: Vec<(&str, Value)> = names.iter().map(|n| (n.as_str(), json!(1))).collect();
        assert_eq!(check(&many, &[]), "too-many-variables");
    }
}
