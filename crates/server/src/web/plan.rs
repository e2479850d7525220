//! The page of a plan: how the run that is due would go on one device.
//!
//! Pure functions over a [`DevicePlan`]. Nothing on it changes by itself: it is made anew when it is loaded.

use maud::{Markup, html};
use wire::admin_api::DeviceState;
use wire::device_plan::{DevicePlan, PlanDetail, PlannedContent, StepCounts};
use wire::run_plan::{Decision, PlannedStep};
use wire::variables::EffectiveVariable;

use super::words::{Words, en};
use super::{layout, variables};

/// Characters of a value that are shown; the rest is in its title.
const VALUE_CHARS_MAX: usize = 200;

/// The content of the page.
#[must_use]
pub fn plan_page(words: Words, plan: &DevicePlan) -> Markup {
    html! {
        p.crumbs {
            a href="/devices" { (words.t("Devices")) } " / "
            a.mono href=(layout::device_address(&plan.serial)) { (layout::or_dash(&plan.serial)) } " / "
            span { (words.t("Plan")) }
        }
        (head(words, plan))
        @if let Some(problem) = &plan.problem { (trouble(words, plan, problem)) }
        @match &plan.detail {
            Some(detail) => {
                (steps(words, &detail.run.steps, plan.steps))
                (content(words, plan, &detail.packages))
                (variables(words, detail))
            }
            None => { (nothing_due(words, &plan.serial)) }
        }
    }
}

/// What the page is called.
#[must_use]
pub fn title(words: Words, plan: &DevicePlan) -> String {
    let name = plan.host_name.as_deref().unwrap_or(&plan.serial);
    words.fill("Plan for {name}", &[("name", &layout::or_dash(name))])
}

fn head(words: Words, plan: &DevicePlan) -> Markup {
    let name = plan.host_name.as_deref().unwrap_or(&plan.serial);
    html! {
        section.card.run-head aria-label=(words.t("Plan")) {
            div.headline {
                h1 { (layout::or_dash(name)) }
                span.muted { (words.t("How a run would go, were it ordered now")) }
            }
            dl.identity {
                (pair(words.t("Serial number"), &html! { span.mono { (layout::or_dash(&plan.serial)) } }))
                (pair(words.t("Model"), &html! { (plan.model.vendor) " " (plan.model.product) }))
                (pair(words.t("Site"), &html! { (layout::or_dash(&plan.site_name)) " " span.muted { (plan.site) } }))
                (pair(words.t("Class"), &html! { (layout::or_dash(&plan.class)) }))
                (pair(words.t("Deployment due"), &html! {
                    @match &plan.deployment { Some(name) => { (name) } None => { (words.t("none")) } }
                }))
                @if let Some(sequence) = &plan.sequence { (pair(words.t("Sequence"), &html! { (sequence) })) }
                (pair(words.t("Staged with"), &html! {
                    @match &plan.staged { Some(id) => { (id) } None => { (words.t("nothing, as far as is known")) } }
                }))
                (pair(words.t("Facts from"), &html! {
                    @if plan.is_seen { (words.t("its latest check-in")) } @else { (words.t("the asset file: it never checked in")) }
                }))
                @if plan.sequence.is_some() { (pair(words.t("To fetch"), &to_fetch(words, plan))) }
            }
        }
    }
}

fn pair(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn to_fetch(words: Words, plan: &DevicePlan) -> Markup {
    html! {
        @if plan.fetch_bytes == plan.fetch_bytes_certain {
            (words.bytes(plan.fetch_bytes))
        } @else {
            (words.fill("{least} to {most}", &[
                ("least", &words.bytes(plan.fetch_bytes_certain)), ("most", &words.bytes(plan.fetch_bytes)),
            ]))
        }
    }
}

fn nothing_due(words: Words, serial: &str) -> Markup {
    html! {
        div.empty {
            h2 { (words.t("Nothing is due on this device")) }
            p {
                (words.t("Any sequence can be planned on the command line:")) " "
                code { "forestage sequence plan NAME --asset " (serial) }
            }
        }
    }
}

fn trouble(words: Words, plan: &DevicePlan, problem: &str) -> Markup {
    let failing = plan.detail.iter().flat_map(|detail| &detail.run.steps);
    let hint = failing
        .filter(|step| step.decision == Decision::Fails)
        .find_map(|step| step.hint.as_ref());
    html! {
        section.card.failure.s-failed aria-label=(words.t("What would go wrong")) {
            h2 { (layout::icon(layout::state_icon(DeviceState::Failed))) (words.t("The run would fail")) }
            p.what { (layout::prose(problem)) }
            @if let Some(hint) = hint { p.hint { b { (words.t("What to do:")) } " " (layout::prose(hint)) } }
        }
    }
}

fn steps(words: Words, steps: &[PlannedStep], counts: StepCounts) -> Markup {
    html! {
        section.card.timeline.plan-steps aria-labelledby="steps-title" {
            div.headline {
                h2 #steps-title { (words.t("Steps")) }
                span.muted { (in_words(words, counts)) }
            }
            ol.steps { @for (index, step) in steps.iter().enumerate() { (step_row(words, index + 1, step)) } }
        }
    }
}

fn in_words(words: Words, counts: StepCounts) -> String {
    let counts = [
        (counts.runs, en("{n} run|of steps")),
        (counts.skipped, en("{n} skipped|of steps")),
        (counts.undecided, en("{n} undecided|of steps")),
        (counts.fails, en("{n} fail|of steps")),
    ];
    let parts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, text)| words.fill(text, &[("n", count)]))
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
        Decision::Runs => (
            "t-done",
            en("Runs|a step"),
            layout::state_icon(DeviceState::Running),
        ),
        Decision::Skipped => ("t-skipped", en("Skipped|a step"), "M3 8h10"),
        Decision::Undecided => (
            "t-warning",
            en("Undecided|a step"),
            "M5.500 6a2.500 2.500 0 1 1 3.700 2.200C8.300 8.700 8 9.200 8 10M8 12.500v.1",
        ),
        Decision::Fails => (
            "t-failed",
            en("Fails|a step"),
            layout::state_icon(DeviceState::Failed),
        ),
    };
    Look { class, word, icon }
}

