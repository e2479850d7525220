//! Writes the files of a tree on all cores, from chunks in whatever order they come.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Mutex;

use super::tree_new::Progress;
use super::tree_target::{Place, Target};
use crate::error::ContentError;
use crate::manifest;
use crate::parallel::lock;

/// A file to be written, and where its bytes stand in the stream.
pub(super) struct WantedFile<'a> {
    pub(super) entry: &'a manifest::Entry,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) place: Place,
    /// How many new folders there must be before it can be made.
    pub(super) folders: usize,
}

/// A file that lies in one chunk is made, written and finished at once. One of several chunks is begun with the first that
/// comes and finished with the last; in between it isn't held open, as there may be more of them than a process may open.
pub(super) struct Writer<'a, 't> {
    /// In the order of the stream; none is empty.
    files: &'a [WantedFile<'a>],
    target: &'a Target<'t>,
    progress: &'a Progress,
    /// Each thread takes one, which holds the folder of its last file open.
    spare: Mutex<Vec<Target<'t>>>,
    /// Files that were begun, by their place in `files`, and how many bytes each lacks.
    begun: Mutex<HashMap<usize, u64>>,
}

impl<'a, 't> Writer<'a, 't> {
    pub(super) fn new(
        files: &'a [WantedFile<'a>],
        target: &'a Target<'t>,
        progress: &'a Progress,
    ) -> Self {
        Self {
            files,
            target,
            progress,
            spare: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// Writes what a chunk that begins at `offset` of the stream holds of the files, and tells how many bytes that was.
    pub(super) fn write(&self, offset: u64, raw: &[u8]) -> Result<u64, ContentError> {
        let spare = lock(&self.spare).pop();
        let mut target = spare.unwrap_or_else(|| self.target.another());
        let result = self.write_to(&mut target, offset, raw);
        lock(&self.spare).push(target);
        result
    }

    fn write_to(
        &self,
        target: &mut Target<'_>,
        offset: u64,
        raw: &[u8],
    ) -> Result<u64, ContentError> {
        let end = offset + raw.len() as u64;
        let mut written = 0;
        let first = (self.files).partition_point(|file| file.offset + file.bytes <= offset);
        for (index, file) in self.files.iter().enumerate().skip(first) {
            let (from, to) = (offset.max(file.offset), end.min(file.offset + file.bytes));
            if from >= to {
                break;
            }
            self.progress.wait_for(file.folders)?;
            let at = |position: u64| usize::try_from(position - offset).unwrap_or(usize::MAX);
            let part = &raw[at(from)..at(to)];
            if part.len() as u64 == file.bytes {
                let entry = file.entry;
                target.write_file(entry, file.place, part)?;
            } else {
                self.write_part(target, index, from - file.offset, part)?;
            }
            written += part.len() as u64;
        }
        Ok(written)
    }

    fn write_part(
        &self,
        target: &mut Target<'_>,
        index: usize,
        at: u64,
        part: &[u8],
    ) -> Result<(), ContentError> {
        let file = &self.files[index];
        let (entry, place) = (file.entry, file.place);
        let open = {
            let mut begun = lock(&self.begun);
            match begun.entry(index) {
                Entry::Occupied(_) => {
                    drop(begun);
                    target.reopen_file(&entry.path, place)?
                }
                Entry::Vacant(vacant) => {
                    let open = target.start_file(entry, place)?;
                    vacant.insert(file.bytes);
                    open
                }
            }
        };
        target.write_part(entry, &open, at, part)?;
        let is_whole = {
            let mut begun = lock(&self.begun);
            let lacking = begun.entry(index).or_default();
            *lacking = lacking.saturating_sub(part.len() as u64);
            let is_whole = *lacking == 0;
            if is_whole {
                begun.remove(&index);
            }
            is_whole
        };
        if !is_whole {
            return Ok(());
        }
        let finished = target.finish_file(entry, place, &open);
        if finished.is_err() {
            target.abandon_file(&entry.path, place);
        }
        finished
    }

    /// Takes away what was begun and isn't whole.
    pub(super) fn clean_up(&self) {
        let mut target = self.target.another();
        for (index, _) in lock(&self.begun).drain() {
            let file = &self.files[index];
            target.abandon_file(&file.entry.path, file.place);
        }
    }
}
