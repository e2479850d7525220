//! Chunks and manifests from the server. Waits for the network as long as the step may take.

use std::io::Read;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use client::Client;
use content::{ChunkSource, ContentError, Frame, Library, Patch, PatchBytes, SourceKind};
use wire::device_api::CHUNKS_MAX;
use wire::digest::Digest;

use crate::connection::{Connection, is_session_gone};
use crate::reporter::retry_pause;
use crate::{clock, log};

/// How often one batch is asked for before the step is told; the step has attempts of its own.
const TRIES_MAX: u32 = 4;

/// The server as a source of chunks.
pub(crate) struct RemoteSource<'a> {
    connection: &'a Connection,
    is_cancelled: &'a dyn Fn() -> bool,
}

impl<'a> RemoteSource<'a> {
    pub(crate) fn new(connection: &'a Connection, is_cancelled: &'a dyn Fn() -> bool) -> Self {
        Self {
            connection,
            is_cancelled,
        }
    }

    fn fetch_batch(
        &self,
        wanted: &mut Vec<Digest>,
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let session = session(self.connection, self.is_cancelled).map_err(as_content)?;
        let mut stream = session.chunks(wanted).map_err(|error| {
            if is_session_gone(&error) {
                self.connection.forget_session();
            }
            as_content(error.into())
        })?;
        while !wanted.is_empty() {
            if (self.is_cancelled)() {
                return Err(ContentError::Cancelled);
            }
            let Some(frame) = Frame::read(&mut *stream)? else {
                break;
            };
            let digest = frame.digest();
            sink(frame)?;
            wanted.retain(|open| *open != digest);
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
        for batch in wanted.chunks(CHUNKS_MAX) {
            let mut open = batch.to_vec();
            let mut tries = 0;
            while let Err(error) = self.fetch_batch(&mut open, sink) {
                tries += 1;
                if matches!(error, ContentError::Cancelled) || tries >= TRIES_MAX {
                    return Err(error);
                }
                log::note(&format!("fetching content failed, trying again: {error}"));
                clock::wait_until(retry_pause(tries), || (self.is_cancelled)());
            }
        }
        Ok(())
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

/// The shortest patch to a manifest from one that is in the library. `None` if there is none, or it is of no use: what it
/// would have made cheaper is then fetched as it is.
pub(crate) fn fetch_patch(
    connection: &Arc<Connection>,
    library: &Library,
    to: &Digest,
) -> Result<Option<RemotePatch>> {
    // Nobody waits for a patch: there is another way.
    let session = connection.require_session()?;
    let known = library.manifests()?;
    let offers = session.patches(to)?;
    let Some(offer) = offers.iter().find(|offer| known.contains(&offer.from)) else {
        return Ok(None);
    };
    let Some(manifest) = library.manifest_bytes(&offer.from)? else {
        return Ok(None);
    };
    let mut front = session.patch(&offer.from, to, 0, offer.front_bytes)?;
    Ok(Some(RemotePatch {
        connection: Arc::clone(connection),
        from: offer.from,
        to: *to,
        front_bytes: offer.front_bytes,
        patch: Patch::read(&mut *front, &manifest)?,
    }))
}

impl PatchBytes for RemotePatch {
    fn open(&self, offset: u64, bytes: u64) -> Result<Box<dyn Read + '_>, ContentError> {
        let session = self.connection.require_session().map_err(as_content)?;
        let stream = session.patch(&self.from, &self.to, offset, bytes);
        let stream = stream.map_err(|error| {
            if is_session_gone(&error) {
                self.connection.forget_session();
            }
            as_content(error.into())
        })?;
        Ok(stream)
    }
}

/// The bytes of a manifest; whoever gets them checks the digest.
pub(crate) fn fetch_manifest(
    connection: &Connection,
    digest: &Digest,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Vec<u8>> {
    for tries in 1..=TRIES_MAX {
        match session(connection, is_cancelled)?.manifest(digest) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => {
                if is_session_gone(&error) {
                    connection.forget_session();
                } else if !error.is_temporary() || tries == TRIES_MAX {
                    return Err(error).with_context(|| format!("cannot fetch manifest {digest}"));
                }
            }
        }
        clock::wait_until(retry_pause(tries), is_cancelled);
    }
    bail!("the server forgets this machine again and again")
}

/// A session; waits for network and server until the step is cancelled or out of time.
fn session(connection: &Connection, is_cancelled: &dyn Fn() -> bool) -> Result<Client> {
    let mut tries = 0;
    loop {
        if is_cancelled() {
            bail!("content is needed from the server, and it was not reached in time");
        }
        if connection.network().is_up() {
            match connection.require_session() {
                Ok(session) => return Ok(session),
                Err(error) => log::warn("content is needed from the server; trying again", &error),
            }
        }
        tries += 1;
        clock::wait_until(retry_pause(tries), || {
            is_cancelled() || (tries < 2 && connection.network().is_up())
        });
    }
}

fn as_content(error: anyhow::Error) -> ContentError {
    let source = std::io::Error::other(format!("{error:#}"));
    ContentError::Stream {
        what: "fetch content from the server",
        source,
    }
}
