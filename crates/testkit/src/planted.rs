//! Planted secrets, and a scanner that finds them in whatever was made: raw, as UTF-16, Base64 or hexadecimal digits, and within
//! zstd and gzip streams, streams in streams included.
//!
//! Deliberately absent: secrets that are cut in two by the chunks of a library, or encrypted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use camino::Utf8Path;

/// Shorter ones are found by chance.
const SECRET_BYTES_MIN: usize = 16;
/// What patterns are looked up by.
const KEY_BYTES: usize = 8;
/// How much is read at once.
const WINDOW_BYTES: usize = 1 << 20;
/// What a stream may unpack to: an initrd is a quarter of this.
const UNPACKED_BYTES_MAX: u64 = 512 << 20;
/// A page in a package in an initrd in a boot image.
const DEPTH_MAX: usize = 4;

const STREAMS: [(&str, &[u8]); 2] = [
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ("gzip", &[0x1f, 0x8b, 0x08]),
];

/// A secret that was found where it must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the secret is called.
    pub secret: String,
    /// How it was written.
    pub written: &'static str,
    /// The file, and the streams in it.
    pub place: String,
}

/// Knows all secrets.
pub struct Scanner {
    /// By their first bytes.
    patterns: HashMap<[u8; KEY_BYTES], Vec<Pattern>>,
    /// Which pairs of bytes a pattern or a stream begins with: most places of a file are passed over at once.
    begins: Vec<bool>,
    longest: usize,
}

struct Pattern {
    secret: String,
    written: &'static str,
    bytes: Vec<u8>,
}

impl Scanner {
    /// A scanner for these secrets, each with a name.
    ///
    /// # Panics
    /// If one is so short that it would be found by chance.
    #[must_use]
    pub fn new(secrets: &[(String, Vec<u8>)]) -> Self {
        let mut scanner = Self {
            patterns: HashMap::new(),
            begins: vec![false; 1 << 16],
            longest: KEY_BYTES,
        };
        for (_, magic) in STREAMS {
            scanner.begins[pair(magic)] = true;
        }
        for (name, secret) in secrets {
            assert!(secret.len() >= SECRET_BYTES_MIN, "{name} is too short");
            for (written, bytes) in forms(secret) {
                scanner.begins[pair(&bytes)] = true;
                scanner.longest = scanner.longest.max(bytes.len());
                let key = key(&bytes).expect("a form is no shorter than its secret");
                scanner.patterns.entry(key).or_default().push(Pattern {
                    secret: name.clone(),
                    written,
                    bytes,
                });
            }
        }
        scanner
    }

    /// Scans a file, or every file below a folder. What `is_left_out` says yes to is passed over.
    ///
    /// # Errors
    /// If something can't be read.
    pub fn scan_path(
        &self,
        path: &Utf8Path,
        is_left_out: &dyn Fn(&Utf8Path) -> bool,
    ) -> io::Result<Scan> {
        let mut scan = Scan::default();
        let mut paths = vec![path.to_owned()];
        while let Some(path) = paths.pop() {
            let kind = std::fs::symlink_metadata(&path)?.file_type();
            if is_left_out(&path) {
                continue;
            }
            if kind.is_dir() {
                for entry in path.read_dir_utf8()? {
                    paths.push(entry?.into_path());
                }
            } else if kind.is_file() {
                scan.add(self.scan(path.as_str(), &mut File::open(&path)?)?);
            }
        }
        Ok(scan)
    }

    /// Scans bytes in memory.
    ///
    /// # Panics
    /// Never: memory can be read.
    #[must_use]
    pub fn scan_bytes(&self, place: &str, bytes: &[u8]) -> Scan {
        self.scan(place, &mut Cursor::new(bytes))
            .expect("memory can be read")
    }

