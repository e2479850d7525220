//! One POST to a receiver: TLS with the system's authorities or the webhook's own, no redirect followed, no proxy, a limit
//! on everything.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};
use wire::reasons::DeliveryReason;

use crate::text::clean;

/// From connecting to the beginning of the answer: a receiver that works longer should answer first.
const POST_TIME_MAX: Duration = Duration::from_secs(20);
/// What is kept of an answer's body.
const ANSWER_BYTES_MAX: usize = 512;

/// What a receiver answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// How its body began.
    pub(super) head: String,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("the address can't be used: {0}")]
    Address(&'static str),
    #[error("the certificates can't be used: {0}")]
    Certificates(String),
    #[error("cannot connect to {host}: {reason}")]
    Connect { host: String, reason: String },
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("no answer within {} s", POST_TIME_MAX.as_secs())]
    Late,
}

/// What is kept of an error, in characters.
const ERROR_CHARS_MAX: usize = 500;

impl PostError {
    /// For the log of the webhook.
    pub(super) fn said(&self) -> DeliveryReason {
        let short = |text: &str| clean(text, ERROR_CHARS_MAX);
        match self {
            Self::Address(why) => DeliveryReason::Address {
                why: (*why).to_owned(),
            },
            Self::Certificates(error) => DeliveryReason::Certificates {
                error: short(error),
            },
            Self::Connect { host, reason } => DeliveryReason::CannotConnect {
                host: short(host),
                error: short(reason),
            },
            Self::Broken(error) => DeliveryReason::Broken {
                error: short(error),
            },
            Self::Late => DeliveryReason::Late {
                seconds: POST_TIME_MAX.as_secs(),
            },
        }
    }
}

/// Reads the address of a receiver. HTTPS, or plain HTTP to the server's own machine.
pub(super) fn parse_url(text: &str) -> Result<Url, PostError> {
    let url: Url = text
        .parse()
        .map_err(|_| PostError::Address("it is no URL"))?;
    if url.username() != "" || url.password().is_some() {
        return Err(PostError::Address(
            "it holds a user or a password; the signature proves who calls",
        ));
    }
    let is_own = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(PostError::Address("it names no host")),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_own => Ok(url),
        "http" => Err(PostError::Address(
            "http:// is only for receivers on the server's own machine; use https://",
        )),
        _ => Err(PostError::Address(
            "it begins with neither https:// nor http://",
        )),
    }
}

/// What to trust: these authorities, or the system's if there are none.
pub(super) fn trust(ca_pem: &str) -> Result<Arc<ClientConfig>, PostError> {
    let mut roots = RootCertStore::empty();
    if ca_pem.is_empty() {
        // Some of a system's certificates are often of no use; those that are suffice.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    } else {
        for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
            let added = certificate.map_err(|error| error.to_string());
            let added = added.and_then(|it| roots.add(it).map_err(|error| error.to_string()));
            added.map_err(PostError::Certificates)?;
        }
    }
    if roots.is_empty() {
        return Err(PostError::Certificates("there is none".into()));
    }
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| PostError::Certificates(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Sends `body` with these headers.
pub(super) async fn post(
    url: &str,
    ca_pem: &str,
    headers: &[(&'static str, String)],
    body: String,
) -> Result<Answer, PostError> {
    tokio::time::timeout(POST_TIME_MAX, post_at_leisure(url, ca_pem, headers, body))
        .await
        .unwrap_or(Err(PostError::Late))
}

async fn post_at_leisure(
    url: &str,
    ca_pem: &str,
    headers: &[(&'static str, String)],
    body: String,
) -> Result<Answer, PostError> {
    let url = parse_url(url)?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let failed = |error: &dyn std::error::Error| PostError::Connect {
        host: host.clone(),
        reason: crate::error::chain(error),
    };
    let at = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let socket = TcpStream::connect((at.as_str(), port))
        .await
        .map_err(|error| failed(&error))?;
    let mut request = Request::post(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(
            header::HOST,
            &url[url::Position::BeforeHost..url::Position::AfterPort],
        )
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .header(
            header::USER_AGENT,
            concat!("forestage/", env!("CARGO_PKG_VERSION")),
        );
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Body::from(body))
        .map_err(|_| PostError::Address("it can't be asked for"))?;
    if url.scheme() == "http" {
        return exchange(socket, request).await;
    }
    let name = ServerName::try_from(at).map_err(|_| PostError::Address("its host has no name"))?;
    let connector = TlsConnector::from(trust(ca_pem)?);
    let stream = connector
        .connect(name, socket)
        .await
        .map_err(|error| failed(&error))?;
    exchange(stream, request).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<Answer, PostError> {
    let broken = |error: hyper::Error| PostError::Broken(crate::error::chain(&error));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let send = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let mut head = Vec::new();
        // A body that breaks off after the status changes nothing.
        while head.len() < ANSWER_BYTES_MAX
            && let Some(Ok(frame)) = body.frame().await
        {
            head.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        head.truncate(ANSWER_BYTES_MAX);
        let head = crate::text::clean(&String::from_utf8_lossy(&head), ANSWER_BYTES_MAX);
        Ok(Answer { status, head })
    };
    let mut connection = std::pin::pin!(connection);
    let mut send = std::pin::pin!(send);
    tokio::select! {
        answer = &mut send => answer,
        // The connection may end before what came over it is read.
        ended = &mut connection => match ended {
            Ok(()) => send.await,
            Err(error) => Err(broken(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::parse_url;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in [
            "https://assets.example/hook?x=1",
            "http://localhost:9/",
            "http://127.0.0.1:9/a",
            "http://[::1]:9/",
        ] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://assets.example/",
            "http://10.0.0.1/",
            "ftp://localhost/",
            "https://u:p@a.example/",
            "hook",
            "",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
