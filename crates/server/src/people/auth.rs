//! Who is calling. Everything is refused unless it stands in [`PUBLIC_ROUTES`] or the caller has
//! proved who they are: people by a token or a session cookie, devices by the session of their check-in.

use std::time::Instant;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use wire::admin_api::{Login, Token};
use wire::names::{DeviceId, PrestageName, RunId};
use wire::people::TOKEN_DAYS;

use crate::connection::{Connection, client};
use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure, chain, stored, stored_text};
use crate::limits::{
    DEVICE_SESSION_LIFE, JSON_BYTES_MAX, PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, TITLE_CHARS_MAX,
    TOKEN_USE_NOTED_EVERY, WEB_SESSION_LIFE,
};
use crate::people::audit::audit;
use crate::people::roles::{May, Reach, Role, allowed};
use crate::routes::read_json;
use crate::secret;
use crate::state::{AppState, blocking, now_ms};
use crate::text::clean;

/// Every route that needs no proof of who is calling; a path that ends in `/` stands for everything in that folder.
/// Adding one is a decision for the review.
pub const PUBLIC_ROUTES: &[(&str, &str)] = &[
    ("POST", "/device/v1/challenge"),
    ("POST", "/device/v1/check-in"),
    ("POST", "/api/v1/login"),
    ("GET", "/api/v1/trust"),
    ("GET", "/login"),
    ("POST", "/login"),
    ("GET", "/login/oidc"),
    ("GET", "/login/oidc/back"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    // Style sheets, scripts and pictures, which the login page needs.
    ("GET", "/assets/"),
    ("GET", "/static/"),
];

/// The session cookie. `__Host-` makes browsers insist on HTTPS, on this very host, on the whole site.
const COOKIE: &str = "__Host-forestage";
/// Milliseconds of a day.
pub(crate) const DAY_MS: i64 = 24 * 3600 * 1000;
/// The user that the first start makes.
pub(crate) const FIRST_USER: &str = "admin";

/// The person (or program) that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// What they are.
    pub role: Role,
    /// Whose machines they see.
    pub reach: Reach,
    /// The prestages whose bundles a factory operator may fetch; others aren't bound by it.
    pub prestages: Vec<PrestageName>,
    /// What the token they came with is limited to, if it is.
    pub scopes: Option<Vec<May>>,
}

impl User {
    /// Whether they may: their role allows it, and the token they came with doesn't leave it out.
    #[must_use]
    pub fn may(&self, may: May) -> bool {
        self.role_may(may)
            && match &self.scopes {
                Some(scopes) => may == May::BeSomebody || scopes.contains(&may),
                None => true,
            }
    }

    /// Whether their role allows it.
    #[must_use]
    pub fn role_may(&self, may: May) -> bool {
        match may {
            May::Anyone | May::BeSomebody => true,
            May::BeDevice => false,
            may => allowed(self.role).contains(&may),
        }
    }

    /// Whether the token they came with may do only part of what they may.
    #[must_use]
    pub const fn is_scoped(&self) -> bool {
        self.scopes.is_some()
    }

    /// Whether they may fetch the bundles of this prestage.
    #[must_use]
    pub fn has_prestage(&self, prestage: &PrestageName) -> bool {
        self.role != Role::FactoryOperator || self.prestages.contains(prestage)
    }
}

/// An account as stored, as far as a request needs it.
#[derive(sqlx::FromRow)]
struct StoredUser {
    name: String,
    role: String,
    site: String,
    prestages: String,
}

#[derive(sqlx::FromRow)]
struct StoredToken {
    #[sqlx(flatten)]
    user: StoredUser,
    scopes: String,
    last_used_at_ms: i64,
}

impl StoredUser {
    fn user(self, scopes: &str) -> Result<User, Failure> {
        let role: Role = stored_text("role", &self.role)?;
        let scopes = match scopes {
            "" => None,
            names => {
                let names: Vec<String> = stored("scopes of a token", names)?;
                Some(names.iter().filter_map(|name| May::of_name(name)).collect())
            }
        };
        Ok(User {
            reach: Reach::of(role, &self.site),
            prestages: stored("prestages of a user", &self.prestages)?,
            name: self.name,
            role,
            scopes,
        })
    }
}

