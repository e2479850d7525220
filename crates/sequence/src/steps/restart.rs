//! Restarts the machine in the middle of the run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::Environment;

use super::{Flow, OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{BootTarget, StepError};

/// Restarts the machine; the run goes on with the next step after it came up in the environment named here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Restart {
    /// Where the run goes on.
    pub into: Environment,
}

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// Where the run goes on.
    pub into: Environment,
}

/// The name of an environment as documents spell it.
#[must_use]
pub const fn environment_name(environment: Environment) -> &'static str {
    match environment {
        Environment::BootImage => "boot-image",
        Environment::Os => "os",
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restart into {}", environment_name(self.into))
    }
}

impl Step for Restart {
    const KIND: &'static str = "restart";
    const EXAMPLE: &'static str = r"- id: restart
  restart: { into: os }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;

    fn flow(&self) -> Flow {
        Flow::Suspend(self.into)
    }

    fn plan(&self, _cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        Ok(Plan { into: self.into })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let target = match plan.into {
            Environment::BootImage => BootTarget::BootImage,
            Environment::Os => BootTarget::Os,
        };
        cx.machine().set_default_boot(target)?;
        Ok(Outcome::done())
    }
}
