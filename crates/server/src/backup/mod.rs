//! Backups: everything that a server keeps, in one file that is worth nothing without its key. See `docs/formats/backup.md`.
//!
//! They are made beside a running server, from its data folder and its database. *Absent:* keys, which must not lie where
//! the backups do; patches, which are made again.

mod archive;
mod database;
mod error;
mod key;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};
use content::{Library, Meter};
use serde::{Deserialize, Serialize};

use self::archive::{Metered, ReadError, Writer};
use self::database::Snapshot;
use self::error::{failed, in_folder};
use crate::db::{self, DatabaseUrl};
use crate::secret::{private_folder, sync_parent};
use crate::state::now_ms;

pub use self::error::BackupError;
pub use self::key::{Key, Recipient};

const FORMAT: u32 = 1;
const DATABASE: &str = "forestage.db";
/// Folders that are in every backup.
const SECRETS: [&str; 2] = ["keys", "tls"];
/// Folders that may be left out.
const CONTENT: [&str; 3] = ["bundles", "library/manifests", "library/packs"];
/// Files that nobody has finished yet.
const UNFINISHED: [&str; 2] = [".new", ".partial"];
/// In the data folder while a backup is made; gone when it is done, and taken away by the next one if that never came.
const SNAPSHOT: &str = "backup.db";
/// Held while a backup is made.
const LOCK: &str = "backup.lock";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Head {
    format: u32,
    /// When, in milliseconds since 1970.
    pub made_at_ms: i64,
    /// The release that made it.
    pub forestage: String,
    /// The form of its database: the number of the newest migration.
    schema: i64,
    /// Whether bundles and library are in it.
    pub with_content: bool,
}

/// Files that are not in a backup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeftOut {
    /// How many.
    pub files: usize,
    /// How large they are together.
    pub bytes: u64,
}

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Contents {
    /// What it says of itself.
    pub head: Head,
    /// How many files are in it.
    pub members: usize,
    /// How large they are together.
    pub bytes: u64,
    /// Content that isn't in it.
    pub left_out: LeftOut,
}

/// Where a server keeps everything.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its data folder.
    pub data: &'a Utf8Path,
    /// Its PostgreSQL database; without one, the file in the folder.
    pub database: Option<&'a DatabaseUrl>,
}

/// Makes a backup of a server, which may run meanwhile. The file is there as a whole or not at all.
///
/// # Errors
/// See [`BackupError`].
pub fn create(
    server: Place<'_>,
    file: &Utf8Path,
    recipients: &[Recipient],
    with_content: bool,
    meter: &dyn Meter,
) -> Result<Contents, BackupError> {
    if file.exists() {
        return Err(BackupError::Exists { path: file.into() });
    }
    let data = server.data;
    let lacks = |lacks| BackupError::NoData {
        path: data.to_owned(),
        lacks,
    };
    if let Some(folder) = SECRETS.iter().find(|name| !data.join(name).is_dir()) {
        return Err(lacks(folder));
    }
    let database = data.join(DATABASE);
    if server.database.is_none() && !database.exists() {
        return Err(lacks(DATABASE));
    }
    let _lock = lock(data)?;
    // What the database names now is still there when it is read.
    let library = data.join("library");
    let _kept = Library::keep_files(&library).map_err(|source| BackupError::Library {
        path: library.clone(),
        source,
    })?;
    let snapshot = Snapshot::take(data, &database, server.database)?;
    let mut files = vec![(DATABASE.to_owned(), snapshot.path.clone())];
    for folder in SECRETS {
        list(data, folder, &mut files)?;
    }
    let mut content = Vec::new();
    for folder in CONTENT {
        list(data, folder, &mut content)?;
    }
    let left_out = if with_content {
        files.append(&mut content);
        LeftOut::default()
    } else {
        LeftOut {
            files: content.len(),
            bytes: bytes(&content)?,
        }
    };
    let head = Head {
        format: FORMAT,
        made_at_ms: now_ms(),
        forestage: env!("CARGO_PKG_VERSION").to_owned(),
        schema: snapshot.schema,
        with_content,
    };
    let aside = Aside::create(file)?;
    let contents = write(&aside, head, &files, left_out, recipients, meter)?;
    aside.keep(file)?;
    Ok(contents)
}

