//! A tiny HTTPS server that says exactly what a test tells it to, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

/// A CA of its own.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Another authority that this one vouches for, and its certificate.
    pub(crate) fn intermediate(&self) -> (Self, CertificateDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let authority = Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        };
        (authority, certificate.der().clone())
    }

    /// What a server of this name shows, after `change`.
    pub(crate) fn identity(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

/// Certificates, the server's own first, and the key to that one.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Vouched for by nobody.
    pub(crate) fn self_signed(name: &str) -> Self {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        Self {
            chain: vec![params.self_signed(&key).unwrap().der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        }
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

/// What the server does after it answered.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Then {
    /// Waits for the next request on the same connection.
    KeepOpen,
    /// Ends TLS properly, and closes.
    Close,
    /// Closes the socket under TLS, as a power cut would.
    Cut,
    /// Says nothing more, for as long as the client is there.
    Silence,
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) asked: Vec<Asked>,
    pub(crate) connections: usize,
    pub(crate) resumed: usize,
    pub(crate) failed_handshakes: usize,
    pub(crate) plain_bytes: usize,
}

/// The server; it lives until the test program ends.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) seen: Arc<Mutex<Seen>>,
}

type Script = dyn Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync;

impl Server {
    /// Starts one with a certificate for `name`, that answers what `script` says, byte for byte.
    pub(crate) fn start(
        authority: &Authority,
        name: &str,
        script: impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> Self {
        Self::start_as(authority.identity(name, |_| {}), script)
    }

    /// The same for a server that shows this.
    pub(crate) fn start_as(
        identity: Identity,
        script: impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync + 'static,
    ) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain, identity.key)
            .unwrap();
        let (config, script): (_, Arc<Script>) = (Arc::new(config), Arc::new(script));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, script, seen) = (
                    Arc::clone(&config),
                    Arc::clone(&script),
                    Arc::clone(&shared),
                );
                std::thread::spawn(move || serve(stream.unwrap(), config, &*script, &seen));
            }
        });
        Self { url, seen }
    }

    /// Waits until `ready` says yes. Fails after a minute: the server works in threads of its own.
    pub(crate) fn wait(&self, ready: impl Fn(&Seen) -> bool) {
        let start = std::time::Instant::now();
        while !ready(&self.seen.lock().unwrap()) {
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "the server did not see what it was to see"
            );
            std::thread::yield_now();
        }
    }
}

fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, script: &Script, seen: &Mutex<Seen>) {
    seen.lock().unwrap().connections += 1;
    let mut tls = ServerConnection::new(config).unwrap();
    while tls.is_handshaking() {
        if tls.complete_io(&mut stream).is_err() {
            seen.lock().unwrap().failed_handshakes += 1;
            return;
        }
    }
    if tls.handshake_kind() == Some(HandshakeKind::Resumed) {
        seen.lock().unwrap().resumed += 1;
    }
    let mut tls = StreamOwned::new(tls, stream);
    while let Some(asked) = read_request(&mut tls, seen) {
        let (bytes, then) = script(&asked);
        seen.lock().unwrap().asked.push(asked);
        if tls.write_all(&bytes).and_then(|()| tls.flush()).is_err() {
            return;
        }
        match then {
            Then::KeepOpen => {}
            Then::Close => {
                tls.conn.send_close_notify();
                let _ = tls.flush();
                return;
            }
            Then::Cut => return,
            Then::Silence => {
                let _ = tls.read(&mut [0; 1]);
                return;
            }
        }
    }
}

fn read_request(tls: &mut impl Read, seen: &Mutex<Seen>) -> Option<Asked> {
    let mut next = || {
        let mut byte = [0];
        tls.read_exact(&mut byte).ok()?;
        seen.lock().unwrap().plain_bytes += 1;
        Some(byte[0])
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(next()?);
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let headers = headers.to_lowercase();
    let mut body = Vec::new();
    if let Some(length) = header(&headers, "content-length") {
        for _ in 0..length.parse().unwrap() {
            body.push(next()?);
        }
    } else if headers.contains("transfer-encoding: chunked") {
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(next()?);
        }
    }
    Some(Asked {
        line: line.to_owned(),
        headers,
        body,
    })
}

/// The value of a header, from headers in small letters.
pub(crate) fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    headers
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// An answer with a length.
pub(crate) fn answer(status: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
