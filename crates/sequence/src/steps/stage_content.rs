//! Fills the device's own content library.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::package::Package;

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::StepError;

/// Makes the content library on the staging partition hold everything the run may need. The factory sequence does this.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageContent {}

/// How much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The number of packages.
    pub packages: usize,
    /// Their content in bytes.
    pub content_bytes: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stage {} packages ({})",
            self.packages,
            crate::size::in_words(self.content_bytes)
        )
    }
}

impl Step for StageContent {
    const KIND: &'static str = "stage-content";
    const EXAMPLE: &'static str = r"- id: content
  stage-content: {}
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const FITS_FACTORY: bool = true;

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let bytes = cx.packages.iter().fold(0_u64, |sum, package| {
            sum.saturating_add(package.content_bytes)
        });
        Ok(Plan {
            packages: cx.packages.len(),
            content_bytes: bytes,
        })
    }

    fn apply(&self, _plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let packages: Vec<&Package> = cx.content().packages().iter().collect();
        let content = cx.content().stage(&packages, cx.progress())?;
        Ok(Outcome::done().content(content))
    }
}