fn write(
    aside: &Aside,
    head: Head,
    files: &[(String, Utf8PathBuf)],
    left_out: LeftOut,
    recipients: &[Recipient],
    meter: &dyn Meter,
) -> Result<Contents, BackupError> {
    let path = &aside.path;
    let recipients = recipients.iter().map(|one| &one.0 as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients)
        .map_err(|source| BackupError::Encrypt { source })?;
    let out = encryptor
        .wrap_output(BufWriter::new(&aside.file))
        .map_err(failed("write", path))?;
    let metered = Metered {
        inner: out,
        meter,
        done: 0,
        total: bytes(files)?,
    };
    let mut writer = Writer::begin(metered, path, head)?;
    for (member, file) in files {
        writer.add_file(member, file)?;
    }
    let (metered, contents) = writer.finish(left_out)?;
    let mut out = metered.inner.finish().map_err(failed("write", path))?;
    out.flush().map_err(failed("write", path))?;
    Ok(contents)
}

/// Reads all of a backup and compares every byte with what was written.
///
/// # Errors
/// See [`BackupError`].
pub fn verify(file: &Utf8Path, key: &Key, meter: &dyn Meter) -> Result<Contents, BackupError> {
    read(file, key, meter, |_, member| {
        io::copy(member, &mut io::sink()).map_err(damaged(file))
    })
}

/// Makes a server's data folder, and fills its database, from a backup: all of it, or nothing.
///
/// # Errors
/// See [`BackupError`]; above all if there is something in the folder or the database.
pub fn restore(
    file: &Utf8Path,
    key: &Key,
    server: Place<'_>,
    meter: &dyn Meter,
) -> Result<Contents, BackupError> {
    // Without a slash at its end.
    let data: Utf8PathBuf = server.data.components().collect();
    let is_taken = match data.read_dir_utf8() {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => return Err(failed("read", &data)(source)),
    };
    if is_taken {
        return Err(BackupError::Exists { path: data });
    }
    if let Some(url) = server.database {
        database::expect_empty(url)?;
    }
    let aside = Utf8PathBuf::from(format!("{data}.restoring"));
    if aside.exists() {
        return Err(BackupError::Exists { path: aside });
    }
    private_folder(&aside).map_err(in_folder(&aside))?;
    let restored = restore_into(file, key, &aside, server.database, meter)
        .and_then(|contents| {
            std::fs::rename(&aside, &data).map_err(failed("make", &data))?;
            Ok(contents)
        })
        .inspect_err(|_| {
            // The first error is the one to tell.
            let _ = std::fs::remove_dir_all(&aside);
        })?;
    sync_name(&data)?;
    Ok(restored)
}

fn restore_into(
    file: &Utf8Path,
    key: &Key,
    folder: &Utf8Path,
    url: Option<&DatabaseUrl>,
    meter: &dyn Meter,
) -> Result<Contents, BackupError> {
    for name in SECRETS.iter().chain(&CONTENT) {
        private_folder(&folder.join(name)).map_err(in_folder(folder))?;
    }
    let contents = read(file, key, meter, |path, member| {
        let path = folder.join(path);
        let mut out = create_private(&path).map_err(failed("create", &path))?;
        let bytes = io::copy(member, &mut out).map_err(|source| match source.kind() {
            // So says whoever decrypts; no disk does.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(file)(source),
            _ => failed("write", &path)(source),
        })?;
        out.sync_all().map_err(failed("sync", &path))?;
        Ok(bytes)
    })?;
    let known = db::newest_migration();
    if contents.head.schema > known {
        return Err(BackupError::TooNew {
            path: file.to_owned(),
            what: "its database has form",
            found: contents.head.schema,
            known,
        });
    }
    if let Some(url) = url {
        let database = folder.join(DATABASE);
        database::fill(url, &database)?;
        std::fs::remove_file(&database).map_err(failed("remove", &database))?;
    }
    for name in SECRETS.iter().chain(&CONTENT).chain(&["library", ""]) {
        let path = folder.join(name);
        let synced = File::open(&path).and_then(|folder| folder.sync_all());
        synced.map_err(failed("sync", &path))?;
    }
    Ok(contents)
}