/// The device that calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceSession {
    /// The device.
    pub(crate) device: DeviceId,
    /// The run it was handed out with.
    pub(crate) run: Option<RunId>,
    /// Its own name: the digest of its token.
    pub(crate) digest: String,
}

/// The secret of a web session; only its digest is stored.
#[derive(Clone)]
pub struct SessionToken(String);

impl SessionToken {
    /// The `Set-Cookie` header that hands the session to the browser.
    #[must_use]
    pub fn cookie(&self) -> HeaderValue {
        let life = WEB_SESSION_LIFE.as_secs();
        let text = format!(
            "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={life}",
            self.0
        );
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }

    /// The `Set-Cookie` header that takes the session away again.
    #[must_use]
    pub fn removal_cookie() -> HeaderValue {
        HeaderValue::from_static(
            "__Host-forestage=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0",
        )
    }

    /// The session a request came with, if any; not yet checked.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let cookies = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        cookies
            .flat_map(|text| text.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .find(|(name, _)| *name == COOKIE)
            .map(|(_, value)| Self(value.to_owned()))
    }
}

/// Why a login did not work.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The name or the password is wrong; which of them is not told.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// Too many wrong tries.
    #[error("too many wrong logins; try again in {seconds} seconds")]
    Throttled {
        /// How long to wait.
        seconds: u64,
    },
    /// The one-time password was right, and a new one must come with it.
    #[error("the one-time password is used up by choosing a new password")]
    NewPasswordNeeded,
    /// The new password is too short or too long, or the one-time password again.
    #[error(
        "a password has at least 10 characters, at most 512 bytes, and isn't the one-time password"
    )]
    NewPasswordUnfit,
    /// The server could not check it.
    #[error("cannot check the password")]
    Failed(#[source] Box<Failure>),
}

impl From<Failure> for LoginError {
    fn from(failure: Failure) -> Self {
        Self::Failed(Box::new(failure))
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        let text = error.to_string();
        match error {
            LoginError::Wrong => Self::refused(StatusCode::UNAUTHORIZED, "wrong-login", text),
            LoginError::Throttled { .. } => {
                Self::refused(StatusCode::TOO_MANY_REQUESTS, "too-many-logins", text)
            }
            LoginError::NewPasswordNeeded => {
                Self::refused(StatusCode::FORBIDDEN, "new-password-needed", text)
                    .hint("send `new-password` with the login")
            }
            LoginError::NewPasswordUnfit => {
                Self::refused(StatusCode::UNPROCESSABLE_ENTITY, "new-password-unfit", text)
            }
            LoginError::Failed(failure) => *failure,
        }
    }
}

impl AppState {
    /// Signs someone in to the pages.
    ///
    /// # Errors
    /// [`LoginError`] says why not.
    pub async fn login(
        &self,
        user: &str,
        password: &str,
        new_password: Option<&str>,
    ) -> Result<SessionToken, LoginError> {
        let user = self.check_login(user, password, new_password).await?;
        let mut db = self.db().write().await?;
        let token = new_session(&mut db, &user).await?;
        audit(&mut db, &user, "signed-in", &user, "pages").await?;
        commit(db).await?;
        Ok(token)
    }

