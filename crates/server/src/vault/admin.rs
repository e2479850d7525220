//! Secrets for the admin API: set and removed, and only their names told.

use std::collections::BTreeMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use sequence::secret::Secret;
use sequence::steps::secrets_of;
use serde::Deserialize;
use sqlx::{AnyConnection, FromRow};
use wire::names::{SecretName, SequenceName};
use wire::secrets::{SECRET_BYTES_MAX, SECRETS_MAX, SecretChange, SecretRow};
use wire::sequence::CompiledSequence;

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text};
use crate::limits::SECRET_CHANGE_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_secret_json};
use crate::runs::orders::latest_sequence;
use crate::state::{AppState, now_ms};

/// A secret as stored, without what is sealed.
#[derive(FromRow)]
struct Stored {
    name: String,
    site: String,
    changed_by: String,
    changed_at_ms: i64,
    releases: i64,
    released_at_ms: i64,
}

impl AppState {
    /// Every secret, by name and then by site; never a value.
    pub(crate) async fn secrets(&self) -> Result<Vec<SecretRow>, Failure> {
        let rows: Vec<Stored> = sqlx::query_as(
            "SELECT secrets.name, secrets.site, secrets.changed_by, secrets.changed_at_ms, \
             COUNT(secret_releases.id) AS releases, COALESCE(MAX(secret_releases.released_at_ms), 0) AS released_at_ms \
             FROM secrets LEFT JOIN secret_releases ON secret_releases.secret = secrets.name \
             AND secret_releases.site = secrets.site \
             GROUP BY secrets.name, secrets.site, secrets.changed_by, secrets.changed_at_ms \
             ORDER BY secrets.name, secrets.site",
        )
        .fetch_all(self.db().read())
        .await
        .doing("read the names of the secrets")?;
        let uses = self.uses_of_secrets().await?;
        rows.into_iter()
            .map(|row| {
                let name: SecretName = stored_text("name of a secret", &row.name)?;
                Ok(SecretRow {
                    sequences: uses.get(&name).cloned().unwrap_or_default(),
                    name,
                    site: row.site,
                    changed_by: row.changed_by,
                    changed_at_ms: row.changed_at_ms,
                    releases: u64::try_from(row.releases).unwrap_or(0),
                    released_at_ms: (row.released_at_ms > 0).then_some(row.released_at_ms),
                })
            })
            .collect()
    }

    /// The sequences whose latest version asks for each secret.
    async fn uses_of_secrets(&self) -> Result<BTreeMap<SecretName, Vec<SequenceName>>, Failure> {
        let latest: Vec<(String, String)> = sqlx::query_as(
            "SELECT name, compiled FROM sequences WHERE version = \
             (SELECT MAX(newer.version) FROM sequences newer WHERE newer.name = sequences.name) ORDER BY name",
        )
        .fetch_all(self.db().read())
        .await
        .doing("read the sequences")?;
        let mut uses: BTreeMap<SecretName, Vec<SequenceName>> = BTreeMap::new();
        for (name, compiled) in &latest {
            let name: SequenceName = stored_text("sequence name", name)?;
            let compiled: CompiledSequence = stored("sequence", compiled)?;
            for secret in secrets_of(&compiled).into_keys() {
                uses.entry(secret).or_default().push(name.clone());
            }
        }
        Ok(uses)
    }

    async fn secret_row(&self, name: &SecretName, site: &str) -> Result<SecretRow, Failure> {
        let mut rows = self.secrets().await?.into_iter();
        rows.find(|row| row.name == *name && row.site == site)
            .ok_or_else(|| not_found(name, site))
    }
}

fn not_found(name: &SecretName, site: &str) -> Failure {
    let what = match site {
        "" => format!("secret {name}"),
        site => format!("secret {name} of site {site}"),
    };
    Failure::not_found(what).hint("`forestage secret list` shows all")
}

/// The names of all secrets that have a value, for whichever site.
pub(crate) async fn set_names(db: &mut AnyConnection) -> Result<Vec<SecretName>, Failure> {
    let names: Vec<String> = sqlx::query_scalar("SELECT DISTINCT name FROM secrets ORDER BY name")
        .fetch_all(db)
        .await
        .doing("read the names of the secrets")?;
    names
        .iter()
        .map(|name| stored_text("name of a secret", name))
        .collect()
}

