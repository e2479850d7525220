//! Makes the installed OS startable.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::StepError;

/// Installs the agent into the OS and writes the OS's boot entry. The entry does not become the default yet.
///
/// When Debian's packages bring another kernel or initrd later, the OS starts with that one from then on. The EFI system partition must not
/// be mounted in the OS: it would be written behind the kernel's back. Then the old kernel goes on starting, and apt shows why.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct InstallOsBoot {}

/// Nothing to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("install the agent into the OS and write the OS's boot entry")
    }
}

impl Step for InstallOsBoot {
    const KIND: &'static str = "install-os-boot";
    const EXAMPLE: &'static str = r"- id: os-boot
  timeout: 10m
  install-os-boot: {}
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WRITES_INTO_OS: bool = true;

    fn plan(&self, _cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        Ok(Plan {})
    }

    fn apply(&self, _plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        // The agent first: an OS that can start must be able to go on with the run.
        cx.machine().install_agent()?;
        cx.machine().install_os_boot_entry(cx.progress())?;
        Ok(Outcome::done())
    }
}