    /// Ends a session.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn logout(&self, token: &SessionToken) -> Result<(), Failure> {
        let mut db = self.db().write().await?;
        sqlx::query("DELETE FROM sessions WHERE digest = $1")
            .bind(secret::digest(&token.0))
            .execute(&mut *db)
            .await
            .doing("end a session")?;
        commit(db).await
    }

    /// Makes an API token.
    pub(crate) async fn api_token(&self, login: &Login) -> Result<String, LoginError> {
        let user = self
            .check_login(&login.user, &login.password, login.new_password.as_deref())
            .await?;
        let token = secret::random_hex()?;
        let title = clean(&login.token_name, TITLE_CHARS_MAX);
        let mut db = self.db().write().await?;
        sqlx::query(
            "INSERT INTO tokens (digest, user_name, title, created_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(secret::digest(&token))
        .bind(&user)
        .bind(&title)
        .bind(now_ms())
        .bind(now_ms() + i64::from(TOKEN_DAYS) * DAY_MS)
        .execute(&mut *db)
        .await
        .doing("store a token")?;
        audit(&mut db, &user, "token-made", &title, "by password").await?;
        commit(db).await?;
        Ok(token)
    }

    /// Makes the first user, if there is none, and answers with the one-time password.
    pub(crate) async fn first_user(&self) -> Result<Option<String>, Failure> {
        let users: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
            .fetch_one(self.db().read())
            .await
            .doing("count the users")?;
        if users > 0 {
            return Ok(None);
        }
        let password = secret::random_password()?;
        let hash = hash(password.clone()).await?;
        let mut db = self.db().write().await?;
        sqlx::query(
            "INSERT INTO users (name, password, one_time, created_at_ms) VALUES ($1, $2, 1, $3)",
        )
        .bind(FIRST_USER)
        .bind(hash)
        .bind(now_ms())
        .execute(&mut *db)
        .await
        .doing("make the first user")?;
        audit(
            &mut db,
            "server",
            "user-made",
            FIRST_USER,
            "with a one-time password",
        )
        .await?;
        commit(db).await?;
        Ok(Some(password))
    }

    pub(crate) async fn check_login(
        &self,
        user: &str,
        password: &str,
        new_password: Option<&str>,
    ) -> Result<String, LoginError> {
        let client = client();
        if let Some(seconds) = self.throttle().wait_seconds(client, Instant::now()) {
            return Err(LoginError::Throttled { seconds });
        }
        let found: Option<(String, i64)> =
            sqlx::query_as("SELECT password, one_time FROM users WHERE name = $1")
                .bind(user)
                .fetch_optional(self.db().read())
                .await
                .doing("look up a user")?;
        let (stored, one_time) = match found {
            // Whoever signs in at a provider has no password here.
            Some((stored, one_time)) if !stored.is_empty() => (Some(stored), one_time != 0),
            Some(_) => (None, false),
            None => (None, false),
        };
        let right = password.len() <= PASSWORD_BYTES_MAX && {
            let _permit = self.passwords().acquire().await;
            verify(stored, password.to_owned()).await?
        };
        if !right {
            self.throttle().failed(client, Instant::now());
            tracing::warn!("a login with a wrong name or password was refused");
            return Err(LoginError::Wrong);
        }
        self.throttle().succeeded(client);
        match new_password {
            None if one_time => Err(LoginError::NewPasswordNeeded),
            None => Ok(user.to_owned()),
            Some(new) => self.change_password(user, password, new, one_time).await,
        }
    }

    async fn change_password(
        &self,
        user: &str,
        password: &str,
        new: &str,
        one_time: bool,
    ) -> Result<String, LoginError> {
        if new.chars().count() < PASSWORD_CHARS_MIN
            || new.len() > PASSWORD_BYTES_MAX
            || (one_time && new == password)
        {
            return Err(LoginError::NewPasswordUnfit);
        }
        let hash = hash(new.to_owned()).await?;
        let mut db = self.db().write().await?;
        sqlx::query("UPDATE users SET password = $1, one_time = 0 WHERE name = $2")
            .bind(hash)
            .bind(user)
            .execute(&mut *db)
            .await
            .doing("store a password")?;
        sqlx::query("DELETE FROM sessions WHERE user_name = $1")
            .bind(user)
            .execute(&mut *db)
            .await
            .doing("end the sessions of a user")?;
        audit(&mut db, user, "password-changed", user, "").await?;
        commit(db).await?;
        Ok(user.to_owned())
    }

    /// Makes the session of a device that has checked in.
    pub(crate) async fn device_session(
        &self,
        db: &mut Write,
        device: DeviceId,
        run: Option<RunId>,
    ) -> Result<String, Failure> {
        let token = secret::random_hex()?;
        sqlx::query("DELETE FROM device_sessions WHERE expires_at_ms < $1")
            .bind(now_ms())
            .execute(&mut **db)
            .await
            .doing("forget old sessions of devices")?;
        sqlx::query("INSERT INTO device_sessions (digest, device, run, expires_at_ms) VALUES ($1, $2, $3, $4)")
            .bind(secret::digest(&token))
            .bind(device.to_string())
            .bind(run.map(|run| run.to_string()).unwrap_or_default())
            .bind(now_ms() + millis(DEVICE_SESSION_LIFE))
            .execute(&mut **db)
            .await
            .doing("store the session of a device")?;
        Ok(token)
    }

    async fn user_of(&self, headers: &HeaderMap) -> Result<Option<User>, Failure> {
        let now = now_ms();
        let found: Option<(StoredUser, String)> = if let Some(token) = bearer(headers) {
            let digest = secret::digest(token);
            let found: Option<StoredToken> = sqlx::query_as(
                "SELECT users.name, users.role, users.site, users.prestages, tokens.scopes, \
                 tokens.last_used_at_ms FROM tokens JOIN users ON users.name = tokens.user_name \
                 WHERE tokens.digest = $1 AND tokens.expires_at_ms > $2",
            )
            .bind(&digest)
            .bind(now)
            .fetch_optional(self.db().read())
            .await
            .doing("look up a token")?;
            found.map(|token| {
                if now - token.last_used_at_ms > millis(TOKEN_USE_NOTED_EVERY) {
                    self.note_use(digest, now);
                }
                (token.user, token.scopes)
            })
        } else if let Some(SessionToken(token)) = SessionToken::from_headers(headers) {
            let found: Option<StoredUser> = sqlx::query_as(
                "SELECT users.name, users.role, users.site, users.prestages FROM sessions \
                 JOIN users ON users.name = sessions.user_name \
                 WHERE sessions.digest = $1 AND sessions.expires_at_ms > $2",
            )
            .bind(secret::digest(&token))
            .bind(now)
            .fetch_optional(self.db().read())
            .await
            .doing("look up a session")?;
            found.map(|user| (user, String::new()))
        } else {
            None
        };
        found.map(|(user, scopes)| user.user(&scopes)).transpose()
    }

    /// Notes that a token was used, beside the request: nobody waits for it.
    fn note_use(&self, digest: String, now: i64) {
        let state = self.clone();
        tokio::spawn(async move {
            if let Err(error) = state.store_use(&digest, now).await {
                tracing::warn!(error = %chain(&error), "cannot note the use of a token");
            }
        });
    }

    async fn store_use(&self, digest: &str, now: i64) -> Result<(), Failure> {
        let mut db = self.db().write().await?;
        sqlx::query("UPDATE tokens SET last_used_at_ms = $1 WHERE digest = $2")
            .bind(now)
            .bind(digest)
            .execute(&mut *db)
            .await
            .doing("note the use of a token")?;
        commit(db).await
    }

    async fn device_of(&self, headers: &HeaderMap) -> Result<Option<DeviceSession>, Failure> {
        let Some(token) = bearer(headers) else {
            return Ok(None);
        };
        let digest = secret::digest(token);
        let found: Option<(String, String)> = sqlx::query_as(
            "SELECT device, run FROM device_sessions WHERE digest = $1 AND expires_at_ms > $2",
        )
        .bind(&digest)
        .bind(now_ms())
        .fetch_optional(self.db().read())
        .await
        .doing("look up the session of a device")?;
        let session = |(device, run): (String, String)| {
            Ok(DeviceSession {
                device: stored_text("device id", &device)?,
                run: run.parse().ok(),
                digest,
            })
        };
        found.map(session).transpose()
    }
}

