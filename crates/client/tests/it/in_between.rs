//! Somebody who stands between us and the server, or in its place: they see no request and change nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, ClientError};
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};

use crate::server::{Asked, Authority, Identity, Server, Then, answer, header};
use crate::{PATIENCE, chain};

/// What nobody but the server may see.
const SECRETS: [&str; 3] = ["secret-path", "secret-token", "secret-body"];
/// The answer, which nobody may change.
const ANSWER: &str = r#"{"secret":"answer"}"#;
/// A byte that says how much follows is worth waiting for no longer: most that are changed are noticed at once.
const HURRY: Duration = Duration::from_millis(400);

fn script(_: &Asked) -> (Vec<u8>, Then) {
    (answer("200 OK", ANSWER), Then::Close)
}

/// Where bytes are going.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Way {
    Up,
    Down,
}

/// Every byte that went each way, as it was before it was changed.
#[derive(Default)]
struct Overheard {
    up: Vec<u8>,
    down: Vec<u8>,
}

/// Somebody between us and a server, who hears everything and may change it.
struct Eavesdropper {
    url: String,
    overheard: Arc<Mutex<Overheard>>,
}

/// Changes a piece that begins at this byte of its way.
type Change = dyn Fn(Way, usize, &mut [u8]) + Send + Sync;

impl Eavesdropper {
    fn before(
        server_url: &str,
        change: impl Fn(Way, usize, &mut [u8]) + Send + Sync + 'static,
    ) -> Self {
        let address = server_url.trim_start_matches("https://").to_owned();
        let change: Arc<Change> = Arc::new(change);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let overheard = Arc::new(Mutex::new(Overheard::default()));
        let shared = Arc::clone(&overheard);
        std::thread::spawn(move || {
            for ours in listener.incoming() {
                let (ours, theirs) = (ours.unwrap(), TcpStream::connect(&address).unwrap());
                for (way, from, to) in [(Way::Up, &ours, &theirs), (Way::Down, &theirs, &ours)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (change, overheard) = (Arc::clone(&change), Arc::clone(&shared));
                    std::thread::spawn(move || pass(way, from, to, &*change, &overheard));
                }
            }
        });
        Self { url, overheard }
    }

    fn listening(server_url: &str) -> Self {
        Self::before(server_url, |_, _, _| {})
    }

    fn heard_no_secret(&self) -> bool {
        let overheard = self.overheard.lock().unwrap();
        let mut secrets = SECRETS.iter().copied().chain([ANSWER]);
        !secrets.any(|secret| {
            let among = |bytes: &[u8]| {
                bytes
                    .windows(secret.len())
                    .any(|part| part == secret.as_bytes())
            };
            among(&overheard.up) || among(&overheard.down)
        })
    }
}

