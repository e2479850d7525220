//! Chunks and manifests from the server.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result};
use content::{ChunkSource, ContentError, Frame, Library, Patch, PatchBytes, SourceKind};
use sequence::ports::Progress;
use wire::device_api::CHUNKS_MAX;
use wire::digest::Digest;

use crate::asking::Asking;
use crate::connection::Connection;

/// What a step waits for.
const CONTENT: &str = "content";

/// What ended a batch too early.
enum Ended {
    /// The connection; another one may bring the rest.
    Line(ContentError),
    /// What came over it, or who takes it.
    Otherwise(ContentError),
}

/// The server as a source of chunks.
pub(crate) struct RemoteSource<'a> {
    connection: &'a Connection,
    progress: &'a dyn Progress,
}

impl<'a> RemoteSource<'a> {
    pub(crate) fn new(connection: &'a Connection, progress: &'a dyn Progress) -> Self {
        Self {
            connection,
            progress,
        }
    }

    /// Asks once for what is `open`, and takes what has arrived off it.
    fn fetch_batch(
        &self,
        asking: &mut Asking<'_>,
        open: &mut Vec<Digest>,
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), Ended> {
        let stream = asking.ask(|session| session.chunks(open));
        let mut stream = stream.map_err(|error| {
            Ended::Otherwise(if self.progress.is_cancelled() {
                ContentError::Cancelled
            } else {
                as_content(error)
            })
        })?;
        while !open.is_empty() {
            if self.progress.is_cancelled() {
                return Err(Ended::Otherwise(ContentError::Cancelled));
            }
            asking.begin();
            let Some(frame) = Frame::read(&mut *stream).map_err(of_line)? else {
                break;
            };
            asking.reached();
            let digest = frame.digest();
            sink(frame).map_err(Ended::Otherwise)?;
            open.retain(|wanted| *wanted != digest);
        }
        Ok(())
    }
}

impl ChunkSource for RemoteSource<'_> {
    fn kind(&self) -> SourceKind {
        SourceKind::Network
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let mut asking = Asking::new(self.connection, self.progress, CONTENT);
        for batch in wanted.chunks(CHUNKS_MAX) {
            let mut open = batch.to_vec();
            while let Err(ended) = self.fetch_batch(&mut asking, &mut open, sink) {
                match ended {
                    Ended::Line(error) => asking.missed(&error.to_string()),
                    Ended::Otherwise(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// What came is no frame: another connection won't change that. All else is the connection's doing.
fn of_line(error: ContentError) -> Ended {
    match error {
        ContentError::Stream { .. } => Ended::Line(error),
        other => Ended::Otherwise(other),
    }
}

/// A patch on the server.
pub(crate) struct RemotePatch {
    connection: Arc<Connection>,
    from: Digest,
    pub(crate) to: Digest,
    /// How long it is up to its first part.
    pub(crate) front_bytes: u64,
    pub(crate) patch: Patch,
}

impl RemotePatch {
    /// Its bytes, for a step that waits for them.
    pub(crate) fn for_step<'a>(&'a self, progress: &'a dyn Progress) -> StepPatch<'a> {
        StepPatch {
            patch: self,
            progress,
        }
    }
}

/// The bytes of a patch.
pub(crate) struct StepPatch<'a> {
    patch: &'a RemotePatch,
    progress: &'a dyn Progress,
}

/// The shortest patch to a manifest from one that is in the library. `None` if there is none, or it is of no use: what it
/// would have made cheaper is then fetched as it is.
pub(crate) fn fetch_patch(
    connection: &Arc<Connection>,
    library: &Library,
    to: &Digest,
    progress: &dyn Progress,
) -> Result<Option<RemotePatch>> {
    let mut asking = Asking::new(connection, progress, CONTENT);
    let known = library.manifests()?;
    let offers = asking.ask(|session| session.patches(to))?;
    let Some(offer) = offers.iter().find(|offer| known.contains(&offer.from)) else {
        return Ok(None);
    };
    let Some(manifest) = library.manifest_bytes(&offer.from)? else {
        return Ok(None);
    };
    let mut front = asking.ask(|session| session.patch(&offer.from, to, 0, offer.front_bytes))?;
    Ok(Some(RemotePatch {
        connection: Arc::clone(connection),
        from: offer.from,
        to: *to,
        front_bytes: offer.front_bytes,
        patch: Patch::read(&mut *front, &manifest)?,
    }))
}

impl PatchBytes for StepPatch<'_> {
    fn open(&self, offset: u64, bytes: u64) -> Result<Box<dyn Read + '_>, ContentError> {
        let RemotePatch { from, to, .. } = self.patch;
        let stream = Asking::new(&self.patch.connection, self.progress, CONTENT)
            .ask(|session| session.patch(from, to, offset, bytes));
        Ok(stream.map_err(as_content)?)
    }
}

/// The bytes of a manifest; whoever gets them checks the digest.
pub(crate) fn fetch_manifest(
    connection: &Connection,
    digest: &Digest,
    progress: &dyn Progress,
) -> Result<Vec<u8>> {
    Asking::new(connection, progress, CONTENT)
        .ask(|session| session.manifest(digest))
        .with_context(|| format!("cannot fetch manifest {digest}"))
}

fn as_content(error: anyhow::Error) -> ContentError {
    let source = std::io::Error::other(format!("{error:#}"));
    ContentError::Stream {
        what: "fetch content from the server",
        source,
    }
}
