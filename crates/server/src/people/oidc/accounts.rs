//! The accounts of people who sign in at a provider: made at the first sign-in, corrected at each.

use wire::people::USERS_MAX;

use super::config::{GroupRole, OidcConfig};
use super::refused;
use super::token::Claims;
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::limits::TITLE_CHARS_MAX;
use crate::people::audit::audit;
use crate::people::auth::{SessionToken, new_session};
use crate::people::users::{check_name, end_all};
use crate::state::{AppState, now_ms};
use crate::text::clean;

impl AppState {
    /// Signs in whoever the claims are about.
    pub(super) async fn sign_in_by(
        &self,
        config: &OidcConfig,
        claims: &Claims,
    ) -> Result<SessionToken, Failure> {
        let groups = claims.texts(&config.groups_claim);
        let mut db = self.db().write().await?;
        let known: Option<String> =
            sqlx::query_scalar("SELECT name FROM users WHERE issuer = $1 AND subject = $2")
                .bind(&claims.issuer)
                .bind(&claims.subject)
                .fetch_optional(&mut *db)
                .await
                .doing("look up an account")?;
        let Some(rule) = config.role_of(&groups) else {
            if let Some(name) = known {
                // They were in a group that means something, and are no more.
                end_all(&mut db, &name).await?;
                let detail = "in no group that means something";
                audit(&mut db, &name, "sign-in-refused", &name, detail).await?;
                commit(db).await?;
            }
            return Err(refused(
                "no-role",
                "your account is in no group that may use Forestage",
            ));
        };
        let name = match known {
            Some(name) => name,
            None => make(&mut db, config, claims, rule).await?,
        };
        let display = clean(claims.text("name").unwrap_or_default(), TITLE_CHARS_MAX);
        sqlx::query("UPDATE users SET role = $1, site = $2, display = $3 WHERE name = $4")
            .bind(rule.role.as_str())
            .bind(&rule.site)
            .bind(display)
            .bind(&name)
            .execute(&mut *db)
            .await
            .doing("correct an account")?;
        let token = new_session(&mut db, &name).await?;
        let detail = format!("pages, at {} as {}", claims.issuer, rule.role);
        audit(&mut db, &name, "signed-in", &name, &detail).await?;
        commit(db).await?;
        Ok(token)
    }
}

/// Makes an account. A name that is taken belongs to someone else, whatever the provider says.
async fn make(
    db: &mut Write,
    config: &OidcConfig,
    claims: &Claims,
    rule: &GroupRole,
) -> Result<String, Failure> {
    let there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
        .fetch_one(&mut **db)
        .await
        .doing("count the users")?;
    if usize::try_from(there).unwrap_or(usize::MAX) >= USERS_MAX {
        return Err(refused(
            "too-many-users",
            "there is no place for another account",
        ));
    }
    let wanted = claims.text(&config.name_claim).unwrap_or(&claims.subject);
    let host = config.issuer.split("://").nth(1).unwrap_or_default();
    let host = host.split(['/', ':']).next().unwrap_or_default();
    for name in [wanted.to_owned(), format!("{wanted}@{host}")] {
        if check_name(&name).is_err() {
            continue;
        }
        // Without a password nobody signs in to it here.
        let made = sqlx::query(
            "INSERT INTO users (name, password, one_time, created_at_ms, role, site, issuer, subject) \
             VALUES ($1, '', 0, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING",
        )
        .bind(&name)
        .bind(now_ms())
        .bind(rule.role.as_str())
        .bind(&rule.site)
        .bind(&claims.issuer)
        .bind(&claims.subject)
        .execute(&mut **db)
        .await
        .doing("make an account")?;
        if made.rows_affected() == 1 {
            let detail = format!("{} of {}", rule.role, claims.issuer);
            audit(db, "server", "user-made", &name, &detail).await?;
            return Ok(name);
        }
    }
    Err(refused(
        "name-taken",
        "the name of your account is taken here, or can't be one",
    ))
}
