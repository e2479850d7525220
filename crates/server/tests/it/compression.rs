//! What is compressed on its way, as bytes over TLS: pages and JSON for whoever accepts it; live updates and ranges never.

use std::io::Read as _;

use wire::people::{NewToken, TokenMade};

use crate::harness::Site;
use crate::proxies::asked;

/// A server with some machines and a bundle, and a token for it.
struct World {
    site: Site,
    token: String,
}

/// The head of an answer, in small letters, and its body as it came, without the sizes of its pieces.
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let site = Site::new();
        site.prepare(10);
        // So many that even the shortest list of them is worth it.
        let serials = (1..=40).map(|number| format!("PF{number}\n"));
        site.import(&format!("serial\n{}", serials.collect::<String>()));
        let new = NewToken {
            title: "t".into(),
            scopes: vec![],
            days: 1,
        };
        let made: TokenMade = site.admin.send("POST", "/api/v1/tokens", &new).unwrap();
        Self {
            site,
            token: made.token,
        }
    }

    fn ask(&self, path: &str, headers: &str) -> Answer {
        let headers = format!(
            "authorization: Bearer {}\r\naccept: text/html\r\n{headers}",
            self.token
        );
        let request = format!("GET {path}");
        let mut stream = asked(&self.site, "127.0.0.1", &request, headers.as_bytes(), "");
        let mut bytes = Vec::new();
        // What is live has no end: its head is enough.
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => break,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
            }
            let is_live = find(&bytes, b"text/event-stream").is_some();
            if is_live && find(&bytes, b"\r\n\r\n").is_some() {
                break;
            }
        }
        let end = find(&bytes, b"\r\n\r\n").expect("an answer has a head");
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let body = bytes[end + 4..].to_vec();
        let is_chunked = head.contains("transfer-encoding: chunked");
        Answer {
            body: if is_chunked && !head.contains("event-stream") {
                joined(&body)
            } else {
                body
            },
            head,
        }
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The pieces of a body in one.
fn joined(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = find(rest, b"\r\n").expect("each piece begins with its size");
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}

#[test]
fn pages_and_json_are_compressed_for_whoever_accepts_it() {
    let world = World::new();
    for path in ["/devices", "/api/v1/devices", "/api/v1/devices.csv"] {
        let plain = world.ask(path, "");
        assert!(!plain.head.contains("content-encoding"), "{}", plain.head);
        assert!(
            plain.head.contains("vary: accept-encoding"),
            "{}",
            plain.head
        );
        let zstd = world.ask(path, "accept-encoding: gzip, deflate, br, zstd\r\n");
        assert!(
            zstd.head.contains("content-encoding: zstd"),
            "{}",
            zstd.head
        );
        let gzip = world.ask(path, "accept-encoding: gzip\r\n");
        assert!(
            gzip.head.contains("content-encoding: gzip"),
            "{}",
            gzip.head
        );
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&gzip.body[..])
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == plain.body, "{path}: gzip holds something else");
        let unpacked = zstd::decode_all(&zstd.body[..]).unwrap();
        assert!(unpacked == plain.body, "{path}: zstd holds something else");
        assert!(zstd.body.len() < plain.body.len() && gzip.body.len() < plain.body.len());
    }
}

#[test]
fn live_updates_and_ranges_stay_as_they_are() {
    let world = World::new();
    let accept = "accept-encoding: gzip, zstd\r\n";
    let live = world.ask("/live/overview", accept);
    assert!(live.head.contains("text/event-stream"), "{}", live.head);
    assert!(!live.head.contains("content-encoding"), "{}", live.head);
    let name = world.site.define_prestage();
    let built: wire::admin_api::PrestageVersion = world
        .site
        .admin
        .send(
            "POST",
            &format!("/api/v1/prestages/{name}/build"),
            &serde_json::json!({}),
        )
        .unwrap();
    let path = format!("/api/v1/prestages/{name}/versions/1/bundle");
    let whole = world.ask(&path, accept);
    assert!(!whole.head.contains("content-encoding"), "{}", whole.head);
    assert_eq!(whole.body.len() as u64, built.bundle_bytes);
    let range = world.ask(&path, &format!("{accept}range: bytes=10-2009\r\n"));
    assert!(range.head.starts_with("http/1.1 206"), "{}", range.head);
    assert!(!range.head.contains("content-encoding"), "{}", range.head);
    assert!(range.body == whole.body[10..2010], "another range");
}
