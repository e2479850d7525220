//! Chunks and manifests from the server. A step waits for the server as long as it isn't reached: its time stands still.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use client::{Client, ClientError};
use content::{ChunkSource, ContentError, Frame, Library, Patch, PatchBytes, SourceKind};
use sequence::ports::Progress;
use wire::device_api::CHUNKS_MAX;
use wire::digest::Digest;
use wire::event::{LogLevel, ProgressUnit};

use crate::clock;
use crate::connection::{Connection, is_session_gone};

/// How often a server that answers is asked for the same before the step is told; the step has attempts of its own.
const TRIES_MAX: u32 = 4;

/// How a step asks the server.
struct Asking<'a> {
    connection: &'a Connection,
    progress: &'a dyn Progress,
    /// How often it was not reached since it last was.
    missed: u32,
    /// How often it answered that it can't.
    tries: u32,
    missed_since_ms: u64,
    /// Up to here the step's time has been accounted for.
    counted_ms: u64,
}

impl<'a> Asking<'a> {
    fn new(connection: &'a Connection, progress: &'a dyn Progress) -> Self {
        let now = clock::uptime_ms();
        Self {
            connection,
            progress,
            missed: 0,
            tries: 0,
            missed_since_ms: now,
            counted_ms: now,
        }
    }

    /// Asks until there is an answer.
    fn ask<T>(&mut self, call: impl Fn(&Client) -> Result<T, ClientError>) -> Result<T> {
        loop {
            let session = self.session()?;
            match call(&session) {
                Ok(answer) => {
                    self.reached();
                    return Ok(answer);
                }
                Err(error) => self.go_on_after(error)?,
            }
        }
    }

    /// A session; waits for network and server.
    fn session(&mut self) -> Result<Client> {
        loop {
            if self.progress.is_cancelled() {
                bail!("content is needed from the server, and it was not reached in time");
            }
            self.begin();
            if !self.connection.is_online() {
                self.missed("there is no network");
                continue;
            }
            match self.connection.require_session() {
                Ok(session) => return Ok(session),
                Err(error) => match error.downcast::<ClientError>() {
                    Ok(error) => self.go_on_after(error)?,
                    Err(refusal) => self.try_again(refusal)?,
                },
            }
        }
    }

    /// Whether another call makes sense, and when.
    fn go_on_after(&mut self, error: ClientError) -> Result<()> {
        if is_session_gone(&error) {
            self.connection.forget_session();
        }
        if error.is_unreached() {
            self.missed(&format!("{:#}", anyhow::Error::new(error)));
            return Ok(());
        }
        if !is_session_gone(&error) && !error.is_temporary() {
            return Err(error.into());
        }
        self.try_again(error.into())
    }

    /// After an answer that isn't what was asked for.
    fn try_again(&mut self, error: anyhow::Error) -> Result<()> {
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            return Err(error);
        }
        let pause = self.connection.retry_pause(self.tries);
        clock::wait_until(pause, || self.progress.is_cancelled());
        Ok(())
    }

    /// A call begins: if it comes to nothing, its time isn't the step's.
    fn begin(&mut self) {
        self.counted_ms = clock::uptime_ms();
    }

    /// Nobody was there: waits until it is time for another call, or there is a network again.
    fn missed(&mut self, why: &str) {
        if self.missed == 0 {
            self.missed_since_ms = self.counted_ms;
            let text = format!("content is needed from the server: waiting for it ({why})");
            self.progress.log(LogLevel::Warning, &text);
        }
        self.missed += 1;
        let waiting = "waiting for the server, which is not reached";
        self.progress.report(0, 0, ProgressUnit::Bytes, waiting);
        self.count();
        let had_network = self.connection.is_online();
        let (connection, progress) = (self.connection, self.progress);
        clock::wait_until(connection.retry_pause(self.missed), || {
            self.count();
            progress.is_cancelled() || (!had_network && connection.is_online())
        });
    }

    /// The server gave something.
    fn reached(&mut self) {
        if self.missed > 0 {
            let seconds = (clock::uptime_ms() - self.missed_since_ms) / 1000;
            let text = format!("the server is reached again, after {seconds} s");
            self.progress.log(LogLevel::Info, &text);
        }
        (self.missed, self.tries) = (0, 0);
        self.begin();
    }

    fn count(&mut self) {
        let now = clock::uptime_ms();
        let waited = Duration::from_millis(now.saturating_sub(self.counted_ms));
        self.progress.waited(waited);
        self.counted_ms = now;
    }
}

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
        let mut asking = Asking::new(self.connection, self.progress);
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
    let mut asking = Asking::new(connection, progress);
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
        let stream = Asking::new(&self.patch.connection, self.progress)
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
    Asking::new(connection, progress)
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
