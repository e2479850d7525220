//! The same in lines, for a console without a framebuffer: what changed, and no more.

use super::model::{Phase, ScreenModel};
use super::text::{clock, estimate, harmless, seconds};

/// The lines that tell how `now` differs from `before`. Without control characters, whatever the model holds.
pub(crate) fn lines(before: Option<&ScreenModel>, now: &ScreenModel) -> Vec<String> {
    let mut lines = Vec::new();
    let changed = |part: fn(&ScreenModel) -> String| {
        let text = part(now);
        (!text.is_empty() && before.is_none_or(|before| part(before) != text)).then_some(text)
    };
    lines.extend(changed(title));
    lines.extend(changed(machine));
    lines.extend(changed(step));
    lines.extend(changed(tenth));
    lines.extend(changed(ended));
    if before.is_none_or(|before| before.error != now.error) {
        lines.extend(error(now));
    }
    lines
}

fn title(model: &ScreenModel) -> String {
    let or = |text: &str, default: &str| {
        if harmless(text).is_empty() {
            default.to_owned()
        } else {
            harmless(text)
        }
    };
    let headline = or(&model.headline, model.phase.headline());
    let message = or(&model.message, model.phase.message());
    if message.is_empty() {
        format!("== {headline}")
    } else {
        format!("== {headline}. {message}")
    }
}

fn machine(model: &ScreenModel) -> String {
    let machine = &model.machine;
    let parts = [
        machine.name.clone().unwrap_or_default(),
        machine.serial.clone(),
        machine.model.clone(),
    ];
    let parts: Vec<String> = parts
        .iter()
        .map(|part| harmless(part))
        .filter(|part| !part.is_empty())
        .collect();
    if parts.is_empty() {
        String::new()
    } else {
        format!("   machine: {}", parts.join(", "))
    }
}

fn step(model: &ScreenModel) -> String {
    let Some(step) = &model.step else {
        return String::new();
    };
    format!(
        "   step {} of {}: {}",
        step.number,
        step.count,
        harmless(&step.title)
    )
}

/// Changes with every tenth of a step, not with every percent; the estimate would change all the time.
fn tenth(model: &ScreenModel) -> String {
    let percent = model
        .step
        .as_ref()
        .and_then(|step| step.percent.map(|percent| (step.number, percent / 10 * 10)));
    match percent {
        Some((number, percent)) if percent > 0 => format!("   step {number}: {percent} %"),
        _ => String::new(),
    }
}

fn ended(model: &ScreenModel) -> String {
    match (model.phase, model.elapsed) {
        (Phase::StagedDone | Phase::DeployDone | Phase::Failed, Some(elapsed)) => {
            format!("   after {} ({})", seconds(elapsed), clock(elapsed))
        }
        (Phase::Staging | Phase::Deploying, _) => match (&model.step, model.remaining) {
            // Said once per step.
            (Some(step), Some(remaining)) if step.percent == Some(0) => {
                format!("   step {}: {} left", step.number, estimate(remaining))
            }
            _ => String::new(),
        },
        _ => String::new(),
    }
}

fn error(model: &ScreenModel) -> Vec<String> {
    let Some(error) = &model.error else {
        return Vec::new();
    };
    let mut lines = vec![format!("error: {}", harmless(&error.what))];
    if let Some(step) = &error.step {
        lines.push(format!("  step: {}", harmless(step)));
    }
    lines.extend(
        error
            .why
            .iter()
            .map(|why| format!("  cause: {}", harmless(why))),
    );
    lines.extend(
        error
            .last_lines
            .iter()
            .map(|line| format!("  it said: {}", harmless(line))),
    );
    lines.extend(
        error
            .hint
            .iter()
            .map(|hint| format!("  hint: {}", harmless(hint))),
    );
    if let Some(run) = &model.run {
        lines.extend(run.again.iter().map(|way| format!("  {}", harmless(way))));
        lines.push(format!("  run: {}", harmless(&run.code)));
        lines.push(format!("  see: {}", harmless(&run.link)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::lines;
    use crate::screen::{ErrorText, Phase, ScreenModel, StepText};
    use std::time::Duration;

    #[test]
    fn only_what_changed_is_said() {
        let mut model = ScreenModel {
            phase: Phase::Deploying,
            ..ScreenModel::default()
        };
        model.machine.serial = "PF4\x1b[31m".into();
        model.step = Some(StepText {
            number: 1,
            count: 3,
            title: "Apply image".into(),
            ..StepText::default()
        });
        assert_eq!(
            lines(None, &model),
            [
                "== Setting up this machine",
                "   machine: PF4 [31m",
                "   step 1 of 3: Apply image"
            ]
        );
        let before = model.clone();
        model.elapsed = Some(Duration::from_secs(9));
        model.step.as_mut().unwrap().percent = Some(9);
        assert_eq!(lines(Some(&before), &model), [""; 0]);
        model.step.as_mut().unwrap().percent = Some(31);
        assert_eq!(lines(Some(&before), &model), ["   step 1: 30 %"]);
        let before = model.clone();
        model.phase = Phase::Failed;
        model.error = Some(ErrorText {
            what: "cannot write".into(),
            why: vec!["full".into()],
            ..ErrorText::default()
        });
        assert_eq!(
            lines(Some(&before), &model),
            [
                "== FAILED",
                "   after 9 seconds (0:09)",
                "error: cannot write",
                "  cause: full"
            ]
        );
    }
}
