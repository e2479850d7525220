//! Installs applications into the OS.

use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::{ContentBytes, LogLevel, ProgressUnit};
use wire::names::{PackageName, PackageVersion};
use wire::package::{Detect, Install, Package, PackageKind};

use super::{CACHE_FOLDER, OnRestart, Outcome, PackageUse, PlanCx, Step, StepCx, command_failed};
use crate::ports::{Command, StepError, TargetFile, TreeTarget};
use crate::problem::{Code, Problems};

/// Where it is noted that a package needs a restart. `/run` is in memory: the restart that is needed empties it.
const RESTART_NEEDED_FOLDER: &str = "/run/forestage/restart-needed";

/// Installs applications, one after the other. One that is already there in the right version is left alone.
///
/// An installer may end with one of the package's `restart-exit-codes`. Then the output `restart-needed` is true, and
/// stays so until the OS has restarted; put a `restart` step with that condition behind it:
/// `when: outputs['apps/java']['restart-needed']`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstallPackages {
    /// Packages of kind `application`, in the order to install them.
    pub packages: Vec<PackageName>,
}

/// What to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The packages, in order.
    pub packages: Vec<Chosen>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Chosen {
    /// The package.
    pub name: PackageName,
    /// Its version.
    pub version: PackageVersion,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("install")?;
        for (index, package) in self.packages.iter().enumerate() {
            write!(
                f,
                "{} {} {}",
                if index == 0 { "" } else { "," },
                package.name,
                package.version
            )?;
        }
        f.write_str(" unless already there")
    }
}

/// What became of one package.
enum Installed {
    Before,
    Now,
}

fn restart_note(package: &PackageName) -> Utf8PathBuf {
    Utf8Path::new(RESTART_NEEDED_FOLDER).join(package.as_str())
}

