//! The lint: everything that can be told about a sequence without a device.

use std::collections::BTreeSet;

use wire::admin_api::{Finding, Severity};
use wire::event::Environment;
use wire::names::SecretName;
use wire::package::{Model, Package, PackageKind};

use crate::document::{self, Parsed, ParsedStep};
use crate::expression;
use crate::problem::{Code, Place, did_you_mean, finding};
use crate::scope;
use crate::steps::restart::environment_name;
use crate::steps::{Flow, OnRestart, PackageUse};

mod content;
mod flow;
mod secrets;

pub use secrets::{shown, without_secrets};

/// What the lint may know beside the document.
#[derive(Debug, Clone, Copy, Default)]
pub struct Surroundings<'a> {
    /// The published packages, each at its current version.
    pub packages: &'a [Package],
    /// The models of the machines that are known.
    pub models: &'a [KnownModel],
    /// The secrets that have a value.
    pub secrets: &'a [SecretName],
}

/// A model that machines of are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownModel {
    /// The model.
    pub model: Model,
    /// The smallest disk a machine of it was seen with, in bytes; `None` if none was seen yet.
    pub smallest_disk_bytes: Option<u64>,
}

/// Everything [`document::compile`] finds, and what its surroundings and the order of the steps tell.
#[must_use]
pub fn lint(text: &str, around: &Surroundings<'_>) -> Vec<Finding> {
    let Parsed {
        variables,
        variable_places,
        steps,
        findings,
        ..
    } = document::parse(text);
    let mut linter = Linter { findings };
    linter.packages(&steps, around.packages);
    linter.names(&steps, variables.keys().cloned().collect());
    linter.outputs(&steps);
    linter.order(&steps);
    linter.finish(&steps);
    linter.environments(&steps);
    linter.boot(&steps);
    linter.reach(&steps, around.models);
    linter.attempts(&steps);
    linter.secret_variables(&variables, &variable_places);
    linter.secret_arguments(&steps);
    linter.unset_secrets(&steps, around.secrets);
    linter.drivers(&steps, around);
    linter.disks(&steps, around);
    let mut findings = linter.findings;
    document::sort(&mut findings);
    findings.dedup();
    findings
}

struct Linter {
    findings: Vec<Finding>,
}

impl Linter {
    fn error(
        &mut self,
        code: Code,
        place: Place,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.findings
            .push(finding(Severity::Error, code, place, message.into(), hint));
    }

    fn warning(&mut self, code: Code, place: Place, message: impl Into<String>, hint: &str) {
        let hint = Some(hint.to_owned());
        self.findings.push(finding(
            Severity::Warning,
            code,
            place,
            message.into(),
            hint,
        ));
    }

    fn packages(&mut self, steps: &[ParsedStep], published: &[Package]) {
        for step in steps {
            for wanted in step.step.iter().flat_map(|step| step.packages()) {
                let PackageUse::Named(name, kind) = wanted else {
                    continue;
                };
                let place = step.with.place_of_text(name.as_str()).unwrap_or(step.place);
                let kinds: BTreeSet<PackageKind> = published
                    .iter()
                    .filter(|package| package.name == name)
                    .map(|package| package.kind)
                    .collect();
                if kinds.is_empty() {
                    let names = published
                        .iter()
                        .filter(|package| package.kind == kind)
                        .map(|p| p.name.as_str());
                    let hint = did_you_mean(name.as_str(), names)
                        .or_else(|| Some("publish it first".to_owned()));
                    self.error(
                        Code::Package,
                        place,
                        format!("package {name} is not published"),
                        hint,
                    );
                } else if !kinds.contains(&kind) {
                    let is = kinds
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(" and ");
                    let message = format!(
                        "package {name} is of kind {is}, {} needs {kind}",
                        step.compiled.kind
                    );
                    self.error(Code::PackageKind, place, message, None);
                }
            }
        }
    }

    /// Names in conditions and templates that nobody gives a value.
    fn names(&mut self, steps: &[ParsedStep], mut known: BTreeSet<String>) {
        let built_in = scope::FACT_NAMES
            .iter()
            .chain(&scope::ORDER_NAMES)
            .chain([&scope::OUTPUTS_NAME]);
        known.extend(built_in.map(|name| (*name).to_owned()));
        let mut seen = BTreeSet::new();
        for step in steps {
            for (condition, place) in &step.when {
                let names = expression::condition_names(condition).unwrap_or_default();
                self.undefined(&names, &known, *place, &mut seen);
            }
            for template in step.step.iter().flat_map(|step| step.templates()) {
                let place = step.with.place_of_text(&template.0).unwrap_or(step.place);
                let names = expression::template_names(&template.0).unwrap_or_default();
                self.undefined(&names, &known, place, &mut seen);
            }
            if let (true, Some(values)) = (
                step.step_type.sets_variables,
                step.compiled.with.as_object(),
            ) {
                known.extend(values.keys().cloned());
            }
        }
    }

