//! Chunks from the bundle on the boot medium, read once from front to back.
//!
//! A stick reads well in order and badly otherwise, and the bundle lies in apply order. So a thread reads on and on,
//! and what is asked for is picked out as it comes by; only what had come by before is waited for in another round.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, sync_channel};

use content::{Bundle, ChunkSource, ContentError, Frame, SourceKind, Verified};
use wire::digest::Digest;

use crate::block::BlockFile;

/// Frames read ahead: some 10 MiB and at most 136, so that the stick never waits for the disk, which makes pauses when it syncs.
const AHEAD_FRAMES: usize = 128;

enum Message {
    Frame(Frame),
    End,
    Failed(ContentError),
}

/// The bundle of a boot medium.
pub(crate) struct MediumSource {
    frames: Mutex<Receiver<Message>>,
    manifests: Vec<(Digest, Vec<u8>)>,
}

impl MediumSource {
    /// Starts reading.
    pub(crate) fn start(bundle: Bundle<BlockFile, Verified>) -> std::io::Result<Self> {
        let manifests = bundle.manifests().to_vec();
        let (sender, receiver) = sync_channel(AHEAD_FRAMES);
        std::thread::Builder::new()
            .name("medium".into())
            .spawn(move || {
                loop {
                    let result = bundle.frames(&mut |frame| {
                        // Nobody listens any more: the run is over.
                        sender
                            .send(Message::Frame(frame))
                            .map_err(|_| ContentError::Cancelled)
                    });
                    let message = match result {
                        Ok(()) => Message::End,
                        Err(error) => Message::Failed(error),
                    };
                    if sender.send(message).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            frames: Mutex::new(receiver),
            manifests,
        })
    }

    /// The bytes of a manifest, checked when the bundle was.
    pub(crate) fn manifest(&self, digest: &Digest) -> Option<&[u8]> {
        self.manifests
            .iter()
            .find(|(known, _)| known == digest)
            .map(|(_, bytes)| bytes.as_slice())
    }
}

impl ChunkSource for MediumSource {
    fn kind(&self) -> SourceKind {
        SourceKind::Local
    }

    /// The medium is read to its end whatever is taken of it.
    fn has(&self, _digest: &Digest) -> bool {
        true
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open: HashSet<Digest> = wanted.iter().copied().collect();
        let mut ends = 0;
        while !open.is_empty() {
            match frames.recv() {
                Ok(Message::Frame(frame)) => {
                    if open.remove(&frame.digest()) {
                        sink(frame)?;
                    }
                }
                Ok(Message::End) => ends += 1,
                Ok(Message::Failed(error)) => return Err(error),
                Err(_) => return Err(ContentError::Cancelled),
            }
            // Once around from wherever we began: what is still open is not there.
            if ends == 2 {
                return Ok(());
            }
        }
        Ok(())
    }
}
