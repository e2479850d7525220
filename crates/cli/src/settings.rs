//! What the program remembers between two commands: one server, its certificate authority and a token.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use client::Client;
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Outcome, Trying};

/// No settings file is longer; a CA certificate has about 1 KiB.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;
/// A server that syncs a large upload to a slow disk may be silent for so long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The settings file: `$FORESTAGE_CONFIG`, or `config.json` in `~/.config/forestage`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The server's base URL.
    pub(crate) url: String,
    /// The only certificate authority we trust, as PEM.
    pub(crate) ca_pem: String,
    /// The API token.
    pub(crate) token: String,
}

impl Settings {
    /// Reads the settings.
    pub(crate) fn load() -> Outcome<Self> {
        let path = path()?;
        match read_limited(&path, SETTINGS_BYTES_MAX) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| Failure::usage(format!("cannot understand {path}")).because(error))
                .map_err(|failure| failure.hint("log in again: `forestage login URL --ca FILE`")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(Failure::usage("not logged in")
                    .because(Failure::new(format!("there is no {path}")))
                    .hint("`forestage login URL --ca FILE` logs in; `forestage serve` prints both"))
            }
            Err(error) => Err(Failure::new(format!("cannot read {path}")).because(error)),
        }
    }

    /// Stores the settings, readable by nobody else.
    pub(crate) fn store(&self) -> Outcome<Utf8PathBuf> {
        let path = path()?;
        let text =
            serde_json::to_vec_pretty(self).trying(|| "cannot write settings as JSON".into())?;
        write_private(&path, &text).trying(|| format!("cannot write {path}"))?;
        Ok(path)
    }

    /// Forgets the settings; says whether there were any.
    pub(crate) fn forget() -> Outcome<bool> {
        let path = path()?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::new(format!("cannot delete {path}")).because(error)),
        }
    }

    /// A connection to the server with these settings.
    pub(crate) fn connect(&self) -> Outcome<Client> {
        let client = Client::new(&self.url, &self.ca_pem, ANSWER_TIMEOUT)
            .trying(|| format!("cannot prepare a connection to {}", self.url))?;
        Ok(client.with_token(&self.token))
    }
}

/// A connection to the server we are logged in to.
pub(crate) fn connect() -> Outcome<Client> {
    Settings::load()?.connect()
}

/// A connection before the login.
pub(crate) fn connect_anonymously(url: &str, ca_pem: &str) -> Outcome<Client> {
    Client::new(url, ca_pem, ANSWER_TIMEOUT)
        .trying(|| format!("cannot prepare a connection to {url}"))
}

/// Where the settings are.
pub(crate) fn path() -> Outcome<Utf8PathBuf> {
    if let Some(path) = folder_from("FORESTAGE_CONFIG") {
        return Ok(path);
    }
    let base =
        folder_from("XDG_CONFIG_HOME").or_else(|| Some(folder_from("HOME")?.join(".config")));
    base.map(|base| base.join("forestage/config.json"))
        .ok_or_else(|| {
            Failure::usage("cannot find your configuration folder")
                .hint("set HOME or FORESTAGE_CONFIG")
        })
}

/// Where downloads and prepared content are kept between commands.
pub(crate) fn cache_folder() -> Outcome<Utf8PathBuf> {
    let base = folder_from("FORESTAGE_CACHE")
        .or_else(|| Some(folder_from("XDG_CACHE_HOME")?.join("forestage")))
        .or_else(|| Some(folder_from("HOME")?.join(".cache/forestage")));
    let folder = base.ok_or_else(|| {
        Failure::usage("cannot find your cache folder").hint("set HOME or FORESTAGE_CACHE")
    })?;
    std::fs::create_dir_all(&folder).trying(|| format!("cannot make the folder {folder}"))?;
    Ok(folder)
}

/// A folder that goes away with this value.
pub(crate) struct TemporaryFolder {
    /// Where it is.
    pub(crate) path: Utf8PathBuf,
    _guard: tempfile::TempDir,
}

/// Makes a folder in the cache (on a disk: `/tmp` is often in memory) that goes away when it isn't needed any more.
pub(crate) fn temporary_folder() -> Outcome<TemporaryFolder> {
    let cache = cache_folder()?;
    let guard = tempfile::Builder::new()
        .prefix("work-")
        .tempdir_in(&cache)
        .trying(|| format!("cannot make a temporary folder in {cache}"))?;
    let path = Utf8PathBuf::from_path_buf(guard.path().to_owned())
        .map_err(|path| Failure::new(format!("the path {} is not UTF-8", path.display())))?;
    Ok(TemporaryFolder {
        path,
        _guard: guard,
    })
}

fn folder_from(variable: &str) -> Option<Utf8PathBuf> {
    std::env::var(variable)
        .ok()
        .filter(|text| !text.is_empty())
        .map(Utf8PathBuf::from)
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read_limited(path: &Utf8Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(std::io::Error::other(format!(
            "it is longer than {bytes_max} bytes"
        )));
    }
    Ok(bytes)
}

/// Reads a text file of at most `bytes_max` bytes.
pub(crate) fn read_text(path: &Utf8Path, bytes_max: u64) -> Outcome<String> {
    let bytes = read_limited(path, bytes_max).trying(|| format!("cannot read {path}"))?;
    String::from_utf8(bytes).trying(|| format!("{path} is not UTF-8 text"))
}

/// Writes a file that only its owner may read: aside, synced, renamed, synced again.
pub(crate) fn write_private(path: &Utf8Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let aside = Utf8PathBuf::from(format!("{path}.{}.new", std::process::id()));
    let written = write_new(&aside, bytes).and_then(|()| std::fs::rename(&aside, path));
    if let Err(error) = written {
        // The first error is the one to tell; a leftover file aside does no harm.
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    std::fs::File::open(folder)?.sync_all()
}

fn write_new(path: &Utf8Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
