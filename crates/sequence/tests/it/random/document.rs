//! Sequences made by chance: valid, and otherwise as odd as the catalogue allows.

use serde_json::{Value, json};

use testkit::chance::Chance;

/// More would only make the runs longer, not odder.
const STEPS_MAX: u64 = 7;

/// A sequence as a document; JSON is YAML.
pub(super) fn document(random: &mut Chance) -> String {
    let mut writer = Writer { random, steps: 0 };
    let mut steps = Vec::new();
    while writer.random.chance(20) {
        steps.push(writer.variables());
    }
    steps.push(writer.step("format-disk", disk()));
    steps.extend(writer.steps(0));
    if writer.random.chance(60) {
        steps.push(writer.plain("install-os-boot", json!({})));
        steps.push(writer.step("restart", json!({ "into": "os" })));
        steps.extend(writer.steps(0));
        if writer.random.chance(30) {
            steps.push(writer.step("restart", json!({ "into": "boot-image" })));
            steps.extend(writer.steps(0));
        }
    }
    let action = *writer.random.pick(&["shut-down", "restart", "stay"]);
    let deployed = writer.random.chance(80);
    let finish = json!({ "action": action, "deployed": deployed });
    steps.push(writer.plain("finish", finish));
    json!({ "sequence": "random", "steps": steps }).to_string()
}

fn disk() -> Value {
    json!({
        "disk": { "removable": false },
        "volumes": [
            { "role": "esp", "size": "1GiB" },
            { "role": "os", "size": "rest" },
            { "role": "staging", "size": "8GiB" },
        ],
    })
}

struct Writer<'a> {
    random: &'a mut Chance,
    /// How many steps and groups there are; it makes their ids.
    steps: usize,
}

impl Writer<'_> {
    fn steps(&mut self, depth: usize) -> Vec<Value> {
        let count = 1 + self.random.below(STEPS_MAX);
        (0..count)
            .map(|_| {
                if depth < 2 && self.random.chance(12) {
                    return self.group(depth);
                }
                self.any()
            })
            .collect()
    }

    fn group(&mut self, depth: usize) -> Value {
        let id = self.id();
        let mut group = json!({ "id": id, "steps": self.steps(depth + 1) });
        self.condition(&mut group);
        group
    }

    fn any(&mut self) -> Value {
        let id = self.steps;
        match self.random.below(13) {
            0 => self.variables(),
            1 => self.step("stage-content", json!({})),
            2 => self.step("apply-image", json!({ "image": "debian" })),
            3 => self.step("apply-drivers", json!({})),
            4 => self.step(
                "apply-files",
                json!({ "package": "files", "to": format!("/opt/f{id}") }),
            ),
            5 => self.step("set-identity", json!({ "hostname": format!("pc-{id}") })),
            6 => self.step("create-user", json!({ "name": format!("u{id}") })),
            7 => self.step("install-boot-image", json!({ "image": "boot-image" })),
            8 => {
                let packages =
                    *self
                        .random
                        .pick(&[&["java"][..], &["editor"][..], &["java", "editor"][..]]);
                self.step("install-packages", json!({ "packages": packages }))
            }
            _ => self.script(),
        }
    }

    fn variables(&mut self) -> Value {
        let name = format!("v{}", self.steps);
        let value = *self.random.pick(&["x", "{{ class }}", "{{ vendor }}"]);
        self.step("set-variables", json!({ name: value }))
    }

    /// A script: two of three have an effect that must not happen twice by itself.
    fn script(&mut self) -> Value {
        let script = match self.random.below(6) {
            0 => "fail".to_owned(),
            1 => "true".to_owned(),
            _ => format!("append /var/log/{}", self.steps),
        };
        let repeatable = self.random.chance(30);
        self.step(
            "run-script",
            json!({ "script": script, "repeatable": repeatable }),
        )
    }

    /// A step with whatever a step can have beside its arguments.
    fn step(&mut self, kind: &str, with: Value) -> Value {
        let mut step = self.plain(kind, with);
        if kind != "format-disk" {
            self.condition(&mut step);
        }
        if self.random.chance(30) {
            step["attempts"] = (1 + self.random.below(3)).into();
            step["wait"] = (*self.random.pick(&["0s", "3s", "10s"])).into();
        }
        if self.random.chance(20) {
            step["continue-on-error"] = true.into();
        }
        if self.random.chance(5) {
            step["timeout"] = "1s".into();
        }
        step
    }

    fn plain(&mut self, kind: &str, with: Value) -> Value {
        json!({ "id": self.id(), kind: with })
    }

    fn id(&mut self) -> String {
        self.steps += 1;
        format!("s{}", self.steps - 1)
    }

    /// Conditions on facts, variables and outputs; now and then one that cannot be decided.
    fn condition(&mut self, step: &mut Value) {
        if !self.random.chance(30) {
            return;
        }
        let earlier = self.random.below(self.steps as u64);
        let condition = match self.random.below(20) {
            0 => format!("outputs['s{earlier}']['exit-code'] == 0"),
            1 => format!("v{earlier} == 'x'"),
            2..5 => "vendor == 'Other'".to_owned(),
            5..10 => format!("outputs['s{earlier}'] is defined"),
            10..13 => "outputs | length > 3".to_owned(),
            _ => "class == '1STA' and vendor == 'Acme'".to_owned(),
        };
        step["when"] = condition.into();
    }
}