/// Refuses to have machines begin a sequence that asks for a secret which nobody has set.
pub(crate) async fn refuse_unset(
    db: &mut AnyConnection,
    sequence: &SequenceName,
) -> Result<(), Failure> {
    let Some((_, compiled)) = latest_sequence(db, sequence).await? else {
        return Ok(());
    };
    let set = set_names(db).await?;
    let mut wanted = secrets_of(&compiled).into_iter();
    let Some((secret, steps)) = wanted.find(|(secret, _)| !set.contains(secret)) else {
        return Ok(());
    };
    let step = steps.first().map(ToString::to_string).unwrap_or_default();
    let message =
        format!("the step `{step}` of {sequence} needs the secret {secret}, which isn't set");
    Err(Failure::conflict("secret-not-set", message)
        .hint(format!("set it: `forestage secret set {secret}`")))
}

/// `GET /api/v1/secrets`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<SecretRow>>, Failure> {
    state.secrets().await.map(Json)
}

/// `PUT /api/v1/secrets/{name}`
pub(crate) async fn set(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<SecretRow>, Failure> {
    let name: SecretName = parse(&name)?;
    let change: SecretChange = read_secret_json(body, SECRET_CHANGE_BYTES_MAX).await?;
    let (value, site) = (Secret::new(change.value), change.site.as_str());
    check(&value)?;
    if !site.is_empty() {
        state.site_detail(&user.reach, site).await?;
    }
    let sealed = state.vault().seal(&name, site, &value)?;
    let mut db = state.db().write().await?;
    let known: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM secrets WHERE name <> $1 OR site <> $2")
            .bind(name.as_str())
            .bind(site)
            .fetch_one(&mut *db)
            .await
            .doing("count the secrets")?;
    if usize::try_from(known).unwrap_or(usize::MAX) >= SECRETS_MAX {
        let message = format!("there are {SECRETS_MAX} secrets already");
        return Err(
            Failure::conflict("too-many", message).hint("remove one that isn't used any more")
        );
    }
    sqlx::query(
        "INSERT INTO secrets (name, site, sealed, changed_by, changed_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name, site) DO UPDATE SET sealed = excluded.sealed, changed_by = excluded.changed_by, \
         changed_at_ms = excluded.changed_at_ms",
    )
    .bind(name.as_str())
    .bind(site)
    .bind(&sealed)
    .bind(&user.name)
    .bind(now_ms())
    .execute(&mut *db)
    .await
    .doing("store a secret")?;
    tell(&mut db, &user, "secret-set", &name, site).await?;
    commit(db).await?;
    state.secret_row(&name, site).await.map(Json)
}

/// What no program could be given.
fn check(value: &Secret) -> Result<(), Failure> {
    let refused = |code, message: String| Err(Failure::bad_request(code, message));
    match value.expose() {
        "" => refused("no-secret", "there is nothing to keep secret".to_owned()),
        text if text.len() > SECRET_BYTES_MAX => refused(
            "too-long",
            format!("a secret has at most {SECRET_BYTES_MAX} bytes"),
        ),
        text if text.contains('\0') => refused(
            "bad-secret",
            "a secret is text, and has no NUL in it".to_owned(),
        ),
        _ => Ok(()),
    }
}

/// Of which value is spoken.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Whose {
    /// That of a site; empty for the one of all that have none of their own.
    site: String,
}

/// `DELETE /api/v1/secrets/{name}`
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(Whose { site }): Query<Whose>,
) -> Result<Json<()>, Failure> {
    let name: SecretName = parse(&name)?;
    let mut db = state.db().write().await?;
    let removed = sqlx::query("DELETE FROM secrets WHERE name = $1 AND site = $2")
        .bind(name.as_str())
        .bind(&site)
        .execute(&mut *db)
        .await
        .doing("remove a secret")?;
    if removed.rows_affected() == 0 {
        return Err(not_found(&name, &site));
    }
    tell(&mut db, &user, "secret-removed", &name, &site).await?;
    commit(db).await?;
    Ok(Json(()))
}

async fn tell(
    db: &mut Write,
    user: &User,
    action: &str,
    name: &SecretName,
    site: &str,
) -> Result<(), Failure> {
    let detail = match site {
        "" => String::new(),
        site => format!("for site {site}"),
    };
    audit(db, &user.name, action, name.as_str(), &detail).await
}
