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

/// Lays the driver package for this machine's model over the OS, at `/`.
///
/// A package whose rule names the machine's SKU wins over one that names its baseboard, that over one that names its
/// product, that over one that names only the vendor. Two that fit equally well are an error, never a guess.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ApplyDrivers {}

/// The drivers chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// The model they were chosen for, in words.
    pub model: String,
    /// The package; a plan that an older release recorded may name several.
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

/// What a rule that matches was told by: the later ones tell machines apart better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchedBy {
    /// The manufacturer alone.
    Vendor,
    /// The product name.
    Product,
    /// The baseboard.
    Baseboard,
    /// The SKU.
    Sku,
}

impl fmt::Display for MatchedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vendor => "vendor",
            Self::Product => "product",
            Self::Baseboard => "baseboard",
            Self::Sku => "SKU",
        })
    }
}

/// By what the best matching rule of `package` knows `model`; `None` if none matches.
#[must_use]
pub fn matched_by(package: &Package, model: &Model) -> Option<MatchedBy> {
    let by = |rule: &ModelRule| match rule {
        ModelRule { sku: Some(_), .. } => MatchedBy::Sku,
        ModelRule {
            baseboard: Some(_), ..
        } => MatchedBy::Baseboard,
        ModelRule {
            product: Some(_), ..
        } => MatchedBy::Product,
        _ => MatchedBy::Vendor,
    };
    let matching = package.models.iter().filter(|rule| rule.matches(model));
    matching.map(by).max()
}

/// Two driver packages that know a model equally well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("drivers {first} and {second} both fit {model} by its {by}")]
pub struct Ambiguous {
    /// One of them.
    pub first: String,
    /// Another.
    pub second: String,
    /// The model, in words.
    pub model: String,
    /// What both were told by.
    pub by: MatchedBy,
}

impl Ambiguous {
    /// What to do about it.
    pub const HINT: &'static str = "make one of the model rules more precise (SKU, then baseboard, then product), or make it one package";
}

/// The driver package among `packages` for `model`: one that is told by the SKU, else by the baseboard, else by the
/// product, else by the vendor.
///
/// # Errors
/// Two fit equally well: then nobody knows which of their files should win, and guessing is not for a machine.
pub fn choose<'a>(
    packages: &'a [Package],
    model: &Model,
) -> Result<Option<&'a Package>, Ambiguous> {
    let mut best: Option<(MatchedBy, &Package)> = None;
    let mut rival = None;
    let drivers = packages
        .iter()
        .filter(|package| package.kind == PackageKind::Driver);
    for package in drivers {
        let Some(by) = matched_by(package, model) else {
            continue;
        };
        match best {
            Some((best_by, _)) if by < best_by => {}
            Some((best_by, _)) if by == best_by => rival = Some(package),
            _ => (best, rival) = (Some((by, package)), None),
        }
    }
    let in_words = |package: &Package| format!("{} {}", package.name, package.version);
    match (best, rival) {
        (Some((by, first)), Some(second)) => Err(Ambiguous {
            first: in_words(first),
            second: in_words(second),
            model: model.to_string(),
            by,
        }),
        (best, _) => Ok(best.map(|(_, package)| package)),
    }
}

impl Step for ApplyDrivers {
    const KIND: &'static str = "apply-drivers";
    const EXAMPLE: &'static str = r"- id: drivers
  attempts: 3
  wait: 10s
  apply-drivers: {}
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const WRITES_INTO_OS: bool = true;

    fn packages(&self) -> Vec<PackageUse> {
        vec![PackageUse::Drivers]
    }

    fn plan(&self, cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        let model = model_of(cx.facts);
        let drivers = choose(cx.packages, &model)
            .map_err(|error| StepError::refused(error.to_string()).hint(Ambiguous::HINT))?
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
