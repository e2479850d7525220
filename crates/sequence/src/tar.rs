//! A tar archive, written in memory: enough of ustar (POSIX.1-1988) for a few log files.
//!
//! *Absent:* reading, folders, links, owners, times. The clock of an unboxed laptop is wrong, so every file is from 1970.

const BLOCK_BYTES: usize = 512;
const NAME_BYTES_MAX: usize = 100;
const PREFIX_BYTES_MAX: usize = 155;
/// What twelve octal digits less one hold; a reader may take the twelfth for the end of the text.
const FILE_BYTES_MAX: u64 = 0o777_7777_7777;

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

/// The name is too long, or the file is.
#[derive(Debug)]
pub(crate) struct TooLong;

impl Tar {
    /// How long it is so far.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a file.
    pub(crate) fn add(&mut self, path: &str, bytes: &[u8]) -> Result<(), TooLong> {
        let (prefix, name) = split(path).ok_or(TooLong)?;
        let size = bytes.len() as u64;
        if size > FILE_BYTES_MAX {
            return Err(TooLong);
        }
        let mut header = [0; BLOCK_BYTES];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, name.as_bytes());
        put(100, b"0000640\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"00000000000\0");
        // The checksum is that of a header with spaces in its place.
        put(148, b"        ");
        put(156, b"0");
        put(257, b"ustar\x0000");
        put(345, prefix.as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(bytes);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        Ok(())
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK_BYTES, 0);
        self.bytes
    }
}

/// A path as ustar holds it: what is before some `/`, and what is behind it.
fn split(path: &str) -> Option<(&str, &str)> {
    if path.len() <= NAME_BYTES_MAX {
        return Some(("", path));
    }
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .find(|(prefix, name)| {
            (1..=NAME_BYTES_MAX).contains(&name.len())
                && (1..=PREFIX_BYTES_MAX).contains(&prefix.len())
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::Tar;

    /// What the host's tar makes of it.
    fn listed(tar: Tar) -> String {
        let mut child = Command::new("tar")
            .args([
                "--list",
                "--verbose",
                "--numeric-owner",
                "--utc",
                "--file=-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs tar");
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&tar.finish())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn tar_reads_it() {
        let long = format!("{}/{}.log", "folder".repeat(20), "file".repeat(20));
        let mut tar = Tar::default();
        tar.add("var/log/dpkg.log", &[b'x'; 600]).unwrap();
        tar.add(&long, b"").unwrap();
        tar.add("etc/b", b"12345").unwrap();
        assert_eq!(
            listed(tar),
            format!(
                "-rw-r----- 0/0             600 1970-01-01 00:00 var/log/dpkg.log\n\
                 -rw-r----- 0/0               0 1970-01-01 00:00 {long}\n\
                 -rw-r----- 0/0               5 1970-01-01 00:00 etc/b\n"
            )
        );
        assert_eq!(listed(Tar::default()), "");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let mut tar = Tar::default();
        assert!(tar.add(&"x".repeat(101), b"").is_err());
        assert!(tar.add(&format!("{}/x", "y".repeat(156)), b"").is_err());
        assert_eq!(tar.len(), 0);
    }
}
