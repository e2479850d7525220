//! One collection: its rule, who is in and why.

use maud::{Markup, html};
use serde_json::{Value, json};
use wire::admin_api::CollectionRow;
use wire::collections::{CollectionPreview, CollectionRule, MemberWhy, Membership};
use wire::device_api::ApiError;
use wire::names::CollectionName;
use wire::variables::VariableScope;

use super::table;
use crate::limits::TITLE_CHARS_MAX;
use crate::web::draw;
use crate::web::filter::encode;
use crate::web::layout;
use crate::web::variables;
use crate::web::words::{Words, en};

/// What the page of a collection shows.
pub(super) struct Shown<'s> {
    pub(super) name: &'s CollectionName,
    pub(super) title: &'s str,
    pub(super) stored: &'s CollectionRule,
    /// The rule in the form: the stored one, or one that is tried out.
    pub(super) rule: &'s CollectionRule,
    pub(super) preview: &'s Result<CollectionPreview, ApiError>,
    pub(super) others: &'s [CollectionRow],
    pub(super) can_change: bool,
}

/// The page.
pub(super) fn one(words: Words, shown: &Shown<'_>) -> Markup {
    html! {
        (draw::head(&[("/collections", words.t("Collections"))], shown.name.as_str(), shown.title,
            &variables::button(words, VariableScope::Collection, shown.name.as_str())))
        section.card {
            h2 { (words.t("Rule")) }
            @if shown.can_change { (rule_form(words, shown)) }
            @else if shown.stored.rule.is_empty() { p.muted { (words.t("No rule: devices are put in by hand or by an import.")) } }
            @else { p { code { (shown.stored.rule) } } }
        }
        @match shown.preview {
            Err(error) => div.problem role="alert" { div { (layout::refusal(words, error)) } },
            Ok(preview) => (members(words, preview, shown.can_change)),
        }
        @if shown.can_change { (title_form(words, shown)) }
    }
}

fn title_form(words: Words, shown: &Shown<'_>) -> Markup {
    html! {
        details.edit { summary { (words.t("Change the title")) }
            form.stacked.card data-api={ "PUT /api/v1/collections/" (encode(shown.name.as_str())) } {
                input type="hidden" name="name" value=(shown.name);
                label for="title" { (words.t("Title")) }
                input #title name="title" value=(shown.title) maxlength=(TITLE_CHARS_MAX) data-changed data-empty="send" autocomplete="off";
                div.buttons { button.primary { (words.t("Store")) } }
            }
        }
    }
}

fn rule_form(words: Words, shown: &Shown<'_>) -> Markup {
    let is_tried = shown.rule != shown.stored && shown.preview.is_ok();
    html! {
        form.stacked method="get" action={ "/collections/" (encode(shown.name.as_str())) } {
            label for="rule" { (words.t("Who is in, besides those put in by hand")) }
            input #rule name="rule" value=(shown.rule.rule) maxlength="1000" spellcheck="false" autocomplete="off"
                placeholder="site.code == 'BJO' and class is startingwith('1')";
            label for="limit-to" { (words.t("Only devices that are also in")) }
            select #limit-to name="limit-to" {
                option value="" { (words.t("no limit")) }
                @for other in shown.others.iter().filter(|other| other.name != *shown.name) {
                    option value=(other.name) selected[other.name.as_str() == shown.rule.limit_to] { (other.name) }
                }
            }
            p.muted.small { (words.t("A rule sees:")) " " code { (crate::fleet::targeting::rules::NAMES.join(", ")) } }
            div.buttons { button { (words.t("Try it out")) } }
        }
        @if is_tried {
            form data-api={ "PUT /api/v1/collections/" (encode(shown.name.as_str())) "/rule" }
                data-then={ "/collections/" (encode(shown.name.as_str())) } {
                input type="hidden" name="rule" value=(shown.rule.rule) data-empty="send";
                input type="hidden" name="limit-to" value=(shown.rule.limit_to) data-empty="send";
                p { (words.t("This rule is tried out and not stored yet.")) }
                button.primary { (words.t("Store the rule")) }
            }
        }
    }
}

