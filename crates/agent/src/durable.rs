//! Files that are there whole, or not at all: written aside, synced, renamed, synced again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;

use camino::Utf8Path;

/// Writes a file durably. Its folder is made if need be.
pub(crate) fn write(path: &Utf8Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path without a folder"))?;
    fs::create_dir_all(folder)?;
    let aside = folder.join(format!(".{}.new", path.file_name().unwrap_or("file")));
    // One left over from a power cut would keep its old mode.
    if let Err(error) = fs::remove_file(&aside)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&aside, path)?;
    File::open(folder)?.sync_all()
}

/// Reads a file of at most `bytes_max`; `None` if there is none.
pub(crate) fn read(path: &Utf8Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{path} is longer than {bytes_max} bytes"),
        ));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn written_whole_with_its_mode_over_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path())
            .unwrap()
            .join("a/device.key");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path.with_file_name(".device.key.new"), b"torn").unwrap();
        write(&path, b"secret", 0o600).unwrap();
        assert_eq!(read(&path, 6).unwrap().unwrap(), b"secret");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(read(&path, 5).is_err());
        assert_eq!(read(Utf8Path::new("/nonexistent/x"), 5).unwrap(), None);
    }
}
