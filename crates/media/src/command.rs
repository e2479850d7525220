//! Runs external programs: the one door to them in this crate.
//!
//! Output is captured; an error carries the last lines of what the program said. Nothing goes through a shell.

use std::io;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

/// The end of a long log says what went wrong; more would hide it.
const LAST_LINES: usize = 15;

/// A program that could not be run, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} ended with {status}; it said: {said}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines of what it said.
        said: String,
    },
}

/// A program to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    name: String,
    args: Vec<String>,
    folder: Option<Utf8PathBuf>,
    env: Vec<(String, String)>,
}

impl Program {
    pub(crate) fn new(name: &str) -> Self {
        // Programs for administrators are not on every user's PATH, and their messages must be the ones we can read.
        let path = std::env::var("PATH").unwrap_or_default();
        let env = vec![
            ("PATH".into(), format!("{path}:/usr/sbin:/sbin")),
            ("LC_ALL".into(), "C.UTF-8".into()),
        ];
        Self {
            name: name.into(),
            args: Vec::new(),
            folder: None,
            env,
        }
    }

    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: Into<String>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub(crate) fn folder(mut self, folder: &Utf8Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it to its end and returns what it printed to stdout.
    pub(crate) fn run(self) -> Result<String, CommandError> {
        tracing::debug!(program = %self.name, args = ?self.args, "running {}", self.name);
        let mut command = Command::new(&self.name);
        command.args(&self.args).envs(self.env).stdin(Stdio::null());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let output = command.output().map_err(|source| CommandError::Start {
            program: self.name.clone(),
            source,
        })?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said = last_lines(if stderr.trim().is_empty() {
            &stdout
        } else {
            &stderr
        });
        Err(CommandError::Failed {
            program: self.name,
            status: output.status,
            said,
        })
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::{CommandError, Program};

    #[test]
    fn a_failing_program_tells_its_last_lines() {
        let error = Program::new("sh")
            .args([
                "-c",
                "for i in $(seq 40); do echo line $i >&2; done; exit 3",
            ])
            .run();
        let Err(CommandError::Failed { said, status, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(status.code(), Some(3));
        assert!(
            said.starts_with("line 26\n") && said.ends_with("line 40"),
            "{said}"
        );
        assert!(matches!(
            Program::new("no-such-program").run(),
            Err(CommandError::Start { .. })
        ));
    }

    #[test]
    fn arguments_are_data() {
        let printed = Program::new("printf")
            .args(["%s|", "a b", "$(id)", ";"])
            .run()
            .expect("printf runs");
        assert_eq!(printed, "a b|$(id)|;|");
    }
}
