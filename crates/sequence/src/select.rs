//! What a machine of one model could need, and nothing else: the packages that a prestage carries, and secrets.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use wire::names::SecretName;
use wire::package::{Model, ModelRule, Package, PackageKind};
use wire::reasons::CarryReason;
use wire::sequence::{CompiledSequence, CompiledStep};

use crate::scope::MODEL_NAMES;
use crate::steps::apply_drivers::{Ambiguous, MatchedBy, choose, matched_by};
use crate::steps::{PackageUse, secrets_of_step, step_type};
use crate::tri::{Tri, decide};

/// What a prestage carries, and what not, each with its reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Packages that some step could need on this model, in the order in which a boot medium should have them: what the
    /// factory sequence applies comes first, as it does so.
    pub kept: Vec<(Package, CarryReason)>,
    /// Packages that are left out.
    pub omitted: Vec<(Package, CarryReason)>,
    /// Drivers that fit the model equally well, so that the run would fail.
    pub ambiguous: Option<Ambiguous>,
}

/// Decides which of `packages` a machine of `model` could need when it runs `sequence`, and `stage` before it at the
/// factory.
///
/// Only the model and the variables in `known` are known; a condition that asks for anything else could be true.
#[must_use]
pub fn select(
    sequence: &CompiledSequence,
    stage: &CompiledSequence,
    model: &Model,
    known: &BTreeMap<String, Value>,
    packages: &[Package],
) -> Selection {
    let known = with_model(known, model);
    let deploy = uses(sequence, &known);
    let factory = uses(stage, &known);
    let mut selection = Selection::default();
    let chosen = match choose(packages, model) {
        Ok(chosen) => chosen,
        Err(ambiguous) => {
            selection.ambiguous = Some(ambiguous);
            None
        }
    };
    for package in packages {
        match judge(package, model, chosen, &deploy, &factory) {
            Ok(reason) => selection.kept.push((package.clone(), reason)),
            Err(reason) => selection.omitted.push((package.clone(), reason)),
        }
    }
    // A stable sort: what no step at the factory names keeps its order, at the end.
    selection.kept.sort_by_key(|(package, _)| {
        let first = factory.iter().position(|used| used.asks_for(package));
        first.unwrap_or(factory.len())
    });
    selection
}

/// The secrets that a machine of `model` could need when it runs `sequence`; what is known is as for [`select`].
#[must_use]
pub fn secrets(
    sequence: &CompiledSequence,
    model: &Model,
    known: &BTreeMap<String, Value>,
) -> BTreeSet<SecretName> {
    let known = with_model(known, model);
    let could_run = sequence
        .steps
        .iter()
        .filter(|step| never(step, &known).is_none());
    could_run.flat_map(secrets_of_step).collect()
}

fn with_model(known: &BTreeMap<String, Value>, model: &Model) -> BTreeMap<String, Value> {
    let mut known = known.clone();
    for name in MODEL_NAMES {
        known.remove(name);
    }
    known.extend(model_values(model));
    known
}

/// What a model alone tells. An empty field of a model means that nobody knows it.
pub(crate) fn model_values(model: &Model) -> BTreeMap<String, Value> {
    let facts = [&model.vendor, &model.product, &model.sku, &model.baseboard];
    MODEL_NAMES
        .iter()
        .zip(facts)
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
        .collect()
}

/// A step and what it asks for.
struct Use<'s> {
    step: &'s CompiledStep,
    packages: Vec<PackageUse>,
    /// The condition that is false for this model, if one is.
    never: Option<&'s str>,
}

impl Use<'_> {
    fn asks_for(&self, package: &Package) -> bool {
        self.packages.iter().any(|wanted| match wanted {
            PackageUse::Named(name, _) => name == &package.name,
            PackageUse::Drivers => package.kind == PackageKind::Driver,
        })
    }
}

fn uses<'s>(sequence: &'s CompiledSequence, known: &BTreeMap<String, Value>) -> Vec<Use<'s>> {
    sequence
        .steps
        .iter()
        .filter_map(|step| {
            let packages = step_type(&step.kind)?.parse(&step.with).ok()?.packages();
            (!packages.is_empty()).then(|| Use {
                step,
                packages,
                never: never(step, known),
            })
        })
        .collect()
}

/// The condition of a step that is false by what is known, if one is.
fn never<'s>(step: &'s CompiledStep, known: &BTreeMap<String, Value>) -> Option<&'s str> {
    step.when
        .iter()
        .find(|condition| decide(condition, known) == Tri::False)
        .map(String::as_str)
}

