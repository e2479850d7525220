//! Kernel modules: what they say of themselves in `.modinfo`, and which of them a boot image must hold.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _};
use wire::boot_config::{ModuleEntry, ModuleIndex};

use crate::error::MediaError;
use crate::tree;

/// The largest module of Debian's kernel has 13 MB.
const MODULE_BYTES_MAX: u64 = 256 << 20;
/// The list of built-in modules has 10 kB.
const BUILTIN_BYTES_MAX: u64 = 1 << 20;

/// What a module says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleInfo {
    /// Modules it cannot be loaded without.
    pub depends: Vec<String>,
    /// Modules that should be loaded before it.
    pub soft_before: Vec<String>,
    /// Modules that should be loaded after it.
    pub soft_after: Vec<String>,
    /// The devices and names it answers to.
    pub aliases: Vec<String>,
}

/// Reads the `.modinfo` of the module in `bytes`.
///
/// # Errors
/// Says why `bytes` isn't a sound, uncompressed kernel module.
pub fn parse_module(bytes: &[u8]) -> Result<ModuleInfo, String> {
    let elf = ElfFile64::<Endianness>::parse(bytes).map_err(|error| error.to_string())?;
    let section = elf
        .section_by_name(".modinfo")
        .ok_or("it has no .modinfo")?;
    Ok(parse_modinfo(
        section.data().map_err(|error| error.to_string())?,
    ))
}

/// Reads the zero-separated `key=value` texts of a `.modinfo` section. What is no text is passed over.
#[must_use]
pub fn parse_modinfo(section: &[u8]) -> ModuleInfo {
    let mut info = ModuleInfo::default();
    for text in section.split(|&byte| byte == 0) {
        let Some((key, value)) = std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split_once('='))
        else {
            continue;
        };
        match key {
            "depends" => info.depends.extend(
                value
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(module_name),
            ),
            "alias" => info.aliases.push(value.to_owned()),
            "softdep" => parse_softdep(value, &mut info),
            _ => {}
        }
    }
    info
}

fn parse_softdep(value: &str, info: &mut ModuleInfo) {
    let mut is_before = true;
    for word in value.split_ascii_whitespace() {
        match word {
            "pre:" => is_before = true,
            "post:" => is_before = false,
            name if is_before => info.soft_before.push(module_name(name)),
            name => info.soft_after.push(module_name(name)),
        }
    }
}

/// The kernel takes `-` and `_` for the same; we use `_`.
fn module_name(name: &str) -> String {
    name.replace('-', "_")
}

/// The modules of one kernel release: names to files below `root`.
pub(crate) struct Kernel {
    root: Utf8PathBuf,
    files: BTreeMap<String, Utf8PathBuf>,
    builtin: BTreeSet<String>,
}

impl Kernel {
    /// Looks at the modules of `release` in the tree `root`.
    pub(crate) fn open(root: &Utf8Path, release: &str) -> Result<Self, MediaError> {
        let folder = tree::resolve(root, &format!("/lib/modules/{release}")).ok_or_else(|| {
            MediaError::unusable(
                root,
                "kernel package",
                format!("no modules of {release} in it"),
            )
        })?;
        let builtin = folder.join("modules.builtin");
        let builtin =
            String::from_utf8_lossy(&tree::read(&builtin, BUILTIN_BYTES_MAX)?).into_owned();
        let builtin = builtin
            .lines()
            .filter_map(|line| stem(Utf8Path::new(line)))
            .collect();
        let files = tree::files(&folder)?
            .into_iter()
            .filter_map(|file| Some((stem(&file)?, file)))
            .collect();
        Ok(Self {
            root: root.to_owned(),
            files,
            builtin,
        })
    }

    /// The `wanted` modules and all they need, and the files to put in. A wanted module the kernel has built in is
    /// fine.
    pub(crate) fn closure(
        &self,
        wanted: &[String],
        always: &[String],
    ) -> Result<(ModuleIndex, BTreeMap<String, Vec<u8>>), MediaError> {
        let mut index = ModuleIndex::default();
        let mut contents = BTreeMap::new();
        let mut waiting: Vec<(String, bool)> = wanted
            .iter()
            .chain(always)
            .map(|name| (module_name(name), true))
            .collect();
        while let Some((name, is_required)) = waiting.pop() {
            if index.modules.contains_key(&name) || self.builtin.contains(&name) {
                continue;
            }
            let Some(file) = self.files.get(&name) else {
                if is_required {
                    return Err(MediaError::unusable(
                        &self.root,
                        "kernel package",
                        format!("no module {name} in it"),
                    ));
                }
                continue;
            };
            let bytes = tree::read(file, MODULE_BYTES_MAX)?;
            let info = parse_module(&bytes)
                .map_err(|reason| MediaError::unusable(file, "kernel module", reason))?;
            waiting.extend(info.depends.iter().map(|name| (name.clone(), true)));
            waiting.extend(
                info.soft_before
                    .iter()
                    .chain(&info.soft_after)
                    .map(|name| (name.clone(), false)),
            );
            let inside = file.strip_prefix(&self.root).unwrap_or(file);
            let path = format!("/{inside}").replace("/usr/lib/modules/", "/lib/modules/");
            index
                .aliases
                .extend(info.aliases.into_iter().map(|alias| (alias, name.clone())));
            let is_file =
                |name: &String| self.files.contains_key(name) && !self.builtin.contains(name);
            let needs = info
                .soft_before
                .into_iter()
                .chain(info.depends)
                .filter(is_file)
                .collect();
            contents.insert(path.clone(), bytes);
            index
                .modules
                .insert(name, ModuleEntry { file: path, needs });
        }
        index.aliases.sort();
        index.aliases.dedup();
        index.always = always
            .iter()
            .map(|name| module_name(name))
            .filter(|n| index.modules.contains_key(n))
            .collect();
        Ok((index, contents))
    }
}

/// `e1000e` for `…/e1000e.ko`.
fn stem(file: &Utf8Path) -> Option<String> {
    file.file_name()?.strip_suffix(".ko").map(module_name)
}

#[cfg(test)]
mod tests {
    use super::{ModuleInfo, parse_modinfo, parse_module};
    use proptest::prelude::*;

    #[test]
    fn modinfo_is_understood() {
        let section = b"license=GPL\0alias=pci:v*bc01*\0alias=fs-x\0softdep=pre: crc32c-intel post: realtek a\0\0\
            depends=mii,usb-core\0depends=\0\xff=1\0name=x";
        let texts = |texts: &[&str]| {
            texts
                .iter()
                .map(|&text| text.to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            parse_modinfo(section),
            ModuleInfo {
                depends: texts(&["mii", "usb_core"]),
                soft_before: texts(&["crc32c_intel"]),
                soft_after: texts(&["realtek", "a"]),
                aliases: texts(&["pci:v*bc01*", "fs-x"]),
            }
        );
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = parse_modinfo(&bytes);
            prop_assert!(parse_module(&bytes).is_err());
        }
    }
}
