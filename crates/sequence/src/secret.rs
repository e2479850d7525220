//! Secrets in memory: given to a program or written to a file once, and never shown.
//!
//! A [`Secret`] has no `Serialize`, and its `Debug` hides it, so that it can't come into a plan, an event or a log by way
//! of a derive. *Absent:* where secrets come from; that is [`Machine::secret`](crate::ports::Machine::secret).

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use wire::event::{LogLevel, ProgressUnit};

use crate::ports::Progress;

/// What stands in a log where a secret would.
const HIDDEN: &str = "[secret]";

/// A secret text. Its bytes are overwritten when it is dropped.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret over.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_bytes());
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Overwrites bytes that held a secret.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Nobody reads them any more; without this the compiler may leave the overwriting out.
    black_box(bytes);
}

/// Hides secrets in what a program prints: people debug scripts with `set -x`.
///
/// It finds a secret only as it is. A program that prints it in parts or encoded gives it away.
pub(crate) struct Hiding<'a> {
    inner: &'a dyn Progress,
    /// Programs are read line by line, so a secret of several lines is hidden line by line; longest first, lest a part
    /// of it be replaced before the whole.
    words: Vec<&'a str>,
}

impl<'a> Hiding<'a> {
    pub(crate) fn new(
        inner: &'a dyn Progress,
        secrets: impl IntoIterator<Item = &'a Secret>,
    ) -> Self {
        let mut words: Vec<&str> = secrets
            .into_iter()
            .flat_map(|secret| secret.expose().lines())
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self { inner, words }
    }

    /// The text without the secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.words
            .iter()
            .fold(text.to_owned(), |text, word| text.replace(word, HIDDEN))
    }
}

impl Progress for Hiding<'_> {
    fn report(&self, current: u64, total: u64, unit: ProgressUnit, message: &str) {
        self.inner.report(current, total, unit, &self.hide(message));
    }

    fn log(&self, level: LogLevel, text: &str) {
        self.inner.log(level, &self.hide(text));
    }

    fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled()
    }

    fn waited(&self, time: Duration) {
        self.inner.waited(time);
    }
}

#[cfg(test)]
mod tests {
    use super::{Hiding, Progress, Secret, wipe};

    struct Nobody;

    impl Progress for Nobody {
        fn report(&self, _: u64, _: u64, _: wire::event::ProgressUnit, _: &str) {}
        fn log(&self, _: wire::event::LogLevel, _: &str) {}
        fn is_cancelled(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "[secret]");
        let mut bytes = b"hunter2".to_vec();
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 7]);
    }

    #[test]
    fn secrets_are_hidden_where_they_are_printed() {
        let secrets =
            ["ab", "abc", "line one\n  line two\n", ""].map(|text| Secret::new(text.to_owned()));
        let hiding = Hiding::new(&Nobody, &secrets);
        assert_eq!(hiding.hide("x=abc y=ab"), "x=[secret] y=[secret]");
        assert_eq!(hiding.hide("+ echo line two"), "+ echo [secret]");
        assert_eq!(hiding.hide("nothing"), "nothing");
    }
}
