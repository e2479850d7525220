//! Signing in at an identity provider: OpenID Connect, authorization code with PKCE. See `docs/guide/people-and-access.md`.
//!
//! Who someone is, is the pair of issuer and subject, never an e-mail address: addresses are given to others. Role and site come
//! from the provider at each sign-in; whoever is in no group that means something doesn't get in.

mod accounts;
mod config;
mod provider;
mod token;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

pub use self::config::{OidcConfig, OidcConfigError};
use self::provider::Provider;
use crate::error::{Failure, chain};
use crate::routes::page::encode;
use crate::secret;
use crate::state::{AppState, blocking};

/// How long someone may take at the provider, second factor and all.
const SIGN_IN_TIME_MAX: Duration = Duration::from_secs(600);
/// Sign-ins under way; more at once is an attack, and the oldest makes room.
const SIGN_INS_MAX: usize = 1000;
/// Binds a sign-in to the browser that began it. Lax: the provider sends the browser back to us.
const COOKIE: &str = "__Host-forestage-oidc";

/// The identity provider, and who is on the way there.
pub(crate) struct Oidc {
    config: OidcConfig,
    provider: Provider,
    under_way: Mutex<BTreeMap<String, UnderWay>>,
}

/// A sign-in that was begun.
struct UnderWay {
    nonce: String,
    verifier: String,
    next: String,
    begun: Instant,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Result<Self, Failure> {
        Ok(Self {
            provider: Provider::new(&config)?,
            config,
            under_way: Mutex::default(),
        })
    }

    /// What the login page calls the provider.
    pub(crate) fn title(&self) -> &str {
        &self.config.title
    }

    fn begin(&self, state: &str, under_way: UnderWay) {
        let mut all = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, one| one.begun.elapsed() < SIGN_IN_TIME_MAX);
        if all.len() >= SIGN_INS_MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, one)| one.begun)
        {
            let oldest = oldest.0.clone();
            all.remove(&oldest);
        }
        all.insert(secret::digest(state), under_way);
    }

    /// Each state is good once.
    fn take(&self, state: &str) -> Option<UnderWay> {
        let mut all = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.remove(&secret::digest(state))
            .filter(|one| one.begun.elapsed() < SIGN_IN_TIME_MAX)
    }
}

/// Nobody is signed in by this; whether a new try helps is said by the hint.
fn refused(code: &str, message: impl Into<String>) -> Failure {
    Failure::refused(StatusCode::UNAUTHORIZED, code, message)
        .hint("begin again at the sign-in page; if that does not help, ask an administrator")
}

/// What the provider's refusal means to the person in front of the browser. Anyone can make a link with any text in it,
/// so the page speaks of the codes of the standards alone, in its own words.
fn provider_refused(title: &str, error: &str) -> Failure {
    let (what, what_to_do) = match error {
        "access_denied" => (
            "did not let you in, or you broke it off there",
            "begin again at the sign-in page; if you are refused again, ask whoever runs the accounts there",
        ),
        "login_required"
        | "interaction_required"
        | "consent_required"
        | "account_selection_required" => (
            "wants to ask you something first",
            "sign in there in another tab, then begin again at the sign-in page",
        ),
        "server_error" | "temporarily_unavailable" => (
            "has a problem of its own",
            "begin again in some minutes; until then, whoever has a password of this server can sign in with it",
        ),
        "invalid_request"
        | "invalid_scope"
        | "unauthorized_client"
        | "unsupported_response_type" => (
            "does not accept how this server asks",
            "tell an administrator: this server's registration there and the file of `--oidc` don't fit together",
        ),
        _ => (
            "did not sign you in and gave no reason that this server knows",
            "begin again at the sign-in page; if that does not help, ask an administrator: the reason is in the server's log",
        ),
    };
    refused("provider-refused", format!("{title} {what}")).hint(what_to_do)
}

fn not_set_up() -> Failure {
    Failure::not_found("identity provider on this server")
}

/// Where to go after signing in.
#[derive(Debug, Deserialize)]
pub(crate) struct Begin {
    #[serde(default)]
    next: String,
}

