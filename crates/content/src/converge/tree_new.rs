//! Makes what is new of a tree besides its files, on a thread of its own while they are written.

use std::sync::{Condvar, Mutex};

use super::tree_target::{Place, Target};
use crate::error::ContentError;
use crate::manifest::{Entry, EntryKind};
use crate::parallel::lock;

/// Entries of which nothing is there yet, so that nothing has to be looked at before they are made.
#[derive(Default)]
pub(super) struct New<'a> {
    /// Each behind the one that it is in.
    pub(super) folders: Vec<&'a Entry>,
    /// Links, devices and empty files, all in such folders.
    pub(super) others: Vec<&'a Entry>,
    /// So many of the folders are there by now.
    made: usize,
}

impl New<'_> {
    /// Makes the folders that are known so far: something may lead to one of them.
    ///
    /// # Errors
    /// If one can't be made.
    pub(super) fn make_folders(&mut self, target: &mut Target<'_>) -> Result<(), ContentError> {
        while let Some(folder) = self.folders.get(self.made) {
            target.make_folder(folder)?;
            self.made += 1;
        }
        Ok(())
    }

    /// How far it is, for those who wait.
    pub(super) fn progress(&self) -> Progress {
        let progress = Progress::default();
        lock(&progress.state).made = self.made;
        progress
    }

    /// Makes the rest: folders first, as files wait for theirs.
    ///
    /// # Errors
    /// If something can't be made. Whoever waits for a folder is told, too.
    pub(super) fn make(
        &self,
        target: &mut Target<'_>,
        progress: &Progress,
    ) -> Result<(), ContentError> {
        let mut end = End {
            progress,
            is_good: false,
        };
        for folder in &self.folders[self.made..] {
            if progress.is_stopped() {
                return Ok(());
            }
            target.make_folder(folder)?;
            progress.next();
        }
        for entry in &self.others {
            if progress.is_stopped() {
                return Ok(());
            }
            match &entry.kind {
                EntryKind::Link { target: to } => target.make_link(entry, to, Place::New)?,
                EntryKind::File { .. } => target.write_file(entry, Place::New, &[])?,
                _ => target.make_special(entry, Place::New)?,
            }
        }
        end.is_good = true;
        Ok(())
    }
}

/// How many of the new folders are there.
#[derive(Default)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    made: usize,
    /// Something can't be made: no further folder comes.
    has_failed: bool,
    /// Whoever writes the files has failed: nothing more is needed.
    is_stopped: bool,
}

impl Progress {
    /// Waits until so many folders are there.
    ///
    /// # Errors
    /// If something can't be made: whoever makes it says what and why.
    pub(super) fn wait_for(&self, folders: usize) -> Result<(), ContentError> {
        let mut state = lock(&self.state);
        while state.made < folders && !state.has_failed {
            state = (self.changed.wait(state)).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        match state.has_failed {
            true => Err(ContentError::Cancelled),
            false => Ok(()),
        }
    }

    /// Has nothing more be made.
    pub(super) fn stop(&self) {
        lock(&self.state).is_stopped = true;
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).is_stopped
    }

    fn next(&self) {
        lock(&self.state).made += 1;
        self.changed.notify_all();
    }
}

/// Lets nobody wait for folders that don't come, not even after a panic.
struct End<'p> {
    progress: &'p Progress,
    is_good: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if !self.is_good {
            lock(&self.progress.state).has_failed = true;
            self.progress.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{End, Progress};
    use crate::error::ContentError;

    #[test]
    fn whoever_waits_goes_on_when_the_folder_is_there_or_will_never_be() {
        let progress = Progress::default();
        let progress = &progress;
        assert!(progress.wait_for(0).is_ok());
        thread::scope(|scope| {
            let second = scope.spawn(|| progress.wait_for(2));
            let third = scope.spawn(|| progress.wait_for(3));
            let maker = scope.spawn(move || {
                let _end = End {
                    progress,
                    is_good: false,
                };
                progress.next();
                progress.next();
                // Whoever waits for two has seen them.
                second.join().unwrap().unwrap();
            });
            maker.join().unwrap();
            let missing = third.join().unwrap();
            assert!(matches!(missing, Err(ContentError::Cancelled)));
        });
    }
}
