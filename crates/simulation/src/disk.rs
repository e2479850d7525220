//! The files of a staging partition in memory. What was written and not synced is lost in part when the power goes.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use testkit::chance::Chance;

/// A file's bytes, and those that are sure to be there.
#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Renaming {
    Is(Utf8PathBuf, usize),
    Isnt(Utf8PathBuf),
}

impl Renaming {
    fn path(&self) -> &Utf8Path {
        match self {
            Self::Is(path, _) | Self::Isnt(path) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<Utf8PathBuf, usize>) {
        match self {
            Self::Is(path, content) => drop(names.insert(path.clone(), *content)),
            Self::Isnt(path) => drop(names.remove(path)),
        }
    }
}

/// Files and their names, as they are and as they are sure to be. Folders are always there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    contents: Vec<Content>,
    names: BTreeMap<Utf8PathBuf, usize>,
    synced_names: BTreeMap<Utf8PathBuf, usize>,
    /// What became of names since, in order: groups that a file system keeps together.
    renamings: Vec<Vec<Renaming>>,
}

impl Disk {
    pub(crate) fn read(&self, path: &Utf8Path) -> Option<&[u8]> {
        let content = self.contents.get(*self.names.get(path)?)?;
        Some(&content.bytes)
    }

    /// The bytes of every file that ever was, removed ones included.
    pub(crate) fn all_bytes(&self) -> impl Iterator<Item = &[u8]> {
        let contents = self.contents.iter();
        contents.flat_map(|content| [&*content.bytes, &*content.synced])
    }

    /// All files of this name, in whatever folder, with their bytes.
    pub(crate) fn files(&self, name: &str) -> impl Iterator<Item = (&Utf8PathBuf, &[u8])> {
        let named = self.names.iter();
        let named = named.filter(move |(path, _)| path.file_name() == Some(name));
        named.filter_map(|(path, number)| Some((path, &*self.contents.get(*number)?.bytes)))
    }

    /// The number of a file that is empty and new.
    pub(crate) fn create(&mut self, path: &Utf8Path) -> usize {
        let number = self.contents.len();
        self.contents.push(Content::default());
        self.rename_all(vec![Renaming::Is(path.to_owned(), number)]);
        number
    }

    pub(crate) fn number(&self, path: &Utf8Path) -> Option<usize> {
        self.names.get(path).copied()
    }

    pub(crate) fn append(&mut self, number: usize, bytes: &[u8]) {
        if let Some(content) = self.contents.get_mut(number) {
            content.bytes.extend_from_slice(bytes);
        }
    }

    pub(crate) fn sync(&mut self, number: usize) {
        if let Some(content) = self.contents.get_mut(number) {
            content.synced.clone_from(&content.bytes);
        }
    }

    pub(crate) fn cut_off(&mut self, number: usize, length: usize) {
        if let Some(content) = self.contents.get_mut(number) {
            content.bytes.truncate(length);
            content.synced.clone_from(&content.bytes);
        }
    }

    pub(crate) fn rename(&mut self, from: &Utf8Path, to: &Utf8Path) {
        if let Some(number) = self.number(from) {
            self.rename_all(vec![
                Renaming::Is(to.to_owned(), number),
                Renaming::Isnt(from.to_owned()),
            ]);
        }
    }

    pub(crate) fn remove(&mut self, path: &Utf8Path) {
        if self.names.contains_key(path) {
            self.rename_all(vec![Renaming::Isnt(path.to_owned())]);
        }
    }

    fn rename_all(&mut self, group: Vec<Renaming>) {
        group
            .iter()
            .for_each(|renaming| renaming.apply(&mut self.names));
        self.renamings.push(group);
    }

    /// A file system that syncs a folder has synced what became of names before.
    pub(crate) fn sync_folder(&mut self, folder: &Utf8Path) {
        let is_in = |group: &Vec<Renaming>| {
            let mut paths = group.iter().map(Renaming::path);
            paths.any(|path| path.parent() == Some(folder))
        };
        let Some(last) = self.renamings.iter().rposition(is_in) else {
            return;
        };
        for renaming in self.renamings.drain(..=last).flatten() {
            renaming.apply(&mut self.synced_names);
        }
    }

    /// Everything is on the disk.
    pub(crate) fn sync_all(&mut self) {
        self.renamings.clear();
        self.synced_names.clone_from(&self.names);
        for content in &mut self.contents {
            content.synced.clone_from(&content.bytes);
        }
    }

    /// The file system is made anew.
    pub(crate) fn wipe(&mut self) {
        *self = Self::default();
    }

    /// The power goes. Of what wasn't synced chance keeps a part: of names the first so many changes, of a file's bytes the
    /// first so many, and what follows may be there as zeros. Says what was lost.
    pub(crate) fn lose_power(&mut self, chance: &mut Chance) -> String {
        let mut lost = Vec::new();
        let kept = chance.place(self.renamings.len() + 1);
        for renaming in self.renamings.drain(..kept).flatten() {
            renaming.apply(&mut self.synced_names);
        }
        if !self.renamings.is_empty() {
            lost.push(format!("{} names", self.renamings.len()));
        }
        self.renamings.clear();
        self.names.clone_from(&self.synced_names);
        for content in &mut self.contents {
            let (whole, sure) = (content.bytes.len(), content.synced.len());
            if whole > sure {
                let kept = sure + chance.place(whole - sure + 1);
                lost.push(format!("{} bytes", whole - kept));
                content.bytes.truncate(kept);
                if chance.below(4) == 0 {
                    content.bytes.resize(whole, 0);
                }
            } else if content.bytes != content.synced {
                content.bytes.clone_from(&content.synced);
            }
            content.synced.clone_from(&content.bytes);
        }
        lost.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_go() {
        let (mut gone, mut torn, mut kept) = (0, 0, 0);
        for seed in 0..100 {
            let mut disk = Disk::default();
            let sure = disk.create("/a/sure".into());
            disk.append(sure, b"sure");
            disk.sync(sure);
            disk.sync_folder("/a".into());
            disk.append(sure, b" or not");
            disk.create("/a/new".into());
            disk.lose_power(&mut Chance::new(seed));
            let bytes = disk.read("/a/sure".into()).unwrap_or_default();
            assert!(bytes.starts_with(b"sure"), "seed {seed}");
            torn += usize::from(bytes != b"sure" && bytes != b"sure or not");
            kept += usize::from(disk.read("/a/new".into()).is_some());
            gone += usize::from(disk.read("/a/new".into()).is_none());
        }
        assert!(gone > 10 && torn > 10 && kept > 10, "{gone} {torn} {kept}");
    }
}
