//! The client against a real TLS server on this machine that says what each test wants it to say.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod in_between;
mod server;

use std::error::Error;
use std::io::Read;
use std::time::Duration;

use client::{Client, ClientError};
use serde_json::{Value, json};
use wire::digest::Digest;
use wire::names::RunId;

use server::{Asked, Authority, Server, Then, answer, header};

const PATIENCE: Duration = Duration::from_secs(20);

/// A server for `script`, and a client that trusts it.
fn pair(script: impl Fn(&Asked) -> (Vec<u8>, Then) + Send + Sync + 'static) -> (Server, Client) {
    let authority = Authority::new();
    let server = Server::start(&authority, "127.0.0.1", script);
    let client = Client::new(&server.url, &authority.pem, PATIENCE).unwrap();
    (server, client)
}

/// A server that gives one and the same answer to everything.
fn says(bytes: impl Into<Vec<u8>>, then: Then) -> (Server, Client) {
    let bytes = bytes.into();
    pair(move |_| (bytes.clone(), then))
}

/// An error with all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

#[test]
fn a_call_is_answered_and_the_connection_is_kept() {
    let (server, client) = says(answer("200 OK", r#"{"challenge":"abc"}"#), Then::KeepOpen);
    assert_eq!(client.challenge().unwrap().challenge, "abc");
    let with_token = client.with_token("secret-7");
    assert_eq!(
        with_token.get::<Value>("/x").unwrap(),
        json!({"challenge": "abc"})
    );
    assert_eq!(
        client.with_patience(PATIENCE).get::<Value>("/y").unwrap(),
        json!({"challenge": "abc"})
    );

    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.connections, 1);
    let lines: Vec<&str> = seen.asked.iter().map(|asked| asked.line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "POST /device/v1/challenge HTTP/1.1",
            "GET /x HTTP/1.1",
            "GET /y HTTP/1.1"
        ]
    );
    assert_eq!(header(&seen.asked[0].headers, "authorization"), None);
    assert_eq!(header(&seen.asked[0].headers, "content-length"), Some("0"));
    assert_eq!(
        header(&seen.asked[1].headers, "authorization"),
        Some("bearer secret-7")
    );
}

#[test]
fn a_second_connection_resumes_the_tls_session() {
    let body = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    let (server, client) = says(body, Then::Close);
    for _ in 0..2 {
        client.get::<Value>("/").unwrap();
    }
    let seen = server.seen.lock().unwrap();
    assert_eq!((seen.connections, seen.resumed), (2, 1));
}

#[test]
fn a_server_of_another_ca_gets_not_one_byte_of_http() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let server = Server::start(&other, "127.0.0.1", |_| {
        (answer("200 OK", "{}"), Then::Close)
    });
    let client = Client::new(&server.url, &trusted.pem, PATIENCE)
        .unwrap()
        .with_token("secret");
    let error = client.get::<Value>("/").unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }) && error.is_temporary(),
        "{error:?}"
    );
    assert!(
        chain(&error).contains("invalid peer certificate"),
        "{}",
        chain(&error)
    );
    server.wait(|seen| seen.failed_handshakes == 1);
    assert_eq!(server.seen.lock().unwrap().plain_bytes, 0);
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = Server::start(&authority, "127.0.0.2", |_| {
        (answer("200 OK", "{}"), Then::Close)
    });
    let error = Client::new(&server.url, &authority.pem, PATIENCE)
        .unwrap()
        .get::<Value>("/")
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    server.wait(|seen| seen.failed_handshakes == 1);
    assert_eq!(server.seen.lock().unwrap().plain_bytes, 0);
}

#[test]
fn useless_settings_are_refused_at_once() {
    let good = Authority::new().pem;
    let key = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (url, pem, expected) in [
        ("http://127.0.0.1:1", good.as_str(), "https://"),
        ("https://", good.as_str(), "https://"),
        ("https://127.0.0.1:1", "", "no certificate"),
        ("https://127.0.0.1:1", "hello", "no certificate"),
        ("https://127.0.0.1:1", key, "can't be used"),
    ] {
        let error = Client::new(url, pem, PATIENCE).unwrap_err();
        assert!(
            chain(&error).contains(expected),
            "{url} {pem}: {}",
            chain(&error)
        );
    }
}

#[test]
fn nobody_there_is_unreachable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let client = Client::new(
        &format!("https://127.0.0.1:{port}"),
        &Authority::new().pem,
        PATIENCE,
    )
    .unwrap();
    let error = client.get::<Value>("/").unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
}

