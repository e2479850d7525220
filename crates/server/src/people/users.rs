//! Accounts: who there is, what they are, which site they are kept to.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use sqlx::{AnyConnection, FromRow};
use wire::names::PrestageName;
use wire::people::{
    LanguageChange, Me, NewUser, OneTimePassword, PasswordChange, Role, RoleChange,
    USER_NAME_CHARS_MAX, USERS_MAX, UserRow,
};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, stored, stored_text, to_json};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::{User, hash};
use crate::people::roles::May;
use crate::routes::read_json;
use crate::secret;
use crate::state::{AppState, now_ms};

/// Names that the audit uses for others than people.
const RESERVED_NAMES: &[&str] = &["server", "device"];
/// The languages that pages speak.
const LANGUAGES: &[&str] = &["", "en", "nb"];

/// An account as stored.
#[derive(FromRow)]
struct StoredAccount {
    name: String,
    role: String,
    site: String,
    prestages: String,
    issuer: String,
    display: String,
    one_time: i64,
    created_at_ms: i64,
    last_used_at_ms: i64,
}

macro_rules! accounts_sql {
    ($rest:literal) => {
        concat!(
            "SELECT users.name, users.role, users.site, users.prestages, users.issuer, users.display, ",
            "users.one_time, users.created_at_ms, ",
            "(SELECT MAX(used.at_ms) FROM (SELECT users.signed_in_at_ms AS at_ms ",
            "UNION ALL SELECT tokens.last_used_at_ms FROM tokens WHERE tokens.user_name = users.name) AS used) ",
            "AS last_used_at_ms FROM users ",
            $rest
        )
    };
}

impl StoredAccount {
    fn row(self) -> Result<UserRow, Failure> {
        Ok(UserRow {
            role: stored_text("role", &self.role)?,
            prestages: stored("prestages of a user", &self.prestages)?,
            name: self.name,
            site: self.site,
            issuer: self.issuer,
            display: self.display,
            one_time: self.one_time != 0,
            created_at_ms: self.created_at_ms,
            last_used_at_ms: (self.last_used_at_ms > 0).then_some(self.last_used_at_ms),
        })
    }
}

impl AppState {
    /// Every account, by name.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn user_rows(&self) -> Result<Vec<UserRow>, Failure> {
        let rows: Vec<StoredAccount> = sqlx::query_as(accounts_sql!("ORDER BY users.name"))
            .fetch_all(self.db().read())
            .await
            .doing("read the accounts")?;
        rows.into_iter().map(StoredAccount::row).collect()
    }

    /// Who is asking, and what they may do.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn me(&self, user: &User) -> Result<Me, Failure> {
        let mut db = self
            .db()
            .read()
            .acquire()
            .await
            .doing("read who is asking")?;
        let row = account(&mut db, &user.name).await?;
        let language: String = sqlx::query_scalar("SELECT language FROM users WHERE name = $1")
            .bind(&user.name)
            .fetch_one(&mut *db)
            .await
            .doing("read a language")?;
        let scopes = May::SCOPES.iter().filter(|may| user.may(**may));
        Ok(Me {
            user: row,
            scopes: scopes.map(|may| may.name().to_owned()).collect(),
            language,
        })
    }
}

async fn account(db: &mut AnyConnection, name: &str) -> Result<UserRow, Failure> {
    let found: Option<StoredAccount> = sqlx::query_as(accounts_sql!("WHERE users.name = $1"))
        .bind(name)
        .fetch_optional(db)
        .await
        .doing("read an account")?;
    match found {
        Some(found) => found.row(),
        None => Err(Failure::not_found(format!("user {name}"))),
    }
}

/// `GET /api/v1/users`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<UserRow>>, Failure> {
    state.user_rows().await.map(Json)
}

