//! Blocks of a volume in memory, written back when told to.
//!
//! `fatfs` writes a folder entry field by field. What a power cut or a failing disk left of that could be an entry that names a
//! cluster of something else; so nothing reaches the disk between two syncs but by [`Cache::write_back`] and [`Cache::sync`].

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

use crate::block::{BlockFile, sought};

const BLOCK_BYTES: u64 = 4096;
/// Blocks in memory beyond which those that are on the disk too are dropped: 8 MiB.
const BLOCKS_MAX: usize = 2048;

/// A volume behind its cache; clones share the cache, not the position.
#[derive(Clone)]
pub(super) struct Cache {
    shared: Rc<RefCell<Shared>>,
    length: u64,
    position: u64,
}

struct Shared {
    device: BlockFile,
    blocks: BTreeMap<u64, Block>,
}

struct Block {
    bytes: Vec<u8>,
    is_changed: bool,
}

impl Shared {
    /// The block with this number, read if need be. Its last byte is the volume's if the volume ends in it.
    fn block(&mut self, number: u64) -> io::Result<&mut Block> {
        if self.blocks.len() > BLOCKS_MAX {
            self.blocks.retain(|_, block| block.is_changed);
        }
        match self.blocks.entry(number) {
            std::collections::btree_map::Entry::Occupied(held) => Ok(held.into_mut()),
            std::collections::btree_map::Entry::Vacant(empty) => {
                let at = number * BLOCK_BYTES;
                let length = BLOCK_BYTES.min(self.device.length().saturating_sub(at));
                let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
                self.device.read_at(&mut bytes, at)?;
                Ok(empty.insert(Block {
                    bytes,
                    is_changed: false,
                }))
            }
        }
    }

    fn write_back(&mut self) -> io::Result<()> {
        for (number, block) in &mut self.blocks {
            if block.is_changed {
                self.device.write_at(&block.bytes, number * BLOCK_BYTES)?;
                block.is_changed = false;
            }
        }
        Ok(())
    }
}

impl Cache {
    /// An empty cache before `device`, at its start.
    pub(super) fn new(device: &BlockFile) -> Self {
        Self {
            shared: Rc::new(RefCell::new(Shared {
                device: device.clone(),
                blocks: BTreeMap::new(),
            })),
            length: device.length(),
            position: 0,
        }
    }

    /// The length of the volume in bytes.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// Writes what has changed, in the order in which it lies. Not durable.
    pub(super) fn write_back(&self) -> io::Result<()> {
        self.shared.borrow_mut().write_back()
    }

    /// Writes what has changed and makes it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut shared = self.shared.borrow_mut();
        shared.write_back()?;
        shared.device.sync()
    }

    /// Reads exactly `buffer` at `offset`.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut own = self.at(offset);
        own.read_exact(buffer)
    }

    /// Writes all of `bytes` at `offset`.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut own = self.at(offset);
        own.write_all(bytes)
    }

    fn at(&self, position: u64) -> Self {
        Self {
            position,
            ..self.clone()
        }
    }

    /// The block at the position, where in it that is, and how many of `wanted` bytes lie in it.
    fn place(&self, wanted: usize) -> (u64, usize, usize) {
        let within = self.position % BLOCK_BYTES;
        let left = self.length.saturating_sub(self.position);
        let room = (BLOCK_BYTES - within).min(left);
        let count = usize::try_from(room).unwrap_or(0).min(wanted);
        let within = usize::try_from(within).unwrap_or(0);
        (self.position / BLOCK_BYTES, within, count)
    }
}

impl Read for Cache {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (number, within, count) = self.place(buffer.len());
        if count > 0 {
            let mut shared = self.shared.borrow_mut();
            let block = shared.block(number)?;
            buffer[..count].copy_from_slice(&block.bytes[within..within + count]);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Cache {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let (number, within, count) = self.place(buffer.len());
        if count > 0 {
            let mut shared = self.shared.borrow_mut();
            let block = shared.block(number)?;
            block.bytes[within..within + count].copy_from_slice(&buffer[..count]);
            block.is_changed = true;
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cache {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = sought(to, self.position, self.length)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::watched::{Disk, Done};

    #[test]
    fn nothing_is_written_before_it_is_told_to() {
        let (device, disk) = Disk::blank(3 * BLOCK_BYTES + 100);
        let mut cache = Cache::new(&device);
        cache.seek(SeekFrom::Start(BLOCK_BYTES - 1)).unwrap();
        cache.write_all(b"ab").unwrap();
        cache.write_at(b"z", 3 * BLOCK_BYTES + 99).unwrap();
        let mut found = [0; 2];
        cache.read_at(&mut found, BLOCK_BYTES - 1).unwrap();
        assert_eq!(&found, b"ab", "what was written is read");
        assert_eq!(disk.take_log(), []);
        cache.sync().unwrap();
        let log = disk.take_log();
        let places: Vec<(u64, usize)> = log
            .iter()
            .filter_map(|done| match done {
                Done::Write(at, bytes) => Some((*at, bytes.len())),
                Done::Sync => None,
            })
            .collect();
        assert_eq!(places, [(0, 4096), (4096, 4096), (3 * 4096, 100)]);
        assert_eq!(log.last(), Some(&Done::Sync));
        device.read_at(&mut found, BLOCK_BYTES - 1).unwrap();
        assert_eq!(&found, b"ab");
        cache.sync().unwrap();
        assert_eq!(disk.take_log(), [Done::Sync], "written once");
    }

    #[test]
    fn the_end_of_the_volume_is_the_end() {
        let (device, _) = Disk::blank(BLOCK_BYTES + 3);
        let mut cache = Cache::new(&device);
        cache.seek(SeekFrom::End(-2)).unwrap();
        assert_eq!(cache.write(b"abc").unwrap(), 2);
        assert_eq!(cache.write(b"c").unwrap(), 0);
        assert_eq!(cache.read(&mut [0]).unwrap(), 0);
        assert!(cache.seek(SeekFrom::Current(-9999)).is_err());
        assert!(cache.read_at(&mut [0; 2], BLOCK_BYTES + 2).is_err());
    }

    #[test]
    fn what_failed_to_be_written_is_written_later() {
        let (device, disk) = Disk::blank(2 * BLOCK_BYTES);
        let cache = Cache::new(&device);
        cache.write_at(&[1; 2 * 4096], 0).unwrap();
        disk.fail_at(Some(2));
        assert!(cache.sync().is_err());
        disk.fail_at(None);
        cache.sync().unwrap();
        let mut found = [0; 1];
        device.read_at(&mut found, BLOCK_BYTES).unwrap();
        assert_eq!(found, [1]);
    }
}
