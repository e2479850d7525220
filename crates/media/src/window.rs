//! A part of a file that looks like a whole one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// `length` bytes of a file from `start` on. Nothing outside of them can be read or written through it.
#[derive(Debug)]
pub(crate) struct Window {
    file: File,
    start: u64,
    length: u64,
    at: u64,
    /// How many more bytes may be read: a volume whose tables run in circles must not be read for ever.
    budget: u64,
}

/// A careless reader looks at some sectors again and again, but never at all of them this often.
const READS_OF_EVERYTHING_MAX: u64 = 4;
/// What even the shortest read costs.
const READ_COST_MIN: u64 = 16;

impl Window {
    pub(crate) fn new(file: File, start: u64, length: u64) -> Self {
        Self {
            file,
            start,
            length,
            at: 0,
            budget: length.saturating_mul(READS_OF_EVERYTHING_MAX),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// How many of `wanted` bytes lie before the end.
    fn fit(&self, wanted: usize) -> usize {
        usize::try_from(self.length.saturating_sub(self.at)).map_or(wanted, |rest| rest.min(wanted))
    }
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fit = self.fit(buffer.len());
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let read = self.file.read(&mut buffer[..fit])?;
        self.at += read as u64;
        let rest = self.budget.checked_sub((read as u64).max(READ_COST_MIN));
        self.budget = rest.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "its tables run in circles")
        })?;
        Ok(read)
    }
}

impl Write for Window {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fit = self.fit(bytes.len());
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let written = self.file.write(&bytes[..fit])?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Window {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(to) => Some(to),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        match to {
            Some(to) if to <= self.length => {
                self.at = to;
                Ok(to)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "outside of the partition",
            )),
        }
    }
}
