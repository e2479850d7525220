//! Where the database is. An address may hold a password, so it is never printed whole.

use std::fmt;
use std::str::FromStr;

use camino::Utf8Path;
use url::Url;

use crate::error::Failure;

/// The address of a PostgreSQL database. Printing it leaves out the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    url: Url,
}

/// A text that is no address of a database. The text isn't repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// No URL at all.
    #[error(
        "the address of the database is no URL such as postgres://forestage@db.example/forestage"
    )]
    NoUrl,
    /// The URL of something else.
    #[error("a database begins with postgres://, not with {scheme}://")]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// A password that can't be written into a URL.
    #[error("the address of the database can hold no password")]
    Password,
}

impl DatabaseUrl {
    /// Whether the address itself holds a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.url.password().is_some() || self.url.query_pairs().any(|(key, _)| key == "password")
    }

    /// The same with this password.
    ///
    /// # Errors
    /// If the address has no host that could ask for one.
    pub fn with_password(mut self, password: &str) -> Result<Self, DatabaseUrlError> {
        self.url
            .set_password(Some(password))
            .map_err(|()| DatabaseUrlError::Password)?;
        Ok(self)
    }

    /// With the password.
    pub(super) fn secret_text(&self) -> Result<String, Failure> {
        Ok(self.url.to_string())
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let url: Url = text.trim().parse().map_err(|_| DatabaseUrlError::NoUrl)?;
        match url.scheme() {
            "postgres" | "postgresql" => Ok(Self { url }),
            scheme => Err(DatabaseUrlError::Scheme {
                scheme: scheme.into(),
            }),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or("local socket");
        write!(f, "postgres://{host}{}", self.url.path())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The address of an SQLite file that is made if it isn't there.
pub(super) fn of_file(path: &Utf8Path) -> String {
    let mut text = String::from("sqlite://");
    for byte in path.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text.push_str("?mode=rwc");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_never_printed_with_its_password() {
        for text in [
            "postgres://forestage:hemmelig@db.example/forestage",
            "postgresql://db.example/forestage?user=forestage&password=hemmelig",
        ] {
            let url: DatabaseUrl = text.parse().unwrap();
            assert!(url.has_password());
            assert_eq!(url.to_string(), "postgres://db.example/forestage");
            assert!(!format!("{url:?}").contains("hemmelig"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for (text, expected) in [
            ("hemmelig", DatabaseUrlError::NoUrl),
            (
                "mysql://a:hemmelig@b/c",
                DatabaseUrlError::Scheme {
                    scheme: "mysql".into(),
                },
            ),
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("hemmelig"));
        }
    }

    #[test]
    fn a_password_can_be_added() {
        let url: DatabaseUrl = "postgres://forestage@db.example/forestage".parse().unwrap();
        assert!(!url.has_password());
        let url = url.with_password("a/b:c@d").unwrap();
        assert_eq!(
            url.secret_text().unwrap(),
            "postgres://forestage:a%2Fb%3Ac%40d@db.example/forestage"
        );
    }

    #[test]
    fn a_file_may_have_any_name() {
        assert_eq!(
            of_file(Utf8Path::new("/srv/blå bær?#%/forestage.db")),
            "sqlite:///srv/bl%C3%A5%20b%C3%A6r%3F%23%25/forestage.db?mode=rwc"
        );
    }
}