fn pass(
    way: Way,
    mut from: TcpStream,
    mut to: TcpStream,
    change: &Change,
    overheard: &Mutex<Overheard>,
) {
    let (mut at, mut buffer) = (0, [0; 4096]);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let piece = &mut buffer[..length];
        let mut overheard = overheard.lock().unwrap();
        match way {
            Way::Up => overheard.up.extend_from_slice(piece),
            Way::Down => overheard.down.extend_from_slice(piece),
        }
        drop(overheard);
        change(way, at, piece);
        at += length;
        if to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Asks for what is secret, with what is secret.
fn ask(url: &str, trusted: &Authority, patience: Duration) -> Result<Value, ClientError> {
    Client::new(url, &trusted.pem, patience)
        .unwrap()
        .with_token("secret-token")
        .send("POST", "/secret-path", &json!({ "a": "secret-body" }))
}

/// What came to the server is what was asked, to the byte.
fn is_as_asked(asked: &Asked) -> bool {
    asked.line == "POST /secret-path HTTP/1.1"
        && header(&asked.headers, "authorization") == Some("bearer secret-token")
        && asked.body == br#"{"a":"secret-body"}"#
}

#[test]
fn whoever_is_not_our_server_gets_no_request() {
    let (ours, public) = (Authority::new(), Authority::new());
    let (issuing, between) = public.intermediate();
    let mut of_a_public_authority = issuing.identity("127.0.0.1", |_| {});
    of_a_public_authority.chain.push(between);
    let of_ours = |change: fn(&mut rcgen::CertificateParams)| ours.identity("127.0.0.1", change);
    let strangers = [
        (
            "another authority",
            public.identity("127.0.0.1", |_| {}),
            "authority that isn't trusted",
        ),
        (
            "a public authority",
            of_a_public_authority,
            "authority that isn't trusted",
        ),
        (
            "nobody's word",
            Identity::self_signed("127.0.0.1"),
            "isn't our server",
        ),
        (
            "another name",
            ours.identity("127.0.0.2", |_| {}),
            "for another name",
        ),
        (
            "another name's part",
            ours.identity("0.0.1", |_| {}),
            "for another name",
        ),
        (
            "an end in the past",
            of_ours(|it| it.not_after = date_time_ymd(2020, 1, 1)),
            "has expired",
        ),
        (
            "a beginning in the future",
            of_ours(|it| it.not_before = date_time_ymd(2090, 1, 1)),
            "isn't valid yet",
        ),
        (
            "another purpose",
            of_ours(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "isn't one of a server",
        ),
    ];
    for (what, identity, expected) in strangers {
        let server = Server::start_as(identity, script);
        let eavesdropper = Eavesdropper::listening(&server.url);
        let error = ask(&eavesdropper.url, &ours, PATIENCE).unwrap_err();
        assert!(error.is_unreached(), "{what}: {error:?}");
        assert!(
            chain(&error).contains(expected),
            "{what}: {}",
            chain(&error)
        );
        server.wait(|seen| seen.failed_handshakes == 1);
        let seen = server.seen.lock().unwrap();
        assert_eq!((seen.plain_bytes, seen.asked.len()), (0, 0), "{what}");
        assert!(eavesdropper.heard_no_secret(), "{what}");
    }
}

/// A server that answers with these bytes, whatever it is told, and what it was told.
fn says_without_tls(bytes: Vec<u8>) -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap_or(0);
            shared.lock().unwrap().extend_from_slice(&buffer[..length]);
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(Shutdown::Write);
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                shared.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        }
    });
    (url, told)
}

#[test]
fn whoever_speaks_no_tls_or_repeats_what_was_said_gets_no_request() {
    let ours = Authority::new();
    let server = Server::start(&ours, "127.0.0.1", script);
    let eavesdropper = Eavesdropper::listening(&server.url);
    let said = ask(&eavesdropper.url, &ours, PATIENCE).unwrap();
    assert_eq!(said.to_string(), ANSWER);
    assert!(eavesdropper.heard_no_secret());
    let (recorded_up, recorded_down) = {
        let overheard = eavesdropper.overheard.lock().unwrap();
        (overheard.up.clone(), overheard.down.clone())
    };

    let redirect =
        b"HTTP/1.1 301 Moved Permanently\r\nlocation: http://127.0.0.1:1/\r\n\r\n".to_vec();
    for (what, bytes, expected) in [
        ("plain HTTP", answer("200 OK", ANSWER), "doesn't speak TLS"),
        ("a redirect to plain HTTP", redirect, "doesn't speak TLS"),
        (
            "another protocol",
            b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
            "doesn't speak TLS",
        ),
        ("a connection that ends", Vec::new(), ""),
        (
            "what our server said another time",
            recorded_down,
            "was changed on its way",
        ),
    ] {
        let (url, told) = says_without_tls(bytes);
        let error = ask(&url, &ours, PATIENCE).unwrap_err();
        assert!(error.is_unreached(), "{what}: {error:?}");
        assert!(
            chain(&error).contains(expected),
            "{what}: {}",
            chain(&error)
        );
        let told = String::from_utf8_lossy(&told.lock().unwrap()).into_owned();
        assert!(
            !SECRETS.iter().any(|secret| told.contains(secret)),
            "{what}"
        );
    }

    // The other way round: what a machine said another time is no request.
    let mut stream = TcpStream::connect(server.url.trim_start_matches("https://")).unwrap();
    stream.write_all(&recorded_up).unwrap();
    server.wait(|seen| seen.failed_handshakes == 1);
    assert_eq!(
        server.seen.lock().unwrap().asked.len(),
        1,
        "the first one's"
    );
}

