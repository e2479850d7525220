//! A disk in memory that sees what is done to it, and fails when told to. For tests.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BlockFile, FakeDisk};

/// One thing that was done to a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    /// Bytes were written at an offset.
    Write(u64, Vec<u8>),
    /// Everything written before is durable.
    Sync,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk(Mutex<State>);

#[derive(Debug)]
struct State {
    bytes: Vec<u8>,
    log: Vec<Done>,
    /// What the writes of the log overwrote.
    overwritten: Vec<(u64, Vec<u8>)>,
    operations: u64,
    fails_at: Option<u64>,
}

impl Disk {
    /// A blank disk, and the way agents see it.
    pub(crate) fn blank(bytes: u64) -> (BlockFile, Arc<Self>) {
        let length = usize::try_from(bytes).expect("a small disk");
        let disk = Arc::new(Self(Mutex::new(State {
            bytes: vec![0; length],
            log: Vec::new(),
            overwritten: Vec::new(),
            operations: 0,
            fails_at: None,
        })));
        (BlockFile::fake(Arc::clone(&disk) as _, bytes), disk)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operation with this number fails, counted from 1 and from now.
    pub(crate) fn fail_at(&self, operation: Option<u64>) {
        let mut state = self.state();
        state.operations = 0;
        state.fails_at = operation;
    }

    /// How many operations there were since `fail_at`: reads, writes and syncs.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// What was done since this was last asked, or rolled back.
    pub(crate) fn take_log(&self) -> Vec<Done> {
        let mut state = self.state();
        state.overwritten.clear();
        std::mem::take(&mut state.log)
    }

    /// How much was done since.
    pub(crate) fn log_length(&self) -> usize {
        self.state().log.len()
    }

    /// How many bytes were written since the log had this length.
    pub(crate) fn bytes_written_after(&self, length: usize) -> u64 {
        let state = self.state();
        let bytes = state.log[length..].iter().map(|done| match done {
            Done::Write(_, bytes) => bytes.len() as u64,
            Done::Sync => 0,
        });
        bytes.sum()
    }

    /// Takes back what was written since the log was last taken.
    pub(crate) fn roll_back(&self) {
        let mut state = self.state();
        state.log.clear();
        for (at, before) in std::mem::take(&mut state.overwritten).into_iter().rev() {
            state.at(at, before.len()).copy_from_slice(&before);
        }
    }
}

impl FakeDisk for Disk {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let mut state = self.state();
        state.count()?;
        buffer.copy_from_slice(state.at(at, buffer.len()));
        Ok(buffer.len())
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.state();
        state.count()?;
        let place = state.at(at, bytes.len());
        let before = place.to_vec();
        place.copy_from_slice(bytes);
        state.overwritten.push((at, before));
        state.log.push(Done::Write(at, bytes.to_vec()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.count()?;
        state.log.push(Done::Sync);
        Ok(())
    }
}

impl State {
    fn count(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.fails_at == Some(self.operations) {
            return Err(io::Error::from_raw_os_error(5));
        }
        Ok(())
    }

    fn at(&mut self, at: u64, length: usize) -> &mut [u8] {
        let at = usize::try_from(at).expect("a small disk");
        &mut self.bytes[at..at + length]
    }
}
