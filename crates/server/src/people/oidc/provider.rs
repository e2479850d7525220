//! The provider over HTTP: discovery, keys, and the exchange of a code for a token.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::config::{OidcConfig, is_safe};
use super::token::{Claims, Expected, Key, Keys};
use crate::error::{Failure, chain};
use crate::routes::page::encode;

/// A provider that doesn't answer is down.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Discovery, keys and tokens are a few kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How long discovery and keys are believed. A token signed by an unknown key has them read again at once.
const BELIEVED_FOR: Duration = Duration::from_secs(3600);
/// How often keys are read again because of unknown ones: tokens with made-up keys must not become a flood.
const KEYS_READ_EVERY: Duration = Duration::from_secs(30);

/// Where the provider is spoken to.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Endpoints {
    issuer: String,
    #[serde(rename = "authorization_endpoint")]
    pub(super) authorization: String,
    #[serde(rename = "token_endpoint")]
    token: String,
    #[serde(rename = "jwks_uri")]
    keys: String,
    #[serde(rename = "token_endpoint_auth_methods_supported", default)]
    methods: Vec<String>,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    id_token: String,
}

struct Known {
    endpoints: Endpoints,
    keys: Keys,
    at: Instant,
}

pub(super) struct Provider {
    issuer: String,
    client_id: String,
    secret: String,
    agent: Agent,
    known: Mutex<Option<Arc<Known>>>,
}

/// The provider didn't answer as it should: whoever wanted to sign in is told so, the cause is in the log.
fn unreachable(error: ureq::Error) -> Failure {
    tracing::warn!(error = %chain(&error), "cannot reach the identity provider");
    Failure::refused(
        StatusCode::BAD_GATEWAY,
        "provider-unreachable",
        "this server can't reach the identity provider",
    )
    .hint("try again in some minutes; until then, whoever has a password of this server can sign in with it")
}

/// What became of a code that didn't turn into a token.
fn not_exchanged(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::StatusCode(400..500) => super::refused(
            "code-refused",
            "the identity provider took back the sign-in that it had just granted",
        )
        .hint(
            "begin again at the sign-in page; if it happens again, tell an administrator: the client's id, its secret \
             or its redirect address there and the file of `--oidc` don't fit together",
        ),
        error => unreachable(error),
    }
}

impl Provider {
    pub(super) fn new(config: &OidcConfig) -> Result<Self, Failure> {
        Ok(Self {
            issuer: config.issuer.clone(),
            client_id: config.client_id.clone(),
            secret: config.secret.clone(),
            agent: agent(config)?,
            known: Mutex::default(),
        })
    }

    pub(super) fn endpoints(&self) -> Result<Endpoints, Failure> {
        Ok(self.known(None)?.endpoints.clone())
    }

    /// What the provider says of whoever the code stands for.
    pub(super) fn claims(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        nonce: &str,
    ) -> Result<Claims, Failure> {
        let token = self.exchange(code, verifier, redirect_uri)?;
        let expected = Expected {
            issuer: &self.issuer,
            client_id: &self.client_id,
            nonce,
            now: jiff::Timestamp::now().as_second(),
        };
        let known = self.known(None)?;
        let claims = match expected.verify(&token, &known.keys) {
            // The provider may have begun to sign with a new key.
            Err(error) if error.is_unknown_key() => {
                expected.verify(&token, &self.known(Some(KEYS_READ_EVERY))?.keys)
            }
            other => other,
        };
        claims.map_err(|error| {
            super::refused(
                "bad-token",
                format!("the identity provider's answer can't be trusted: {error}"),
            )
        })
    }

    fn exchange(&self, code: &str, verifier: &str, redirect_uri: &str) -> Result<String, Failure> {
        let known = self.known(None)?;
        let mut form = format!(
            "grant_type=authorization_code&code={}&redirect_uri={}&code_verifier={}",
            encode(code),
            encode(redirect_uri),
            encode(verifier)
        );
        let mut request = self
            .agent
            .post(&known.endpoints.token)
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded");
        let methods = &known.endpoints.methods;
        let is_basic =
            methods.is_empty() || methods.iter().any(|method| method == "client_secret_basic");
        if is_basic {
            let pair = format!("{}:{}", encode(&self.client_id), encode(&self.secret));
            request = request.header("authorization", format!("Basic {}", STANDARD.encode(pair)));
        } else {
            form.push_str(&format!(
                "&client_id={}&client_secret={}",
                encode(&self.client_id),
                encode(&self.secret)
            ));
        }
        let answer = request
            .send(form.as_bytes())
            .and_then(|mut answer| read(&mut answer))
            .map_err(not_exchanged)?;
        let answer: TokenAnswer = understood("token", &answer)?;
        Ok(answer.id_token)
    }

    /// Discovery and keys, at most as old as `age`.
    fn known(&self, age: Option<Duration>) -> Result<Arc<Known>, Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known
            && known.at.elapsed() < age.unwrap_or(BELIEVED_FOR)
        {
            return Ok(Arc::clone(known));
        }
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let endpoints: Endpoints = understood("configuration", &self.get(&url)?)?;
        // Another issuer's configuration would send our secret and our users elsewhere.
        let are_safe = [&endpoints.authorization, &endpoints.token, &endpoints.keys]
            .iter()
            .all(|url| is_safe(url));
        if endpoints.issuer != self.issuer || !are_safe {
            return Err(Failure::System {
                what: "trust the identity provider's configuration",
                source: "it names another issuer, or addresses without TLS".into(),
            });
        }
        let keys: KeySet = understood("keys", &self.get(&endpoints.keys)?)?;
        // Keys of kinds we don't know are for others.
        let keys = keys.keys.iter().filter_map(Key::of_json).collect();
        let fresh = Arc::new(Known {
            endpoints,
            keys: Keys(keys),
            at: Instant::now(),
        });
        *known = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn get(&self, url: &str) -> Result<String, Failure> {
        self.agent
            .get(url)
            .header("accept", "application/json")
            .call()
            .and_then(|mut answer| read(&mut answer))
            .map_err(unreachable)
    }
}

fn read(answer: &mut ureq::http::Response<ureq::Body>) -> Result<String, ureq::Error> {
    answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES_MAX)
        .read_to_string()
}

fn understood<T: serde::de::DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|source| Failure::Stored {
        what,
        source: source.into(),
    })
}

fn agent(config: &OidcConfig) -> Result<Agent, Failure> {
    let roots = if config.issuer.starts_with("https://") {
        let path = config.ca_file.clone();
        let pem = std::fs::read(&path).map_err(|source| Failure::File {
            what: "read",
            path,
            source,
        })?;
        parse_pem(&pem)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect::<Vec<Certificate<'static>>>()
    } else {
        Vec::new()
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("forestage/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent())
}
