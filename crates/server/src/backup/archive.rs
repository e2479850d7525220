//! What is inside a backup: a tar archive of plain files, with what it is at its beginning and a list of them at its end.
//!
//! *Absent:* folders, links, owners, times, long names. A reader that meets them refuses the archive.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use camino::Utf8Path;
use content::Meter;
use serde::{Deserialize, Serialize};

use super::error::{BackupError, failed};
use super::{CONTENT, Contents, DATABASE, FORMAT, Head, LeftOut, SECRETS};

/// A library has a pack for each import, or each GiB of it, and a manifest for each version of a package.
const MEMBERS_MAX: usize = 100_000;
/// So many members with 150 bytes each, and room.
const JSON_BYTES_MAX: u64 = 32 << 20;
/// What a header of tar holds without tricks.
const PATH_BYTES_MAX: usize = 100;
/// Of the two empty blocks at the end of an archive its reader takes the first.
const END_BYTES: u64 = 512;

const HEAD: &str = "backup.json";
const LIST: &str = "members.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Member {
    path: String,
    bytes: u64,
    blake3: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    members: Vec<Member>,
    #[serde(default)]
    left_out: LeftOut,
}

/// Whatever else a head holds.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// Why an archive can't be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The bytes don't come.
    Damaged(io::Error),
    /// They aren't what we write.
    Malformed(String),
    /// A later release wrote them.
    TooNew(u32),
    /// Whoever took the members can't go on.
    Taker(BackupError),
}

/// Reads an archive from its beginning to its end. `take` gets each file, and reads all of it.
pub(super) fn read(
    input: impl Read,
    mut take: impl FnMut(&str, &mut dyn Read) -> Result<u64, BackupError>,
) -> Result<Contents, ReadError> {
    let mut archive = tar::Archive::new(input);
    let mut found = Found::default();
    for entry in archive.entries().map_err(ReadError::Damaged)?.raw(true) {
        let entry = entry.map_err(ReadError::Damaged)?;
        let (path, bytes) = found.admit(&entry)?;
        let mut member = Hashing {
            inner: entry,
            hasher: blake3::Hasher::new(),
        };
        let read = if [HEAD, LIST].contains(&path.as_str()) {
            let mut text = Vec::new();
            let read = member.read_to_end(&mut text).map_err(ReadError::Damaged)?;
            found.understand(&path, &text)?;
            read as u64
        } else {
            take(&path, &mut member).map_err(ReadError::Taker)?
        };
        if read != bytes {
            return Err(ReadError::Damaged(io::ErrorKind::UnexpectedEof.into()));
        }
        let blake3 = member.hasher.finalize().to_hex().to_string();
        found.members.push(Member {
            path,
            bytes,
            blake3,
        });
    }
    let mut rest = Vec::new();
    let mut input = archive.into_inner().take(END_BYTES + 1);
    input.read_to_end(&mut rest).map_err(ReadError::Damaged)?;
    if rest.len() as u64 != END_BYTES || rest.iter().any(|byte| *byte != 0) {
        return Err(ReadError::Malformed(
            "it has no end, or goes on after it".to_owned(),
        ));
    }
    found.finish()
}

/// What an archive turned out to hold so far.
#[derive(Default)]
struct Found {
    head: Option<Head>,
    list: Option<List>,
    paths: BTreeSet<String>,
    members: Vec<Member>,
}

impl Found {
    /// Path and length of a member that may come next. Its content hasn't been read.
    fn admit(&mut self, entry: &tar::Entry<'_, impl Read>) -> Result<(String, u64), ReadError> {
        let malformed = |why| Err(ReadError::Malformed(why));
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !entry.header().entry_type().is_file() {
            return malformed(format!("{path:?} is no plain file"));
        }
        if self.list.is_some() || !is_allowed(&path) || !self.paths.insert(path.clone()) {
            return malformed(format!("{path:?} has no place there"));
        }
        if self.head.is_none() && path != HEAD {
            return malformed(format!("it doesn't begin with {HEAD}"));
        }
        if self.members.len() > MEMBERS_MAX {
            return malformed(format!("it has more than {MEMBERS_MAX} members"));
        }
        let bytes = entry.size();
        if [HEAD, LIST].contains(&path.as_str()) && bytes > JSON_BYTES_MAX {
            return malformed(format!("{path} is longer than {JSON_BYTES_MAX} bytes"));
        }
        Ok((path, bytes))
    }

