//! Waits for the network.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::{ServerAddress, StepError};
use crate::problem::{Code, Problems};
use crate::scope::Template;

/// Waits until the machine has a network, and if `server` is given, until that server can be reached.
///
/// It waits as long as its `timeout` allows. A run needs no network of its own accord: put this only before a step that
/// does, such as `join-domain`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaitForNetwork {
    /// A server that takes connections over TCP: host and port, such as `dc1.skole.example:389`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Template>,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// A server to reach.
    pub server: Option<ServerAddress>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wait for a network")?;
        match &self.server {
            Some(server) => write!(f, " that leads to {server}"),
            None => Ok(()),
        }
    }
}

impl Step for WaitForNetwork {
    const KIND: &'static str = "wait-for-network";
    const EXAMPLE: &'static str = r#"- id: network-up
  timeout: 5m
  wait-for-network: { server: "dc1.skole.example:389" }
"#;
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;

    fn check(&self, problems: &mut Problems) {
        if let Some(server) = &self.server
            && !server.0.contains("{{")
            && let Err(mistake) = ServerAddress::try_from(server.0.clone())
        {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn templates(&self) -> Vec<&Template> {
        self.server.iter().collect()
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let server = match &self.server {
            None => None,
            Some(template) => {
                let address = ServerAddress::try_from(cx.render(template)?);
                Some(address.map_err(|mistake| {
                    StepError::refused(mistake)
                        .hint(format!("it comes from the template `{}`", template.0))
                })?)
            }
        };
        Ok(Plan { server })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        cx.machine()
            .wait_for_network(plan.server.as_ref(), cx.time_left(), cx.progress())?;
        Ok(Outcome::done())
    }
}
