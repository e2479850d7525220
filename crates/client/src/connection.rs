//! One server, one CA, one pool of kept-open connections.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use ureq::config::AutoHeaderValue;
use ureq::http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use ureq::http::{HeaderValue, Request, Response, StatusCode, request};
use ureq::middleware::MiddlewareNext;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};
use ureq::{Agent, AsSendBody, Body, SendBody};

use crate::JSON_BYTES_MAX;
use crate::answer::{self, Exactly, Nonsense};
use crate::error::ClientError;

/// A kept-open connection saves a handshake for the next batch of events, which comes within seconds; beyond a minute
/// something on the way may have forgotten it.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Our own answers have a dozen short headers.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// A connection to one server that is kept open between calls. Cheap to clone, safe to share.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base_url: Arc<str>,
    token: Option<Arc<str>>,
    patience: Option<Duration>,
}

/// Why a client can't be made.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the address does not begin with https:// and a host name")]
    Address,
    #[error("the CA is not a certificate in PEM")]
    Pem(#[source] ureq::Error),
    #[error("the CA's PEM holds no certificate")]
    NoCertificate,
    #[error("the CA's certificate can't be used")]
    Certificate(#[source] rustls::Error),
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base_url", &self.base_url)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client for `base_url` (such as `https://10.0.2.2:8443`) that trusts `ca_pem` alone. `timeout` is how long
    /// connecting may take, and how long a reply or an upload may stand still; how long it takes in all isn't limited.
    ///
    /// # Errors
    /// If the address isn't one, or the CA can't be used. Nothing is sent yet.
    pub fn new(base_url: &str, ca_pem: &str, timeout: Duration) -> Result<Self, ClientError> {
        let base_url = base_url.trim_end_matches('/');
        let roots = trusted(ca_pem).map_err(|error| ClientError::unreachable(base_url, error))?;
        if base_url.strip_prefix("https://").is_none_or(str::is_empty) {
            return Err(ClientError::unreachable(base_url, Unusable::Address));
        }
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(timeout))
            .timeout_connect(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .max_idle_age(IDLE_MAX)
            .max_response_header_size(HEADER_BYTES_MAX)
            .user_agent(concat!("forestage/", env!("CARGO_PKG_VERSION")))
            .accept(AutoHeaderValue::None)
            .accept_encoding(AutoHeaderValue::None)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            base_url: base_url.into(),
            token: None,
            patience: None,
        })
    }

    /// A client whose calls are answered by `line` and never leave the program. An error of it is a server that isn't reached.
    #[must_use]
    pub fn over(
        base_url: &str,
        line: impl Fn(Request<Vec<u8>>) -> std::io::Result<Response<Vec<u8>>> + Send + Sync + 'static,
    ) -> Self {
        let answer = move |request: Request<SendBody<'_>>, _: MiddlewareNext<'_>| {
            let (parts, body) = request.into_parts();
            let mut bytes = Vec::new();
            body.into_reader().read_to_end(&mut bytes)?;
            let answer = line(Request::from_parts(parts, bytes))?;
            let (parts, bytes) = answer.into_parts();
            Ok(Response::from_parts(parts, Body::builder().data(bytes)))
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .middleware(answer)
            .build()
            .new_agent();
        Self {
            agent,
            base_url: base_url.trim_end_matches('/').into(),
            token: None,
            patience: None,
        }
    }

    /// The same connection, with `Authorization: Bearer <token>` on every call.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: Some(token.into()),
            ..self.clone()
        }
    }

    /// The same connection, but an answer may stand still for so long. For calls that make the server work.
    #[must_use]
    pub fn with_patience(&self, patience: Duration) -> Self {
        Self {
            patience: Some(patience),
            ..self.clone()
        }
    }

    /// The address this client was made for, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// `GET path`, JSON reply.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let request = self.request("GET", path).header(ACCEPT, "application/json");
        self.json(path, request.body(()))
    }

    /// `GET path`, the whole body, at most `max` bytes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn get_bytes(&self, path: &str, max: u64) -> Result<Vec<u8>, ClientError> {
        let response = self.call(path, self.request("GET", path).body(()))?;
        answer::read_all(&self.url(path), response, max)
    }

    /// `method path` with a JSON body, JSON reply (`()` for none). A body of `()` is not sent at all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn send<B: serde::Serialize, T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let request = self
            .request(method, path)
            .header(ACCEPT, "application/json");
        let bytes = self.encode(path, body)?;
        if bytes == b"null" {
            return match method {
                "POST" | "PUT" | "PATCH" => self.json(path, request.body(Vec::new())),
                _ => self.json(path, request.body(())),
            };
        }
        self.json(
            path,
            request.header(CONTENT_TYPE, "application/json").body(bytes),
        )
    }

    /// `method path` with `length` bytes from `body`, JSON reply. Without a length the body ends where `body` does.
    ///
    /// # Errors
    /// See [`ClientError`]; also if `body` can't be read or is shorter than `length`.
    pub fn upload<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &mut dyn Read,
        length: Option<u64>,
    ) -> Result<T, ClientError> {
        let request = self
            .request(method, path)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, content_type);
        match length {
            Some(length) => {
                let mut exactly = Exactly::new(body, length);
                let request = request.header(CONTENT_LENGTH, length);
                self.json(path, request.body(SendBody::from_reader(&mut exactly)))
            }
            None => self.json(path, request.body(SendBody::from_reader(body))),
        }
    }

    /// `GET path`; the body as a stream, with the length of what is still to come if the server says it. `from` asks
    /// for the bytes after it (RFC 9110 range). A connection that breaks ends the stream with an error.
    ///
    /// # Errors
    /// See [`ClientError`]; also if the server doesn't begin at `from`.
    pub fn download(
        &self,
        path: &str,
        from: u64,
    ) -> Result<(Box<dyn Read + Send>, Option<u64>), ClientError> {
        let mut request = self.request("GET", path);
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let response = self.call(path, request.body(()))?;
        let url = self.url(path);
        if from > 0 && !begins_at(&response, from) {
            return Err(ClientError::answer(&url, Nonsense::WrongRange { from }));
        }
        let length = answer::announced_length(&url, &response)?;
        Ok((answer::stream(response), length))
    }

    /// `POST path` with a JSON body; the answer's body as a stream.
    pub(crate) fn post_for_stream<B: serde::Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Box<dyn Read + Send>, ClientError> {
        let bytes = self.encode(path, body)?;
        let request = self
            .request("POST", path)
            .header(CONTENT_TYPE, "application/json")
            .body(bytes);
        let response = self.call(path, request)?;
        answer::announced_length(&self.url(path), &response)?;
        Ok(answer::stream(response))
    }

    /// `GET path`, `bytes` bytes from `offset` on, which must be there.
    pub(crate) fn get_range(
        &self,
        path: &str,
        offset: u64,
        bytes: u64,
    ) -> Result<Box<dyn Read + Send>, ClientError> {
        let last = offset.saturating_add(bytes.saturating_sub(1));
        let request = self.request("GET", path);
        let request = request.header(RANGE, format!("bytes={offset}-{last}"));
        let response = self.call(path, request.body(()))?;
        if answer::announced_length(&self.url(path), &response)? != Some(bytes) {
            let nonsense = Nonsense::WrongRange { from: offset };
            return Err(ClientError::answer(&self.url(path), nonsense));
        }
        Ok(answer::stream(response))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    fn encode<B: serde::Serialize>(&self, path: &str, body: &B) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(body).map_err(|error| ClientError::unreachable(&self.url(path), error))
    }

    fn request(&self, method: &str, path: &str) -> request::Builder {
        let request = Request::builder().method(method).uri(self.url(path));
        let Some(token) = &self.token else {
            return request;
        };
        match HeaderValue::try_from(format!("Bearer {token}")) {
            Ok(mut value) => {
                value.set_sensitive(true);
                request.header(AUTHORIZATION, value)
            }
            // Refused by the server as a missing token, which is what a token with line breaks in it amounts to.
            Err(_) => request,
        }
    }

    fn call(
        &self,
        path: &str,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
    ) -> Result<Response<Body>, ClientError> {
        let url = self.url(path);
        let request = request.map_err(|error| ClientError::unreachable(&url, error))?;
        let method = request.method().clone();
        let result = match self.patience {
            None => self.agent.run(request),
            Some(patience) => {
                let request = self
                    .agent
                    .configure_request(request)
                    .timeout_per_read(Some(patience))
                    .build();
                self.agent.run(request)
            }
        };
        let response = result.map_err(|error| ClientError::from_call(&url, error))?;
        tracing::debug!(
            http.status = response.status().as_u16(),
            "{method} {url} answered"
        );
        answer::success(&url, response)
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        request: Result<Request<impl AsSendBody>, ureq::http::Error>,
    ) -> Result<T, ClientError> {
        let response = self.call(path, request)?;
        let url = self.url(path);
        let bytes = answer::read_all(&url, response, JSON_BYTES_MAX)?;
        answer::parse(&url, &bytes)
    }
}

/// The certificates of `ca_pem`, each of them usable.
fn trusted(ca_pem: &str) -> Result<RootCerts, Unusable> {
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(ca_pem.as_bytes()) {
        if let PemItem::Certificate(certificate) = item.map_err(Unusable::Pem)? {
            // The HTTP library passes over certificates it can't use; then nothing at all would be trusted, and the
            // error would come late and say something else.
            let der = CertificateDer::from_slice(certificate.der());
            RootCertStore::empty()
                .add(der)
                .map_err(Unusable::Certificate)?;
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(Unusable::NoCertificate);
    }
    Ok(RootCerts::from(certificates))
}

/// Whether a partial answer begins where we asked.
fn begins_at(response: &Response<Body>, from: u64) -> bool {
    let range = response
        .headers()
        .get("content-range")
        .and_then(|value| value.to_str().ok());
    response.status() == StatusCode::PARTIAL_CONTENT
        && range.is_some_and(|range| range.starts_with(&format!("bytes {from}-")))
}
