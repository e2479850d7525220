//! Random secrets, their digests, and files that only we may read.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use camino::Utf8Path;

use crate::error::Failure;

/// Letters of a one-time password: no two look alike.
const PASSWORD_LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz234567890";
/// 20 letters of 5 bits: nobody guesses 100 bits before it is changed.
const PASSWORD_CHARS: usize = 20;

/// 256 random bits.
pub(crate) fn random() -> Result<[u8; 32], Failure> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|source| Failure::System {
        what: "get random bytes",
        source: source.into(),
    })?;
    Ok(bytes)
}

/// 256 random bits as 64 hexadecimal digits.
pub(crate) fn random_hex() -> Result<String, Failure> {
    Ok(hex(&random()?))
}

/// A random password that a person can type.
pub(crate) fn random_password() -> Result<String, Failure> {
    let bytes = random()?;
    let letters = bytes
        .iter()
        .take(PASSWORD_CHARS)
        .map(|byte| char::from(PASSWORD_LETTERS[usize::from(byte & 31)]));
    let mut text = String::new();
    for (at, letter) in letters.enumerate() {
        if at > 0 && at % 5 == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    Ok(text)
}

/// What is stored of a token. A token has 256 random bits, so a plain digest is enough.
pub(crate) fn digest(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Exactly `N` bytes from `2 N` hexadecimal digits.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(bytes)
}

/// Writes a file durably and all at once: aside, synced, renamed, folder synced.
pub(crate) fn write_durably(path: &Utf8Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |what: &'static str| {
        let path = path.to_owned();
        move |source: std::io::Error| Failure::File { what, path, source }
    };
    let aside = Utf8Path::new(path.as_str()).with_extension("new");
    // A file that a crash left over may have other permissions.
    if let Err(error) = std::fs::remove_file(&aside)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed("replace")(error));
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&aside)
        .map_err(failed("create"))?;
    file.write_all(bytes).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    std::fs::rename(&aside, path).map_err(failed("rename"))?;
    sync_parent(path)
}

/// 256 secret bits that stay the same: read from `path`, made at the first time.
pub(crate) fn seed(path: &Utf8Path) -> Result<[u8; 32], Failure> {
    match known_seed(path) {
        Err(Failure::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let seed = random()?;
            write_durably(path, hex(&seed).as_bytes(), 0o600)?;
            Ok(seed)
        }
        known => known,
    }
}

/// 256 secret bits that were made before.
pub(crate) fn known_seed(path: &Utf8Path) -> Result<[u8; 32], Failure> {
    let failed = |source| Failure::File {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    unhex::<32>(text.trim()).ok_or_else(|| {
        failed(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "not 64 hexadecimal digits",
        ))
    })
}

/// Removes a secret for good; that it is gone already is fine.
pub(crate) fn remove(path: &Utf8Path) -> Result<(), Failure> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Failure::File {
            what: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => sync_parent(path),
    }
}

/// Makes a rename in the folder of `path` durable.
pub(crate) fn sync_parent(path: &Utf8Path) -> Result<(), Failure> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| Failure::File {
            what: "sync",
            path: folder.to_owned(),
            source,
        })
}

/// Makes a folder that only we may enter.
pub(crate) fn private_folder(path: &Utf8Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Failure::File {
            what: "create",
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::{hex, random_password, unhex, write_durably};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn hexadecimal_digits_round_trip_and_nothing_else_is_read() {
        assert_eq!(unhex::<3>(&hex(&[0, 0x1f, 0xff])), Some([0, 0x1f, 0xff]));
        assert_eq!(unhex::<3>("00ff"), None);
        assert_eq!(unhex::<2>("+1ff"), None);
        assert_eq!(unhex::<1>("é"), None);
    }

    #[test]
    fn a_random_password_is_long_and_new_each_time() {
        let one = random_password().unwrap();
        assert_eq!(one.len(), 23);
        assert_ne!(one, random_password().unwrap());
    }

    #[test]
    fn a_secret_file_is_for_us_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = camino::Utf8PathBuf::from_path_buf(folder.path().join("key")).unwrap();
        write_durably(&path, b"one", 0o600).unwrap();
        write_durably(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
