//! Lays a package of files over the OS.

use std::fmt;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::names::{PackageName, PackageVersion};
use wire::package::PackageKind;

use super::{OnRestart, Outcome, PackageUse, PlanCx, Step, StepCx};
use crate::ports::{StepError, TreeTarget};
use crate::problem::{Code, Problems};

/// Lays the files of a package over a folder of the OS. Other files in the folder stay.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApplyFiles {
    /// A package of kind `files`.
    pub package: PackageName,
    /// The folder, absolute as the OS sees it, such as `/` or `/opt/school`.
    pub to: String,
}

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// The folder.
    pub to: Utf8PathBuf,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "apply the files of {} {} to {}",
            self.package, self.version, self.to
        )
    }
}

/// Whether a text is an absolute path without tricks.
pub(crate) fn is_plain_absolute(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').all(|part| part != ".." && part != ".")
}

impl Step for ApplyFiles {
    const KIND: &'static str = "apply-files";
    const EXAMPLE: &'static str = r"- id: background
  apply-files: { package: school-background, to: /usr/share/backgrounds }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WRITES_INTO_OS: bool = true;

    fn check(&self, problems: &mut Problems) {
        if !is_plain_absolute(&self.to) {
            problems.error(
                Code::Step,
                format!("`to` is not an absolute path: {:?}", self.to),
                "write one such as `/opt/school`",
            );
        }
    }

    fn packages(&self) -> Vec<PackageUse> {
        vec![PackageUse::Named(self.package.clone(), PackageKind::Files)]
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let package = cx.package(&self.package, PackageKind::Files)?;
        if !is_plain_absolute(&self.to) {
            return Err(StepError::refused(format!(
                "{:?} is not an absolute path",
                self.to
            )));
        }
        Ok(Plan {
            package: package.name.clone(),
            version: package.version.clone(),
            to: self.to.as_str().into(),
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let package = cx.content().package(&plan.package)?;
        let (_, content) =
            cx.content()
                .apply_tree(package, &TreeTarget::Os(plan.to), cx.progress())?;
        Ok(Outcome::done().content(content))
    }
}
