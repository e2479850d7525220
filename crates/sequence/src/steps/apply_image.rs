//! Makes a volume equal to an OS image.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::Environment;
use wire::layout::VolumeRole;
use wire::names::{PackageName, PackageVersion};
use wire::package::PackageKind;

use super::{OnRestart, Outcome, PackageUse, PlanCx, Step, StepCx};
use crate::ports::StepError;
use crate::problem::{Code, Problems};

/// Makes a volume equal to a filesystem image: what is already right stays, everything else is replaced.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApplyImage {
    /// A package of kind `os-image`.
    pub image: PackageName,
    /// The volume.
    #[serde(default = "os_volume")]
    pub volume: VolumeRole,
}

const fn os_volume() -> VolumeRole {
    VolumeRole::Os
}

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The package.
    pub image: PackageName,
    /// Its version.
    pub version: PackageVersion,
    /// The volume.
    pub volume: VolumeRole,
    /// The bytes of content.
    pub content_bytes: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = crate::size::in_words(self.content_bytes);
        write!(
            f,
            "make the {} volume equal to {} {} ({size})",
            self.volume, self.image, self.version
        )
    }
}

impl Step for ApplyImage {
    const KIND: &'static str = "apply-image";
    const EXAMPLE: &'static str = r"- id: os
  attempts: 3
  wait: 10s
  apply-image: { image: debian-12-laptop }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WIPES: bool = true;
    const FITS_FACTORY: bool = true;
    const NEEDS: Option<Environment> = Some(Environment::BootImage);

    fn check(&self, problems: &mut Problems) {
        if self.volume != VolumeRole::Os {
            problems.error(
                Code::Step,
                format!("an OS image can't go to the {} volume", self.volume),
                "leave `volume` out",
            );
        }
    }

    fn packages(&self) -> Vec<PackageUse> {
        vec![PackageUse::Named(self.image.clone(), PackageKind::OsImage)]
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let package = cx.package(&self.image, PackageKind::OsImage)?;
        if self.volume != VolumeRole::Os {
            return Err(StepError::refused(format!(
                "an OS image can't go to the {} volume",
                self.volume
            )));
        }
        Ok(Plan {
            image: package.name.clone(),
            version: package.version.clone(),
            volume: self.volume,
            content_bytes: package.content_bytes,
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let package = cx.content().package(&plan.image)?;
        let content = cx
            .content()
            .apply_image(package, plan.volume, cx.progress())?;
        Ok(Outcome::done().content(content))
    }
}
