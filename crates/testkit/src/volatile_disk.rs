//! A disk with a cache that forgets: when the power goes, what was written and not flushed may be lost, sector by sector.
//!
//! A virtual machine's disk lies in the memory of this computer's kernel, where it survives whatever becomes of QEMU. This one is
//! a program of ours that QEMU asks over a socket (NBD). It knows what was flushed, and takes the rest back when the plug is
//! pulled.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

use crate::chance::Chance;
use crate::nbd::{self, Kind, Request, SECTOR_BYTES};

/// No disk's cache is larger; what is older goes to the platter by itself.
const CACHE_BYTES_MAX: usize = 1 << 30;

/// A cut that waits for something to be written waits for one to so many writes.
const WRITES_MAX: usize = 4;

/// What a disk does when it is told to flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flushes {
    /// What was written before is on the platter.
    Kept,
    /// Nothing, although it says otherwise. It keeps the order: after a cut it is as it was at some moment since it was
    /// switched on. For the proof that a test notices.
    Forgotten,
}

/// What became of the cache when the power went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Writes that weren't flushed.
    pub writes: usize,
    /// Sectors of 512 bytes that they had gone to.
    pub sectors: usize,
    /// Sectors of these that are not as the machine saw them last.
    pub lost_sectors: usize,
}

/// A disk that QEMU reaches on a socket. Dropping it ends that.
#[derive(Debug)]
pub struct VolatileDisk {
    socket: Utf8PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: u64,
    is_ended: AtomicBool,
    state: Mutex<State>,
    /// Something was written.
    written: Condvar,
}

#[derive(Debug)]
struct State {
    /// What a cut leaves in any case.
    platter: File,
    /// What the machine reads: the platter and the cache.
    seen: File,
    /// Not flushed, the oldest first.
    cache: VecDeque<Write>,
    cache_bytes: usize,
    flushes: Flushes,
    /// How often the power went. Whoever connected before the last time isn't heard any more.
    cuts: u64,
}

#[derive(Debug)]
struct Write {
    offset: u64,
    bytes: Vec<u8>,
}

impl VolatileDisk {
    /// A disk whose platter is this image, on a socket that is made for it. `<image>.seen` is made beside it.
    ///
    /// # Errors
    /// The image can't be read and written, isn't made of sectors, or there can't be such a socket.
    pub fn serve(image: &Utf8Path, socket: &Utf8Path, flushes: Flushes) -> Result<Self> {
        let seen = format!("{image}.seen");
        std::fs::copy(image, &seen).with_context(|| format!("cannot copy {image} to {seen}"))?;
        let open = |path: &str| {
            let file = File::options().read(true).write(true).open(path);
            file.with_context(|| format!("cannot open {path}"))
        };
        let (platter, seen) = (open(image.as_str())?, open(&seen)?);
        let bytes = platter.metadata()?.len();
        ensure!(
            bytes.is_multiple_of(SECTOR_BYTES as u64),
            "{image} is not made of sectors"
        );
        // Of somebody who was killed.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).with_context(|| format!("no socket {socket}"))?;
        let shared = Arc::new(Shared {
            bytes,
            is_ended: AtomicBool::new(false),
            state: Mutex::new(State {
                platter,
                seen,
                cache: VecDeque::new(),
                cache_bytes: 0,
                flushes,
                cuts: 0,
            }),
            written: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener));
        Ok(Self {
            socket: socket.to_owned(),
            shared,
        })
    }

    /// Where QEMU reaches it.
    #[must_use]
    pub fn socket(&self) -> &Utf8Path {
        &self.socket
    }

    /// Everything that was written until now is on the platter, whatever becomes of flushes.
    ///
    /// # Errors
    /// This computer's own disk fails.
    pub fn settle(&self) -> Result<()> {
        let mut state = self.shared.lock();
        while !state.cache.is_empty() {
            state
                .write_oldest()
                .context("cannot write the disk's image")?;
        }
        Ok(())
    }

