//! What can go wrong here.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

use crate::command::CommandError;
use crate::uki::UkiError;

/// What went wrong while making an image, a medium or a package.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// A file or folder could not be read.
    #[error("cannot read {path}")]
    Read {
        /// What was read.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder could not be written.
    #[error("cannot write {path}")]
    Write {
        /// What was written.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A program could not be run, or failed.
    #[error("cannot {what}")]
    Command {
        /// What it was to do.
        what: String,
        /// How it ended.
        source: CommandError,
    },
    /// A document written by a person is wrong.
    #[error("{path} is not a valid {what}: {reason}")]
    Document {
        /// The file.
        path: Utf8PathBuf,
        /// What it should be.
        what: &'static str,
        /// Where and why not.
        reason: String,
    },
    /// A file made by a program is damaged or not what it should be.
    #[error("{path} is not a usable {what}: {reason}")]
    Unusable {
        /// The file, or the place inside one.
        path: Utf8PathBuf,
        /// What it should be.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// A unified kernel image could not be built.
    #[error("cannot build the unified kernel image {name}")]
    Uki {
        /// Which one.
        name: &'static str,
        /// Why.
        source: UkiError,
    },
    /// Something is there already, and is never written over.
    #[error("{path} is there already")]
    Exists {
        /// What is there.
        path: Utf8PathBuf,
    },
    /// What was asked for does not exist or makes no sense.
    #[error("{what}")]
    Refused {
        /// What does not work.
        what: String,
        /// What to do.
        hint: String,
    },
}

impl MediaError {
    /// What a person can do about it, if we know.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => Some(hint),
            Self::Exists { .. } => Some("name another, or move what is there out of the way"),
            Self::Command {
                source: CommandError::Start { program, .. },
                ..
            } => match program.as_str() {
                "mmdebstrap" => Some("install it: apt-get install mmdebstrap"),
                "mke2fs" => Some("install it: apt-get install e2fsprogs"),
                "qemu-img" => Some("install it: apt-get install qemu-utils"),
                "wimlib-imagex" => Some("install it: apt-get install wimtools"),
                "mkntfs" => Some("install it: apt-get install ntfs-3g"),
                "sbsign" | "sbverify" | "sbsiglist" | "sbvarsign" => {
                    Some("install it: apt-get install sbsigntool")
                }
                "faketime" => Some("install it: apt-get install faketime"),
                "openssl" => Some("install it: apt-get install openssl"),
                "tar" => Some("install it: apt-get install tar"),
                "apt-get" | "apt-cache" | "apt-config" | "dpkg-deb" => {
                    Some("this needs a Debian machine")
                }
                _ => None,
            },
            _ => None,
        }
    }

    pub(crate) fn read(path: &Utf8Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: &Utf8Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(crate) fn command(what: impl Into<String>) -> impl FnOnce(CommandError) -> Self {
        let what = what.into();
        move |source| Self::Command { what, source }
    }

    pub(crate) fn unusable(
        path: impl Into<Utf8PathBuf>,
        what: &'static str,
        reason: impl Into<String>,
    ) -> Self {
        Self::Unusable {
            path: path.into(),
            what,
            reason: reason.into(),
        }
    }

    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            hint: hint.into(),
        }
    }
}