/// `GET /login/oidc`: sends the browser to the provider.
pub(crate) async fn begin(
    State(state): State<AppState>,
    Query(wanted): Query<Begin>,
) -> Result<Response, Failure> {
    let oidc = state.oidc().ok_or_else(not_set_up)?;
    let (csrf, nonce, verifier) = (
        secret::random_hex()?,
        secret::random_hex()?,
        secret::random_hex()?,
    );
    let endpoints = {
        let state = state.clone();
        blocking(move || state.oidc().ok_or_else(not_set_up)?.provider.endpoints()).await?
    };
    let challenge = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
    let parameters = [
        ("response_type", "code".to_owned()),
        ("client_id", oidc.config.client_id.clone()),
        ("redirect_uri", redirect_uri(&state)),
        ("scope", oidc.config.scopes.join(" ")),
        ("state", csrf.clone()),
        ("nonce", nonce.clone()),
        ("code_challenge", URL_SAFE_NO_PAD.encode(challenge)),
        ("code_challenge_method", "S256".to_owned()),
    ];
    let query: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)))
        .collect();
    let join = match endpoints.authorization.contains('?') {
        true => '&',
        false => '?',
    };
    let to = format!("{}{join}{}", endpoints.authorization, query.join("&"));
    oidc.begin(
        &csrf,
        UnderWay {
            nonce,
            verifier,
            next: wanted.next,
            begun: Instant::now(),
        },
    );
    let life = SIGN_IN_TIME_MAX.as_secs();
    let cookie = format!("{COOKIE}={csrf}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={life}");
    let headers = [(header::LOCATION, to), (header::SET_COOKIE, cookie)];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// What the provider sends the browser back with.
#[derive(Debug, Deserialize)]
pub(crate) struct Back {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    error: String,
}

/// `GET /login/oidc/back`: the browser comes back with a code; whoever it stands for is signed in.
pub(crate) async fn back(
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(back): Query<Back>,
) -> Result<Response, Failure> {
    let oidc = state.oidc().ok_or_else(not_set_up)?;
    if !back.error.is_empty() {
        let error = crate::text::clean(&back.error, 100);
        tracing::warn!(%error, "the identity provider refused a sign-in");
    }
    // Only the browser that began it may end it: nobody can be signed in as someone else by a link.
    if back.state.is_empty() || cookie(&headers) != Some(back.state.as_str()) {
        // Some providers forget the state when they refuse. It signs nobody in, so the reason can be told.
        return Err(match (back.error.as_str(), back.state.as_str()) {
            ("", "") => refused(
                "no-state",
                format!(
                    "the answer of {} does not say which sign-in it is about",
                    oidc.config.title
                ),
            ),
            ("", _) => refused(
                "other-browser",
                "this sign-in was not begun in this browser",
            ),
            (error, _) => provider_refused(&oidc.config.title, error),
        });
    }
    let under_way = oidc.take(&back.state).ok_or_else(|| {
        refused(
            "stale-sign-in",
            "this sign-in was used already or took too long",
        )
    })?;
    if back.code.is_empty() {
        return Err(provider_refused(&oidc.config.title, &back.error));
    }
    let redirect = redirect_uri(&state);
    let claims = {
        let (state, code) = (state.clone(), back.code);
        let (nonce, verifier) = (under_way.nonce, under_way.verifier);
        blocking(move || {
            let oidc = state.oidc().ok_or_else(not_set_up)?;
            oidc.provider.claims(&code, &verifier, &redirect, &nonce)
        })
        .await
        .inspect_err(|error| {
            tracing::warn!(error = %chain(error), "a sign-in at the identity provider failed");
        })?
    };
    let session = state.sign_in_by(&oidc.config, &claims).await?;
    let next = crate::web::login::safe_next(&under_way.next).to_owned();
    let mut response = onwards(&next);
    let gone = format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    let headers = response.headers_mut();
    headers.append(header::SET_COOKIE, session.cookie());
    if let Ok(gone) = HeaderValue::from_str(&gone) {
        headers.append(header::SET_COOKIE, gone);
    }
    Ok(response)
}

/// A page of ours that leads on: after a redirect from the provider the browser wouldn't send the session's strict cookie.
fn onwards(next: &str) -> Response {
    let page = maud::html! {
        (maud::DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content=(format!("0;url={next}"));
                title { "Forestage" }
            }
            body { a href=(next) { "Forestage" } }
        }
    };
    (
        [(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        )],
        page,
    )
        .into_response()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter();
    all.filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value)
}

/// Registered at the provider: the server's first address and this path.
fn redirect_uri(state: &AppState) -> String {
    let base = state.home().server_urls.first().map_or("", String::as_str);
    format!("{base}/login/oidc/back")
}

#[cfg(test)]
mod tests;
