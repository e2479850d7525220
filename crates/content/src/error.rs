//! What can go wrong with content: one variant per thing a caller can act on.

use std::io;
use std::path::{Path, PathBuf};

use wire::digest::Digest;

use crate::filesystem::Unsettled;

/// What went wrong with content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// A file or folder could not be worked with.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried: a verb, such as `read`.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something without a path (a device, a stream) could not be worked with.
    #[error("cannot {what}")]
    Stream {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no room left.
    #[error("no space left to {what} {}", path.display())]
    NoSpace {
        /// What was tried: a verb, such as `write`.
        what: &'static str,
        /// With which file; empty for a device or stream.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that are no frame: see `docs/formats/pack.md`.
    #[error("damaged frame: {rule}")]
    BadFrame {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A frame whose content is not what its digest says.
    #[error("chunk {digest} is damaged: {rule}")]
    DamagedChunk {
        /// The chunk.
        digest: Digest,
        /// The rule that is broken.
        rule: &'static str,
    },
    /// Bytes that are no manifest: see `docs/formats/manifest.md`.
    #[error("damaged manifest: {rule}")]
    BadManifest {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// Bytes that are no patch, or not one that can be used here: see `docs/formats/patch.md`.
    #[error("useless patch: {rule}")]
    BadPatch {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A pack whose bytes can't be used: see `docs/formats/pack.md`.
    #[error("damaged pack: {rule}")]
    BadPack {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// Bytes that are no bundle: see `docs/formats/bundle.md`.
    #[error("damaged bundle: {rule}")]
    BadBundle {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// Something a newer release has written.
    #[error("the {what} has version {version}; this release reads version {newest} at most")]
    Newer {
        /// What it is.
        what: &'static str,
        /// Its version.
        version: u16,
        /// The newest version we read.
        newest: u16,
    },
    /// The bundle is signed by a key that isn't trusted here.
    #[error("the bundle is signed by a key that isn't trusted here ({key_id})")]
    UnknownKey {
        /// The id of the key, in hexadecimal.
        key_id: String,
    },
    /// Nobody has signed the bundle yet.
    #[error("the bundle waits for its signature")]
    Unsigned,
    /// A signature was made over another root.
    #[error("the signature is that of another bundle, or of another version")]
    OtherRoot,
    /// The bundle's signature is wrong: it was altered, or forged.
    #[error("the bundle's signature is wrong")]
    BadSignature,
    /// The bundle's end is missing.
    #[error("the bundle is cut off: it should have {needed} bytes, {available} are there")]
    CutOff {
        /// The length that the signed root tells.
        needed: u64,
        /// The length of the file or partition.
        available: u64,
    },
    /// No source has a sound copy of a chunk.
    #[error("no source has chunk {digest} (at byte {offset} of the content)")]
    MissingChunk {
        /// The chunk.
        digest: Digest,
        /// Where it stands in the stream of content.
        offset: u64,
        /// What went wrong with the last source that failed, if one did.
        #[source]
        source: Option<Box<ContentError>>,
    },
    /// A manifest isn't in the library.
    #[error("manifest {digest} is not in the library")]
    MissingManifest {
        /// The manifest.
        digest: Digest,
    },
    /// A manifest of the other kind was needed.
    #[error("the manifest describes {is}, not {needed}")]
    WrongKind {
        /// What it describes.
        is: &'static str,
        /// What was needed.
        needed: &'static str,
    },
    /// The image doesn't fit.
    #[error("the target has {available} bytes, the image needs {needed}")]
    TargetTooSmall {
        /// The length of the image.
        needed: u64,
        /// The length of the target.
        available: u64,
    },
    /// Something that isn't a folder, a file or a symbolic link was met.
    #[error("cannot capture {}: {kind}", path.display())]
    Unsupported {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// An image whose filesystem was still in use when it was taken.
    #[error("the image can't be used as it is: {unsettled}")]
    Unsettled {
        /// What isn't settled.
        unsettled: Unsettled,
    },
    /// A file changed while it was read.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Where.
        path: PathBuf,
    },
    /// Someone else has the library open, or collects in it.
    #[error("another program uses the content library in {}", path.display())]
    LibraryInUse {
        /// Its folder, or a file in it.
        path: PathBuf,
    },
    /// Something of another kind is in the way; it is not removed.
    #[error("{} is in the way: {rule}", path.display())]
    Obstructed {
        /// Where.
        path: PathBuf,
        /// What was expected.
        rule: &'static str,
    },
    /// A limit was exceeded.
    #[error("{what}: more than {limit}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// The caller asked to stop.
    #[error("stopped as asked")]
    Cancelled,
}

impl ContentError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| {
            if is_full(&source) {
                Self::NoSpace { what, path, source }
            } else {
                Self::Io { what, path, source }
            }
        }
    }

    pub(crate) fn stream(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_full(&source) {
                Self::NoSpace {
                    what,
                    path: PathBuf::new(),
                    source,
                }
            } else {
                Self::Stream { what, source }
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// An error and its causes on one line, for logs.
pub(crate) fn chain(error: &ContentError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