    fn undefined(
        &mut self,
        names: &[String],
        known: &BTreeSet<String>,
        place: Place,
        seen: &mut BTreeSet<(u32, u32, String)>,
    ) {
        for name in names.iter().filter(|name| !known.contains(*name)) {
            // The condition of a group is met again at each of its steps.
            if !seen.insert((place.line, place.column, name.clone())) {
                continue;
            }
            let hint = did_you_mean(name, known.iter().map(String::as_str)).or_else(|| {
                Some(format!(
                    "give `{name}` a value under `variables` at the top; an order may change it"
                ))
            });
            self.error(
                Code::Undefined,
                place,
                format!("`{name}` has no value here"),
                hint,
            );
        }
    }

    /// Until the staging partition exists the journal lives in memory, and a power cut begins the run anew.
    fn order(&mut self, steps: &[ParsedStep]) {
        let Some(makes_staging) = steps.iter().position(|step| step.step_type.makes_staging) else {
            return;
        };
        for step in &steps[..makes_staging] {
            if step.on_restart() != OnRestart::Redo {
                let kind = &step.compiled.kind;
                let message =
                    format!("{kind} stands before the disk is laid out, and isn't safe to repeat");
                let hint = format!("put it after `{}`", steps[makes_staging].compiled.path);
                self.error(Code::Order, step.place, message, Some(hint));
            }
        }
    }

    fn finish(&mut self, steps: &[ParsedStep]) {
        let Some(last) = steps.last() else { return };
        match steps.iter().position(|step| step.step_type.ends_run) {
            None => {
                let hint = Some("add `finish: { action: shut-down }`".to_owned());
                self.error(
                    Code::Finish,
                    last.place,
                    "the sequence doesn't end with `finish`",
                    hint,
                );
            }
            Some(index) => {
                for step in &steps[index + 1..] {
                    let message = format!(
                        "the step `{}` stands after `finish` and never runs",
                        step.compiled.path
                    );
                    self.error(
                        Code::Finish,
                        step.place,
                        message,
                        Some("put it before `finish`".to_owned()),
                    );
                }
                if let Some((_, place)) = steps[index].when.first() {
                    self.error(
                        Code::Finish,
                        *place,
                        "`finish` can't have a condition",
                        Some("remove `when`".to_owned()),
                    );
                }
            }
        }
    }