    /// The power goes as soon as something is on its way to the platter, or after `at_most`: nearly always a machine has just flushed,
    /// and a cut in such a moment tells little. Otherwise as [`VolatileDisk::cut`].
    ///
    /// # Errors
    /// This computer's own disk fails.
    pub fn cut_while_it_writes(&self, at_most: Duration, chance: &mut Chance) -> Result<Lost> {
        let wanted = 1 + chance.place(WRITES_MAX);
        let waited = self
            .shared
            .written
            .wait_timeout_while(self.shared.lock(), at_most, |state| {
                state.cache.len() < wanted
            });
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Self::cut_now(state, chance)
    }

    /// The power goes. From now on, nobody who is connected is heard; at most one answer that was given already is still on its way.
    /// Chance decides what becomes of the cache.
    /// Whoever connects next finds what is left.
    ///
    /// # Errors
    /// This computer's own disk fails.
    pub fn cut(&self, chance: &mut Chance) -> Result<Lost> {
        Self::cut_now(self.shared.lock(), chance)
    }

    fn cut_now(mut state: MutexGuard<'_, State>, chance: &mut Chance) -> Result<Lost> {
        state.cuts += 1;
        state.lose(chance).context("cannot write the disk's image")
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
        // It waits for somebody to come. If the socket is gone, it waits until this process ends.
        let _ = UnixStream::connect(&self.socket);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.is_ended.load(Ordering::Relaxed) {
                break;
            }
            let Ok(stream) = stream else { continue };
            let connection = Connection {
                cuts: self.lock().cuts,
                shared: Arc::clone(&self),
            };
            // QEMU notices, and so does whoever waits for its machine.
            std::thread::spawn(move || nbd::serve(stream, &connection));
        }
    }
}

/// Somebody who is connected, from one cut to the next.
struct Connection {
    shared: Arc<Shared>,
    cuts: u64,
}

impl nbd::Disk for Connection {
    fn bytes(&self) -> u64 {
        self.shared.bytes
    }

    fn carry_out(&self, request: &Request, data: &mut [u8]) -> Option<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.cuts != self.cuts {
            return None;
        }
        let done = match request.kind {
            Kind::Read => state.seen.read_exact_at(data, request.offset),
            Kind::Write { is_forced } => state.write(request.offset, data, is_forced),
            Kind::Flush => state.flush(),
            Kind::Disconnect | Kind::Other => Ok(()),
        };
        drop(state);
        self.shared.written.notify_all();
        Some(done)
    }
}

impl State {
    fn write(&mut self, offset: u64, bytes: &[u8], is_forced: bool) -> io::Result<()> {
        self.seen.write_all_at(bytes, offset)?;
        let is_kept = is_forced && self.flushes == Flushes::Kept;
        // What is forced reaches the platter before what was written there earlier and still waits: that must not follow it.
        if is_kept && self.is_cached(offset, bytes.len()) {
            self.flush()?;
        }
        if is_kept {
            return self.platter.write_all_at(bytes, offset);
        }
        self.cache_bytes += bytes.len();
        self.cache.push_back(Write {
            offset,
            bytes: bytes.to_vec(),
        });
        while self.cache_bytes > CACHE_BYTES_MAX {
            self.write_oldest()?;
        }
        Ok(())
    }

