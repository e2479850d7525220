//! Every example is one that people may copy.

use std::collections::{BTreeMap, BTreeSet};

use sequence::derive::check_stage;
use sequence::lint::{KnownModel, Surroundings, lint};
use sequence::run_plan::{Known, plan_run};
use serde_json::json;
use wire::facts::Facts;
use wire::package::{Model, Package};
use wire::run_plan::Decision;
use wire::sequence::CompiledSequence;

use crate::world::package;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");

/// A row of `examples/assets/laptops.csv`.
struct Asset {
    facts: Facts,
    site: (String, String),
    class: String,
}

/// The packages that `examples/packages` defines, and the boot image.
fn packages() -> Vec<Package> {
    let mut packages = BTreeMap::new();
    for entry in std::fs::read_dir(format!("{EXAMPLES}/packages")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(str::trim)
        };
        let (name, kind) = (value("name:").unwrap(), value("kind:").unwrap());
        let mut package = package(name, kind);
        if kind == "driver" {
            let rule = text.lines().find(|line| line.contains("vendor:")).unwrap();
            let part = |key: &str| {
                let rest = rule.split_once(key).unwrap().1;
                rest.split([',', '}']).next().unwrap().trim().to_owned()
            };
            package.models[0].vendor = Some(part("vendor:"));
            package.models[0].product = Some(part("product:"));
        }
        packages.insert(name.to_owned(), package);
    }
    packages.insert("boot-image".into(), package("boot-image", "boot-image"));
    packages.into_values().collect()
}

fn assets() -> Vec<Asset> {
    let text = std::fs::read_to_string(format!("{EXAMPLES}/assets/laptops.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| {
        let [serial, tag, vendor, product, code, site, class] =
            line.split(';').collect::<Vec<_>>().try_into().unwrap();
        Asset {
            facts: Facts {
                serial: serial.to_owned(),
                asset_tag: tag.to_owned(),
                vendor: vendor.to_owned(),
                product: product.to_owned(),
                ..Facts::default()
            },
            site: (code.to_owned(), site.to_owned()),
            class: class.to_owned(),
        }
    });
    rows.collect()
}

/// Every example sequence, compiled, by name.
fn sequences() -> BTreeMap<String, (String, CompiledSequence)> {
    let entries = std::fs::read_dir(format!("{EXAMPLES}/sequences")).unwrap();
    let sequences: BTreeMap<_, _> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let compiled = sequence::document::compile(&text)
                .unwrap_or_else(|findings| panic!("{}: {findings:#?}", path.display()));
            let name = compiled.sequence.name.to_string();
            assert_eq!(path.file_stem().unwrap().to_str().unwrap(), name);
            (name, (text, compiled.sequence))
        })
        .collect();
    assert!(sequences.len() >= 5, "examples are missing");
    sequences
}

#[test]
fn every_example_is_clean() {
    let packages = packages();
    let models: Vec<KnownModel> = [("Acme", "Book 14"), ("Fjord", "Note 15")]
        .map(|(vendor, product)| KnownModel {
            model: Model {
                vendor: vendor.into(),
                product: product.into(),
                ..Model::default()
            },
            smallest_disk_bytes: Some(32_000_000_000),
        })
        .to_vec();
    let around = Surroundings {
        packages: &packages,
        models: &models,
        secrets: &["domain-join".parse().unwrap()],
    };
    for (name, (text, _)) in sequences() {
        let findings: Vec<String> = lint(&text, &around)
            .iter()
            .map(|finding| format!("{} {}", finding.code, finding.message))
            .collect();
        assert_eq!(findings, [""; 0], "{name}");
    }
}

