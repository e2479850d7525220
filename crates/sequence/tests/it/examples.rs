//! Every example is one that people may copy.

use crate::world::package;

#[test]
fn every_example_is_clean() {
    let packages = [
        package("debian-12-laptop", "os-image"),
        package("boot-image", "boot-image"),
        package("openjdk-17-jre", "application"),
        package("vim-editor", "application"),
        package("norwegian-dictionary", "application"),
    ];
    let around = sequence::lint::Surroundings {
        packages: &packages,
        models: &[],
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/sequences");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            sequence::lint::lint(&text, &around),
            [],
            "{}",
            path.display()
        );
        assert!(sequence::document::compile(&text).is_ok());
        count += 1;
    }
    assert!(count > 0, "there are no examples in {folder}");
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
    };
    for step_type in sequence::steps::CATALOG {
        let text = around(step_type.example, step_type.kind);
        assert_eq!(sequence::lint::lint(&text, &surroundings), [], "{text}");
        let compiled = sequence::document::compile(&text).unwrap().sequence;
        let count = compiled
            .steps
            .iter()
            .filter(|step| step.kind == step_type.kind)
            .count();
        assert_eq!(count, 1, "{text}");
    }
}