/// Makes a session of the pages.
pub(crate) async fn new_session(db: &mut Write, user: &str) -> Result<SessionToken, Failure> {
    let token = SessionToken(secret::random_hex()?);
    sqlx::query("DELETE FROM sessions WHERE expires_at_ms < $1")
        .bind(now_ms())
        .execute(&mut **db)
        .await
        .doing("forget old sessions")?;
    sqlx::query("INSERT INTO sessions (digest, user_name, expires_at_ms) VALUES ($1, $2, $3)")
        .bind(secret::digest(&token.0))
        .bind(user)
        .bind(now_ms() + millis(WEB_SESSION_LIFE))
        .execute(&mut **db)
        .await
        .doing("store a session")?;
    sqlx::query("UPDATE users SET signed_in_at_ms = $1 WHERE name = $2")
        .bind(now_ms())
        .bind(user)
        .execute(&mut **db)
        .await
        .doing("note a sign-in")?;
    Ok(token)
}

/// The middleware around everything: lets public routes pass and asks all others who is calling.
///
/// Handlers find a [`User`] among the request's extensions.
pub async fn require_user(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if is_public(request.method(), path) {
        return next.run(request).await;
    }
    let admitted = if path.starts_with("/device/") {
        admit_device(&state, &mut request).await
    } else {
        admit_user(&state, &mut request).await
    };
    match admitted {
        Ok(()) => next.run(request).await,
        Err(Failure::Refused {
            status: StatusCode::UNAUTHORIZED,
            ..
        }) if wants_page(&request) => to_login(&request),
        Err(failure) => failure.into_response(),
    }
}

