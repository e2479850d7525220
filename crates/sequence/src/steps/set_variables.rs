//! Sets variables for later steps.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::StepError;
use crate::problem::{Code, Problems};
use crate::scope::Template;

/// Sets variables that later steps and conditions can use. The values may be templates.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SetVariables(pub BTreeMap<String, Template>);

/// The values, filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan(pub BTreeMap<String, String>);

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")?;
        for (index, (name, value)) in self.0.iter().enumerate() {
            write!(
                f,
                "{} {name} to {value:?}",
                if index == 0 { "" } else { "," }
            )?;
        }
        Ok(())
    }
}

impl Step for SetVariables {
    const KIND: &'static str = "set-variables";
    const EXAMPLE: &'static str = r#"- id: names
  set-variables: { room: "{{ site.code }}-{{ class }}" }
"#;
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const FITS_FACTORY: bool = true;
    const SETS_VARIABLES: bool = true;

    fn check(&self, problems: &mut Problems) {
        if self.0.is_empty() {
            problems.error(
                Code::Step,
                "no variable is set",
                "name at least one, or remove the step",
            );
        }
    }

    fn templates(&self) -> Vec<&Template> {
        self.0.values().collect()
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let mut values = BTreeMap::new();
        for (name, template) in &self.0 {
            values.insert(name.clone(), cx.render(template)?);
        }
        Ok(Plan(values))
    }

    fn apply(&self, plan: Plan, _cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let values = plan
            .0
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)));
        Ok(Outcome::done().output(Value::Object(values.collect())))
    }
}
