//! Bundles on this machine: opened, and trusted only after the signature was checked.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use client::Client;
use content::{Bundle, Verified};
use ed25519_dalek::VerifyingKey;
use wire::admin_api::PrestageVersion;
use wire::boot_config::Trust;
use wire::keys::SignatureState;
use wire::names::PrestageName;

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Bar, Output};

/// How often a download that broke off is taken up again.
const DOWNLOAD_ATTEMPTS: u32 = 5;
/// The pieces a download is written in.
const BUFFER_BYTES: usize = 1 << 20;

/// `NAME` (the latest version) or `NAME@N`.
#[derive(Debug, Clone)]
pub(crate) struct PrestageRef {
    /// The prestage.
    pub(crate) name: PrestageName,
    /// The version; `None` for the latest.
    pub(crate) version: Option<u32>,
}

impl std::str::FromStr for PrestageRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => {
                let version = version.parse().ok().filter(|version| *version > 0);
                (
                    name,
                    Some(version.ok_or("the version after @ is a number from 1")?),
                )
            }
            None => (text, None),
        };
        let name = name
            .parse()
            .map_err(|error: wire::names::InvalidText| error.to_string())?;
        Ok(Self { name, version })
    }
}

impl PrestageRef {
    /// Finds the version meant among those that were built.
    pub(crate) fn resolve(&self, client: &Client) -> Outcome<PrestageVersion> {
        let built = client
            .prestages()
            .trying(|| "cannot list prestages".into())?;
        let mut matches: Vec<_> = built
            .into_iter()
            .filter(|row| row.prestage == self.name)
            .collect();
        matches.sort_by_key(|row| row.version);
        let found = match self.version {
            Some(version) => matches.into_iter().find(|row| row.version == version),
            None => matches.pop(),
        };
        found.ok_or_else(|| {
            let what = match self.version {
                Some(version) => format!(
                    "there is no version {version} of the prestage {}",
                    self.name
                ),
                None => format!("the prestage {} was never built", self.name),
            };
            Failure::new(what).hint(format!(
                "`forestage prestage build {}` builds a version",
                self.name
            ))
        })
    }
}

/// The keys that sign bundles.
pub(crate) fn keys_of(trust: &Trust) -> Outcome<Vec<VerifyingKey>> {
    trust
        .bundle_keys
        .iter()
        .map(|text| parse_key(text).map_err(Failure::new))
        .collect()
}

/// 64 hexadecimal digits that are an Ed25519 public key.
pub(crate) fn parse_key(text: &str) -> Result<VerifyingKey, String> {
    // A digest is written the same way: 32 bytes as 64 hexadecimal digits.
    let bytes: wire::digest::Digest = text
        .parse()
        .map_err(|_| format!("{text:?} is no key: a key is 64 hexadecimal digits"))?;
    VerifyingKey::from_bytes(bytes.as_bytes())
        .map_err(|_| format!("{text} is no Ed25519 public key"))
}

/// Opens a bundle and checks its signature and manifests.
pub(crate) fn open_verified(
    path: &Utf8Path,
    keys: &[VerifyingKey],
) -> Outcome<Bundle<File, Verified>> {
    let mut file = File::open(path).trying(|| format!("cannot open {path}"))?;
    let length = file
        .seek(SeekFrom::End(0))
        .trying(|| format!("cannot measure {path}"))?;
    file.rewind().trying(|| format!("cannot read {path}"))?;
    Bundle::open(file, length)
        .and_then(|bundle| bundle.verify(keys))
        .trying(|| format!("cannot trust the bundle {path}"))
}

