//! Reads files into the page cache before it is their turn.
//!
//! A tree has tens of thousands of small files. Each that is not in the page cache costs the disk a round trip, in which no
//! core has anything to do; so several are on their way at once.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use rustix::fs::{Advice, Mode, OFlags};

use crate::error::ContentError;
use crate::parallel;

/// How many files are opened at once.
const READERS: usize = 8;
/// How far it goes ahead: what was read must still be there when its turn comes.
const FILES_AHEAD: usize = 512;
const BYTES_AHEAD: u64 = 64 << 20;
/// Of a long file its beginning is enough: while it is read, the kernel reads ahead in it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file, and how long it is.
pub(super) type Listed = (PathBuf, u64);

/// Does `work` on `files`, while those that come next are read.
pub(super) fn reading_ahead<T>(
    files: &[Listed],
    work: impl FnOnce(&mut Ahead<'_>) -> Result<T, ContentError>,
) -> Result<T, ContentError> {
    let (to_readers, listed) = mpsc::sync_channel(FILES_AHEAD);
    let listed = Mutex::new(listed);
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| read(&listed));
        }
        let mut ahead = Ahead {
            files,
            to_readers,
            at: 0,
            next: 0,
            bytes: 0,
        };
        work(&mut ahead)
    })
}

fn read(listed: &Mutex<Receiver<&Listed>>) {
    loop {
        let next = parallel::lock(listed).recv();
        let Ok((path, bytes)) = next else { return };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // Whoever reads it in its turn says what is wrong with it.
        if let Ok(file) = rustix::fs::open(path, flags, Mode::empty()) {
            let length = std::num::NonZero::new((*bytes).min(FILE_BYTES_MAX));
            let _only_a_hint = rustix::fs::fadvise(&file, 0, length, Advice::WillNeed);
        }
    }
}

/// How far the work is, and how far the readers are in front of it.
pub(super) struct Ahead<'a> {
    files: &'a [Listed],
    to_readers: SyncSender<&'a Listed>,
    at: usize,
    next: usize,
    /// Of the files from `at` to `next`.
    bytes: u64,
}

impl<'a> Ahead<'a> {
    /// The next file to be read in earnest; its readers go on to those behind it.
    pub(super) fn next_file(&mut self) -> Option<&'a Listed> {
        while self.next < self.files.len()
            && self.next < self.at + FILES_AHEAD
            && self.bytes < BYTES_AHEAD
        {
            let listed = &self.files[self.next];
            if self.to_readers.try_send(listed).is_err() {
                break;
            }
            self.bytes += listed.1.min(FILE_BYTES_MAX);
            self.next += 1;
        }
        let file = self.files.get(self.at)?;
        self.at += 1;
        if self.at <= self.next {
            self.bytes -= file.1.min(FILE_BYTES_MAX);
        } else {
            // They have fallen behind: there is no sense in reading what was just read.
            self.next = self.at;
        }
        Some(file)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{FILE_BYTES_MAX, reading_ahead};

    /// Every file comes once and in order, whether it is there or not.
    fn check(lengths: &[u64]) {
        let files: Vec<_> = lengths
            .iter()
            .enumerate()
            .map(|(number, length)| (PathBuf::from(format!("/nowhere/{number}")), *length))
            .collect();
        let seen = reading_ahead(&files, |ahead| {
            let mut seen = Vec::new();
            while let Some(file) = ahead.next_file() {
                seen.push(file.clone());
            }
            Ok(seen)
        });
        assert_eq!(seen.unwrap(), files);
    }

    #[test]
    fn every_file_comes_in_its_turn() {
        check(&[]);
        check(&[5]);
        check(&[1; 3000]);
        check(&[100 * FILE_BYTES_MAX; 200]);
    }
}
