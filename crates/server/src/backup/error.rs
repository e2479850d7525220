//! Why a backup could not be made, read or restored.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::Failure;

/// Why a backup could not be made, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there that would be written over.
    #[error("{path} exists, and nothing is written over")]
    Exists {
        /// What.
        path: Utf8PathBuf,
    },
    /// The database to restore to has something in it.
    #[error("the database {database} has tables, and nothing is written over")]
    Filled {
        /// Which.
        database: String,
    },
    /// There is no server's data.
    #[error("{path} is no data folder of a server: it has no {lacks}")]
    NoData {
        /// The folder.
        path: Utf8PathBuf,
        /// What is missing.
        lacks: &'static str,
    },
    /// Two backups of one folder at a time.
    #[error("another backup of {path} is being made")]
    Busy {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// Content is being removed.
    #[error("the content library in {path} can't be held still")]
    Library {
        /// The library.
        path: Utf8PathBuf,
        /// Why not.
        source: content::ContentError,
    },
    /// The database did not do it.
    #[error("cannot {what} the database {database}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// With which one.
        database: String,
        /// Why not.
        source: Box<Failure>,
    },
    /// A database whose server is of another release, and whose tables we may not know.
    #[error("the database {database} is in the form of another release")]
    OtherRelease {
        /// Which.
        database: String,
    },
    /// A file or folder did not do it.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: Utf8PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somewhere below.
    #[error("cannot write {path}")]
    Folder {
        /// What was to be written.
        path: Utf8PathBuf,
        /// Why not.
        source: Box<Failure>,
    },
    /// A text is no key.
    #[error("this is no {what}")]
    NoKey {
        /// What it should be.
        what: &'static str,
    },
    /// The backup can't be encrypted.
    #[error("cannot encrypt the backup")]
    Encrypt {
        /// Why not.
        source: age::EncryptError,
    },
    /// Another key, no backup, or a damaged beginning.
    #[error("cannot open the backup {path} with this key")]
    Decrypt {
        /// The backup.
        path: Utf8PathBuf,
        /// Why not.
        source: age::DecryptError,
    },
    /// Some of its bytes aren't those that were written, or some are missing.
    #[error("the backup {path} is damaged")]
    Damaged {
        /// The backup.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It decrypts, and isn't what we write.
    #[error("the backup {path} is not as it must be: {why}")]
    Malformed {
        /// The backup.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A later release made it.
    #[error(
        "the backup {path} was made by a later release: {what} {found}, and this one knows {known}"
    )]
    TooNew {
        /// The backup.
        path: Utf8PathBuf,
        /// Of what.
        what: &'static str,
        /// What it has.
        found: i64,
        /// The newest that we know.
        known: i64,
    },
}

pub(super) fn failed(what: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { what, path, source }
}

pub(super) fn in_folder(path: &Utf8Path) -> impl FnOnce(Failure) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::Folder {
        path,
        source: Box::new(source),
    }
}
