//! Creates a user of the OS.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{StepError, TargetFile};
use crate::problem::{Code, Problems};

/// The longest user name useradd accepts.
const NAME_BYTES_MAX: usize = 32;

/// Creates a user with a locked password, or adds the groups to one that is there.
///
/// No password stands in a document: it would stand on every stick. Sign-in is by key, or by a secret released later.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CreateUser {
    /// The login name.
    pub name: String,
    /// Groups beside the user's own; they must exist.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// Public SSH keys, one per entry. They replace those that are there; an empty list leaves them alone.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
}

/// The user to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The login name.
    pub name: String,
    /// Groups beside the user's own.
    pub groups: Vec<String>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "create the user {} with a locked password", self.name)?;
        if !self.groups.is_empty() {
            write!(f, " in {}", self.groups.join(", "))?;
        }
        Ok(())
    }
}

fn is_user_name(text: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let rest = |byte: u8| first(byte) || byte.is_ascii_digit() || byte == b'-';
    text.bytes().next().is_some_and(first) && text.len() <= NAME_BYTES_MAX && text.bytes().all(rest)
}

impl CreateUser {
    /// The first mistake in the arguments, in words.
    fn mistake(&self) -> Option<String> {
        let names = std::iter::once(&self.name).chain(&self.groups);
        if let Some(name) = names.into_iter().find(|name| !is_user_name(name)) {
            return Some(format!("{name:?} is not a user or group name"));
        }
        if self
            .full_name
            .as_ref()
            .is_some_and(|name| name.contains([':', ',', '\n', '\0']))
        {
            return Some("the full name can't hold `:`, `,` or line breaks".to_owned());
        }
        if self
            .authorized_keys
            .iter()
            .any(|key| key.contains(['\n', '\0']) || key.split(' ').count() < 2)
        {
            return Some(
                "an entry of `authorized-keys` is not a public key on one line".to_owned(),
            );
        }
        None
    }

    fn add_groups(&self, cx: &StepCx<'_>) -> Result<(), StepError> {
        for group in &self.groups {
            if cx.command("getent", &["group", group])?.exit_code != Some(0) {
                return Err(StepError::refused(format!("the OS has no group {group}"))
                    .hint("leave the group out, or install the package that brings it before this step"));
            }
        }
        if !self.groups.is_empty() {
            cx.command_ok(
                "usermod",
                &["--append", "--groups", &self.groups.join(","), &self.name],
            )?;
        }
        Ok(())
    }

    fn write_keys(&self, cx: &StepCx<'_>) -> Result<(), StepError> {
        if self.authorized_keys.is_empty() {
            return Ok(());
        }
        let entry = cx.command_ok("getent", &["passwd", &self.name])?.stdout;
        let home = entry
            .trim()
            .split(':')
            .nth(5)
            .filter(|home| super::apply_files::is_plain_absolute(home));
        let Some(home) = home else {
            return Err(StepError::new(format!(
                "the user {} has no home folder",
                self.name
            )));
        };
        let folder = format!("{home}/.ssh");
        let bytes = self
            .authorized_keys
            .iter()
            .flat_map(|key| format!("{}\n", key.trim()).into_bytes())
            .collect();
        let path = format!("{folder}/authorized_keys").into();
        cx.machine().write_file(&TargetFile {
            path,
            bytes,
            mode: 0o600,
        })?;
        cx.command_ok("chmod", &["0700", &folder])?;
        cx.command_ok(
            "chown",
            &[
                "--recursive",
                "--no-dereference",
                &format!("{}:", self.name),
                &folder,
            ],
        )?;
        Ok(())
    }
}

impl Step for CreateUser {
    const KIND: &'static str = "create-user";
    const EXAMPLE: &'static str = r"- id: admin
  create-user:
    name: lokaladmin
    full-name: Lokal administrator
    groups: [sudo]
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Verify;
    const WRITES_INTO_OS: bool = true;

    fn check(&self, problems: &mut Problems) {
        if let Some(mistake) = self.mistake() {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn plan(&self, _cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        match self.mistake() {
            Some(mistake) => Err(StepError::refused(mistake)),
            None => Ok(Plan {
                name: self.name.clone(),
                groups: self.groups.clone(),
            }),
        }
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let is_there = cx.command("getent", &["passwd", &plan.name])?.exit_code == Some(0);
        if !is_there {
            let full_name = self.full_name.as_deref().unwrap_or_default();
            // Without --password useradd locks the account with `!`.
            cx.command_ok(
                "useradd",
                &[
                    "--create-home",
                    "--shell",
                    "/bin/bash",
                    "--comment",
                    full_name,
                    &plan.name,
                ],
            )?;
        }
        self.add_groups(cx)?;
        self.write_keys(cx)?;
        let outcome = Outcome::done();
        Ok(if is_there {
            Outcome {
                message: Some("the user was there already".to_owned()),
                ..outcome
            }
        } else {
            outcome
        })
    }
}