    /// Follows the run through its restarts.
    fn environments(&mut self, steps: &[ParsedStep]) {
        let mut current = Some(Environment::BootImage);
        for step in steps {
            let needed = step.step_type.needs.or(step.compiled.runs_in);
            if let (Some(needed), Some(actual)) = (needed, current)
                && needed != actual
            {
                let (needed, actual) = (environment_name(needed), environment_name(actual));
                let message = format!(
                    "{} runs in {needed} only, the run is in {actual} by then",
                    step.compiled.kind
                );
                self.error(
                    Code::Restart,
                    step.place,
                    message,
                    Some("put it before the restart".to_owned()),
                );
            }
            if let Some(Flow::Suspend(into)) = step.step.as_ref().map(|step| step.flow()) {
                current = if step.when.is_empty() || current == Some(into) {
                    Some(into)
                } else {
                    None
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::package::Package;

    use super::{KnownModel, Surroundings, lint};

    fn published() -> Vec<Package> {
        let package = |name: &str, kind: &str| {
            serde_json::from_value(serde_json::json!({
                "name": name, "version": "1", "kind": kind, "manifest": "0".repeat(64), "manifest-bytes": 1,
                "content-bytes": 1
            }))
            .unwrap()
        };
        vec![
            package("debian", "os-image"),
            package("boot-image", "boot-image"),
            package("java", "application"),
        ]
    }

    /// One finding per line: what the CLI prints.
    fn check(text: &str) -> String {
        let packages = published();
        let around = Surroundings {
            packages: &packages,
            models: &[],
            secrets: &[],
        };
        lines(&lint(text, &around))
    }

    fn lines(findings: &[wire::admin_api::Finding]) -> String {
        let line = |finding: &wire::admin_api::Finding| {
            let hint = finding
                .hint
                .as_ref()
                .map_or_else(String::new, |hint| format!("\n    hint: {hint}"));
            let severity = format!("{:?}", finding.severity).to_lowercase();
            format!(
                "{}:{}: {severity} {}: {}{hint}",
                finding.line, finding.column, finding.code, finding.message
            )
        };
        findings.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_secret_that_nobody_has_set() {
        let text = "sequence: a\nsteps:\n  - id: a\n    run-script:\n      script: a\n      secrets: { A: domain-join }\n  \
                    - { id: b, finish: { action: shut-down } }\n";
        let findings = |set: &[&str]| {
            let secrets: Vec<_> = set.iter().map(|name| name.parse().unwrap()).collect();
            let around = Surroundings {
                packages: &[],
                models: &[],
                secrets: &secrets,
            };
            let mut findings = lint(text, &around);
            findings.retain(|finding| finding.code == "FS027");
            lines(&findings)
        };
        assert_eq!(findings(&["domain-join", "wifi"]), "");
        assert_eq!(
            findings(&[]),
            "6:21: error FS027: the secret domain-join is not set\n    hint: set it first: `forestage secret set domain-join`"
        );
        assert!(findings(&["domain-joins"]).contains("did you mean"));
    }

    #[test]
    fn mistakes_of_form() {
        insta::assert_snapshot!(check(include_str!("../tests/lint/form.yaml")));
    }

    #[test]
    fn mistakes_of_meaning() {
        insta::assert_snapshot!(check(include_str!("../tests/lint/meaning.yaml")));
    }

    #[test]
    fn mistakes_that_only_a_device_would_meet() {
        insta::assert_snapshot!(check(include_str!("../tests/lint/device.yaml")));
    }

    #[test]
    fn what_models_and_packages_tell() {
        let driver = |name: &str, rule: serde_json::Value| -> Package {
            serde_json::from_value(serde_json::json!({
                "name": name, "version": "1", "kind": "driver", "manifest": "0".repeat(64), "manifest-bytes": 1,
                "content-bytes": 1, "models": [rule]
            }))
            .unwrap()
        };
        let mut packages = published();
        packages[0].content_bytes = 20 << 30;
        let book = serde_json::json!({ "vendor": "Acme", "product": "Book 14" });
        packages.push(driver("book", book.clone()));
        packages.push(driver("book-too", book));
        let sku = serde_json::json!({ "vendor": "Acme", "sku": "B13" });
        packages.push(driver("book-13", sku));
        let model = |product: &str, sku: &str, gib: u64| KnownModel {
            model: wire::package::Model {
                vendor: "Acme".into(),
                product: product.into(),
                sku: sku.into(),
                ..Default::default()
            },
            smallest_disk_bytes: Some(gib << 30),
        };
        let models = [
            model("Book 14", "", 16),
            model("Book 14", "B13", 64),
            model("Note 9", "", 4),
        ];
        let around = Surroundings {
            packages: &packages,
            models: &models,
            secrets: &[],
        };
        insta::assert_snapshot!(lines(&lint(
            include_str!("../tests/lint/models.yaml"),
            &around
        )));
    }

    #[test]
    fn not_yaml() {
        insta::assert_snapshot!(check("sequence: [x\nsteps: {"));
        insta::assert_snapshot!(check("sequence: a\nsequence: b\nsteps: []"));
        insta::assert_snapshot!(check(""));
        insta::assert_snapshot!(check(&"[".repeat(1000)));
    }

    #[test]
    fn a_good_document_has_no_findings() {
        let text = "sequence: good\nvariables: { keyboard: no }\nsteps:\n  - id: disk\n    format-disk:\n      \
                    disk: { bus: nvme, removable: false }\n      volumes:\n        - { role: esp, size: 1GiB }\n        \
                    - { role: os, size: rest }\n        - { role: staging, size: 8GiB }\n  - id: os\n    apply-image: \
                    { image: debian }\n  - id: id\n    set-identity:\n      hostname: \"{{ serial | hostname }}\"\n      \
                    keyboard: \"{{ keyboard }}\"\n  - { id: os-boot, install-os-boot: {} }\n  - { id: boot, \
                    when: serial == \"x\", install-boot-image: { image: boot-image } }\n  - id: end\n    finish: { action: stay }\n";
        assert_eq!(check(text), "");
        let compiled = crate::document::compile(text).unwrap();
        assert_eq!(
            compiled.sequence.variables["keyboard"], "no",
            "the Norwegian keyboard is not a truth value"
        );
    }

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../docs/formats/sequence.md");
        for code in crate::problem::Code::ALL {
            assert!(
                page.contains(code.text()),
                "{} is not in docs/formats/sequence.md",
                code.text()
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(text in "[a-z:\\- \n{}\\[\\]'\"&*|>0-9]{0,120}") {
            let _ = check(&text);
        }

        #[test]
        fn a_cut_document_never_panics(cut in 0_usize..4000) {
            let text = include_str!("../../../examples/sequences/pupil-laptop.yaml");
            let cut = text.floor_char_boundary(cut.min(text.len()));
            let _ = check(&text[..cut]);
        }
    }
}
