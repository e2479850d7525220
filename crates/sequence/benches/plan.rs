//! How long lint and dry run of a large sequence take: `cargo bench -p sequence`.
//!
//! 200 steps in groups, each with a condition and a template; for the fleet, 2,500 assets of four models on as many
//! threads as there are cores. Prints medians, one line of JSON per figure; nothing here can fail on being slow.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured, and stops if its own document is wrong"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sequence::lint::{KnownModel, Surroundings, lint};
use sequence::run_plan::{Known, plan_run};
use serde_json::{Value, json};
use wire::facts::Facts;
use wire::package::{Model, Package};
use wire::sequence::CompiledSequence;

const STEPS: usize = 200;
const ASSETS: usize = 2500;
const ROUNDS: usize = 15;

fn main() {
    let text = document();
    let packages = packages();
    let models: Vec<KnownModel> = (0..4)
        .map(|number| KnownModel {
            model: Model {
                vendor: "Acme".into(),
                product: format!("Book {number}"),
                ..Model::default()
            },
            smallest_disk_bytes: Some(256 << 30),
        })
        .collect();
    let around = Surroundings {
        packages: &packages,
        models: &models,
        secrets: &[],
    };
    let findings = lint(&text, &around);
    assert!(findings.is_empty(), "{findings:?}");
    let sequence = sequence::document::compile(&text).unwrap().sequence;
    assert_eq!(sequence.steps.len(), STEPS);
    tell(
        "lint-200-steps",
        &measure(ROUNDS, || lint(&text, &around).len()),
    );
    tell(
        "plan-one-asset",
        &measure(ROUNDS, || plan(&sequence, &packages, 7)),
    );
    tell(
        "plan-2500-assets",
        &measure(3, || fleet(&sequence, &packages)),
    );
}

fn tell(name: &str, rounds: &[Duration]) {
    let seconds = |round: &Duration| round.as_secs_f64();
    let line = json!({
        "name": name,
        "median-seconds": seconds(&rounds[rounds.len() / 2]),
        "least-seconds": seconds(&rounds[0]),
        "most-seconds": seconds(&rounds[rounds.len() - 1]),
    });
    println!("{line}");
}

/// Sorted times of `rounds` calls.
fn measure(rounds: usize, work: impl Fn() -> usize) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            assert!(std::hint::black_box(work()) < usize::MAX);
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn fleet(sequence: &CompiledSequence, packages: &[Package]) -> usize {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    (first..ASSETS)
                        .step_by(threads)
                        .map(|asset| plan(sequence, packages, asset))
                        .sum::<usize>()
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    })
}

fn plan(sequence: &CompiledSequence, packages: &[Package], asset: usize) -> usize {
    let facts = Facts {
        vendor: "Acme".into(),
        product: format!("Book {}", asset % 4),
        serial: format!("AB14-{asset:06}"),
        ..Facts::default()
    };
    let variables: BTreeMap<String, Value> = BTreeMap::from([
        (
            "site".to_owned(),
            json!({ "code": "BJO", "name": "Bjørnsletta" }),
        ),
        ("class".to_owned(), json!(format!("{}STA", asset % 3 + 1))),
    ]);
    let known = Known {
        facts: &facts,
        is_seen: false,
        variables: &variables,
        packages,
    };
    plan_run(sequence, &known).steps.len()
}

fn packages() -> Vec<Package> {
    let package = |name: String, kind: &str, extra: Value| -> Package {
        let mut package = json!({
            "name": name, "version": "1", "kind": kind, "manifest": "0".repeat(64), "manifest-bytes": 1,
            "content-bytes": 1000
        });
        for (key, value) in extra.as_object().unwrap() {
            package[key] = value.clone();
        }
        serde_json::from_value(package).unwrap()
    };
    let mut packages = vec![
        package("debian".into(), "os-image", json!({})),
        package("boot-image".into(), "boot-image", json!({})),
    ];
    for number in 0..4 {
        let rule = json!({ "models": [{ "vendor": "Acme", "product": format!("Book {number}") }] });
        packages.push(package(format!("driver-{number}"), "driver", rule));
    }
    for number in 0..100 {
        let install = json!({ "install": { "command": ["dpkg", "-i"] } });
        packages.push(package(format!("app-{number}"), "application", install));
    }
    packages
}

fn document() -> String {
    let mut text = "sequence: large\nvariables: { room: a }\nsteps:\n  - { id: disk, format-disk: { disk: { bus: nvme, \
                    removable: false }, volumes: [{ role: esp, size: 1GiB }, { role: os, size: rest }, { role: staging, \
                    size: 8GiB }] } }\n  - { id: os, apply-image: { image: debian } }\n  - { id: drivers, \
                    apply-drivers: {} }\n  - { id: name, set-identity: { hostname: \"{{ (site.code ~ '-' ~ serial | \
                    last(4)) | hostname }}\" } }\n  - { id: boot, when: tpm, install-boot-image: { image: boot-image } }\n  \
                    - { id: os-boot, install-os-boot: {} }\n"
        .to_owned();
    // Six steps above, `end` below, and in each group a step that installs and one that runs a script.
    let groups = (STEPS - 7).div_ceil(2);
    for number in 0..groups {
        let class = number % 3 + 1;
        let app = number % 100;
        let _ = write!(
            text,
            "  - id: g{number}\n    when: class in [\"{class}STA\", \"{class}STB\"] or product == \"Book 1\"\n    steps:\n      \
             - {{ id: app, when: room != \"b\", install-packages: {{ packages: [app-{app}] }} }}\n"
        );
        if number * 2 + 1 < STEPS - 7 {
            let _ = writeln!(
                text,
                "      - {{ id: note, run-script: {{ script: \"true\", repeatable: true, args: [\"{{{{ serial }}}} {{{{ \
                 class }}}}\"] }} }}"
            );
        }
    }
    text + "  - { id: end, finish: { action: shut-down } }\n"
}