/// Opens a backup and reads it to its end.
fn read(
    file: &Utf8Path,
    key: &Key,
    meter: &dyn Meter,
    take: impl FnMut(&str, &mut dyn Read) -> Result<u64, BackupError>,
) -> Result<Contents, BackupError> {
    let input = File::open(file).map_err(failed("read", file))?;
    let total = input.metadata().map_err(failed("read", file))?.len();
    let metered = Metered {
        inner: input,
        meter,
        done: 0,
        total,
    };
    let plain = decrypt(BufReader::new(metered), key).map_err(|source| BackupError::Decrypt {
        path: file.to_owned(),
        source,
    })?;
    archive::read(plain, take).map_err(|error| match error {
        ReadError::Damaged(source) => damaged(file)(source),
        ReadError::Malformed(why) => BackupError::Malformed {
            path: file.to_owned(),
            why,
        },
        ReadError::TooNew(format) => BackupError::TooNew {
            path: file.to_owned(),
            what: "format",
            found: format.into(),
            known: FORMAT.into(),
        },
        ReadError::Taker(error) => error,
    })
}

fn decrypt(input: impl io::BufRead, key: &Key) -> Result<impl Read, age::DecryptError> {
    age::Decryptor::new_buffered(input)?.decrypt(std::iter::once(&key.0 as &dyn age::Identity))
}

/// Reads bytes as a backup, and as what is inside one.
pub(crate) fn read_bytes(bytes: &[u8]) {
    let key = Key::generate();
    let _ = decrypt(bytes, &key).map(|mut plain| io::copy(&mut plain, &mut io::sink()));
    let _ = archive::read(bytes, |_, member| {
        io::copy(member, &mut io::sink()).map_err(damaged("it".into()))
    });
}

/// A file beside the one that is wanted. It goes away unless it is kept.
struct Aside {
    path: Utf8PathBuf,
    file: File,
    is_kept: bool,
}

impl Aside {
    fn create(wanted: &Utf8Path) -> Result<Self, BackupError> {
        let path = Utf8PathBuf::from(format!("{wanted}.new"));
        remove_if_there(&path)?;
        let file = create_private(&path).map_err(failed("create", &path))?;
        Ok(Self {
            path,
            file,
            is_kept: false,
        })
    }

    fn keep(mut self, wanted: &Utf8Path) -> Result<(), BackupError> {
        self.file.sync_all().map_err(failed("sync", &self.path))?;
        std::fs::rename(&self.path, wanted).map_err(failed("make", wanted))?;
        self.is_kept = true;
        sync_name(wanted)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.is_kept {
            // Why it isn't kept is what is told.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Adds the finished files of a folder, by name, as members; none if there is no such folder.
fn list(
    data: &Utf8Path,
    folder: &str,
    files: &mut Vec<(String, Utf8PathBuf)>,
) -> Result<(), BackupError> {
    let path = data.join(folder);
    let entries = match path.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("read", &path)(source)),
    };
    let first = files.len();
    for entry in entries {
        let entry = entry.map_err(failed("read", &path))?;
        let name = entry.file_name();
        let is_unfinished =
            name.starts_with('.') || UNFINISHED.iter().any(|end| name.ends_with(end));
        if !is_unfinished {
            files.push((format!("{folder}/{name}"), entry.into_path()));
        }
    }
    files[first..].sort();
    Ok(())
}

fn bytes(files: &[(String, Utf8PathBuf)]) -> Result<u64, BackupError> {
    let lengths = files
        .iter()
        .map(|(_, path)| Ok(path.metadata().map_err(failed("read", path))?.len()));
    lengths.sum()
}

/// Held until it is dropped, or its process ends.
fn lock(data: &Utf8Path) -> Result<File, BackupError> {
    let path = data.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(BackupError::Busy { path: data.into() }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// Makes the name of a file or folder durable.
fn sync_name(path: &Utf8Path) -> Result<(), BackupError> {
    // A name without a folder lies in the one we are in.
    let path = match path.parent() {
        Some(folder) if folder.as_str().is_empty() => Utf8Path::new(".").join(path),
        _ => path.to_owned(),
    };
    sync_parent(&path).map_err(in_folder(&path))
}

fn create_private(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn remove_if_there(path: &Utf8Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn damaged(file: &Utf8Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = file.to_owned();
    move |source| BackupError::Damaged { path, source }
}

#[cfg(test)]
mod tests;