    /// Whether something waits that goes to any of these sectors.
    fn is_cached(&self, offset: u64, length: usize) -> bool {
        let end = offset + length as u64;
        self.cache
            .iter()
            .any(|write| write.offset < end && offset < write.offset + write.bytes.len() as u64)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.flushes == Flushes::Kept && !self.cache.is_empty() {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn write_oldest(&mut self) -> io::Result<()> {
        if let Some(write) = self.cache.pop_front() {
            self.cache_bytes -= write.bytes.len();
            self.platter.write_all_at(&write.bytes, write.offset)?;
        }
        Ok(())
    }

    fn lose(&mut self, chance: &mut Chance) -> io::Result<Lost> {
        let writes = std::mem::take(&mut self.cache);
        self.cache_bytes = 0;
        let kept = match self.flushes {
            Flushes::Kept => writes.len(),
            Flushes::Forgotten => chance.place(writes.len() + 1),
        };
        for write in writes.iter().take(kept) {
            match self.flushes {
                Flushes::Forgotten => self.platter.write_all_at(&write.bytes, write.offset)?,
                Flushes::Kept => self.tear(write, chance)?,
            }
        }
        let sectors: BTreeSet<u64> = writes.iter().flat_map(Write::sectors).collect();
        let mut lost_sectors = 0;
        let (mut is, mut was) = ([0; SECTOR_BYTES], [0; SECTOR_BYTES]);
        for &offset in &sectors {
            self.platter.read_exact_at(&mut is, offset)?;
            self.seen.read_exact_at(&mut was, offset)?;
            if is != was {
                lost_sectors += 1;
                self.seen.write_all_at(&is, offset)?;
            }
        }
        Ok(Lost {
            writes: writes.len(),
            sectors: sectors.len(),
            lost_sectors,
        })
    }

    /// A write that wasn't flushed: as a whole, not at all, or any of its sectors. As this is done in the order of the writes,
    /// a sector may become any that it was since the last flush.
    fn tear(&self, write: &Write, chance: &mut Chance) -> io::Result<()> {
        match chance.below(4) {
            0 => Ok(()),
            1 => self.platter.write_all_at(&write.bytes, write.offset),
            _ => write
                .sectors()
                .zip(write.bytes.chunks(SECTOR_BYTES))
                .filter(|_| chance.chance(50))
                .try_for_each(|(offset, sector)| self.platter.write_all_at(sector, offset)),
        }
    }
}

impl Write {
    /// Where each of its sectors begins.
    fn sectors(&self) -> impl Iterator<Item = u64> {
        let end = self.offset + self.bytes.len() as u64;
        (self.offset..end).step_by(SECTOR_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use camino::Utf8PathBuf;

    use super::{Flushes, Lost, VolatileDisk, WRITES_MAX};
    use crate::chance::Chance;
    use crate::nbd::tests::{HELLO_ANSWER_BYTES, answer, hello, request};

    const SECTOR: usize = 512;

    struct Bench {
        folder: tempfile::TempDir,
        disk: VolatileDisk,
    }

    impl Bench {
        /// A disk of sixteen sectors.
        fn new(flushes: Flushes) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| Utf8PathBuf::from_path_buf(folder.path().join(name)).unwrap();
            std::fs::write(path("image"), [0; 16 * SECTOR]).unwrap();
            let disk = VolatileDisk::serve(&path("image"), &path("socket"), flushes).unwrap();
            Self { folder, disk }
        }

        fn connect(&self) -> Machine {
            let mut stream = UnixStream::connect(self.disk.socket()).unwrap();
            stream.write_all(&hello()).unwrap();
            let mut said = [0; HELLO_ANSWER_BYTES];
            stream.read_exact(&mut said).unwrap();
            Machine(stream)
        }

        fn platter(&self) -> Vec<u8> {
            std::fs::read(self.folder.path().join("image")).unwrap()
        }
    }

    struct Machine(UnixStream);

    impl Machine {
        fn ask(&mut self, request: &[u8], data: &[u8]) {
            self.0.write_all(&[request, data].concat()).unwrap();
            let mut said = [0; 16];
            self.0.read_exact(&mut said).unwrap();
            assert_eq!(said[..], answer(0));
        }

        /// Fills sectors with a byte.
        fn write(&mut self, sector: u64, sectors: usize, byte: u8, is_forced: bool) {
            let length = u32::try_from(sectors * SECTOR).unwrap();
            let head = request(1, is_forced.into(), sector * SECTOR as u64, length);
            self.ask(&head, &vec![byte; sectors * SECTOR]);
        }

        fn flush(&mut self) {
            self.ask(&request(3, 0, 0, 0), &[]);
        }

        /// The first byte of each sector.
        fn read(&mut self) -> Vec<u8> {
            self.ask(&request(0, 0, 0, 16 * 512), &[]);
            let mut bytes = [0; 16 * SECTOR];
            self.0.read_exact(&mut bytes).unwrap();
            bytes.chunks(SECTOR).map(|sector| sector[0]).collect()
        }
    }

    #[test]
    fn what_was_flushed_or_forced_survives_every_cut() {
        let mut torn = 0;
        for seed in 0..100 {
            let bench = Bench::new(Flushes::Kept);
            let mut machine = bench.connect();
            machine.write(0, 4, 1, false);
            machine.flush();
            machine.write(0, 4, 2, false);
            machine.write(4, 4, 3, false);
            machine.write(6, 1, 4, true);
            machine.write(8, 8, 5, false);
            let seen = machine.read();
            assert_eq!(seen, [2, 2, 2, 2, 3, 3, 4, 3, 5, 5, 5, 5, 5, 5, 5, 5]);
            let lost = bench.disk.cut(&mut Chance::new(seed)).unwrap();
            let left = bench.connect().read();
            // What is forced over something that waits takes that along, and all before it.
            assert_eq!(left[..8], seen[..8]);
            assert!(left[8..].iter().all(|byte| [0, 5].contains(byte)));
            let gone = left[8..].iter().filter(|&&byte| byte == 0).count();
            torn += usize::from((1..8).contains(&gone));
            let expected = Lost {
                writes: 1,
                sectors: 8,
                lost_sectors: gone,
            };
            assert_eq!(lost, expected);
            let platter = bench.platter();
            assert!(
                platter
                    .iter()
                    .zip(0..)
                    .all(|(byte, at)| *byte == left[at / SECTOR])
            );
        }
        assert!(torn > 20, "half of the writes are torn: {torn}");
    }

    #[test]
    fn a_sector_may_become_any_that_it_was_since_the_last_flush() {
        let mut found = [0; 4];
        for seed in 0..100 {
            let bench = Bench::new(Flushes::Kept);
            let mut machine = bench.connect();
            for byte in 1..=3 {
                machine.write(3, 1, byte, false);
            }
            bench.disk.cut(&mut Chance::new(seed)).unwrap();
            found[usize::from(bench.connect().read()[3])] += 1;
        }
        assert!(found.iter().all(|&times| times > 0), "{found:?}");
    }

    #[test]
    fn whoever_was_connected_when_the_power_went_is_not_heard_any_more() {
        let bench = Bench::new(Flushes::Kept);
        let mut before = bench.connect();
        before.write(0, 1, 1, true);
        bench.disk.cut(&mut Chance::new(1)).unwrap();
        // What it still says is for nobody; nothing is answered.
        let late = [request(1, 1, 0, 512), vec![2; SECTOR]].concat();
        before.0.write_all(&late).unwrap();
        before.0.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = Vec::new();
        before.0.read_to_end(&mut said).unwrap();
        assert!(said.is_empty());
        assert_eq!(bench.connect().read()[0], 1);
    }

    #[test]
    fn a_cut_waits_for_something_to_be_lost() {
        let bench = Bench::new(Flushes::Kept);
        let mut chance = Chance::new(1);
        let moment = Duration::from_millis(1);
        let lost = bench.disk.cut_while_it_writes(moment, &mut chance).unwrap();
        assert_eq!(lost.writes, 0);
        let mut machine = bench.connect();
        std::thread::scope(|scope| {
            const LONGER_THAN_ANY_TEST: Duration = Duration::from_secs(600);
            let disk = &bench.disk;
            let cut = scope.spawn(|| disk.cut_while_it_writes(LONGER_THAN_ANY_TEST, &mut chance));
            // Not all are answered: the power goes.
            for sector in 0..WRITES_MAX as u64 {
                let head = request(1, 0, sector * SECTOR as u64, 512);
                machine
                    .0
                    .write_all(&[&head[..], &[7; SECTOR]].concat())
                    .unwrap();
            }
            let lost = cut.join().unwrap().unwrap();
            assert!((1..=WRITES_MAX).contains(&lost.writes), "{lost:?}");
        });
    }

    #[test]
    fn a_disk_that_forgets_flushes_goes_back_to_a_moment_before() {
        let mut moments = [0; 4];
        for seed in 0..100 {
            let bench = Bench::new(Flushes::Forgotten);
            let mut machine = bench.connect();
            for byte in 1..=3 {
                machine.write(0, 2, byte, true);
                machine.flush();
            }
            bench.disk.cut(&mut Chance::new(seed)).unwrap();
            let left = bench.connect().read();
            assert_eq!(left[0], left[1], "it keeps the order");
            moments[usize::from(left[0])] += 1;
        }
        assert!(moments.iter().all(|&times| times > 0), "{moments:?}");
    }
}
