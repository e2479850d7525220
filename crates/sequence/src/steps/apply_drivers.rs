//! Lays the drivers for this model over the OS.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::event::ContentBytes;
use wire::facts::Facts;
use wire::names::{PackageName, PackageVersion};
use wire::package::{Model, ModelRule, Package, PackageKind};

use super::{OnRestart, Outcome, PackageUse, PlanCx, Step, StepCx};
use crate::ports::{StepError, TreeTarget};

/// Lays all driver packages whose model rules match this machine over the OS, at `/`.
///
/// A rule that names more (vendor, product, SKU, baseboard) wins over one that names less; two versions of one package
/// that match equally well are an error.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApplyDrivers {}

/// The drivers chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The model they were chosen for, in words.
    pub model: String,
    /// The packages, in order of name.
    pub drivers: Vec<Chosen>,
}

/// One driver package.
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
        if self.drivers.is_empty() {
            return write!(f, "apply no drivers: none is for {}", self.model);
        }
        write!(f, "apply the drivers for {}:", self.model)?;
        for (index, driver) in self.drivers.iter().enumerate() {
            write!(
                f,
                "{} {} {}",
                if index == 0 { "" } else { "," },
                driver.name,
                driver.version
            )?;
        }
        Ok(())
    }
}

/// The model in the facts.
#[must_use]
pub fn model_of(facts: &Facts) -> Model {
    Model {
        vendor: facts.vendor.clone(),
        product: facts.product.clone(),
        sku: facts.sku.clone(),
        baseboard: facts.baseboard.clone(),
    }
}

/// How much the best matching rule of `package` names; 0 if none matches.
fn specificity(package: &Package, model: &Model) -> usize {
    let named = |rule: &ModelRule| {
        [&rule.vendor, &rule.product, &rule.sku, &rule.baseboard]
            .into_iter()
            .filter(|field| field.is_some())
            .count()
    };
    package
        .models
        .iter()
        .filter(|rule| rule.matches(model))
        .map(named)
        .max()
        .unwrap_or(0)
}

/// The drivers among `packages` for `model`, in order of name.
///
/// # Errors
/// Two versions of one package match equally well.
pub fn choose<'a>(packages: &'a [Package], model: &Model) -> Result<Vec<&'a Package>, StepError> {
    let mut matching: Vec<(usize, &Package)> = packages
        .iter()
        .filter(|package| package.kind == PackageKind::Driver)
        .map(|package| (specificity(package, model), package))
        .filter(|(specificity, _)| *specificity > 0)
        .collect();
    matching.sort_by(|(a, left), (b, right)| left.name.cmp(&right.name).then(b.cmp(a)));
    let mut chosen: Vec<(usize, &Package)> = Vec::new();
    for (specificity, package) in matching {
        match chosen.last() {
            Some((best, last)) if last.name == package.name => {
                if *best == specificity {
                    return Err(StepError::refused(format!(
                        "driver {} fits {model} in two versions equally well: {} and {}",
                        package.name, last.version, package.version
                    ))
                    .hint("make one of the model rules more precise, or withdraw one version"));
                }
            }
            _ => chosen.push((specificity, package)),
        }
    }
    Ok(chosen.into_iter().map(|(_, package)| package).collect())
}

impl Step for ApplyDrivers {
    const KIND: &'static str = "apply-drivers";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;

    fn packages(&self) -> Vec<PackageUse> {
        vec![PackageUse::Drivers]
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let model = model_of(cx.facts);
        let drivers = choose(cx.packages, &model)?
            .into_iter()
            .map(|package| Chosen {
                name: package.name.clone(),
                version: package.version.clone(),
            })
            .collect();
        Ok(Plan {
            model: model.to_string(),
            drivers,
        })
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        if plan.drivers.is_empty() {
            return Ok(Outcome::skipped(plan.to_string()));
        }
        let mut content = ContentBytes::default();
        for driver in &plan.drivers {
            cx.go_on()?;
            let versions = cx.content().packages().iter();
            let package = versions
                .clone()
                .find(|package| package.name == driver.name && package.version == driver.version)
                .ok_or_else(|| {
                    StepError::refused(format!(
                        "driver {} {} is not part of this run",
                        driver.name, driver.version
                    ))
                    .hint("publish it, and deploy the sequence again")
                })?;
            let (_, bytes) =
                cx.content()
                    .apply_tree(package, &TreeTarget::Os("/".into()), cx.progress())?;
            content += bytes;
        }
        let names: Vec<&str> = plan
            .drivers
            .iter()
            .map(|driver| driver.name.as_str())
            .collect();
        Ok(Outcome::done()
            .content(content)
            .output(serde_json::json!({ "drivers": names })))
    }
}