/// Refuses a version that no boot image of today would take, and says what to do.
pub(crate) fn check_signed(row: &PrestageVersion) -> Outcome<()> {
    let id = format!("{}@{}", row.prestage, row.version);
    let key = row
        .signed
        .key
        .as_ref()
        .map(|key| format!(" {key}"))
        .unwrap_or_default();
    match row.signed.state {
        SignatureState::Good => Ok(()),
        SignatureState::Waiting => Err(Failure::new(format!(
            "{id} waits for its signature with the key{key}"
        ))
        .hint(format!(
            "`forestage prestage root {id}` fetches what is signed; sign it where the key is"
        ))),
        SignatureState::Retired => Err(Failure::refused(format!(
            "{id} is signed with the key{key}, which is retired: boot images of today refuse it"
        ))
        .hint(format!(
            "build it anew: `forestage prestage build {}`, or sign it with another key: `forestage prestage root {id}`",
            row.prestage
        ))),
    }
}

/// Downloads a bundle to `path`, going on where a download broke off, and checks it before it gets its name.
pub(crate) fn download(
    client: &Client,
    row: &PrestageVersion,
    path: &Utf8Path,
    keys: &[VerifyingKey],
    output: &Output,
) -> Outcome<()> {
    check_signed(row)?;
    let partial = Utf8PathBuf::from(format!("{path}.partial"));
    let bar = output.bytes_bar(&format!("{}@{}", row.prestage, row.version));
    let mut attempt = 1;
    loop {
        match download_rest(client, row, &partial, &bar) {
            Ok(()) => break,
            Err(failure) if attempt == DOWNLOAD_ATTEMPTS => return Err(failure),
            Err(failure) => {
                output.say(&format!("the download broke off, going on ({})", failure));
                attempt += 1;
            }
        }
    }
    bar.clear();
    let opened = open_verified(&partial, keys).map(|bundle| bundle.root_digest());
    let root_digest = opened.inspect_err(|_| {
        // Going on with wrong bytes would fail for ever; if the file can't be deleted, the next error says so.
        let _ = std::fs::remove_file(&partial);
    })?;
    if root_digest != row.bundle {
        return Err(Failure::refused(format!(
            "{} is not {}@{}",
            partial, row.prestage, row.version
        ))
        .because(Failure::new("its signed root has another digest")));
    }
    std::fs::rename(&partial, path).trying(|| format!("cannot rename {partial} to {path}"))
}

fn download_rest(
    client: &Client,
    row: &PrestageVersion,
    partial: &Utf8Path,
    bar: &Bar,
) -> Outcome<()> {
    let writing = || format!("cannot write {partial}");
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(partial)
        .trying(writing)?;
    let mut have = file.metadata().trying(writing)?.len();
    if have > row.bundle_bytes {
        file.set_len(0).trying(writing)?;
        have = 0;
    }
    if have < row.bundle_bytes {
        let asking = || format!("cannot download {}@{}", row.prestage, row.version);
        let (mut stream, _) = client
            .download_bundle(&row.prestage, row.version, have)
            .trying(asking)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = stream.read(&mut buffer).trying(asking)?;
            if count == 0 {
                break;
            }
            have += count as u64;
            if have > row.bundle_bytes {
                return Err(Failure::new(asking()).because(Failure::new(
                    "the server sends more bytes than it announced",
                )));
            }
            file.write_all(&buffer[..count]).trying(writing)?;
            bar.set(have, row.bundle_bytes);
        }
    }
    if have < row.bundle_bytes {
        let rest = row.bundle_bytes - have;
        return Err(Failure::new(format!(
            "the download ended {rest} bytes too early"
        )));
    }
    file.sync_all().trying(writing)
}

#[cfg(test)]
mod tests {
    use super::{PrestageRef, parse_key};

    #[test]
    fn versions_of_prestages() {
        let parse = |text: &str| {
            text.parse::<PrestageRef>()
                .map(|parsed| (parsed.name.to_string(), parsed.version))
        };
        assert_eq!(parse("book-14"), Ok(("book-14".into(), None)));
        assert_eq!(parse("book-14@3"), Ok(("book-14".into(), Some(3))));
        for text in ["", "@1", "book@", "book@0", "book@x", "Book", "book@1@2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_hexadecimal() {
        assert!(parse_key("zz").is_err());
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(parse_key(key).unwrap().as_bytes()[0], 0xd7);
    }
}
