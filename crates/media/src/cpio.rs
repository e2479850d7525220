//! The kernel's initramfs format (cpio "newc"), written without root: device nodes are just header fields.
//!
//! Deterministic: entries are sorted by path, times are zero, owners are root. Reading all of it is left to the kernel.

use std::collections::BTreeMap;

/// `S_IFDIR | 0755`.
const FOLDER_MODE: u32 = 0o040_755;

/// What stands in front of each entry: a magic and thirteen numbers.
const HEADER_BYTES: usize = 110;

/// A file that cannot stand in such an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} cannot be put into the initrd: {reason}")]
pub struct CpioError {
    /// Which one.
    pub path: String,
    /// Why not.
    pub reason: &'static str,
}

#[derive(Debug, Clone)]
struct Entry {
    mode: u32,
    device: (u32, u32),
    bytes: Vec<u8>,
}

/// An archive being put together. Paths are absolute; missing parent folders are made.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// Adds a folder.
    ///
    /// # Errors
    /// If the path is malformed or taken.
    pub fn folder(&mut self, path: &str) -> Result<(), CpioError> {
        let name = self.parents(path)?;
        self.insert_folder(name)
    }

    /// Adds a file with these permission bits.
    ///
    /// # Errors
    /// If the path is malformed or taken, or the file longer than 4 GiB.
    pub fn file(&mut self, path: &str, permissions: u32, bytes: Vec<u8>) -> Result<(), CpioError> {
        self.add(
            path,
            Entry {
                mode: 0o100_000 | (permissions & 0o7777),
                device: (0, 0),
                bytes,
            },
        )
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// If the path is malformed or taken.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), CpioError> {
        self.add(
            path,
            Entry {
                mode: 0o120_777,
                device: (0, 0),
                bytes: target.as_bytes().to_vec(),
            },
        )
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// If the path is malformed or taken.
    pub fn device(
        &mut self,
        path: &str,
        permissions: u32,
        major: u32,
        minor: u32,
    ) -> Result<(), CpioError> {
        let entry = Entry {
            mode: 0o020_000 | (permissions & 0o7777),
            device: (major, minor),
            bytes: Vec::new(),
        };
        self.add(path, entry)
    }

    /// The archive's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (name, entry)) in (1_u32..).zip(&self.entries) {
            write_entry(&mut out, number, name, entry);
        }
        write_entry(
            &mut out,
            0,
            "TRAILER!!!",
            &Entry {
                mode: 0,
                device: (0, 0),
                bytes: Vec::new(),
            },
        );
        out.resize(out.len().next_multiple_of(512), 0);
        out
    }

    fn add(&mut self, path: &str, entry: Entry) -> Result<(), CpioError> {
        let name = self.parents(path)?;
        if u32::try_from(entry.bytes.len()).is_err() {
            return Err(CpioError {
                path: path.into(),
                reason: "it is longer than 4 GiB",
            });
        }
        if self.entries.insert(name.clone(), entry).is_some() {
            return Err(CpioError {
                path: path.into(),
                reason: "something else has this path",
            });
        }
        Ok(())
    }

    /// Makes the parent folders and returns the path without its leading slash.
    fn parents(&mut self, path: &str) -> Result<String, CpioError> {
        let bad = |reason| CpioError {
            path: path.into(),
            reason,
        };
        let name = path
            .strip_prefix('/')
            .ok_or_else(|| bad("the path is not absolute"))?;
        if name
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..")
            || name.contains('\0')
        {
            return Err(bad("the path is malformed"));
        }
        for (at, _) in name.match_indices('/') {
            self.insert_folder(name[..at].to_owned())?;
        }
        Ok(name.to_owned())
    }

    fn insert_folder(&mut self, name: String) -> Result<(), CpioError> {
        let folder = Entry {
            mode: FOLDER_MODE,
            device: (0, 0),
            bytes: Vec::new(),
        };
        let entry = self.entries.entry(name.clone()).or_insert(folder);
        if entry.mode == FOLDER_MODE {
            return Ok(());
        }
        Err(CpioError {
            path: format!("/{name}"),
            reason: "it is needed as a folder and is something else",
        })
    }
}