/// `POST /api/v1/users`
pub(crate) async fn create(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<OneTimePassword>, Failure> {
    let new: NewUser = read_json(body, JSON_BYTES_MAX).await?;
    check_name(&new.name)?;
    let password = secret::random_password()?;
    let hashed = hash(password.clone()).await?;
    let mut db = state.db().write().await?;
    let there: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
        .fetch_one(&mut *db)
        .await
        .doing("count the users")?;
    if usize::try_from(there).unwrap_or(usize::MAX) >= USERS_MAX {
        return Err(Failure::conflict(
            "too-many-users",
            format!("there are {USERS_MAX} accounts already"),
        ));
    }
    check_place(&mut db, new.role, &new.site, &new.prestages).await?;
    let made = sqlx::query(
        "INSERT INTO users (name, password, one_time, created_at_ms, role, site, prestages) \
         VALUES ($1, $2, 1, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING",
    )
    .bind(&new.name)
    .bind(hashed)
    .bind(now_ms())
    .bind(new.role.as_str())
    .bind(&new.site)
    .bind(to_json("write prestages", &new.prestages)?)
    .execute(&mut *db)
    .await
    .doing("make an account")?;
    if made.rows_affected() == 0 {
        return Err(
            Failure::conflict("exists", format!("there is a user {} already", new.name))
                .hint("choose another name, or change the role of this one"),
        );
    }
    let detail = in_words(new.role, &new.site, &new.prestages);
    audit(&mut db, &user.name, "user-made", &new.name, &detail).await?;
    let row = account(&mut db, &new.name).await?;
    commit(db).await?;
    Ok(Json(OneTimePassword {
        user: row,
        one_time_password: password,
    }))
}

/// `PUT /api/v1/users/{name}/role`: what they are from their next request on.
pub(crate) async fn set_role(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<UserRow>, Failure> {
    let change: RoleChange = read_json(body, JSON_BYTES_MAX).await?;
    let mut db = state.db().write().await?;
    let before = account(&mut db, &name).await?;
    if !before.issuer.is_empty() {
        return Err(Failure::conflict(
            "role-from-provider",
            format!("what {name} is, comes from {}", before.issuer),
        )
        .hint("change their groups there; it counts from their next sign-in on"));
    }
    check_place(&mut db, change.role, &change.site, &change.prestages).await?;
    sqlx::query("UPDATE users SET role = $1, site = $2, prestages = $3 WHERE name = $4")
        .bind(change.role.as_str())
        .bind(&change.site)
        .bind(to_json("write prestages", &change.prestages)?)
        .bind(&name)
        .execute(&mut *db)
        .await
        .doing("change a role")?;
    require_admin(&mut db).await?;
    let detail = format!(
        "{}, before: {}",
        in_words(change.role, &change.site, &change.prestages),
        in_words(before.role, &before.site, &before.prestages)
    );
    audit(&mut db, &user.name, "role-changed", &name, &detail).await?;
    let row = account(&mut db, &name).await?;
    commit(db).await?;
    Ok(Json(row))
}

/// `POST /api/v1/users/{name}/reset-password`: a one-time password; sessions and tokens end at once.
pub(crate) async fn reset_password(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<OneTimePassword>, Failure> {
    let password = secret::random_password()?;
    let hashed = hash(password.clone()).await?;
    let mut db = state.db().write().await?;
    let row = account(&mut db, &name).await?;
    if !row.issuer.is_empty() {
        return Err(
            Failure::conflict("no-password", format!("{name} signs in at {}", row.issuer))
                .hint("reset the password there"),
        );
    }
    sqlx::query("UPDATE users SET password = $1, one_time = 1 WHERE name = $2")
        .bind(hashed)
        .bind(&name)
        .execute(&mut *db)
        .await
        .doing("reset a password")?;
    end_all(&mut db, &name).await?;
    audit(&mut db, &user.name, "password-reset", &name, "").await?;
    let row = account(&mut db, &name).await?;
    commit(db).await?;
    Ok(Json(OneTimePassword {
        user: row,
        one_time_password: password,
    }))
}

/// `DELETE /api/v1/users/{name}`: the account, its sessions and its tokens. What it did stays in the audit.
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    if name == user.name {
        return Err(
            Failure::conflict("yourself", "nobody can remove the account they use")
                .hint("ask another administrator"),
        );
    }
    let mut db = state.db().write().await?;
    account(&mut db, &name).await?;
    end_all(&mut db, &name).await?;
    for sql in [
        "DELETE FROM idempotency WHERE user_name = $1",
        "DELETE FROM saved_views WHERE owner = $1",
        "DELETE FROM users WHERE name = $1",
    ] {
        sqlx::query(sql)
            .bind(&name)
            .execute(&mut *db)
            .await
            .doing("remove an account")?;
    }
    require_admin(&mut db).await?;
    audit(&mut db, &user.name, "user-removed", &name, "").await?;
    commit(db).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/me`
pub(crate) async fn me(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Me>, Failure> {
    state.me(&user).await.map(Json)
}

/// `POST /api/v1/me/password`: all other sessions end; tokens stay.
pub(crate) async fn my_password(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<StatusCode, Failure> {
    let change: PasswordChange = read_json(body, JSON_BYTES_MAX).await?;
    if user.is_scoped() {
        return Err(Failure::refused(
            StatusCode::FORBIDDEN,
            "forbidden",
            "a token with scopes can't change the password of its user",
        ));
    }
    state
        .check_login(&user.name, &change.password, Some(&change.new_password))
        .await
        .map_err(Failure::from)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /api/v1/me/language`
pub(crate) async fn my_language(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    body: Body,
) -> Result<Json<Me>, Failure> {
    let change: LanguageChange = read_json(body, JSON_BYTES_MAX).await?;
    if !LANGUAGES.contains(&change.language.as_str()) {
        return Err(Failure::bad_request(
            "bad-language",
            "the pages speak `en` and `nb`",
        ));
    }
    let mut db = state.db().write().await?;
    sqlx::query("UPDATE users SET language = $1 WHERE name = $2")
        .bind(&change.language)
        .bind(&user.name)
        .execute(&mut *db)
        .await
        .doing("store a language")?;
    audit(
        &mut db,
        &user.name,
        "language-chosen",
        &user.name,
        &change.language,
    )
    .await?;
    commit(db).await?;
    state.me(&user).await.map(Json)
}

/// Ends every session and token of an account.
pub(crate) async fn end_all(db: &mut Write, name: &str) -> Result<(), Failure> {
    for sql in [
        "DELETE FROM sessions WHERE user_name = $1",
        "DELETE FROM tokens WHERE user_name = $1",
    ] {
        sqlx::query(sql)
            .bind(name)
            .execute(&mut **db)
            .await
            .doing("end the sessions of a user")?;
    }
    Ok(())
}

/// Whose hands an account was in since then: whoever uses it, whoever made it or gave it its role or its password, and whoever did
/// that to theirs. What the server itself did is nobody's.
pub(crate) async fn hands_in(
    db: &mut AnyConnection,
    account: &str,
    since_ms: i64,
) -> Result<BTreeSet<String>, Failure> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT DISTINCT subject, who FROM audit \
         WHERE action IN ('user-made', 'role-changed', 'password-reset') AND at_ms >= $1 AND who <> 'server'",
    )
    .bind(since_ms)
    .fetch_all(db)
    .await
    .doing("read who made which account")?;
    let mut hands = BTreeSet::from([account.to_owned()]);
    let mut held = vec![account];
    while let Some(account) = held.pop() {
        let of_it = rows.iter().filter(|(subject, _)| subject == account);
        for (_, who) in of_it {
            if hands.insert(who.clone()) {
                held.push(who);
            }
        }
    }
    Ok(hands)
}

/// Without an admin with a password of this server, nobody could ever change an account again.
async fn require_admin(db: &mut Write) -> Result<(), Failure> {
    let admins: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM users WHERE role = 'admin' AND issuer = ''")
            .fetch_one(&mut **db)
            .await
            .doing("count the admins")?;
    if admins > 0 {
        return Ok(());
    }
    Err(Failure::conflict(
        "last-admin",
        "this is the last admin with a password of this server",
    )
    .hint("make another one first"))
}

/// Names stand in addresses, logs and the audit.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let fits = |c: char| c.is_alphanumeric() || "._-@".contains(c);
    let is_fine = !name.is_empty()
        && name.chars().count() <= USER_NAME_CHARS_MAX
        && name.chars().all(fits)
        && name.starts_with(char::is_alphanumeric);
    if !is_fine {
        return Err(Failure::bad_request(
            "bad-name",
            "a user's name has letters, digits and . _ - @ only, a letter or digit first, at most 100",
        ));
    }
    if RESERVED_NAMES.contains(&name) {
        return Err(Failure::bad_request(
            "bad-name",
            format!("the audit uses {name} for something else"),
        ));
    }
    Ok(())
}