/// Keeps (`Ok`) or leaves out (`Err`) a package, with the reason.
fn judge(
    package: &Package,
    model: &Model,
    driver: Option<&Package>,
    deploy: &[Use<'_>],
    factory: &[Use<'_>],
) -> Result<CarryReason, CarryReason> {
    let asks = |used: &&Use<'_>| used.asks_for(package);
    let asking: Vec<&Use<'_>> = deploy.iter().filter(asks).collect();
    if let Some(used) = asking.iter().find(|used| used.never.is_none()) {
        if package.kind == PackageKind::Driver {
            return judge_driver(package, model, driver);
        }
        return Ok(CarryReason::StepAsks {
            step: used.step.path.to_string(),
        });
    }
    if factory.iter().filter(asks).any(|used| used.never.is_none()) {
        return Ok(CarryReason::FactoryAsks);
    }
    match asking.first() {
        Some(used) => Err(CarryReason::NeverRuns {
            step: used.step.path.to_string(),
            condition: used.never.unwrap_or_default().to_owned(),
        }),
        None => Err(CarryReason::NoStepAsks),
    }
}

fn judge_driver(
    package: &Package,
    model: &Model,
    chosen: Option<&Package>,
) -> Result<CarryReason, CarryReason> {
    if package.models.is_empty() {
        return Err(CarryReason::NoModelRule);
    }
    let Some(by) = matched_by(package, model) else {
        let rules: Vec<String> = package.models.iter().map(rule_in_words).collect();
        return Err(CarryReason::OtherModel {
            rules: rules.join(" / "),
            model: model.to_string(),
        });
    };
    let model = model.to_string();
    match chosen {
        Some(chosen) if chosen == package => Ok(match by {
            MatchedBy::Vendor => CarryReason::DriverByVendor { model },
            MatchedBy::Product => CarryReason::DriverByProduct { model },
            MatchedBy::Baseboard => CarryReason::DriverByBaseboard { model },
            MatchedBy::Sku => CarryReason::DriverBySku { model },
        }),
        Some(chosen) => Err(CarryReason::FitsBetter {
            other: chosen.name.to_string(),
            model,
        }),
        // The run must fail on it, not go on without a driver.
        None => Ok(CarryReason::FitsEqually { model }),
    }
}

fn rule_in_words(rule: &ModelRule) -> String {
    let fields = [&rule.vendor, &rule.product, &rule.sku, &rule.baseboard];
    let words: Vec<&str> = fields.into_iter().flatten().map(String::as_str).collect();
    if words.is_empty() {
        "no model".to_owned()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;
    use wire::package::{Model, Package};

    use super::{CarryReason, secrets, select};

    fn package(name: &str, kind: &str, models: serde_json::Value) -> Package {
        serde_json::from_value(json!({
            "name": name, "version": "1", "kind": kind, "manifest": "0".repeat(64), "manifest-bytes": 1,
            "content-bytes": 1, "models": models
        }))
        .unwrap()
    }

    #[test]
    fn secrets_of_steps_that_could_run() {
        let step = |id: &str, when: &str| {
            format!(
                "  - {{ id: {id}, when: '{when}', run-script: {{ script: x, repeatable: true, secrets: {{ P: {id} }} }} }}\n"
            )
        };
        let text = [
            "sequence: s\nsteps:\n".to_owned(),
            step("ours", "site.code == \"BJO\""),
            step("theirs", "site.code == \"TRO\""),
            step("other-model", "vendor == \"Other\""),
            step("unknown", "class == \"8B\""),
            "  - { id: end, finish: { action: stay } }\n".to_owned(),
        ];
        let sequence = crate::document::compile(&text.concat()).unwrap().sequence;
        let model = Model {
            vendor: "Acme".into(),
            ..Model::default()
        };
        let known = BTreeMap::from([("site".to_owned(), json!({ "code": "BJO" }))]);
        let needed: Vec<String> = secrets(&sequence, &model, &known)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(needed, ["ours", "unknown"]);
    }

    #[test]
    fn a_prestage_for_a_model() {
        let text = "sequence: s\nsteps:\n  - { id: os, apply-image: { image: debian } }\n  - { id: boot, when: update, \
                    install-boot-image: { image: boot } }\n  - { id: drivers, apply-drivers: {} }\n  - id: apps\n    \
                    steps:\n      - { id: all, install-packages: { packages: [java] } }\n      - { id: x, when: 'vendor \
                    == \"Other\" and class == \"1STA\"', install-packages: { packages: [other] } }\n      - { id: y, \
                    when: 'class == \"1STA\"', install-packages: { packages: [editor] } }\n  - { id: end, finish: { \
                    action: stay } }\n";
        let sequence = crate::document::compile(text).unwrap().sequence;
        let packages = [
            package("debian", "os-image", json!([])),
            package("boot", "boot-image", json!([])),
            package(
                "acme",
                "driver",
                json!([{"vendor": "Acme", "product": "Book 14"}]),
            ),
            package(
                "foreign",
                "driver",
                json!([{"vendor": "Other", "product": "Book 15"}]),
            ),
            package("java", "application", json!([])),
            package("other", "application", json!([])),
            package("editor", "application", json!([])),
            package("games", "application", json!([])),
        ];
        let model = Model {
            vendor: "Acme".into(),
            product: "Book 14".into(),
            ..Model::default()
        };
        let known = BTreeMap::from([("update".to_owned(), json!(false))]);
        let stage = crate::derive::stage_sequence(&sequence);
        let selection = select(&sequence, &stage, &model, &known, &packages);
        let lines = |what: &str, list: &[(Package, CarryReason)]| -> String {
            list.iter()
                .map(|(package, reason)| format!("{what} {}: {reason}\n", package.name))
                .collect()
        };
        insta::assert_snapshot!(
            lines("keep", &selection.kept) + &lines("omit", &selection.omitted)
        );
    }
}
