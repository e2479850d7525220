//! API tokens: named, limited, ending, revocable. Only their digests are stored.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode};
use sqlx::FromRow;
use wire::people::{NewToken, TOKEN_DAYS, TOKEN_DAYS_MAX, TOKENS_MAX, TokenMade, TokenRow};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, to_json};
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::{DAY_MS, User, bearer};
use crate::people::roles::May;
use crate::routes::read_json;
use crate::secret;
use crate::state::{AppState, now_ms};
use crate::text::clean;

/// Digits of the digest by which a token is called: enough for none to be taken for another.
const ID_DIGITS: usize = 16;
/// What the token that a request came with is called; no id, which are digits.
const CURRENT: &str = "current";

#[derive(FromRow)]
struct StoredToken {
    digest: String,
    user_name: String,
    title: String,
    scopes: String,
    created_at_ms: i64,
    expires_at_ms: i64,
    last_used_at_ms: i64,
}

impl StoredToken {
    fn row(self) -> Result<TokenRow, Failure> {
        let scopes = match self.scopes.as_str() {
            "" => Vec::new(),
            names => stored("scopes of a token", names)?,
        };
        Ok(TokenRow {
            id: id_of(&self.digest).to_owned(),
            user: self.user_name,
            title: self.title,
            scopes,
            created_at_ms: self.created_at_ms,
            expires_at_ms: self.expires_at_ms,
            last_used_at_ms: (self.last_used_at_ms > 0).then_some(self.last_used_at_ms),
        })
    }
}

fn id_of(digest: &str) -> &str {
    digest.get(..ID_DIGITS).unwrap_or(digest)
}

impl AppState {
    /// The tokens someone sees: their own; an admin sees all.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn token_rows(&self, user: &User) -> Result<Vec<TokenRow>, Failure> {
        let rows: Vec<StoredToken> = sqlx::query_as(
            "SELECT digest, user_name, title, scopes, created_at_ms, expires_at_ms, last_used_at_ms FROM tokens \
             WHERE expires_at_ms > $1 ORDER BY user_name, created_at_ms, digest",
        )
        .bind(now_ms())
        .fetch_all(self.db().read())
        .await
        .doing("read the tokens")?;
        rows.into_iter()
            .filter(|row| sees(user, &row.user_name))
            .map(StoredToken::row)
            .collect()
    }
}

fn sees(user: &User, owner: &str) -> bool {
    owner == user.name || user.may(May::Administer)
}

/// `GET /api/v1/tokens`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<TokenRow>>, Failure> {
    state.token_rows(&user).await.map(Json)
}

