//! Kernel modules of the boot image, loaded by what the hardware says it is.
//!
//! The index is made when the boot image is built (`wire::boot_config::ModuleIndex`); there is no modprobe and no
//! module tool in the boot image, and the kernel is told not to look for one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use wire::boot_config::ModuleIndex;

use crate::log;

/// Where the index lies in the boot image.
const INDEX_PATH: &str = "/lib/modules/forestage.json";
/// Folders under `/sys/devices` are never deeper; a loop of links can't get us lost, as links are not followed.
const DEPTH_MAX: usize = 24;
/// An alias of a device is a line of text; sysfs files are one page at most.
const ALIAS_BYTES_MAX: usize = 4096;

/// Loads modules and remembers which it has loaded.
pub(crate) struct Loader {
    index: ModuleIndex,
    seen_aliases: BTreeSet<String>,
    tried: BTreeSet<String>,
}

impl Loader {
    /// Reads the index; a boot image whose kernel has everything built in has none.
    pub(crate) fn open() -> Result<Self> {
        let index = match fs::read(INDEX_PATH) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .with_context(|| format!("cannot read {INDEX_PATH}"))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => ModuleIndex::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {INDEX_PATH}")),
        };
        Ok(Self {
            index,
            seen_aliases: BTreeSet::new(),
            tried: BTreeSet::new(),
        })
    }

    /// Loads what the index wants loaded in any case.
    pub(crate) fn load_always(&mut self) {
        for name in self.index.always.clone() {
            self.load(&name);
        }
    }

    /// Loads a module by name, for a filesystem or another thing that has no device. Says whether the index has it.
    pub(crate) fn load(&mut self, name: &str) -> bool {
        let order = load_order(&self.index, name);
        for name in &order {
            if self.tried.insert(name.clone())
                && let Err(error) = self.insert(name)
            {
                log::warn(
                    "a kernel module did not load; the machine may not need it",
                    &error,
                );
            }
        }
        !order.is_empty()
    }

    fn insert(&self, name: &str) -> Result<()> {
        let entry = self
            .index
            .modules
            .get(name)
            .with_context(|| format!("module {name} is not in the boot image"))?;
        let file =
            fs::File::open(&entry.file).with_context(|| format!("cannot open {}", entry.file))?;
        match rustix::system::finit_module(&file, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("the kernel refused {}", entry.file)),
        }
    }

    /// Loads modules for all devices that appeared since the last scan; says how many devices were new.
    pub(crate) fn scan(&mut self) -> usize {
        let mut found = Vec::new();
        collect_aliases(Path::new("/sys/devices"), 0, &mut found);
        let fresh: Vec<String> = found
            .into_iter()
            .filter(|alias| self.seen_aliases.insert(alias.clone()))
            .collect();
        for alias in &fresh {
            for name in modules_for(&self.index, alias) {
                self.load(&name);
            }
        }
        fresh.len()
    }
}

/// The modules whose alias patterns match.
fn modules_for(index: &ModuleIndex, alias: &str) -> Vec<String> {
    let matching = index
        .aliases
        .iter()
        .filter(|(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()));
    matching.map(|(_, module)| module.clone()).collect()
}

/// `name` and everything it needs, what is needed first. Circles in a broken index are cut.
fn load_order(index: &ModuleIndex, name: &str) -> Vec<String> {
    fn visit(
        index: &ModuleIndex,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<String>,
    ) {
        if !seen.insert(name.to_owned()) {
            return;
        }
        let Some(entry) = index.modules.get(name) else {
            return;
        };
        for needed in &entry.needs {
            visit(index, needed, seen, order);
        }
        order.push(name.to_owned());
    }
    let mut order = Vec::new();
    visit(index, name, &mut BTreeSet::new(), &mut order);
    order
}

fn collect_aliases(folder: &Path, depth: usize, found: &mut Vec<String>) {
    if depth > DEPTH_MAX {
        return;
    }
    // A device may vanish while we look: then there is nothing to load for it.
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            folders.push(entry.path());
        } else if entry.file_name() == "modalias"
            && let Ok(text) = fs::read_to_string(entry.path())
            && text.len() <= ALIAS_BYTES_MAX
            && !text.trim().is_empty()
        {
            found.push(text.trim().to_owned());
        }
    }
    for folder in folders {
        collect_aliases(&folder, depth + 1, found);
    }
}

/// Shell patterns as the kernel's build writes them: `*`, `?`, `[abc]`, `[a-z]`. Linear in memory, and a `*` only ever
/// backs up to the last one, so hostile text can't make it slow.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while position < text.len() {
        if pattern.get(at) == Some(&b'*') {
            retry = Some((at + 1, position));
            at += 1;
        } else if let Some(next) = match_one(pattern, at, text[position]) {
            at = next;
            position += 1;
        } else if let Some((after_star, from)) = retry {
            retry = Some((after_star, from + 1));
            at = after_star;
            position = from + 1;
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Where the pattern goes on if its element at `at` matches `byte`.
fn match_one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => {
            let close = at + 1 + pattern[at + 1..].iter().position(|byte| *byte == b']')?;
            let mut set = &pattern[at + 1..close];
            let mut is_in = false;
            while let Some((first, rest)) = set.split_first() {
                if let [b'-', last, rest @ ..] = rest {
                    is_in |= (*first..=*last).contains(&byte);
                    set = rest;
                } else {
                    is_in |= *first == byte;
                    set = rest;
                }
            }
            is_in.then_some(close + 1)
        }
        literal => (literal == byte).then_some(at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wire::boot_config::ModuleEntry;

    #[test]
    fn patterns_match_like_a_shell() {
        let check = |pattern: &str, text: &str| matches(pattern.as_bytes(), text.as_bytes());
        assert!(check(
            "pci:v*d*sv*sd*bc01sc08i02*",
            "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"
        ));
        assert!(!check(
            "pci:v*d*sv*sd*bc01sc08i02*",
            "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i03"
        ));
        assert!(check(
            "usb:v*p*d*dc*dsc*dp*ic08isc06ip50in*",
            "usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00"
        ));
        assert!(check("acpi*:PNP0C0[A-C]:*", "acpi:PNP0C0B:"));
        assert!(!check("acpi*:PNP0C0[A-C]:*", "acpi:PNP0C0D:"));
        assert!(check("virtio:d0000000[13]v*", "virtio:d00000001v00001AF4"));
        assert!(check("a?c", "abc") && !check("a?c", "ac") && check("*", "") && !check("", "x"));
        assert!(!check("a[", "a[") && !check("a[bc", "ab"));
    }

    #[test]
    fn what_is_needed_comes_first_and_circles_end() {
        let entry = |needs: &[&str]| ModuleEntry {
            file: String::new(),
            needs: needs.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut index = ModuleIndex::default();
        index
            .modules
            .insert("ext4".into(), entry(&["jbd2", "mbcache", "gone"]));
        index.modules.insert("jbd2".into(), entry(&["ext4"]));
        index.modules.insert("mbcache".into(), entry(&[]));
        assert_eq!(load_order(&index, "ext4"), ["jbd2", "mbcache", "ext4"]);
        assert!(load_order(&index, "nothing").is_empty());
    }

    proptest! {
        #[test]
        fn any_pattern_and_text_end(pattern in "[a-c*?\\[\\]-]{0,12}", text in "[a-c]{0,24}") {
            let _ = matches(pattern.as_bytes(), text.as_bytes());
        }
    }
}
