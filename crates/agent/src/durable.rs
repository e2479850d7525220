//! Files that are there whole, or not at all: written aside, synced, renamed, synced again. And JSON that tells when a disk has
//! changed a bit of it.

use std::io;

use camino::Utf8Path;
use wire::digest::Digest;

use crate::files::Files;

/// What a checked document begins with.
const CHECKSUM: &[u8] = b"{\"checksum\":\"";
/// How many hexadecimal digits of the BLAKE3 digest it has: 64 bits find every accident.
const CHECKSUM_DIGITS: usize = 16;

/// Writes a file durably. Its folder is made if need be.
pub(crate) fn write(files: &dyn Files, path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a folder"))?;
    files.make_folder(folder)?;
    let aside = folder.join(format!(".{}.new", path.file_name().unwrap_or("file")));
    // One left over from a power cut would keep its old mode.
    files.remove(&aside)?;
    let mut file = files.create(&aside, mode)?;
    file.write(bytes)?;
    file.sync()?;
    drop(file);
    files.rename(&aside, path)?;
    files.sync_folder(folder)
}

/// Puts a checksum of a JSON object in front of its first member. Who doesn't know of it passes over it, as over every
/// unknown member.
pub(crate) fn with_checksum(object: &[u8]) -> Vec<u8> {
    let members = object.strip_prefix(b"{").unwrap_or(object);
    [CHECKSUM, checksum(object).as_bytes(), b"\",", members].concat()
}

/// The object as it was before [`with_checksum`]; `None` if a bit of it has changed since. One without a checksum was written by
/// an older release, and is as it is.
pub(crate) fn without_checksum(bytes: &[u8]) -> Option<Vec<u8>> {
    let Some(rest) = bytes.strip_prefix(CHECKSUM) else {
        return Some(bytes.to_vec());
    };
    let (digits, rest) = rest.split_at_checked(CHECKSUM_DIGITS)?;
    let object = [b"{", rest.strip_prefix(b"\",")?].concat();
    (checksum(&object).as_bytes() == digits).then_some(object)
}

fn checksum(object: &[u8]) -> String {
    let mut digits = Digest::of(object).to_string();
    digits.truncate(CHECKSUM_DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::SystemFiles;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn written_whole_with_its_mode_over_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path())
            .unwrap()
            .join("a/device.key");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_file_name(".device.key.new"), b"torn").unwrap();
        write(&SystemFiles, &path, b"secret", 0o600).unwrap();
        assert_eq!(SystemFiles.read(&path, 6).unwrap().unwrap(), b"secret");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(SystemFiles.read(&path, 5).is_err());
        let missing = Utf8Path::new("/nonexistent/x");
        assert_eq!(SystemFiles.read(missing, 5).unwrap(), None);
    }

    #[test]
    fn a_checksum_is_one_more_member() {
        let object = br#"{"name":"bl\u00e5b\u00e6r"}"#;
        let checked = with_checksum(object);
        let value: serde_json::Value = serde_json::from_slice(&checked).unwrap();
        assert_eq!(value["name"], "blåbær");
        assert_eq!(without_checksum(&checked).unwrap(), object);
        assert_eq!(without_checksum(object).unwrap(), object, "an old one");
        let mut damaged = checked;
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(without_checksum(&damaged), None);
    }
}