/// They hide that we know TLS 1.3, so that an older one is spoken. Our own servers speak no older one; this one does.
#[test]
fn nobody_talks_us_into_an_older_tls() {
    let ours = Authority::new();
    let server = Server::start(&ours, "127.0.0.1", script);
    let is_hidden = Arc::new(Mutex::new(false));
    let noted = Arc::clone(&is_hidden);
    let eavesdropper = Eavesdropper::before(&server.url, move |way, at, piece| {
        // The extension `supported_versions`, type 43, with the versions 1.3 and 1.2: four bytes and their length.
        const VERSIONS: [u8; 9] = [0, 43, 0, 5, 4, 3, 4, 3, 3];
        let found = piece
            .windows(VERSIONS.len())
            .position(|part| part == VERSIONS);
        if let (Way::Up, 0, Some(found)) = (way, at, found) {
            // A type that nobody knows.
            piece[found] = 0xfa;
            *noted.lock().unwrap() = true;
        }
    });
    let error = ask(&eavesdropper.url, &ours, PATIENCE).unwrap_err();
    assert!(
        *is_hidden.lock().unwrap(),
        "the hello is another than it was"
    );
    assert!(
        chain(&error).contains("was changed on its way"),
        "{}",
        chain(&error)
    );
    server.wait(|seen| seen.failed_handshakes == 1);
    assert_eq!(server.seen.lock().unwrap().plain_bytes, 0);
}

/// One bit of one byte at a time, evenly over all that goes both ways. The request comes as it was sent or not at all, and so
/// does the answer.
#[test]
fn whoever_changes_a_byte_on_the_way_changes_nothing() {
    let bytes: usize =
        std::env::var("FORESTAGE_ALTERED_BYTES").map_or(60, |text| text.parse().unwrap());
    let ours = Authority::new();
    let server = Server::start(&ours, "127.0.0.1", script);
    let listening = Eavesdropper::listening(&server.url);
    ask(&listening.url, &ours, PATIENCE).unwrap();
    let (up, down) = {
        let overheard = listening.overheard.lock().unwrap();
        (overheard.up.len(), overheard.down.len())
    };
    let (all, mut harmless) = (up + down, 0);
    let bytes = bytes.min(all);
    for number in 0..bytes {
        let at = number * all / bytes;
        let (wanted, at) = if at < up {
            (Way::Up, at)
        } else {
            (Way::Down, at - up)
        };
        let eavesdropper = Eavesdropper::before(&server.url, move |way, begin, piece| {
            let byte = at.checked_sub(begin).and_then(|at| piece.get_mut(at));
            if let (true, Some(byte)) = (way == wanted, byte) {
                *byte ^= 1 << (number % 8);
            }
        });
        match ask(&eavesdropper.url, &ours, HURRY) {
            Ok(said) => {
                assert_eq!(said.to_string(), ANSWER, "byte {at} {wanted:?}");
                harmless += 1;
            }
            Err(error) => assert!(error.is_unreached(), "byte {at} {wanted:?}: {error:?}"),
        }
    }
    let seen = server.seen.lock().unwrap();
    assert!(seen.asked.iter().all(is_as_asked), "a request was changed");
    eprintln!(
        "{bytes} of {all} bytes changed: {} calls failed, {harmless} went well as they were sent",
        bytes - harmless
    );
}
