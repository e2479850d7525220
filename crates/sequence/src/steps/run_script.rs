//! Runs a script in the OS.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::ContentBytes;
use wire::names::{PackageName, SecretName};
use wire::package::PackageKind;

use super::{CACHE_FOLDER, OnRestart, Outcome, PackageUse, PlanCx, Step, StepCx, command_failed};
use crate::ports::{Command, StepError, TargetFile, TreeTarget};
use crate::problem::{Code, Problems};
use crate::scope::Template;

/// Enough of a script's output for a condition; the log has all of it.
const OUTPUT_CHARS_MAX: usize = 1024;

/// Runs a script in the OS. The script stands in the document, or is a file of a package.
///
/// Templates are filled in arguments and environment variables only, never in the script itself: values are data.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RunScript {
    /// The program that reads the script, with its arguments.
    #[serde(default = "shell")]
    pub interpreter: Vec<String>,
    /// The text of the script. Either this or `package` and `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A package of kind `files` that holds the script; it is unpacked and the script runs in its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageName>,
    /// The path of the script inside `package`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Arguments for the script.
    #[serde(default)]
    pub args: Vec<Template>,
    /// Environment variables for the script.
    #[serde(default)]
    pub env: BTreeMap<String, Template>,
    /// Environment variables with secrets as values: the variable's name, and the name of the secret. The secret is
    /// released to this machine when the step runs, and is hidden in the log; a script must not pass it on as an argument.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretName>,
    /// Exit codes that mean success.
    #[serde(default = "success")]
    pub success_exit_codes: Vec<i32>,
    /// Whether it does no harm to run the script again after a power cut in the middle. If not, the run stops then and
    /// asks a person.
    #[serde(default)]
    pub repeatable: bool,
}

fn shell() -> Vec<String> {
    vec!["/bin/sh".to_owned()]
}

fn success() -> Vec<i32> {
    vec![0]
}

/// The call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The folder the script lies in while it runs.
    pub folder: String,
    /// The script's path inside the folder.
    pub file: String,
    /// Its arguments, filled in.
    pub args: Vec<String>,
    /// Its environment variables, filled in.
    pub env: BTreeMap<String, String>,
    /// Its environment variables that hold a secret, with the secret's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretName>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run the script {}", self.file)?;
        self.args.iter().try_for_each(|arg| write!(f, " {arg:?}"))?;
        self.secrets
            .iter()
            .try_for_each(|(variable, name)| write!(f, ", with the secret {name} as {variable}"))
    }
}

impl RunScript {
    fn mistake(&self) -> Option<&'static str> {
        match (&self.script, &self.package, &self.file) {
            (Some(_), None, None) => {}
            (None, Some(_), Some(file))
                if super::apply_files::is_plain_absolute(&format!("/{file}")) => {}
            (None, Some(_), Some(_)) => return Some("`file` is not a path inside the package"),
            _ => return Some("there must be either `script`, or `package` and `file`"),
        }
        if self.interpreter.is_empty() {
            return Some("`interpreter` is empty");
        }
        let is_name = |name: &String| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if !self.env.keys().all(is_name) {
            return Some("a key of `env` is not the name of an environment variable");
        }
        if !self.secrets.keys().all(is_name) {
            return Some("a key of `secrets` is not the name of an environment variable");
        }
        self.secrets
            .keys()
            .any(|name| self.env.contains_key(name))
            .then_some("a variable stands both in `env` and in `secrets`")
    }

    /// Puts the script into its folder.
    fn unpack(&self, plan: &Plan, cx: &StepCx<'_>) -> Result<ContentBytes, StepError> {
        // Left over from a power cut, perhaps with files this version of the package no longer has.
        cx.machine().remove_folder(plan.folder.as_str().into())?;
        if let Some(name) = &self.package {
            let package = cx.content().package(name)?;
            let target = TreeTarget::Os(plan.folder.as_str().into());
            return cx
                .content()
                .apply_tree(package, &target, cx.progress())
                .map(|(_, content)| content);
        }
        let bytes = self.script.clone().unwrap_or_default().into_bytes();
        let path = format!("{}/{}", plan.folder, plan.file).into();
        cx.machine().write_file(&TargetFile {
            path,
            bytes,
            mode: 0o700,
        })?;
        Ok(ContentBytes::default())
    }
}

impl Step for RunScript {
    const KIND: &'static str = "run-script";
    const EXAMPLE: &'static str = r#"- id: proxy
  timeout: 5m
  run-script:
    repeatable: true
    args: ["{{ site.code }}"]
    secrets: { PASSWORD: school-proxy }
    script: |
      set -eu
      umask 077
      printf 'login %s %s\n' "$1" "$PASSWORD" > /etc/school-proxy
"#;
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Refuse;
    const WRITES_INTO_OS: bool = true;

    fn on_restart(&self) -> OnRestart {
        if self.repeatable {
            OnRestart::Redo
        } else {
            Self::ON_RESTART
        }
    }

    fn check(&self, problems: &mut Problems) {
        if let Some(mistake) = self.mistake() {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn templates(&self) -> Vec<&Template> {
        self.args.iter().chain(self.env.values()).collect()
    }

    fn packages(&self) -> Vec<PackageUse> {
        self.package
            .iter()
            .map(|name| PackageUse::Named(name.clone(), PackageKind::Files))
            .collect()
    }

    fn secrets(&self) -> Vec<SecretName> {
        self.secrets.values().cloned().collect()
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        if let Some(mistake) = self.mistake() {
            return Err(StepError::refused(mistake));
        }
        if let Some(name) = &self.package {
            cx.package(name, PackageKind::Files)?;
        }
        let mut env = BTreeMap::new();
        for (name, value) in &self.env {
            env.insert(name.clone(), cx.render(value)?);
        }
        Ok(Plan {
            // A step path holds `/` between names that can't hold `+` twice in a row by accident of joining.
            folder: format!(
                "{CACHE_FOLDER}/scripts/{}",
                cx.path.as_str().replace('/', "++")
            ),
            file: self.file.clone().unwrap_or_else(|| "script".to_owned()),
            args: self
                .args
                .iter()
                .map(|arg| cx.render(arg))
                .collect::<Result<_, _>>()?,
            env,
            secrets: self.secrets.clone(),
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let mut secret_env = Vec::new();
        for (variable, name) in &plan.secrets {
            secret_env.push((variable.clone(), cx.secret(name)?));
        }
        let content = self.unpack(&plan, cx)?;
        let (program, options) = self
            .interpreter
            .split_first()
            .ok_or_else(|| StepError::refused("`interpreter` is empty"))?;
        let mut args = options.to_vec();
        args.push(format!("{}/{}", plan.folder, plan.file));
        args.extend(plan.args.iter().cloned());
        let output = cx.run(Command {
            program: program.clone(),
            args,
            folder: plan.folder.as_str().into(),
            env: plan.env.clone().into_iter().collect(),
            secret_env,
            ..Command::default()
        })?;
        cx.machine().remove_folder(plan.folder.as_str().into())?;
        let Some(exit_code) = output
            .exit_code
            .filter(|code| self.success_exit_codes.contains(code))
        else {
            return Err(command_failed("the script", &output));
        };
        let stdout: String = output
            .stdout
            .trim()
            .chars()
            .take(OUTPUT_CHARS_MAX)
            .collect();
        let values = serde_json::json!({ "exit-code": exit_code, "stdout": stdout });
        Ok(Outcome::done().content(content).output(values))
    }
}