    /// Scans something from its start.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn scan(&self, place: &str, from: &mut (impl Read + Seek)) -> io::Result<Scan> {
        self.scan_deep(place, from, 0)
    }

    fn scan_deep(
        &self,
        place: &str,
        from: &mut (impl Read + Seek),
        depth: usize,
    ) -> io::Result<Scan> {
        let mut scan = Scan {
            files: u64::from(depth == 0),
            ..Scan::default()
        };
        let streams = self.scan_plain(place, from, &mut scan)?;
        if depth == DEPTH_MAX {
            return Ok(scan);
        }
        for (at, kind) in streams {
            from.seek(SeekFrom::Start(at))?;
            let unpacked = unpack(kind, from);
            if !unpacked.is_empty() {
                scan.streams += 1;
                let place = format!("{place}, {kind} at {at}");
                scan.add(self.scan_deep(&place, &mut Cursor::new(unpacked), depth + 1)?);
            }
        }
        Ok(scan)
    }

    /// Looks at the bytes as they are. Returns where streams may begin.
    fn scan_plain(
        &self,
        place: &str,
        from: &mut (impl Read + Seek),
        scan: &mut Scan,
    ) -> io::Result<Vec<(u64, &'static str)>> {
        let mut streams = Vec::new();
        let mut window: Vec<u8> = Vec::new();
        let mut start = 0;
        loop {
            let kept = window.len();
            let read = (&mut *from)
                .take(WINDOW_BYTES as u64)
                .read_to_end(&mut window)?;
            scan.bytes += read as u64;
            let is_end = read == 0;
            // The last bytes are looked at with what follows them.
            let end = if is_end {
                kept
            } else {
                window.len().saturating_sub(self.longest)
            };
            // Disks are blank for the most part, and no secret is.
            let is_blank = window.iter().all(|byte| *byte == 0);
            for at in 0..if is_blank { 0 } else { end } {
                let here = &window[at..];
                if here.len() < 2 || !self.begins[pair(here)] {
                    continue;
                }
                for (kind, magic) in STREAMS {
                    if here.starts_with(magic) {
                        streams.push((start + at as u64, kind));
                    }
                }
                let known = key(here).and_then(|key| self.patterns.get(&key));
                for pattern in known.into_iter().flatten() {
                    if here.starts_with(&pattern.bytes) {
                        scan.found.push(Found {
                            secret: pattern.secret.clone(),
                            written: pattern.written,
                            place: format!("{place}, byte {}", start + at as u64),
                        });
                    }
                }
            }
            if is_end {
                return Ok(streams);
            }
            window.drain(..end);
            start += end as u64;
        }
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Files.
    pub files: u64,
    /// Their bytes, and those of the streams in them.
    pub bytes: u64,
    /// Streams that could be unpacked, wholly or in part.
    pub streams: u64,
    /// What must not be there.
    pub found: Vec<Found>,
}

impl Scan {
    /// Joins another scan to this one.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.streams += other.streams;
        self.found.extend(other.found);
    }
}

fn pair(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 8 | usize::from(bytes[1])
}

fn key(bytes: &[u8]) -> Option<[u8; KEY_BYTES]> {
    bytes.first_chunk().copied()
}

/// The first stream of `from`, as far as it can be unpacked.
fn unpack(kind: &str, from: &mut impl Read) -> Vec<u8> {
    let mut unpacked = Vec::new();
    // What is no stream, or a damaged one, ends with an error; what came before it counts.
    let _until = match kind {
        "zstd" => zstd::stream::read::Decoder::new(from).and_then(|stream| {
            let stream = stream.single_frame();
            stream.take(UNPACKED_BYTES_MAX).read_to_end(&mut unpacked)
        }),
        _ => flate2::read::GzDecoder::new(from)
            .take(UNPACKED_BYTES_MAX)
            .read_to_end(&mut unpacked),
    };
    unpacked
}

/// All the ways in which a secret may be written.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = |digit: fn(u8) -> String| secret.iter().map(|byte| digit(*byte)).collect::<String>();
    let mut forms = vec![
        ("raw", secret.to_vec()),
        (
            "hexadecimal",
            hex(|byte| format!("{byte:02x}")).into_bytes(),
        ),
        (
            "HEXADECIMAL",
            hex(|byte| format!("{byte:02X}")).into_bytes(),
        ),
    ];
    if let Ok(text) = std::str::from_utf8(secret) {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        forms.push(("UTF-16", units.collect()));
    }
    for (written, last) in [("Base64", b"+/"), ("Base64 for addresses", b"-_")] {
        for before in 0..3 {
            forms.push((written, base64(secret, before, *last)));
        }
    }
    forms
}