/// `POST /api/v1/tokens`: for oneself, at most what the credential used may do.
pub(crate) async fn create(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<TokenMade>, Failure> {
    let new: NewToken = read_json(body, JSON_BYTES_MAX).await?;
    let title = clean(&new.title, TITLE_CHARS_MAX);
    if title.is_empty() {
        return Err(Failure::bad_request(
            "no-title",
            "a token without a title is a riddle to whoever finds it",
        )
        .hint("say what it is for"));
    }
    let scopes = scopes_for(&user, &new.scopes)?;
    let days = match new.days {
        0 => TOKEN_DAYS,
        days if days <= TOKEN_DAYS_MAX => days,
        _ => {
            return Err(Failure::bad_request(
                "too-long",
                format!("a token lives at most {TOKEN_DAYS_MAX} days"),
            ));
        }
    };
    let token = secret::random_hex()?;
    let now = now_ms();
    let stored = StoredToken {
        digest: secret::digest(&token),
        user_name: user.name.clone(),
        title,
        scopes: match scopes.is_empty() {
            true => String::new(),
            false => to_json("write scopes", &scopes)?,
        },
        created_at_ms: now,
        expires_at_ms: now + i64::from(days) * DAY_MS,
        last_used_at_ms: 0,
    };
    let mut db = state.db().write().await?;
    store(&mut db, &stored).await?;
    let detail = match scopes.is_empty() {
        true => format!("{days} days, all that {} may", user.name),
        false => format!("{days} days, {}", scopes.join(" ")),
    };
    audit(&mut db, &user.name, "token-made", &stored.title, &detail).await?;
    commit(db).await?;
    Ok(Json(TokenMade {
        token,
        row: stored.row()?,
    }))
}

/// What a new token may do. A limited token never makes one that may do more.
fn scopes_for(user: &User, wanted: &[String]) -> Result<Vec<String>, Failure> {
    if wanted.is_empty() {
        let own = user.scopes.iter().flatten();
        return Ok(own.map(|may| may.name().to_owned()).collect());
    }
    let mut scopes = Vec::new();
    for name in wanted {
        let Some(may) = May::of_name(name) else {
            let names: Vec<&str> = May::SCOPES.iter().map(|may| may.name()).collect();
            return Err(
                Failure::bad_request("bad-scope", format!("there is no scope {name}"))
                    .hint(format!("there are {}", names.join(", "))),
            );
        };
        if !user.may(may) {
            return Err(Failure::refused(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("you may not `{name}` yourself"),
            ));
        }
        if !scopes.iter().any(|scope| scope == name) {
            scopes.push(name.clone());
        }
    }
    Ok(scopes)
}

async fn store(db: &mut Write, token: &StoredToken) -> Result<(), Failure> {
    sqlx::query("DELETE FROM tokens WHERE expires_at_ms < $1")
        .bind(now_ms())
        .execute(&mut **db)
        .await
        .doing("forget old tokens")?;
    let there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tokens WHERE user_name = $1")
        .bind(&token.user_name)
        .fetch_one(&mut **db)
        .await
        .doing("count the tokens")?;
    if usize::try_from(there).unwrap_or(usize::MAX) >= TOKENS_MAX {
        return Err(Failure::conflict(
            "too-many-tokens",
            format!("you have {TOKENS_MAX} tokens already"),
        )
        .hint("revoke some; `forestage token list` shows them"));
    }
    sqlx::query(
        "INSERT INTO tokens (digest, user_name, title, scopes, created_at_ms, expires_at_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(&token.digest)
    .bind(&token.user_name)
    .bind(&token.title)
    .bind(&token.scopes)
    .bind(token.created_at_ms)
    .bind(token.expires_at_ms)
    .execute(&mut **db)
    .await
    .doing("store a token")?;
    Ok(())
}

/// `DELETE /api/v1/tokens/{id}`: it is worth nothing from now on. `current` is the one that the request came with.
pub(crate) async fn revoke(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Failure> {
    let current = bearer(&headers).map(secret::digest);
    let is_wanted = |digest: &str| match id == CURRENT {
        true => current.as_deref() == Some(digest),
        false => id_of(digest) == id,
    };
    let mut db = state.db().write().await?;
    let tokens: Vec<(String, String, String)> =
        sqlx::query_as("SELECT digest, user_name, title FROM tokens")
            .fetch_all(&mut *db)
            .await
            .doing("read the tokens")?;
    let found = tokens
        .into_iter()
        .find(|(digest, owner, _)| is_wanted(digest) && sees(&user, owner));
    let Some((digest, owner, title)) = found else {
        return Err(
            Failure::not_found(format!("token {id}")).hint("`forestage token list` shows yours")
        );
    };
    sqlx::query("DELETE FROM tokens WHERE digest = $1")
        .bind(digest)
        .execute(&mut *db)
        .await
        .doing("revoke a token")?;
    let detail = format!("of {owner}");
    audit(&mut db, &user.name, "token-revoked", &title, &detail).await?;
    commit(db).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::scopes_for;
    use crate::people::auth::User;
    use crate::people::roles::{May, Reach, Role};

    fn check(role: Role, own: Option<Vec<May>>, wanted: &[&str]) -> Option<String> {
        let user = User {
            name: "kari".into(),
            role,
            reach: Reach::Everywhere,
            prestages: Vec::new(),
            scopes: own,
        };
        let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        scopes_for(&user, &wanted).ok().map(|names| names.join(" "))
    }

    #[test]
    fn a_token_never_makes_one_that_may_more() {
        for (role, own, wanted, expected) in [
            (Role::Admin, None, &[][..], Some("")),
            (Role::Admin, None, &["view", "view"][..], Some("view")),
            (Role::Viewer, None, &["view"][..], Some("view")),
            (Role::Viewer, None, &["deploy"][..], None),
            (Role::Admin, None, &["everything"][..], None),
            (Role::Admin, Some(vec![May::View]), &[][..], Some("view")),
            (Role::Admin, Some(vec![May::View]), &["deploy"][..], None),
        ] {
            assert_eq!(
                check(role, own, wanted).as_deref(),
                expected,
                "{role} {wanted:?}"
            );
        }
    }
}
