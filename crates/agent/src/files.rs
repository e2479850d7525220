//! The files on a staging partition. Whatever must outlive a power cut is written through this port, so that a test can
//! take away what wasn't synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use camino::Utf8Path;

/// Files and folders. What is written, renamed or removed is sure to be there after a power cut only once it was synced.
pub trait Files: Send + Sync {
    /// The bytes of a file of at most `bytes_max`; `None` if there is none.
    ///
    /// # Errors
    /// It can't be read, or is longer.
    fn read(&self, path: &Utf8Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>>;

    /// Whether there is something of this name.
    ///
    /// # Errors
    /// It can't be told.
    fn is_there(&self, path: &Utf8Path) -> io::Result<bool>;

    /// Makes a folder and those above it, if need be.
    ///
    /// # Errors
    /// It can't be made.
    fn make_folder(&self, path: &Utf8Path) -> io::Result<()>;

    /// Makes a file that isn't there yet.
    ///
    /// # Errors
    /// It can't be made.
    fn create(&self, path: &Utf8Path, mode: u32) -> io::Result<Box<dyn Written>>;

    /// Opens a file to write at its end; makes it if need be.
    ///
    /// # Errors
    /// It can't be opened.
    fn append(&self, path: &Utf8Path) -> io::Result<Box<dyn Written>>;

    /// Cuts a file off behind `length` bytes, and syncs it.
    ///
    /// # Errors
    /// It can't be cut.
    fn cut_off(&self, path: &Utf8Path, length: u64) -> io::Result<()>;

    /// Gives a file another name, in place of whatever had that.
    ///
    /// # Errors
    /// It can't be renamed.
    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// It is there and can't be removed.
    fn remove(&self, path: &Utf8Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    /// They may not be.
    fn sync_folder(&self, path: &Utf8Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait Written: Send {
    /// Writes all of `bytes` at the end.
    ///
    /// # Errors
    /// Some of it may not be written.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// It may not be.
    fn sync(&mut self) -> io::Result<()>;
}

/// The files of the running system.
pub(crate) struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Utf8Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
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

    fn is_there(&self, path: &Utf8Path) -> io::Result<bool> {
        fs::exists(path)
    }

    fn make_folder(&self, path: &Utf8Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn create(&self, path: &Utf8Path, mode: u32) -> io::Result<Box<dyn Written>> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(mode).open(path)?;
        Ok(Box::new(file))
    }

    fn append(&self, path: &Utf8Path) -> io::Result<Box<dyn Written>> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Box::new(file))
    }

    fn cut_off(&self, path: &Utf8Path, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Utf8Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_folder(&self, path: &Utf8Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl Written for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
