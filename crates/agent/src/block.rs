//! A stretch of a block device or file, read and written at a position of its own.
//!
//! Every raw write to a disk goes through this type. So it is tested on plain files, and on disks that see each operation,
//! make one fail, or are put into the state that a power cut leaves (`power_cuts.rs`).

#[cfg(test)]
pub(crate) mod lying;
#[cfg(test)]
pub(crate) mod watched;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// A stretch of a file or block device; clones share the file, not the position.
#[derive(Debug, Clone)]
pub(crate) struct BlockFile {
    backing: Backing,
    offset: u64,
    length: u64,
    position: u64,
}

/// What lies below.
#[derive(Debug, Clone)]
enum Backing {
    File(Arc<File>),
    #[cfg(test)]
    Fake(Arc<dyn FakeDisk>),
}

/// What stands for a disk in tests.
#[cfg(test)]
pub(crate) trait FakeDisk: std::fmt::Debug + Send + Sync {
    /// As `pread`: fills as much of `buffer` as there is.
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bytes`.
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Everything written before is durable.
    fn sync(&self) -> io::Result<()>;
}

impl Backing {
    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(buffer, at),
            #[cfg(test)]
            Self::Fake(disk) => disk.read_at(buffer, at),
        }
    }

    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.write_all_at(bytes, at),
            #[cfg(test)]
            Self::Fake(disk) => disk.write_all_at(bytes, at),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_all(),
            #[cfg(test)]
            Self::Fake(disk) => disk.sync(),
        }
    }
}

impl BlockFile {
    /// Opens a whole disk, partition or file for reading.
    pub(crate) fn read_only(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::whole(File::open(path)?)
    }

    /// Opens a whole disk, partition or file for reading and writing.
    pub(crate) fn read_write(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::whole(OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// All of an open file.
    pub(crate) fn whole(mut file: File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        Ok(Self {
            backing: Backing::File(Arc::new(file)),
            offset: 0,
            length,
            position: 0,
        })
    }

    /// All of a disk of a test.
    #[cfg(test)]
    pub(crate) fn fake(disk: Arc<dyn FakeDisk>, length: u64) -> Self {
        Self {
            backing: Backing::Fake(disk),
            offset: 0,
            length,
            position: 0,
        }
    }

    /// A stretch of this one, cut to what there is.
    #[cfg(test)]
    pub(crate) fn part(&self, offset: u64, length: u64) -> Self {
        let offset = offset.min(self.length);
        let length = length.min(self.length - offset);
        Self {
            backing: self.backing.clone(),
            offset: self.offset + offset,
            length,
            position: 0,
        }
    }

    /// Its length in bytes.
    pub(crate) const fn length(&self) -> u64 {
        self.length
    }

    /// Waits until no other program works on it, and keeps the others waiting as long as this one is open.
    pub(crate) fn wait_for_lock(&self) -> io::Result<()> {
        match &self.backing {
            Backing::File(file) => Ok(rustix::fs::flock(
                file,
                rustix::fs::FlockOperation::LockExclusive,
            )?),
            #[cfg(test)]
            Backing::Fake(_) => Ok(()),
        }
    }

    /// Makes all writes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.backing.sync()
    }

    /// Reads exactly `buffer` at `offset`.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        let mut done = 0;
        while done < buffer.len() {
            let at = self.offset + offset + done as u64;
            match self.backing.read_at(&mut buffer[done..], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of `buffer` at `offset`.
    pub(crate) fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.check(offset, buffer.len())?;
        self.backing.write_all_at(buffer, self.offset + offset)
    }

    fn check(&self, offset: u64, length: usize) -> io::Result<()> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "beyond the end of the volume",
            ));
        }
        Ok(())
    }

    fn room(&self, wanted: usize) -> usize {
        let left = self.length.saturating_sub(self.position);
        usize::try_from(left).unwrap_or(usize::MAX).min(wanted)
    }
}

impl Read for BlockFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        let read = self
            .backing
            .read_at(&mut buffer[..room], self.offset + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for BlockFile {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = self.room(buffer.len());
        self.backing
            .write_all_at(&buffer[..room], self.offset + self.position)?;
        self.position += room as u64;
        Ok(room)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for BlockFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = sought(to, self.position, self.length)?;
        Ok(self.position)
    }
}

/// Where `to` leads from `position` in something of this length.
pub(crate) fn sought(to: SeekFrom, position: u64, length: u64) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(offset) => Some(offset),
        SeekFrom::End(offset) => length.checked_add_signed(offset),
        SeekFrom::Current(offset) => position.checked_add_signed(offset),
    };
    target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))
}

/// A sparse file of this size, for tests.
#[cfg(test)]
pub(crate) fn sparse(bytes: u64) -> BlockFile {
    let file = tempfile::tempfile().expect("a temporary file");
    file.set_len(bytes).expect("a sparse file");
    BlockFile::whole(file).expect("its length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_ends_where_it_ends() {
        let disk = sparse(4096);
        let mut part = disk.part(1024, 512);
        assert_eq!(part.write(&[7; 1000]).unwrap(), 512);
        assert_eq!(part.write(&[7; 1]).unwrap(), 0);
        let mut bytes = [0; 4];
        disk.read_at(&mut bytes, 1022).unwrap();
        assert_eq!(bytes, [0, 0, 7, 7]);
        disk.read_at(&mut bytes, 1534).unwrap();
        assert_eq!(bytes, [7, 7, 0, 0]);
        assert!(disk.read_at(&mut bytes, 4094).is_err());
        assert!(part.seek(SeekFrom::Current(-9999)).is_err());
    }
}