/// The digits of Base64 that a secret has to itself when `before` bytes stand in front of it in its group of three.
fn base64(secret: &[u8], before: usize, last: [u8; 2]) -> Vec<u8> {
    let digit = |value: u8| match value {
        0..26 => b'A' + value,
        26..52 => b'a' + value - 26,
        52..62 => b'0' + value - 52,
        _ => last[usize::from(value - 62)],
    };
    let bit = |at: usize| (secret[at / 8 - before] >> (7 - at % 8)) & 1;
    let first = (before * 8).div_ceil(6);
    let end = (before + secret.len()) * 8 / 6;
    (first..end)
        .map(|at| digit((at * 6..at * 6 + 6).fold(0, |value, at| value << 1 | bit(at))))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::chance::Chance;

    const SECRET: &str = "Nordlys-over-Tromsø-2026";

    fn scanner() -> Scanner {
        let mut chance = Chance::new(7);
        let mut secrets: Vec<(String, Vec<u8>)> = (0..200)
            .map(|number| (format!("other {number}"), chance.bytes(32)))
            .collect();
        secrets.push(("ours".into(), SECRET.into()));
        Scanner::new(&secrets)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    /// In the midst of noise, at each place modulo three; across the edge of two windows; at the very end.
    fn assert_found(written: &'static str, bytes: &[u8]) {
        let mut chance = Chance::new(1);
        for before in [0, 1, 2, 1000, WINDOW_BYTES - bytes.len() / 2] {
            for after in [0, 5, 3000] {
                let noise = [chance.bytes(before), chance.bytes(after)];
                let scan = scanner().scan_bytes("x", &[&noise[0], bytes, &noise[1]].concat());
                let is_ours = |found: &Found| found.secret == "ours" && found.written == written;
                assert!(
                    scan.found.iter().any(is_ours),
                    "{written}, {before}, {after}"
                );
            }
        }
    }

    #[test]
    fn a_secret_is_found_however_it_is_written() {
        assert_found("raw", SECRET.as_bytes());
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_found("hexadecimal", hex.as_bytes());
        assert_found("HEXADECIMAL", hex.to_uppercase().as_bytes());
        let utf16: Vec<u8> = SECRET.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_found("UTF-16", &utf16);
    }

    #[test]
    fn base64_is_found_wherever_the_secret_stands_in_what_was_encoded() {
        // Made by another program: `printf %s "${before}Nordlys-over-Tromsø-2026!!" | base64`.
        for encoded in [
            "Tm9yZGx5cy1vdmVyLVRyb21zw7gtMjAyNiEh",
            "eE5vcmRseXMtb3Zlci1Ucm9tc8O4LTIwMjYhIQ==",
            "eHhOb3JkbHlzLW92ZXItVHJvbXPDuC0yMDI2ISE=",
        ] {
            assert_found("Base64", encoded.as_bytes());
            // Neither of them has a digit of which there are two kinds.
            assert_found("Base64 for addresses", encoded.as_bytes());
        }
    }

    #[test]
    fn a_secret_is_found_within_streams_and_streams_of_streams() {
        let page = [
            "ord ".repeat(500).as_str(),
            SECRET,
            &"flere ord ".repeat(50_000),
        ]
        .concat();
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
        let found_in = |kind: &str, bytes: &[u8]| {
            let scan = scanner().scan_bytes("x", bytes);
            // What is short zstd leaves as it is: then it is found from outside, too.
            let is_within = |found: &Found| found.secret == "ours" && found.place.contains(kind);
            assert!(scan.found.iter().any(is_within), "{kind}: {scan:?}");
        };
        let (zstd_page, gzip_page) = (zstd(page.as_bytes()), gzip(page.as_bytes()));
        for (kind, stream) in [("zstd", &zstd_page), ("gzip", &gzip_page)] {
            found_in(
                kind,
                &[&b"in the midst"[..], stream, b"of something"].concat(),
            );
            // A stream that was cut off is read as far as it goes.
            found_in(kind, &stream[..stream.len() - 4]);
        }
        let both = zstd(&[b"before", &gzip_page[..]].concat());
        found_in("zstd at 2, gzip at 6", &[b"in", &both[..]].concat());
    }

    #[test]
    fn nothing_is_found_where_nothing_is_and_files_can_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        std::fs::create_dir(root.join("keys")).unwrap();
        std::fs::write(root.join("keys/password"), SECRET).unwrap();
        std::fs::write(root.join("noise"), Chance::new(3).bytes(3 << 20)).unwrap();
        let left_out = |path: &Utf8Path| path.file_name() == Some("keys");
        let scan = scanner().scan_path(root, &left_out).unwrap();
        assert_eq!((scan.files, scan.found.len()), (1, 0));
        assert!(scan.bytes >= 3 << 20);
        let scan = scanner().scan_path(root, &|_| false).unwrap();
        assert_eq!((scan.files, scan.found.len()), (2, 1));
    }
}
