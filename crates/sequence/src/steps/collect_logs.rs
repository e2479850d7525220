//! Packs logs of the OS for those who look for a fault later.

use std::fmt;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::{Environment, LogLevel};

use super::apply_files::is_plain_absolute;
use super::{CACHE_FOLDER, OnRestart, Outcome, PlanCx, Step, StepCx, command_failed};
use crate::ports::{Command, StepError, TargetFile};
use crate::problem::{Code, Problems};
use crate::size;
use crate::tar::Tar;

/// Enough for every log that a person reads.
const FILES_MAX: usize = 64;
/// What a staging partition can spare; a single file is at most 16 MiB, see [`Machine::read_file`].
///
/// [`Machine::read_file`]: crate::ports::Machine::read_file
const LOGS_BYTES_MAX: usize = 64 << 20;
/// One start of an OS writes some thousand lines.
const JOURNAL_LINES_MAX: &str = "--lines=20000";

/// Packs log files of the OS, and what its journal says about this start, into an archive on the staging partition. It
/// stays on the machine; the log says where.
///
/// Name no file that holds a secret. A file that isn't there or is too large (16 MiB each, 64 MiB in all) is left out
/// with a warning: logs are no reason to stop a run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CollectLogs {
    /// The files, absolute as the OS sees them, such as `/var/log/dpkg.log`.
    #[serde(default)]
    pub files: Vec<String>,
    /// Whether the journal is packed, too: that of this start in the OS, the newest lines in the boot image.
    #[serde(default = "yes")]
    pub journal: bool,
}

const fn yes() -> bool {
    true
}

/// What is packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The archive's name.
    pub archive: String,
    /// The files.
    pub files: Vec<Utf8PathBuf>,
    /// Whether the journal is packed, too.
    pub journal: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pack")?;
        for (index, file) in self.files.iter().enumerate() {
            write!(f, "{} {file}", if index == 0 { "" } else { "," })?;
        }
        match (self.files.is_empty(), self.journal) {
            (true, _) => f.write_str(" the journal")?,
            (false, true) => f.write_str(" and the journal")?,
            (false, false) => {}
        }
        write!(f, " into {}", self.archive)
    }
}

impl CollectLogs {
    fn mistake(&self) -> Option<String> {
        if self.files.is_empty() && !self.journal {
            return Some("nothing is packed".to_owned());
        }
        if self.files.len() > FILES_MAX {
            return Some(format!("`files` names more than {FILES_MAX} files"));
        }
        let wrong = self
            .files
            .iter()
            .find(|file| !is_plain_absolute(file) || file.ends_with('/'))?;
        Some(format!("{wrong:?} is not the absolute path of a file"))
    }
}

/// An archive in the making, and what didn't make it.
struct Logs<'a> {
    cx: &'a StepCx<'a>,
    tar: Tar,
    left_out: Vec<String>,
}

impl Logs<'_> {
    fn leave_out(&mut self, name: &str, why: &str) {
        let text = format!("{name} is left out: {why}");
        self.cx.progress().log(LogLevel::Warning, &text);
        self.left_out.push(name.to_owned());
    }

    fn add(&mut self, name: &str, bytes: Result<Option<Vec<u8>>, StepError>) {
        let bytes = match bytes {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.leave_out(name, "it isn't there"),
            Err(error) => return self.leave_out(name, &error.chain().join(": ")),
        };
        if self.tar.len() + bytes.len() > LOGS_BYTES_MAX {
            return self.leave_out(name, "the archive is full");
        }
        if self.tar.add(name.trim_start_matches('/'), &bytes).is_err() {
            self.leave_out(name, "its name is too long for an archive");
        }
    }
}

/// What the journal of the OS says. It goes through a file: what a program prints would be logged line by line.
fn journal(folder: &str, cx: &StepCx<'_>) -> Result<Option<Vec<u8>>, StepError> {
    let path = Utf8PathBuf::from(format!("{folder}/journal.txt"));
    cx.machine().write_file(&TargetFile {
        path: path.clone(),
        bytes: Vec::new(),
        mode: 0o600,
    })?;
    let script = r#"to=$1; shift; exec journalctl "$@" > "$to""#;
    let mut args = vec!["-c", script, "sh", path.as_str()];
    args.extend([
        "--no-pager",
        "--quiet",
        "--output=short-iso",
        JOURNAL_LINES_MAX,
    ]);
    if cx.machine().environment() == Environment::Os {
        // In the boot image the OS hasn't started, and its journal has nothing about this start.
        args.push("--boot");
    }
    let output = cx.run(Command {
        program: "/bin/sh".to_owned(),
        args: args.into_iter().map(str::to_owned).collect(),
        folder: "/".into(),
        ..Command::default()
    })?;
    if output.exit_code != Some(0) {
        return Err(command_failed("journalctl", &output));
    }
    cx.machine().read_file(&path)
}

impl Step for CollectLogs {
    const KIND: &'static str = "collect-logs";
    const EXAMPLE: &'static str = r"- id: logs
  collect-logs: { files: [/var/log/dpkg.log, /var/log/apt/term.log] }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;

    fn check(&self, problems: &mut Problems) {
        if let Some(mistake) = self.mistake() {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        match self.mistake() {
            Some(mistake) => Err(StepError::refused(mistake)),
            None => Ok(Plan {
                // As with scripts: a step path holds `/` between names that can't hold `+` twice in a row by accident.
                archive: format!("{}.tar", cx.path.as_str().replace('/', "++")),
                files: self.files.iter().map(Utf8PathBuf::from).collect(),
                journal: self.journal,
            }),
        }
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let mut logs = Logs {
            cx,
            tar: Tar::default(),
            left_out: Vec::new(),
        };
        for file in &plan.files {
            cx.go_on()?;
            logs.add(file.as_str(), cx.machine().read_file(file));
        }
        if plan.journal {
            let folder = format!("{CACHE_FOLDER}/logs");
            let text = journal(&folder, cx);
            cx.go_on()?;
            cx.machine().remove_folder(folder.as_str().into())?;
            logs.add("journal.txt", text);
        }
        let (left_out, bytes) = (logs.left_out, logs.tar.finish());
        let path = cx.machine().keep_log(&plan.archive, &bytes)?;
        let text = format!(
            "the logs are in {path}, {}",
            size::in_words(bytes.len() as u64)
        );
        cx.progress().log(LogLevel::Info, &text);
        let output =
            serde_json::json!({ "path": path, "bytes": bytes.len(), "left-out": left_out });
        Ok(Outcome::done().output(output))
    }
}
