//! Ends the run.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::FinishAction;

use super::{Flow, OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{BootTarget, StepError};

/// Ends the run; always the last step. From now on the machine starts its own OS, and its disk counts as in use.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Finish {
    /// What the machine does then.
    pub action: FinishAction,
    /// Whether the machine is now handed out: it starts its own OS, and its disk is never wiped without an order. The
    /// factory sequence says `false`.
    #[serde(default = "yes")]
    pub deployed: bool,
}

const fn yes() -> bool {
    true
}

/// The end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// What the machine does then.
    pub action: FinishAction,
    /// Whether it is handed out.
    pub deployed: bool,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deployed {
            f.write_str("start the OS from now on, and ")?;
        }
        f.write_str(match self.action {
            FinishAction::ShutDown => "shut down",
            FinishAction::Restart => "restart",
            FinishAction::Stay => "go on running",
        })
    }
}

impl Step for Finish {
    const KIND: &'static str = "finish";
    const EXAMPLE: &'static str = r"- id: finish
  finish: { action: shut-down }
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const FITS_FACTORY: bool = true;
    const ENDS_RUN: bool = true;

    fn flow(&self) -> Flow {
        Flow::Finish(self.action)
    }

    fn plan(&self, _cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        Ok(Plan {
            action: self.action,
            deployed: self.deployed,
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        // The mark first: a disk that starts its OS must never look as if it could be wiped.
        cx.machine().mark_finished(cx.run_id(), plan.deployed)?;
        if plan.deployed {
            cx.machine().set_default_boot(BootTarget::Os)?;
        }
        Ok(Outcome::done())
    }
}