async fn admit_device(state: &AppState, request: &mut Request) -> Result<(), Failure> {
    let Some(session) = state.device_of(request.headers()).await? else {
        return Err(Failure::refused(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "check in first",
        ));
    };
    if let (Some(connection), Some(run)) = (request.extensions().get::<Connection>(), session.run) {
        connection.belongs_to(run);
    }
    request.extensions_mut().insert(session);
    Ok(())
}

async fn admit_user(state: &AppState, request: &mut Request) -> Result<(), Failure> {
    let Some(user) = state.user_of(request.headers()).await? else {
        return Err(Failure::unauthorized());
    };
    let by_cookie = bearer(request.headers()).is_none();
    if by_cookie && !request.method().is_safe() && is_cross_site(request.headers()) {
        return Err(Failure::refused(
            StatusCode::FORBIDDEN,
            "cross-site",
            "this page is not ours",
        ));
    }
    request.extensions_mut().insert(user);
    Ok(())
}

/// Whether a route needs no proof of who is calling.
#[must_use]
pub fn is_public(method: &Method, path: &str) -> bool {
    PUBLIC_ROUTES.iter().any(|(public_method, public)| {
        method == public_method
            && (path == *public || (public.ends_with('/') && path.starts_with(public)))
    })
}

/// Browsers say where a request comes from; programs don't, and they have no cookie either.
pub(crate) fn is_cross_site(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
}

/// After signing in they get the page they asked for.
fn to_login(request: &Request) -> Response {
    let here = request.uri().path_and_query();
    let here = here.map_or("/", |path| path.as_str());
    let address = match here {
        "/" => "/login".to_owned(),
        here => format!("/login?next={}", crate::web::filter::encode(here)),
    };
    Redirect::to(&address).into_response()
}

/// Someone looking at a page is led to the login; programs get 401.
fn wants_page(request: &Request) -> bool {
    let html = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/html"));
    request.method() == Method::GET
        && !request.uri().path().starts_with("/api/")
        && !request.uri().path().starts_with("/device/")
        && request.headers().get(header::ACCEPT).is_some_and(html)
}

pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

pub(crate) fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) async fn hash(password: String) -> Result<String, Failure> {
    blocking(
        move || match Argon2::default().hash_password(password.as_bytes()) {
            Ok(hash) => Ok(hash.to_string()),
            Err(error) => Err(Failure::System {
                what: "hash a password",
                source: error.to_string().into(),
            }),
        },
    )
    .await
}

/// Checks a password. Without a stored hash it does the same work and says no: time tells nothing.
async fn verify(stored: Option<String>, password: String) -> Result<bool, Failure> {
    blocking(move || {
        let Some(stored) = stored else {
            let _same_work = Argon2::default().hash_password(password.as_bytes());
            return Ok(false);
        };
        let hash = PasswordHash::new(&stored).map_err(|error| Failure::Stored {
            what: "password",
            source: error.to_string().into(),
        })?;
        Ok(Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok())
    })
    .await
}

/// `POST /api/v1/login`
pub(crate) async fn login(
    State(state): State<AppState>,
    body: Body,
) -> Result<Json<Token>, Failure> {
    let login: Login = read_json(body, JSON_BYTES_MAX).await?;
    let token = state.api_token(&login).await.map_err(Failure::from)?;
    Ok(Json(Token { token }))
}
