//! The built-in factory sequence, derived from the deploy sequence: there is no second document to keep in step.

use serde_json::{Value, json};
use wire::names::{SequenceName, StepPath};
use wire::sequence::{CompiledSequence, CompiledStep, FORMAT};

use crate::document::TIMEOUT_SECONDS_DEFAULT;
use crate::expression::condition_names;
use crate::scope::FACT_NAMES;
use crate::steps::apply_image::ApplyImage;
use crate::steps::finish::Finish;
use crate::steps::format_disk::FormatDisk;
use crate::steps::install_boot_image::InstallBootImage;
use crate::steps::stage_content::StageContent;
use crate::steps::{Step, step_type};

/// The factory sequence for machines that will run `deploy`.
///
/// Lay out the disk as `deploy` does (by default 1 GiB ESP, 8 GiB staging, the rest for the OS), write the OS image to its
/// place (which stages it on the way, so that the medium is read once), stage the rest of the content, install the boot
/// image, shut down. Of the conditions only those that facts alone
/// decide are kept: in the factory nobody knows a class or a site. An OS image whose condition asks for more is only
/// staged, unless it is the only one. The disk is not marked as handed out.
#[must_use]
pub fn stage_sequence(deploy: &CompiledSequence) -> CompiledSequence {
    let of_kind = |kind: &str| {
        deploy
            .steps
            .iter()
            .filter(|step| step.kind == kind)
            .collect::<Vec<_>>()
    };
    let mut builder = Builder::default();
    let layouts = of_kind(FormatDisk::KIND);
    for step in &layouts {
        builder.copy("disk", "Lay out the disk", step);
    }
    if layouts.is_empty() {
        builder.add(
            "disk",
            "Lay out the disk",
            FormatDisk::KIND,
            default_layout(),
        );
    }
    let images = of_kind(ApplyImage::KIND);
    for step in &images {
        if images.len() == 1
            || step
                .when
                .iter()
                .all(|condition| is_decided_by_facts(condition))
        {
            builder.copy("os", "Write the OS image", step);
        }
    }
    builder.add(
        "content",
        "Stage the content",
        StageContent::KIND,
        json!({}),
    );
    for step in of_kind(InstallBootImage::KIND) {
        builder.copy("boot", "Install the boot image", step);
    }
    builder.add(
        "finish",
        "Shut down",
        Finish::KIND,
        json!({ "action": "shut-down", "deployed": false }),
    );
    // The longest name leaves no room for the ending; then the name alone must do.
    let name =
        SequenceName::new(format!("{}-stage", deploy.name)).unwrap_or_else(|_| deploy.name.clone());
    CompiledSequence {
        format: FORMAT,
        name,
        variables: deploy.variables.clone(),
        steps: builder.steps,
    }
}

/// Why a sequence can't be the factory sequence of another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{stage} can't stage machines for {deploy}: {why}")]
pub struct StageMistake {
    /// The factory sequence.
    pub stage: SequenceName,
    /// The sequence the machines will run.
    pub deploy: SequenceName,
    /// What is wrong.
    pub why: String,
}

/// Checks that `stage`, which an admin wrote, leaves machines that `deploy` can go on with.
///
/// # Errors
/// The disk isn't laid out as `deploy` does it (the staged content would be erased at school), the content or the boot
/// image is missing or comes too early, the machine would count as handed out, or a step means nothing at the factory.
pub fn check_stage(
    stage: &CompiledSequence,
    deploy: &CompiledSequence,
) -> Result<(), StageMistake> {
    let mistake = |why: String| StageMistake {
        stage: stage.name.clone(),
        deploy: deploy.name.clone(),
        why,
    };
    match stage_mistake(stage, deploy) {
        Some(why) => Err(mistake(why)),
        None => Ok(()),
    }
}

fn stage_mistake(stage: &CompiledSequence, deploy: &CompiledSequence) -> Option<String> {
    let position = |kind: &str| stage.steps.iter().position(|step| step.kind == kind);
    let layout = |sequence: &CompiledSequence| {
        let mut steps = sequence.steps.iter();
        let step = steps.find(|step| step.kind == FormatDisk::KIND);
        step.map(|step| step.with.clone())
    };
    let foreign =
        |step: &&CompiledStep| !step_type(&step.kind).is_some_and(|found| found.fits_factory);
    if let Some(step) = stage.steps.iter().find(foreign) {
        return Some(format!(
            "step `{}` is {}, which means nothing at the factory",
            step.path, step.kind
        ));
    }
    let undecided = |step: &&CompiledStep| !step.when.iter().all(|text| is_decided_by_facts(text));
    if let Some(step) = stage.steps.iter().find(undecided) {
        return Some(format!(
            "the condition of step `{}` asks for something that nobody knows at the factory",
            step.path
        ));
    }
    let (Some(disk), Some(content), Some(boot)) = (
        position(FormatDisk::KIND),
        position(StageContent::KIND),
        position(InstallBootImage::KIND),
    ) else {
        return Some("it needs format-disk, stage-content and install-boot-image".to_owned());
    };
    if layout(stage) != Some(layout(deploy).unwrap_or_else(default_layout)) {
        return Some(
            "its format-disk isn't the same, so the content would be erased at school".into(),
        );
    }
    let images_last = stage
        .steps
        .iter()
        .rposition(|step| step.kind == ApplyImage::KIND)
        .unwrap_or(content);
    if disk > content || boot < content.max(images_last) {
        return Some(
            "it must lay out the disk first, and install the boot image after all content".into(),
        );
    }
    let is_handed_out = stage
        .steps
        .last()
        .is_none_or(|step| step.kind != Finish::KIND || step.with["deployed"] != false);
    is_handed_out.then(|| "it must end with `finish: { action: …, deployed: false }`".to_owned())
}