fn step_row(words: Words, number: usize, step: &PlannedStep) -> Markup {
    let look = look(step.decision);
    html! {
        li class={ "entry " (look.class) } {
            span.number { (number) }
            span.state { (layout::icon(look.icon)) span { (words.t(look.word)) } }
            div.what {
                span.title { (layout::or_dash(&step.title)) }
                span.sub { code { (step.path) } " · " (step.kind) }
            }
            div.plan {
                @if let Some(condition) = &step.condition {
                    p.muted {
                        @if step.decision == Decision::Skipped {
                            (layout::prose(&words.fill("because `{condition}` is false", &[("condition", condition)])))
                        } @else {
                            (layout::prose(&words.fill("if `{condition}`", &[("condition", condition)])))
                        }
                    }
                }
                @if !step.until.is_empty() {
                    p.muted {
                        @let until = step.until.join(" + ");
                        @if step.decision == Decision::Undecided {
                            (layout::prose(&words.fill("decided when {until}", &[("until", &until)])))
                        } @else {
                            (layout::prose(&words.fill("planned when {until}", &[("until", &until)])))
                        }
                    }
                }
                @if let Some(text) = &step.text { p { (layout::prose(text)) } }
                @if !step.errors.is_empty() { p.message { (layout::prose(&step.errors.join(": "))) } }
            }
        }
    }
}

fn content(words: Words, plan: &DevicePlan, packages: &[PlannedContent]) -> Markup {
    html! {
        section.block aria-labelledby="content-title" {
            div.headline {
                h2 #content-title { (words.t("Content")) }
                span.muted {
                    @if packages.is_empty() { (words.t("no step asks for any")) } @else { (words.t("To fetch")) ": " (to_fetch(words, plan)) }
                }
            }
            @if !packages.is_empty() {
                div.scroll {
                    table.list aria-labelledby="content-title" {
                        thead { tr {
                            th scope="col" { (words.t("Package")) } th scope="col" { (words.t("Kind")) } th scope="col" { (words.t("Version")) }
                            th scope="col" { (words.t("Staged")) } th scope="col" { (words.t("Needed")) }
                            th.number scope="col" { (words.t("Content")) } th.number scope="col" { (words.t("To fetch")) }
                        } }
                        tbody { @for package in packages { (package_row(words, package)) } }
                    }
                }
            }
        }
    }
}

fn package_row(words: Words, package: &PlannedContent) -> Markup {
    html! {
        tr {
            th scope="row" { (package.name) }
            td { (package.kind) }
            td { span.mono { (package.version) } }
            td {
                @match &package.staged {
                    Some(version) if *version == package.version => { (words.t("the same")) }
                    Some(version) => { span.mono { (version) } }
                    None => { (words.t("no")) }
                }
            }
            td { (if package.certain { words.t("yes") } else { words.t("perhaps") }) }
            td.number { (words.bytes(package.content_bytes)) }
            td.number { @if package.fetch_bytes == 0 { (words.t("nothing")) } @else { (words.bytes(package.fetch_bytes)) } }
        }
    }
}

fn variables(words: Words, detail: &PlanDetail) -> Markup {
    html! {
        section.block aria-labelledby="variables-title" {
            div.headline {
                h2 #variables-title { (words.t("Variables")) }
                span.muted { (detail.variables.len()) }
            }
            div.scroll {
                table.list aria-labelledby="variables-title" {
                    thead { tr {
                        th scope="col" { (words.t("Variable")) } th scope="col" { (words.t("Value")) } th scope="col" { (words.t("From")) }
                    } }
                    tbody { @for variable in &detail.variables { (variable_row(words, variable)) } }
                }
            }
        }
    }
}

fn variable_row(words: Words, variable: &EffectiveVariable) -> Markup {
    let value = variable.value.to_string();
    let is_long = value.chars().nth(VALUE_CHARS_MAX).is_some();
    html! {
        tr {
            th scope="row" { span.mono { (variable.key) } }
            td.value title=[is_long.then_some(&value)] {
                code { (value.chars().take(VALUE_CHARS_MAX).collect::<String>()) @if is_long { "…" } }
            }
            td {
                (variables::origin(words, &variable.origin))
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
        let html = plan_page(Words::ENGLISH, &sample::plan()).into_string();
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
        let html = plan_page(Words::ENGLISH, &plan).into_string();
        assert!(html.contains("Nothing is due on this device"));
        assert!(html.contains("forestage sequence plan NAME --asset"));
    }

    #[test]
    fn nothing_a_device_or_a_document_says_is_markup() {
        sample::assert_harmless(&plan_page(Words::ENGLISH, &sample::hostile_plan()).into_string());
    }
}
