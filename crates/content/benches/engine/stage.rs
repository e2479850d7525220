//! What the agent does at the factory: a thread reads the medium from front to back, and what comes by goes to the OS volume
//! and to the library.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use content::{
    Bundle, ChunkSource, ContentError, Frame, Keeping, Library, Manifest, NoMeter, SourceKind,
    converge_image, converge_library,
};
use ed25519_dalek::SigningKey;
use wire::digest::Digest;

/// As many as the agent reads ahead.
const AHEAD_FRAMES: usize = 128;

/// Signs nothing but what is measured with.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// Stages a bundle from a medium that hands out `rate` MB/s (0 is as fast as it can): its image to the volume `target`, if
/// there is one, and everything to the library.
pub(crate) fn run(bundle: &str, target: Option<&str>, library: &str, rate: f64) {
    let file = File::open(bundle).unwrap();
    let length = file.metadata().unwrap().len();
    let medium = Throttled {
        file,
        rate: rate * 1e6,
        start: Instant::now(),
        read: 0.0,
    };
    let bundle = Bundle::open(medium, length).unwrap();
    let bundle = bundle.verify(&[key().verifying_key()]).unwrap();
    let manifests: Vec<Manifest> = (bundle.manifests().iter())
        .map(|(_, bytes)| Manifest::decode(bytes).unwrap())
        .collect();
    let library = Library::open(library.into()).unwrap();
    for (_, bytes) in bundle.manifests() {
        library.put_manifest(bytes).unwrap();
    }
    let (sender, receiver) = sync_channel(AHEAD_FRAMES);
    thread::scope(|scope| {
        scope.spawn(move || {
            bundle.frames(&mut |frame| sender.send(frame).map_err(|_| ContentError::Cancelled))
        });
        let medium = Medium(Mutex::new(receiver));
        if let Some(target) = target {
            let target = File::options().read(true).write(true).open(target).unwrap();
            let medium = Keeping::new(&medium, &library).unwrap();
            converge_image(&manifests[0], &target, &[&library, &medium], &NoMeter).unwrap();
            medium.finish().unwrap();
        }
        converge_library(&manifests, &library, &[&library, &medium], &NoMeter).unwrap();
    });
}

/// As the agent's: frames are taken as they come by.
struct Medium(Mutex<Receiver<Frame>>);

impl ChunkSource for Medium {
    fn kind(&self) -> SourceKind {
        SourceKind::Local
    }

    fn has(&self, _digest: &Digest) -> bool {
        true
    }

    fn fetch(
        &self,
        wanted: &[Digest],
        sink: &mut dyn FnMut(Frame) -> Result<(), ContentError>,
    ) -> Result<(), ContentError> {
        let frames = self.0.lock().unwrap();
        let mut open: HashSet<Digest> = wanted.iter().copied().collect();
        while !open.is_empty() {
            let Ok(frame) = frames.recv() else {
                return Ok(());
            };
            if open.remove(&frame.digest()) {
                sink(frame)?;
            }
        }
        Ok(())
    }
}

/// How much a medium reads ahead while nobody asks.
const AHEAD_BYTES: f64 = 2e6;

/// A medium that is no faster than it is.
struct Throttled {
    file: File,
    /// Bytes a second; 0 if it isn't throttled.
    rate: f64,
    start: Instant,
    read: f64,
}

impl Read for Throttled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if self.rate > 0.0 {
            let bytes = u32::try_from(count).map_or(f64::MAX, f64::from);
            // What it could have read since, had anyone asked, is lost but for what it reads ahead.
            let could = self.start.elapsed().as_secs_f64() * self.rate;
            self.read = self.read.max(could - AHEAD_BYTES) + bytes;
            thread::sleep(Duration::from_secs_f64(
                (self.read - could).max(0.0) / self.rate,
            ));
        }
        Ok(count)
    }
}

impl Seek for Throttled {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
