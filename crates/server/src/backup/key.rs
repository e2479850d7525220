//! The two parts of a key: one makes backups, one opens them.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::str::FromStr;

use age::secrecy::ExposeSecret as _;
use camino::Utf8Path;

use super::error::{BackupError, failed};

/// A key has one line, and may have comments.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// Opens backups.
#[derive(Clone)]
pub struct Key(pub(super) age::x25519::Identity);

/// The public part of a key: makes backups, and opens none.
#[derive(Clone)]
pub struct Recipient(pub(super) age::x25519::Recipient);

impl Key {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// What backups are made with.
    #[must_use]
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// The text of a key file. A secret.
    #[must_use]
    pub fn secret_text(&self) -> String {
        format!(
            "# public key: {}\n{}\n",
            self.recipient(),
            self.0.to_string().expose_secret()
        )
    }

    /// Reads a key file, as this program or `age-keygen` writes it.
    ///
    /// # Errors
    /// If it can't be read or isn't one.
    pub fn load(path: &Utf8Path) -> Result<Self, BackupError> {
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(KEY_BYTES_MAX).read_to_end(&mut text))
            .map_err(failed("read", path))?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Result<Self, BackupError> {
        let mut lines = text.lines().map(str::trim);
        lines
            .find(|line| !line.is_empty() && !line.starts_with('#'))
            .and_then(|line| line.parse().ok())
            .map(Self)
            .ok_or(BackupError::NoKey {
                what: "key: a line of it begins with AGE-SECRET-KEY-1",
            })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.recipient())
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

impl FromStr for Recipient {
    type Err = BackupError;

    fn from_str(text: &str) -> Result<Self, BackupError> {
        let recipient = text.trim().parse().map_err(|_| BackupError::NoKey {
            what: "public key: it begins with age1",
        })?;
        Ok(Self(recipient))
    }
}

#[cfg(test)]
mod tests {
    use super::{Key, Recipient};

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_shown() {
        let key = Key::generate();
        let public = key.recipient().to_string();
        let read = Key::parse(&key.secret_text()).unwrap();
        assert_eq!(read.recipient().to_string(), public);
        assert_eq!(public.parse::<Recipient>().unwrap().to_string(), public);
        assert!(!format!("{read:?}").contains("SECRET"));
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        let public = Key::generate().recipient().to_string();
        for text in ["", "# nothing\n", "hemmelig\n", &public] {
            let error = Key::parse(text).unwrap_err().to_string();
            assert!(error.contains("AGE-SECRET-KEY-1"), "{error}");
            assert!(!error.contains("hemmelig"), "{error}");
        }
        for text in ["age1", "hemmelig", "ssh-ed25519 AAAA"] {
            let error = text.parse::<Recipient>().unwrap_err().to_string();
            assert!(
                error.contains("age1") && !error.contains("hemmelig"),
                "{error}"
            );
        }
    }
}
