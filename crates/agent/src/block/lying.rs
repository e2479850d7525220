//! A medium that shows good bytes first and evil ones later: whoever checks a thing and reads it again is deceived. For tests.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{BlockFile, FakeDisk};

/// When a medium turns evil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turns {
    /// Each byte by itself, once it was read.
    OnceRead,
    /// All of it, after so many reads.
    After(u64),
}

/// The medium.
#[derive(Debug)]
pub(crate) struct Medium {
    good: Vec<u8>,
    evil: Vec<u8>,
    turns: Turns,
    reads: AtomicU64,
    was_read: Mutex<Vec<bool>>,
}

impl Medium {
    /// A medium that shows `good` until it turns, and `evil` from then on.
    pub(crate) fn new(good: Vec<u8>, evil: Vec<u8>, turns: Turns) -> (BlockFile, Arc<Self>) {
        assert_eq!(good.len(), evil.len(), "a medium has one length");
        let length = good.len() as u64;
        let medium = Arc::new(Self {
            was_read: Mutex::new(vec![false; good.len()]),
            good,
            evil,
            turns,
            reads: AtomicU64::new(0),
        });
        (BlockFile::fake(Arc::clone(&medium) as _, length), medium)
    }

    /// How often it was read so far.
    pub(crate) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

impl FakeDisk for Medium {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        let reads = self.reads.fetch_add(1, Ordering::Relaxed);
        let at = usize::try_from(at).expect("a small medium");
        let length = buffer.len().min(self.good.len().saturating_sub(at));
        let mut was_read = self.was_read.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, byte) in (at..at + length).zip(buffer) {
            let is_evil = match self.turns {
                Turns::OnceRead => was_read[place],
                Turns::After(after) => reads >= after,
            };
            *byte = if is_evil {
                self.evil[place]
            } else {
                self.good[place]
            };
            was_read[place] = true;
        }
        Ok(length)
    }

    fn write_all_at(&self, _bytes: &[u8], _at: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn it_lies_only_when_read_again() {
    let (file, medium) = Medium::new(vec![1; 8], vec![2; 8], Turns::OnceRead);
    let mut bytes = [0; 4];
    file.read_at(&mut bytes, 0).expect("it can be read");
    assert_eq!(bytes, [1; 4]);
    file.read_at(&mut bytes, 2).expect("it can be read");
    assert_eq!(bytes, [2, 2, 1, 1]);
    let (file, _) = Medium::new(vec![1; 8], vec![2; 8], Turns::After(1));
    for expected in [1, 2] {
        file.read_at(&mut bytes, 4).expect("it can be read");
        assert_eq!(bytes, [expected; 4]);
    }
    assert_eq!(medium.reads(), 2);
}
