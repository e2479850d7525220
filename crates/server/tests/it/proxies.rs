//! Headers of proxies, as bytes over TLS: believed from a proxy that the server trusts (here 127.0.0.1), from nobody else.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use wire::admin_api::AuditRow;
use wire::people::{NewToken, TokenMade};

use crate::harness::Site;

/// Whom the server of the tests trusts.
const PROXY: &str = "127.0.0.1";
/// Somebody else, who can reach it as well.
const OTHER: &str = "127.0.0.2";

/// Sends a request from an address of this machine, with these bytes among its headers; the status of the answer.
fn send(site: &Site, from: &str, request: &str, headers: &[u8], body: &str) -> u16 {
    let mut stream = asked(site, from, request, headers, body);
    let mut answer = Vec::new();
    // A server may close without saying goodbye.
    let _cut = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// A connection over which this was asked, and whose answer is still to be read.
pub(crate) fn asked(
    site: &Site,
    from: &str,
    request: &str,
    headers: &[u8],
    body: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let address = site.server.ready.urls[0].trim_start_matches("https://");
    let mut stream = StreamOwned::new(tls(site), connect(from, address.parse().unwrap()));
    let head = format!(
        "{request} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    let bytes = [head.as_bytes(), headers, b"\r\n", body.as_bytes()].concat();
    stream.write_all(&bytes).unwrap();
    stream
}

fn connect(from: &str, to: SocketAddr) -> TcpStream {
    let from: IpAddr = from.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream
}

fn tls(site: &Site) -> ClientConnection {
    let ca = std::fs::read(&site.server.ready.ca_path).unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), ServerName::try_from(PROXY).unwrap()).unwrap()
}

#[test]
fn forwarding_headers_count_from_a_trusted_proxy_alone() {
    let site = Site::new();
    let made: TokenMade = site
        .admin
        .send(
            "POST",
            "/api/v1/tokens",
            &NewToken {
                title: "t".into(),
                scopes: vec![],
                days: 1,
            },
        )
        .unwrap();
    let long = [
        b"x-forwarded-for: ".as_slice(),
        &b"1.1.1.1, ".repeat(2000),
        b"203.0.113.5\r\n",
    ]
    .concat();
    let cases: &[(&str, &[u8], &str)] = &[
        (PROXY, b"", PROXY),
        (PROXY, b"x-forwarded-for: 203.0.113.5\r\n", "203.0.113.5"),
        (
            PROXY,
            b"forwarded: for=\"[2001:db8::5]:4711\";proto=https\r\n",
            "2001:db8::5",
        ),
        (OTHER, b"", OTHER),
        (OTHER, b"x-forwarded-for: 203.0.113.5\r\n", OTHER),
        (
            OTHER,
            b"forwarded: for=127.0.0.1\r\nx-forwarded-for: 127.0.0.1\r\n",
            OTHER,
        ),
        // What stands before the last stranger is made up by them, in one line or in several.
        (
            PROXY,
            b"x-forwarded-for: 10.17.0.1, 203.0.113.5\r\n",
            "203.0.113.5",
        ),
        (
            PROXY,
            b"x-forwarded-for: 10.17.0.1\r\nx-forwarded-for: 203.0.113.5, 127.0.0.1\r\n",
            "203.0.113.5",
        ),
        (
            PROXY,
            b"forwarded: for=10.17.0.1, for=203.0.113.5\r\n",
            "203.0.113.5",
        ),
        (PROXY, &long, "203.0.113.5"),
        // Two headers that contradict each other, and what is no address.
        (
            PROXY,
            b"forwarded: for=203.0.113.5\r\nx-forwarded-for: 203.0.113.6\r\n",
            PROXY,
        ),
        (PROXY, b"x-forwarded-for: caf\xe9\r\n", PROXY),
        (
            PROXY,
            b"x-forwarded-for: 203.0.113.5, '; DROP TABLE audit --\r\n",
            PROXY,
        ),
        (PROXY, b"x-forwarded-for: \r\n", PROXY),
    ];
    for (number, (from, headers, expected)) in cases.iter().enumerate() {
        let token = format!("authorization: Bearer {}\r\n", made.token);
        let headers = [token.as_bytes(), headers].concat();
        let request = format!("PUT /api/v1/collections/c{number}");
        let body = format!(r#"{{"name":"c{number}","title":""}}"#);
        assert_eq!(send(&site, from, &request, &headers, &body), 200);
        let rows = site
            .admin
            .audit(&[("subject", format!("c{number}"))], 2)
            .unwrap();
        let told: Vec<&str> = rows.iter().map(|row| row.address.as_str()).collect();
        let shown = String::from_utf8_lossy(&headers[token.len()..]).into_owned();
        assert_eq!(told, [*expected], "from {from}: {shown:.100}");
    }
    let found = |address: &str| -> Vec<AuditRow> {
        let address = ("address", address.to_owned());
        let action = ("action", "collection-stored".to_owned());
        site.admin.audit(&[address, action], 50).unwrap()
    };
    let of = |expected: &str| cases.iter().filter(|case| case.2 == expected).count();
    assert_eq!(found(OTHER).len(), of(OTHER));
    assert_eq!(found("203.0.113.0/24").len(), of("203.0.113.5"));
    assert_eq!(found("2001:db8::/32").len(), 1);
    assert!(found("10.17.0.0/16").is_empty());
}

#[test]
fn wrong_passwords_are_counted_for_whoever_a_proxy_speaks_for() {
    let site = Site::new();
    let login = |from: &str, client: &str| {
        let header = format!("x-forwarded-for: {client}\r\n");
        let body = r#"{"user":"admin","password":"wrong"}"#;
        send(&site, from, "POST /api/v1/login", header.as_bytes(), body)
    };
    let mut tries = 1;
    while login(PROXY, "203.0.113.5") == 401 {
        tries += 1;
        assert!(tries < 50, "nobody is ever refused");
    }
    assert_eq!(login(PROXY, "203.0.113.5"), 429);
    assert_eq!(login(PROXY, "203.0.113.6"), 401);
    // Who isn't believed can't get others refused, nor get away with it by another header each time.
    assert_eq!(login(OTHER, "203.0.113.5"), 401);
    for number in 1..tries - 1 {
        assert_eq!(login(OTHER, &format!("203.0.113.{number}")), 401);
    }
    assert_eq!(login(OTHER, "203.0.113.200"), 429);
}