#[test]
fn a_server_that_falls_silent_is_unreachable() {
    let authority = Authority::new();
    let server = Server::start(&authority, "127.0.0.1", |_| {
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnu".to_vec(),
            Then::Silence,
        )
    });
    let client = Client::new(&server.url, &authority.pem, Duration::from_millis(300)).unwrap();
    let error = client.get::<Value>("/").unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }) && chain(&error).contains("timeout"),
        "{error:?}"
    );
}

#[test]
fn a_refusal_carries_what_the_server_said() {
    let body = r#"{"code":"not-found","message":"there is no run","hint":"look again"}"#;
    let (_server, client) = says(answer("404 Not Found", body), Then::KeepOpen);
    let error = client.get::<Value>("/nothing").unwrap_err();
    assert!(!error.is_temporary());
    assert_eq!(error.status(), Some(404));
    let ClientError::Refused {
        url,
        status: 404,
        error,
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(url.ends_with("/nothing"));
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("not-found", "there is no run")
    );
    assert_eq!(error.hint.as_deref(), Some("look again"));
}

#[test]
fn foreign_refusals_keep_their_status() {
    for (status, body, code, message) in [
        (
            "502 Bad Gateway",
            "<html>\n<b>nginx</b>",
            "http-502",
            "bad gateway",
        ),
        (
            "503 Service Unavailable",
            "try\u{1b}[31m later\nmore",
            "http-503",
            "try[31m later",
        ),
        ("418 I'm a teapot", "", "http-418", "i'm a teapot"),
    ] {
        let (_server, client) = says(answer(status, body), Then::KeepOpen);
        let ClientError::Refused {
            error,
            status: number,
            ..
        } = client.get::<Value>("/").unwrap_err()
        else {
            panic!("{status} is a refusal")
        };
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            (code, message)
        );
        assert!(status.starts_with(&number.to_string()));
    }
}

#[test]
fn redirects_are_not_followed() {
    let authority = Authority::new();
    let elsewhere = Server::start(&authority, "127.0.0.1", |_| {
        (answer("200 OK", "{}"), Then::KeepOpen)
    });
    let moved = format!(
        "HTTP/1.1 302 Found\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n",
        elsewhere.url
    );
    let server = Server::start(&authority, "127.0.0.1", move |_| {
        (moved.clone().into_bytes(), Then::KeepOpen)
    });
    let client = Client::new(&server.url, &authority.pem, PATIENCE)
        .unwrap()
        .with_token("secret");
    assert_eq!(client.get::<Value>("/").unwrap_err().status(), Some(302));
    assert_eq!(
        client
            .send::<_, Value>("POST", "/", &json!({"a": 1}))
            .unwrap_err()
            .status(),
        Some(302)
    );
    assert_eq!(elsewhere.seen.lock().unwrap().connections, 0);
}

#[test]
fn garbage_is_an_answer_that_makes_no_sense() {
    for bytes in [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(),
        b"\0\x01\x02\x03\xff\r\n\r\n".to_vec(),
        answer("200 OK", "<html>welcome to the captive portal</html>"),
        answer("200 OK", r#"{"another":"shape"}"#),
        b"HTTP/1.1 200 OK\r\n\r\n{\"challenge\":\"abc\"}".to_vec(),
        [
            b"HTTP/1.1 200 OK\r\nx: ".to_vec(),
            vec![b'a'; 100_000],
            b"\r\n\r\n".to_vec(),
        ]
        .concat(),
    ] {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let (_server, client) = says(bytes, Then::Close);
        let error = client.challenge().unwrap_err();
        assert!(
            matches!(error, ClientError::Answer { .. }) && !error.is_temporary(),
            "{text}: {error:?}"
        );
    }
}

#[test]
fn a_cut_off_body_is_an_error_and_never_a_short_one() {
    let cuts: [(&[u8], Then); 4] = [
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1234",
            Then::Cut,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1234",
            Then::Close,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n",
            Then::Cut,
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n1234\r\n",
            Then::Close,
        ),
    ];
    for (bytes, then) in cuts {
        let (_server, client) = says(bytes, then);
        assert!(matches!(
            client.get::<u64>("/").unwrap_err(),
            ClientError::Unreachable { .. }
        ));
        let digest = Digest::of(b"x");
        assert!(matches!(
            client.manifest(&digest).unwrap_err(),
            ClientError::Unreachable { .. }
        ));
        for mut stream in [
            client.download("/", 0).unwrap().0,
            client.chunks(&[digest]).unwrap(),
        ] {
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap_err();
            assert_eq!(got, b"1234");
        }
    }
}