    fn understand(&mut self, path: &str, text: &[u8]) -> Result<(), ReadError> {
        let unreadable =
            |error: serde_json::Error| ReadError::Malformed(format!("{path}: {error}"));
        if path == LIST {
            self.list = Some(serde_json::from_slice(text).map_err(unreadable)?);
            return Ok(());
        }
        let version: Version = serde_json::from_slice(text).map_err(unreadable)?;
        if version.format > FORMAT {
            return Err(ReadError::TooNew(version.format));
        }
        if version.format != FORMAT {
            let why = format!("there was never a format {}", version.format);
            return Err(ReadError::Malformed(why));
        }
        self.head = Some(serde_json::from_slice(text).map_err(unreadable)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Contents, ReadError> {
        let (Some(head), Some(list)) = (self.head, self.list) else {
            let why = format!("it doesn't end with {LIST}");
            return Err(ReadError::Malformed(why));
        };
        // It doesn't name itself.
        self.members.pop();
        if list.members != self.members {
            let why = "its list and its members differ";
            return Err(ReadError::Malformed(why.to_owned()));
        }
        if !self.paths.contains(DATABASE) {
            return Err(ReadError::Malformed(format!("it has no {DATABASE}")));
        }
        Ok(contents(head, &self.members, list.left_out))
    }
}

fn contents(head: Head, members: &[Member], left_out: LeftOut) -> Contents {
    Contents {
        head,
        members: members.len(),
        bytes: members
            .iter()
            .fold(0, |sum, member| sum.saturating_add(member.bytes)),
        left_out,
    }
}

/// Whether a member of this path has a place in a data folder, and nowhere else.
pub(super) fn is_allowed(path: &str) -> bool {
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        let first = bytes.next();
        first.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
    };
    if path.len() > PATH_BYTES_MAX {
        return false;
    }
    match path.rsplit_once('/') {
        None => [HEAD, LIST, DATABASE].contains(&path),
        Some((folder, name)) => {
            is_name(name) && (SECRETS.contains(&folder) || CONTENT.contains(&folder))
        }
    }
}

/// Reads and digests.
struct Hashing<R> {
    inner: R,
    hasher: blake3::Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..bytes]);
        Ok(bytes)
    }
}

/// Reads or writes, and says how far it is.
pub(super) struct Metered<'a, T> {
    pub(super) inner: T,
    pub(super) meter: &'a dyn Meter,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl<T> Metered<'_, T> {
    fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        self.meter.report(self.done, self.total);
    }
}

impl<T: Read> Read for Metered<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.add(bytes);
        Ok(bytes)
    }
}

impl<T: Write> Write for Metered<'_, T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let bytes = self.inner.write(buffer)?;
        self.add(bytes);
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes an archive to `out`, which is called `path`.
pub(super) struct Writer<'a, W: Write> {
    out: tar::Builder<W>,
    path: &'a Utf8Path,
    head: Head,
    members: Vec<Member>,
}

impl<'a, W: Write> Writer<'a, W> {
    pub(super) fn begin(out: W, path: &'a Utf8Path, head: Head) -> Result<Self, BackupError> {
        let mut writer = Self {
            out: tar::Builder::new(out),
            path,
            head,
            members: Vec::new(),
        };
        let head = serde_json::to_vec(&writer.head);
        writer.add_json(HEAD, head)?;
        Ok(writer)
    }

    /// Adds the file `from` as the member `path`.
    pub(super) fn add_file(&mut self, path: &str, from: &Utf8Path) -> Result<(), BackupError> {
        let file = File::open(from).map_err(failed("read", from))?;
        let bytes = file.metadata().map_err(failed("read", from))?.len();
        self.add(path, bytes, &mut BufReader::new(file), from)
    }

    /// Writes the list and the end.
    pub(super) fn finish(mut self, left_out: LeftOut) -> Result<(W, Contents), BackupError> {
        let contents = contents(self.head.clone(), &self.members, left_out);
        let list = List {
            members: std::mem::take(&mut self.members),
            left_out,
        };
        self.add_json(LIST, serde_json::to_vec(&list))?;
        let out = self.out.into_inner().map_err(failed("write", self.path))?;
        Ok((out, contents))
    }

    fn add_json(
        &mut self,
        path: &str,
        text: Result<Vec<u8>, serde_json::Error>,
    ) -> Result<(), BackupError> {
        let text = text.map_err(|error| failed("write", self.path)(error.into()))?;
        self.add(path, text.len() as u64, &mut &text[..], Utf8Path::new(path))
    }

    fn add(
        &mut self,
        path: &str,
        bytes: u64,
        content: &mut dyn Read,
        from: &Utf8Path,
    ) -> Result<(), BackupError> {
        if !is_allowed(path) || self.members.len() >= MEMBERS_MAX {
            let error = io::Error::other("a backup has no place for it");
            return Err(failed("back up", from)(error));
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o600);
        header.set_size(bytes);
        let mut content = Hashing {
            inner: content.take(bytes),
            hasher: blake3::Hasher::new(),
        };
        self.out
            .append_data(&mut header, path, &mut content)
            .map_err(failed("write", self.path))?;
        if content.inner.limit() != 0 {
            let error = io::Error::other("it became shorter meanwhile: try again");
            return Err(failed("read", from)(error));
        }
        self.members.push(Member {
            path: path.to_owned(),
            bytes,
            blake3: content.hasher.finalize().to_hex().to_string(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
