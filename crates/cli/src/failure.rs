//! What a person sees when a command can't do its work: what, why, what to do; and the exit code scripts rely on.

use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

use client::ClientError;
use media::error::MediaError;

use crate::output::clean;

/// Everything asked for was done.
pub(crate) const EXIT_OK: u8 = 0;
/// The work failed: a server that can't be reached, a file that can't be read, a run that ended in an error.
pub(crate) const EXIT_WORK_FAILED: u8 = 1;
/// The command line was wrong, or the program isn't set up for this command (such as: not logged in).
pub(crate) const EXIT_WRONG_USAGE: u8 = 2;
/// Nothing was done because doing it could destroy something.
pub(crate) const EXIT_REFUSED: u8 = 3;

/// A cause chain longer than this is a loop.
const CAUSES_MAX: usize = 16;

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    what: String,
    hint: Option<String>,
    exit: u8,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// What every command answers.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// The work failed: `what` says what was tried, with which thing.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: None,
            exit: EXIT_WORK_FAILED,
            source: None,
        }
    }

    /// The command was used in a wrong way.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self {
            exit: EXIT_WRONG_USAGE,
            ..Self::new(what)
        }
    }

    /// Refused for safety: nothing was done.
    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self {
            exit: EXIT_REFUSED,
            ..Self::new(what)
        }
    }

    /// Adds what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds why.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The code the program ends with.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit)
    }

    /// The three parts, one per line; control characters from outside are made visible, never sent to the terminal.
    pub(crate) fn render(&self) -> String {
        let mut text = format!("error: {}\n", clean(&self.what));
        let mut hint = self.hint.clone();
        let mut next = self.source();
        for _ in 0..CAUSES_MAX {
            let Some(error) = next else { break };
            let _ = writeln!(text, "  cause: {}", clean(&error.to_string()));
            hint = hint.or_else(|| hint_of(error));
            next = error.source();
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "  hint: {}", clean(&hint));
        }
        text
    }
}

/// What to do about an error of another crate.
fn hint_of(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    if let Some(error) = error.downcast_ref::<MediaError>() {
        return error.hint().map(ToOwned::to_owned);
    }
    match error.downcast_ref::<ClientError>()? {
        ClientError::Refused { error, .. } if error.hint.is_some() => error.hint.clone(),
        ClientError::Refused { status: 401, .. } => {
            Some("the token is no longer good: `forestage login` makes a new one".to_owned())
        }
        ClientError::Unreachable { .. } => {
            Some("see that `forestage serve` runs there and that `forestage status` shows the right address".into())
        }
        _ => None,
    }
}

/// Says what was tried when something fails.
pub(crate) trait Trying<T> {
    /// Wraps the error: `what` is lowercase, names the thing, and never repeats the cause.
    fn trying(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> Trying<T> for Result<T, E> {
    fn trying(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure::new(what()).because(error))
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Trying};

    #[test]
    fn an_error_has_three_parts() {
        let inner: Result<(), _> = Err(std::io::Error::other("the disk is \u{1b}[31mfull"));
        let failure = inner
            .trying(|| "cannot write /tmp/x".into())
            .unwrap_err()
            .hint("make room");
        assert_eq!(
            failure.render(),
            "error: cannot write /tmp/x\n  cause: the disk is \u{fffd}[31mfull\n  hint: make room\n"
        );
    }

    #[test]
    fn the_hint_of_a_cause_is_shown() {
        let failure = Failure::new("outer").because(Failure::new("inner").hint("do this"));
        assert_eq!(
            failure.render(),
            "error: outer\n  cause: inner\n  hint: do this\n"
        );
    }
}