#[test]
fn a_body_without_an_end_is_refused() {
    let (_server, client) = says(b"HTTP/1.1 200 OK\r\n\r\n1234", Then::Close);
    assert!(matches!(
        client.get::<u64>("/").unwrap_err(),
        ClientError::Answer { .. }
    ));
    assert!(client.download("/", 0).is_err());
}

#[test]
fn an_oversized_answer_is_refused() {
    // Announced: refused before it is read.
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        client::JSON_BYTES_MAX + 1
    );
    let (_server, client) = says(head, Then::Silence);
    let error = client.get::<Value>("/").unwrap_err();
    assert!(
        matches!(&error, ClientError::Answer { .. }) && chain(&error).contains("longer"),
        "{error:?}"
    );
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
        client::MANIFEST_BYTES_MAX + 1
    );
    let (_server, client) = says(head, Then::Silence);
    assert!(matches!(
        client.manifest(&Digest::of(b"")).unwrap_err(),
        ClientError::Answer { .. }
    ));

    // Not announced: refused where it passes the limit. Exactly the limit is fine.
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n";
    let (_server, client) = says(chunked, Then::KeepOpen);
    assert_eq!(client.get_bytes("/", 10).unwrap(), b"1234567890");
    assert!(matches!(
        client.get_bytes("/", 9).unwrap_err(),
        ClientError::Answer { .. }
    ));
}

#[test]
fn uploads_arrive_whole_or_fail() {
    let (server, client) = says(answer("200 OK", "null"), Then::KeepOpen);
    client
        .upload::<()>("PUT", "/a", "text/plain", &mut &b"12345"[..], Some(5))
        .unwrap();
    client
        .upload::<()>("PUT", "/b", "text/plain", &mut &b"12345"[..], Some(3))
        .unwrap();
    client
        .upload::<()>("POST", "/c", "text/plain", &mut &b"12345"[..], None)
        .unwrap();
    let error = client
        .upload::<()>("PUT", "/d", "text/plain", &mut &b"12345"[..], Some(6))
        .unwrap_err();
    assert!(chain(&error).contains("ended too early"), "{error:?}");

    let seen = server.seen.lock().unwrap();
    let bodies: Vec<&[u8]> = seen
        .asked
        .iter()
        .map(|asked| asked.body.as_slice())
        .collect();
    assert_eq!(bodies, [&b"12345"[..], b"123", b"5\r\n12345\r\n0\r\n\r\n"]);
    assert_eq!(
        header(&seen.asked[0].headers, "content-type"),
        Some("text/plain")
    );
}

#[test]
fn calls_without_a_body_and_without_an_answer_work_with_every_method() {
    let (server, client) = says(b"HTTP/1.1 204 No Content\r\n\r\n", Then::KeepOpen);
    for method in ["POST", "PUT", "DELETE"] {
        client.send::<_, ()>(method, "/", &()).unwrap();
    }
    assert!(
        server
            .seen
            .lock()
            .unwrap()
            .asked
            .iter()
            .all(|asked| asked.body.is_empty())
    );
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let (_server, client) = pair(|asked| {
        let bytes: &[u8] = match header(&asked.headers, "range") {
            Some("bytes=6-") => {
                b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 6-9/10\r\ncontent-length: 4\r\n\r\n6789"
            }
            Some(_) => b"HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-9/10\r\ncontent-length: 1\r\n\r\n0",
            None => b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n0123456789",
        };
        (bytes.to_vec(), Then::KeepOpen)
    });
    for (from, expected) in [(0, "0123456789"), (6, "6789")] {
        let (mut stream, length) = client.download("/bundle", from).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), length),
            (expected, Some(expected.len() as u64))
        );
    }
    assert!(matches!(
        client.download("/bundle", 3),
        Err(ClientError::Answer { .. })
    ));
}

#[test]
fn names_reach_the_server_as_they_are() {
    let report =
        r#"{"dry-run":true,"columns":[],"rows":[],"new":0,"changed":0,"unchanged":0,"invalid":0}"#;
    let (server, client) = says(answer("200 OK", report), Then::KeepOpen);
    client
        .import_assets("a;b\nø;å\n".as_bytes(), Some(&"c++".parse().unwrap()), true)
        .unwrap();
    let run = RunId::random();
    client.run(run).unwrap_err();
    let seen = server.seen.lock().unwrap();
    assert_eq!(
        seen.asked[0].line,
        "POST /api/v1/assets/import?collection=c%2B%2B&dry-run=true HTTP/1.1"
    );
    assert_eq!(seen.asked[0].body, "a;b\nø;å\n".as_bytes());
    assert_eq!(
        seen.asked[1].line,
        format!("GET /api/v1/runs/{run} HTTP/1.1")
    );
}
