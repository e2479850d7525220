//! The page of a plan: how the run that is due would go on one device.
//!
//! Pure functions over a [`DevicePlan`]. Nothing on it changes by itself: it is made anew when it is loaded.

use maud::{Markup, html};
use wire::admin_api::DeviceState;
use wire::device_plan::{DevicePlan, PlanDetail, PlannedContent, StepCounts};
use wire::run_plan::{Decision, PlannedStep};
use wire::variables::{EffectiveVariable, VariableOrigin};

use super::{format, layout};

/// Characters of a value that are shown; the rest is in its title.
const VALUE_CHARS_MAX: usize = 200;

/// The content of the page.
#[must_use]
pub fn plan_page(plan: &DevicePlan) -> Markup {
    html! {
        p.crumbs {
            a href="/" { "Overview" } " / " span.mono { (layout::or_dash(&plan.serial)) } " / " span { "Plan" }
        }
        (head(plan))
        @if let Some(problem) = &plan.problem { (trouble(plan, problem)) }
        @match &plan.detail {
            Some(detail) => {
                (steps(&detail.run.steps, plan.steps))
                (content(plan, &detail.packages))
                (variables(detail))
            }
            None => { (nothing_due(&plan.serial)) }
        }
    }
}

/// What the page is called.
#[must_use]
pub fn title(plan: &DevicePlan) -> String {
    let name = plan.host_name.as_deref().unwrap_or(&plan.serial);
    format!("Plan for {}", layout::or_dash(name))
}

fn head(plan: &DevicePlan) -> Markup {
    let name = plan.host_name.as_deref().unwrap_or(&plan.serial);
    html! {
        section.card.run-head aria-label="Plan" {
            div.headline {
                h1 { (layout::or_dash(name)) }
                span.muted { "How a run would go, were it ordered now" }
            }
            dl.identity {
                (pair("Serial number", &html! { span.mono { (layout::or_dash(&plan.serial)) } }))
                (pair("Model", &html! { (plan.model.vendor) " " (plan.model.product) }))
                (pair("Site", &html! { (layout::or_dash(&plan.site_name)) " " span.muted { (plan.site) } }))
                (pair("Class", &html! { (layout::or_dash(&plan.class)) }))
                (pair("Deployment due", &html! {
                    @match &plan.deployment { Some(name) => { (name) } None => { "none" } }
                }))
                @if let Some(sequence) = &plan.sequence { (pair("Sequence", &html! { (sequence) })) }
                (pair("Staged with", &html! {
                    @match &plan.staged { Some(id) => { (id) } None => { "nothing, as far as is known" } }
                }))
                (pair("Facts from", &html! {
                    @if plan.is_seen { "its latest check-in" } @else { "the asset file: it never checked in" }
                }))
                @if plan.sequence.is_some() { (pair("To fetch", &to_fetch(plan))) }
            }
        }
    }
}

