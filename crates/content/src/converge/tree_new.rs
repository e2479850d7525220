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
}

impl New<'_> {
    /// Makes all of it: folders first, as files wait for theirs.
    ///
    /// # Errors
    /// If something can't be made. Whoever waits for a folder that isn't there then is told, too.
    pub(super) fn make(
        &self,
        target: &mut Target<'_>,
        progress: &Progress,
    ) -> Result<(), ContentError> {
        let end = End(progress);
        for folder in &self.folders {
            target.make_folder(folder)?;
            progress.next();
        }
        drop(end);
        for entry in &self.others {
            match &entry.kind {
                EntryKind::Link { target: to } => target.make_link(entry, to, Place::New)?,
                EntryKind::File { .. } => target.write_file(entry, Place::New, &[])?,
                _ => target.make_special(entry, Place::New)?,
            }
        }
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
    /// No further folder comes.
    has_ended: bool,
}

impl Progress {
    /// Waits until so many folders are there.
    ///
    /// # Errors
    /// If they won't be: whoever makes them has failed, and says why.
    pub(super) fn wait_for(&self, folders: usize) -> Result<(), ContentError> {
        let mut state = lock(&self.state);
        while state.made < folders && !state.has_ended {
            state = (self.changed.wait(state)).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        match state.made < folders {
            true => Err(ContentError::Cancelled),
            false => Ok(()),
        }
    }

    fn next(&self) {
        lock(&self.state).made += 1;
        self.changed.notify_all();
    }
}

/// Lets nobody wait for folders that don't come, not even after a panic.
struct End<'p>(&'p Progress);

impl Drop for End<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).has_ended = true;
        self.0.changed.notify_all();
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
        assert!(progress.wait_for(0).is_ok());
        thread::scope(|scope| {
            let second = scope.spawn(|| progress.wait_for(2));
            let third = scope.spawn(|| progress.wait_for(3));
            let maker = scope.spawn(|| {
                let _end = End(&progress);
                progress.next();
                progress.next();
            });
            maker.join().unwrap();
            assert!(second.join().unwrap().is_ok());
            let missing = third.join().unwrap();
            assert!(matches!(missing, Err(ContentError::Cancelled)));
        });
    }
}