fn default_layout() -> Value {
    json!({
        "disk": { "removable": false },
        "volumes": [
            { "role": "esp", "size": "1GiB" },
            { "role": "os", "size": "rest" },
            { "role": "staging", "size": "8GiB" },
        ],
    })
}

fn is_decided_by_facts(condition: &str) -> bool {
    condition_names(condition)
        .is_ok_and(|names| names.iter().all(|name| FACT_NAMES.contains(&name.as_str())))
}

#[derive(Default)]
struct Builder {
    steps: Vec<CompiledStep>,
}

impl Builder {
    /// Takes over a step of the deploy sequence, with the conditions that can be decided in the factory.
    fn copy(&mut self, id: &str, title: &str, step: &CompiledStep) {
        let when = step
            .when
            .iter()
            .filter(|condition| is_decided_by_facts(condition))
            .cloned()
            .collect();
        self.push(
            id,
            CompiledStep {
                title: title.to_owned(),
                when,
                continue_on_error: false,
                ..step.clone()
            },
        );
    }

    fn add(&mut self, id: &str, title: &str, kind: &str, with: Value) {
        let Ok(path) = StepPath::new(id) else { return };
        debug_assert!(step_type(kind).is_some_and(|step_type| step_type.parse(&with).is_ok()));
        let step = CompiledStep {
            on_restart: None,
            runs_in: None,
            path,
            title: title.to_owned(),
            kind: kind.to_owned(),
            when: Vec::new(),
            timeout_seconds: 4 * TIMEOUT_SECONDS_DEFAULT,
            attempts: 1,
            wait_seconds: 0,
            continue_on_error: false,
            with,
        };
        self.push(id, step);
    }

    /// Gives the step a path of its own: `os`, `os-2`, …
    fn push(&mut self, id: &str, mut step: CompiledStep) {
        let count = self
            .steps
            .iter()
            .filter(|known| known.kind == step.kind)
            .count();
        let id = if count == 0 {
            id.to_owned()
        } else {
            format!("{id}-{}", count + 1)
        };
        if let Ok(path) = StepPath::new(id) {
            step.path = path;
            self.steps.push(step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{check_stage, stage_sequence};

    const DISK: &str = "  - id: disk\n    format-disk:\n      disk: { bus: nvme, removable: false }\n      volumes: [{ \
                        role: esp, size: 1GiB }, { role: os, size: rest }, { role: staging, size: 6GiB }]\n";
    const REST: &str = "  - { id: content, stage-content: {} }\n  - { id: os, apply-image: { image: debian } }\n  - { \
                        id: boot, install-boot-image: { image: boot-image } }\n";
    const END: &str = "  - { id: end, finish: { action: shut-down, deployed: false } }\n";

    #[test]
    fn a_stage_sequence_must_leave_what_the_deployment_needs() {
        let compile = |name: &str, steps: &str| {
            let text = format!("sequence: {name}\nsteps:\n{steps}");
            crate::document::compile(&text).unwrap().sequence
        };
        let os = "  - { id: os, apply-image: { image: debian } }\n";
        let deploy = compile("deploy", &format!("{DISK}{os}"));
        let check = |steps: String| {
            check_stage(&compile("mine", &steps), &deploy)
                .map_or_else(|mistake| mistake.to_string(), |()| "fits".to_owned())
        };
        let power = "  - { id: power, check-machine: { mains-power: true } }\n";
        assert_eq!(check(format!("{power}{DISK}{REST}{END}")), "fits");
        let no_boot_image = check_stage(&stage_sequence(&deploy), &deploy);
        assert!(no_boot_image.is_err());
        for (steps, why) in [
            (
                format!("{}{REST}{END}", DISK.replace("6GiB", "8GiB")),
                "erased at school",
            ),
            (format!("{DISK}{REST}"), "must end with"),
            (
                format!("{DISK}{REST}{}", END.replace("false", "true")),
                "must end with",
            ),
            (format!("{DISK}{END}"), "it needs"),
            (
                format!("{DISK}  - {{ id: user, create-user: {{ name: a }} }}\n{REST}{END}"),
                "means nothing",
            ),
            (
                format!("{DISK}{REST}{os}{END}").replacen("id: os,", "id: os1,", 1),
                "after all content",
            ),
            (
                format!("{DISK}{REST}{END}").replace("id: os,", "id: os, when: class == 'x',"),
                "nobody knows",
            ),
        ] {
            let said = check(steps);
            assert!(said.contains(why), "{said}");
        }
    }

    fn check(steps: &str) -> String {
        let deploy = crate::document::compile(&format!("sequence: s\nsteps:\n{steps}"))
            .unwrap()
            .sequence;
        serde_json::to_string_pretty(&stage_sequence(&deploy)).unwrap()
    }

    #[test]
    fn from_a_sequence_with_everything() {
        insta::assert_snapshot!(check(
            "  - id: disk\n    format-disk:\n      disk: { bus: nvme, removable: false }\n      volumes: [{ role: esp, \
             size: 1GiB }, { role: os, size: rest }, { role: staging, size: 6GiB }]\n  - { id: os, when: \"class == 'x'\", \
             apply-image: { image: debian } }\n  - { id: boot, when: update, install-boot-image: { image: boot-image } }\n"
        ));
    }

    #[test]
    fn from_a_sequence_with_two_images() {
        let text = check(
            "  - { id: a, when: \"vendor == 'Acme'\", apply-image: { image: one } }\n  - { id: b, when: \"class == 'x'\", \
             apply-image: { image: two } }\n",
        );
        assert!(
            text.contains("\"one\"")
                && text.contains("vendor == 'Acme'")
                && !text.contains("\"two\""),
            "{text}"
        );
    }
}
