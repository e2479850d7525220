//! Whether steps are ever reached, in an order that makes sense, and what they may ask earlier ones for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{KnownModel, Linter};
use crate::document::ParsedStep;
use crate::expression;
use crate::problem::{Code, did_you_mean};
use crate::scope::OUTPUTS_NAME;
use crate::steps::apply_image::ApplyImage;
use crate::steps::finish::Finish;
use crate::steps::format_disk::FormatDisk;
use crate::steps::install_boot_image::InstallBootImage;
use crate::steps::install_os_boot::InstallOsBoot;
use crate::steps::{OnRestart, Step};
use crate::tri::{Tri, decide};

impl Linter {
    /// Outputs of steps that don't exist, or come later.
    pub(super) fn outputs(&mut self, steps: &[ParsedStep]) {
        let all: BTreeSet<&str> = steps
            .iter()
            .map(|step| step.compiled.path.as_str())
            .collect();
        let mut earlier = BTreeSet::new();
        for step in steps {
            for (condition, place) in &step.when {
                self.asked_outputs(condition, *place, &earlier, &all);
            }
            for template in step.step.iter().flat_map(|step| step.templates()) {
                let place = step.with.place_of_text(&template.0).unwrap_or(step.place);
                self.asked_outputs(&template.0, place, &earlier, &all);
            }
            earlier.insert(step.compiled.path.as_str());
        }
    }

    fn asked_outputs(
        &mut self,
        text: &str,
        place: crate::problem::Place,
        earlier: &BTreeSet<&str>,
        all: &BTreeSet<&str>,
    ) {
        for path in asked(text) {
            if earlier.contains(path) {
                continue;
            }
            let (message, hint) = if all.contains(path) {
                let message =
                    format!("the step `{path}` comes later, so its output isn't there yet");
                (message, "ask for the output of an earlier step".to_owned())
            } else {
                let hint = did_you_mean(path, earlier.iter().copied())
                    .unwrap_or_else(|| "use the whole path, such as `apps/java`".to_owned());
                (format!("there is no step `{path}`"), hint)
            };
            self.error(Code::Output, place, message, Some(hint));
        }
    }

    /// Conditions that contradict each other, or that no known model meets.
    pub(super) fn reach(&mut self, steps: &[ParsedStep], models: &[KnownModel]) {
        for step in steps {
            let Some((_, place)) = step.when.last() else {
                continue;
            };
            let conditions: Vec<&str> = step.when.iter().map(|(text, _)| text.as_str()).collect();
            let path = &step.compiled.path;
            let assumed = assumptions(&conditions);
            if conditions
                .iter()
                .any(|condition| decide(condition, &assumed) == Tri::False)
            {
                let message =
                    format!("the step `{path}` never runs: its conditions contradict each other");
                let hint = "remove the step, or correct its conditions and those of its groups";
                self.error(Code::Unreachable, *place, message, Some(hint.to_owned()));
            } else if !models.is_empty() && models.iter().all(|known| never(&conditions, known)) {
                let message = format!("the step `{path}` runs on none of the known models");
                let hint = "compare vendor and product with `forestage device list`";
                self.warning(Code::Unreachable, *place, message, hint);
            }
        }
    }

    /// What a machine needs to start, and what is overwritten by a later step.
    pub(super) fn boot(&mut self, steps: &[ParsedStep]) {
        let position = |kind: &str| steps.iter().position(|step| step.compiled.kind == kind);
        let Some(image) = position(ApplyImage::KIND) else {
            return;
        };
        if steps
            .iter()
            .any(|step| step.compiled.with["deployed"] == false)
        {
            // A factory sequence: the deployment makes the OS startable.
            return;
        }
        let place = steps[image].place;
        if position(InstallBootImage::KIND).is_none() {
            let message = "no step names a boot image, so a machine staged with this sequence would not start";
            let hint = "add `install-boot-image: { image: boot-image }` with a condition such as `when: update_boot_image`";
            self.warning(Code::Boot, place, message, hint);
        }
        if position(InstallOsBoot::KIND).is_none() {
            // An image may bring a boot entry of its own, so this is no error.
            let message = "no step makes the OS startable, so the machine would start the boot image for ever";
            let hint = "add `install-os-boot: {}` after the OS image is applied";
            self.warning(Code::Boot, place, message, hint);
        }
        for step in &steps[..image] {
            if step.step_type.writes_into_os {
                let message = format!(
                    "{} writes into the OS, and the OS image is applied after it",
                    step.compiled.kind
                );
                let hint = format!("put it after `{}`", steps[image].compiled.path);
                self.error(Code::Boot, step.place, message, Some(hint));
            }
        }
    }

    /// Repeating what isn't safe to repeat, and going on without what everything rests on.
    pub(super) fn attempts(&mut self, steps: &[ParsedStep]) {
        const GROUND: [&str; 4] = [
            FormatDisk::KIND,
            ApplyImage::KIND,
            InstallOsBoot::KIND,
            Finish::KIND,
        ];
        for step in steps {
            if step.compiled.attempts > 1 && step.on_restart() == OnRestart::Refuse {
                let message = format!(
                    "the step `{}` is tried {} times, and isn't known to be safe to repeat",
                    step.compiled.path, step.compiled.attempts
                );
                let hint =
                    "say `repeatable: true` if repeating it does no harm, or remove `attempts`";
                self.warning(Code::Attempts, step.place, message, hint);
            }
            if step.compiled.continue_on_error && GROUND.contains(&step.compiled.kind.as_str()) {
                let message = format!(
                    "the run goes on if {} fails, and nothing after it can work then",
                    step.compiled.kind
                );
                let hint = Some("remove `continue-on-error`".to_owned());
                self.error(Code::Attempts, step.place, message, hint);
            }
        }
    }
}

/// The step paths that an expression asks the outputs of, as far as they stand there as texts.
fn asked(text: &str) -> Vec<&str> {
    let start = format!("{OUTPUTS_NAME}[");
    text.split(start.as_str())
        .skip(1)
        .filter_map(|rest| {
            let quote = rest
                .chars()
                .next()
                .filter(|letter| "'\"".contains(*letter))?;
            rest[1..].split_once(quote).map(|(path, _)| path)
        })
        .collect()
}

/// What must hold for conditions of the form `name == "text"` to be true together.
fn assumptions(conditions: &[&str]) -> BTreeMap<String, Value> {
    let mut assumed = BTreeMap::new();
    for condition in conditions {
        let Some((name, text)) = condition.split_once("==") else {
            continue;
        };
        let text: Option<String> = serde_json::from_str(&text.trim().replace('\'', "\"")).ok();
        let is_name = expression::condition_names(condition)
            .is_ok_and(|names| names == [name.trim().to_owned()]);
        if let (Some(text), true) = (text, is_name) {
            assumed.entry(name.trim().to_owned()).or_insert(text.into());
        }
    }
    assumed
}

/// Whether some condition is false on this model.
fn never(conditions: &[&str], known: &KnownModel) -> bool {
    let values = crate::select::model_values(&known.model);
    conditions
        .iter()
        .any(|condition| decide(condition, &values) == Tri::False)
}
