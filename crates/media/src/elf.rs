//! What a program needs to run: its interpreter and, transitively, the shared libraries it names.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSection as _};

use crate::error::MediaError;
use crate::tree;

/// The programs and libraries of a boot image have a few MiB.
const ELF_BYTES_MAX: u64 = 256 << 20;
/// The programs we take need about ten.
const LIBRARIES_MAX: usize = 500;
/// Where Debian's loader looks without being told.
const LIBRARY_FOLDERS: [&str; 4] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
];

/// The names in an ELF file's dynamic section, and its interpreter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// `DT_NEEDED`, in order.
    pub libraries: Vec<String>,
    /// `PT_INTERP`.
    pub interpreter: Option<String>,
}

/// Reads what the ELF file `bytes` needs.
///
/// # Errors
/// Says why `bytes` isn't a sound 64-bit ELF file.
pub fn parse_needs(bytes: &[u8]) -> Result<Needs, String> {
    const DT_NEEDED: u64 = 1;
    let elf = ElfFile64::<Endianness>::parse(bytes).map_err(|error| error.to_string())?;
    let section = |name: &str| match elf.section_by_name(name) {
        Some(section) => section.data().map_err(|error| format!("{name}: {error}")),
        None => Ok(&[][..]),
    };
    let (dynamic, names) = (section(".dynamic")?, section(".dynstr")?);
    let mut needs = Needs::default();
    for entry in dynamic.chunks_exact(16) {
        let (tag, value) = entry.split_at(8);
        if u64::from_le_bytes(tag.try_into().map_err(|_| "cut off")?) != DT_NEEDED {
            continue;
        }
        if needs.libraries.len() == LIBRARIES_MAX {
            return Err("it names too many libraries".into());
        }
        let at = u64::from_le_bytes(value.try_into().map_err(|_| "cut off")?);
        let name = usize::try_from(at)
            .ok()
            .and_then(|at| names.get(at..))
            .and_then(text);
        needs
            .libraries
            .push(name.ok_or("the name of a library lies outside of its table")?);
    }
    needs.interpreter = text(section(".interp")?);
    Ok(needs)
}

/// The text up to the first zero byte.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&bytes[..end]).ok().map(str::to_owned)
}

/// Every file `programs` need, as path in the boot image and file in `root`. The programs keep their paths,
/// libraries go where the loader finds them by the names they are asked for.
pub(crate) fn closure(
    root: &Utf8Path,
    programs: &[String],
) -> Result<BTreeMap<String, Utf8PathBuf>, MediaError> {
    let mut files = BTreeMap::new();
    let mut waiting = Vec::new();
    for program in programs {
        let file = tree::resolve(root, program).ok_or_else(|| {
            MediaError::unusable(root, "set of programs", format!("{program} is not in it"))
        })?;
        waiting.push((program.clone(), file));
    }
    while let Some((path, file)) = waiting.pop() {
        if files.contains_key(&path) {
            continue;
        }
        if files.len() > LIBRARIES_MAX {
            return Err(MediaError::unusable(
                root,
                "set of programs",
                "they need too many libraries",
            ));
        }
        let bytes = tree::read(&file, ELF_BYTES_MAX)?;
        let needs = parse_needs(&bytes)
            .map_err(|reason| MediaError::unusable(&file, "program or library", reason))?;
        for library in needs.libraries {
            let found = LIBRARY_FOLDERS.iter().find_map(|folder| {
                Some((
                    *folder,
                    tree::resolve(root, &format!("{folder}/{library}"))?,
                ))
            });
            let Some((folder, file)) = found else {
                return Err(MediaError::unusable(
                    file,
                    "program",
                    format!("it needs {library}, which is not there"),
                ));
            };
            waiting.push((format!("{folder}/{library}"), file));
        }
        if let Some(interpreter) = needs.interpreter {
            let file = tree::resolve(root, &interpreter).ok_or_else(|| {
                MediaError::unusable(
                    &file,
                    "program",
                    format!("its loader {interpreter} is not there"),
                )
            })?;
            waiting.push((interpreter, file));
        }
        files.insert(path, file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::{closure, parse_needs};
    use camino::Utf8Path;
    use proptest::prelude::*;

    #[test]
    fn the_closure_of_a_program_of_this_system_is_complete() {
        let files = closure(Utf8Path::new("/"), &["/bin/sh".to_owned()]).expect("closure");
        assert!(files.contains_key("/bin/sh"));
        assert!(
            files.keys().any(|path| path.ends_with("/libc.so.6")),
            "{files:?}"
        );
        assert!(files.contains_key("/lib64/ld-linux-x86-64.so.2"));
        assert!(closure(Utf8Path::new("/"), &["/bin/no-such-program".to_owned()]).is_err());
        assert!(
            closure(Utf8Path::new("/"), &["/etc/passwd".to_owned()]).is_err(),
            "not an ELF file"
        );
    }

    proptest! {
        #[test]
        fn damaged_files_never_panic(
            flips in prop::collection::vec((0_usize..4096, any::<u8>()), 1..20),
            cut in 0_usize..200_000,
        ) {
            let mut bytes = std::fs::read("/bin/sh").expect("a shell");
            for (at, value) in flips {
                bytes[at] = value;
            }
            bytes.truncate(cut);
            let _ = parse_needs(&bytes);
        }
    }
}