fn write_entry(out: &mut Vec<u8>, number: u32, name: &str, entry: &Entry) {
    let is_folder = entry.mode & 0o170_000 == 0o040_000;
    let name_bytes = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
    let file_bytes = u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX);
    let (major, minor) = entry.device;
    // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), length of the name, checksum
    let fields = [
        number,
        entry.mode,
        0,
        0,
        1 + u32::from(is_folder),
        0,
        file_bytes,
        0,
        0,
        major,
        minor,
        name_bytes,
        0,
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(&entry.bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// The bytes of the file at the absolute path `path` in an archive; `None` if it isn't in it, or the archive is damaged.
#[must_use]
pub fn file_in<'a>(archive: &'a [u8], path: &str) -> Option<&'a [u8]> {
    let wanted = path.trim_start_matches('/').as_bytes();
    let mut at = 0_usize;
    loop {
        let header = archive.get(at..at.checked_add(HEADER_BYTES)?)?;
        if !header.starts_with(b"070701") {
            return None;
        }
        let field = |index: usize| {
            let digits = std::str::from_utf8(header.get(6 + index * 8..14 + index * 8)?).ok()?;
            usize::from_str_radix(digits, 16).ok()
        };
        let (file_bytes, name_bytes) = (field(6)?, field(11)?);
        let name_at = at + HEADER_BYTES;
        let name = archive.get(name_at..name_at.checked_add(name_bytes)?)?;
        let name = name.strip_suffix(&[0])?;
        let file_at = name_at
            .checked_add(name_bytes)?
            .checked_next_multiple_of(4)?;
        let file_end = file_at.checked_add(file_bytes)?;
        if name == wanted {
            return archive.get(file_at..file_end);
        }
        if name == b"TRAILER!!!" {
            return None;
        }
        at = file_end.checked_next_multiple_of(4)?;
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, file_in};

    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Reads an archive as the kernel does: name, mode, device, content.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let whole = bytes.len();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text =
                    std::str::from_utf8(&bytes[6 + index * 8..14 + index * 8]).expect("digits");
                u32::from_str_radix(text, 16).expect("hexadecimal")
            };
            let (file_bytes, name_bytes) = (field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_bytes - 1].to_vec()).expect("text");
            let at = whole - bytes.len();
            let start = (at + 110 + name_bytes).next_multiple_of(4) - at;
            let next = (at + start + file_bytes).next_multiple_of(4) - at;
            if name == "TRAILER!!!" {
                return entries;
            }
            assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "owner and time");
            entries.push((
                name,
                field(1),
                (field(9), field(10)),
                bytes[start..start + file_bytes].to_vec(),
            ));
            bytes = &bytes[next..];
        }
    }

    #[test]
    fn what_was_written_is_read_sorted_with_parents() {
        let mut archive = Archive::default();
        archive
            .file("/usr/bin/tool", 0o755, b"hello".to_vec())
            .expect("file");
        archive.device("/dev/console", 0o600, 5, 1).expect("device");
        archive.link("/bin", "usr/bin").expect("link");
        archive.folder("/proc").expect("folder");
        let folder = |name: &str| (name.to_owned(), 0o040_755, (0, 0), Vec::new());
        assert_eq!(
            read(&archive.bytes()),
            [
                ("bin".to_owned(), 0o120_777, (0, 0), b"usr/bin".to_vec()),
                folder("dev"),
                ("dev/console".to_owned(), 0o020_600, (5, 1), Vec::new()),
                folder("proc"),
                folder("usr"),
                folder("usr/bin"),
                (
                    "usr/bin/tool".to_owned(),
                    0o100_755,
                    (0, 0),
                    b"hello".to_vec()
                ),
            ]
        );
    }

    #[test]
    fn one_file_is_found_and_a_damaged_archive_has_none() {
        let mut archive = Archive::default();
        archive
            .file("/etc/forestage/trust.json", 0o644, b"{}!".to_vec())
            .expect("a file");
        archive
            .file("/init", 0o755, b"agent".to_vec())
            .expect("a file");
        let bytes = archive.bytes();
        assert_eq!(
            file_in(&bytes, "/etc/forestage/trust.json"),
            Some(&b"{}!"[..])
        );
        assert_eq!(file_in(&bytes, "/init"), Some(&b"agent"[..]));
        assert_eq!(file_in(&bytes, "/etc/forestage"), Some(&b""[..]));
        assert_eq!(file_in(&bytes, "/etc"), Some(&b""[..]));
        assert_eq!(file_in(&bytes, "/none"), None);
        for end in 0..bytes.len() {
            let _nothing_panics = file_in(&bytes[..end], "/none");
            let mut flipped = bytes.clone();
            flipped[end] ^= 0x11;
            let _nothing_panics = file_in(&flipped, "/init");
        }
    }

    #[test]
    fn paths_are_checked() {
        let mut archive = Archive::default();
        assert!(archive.file("relative", 0o644, Vec::new()).is_err());
        assert!(archive.file("/a/../b", 0o644, Vec::new()).is_err());
        archive.file("/a", 0o644, Vec::new()).expect("file");
        assert!(archive.file("/a", 0o644, Vec::new()).is_err(), "taken");
        assert!(
            archive.file("/a/b", 0o644, Vec::new()).is_err(),
            "not a folder"
        );
    }

    #[test]
    fn order_of_adding_does_not_matter() {
        let (mut one, mut two) = (Archive::default(), Archive::default());
        one.file("/a/b", 0o644, vec![1]).expect("file");
        one.file("/c", 0o644, vec![2]).expect("file");
        two.file("/c", 0o644, vec![2]).expect("file");
        two.file("/a/b", 0o644, vec![1]).expect("file");
        assert_eq!(one.bytes(), two.bytes());
    }
}