/// Whether the OS hasn't restarted since one of the packages asked for it, in this attempt, one before, or another step
/// that installed it.
fn is_restart_needed(plan: &Plan, cx: &StepCx<'_>) -> Result<bool, StepError> {
    for package in &plan.packages {
        if cx
            .machine()
            .read_file(&restart_note(&package.name))?
            .is_some()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn how(package: &Package) -> Result<&Install, StepError> {
    match &package.install {
        Some(install) if !install.command.is_empty() => Ok(install),
        _ => Err(StepError::refused(format!(
            "package {} doesn't say how it is installed",
            package.name
        ))
        .hint("publish it again with an install command")),
    }
}

/// Whether exactly this version is there; `None` if the package doesn't say how one sees it.
fn is_installed(package: &Package, cx: &StepCx<'_>) -> Result<Option<bool>, StepError> {
    match &how(package)?.detect {
        None => Ok(None),
        Some(Detect::File { path }) => Ok(Some(
            cx.machine().read_file(path.as_str().into())?.is_some(),
        )),
        Some(Detect::Command { command, stdout }) => {
            let Some((program, args)) = command.split_first() else {
                return Ok(None);
            };
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = cx.command(program, &args)?;
            Ok(Some(
                output.exit_code == Some(0) && output.stdout.trim() == stdout.trim(),
            ))
        }
    }
}

fn install(
    package: &Package,
    cx: &StepCx<'_>,
    content: &mut ContentBytes,
) -> Result<Installed, StepError> {
    let install = how(package)?;
    let folder = Utf8PathBuf::from(format!("{CACHE_FOLDER}/{}", package.name));
    if is_installed(package, cx)? == Some(true) {
        // Left over if the power failed between the installation and the removal.
        cx.machine().remove_folder(&folder)?;
        return Ok(Installed::Before);
    }
    let (_, bytes) =
        cx.content()
            .apply_tree(package, &TreeTarget::Os(folder.clone()), cx.progress())?;
    *content += bytes;
    let (program, args) = install
        .command
        .split_first()
        .map_or(("", &[][..]), |(program, args)| (program.as_str(), args));
    let output = cx.run(Command {
        program: program.to_owned(),
        args: args.to_vec(),
        folder: folder.clone(),
        ..Command::default()
    })?;
    let restart_needed = output
        .exit_code
        .is_some_and(|code| install.restart_exit_codes.contains(&code));
    let is_success = output
        .exit_code
        .is_some_and(|code| install.success_exit_codes.contains(&code));
    if !is_success && !restart_needed {
        return Err(command_failed(program, &output));
    }
    if restart_needed {
        // Before the content goes: a cut in between installs once more, and asks for the restart once more.
        cx.machine().write_file(&TargetFile {
            path: restart_note(&package.name),
            bytes: Vec::new(),
            mode: 0o644,
        })?;
    } else if is_installed(package, cx)? == Some(false) {
        return Err(StepError::new(format!(
            "{program} said it succeeded, but {} is not there",
            package.version
        ))
        .hint("check the detection rule of the package"));
    }
    cx.machine().remove_folder(&folder)?;
    Ok(Installed::Now)
}

impl Step for InstallPackages {
    const KIND: &'static str = "install-packages";
    const EXAMPLE: &'static str = r"- id: java
  timeout: 20m
  attempts: 2
  wait: 10s
  install-packages: { packages: [openjdk-17-jre] }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Verify;
    const WRITES_INTO_OS: bool = true;

    fn check(&self, problems: &mut Problems) {
        if self.packages.is_empty() {
            problems.error(
                Code::Step,
                "`packages` is empty",
                "name at least one package, or remove the step",
            );
        }
        for (index, name) in self.packages.iter().enumerate() {
            if self.packages[..index].contains(name) {
                problems.warning(Code::Step, format!("package {name} stands twice"), "");
            }
        }
    }

    fn packages(&self) -> Vec<PackageUse> {
        self.packages
            .iter()
            .map(|name| PackageUse::Named(name.clone(), PackageKind::Application))
            .collect()
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let mut packages = Vec::with_capacity(self.packages.len());
        for name in &self.packages {
            let package = cx.package(name, PackageKind::Application)?;
            how(package)?;
            packages.push(Chosen {
                name: package.name.clone(),
                version: package.version.clone(),
            });
        }
        Ok(Plan { packages })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let mut content = ContentBytes::default();
        let total = plan.packages.len() as u64;
        let (mut installed, mut before) = (Vec::new(), Vec::new());
        for (done, chosen) in (0..).zip(&plan.packages) {
            let text = format!("{} {}", chosen.name, chosen.version);
            cx.go_on()?;
            cx.progress()
                .report(done, total, ProgressUnit::Items, &text);
            let package = cx.content().package(&chosen.name)?;
            match install(package, cx, &mut content) {
                Ok(Installed::Before) => {
                    cx.progress()
                        .log(LogLevel::Info, &format!("{text} is there already"));
                    before.push(chosen.name.as_str());
                }
                Ok(Installed::Now) => {
                    cx.progress()
                        .log(LogLevel::Info, &format!("{text} installed"));
                    installed.push(chosen.name.as_str());
                }
                Err(error) => {
                    let (is_final, hint) = (error.is_final, error.hint.clone());
                    let outer = StepError::new(format!("cannot install {text}")).because(error);
                    return Err(StepError {
                        is_final,
                        hint,
                        ..outer
                    });
                }
            }
        }
        cx.progress().report(total, total, ProgressUnit::Items, "");
        let restart_needed = is_restart_needed(&plan, cx)?;
        let output = serde_json::json!({ "installed": installed, "before": before, "restart-needed": restart_needed });
        let outcome = if installed.is_empty() {
            Outcome::skipped("all of it is there already")
        } else {
            Outcome::done()
        };
        let outcome = match outcome.message {
            None if restart_needed => Outcome {
                message: Some("the OS needs a restart to complete it".to_owned()),
                ..outcome
            },
            _ => outcome,
        };
        Ok(outcome.content(content).output(output))
    }
}
