//! Makes the machine start our boot image.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::Environment;
use wire::names::{PackageName, PackageVersion};
use wire::package::PackageKind;

use super::{OnRestart, Outcome, PackageUse, PlanCx, Step, StepCx};
use crate::ports::{StepError, TreeTarget};

/// Puts a boot image onto the EFI system partition and makes it start at power-on.
///
/// The factory sequence takes its boot image from this step of the deploy sequence, whatever the step's condition says.
/// In the deploy sequence itself the step updates the boot image, and usually has a condition.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstallBootImage {
    /// A package of kind `boot-image`.
    pub image: PackageName,
}

/// Which boot image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The package.
    pub image: PackageName,
    /// Its version.
    pub version: PackageVersion,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "install the boot image {} {} and make it start at power-on",
            self.image, self.version
        )
    }
}

impl Step for InstallBootImage {
    const KIND: &'static str = "install-boot-image";
    const EXAMPLE: &'static str = r"- id: boot-image
  when: update_boot_image
  install-boot-image: { image: boot-image }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const FITS_FACTORY: bool = true;
    const NEEDS: Option<Environment> = Some(Environment::BootImage);

    fn packages(&self) -> Vec<PackageUse> {
        vec![PackageUse::Named(
            self.image.clone(),
            PackageKind::BootImage,
        )]
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let package = cx.package(&self.image, PackageKind::BootImage)?;
        Ok(Plan {
            image: package.name.clone(),
            version: package.version.clone(),
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let package = cx.content().package(&plan.image)?;
        let (folder, content) =
            cx.content()
                .apply_tree(package, &TreeTarget::Scratch, cx.progress())?;
        cx.machine().install_boot_image(&folder, cx.progress())?;
        Ok(Outcome::done().content(content))
    }
}