fn members(words: Words, preview: &CollectionPreview, can_change: bool) -> Markup {
    let figures = [
        (en("in"), preview.members),
        (en("by rule"), preview.by_rule),
        (en("excluded"), preview.excluded),
        (en("limited"), preview.limited),
        (en("undecided"), preview.undecided),
    ];
    let rows: Vec<Markup> = preview
        .devices
        .iter()
        .map(|device| {
            html! {
                th scope="row" { a href={ "/devices/" (encode(&device.serial)) "/plan" } { (device.serial) } }
                td { (layout::or_dash(&device.site)) }
                td { (layout::or_dash(&device.class)) }
                td { (device.model) }
                td { (if device.is_in { words.t("yes") } else { words.t("no") }) }
                td { (device.said.as_ref().map(|why| words.say(why)).unwrap_or_default()) }
                @if can_change { td { (actions(words, &preview.name, device)) } }
            }
        })
        .collect();
    let columns: &[&'static str] = &[
        en("Serial number"),
        en("Site"),
        en("Class"),
        en("Model"),
        en("In"),
        en("Why"),
        en("Action"),
    ];
    let columns = if can_change { columns } else { &columns[..6] };
    html! {
        dl.identity.plain { @for (word, number) in figures { div { dt { (words.t(word)) } dd { (words.number(number.into())) } } } }
        (table(words, words.t("Devices"), columns, &[], &rows, en("Nobody is in, and nobody is kept out.")))
    }
}

/// What can be done about one machine: whoever is in by hand is taken out, whoever is in by the rule is kept out, and that
/// is lifted again.
fn actions(words: Words, name: &CollectionName, device: &Membership) -> Markup {
    let path = format!("POST /api/v1/collections/{}", encode(name.as_str()));
    let button = |path: String, body: Value, text: &'static str, question: &'static str| {
        let named = format!("{}: {}", words.t(text), device.serial);
        html! {
            button type="button" data-api=(path) data-body=(body) aria-label=(named)
                data-confirm=(words.fill(question, &[("serial", &device.serial)])) { (words.t(text)) }
        }
    };
    let id = device.device;
    match device.why {
        MemberWhy::Direct => button(
            format!("{path}/members"),
            json!({ "remove": [id] }),
            en("Take out"),
            en("Take {serial} out of this collection?"),
        ),
        MemberWhy::Rule => button(
            format!("{path}/excluded"),
            json!({ "exclude": [id] }),
            en("Keep out"),
            en("Keep {serial} out of this collection, whatever its rule says?"),
        ),
        MemberWhy::Excluded => button(
            format!("{path}/excluded"),
            json!({ "include": [id] }),
            en("Let in again"),
            en(
                "Let {serial} in again? Required deployments begin on it, and may overwrite its disk.",
            ),
        ),
        MemberWhy::OutOfUse | MemberWhy::Limited | MemberWhy::Undecided | MemberWhy::NoMatch => {
            html! {}
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::names::DeviceId;

    use super::*;

    #[test]
    fn each_machine_has_the_way_out_or_in_that_fits_it() {
        let device = |why, serial: &str| Membership {
            device: DeviceId::random(),
            serial: serial.into(),
            site: "BJO".into(),
            class: String::new(),
            model: String::new(),
            is_in: matches!(why, MemberWhy::Direct | MemberWhy::Rule),
            why,
            reason: String::new(),
            said: None,
        };
        let name: CollectionName = "autumn".parse().unwrap();
        for (why, sent) in [
            (
                MemberWhy::Direct,
                "/members\" data-body=\"{&quot;remove&quot;",
            ),
            (
                MemberWhy::Rule,
                "/excluded\" data-body=\"{&quot;exclude&quot;",
            ),
            (
                MemberWhy::Excluded,
                "/excluded\" data-body=\"{&quot;include&quot;",
            ),
            (MemberWhy::Limited, ""),
        ] {
            let html = actions(Words::ENGLISH, &name, &device(why, "<b>")).into_string();
            assert!(
                html.contains(sent) && !html.contains("<b>"),
                "{why:?} {html}"
            );
            assert_eq!(html.is_empty(), sent.is_empty());
        }
    }
}