fn pair(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn to_fetch(plan: &DevicePlan) -> Markup {
    html! {
        @if plan.fetch_bytes == plan.fetch_bytes_certain {
            (format::bytes(plan.fetch_bytes))
        } @else {
            (format::bytes(plan.fetch_bytes_certain)) " to " (format::bytes(plan.fetch_bytes))
        }
    }
}

fn nothing_due(serial: &str) -> Markup {
    html! {
        div.empty {
            h2 { "Nothing is due on this device" }
            p {
                "Any sequence can be planned on the command line: "
                code { "forestage sequence plan NAME --asset " (serial) }
            }
        }
    }
}

fn trouble(plan: &DevicePlan, problem: &str) -> Markup {
    let failing = plan.detail.iter().flat_map(|detail| &detail.run.steps);
    let hint = failing
        .filter(|step| step.decision == Decision::Fails)
        .find_map(|step| step.hint.as_ref());
    html! {
        section.card.failure.s-failed aria-label="What would go wrong" {
            h2 { (layout::icon(layout::state_icon(DeviceState::Failed))) "The run would fail" }
            p.what { (layout::prose(problem)) }
            @if let Some(hint) = hint { p.hint { b { "What to do: " } (layout::prose(hint)) } }
        }
    }
}

fn steps(steps: &[PlannedStep], counts: StepCounts) -> Markup {
    html! {
        section.card.timeline.plan-steps aria-labelledby="steps-title" {
            div.headline {
                h2 #steps-title { "Steps" }
                span.muted { (in_words(counts)) }
            }
            ol.steps { @for (index, step) in steps.iter().enumerate() { (step_row(index + 1, step)) } }
        }
    }
}

fn in_words(counts: StepCounts) -> String {
    let counts = [
        (counts.runs, "run"),
        (counts.skipped, "skipped"),
        (counts.undecided, "undecided"),
        (counts.fails, "fail"),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    parts.join(" · ")
}

struct Look {
    class: &'static str,
    word: &'static str,
    icon: &'static str,
}

/// Each decision has its own shape and word, so that colour is never needed to tell them apart.
const fn look(decision: Decision) -> Look {
    let (class, word, icon) = match decision {
        Decision::Runs => ("t-done", "Runs", layout::state_icon(DeviceState::Running)),
        Decision::Skipped => ("t-skipped", "Skipped", "M3 8h10"),
        Decision::Undecided => (
            "t-warning",
            "Undecided",
            "M5.500 6a2.500 2.500 0 1 1 3.700 2.200C8.300 8.700 8 9.200 8 10M8 12.500v.1",
        ),
        Decision::Fails => ("t-failed", "Fails", layout::state_icon(DeviceState::Failed)),
    };
    Look { class, word, icon }
}

fn step_row(number: usize, step: &PlannedStep) -> Markup {
    let look = look(step.decision);
    html! {
        li class={ "entry " (look.class) } {
            span.number { (number) }
            span.state { (layout::icon(look.icon)) span { (look.word) } }
            div.what {
                span.title { (layout::or_dash(&step.title)) }
                span.sub { code { (step.path) } " · " (step.kind) }
            }
            div.plan {
                @if let Some(condition) = &step.condition {
                    p.muted {
                        @if step.decision == Decision::Skipped { "because " } @else { "if " }
                        code { (condition) }
                        @if step.decision == Decision::Skipped { " is false" }
                    }
                }
                @if !step.until.is_empty() {
                    p.muted {
                        @if step.decision == Decision::Undecided { "decided when " } @else { "planned when " }
                        (layout::prose(&step.until.join(" and ")))
                    }
                }
                @if let Some(text) = &step.text { p { (layout::prose(text)) } }
                @if !step.errors.is_empty() { p.message { (layout::prose(&step.errors.join(": "))) } }
            }
        }
    }
}

fn content(plan: &DevicePlan, packages: &[PlannedContent]) -> Markup {
    html! {
        section.block aria-labelledby="content-title" {
            div.headline {
                h2 #content-title { "Content" }
                span.muted {
                    @if packages.is_empty() { "no step asks for any" } @else { (to_fetch(plan)) " to fetch" }
                }
            }
            @if !packages.is_empty() {
                div.scroll {
                    table.list aria-labelledby="content-title" {
                        thead { tr {
                            th scope="col" { "Package" } th scope="col" { "Kind" } th scope="col" { "Version" }
                            th scope="col" { "Staged" } th scope="col" { "Needed" }
                            th.number scope="col" { "Content" } th.number scope="col" { "To fetch" }
                        } }
                        tbody { @for package in packages { (package_row(package)) } }
                    }
                }
            }
        }
    }
}

fn package_row(package: &PlannedContent) -> Markup {
    html! {
        tr {
            th scope="row" { (package.name) }
            td { (package.kind) }
            td { span.mono { (package.version) } }
            td {
                @match &package.staged {
                    Some(version) if *version == package.version => { "the same" }
                    Some(version) => { span.mono { (version) } }
                    None => { "no" }
                }
            }
            td { (if package.certain { "yes" } else { "perhaps" }) }
            td.number { (format::bytes(package.content_bytes)) }
            td.number { @if package.fetch_bytes == 0 { "nothing" } @else { (format::bytes(package.fetch_bytes)) } }
        }
    }
}

fn variables(detail: &PlanDetail) -> Markup {
    html! {
        section.block aria-labelledby="variables-title" {
            div.headline {
                h2 #variables-title { "Variables" }
                span.muted { (detail.variables.len()) }
            }
            div.scroll {
                table.list aria-labelledby="variables-title" {
                    thead { tr {
                        th scope="col" { "Variable" } th scope="col" { "Value" } th scope="col" { "From" }
                    } }
                    tbody { @for variable in &detail.variables { (variable_row(variable)) } }
                }
            }
        }
    }
}

fn variable_row(variable: &EffectiveVariable) -> Markup {
    let value = variable.value.to_string();
    let is_long = value.chars().nth(VALUE_CHARS_MAX).is_some();
    html! {
        tr {
            th scope="row" { span.mono { (variable.key) } }
            td.value title=[is_long.then_some(&value)] {
                code { (value.chars().take(VALUE_CHARS_MAX).collect::<String>()) @if is_long { "…" } }
            }
            td {
                @match &variable.origin {
                    VariableOrigin::Asset => { span.muted { "the asset" } }
                    origin => { (origin) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_plan_tells_every_step() {
        let html = plan_page(&sample::plan()).into_string();
        insta::assert_snapshot!(html.replace("><", ">\n<"));
    }

    #[test]
    fn a_device_with_nothing_due_says_what_to_do() {
        let plan = DevicePlan {
            deployment: None,
            sequence: None,
            problem: None,
            detail: None,
            ..sample::plan()
        };
        let html = plan_page(&plan).into_string();
        assert!(html.contains("Nothing is due on this device"));
        assert!(html.contains("forestage sequence plan NAME --asset"));
    }

    #[test]
    fn nothing_a_device_or_a_document_says_is_markup() {
        sample::assert_harmless(&plan_page(&sample::hostile_plan()).into_string());
    }
}