#[test]
fn every_example_can_be_planned_for_the_sample_fleet() {
    let packages = packages();
    let mut story = String::new();
    for (name, (_, sequence)) in sequences() {
        let mut names = BTreeSet::new();
        for asset in assets() {
            let variables = BTreeMap::from([
                (
                    "site".to_owned(),
                    json!({ "code": asset.site.0, "name": asset.site.1 }),
                ),
                ("class".to_owned(), json!(asset.class)),
            ]);
            let plan = plan_run(
                &sequence,
                &Known {
                    facts: &asset.facts,
                    is_seen: false,
                    variables: &variables,
                    packages: &packages,
                },
            );
            let failing = plan
                .steps
                .iter()
                .find(|step| step.decision == Decision::Fails);
            assert!(
                failing.is_none(),
                "{name} on {}: {failing:?}",
                asset.facts.serial
            );
            let count = |decision| {
                plan.steps
                    .iter()
                    .filter(|step| step.decision == decision)
                    .count()
            };
            let host_name = plan.host_name.clone().unwrap_or_default();
            story += &format!(
                "{name} on {}: {} run, {} skipped, {} undecided, named {host_name:?}\n",
                asset.facts.serial,
                count(Decision::Runs),
                count(Decision::Skipped),
                count(Decision::Undecided)
            );
            assert!(
                host_name.is_empty() || names.insert(host_name),
                "{name}: a name twice"
            );
        }
    }
    insta::assert_snapshot!(story);
}

#[test]
fn the_factory_sequence_fits_the_pupils_laptop() {
    let sequences = sequences();
    let (_, stage) = &sequences["factory-stage"];
    for deploy in ["pupil-laptop", "exam-laptop", "teacher-laptop"] {
        assert_eq!(check_stage(stage, &sequences[deploy].1), Ok(()));
    }
    assert!(check_stage(stage, &sequences["lab-machine"].1).is_err());
}

/// What every sequence for laptops has, by kind.
const FRAME: [(&str, &str); 5] = [
    (
        "format-disk",
        "- { id: disk, format-disk: { disk: { removable: false }, volumes: [{ role: esp, size: 1GiB }, { role: os, size: \
         rest }, { role: staging, size: 8GiB }] } }",
    ),
    (
        "apply-image",
        "- { id: os, apply-image: { image: debian-12-laptop } }",
    ),
    (
        "install-boot-image",
        "- { id: boot-image, when: update_boot_image, install-boot-image: { image: boot-image } }",
    ),
    ("install-os-boot", "- { id: os-boot, install-os-boot: {} }"),
    ("finish", "- { id: end, finish: { action: shut-down } }"),
];

/// A sequence with this step, in its place or before the end.
fn around(example: &str, kind: &str) -> String {
    let mut steps: Vec<&str> = Vec::new();
    for (framed, text) in FRAME {
        if framed == "finish" && FRAME.iter().all(|(framed, _)| *framed != kind) {
            if kind == "join-domain" {
                steps.push("- { id: restart, restart: { into: os } }");
            }
            steps.push(example);
        }
        steps.push(if framed == kind { example } else { text });
    }
    let lines = steps.iter().flat_map(|step| step.lines());
    let steps: String = lines.map(|line| format!("  {line}\n")).collect();
    format!("sequence: example\nvariables: {{ update_boot_image: false }}\nsteps:\n{steps}")
}

#[test]
fn the_example_of_every_step_is_clean() {
    let packages = [
        package("debian-12-laptop", "os-image"),
        package("boot-image", "boot-image"),
        package("openjdk-17-jre", "application"),
        package("school-background", "files"),
    ];
    let surroundings = sequence::lint::Surroundings {
        packages: &packages,
        models: &[],
        secrets: &["domain-join", "school-proxy", "wifi-school"].map(|name| name.parse().unwrap()),
    };
    for step_type in sequence::steps::CATALOG {
        let text = around(step_type.example, step_type.kind);
        let findings = sequence::lint::lint(&text, &surroundings);
        assert_eq!(findings, [], "{text}");
        let compiled = sequence::document::compile(&text).unwrap().sequence;
        let count = compiled
            .steps
            .iter()
            .filter(|step| step.kind == step_type.kind)
            .count();
        assert_eq!(count, 1, "{text}");
    }
}