/// A site and prestages must fit the role and exist: a typing error would make an account that sees nothing.
async fn check_place(
    db: &mut Write,
    role: Role,
    site: &str,
    prestages: &[PrestageName],
) -> Result<(), Failure> {
    match (role, site) {
        (Role::SchoolAdmin, "") => {
            return Err(
                Failure::bad_request("no-site", "a school admin belongs to one site")
                    .hint("give the code of the site"),
            );
        }
        (Role::Admin | Role::FactoryOperator, site) if !site.is_empty() => {
            return Err(Failure::bad_request(
                "no-site",
                format!("the role {role} isn't kept to a site"),
            ));
        }
        _ => {}
    }
    if role != Role::FactoryOperator && !prestages.is_empty() {
        return Err(Failure::bad_request(
            "no-prestages",
            "prestages are assigned to factory operators only",
        ));
    }
    if !site.is_empty() {
        require(db, "SELECT code FROM sites WHERE code = $1", site, "site").await?;
    }
    for prestage in prestages {
        let sql = "SELECT name FROM prestages WHERE name = $1";
        require(db, sql, prestage.as_str(), "prestage").await?;
    }
    Ok(())
}

async fn require(db: &mut Write, sql: &'static str, name: &str, what: &str) -> Result<(), Failure> {
    let known: Option<String> = sqlx::query_scalar(sql)
        .bind(name)
        .fetch_optional(&mut **db)
        .await
        .doing("look up what an account names")?;
    match known {
        Some(_) => Ok(()),
        None => Err(Failure::not_found(format!("{what} {name}")).hint("create it first")),
    }
}

fn in_words(role: Role, site: &str, prestages: &[PrestageName]) -> String {
    let mut text = role.to_string();
    if !site.is_empty() {
        text.push_str(&format!(" of {site}"));
    }
    if !prestages.is_empty() {
        let names: Vec<&str> = prestages.iter().map(PrestageName::as_str).collect();
        text.push_str(&format!(" for {}", names.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_what_addresses_and_logs_can_hold() {
        let check = |name: &str| super::check_name(name).is_ok();
        for name in ["kari", "kari.nordmann@fylke.example", "Åse", "it-drift_2"] {
            assert!(check(name), "{name}");
        }
        let long = "a".repeat(101);
        for name in [
            "", " kari", "kari/ola", "<b>", "server", "device", ".hidden", "a\nb", &long,
        ] {
            assert!(!check(name), "{name}");
        }
    }
}
