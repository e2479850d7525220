//! Names from a template: what each machine would be called, and what is in the way, before anything is stored.

use std::collections::HashMap;

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde::Deserialize;
use wire::admin_api::{CollectionRow, DeviceState};
use wire::classes::{NAMED_MAX, NamePlan, NameRequest, NameRow, TEMPLATE_CHARS_MAX};
use wire::device_api::ApiError;
use wire::names::DeviceId;

use super::filter::encode;
use super::visitor::Visitor;
use super::words::Words;
use super::{draw, layout};
use crate::error::Failure;
use crate::fleet::targeting::names;
use crate::fleet::targeting::rules::NAMES;
use crate::routes::parse;
use crate::state::AppState;

/// Rows that a page shows; those with a problem come first. The API names all.
const ROWS_SHOWN: usize = 500;
/// What stands in the form before anybody has written something.
const USUAL: &str = "{{ site.code }}-{{ number(3) }}";

/// What is asked for, as it stands in the address.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(super) struct Asked {
    template: String,
    collection: String,
    /// Serial numbers, between blanks or commas.
    serials: String,
    rename: bool,
    long_names: bool,
}

impl Asked {
    fn serials(&self) -> impl Iterator<Item = &str> {
        let words = self
            .serials
            .split(|c: char| c.is_whitespace() || c == ',' || c == ';');
        words.filter(|word| !word.is_empty())
    }
}

/// What came of it.
enum Found {
    /// Nobody has asked yet.
    Nothing,
    /// These serial numbers belong to no machine.
    Strangers(Vec<String>),
    Refused(ApiError),
    Names(NameRequest, NamePlan),
}

/// `GET /device-names`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(asked): Query<Asked>,
) -> Result<Markup, Failure> {
    let found = match asked.template.is_empty() {
        true => Found::Nothing,
        false => find(&state, &visitor, &asked).await?,
    };
    let collections = state.collections().await?;
    let content = page(visitor.words, &asked, &collections, &found);
    let title = visitor.words.t("Names from a template");
    Ok(visitor.page(title, None, &content))
}

async fn find(state: &AppState, visitor: &Visitor, asked: &Asked) -> Result<Found, Failure> {
    let rows = state.device_rows_for(&visitor.user).await?;
    let known: HashMap<String, DeviceId> = rows
        .iter()
        .filter(|row| row.state != DeviceState::Quarantined)
        .map(|row| (row.serial.to_lowercase(), row.device))
        .collect();
    let mut devices = Vec::new();
    let mut strangers = Vec::new();
    for serial in asked.serials() {
        match known.get(&serial.to_lowercase()) {
            Some(device) => devices.push(*device),
            None => strangers.push(serial.to_owned()),
        }
    }
    if !strangers.is_empty() {
        return Ok(Found::Strangers(strangers));
    }
    let collection = match asked.collection.as_str() {
        "" => None,
        name => Some(parse(name)?),
    };
    let request = NameRequest {
        template: asked.template.clone(),
        collection,
        devices,
        long_names: asked.long_names,
        rename: asked.rename,
        apply: false,
    };
    // What is wrong with the question is shown beside it.
    match names::preview(state, &visitor.user, &request).await {
        Ok(plan) => Ok(Found::Names(request, plan)),
        Err(Failure::Refused { error, .. }) => Ok(Found::Refused(error)),
        Err(other) => Err(other),
    }
}

fn page(words: Words, asked: &Asked, collections: &[CollectionRow], found: &Found) -> Markup {
    html! {
        (draw::head(&[("/devices", words.t("Devices"))], words.t("Names from a template"), "", &html! {}))
        section.card aria-label=(words.t("Whom to name, and how")) { (form(words, asked, collections)) }
        @match found {
            Found::Nothing => {}
            Found::Strangers(serials) => div.problem role="alert" {
                p { (words.fill("No machine has these serial numbers: {serials}", &[("serials", &serials.join(", "))])) }
            },
            Found::Refused(error) => div.problem role="alert" { div { (layout::refusal(words, error)) } },
            Found::Names(request, plan) => {
                (figures(words, plan))
                (store(words, request, plan))
                (draw::block("names-title", words.t("Names"), "", &rows(words, plan)))
            }
        }
    }
}

fn form(words: Words, asked: &Asked, collections: &[CollectionRow]) -> Markup {
    let template = match asked.template.as_str() {
        "" => USUAL,
        template => template,
    };
    html! {
        form.stacked method="get" action="/device-names" {
            label for="template" { (words.t("Template")) }
            input.mono #template name="template" value=(template) required maxlength=(TEMPLATE_CHARS_MAX)
                spellcheck="false" autocomplete="off" aria-describedby="template-sees";
            p.muted.small #template-sees {
                (words.t("A template sees:")) " " code { (NAMES.join(", ")) ", number(3)" } ". "
                (words.t("The number counts the machines of each site. A name has at most 15 letters, digits and hyphens."))
            }
            label for="collection" { (words.t("Everyone in this collection")) }
            select #collection name="collection" {
                option value="" { (words.t("no collection")) }
                @for one in collections {
                    option value=(one.name) selected[one.name.as_str() == asked.collection] { (one.name) " " (one.title) }
                }
            }
            label for="serials" { (words.t("Besides or instead, these serial numbers")) }
            textarea.mono #serials name="serials" rows="3" spellcheck="false" autocomplete="off" { (asked.serials) }
            label.check { input type="checkbox" name="rename" value="true" checked[asked.rename]; " " (words.t("Machines that have a name get a new one, too")) }
            label.check { input type="checkbox" name="long-names" value="true" checked[asked.long_names]; " " (words.t("Names may be longer than Windows allows")) }
            div.buttons { button.primary[asked.template.is_empty()] { (words.t("Show the names")) } }
        }
    }
}

fn figures(words: Words, plan: &NamePlan) -> Markup {
    let figures = [
        (words.t("get a name"), plan.named),
        (words.t("keep theirs"), plan.kept),
        (words.t("can't be named so"), plan.problems),
    ];
    html! {
        div role="status" {
            dl.identity.plain {
                @for (word, number) in figures { div { dt { (word) } dd { (words.number(number.into())) } } }
            }
        }
    }
}

/// All or none, as the API does it.
fn store(words: Words, request: &NameRequest, plan: &NamePlan) -> Markup {
    let named = u64::from(plan.named);
    html! {
        @if plan.problems > 0 {
            p.notice { (layout::icon(layout::WARNING)) (words.t("Nobody is named as long as someone can't be. Change the template, or leave those machines out.")) }
        } @else if named == 0 {
            p.muted { (words.t("Everyone has a name already. Tick above if they are to get new ones.")) }
        } @else {
            form data-api="POST /api/v1/device-names" data-then="/devices" data-done=(words.count(named, "1 machine is named.", "{n} machines are named.")) {
                input type="hidden" name="template" value=(request.template);
                @if let Some(collection) = &request.collection { input type="hidden" name="collection" value=(collection); }
                @for device in &request.devices { input type="hidden" name="devices" data-type="each" value=(device); }
                input type="hidden" name="rename" data-type="boolean" value=(request.rename);
                input type="hidden" name="long-names" data-type="boolean" value=(request.long_names);
                input type="hidden" name="apply" data-type="boolean" value="true";
                p { (words.t("Nothing is stored yet. A machine takes its name at its next run.")) }
                button.primary data-confirm=(words.count(named, "Give 1 machine the name that is shown?", "Give {n} machines the names that are shown?")) {
                    (words.t("Store the names"))
                }
            }
        }
    }
}

fn rows(words: Words, plan: &NamePlan) -> Markup {
    let (bad, good): (Vec<_>, Vec<_>) = plan.rows.iter().partition(|row| row.problem.is_some());
    let shown: Vec<Markup> = bad
        .into_iter()
        .chain(good)
        .take(ROWS_SHOWN)
        .map(|one| row(words, one))
        .collect();
    let columns = [
        words.t("Serial number"),
        words.t("Site"),
        words.t("Name now"),
        words.t("Name from the next run on"),
        words.t("In the way"),
    ];
    let left = plan.rows.len() - shown.len();
    html! {
        (draw::table(words.t("Names"), &columns, &[], &shown))
        @if left > 0 { p.muted { (words.count(left as u64, "1 more isn't shown; it is named, too.", "{n} more aren't shown; they are named, too.")) } }
    }
}

fn row(words: Words, row: &NameRow) -> Markup {
    let said = row.said.as_ref().map(|said| words.say(said));
    html! {
        th scope="row" { a.mono href={ "/devices/" (encode(&row.serial)) } { (row.serial) } }
        td { (layout::or_dash(&row.site)) }
        td { (layout::or_dash(&row.current)) }
        td {
            @if row.problem.is_none() && row.name == row.current { span.muted { (words.t("keeps its name")) } }
            @else { (layout::or_dash(&row.name)) }
        }
        td { @if let Some(said) = said { (layout::icon(layout::WARNING)) (said) } }
    }
}

/// So many are named at once that a page of ticked machines always is.
const _: () = assert!(ROWS_SHOWN <= NAMED_MAX);

#[cfg(test)]
mod tests {
    use wire::reasons::NameReason;

    use super::super::sample;
    use super::*;

    fn named(serial: &str, name: &str, said: Option<NameReason>) -> NameRow {
        NameRow {
            device: DeviceId::random(),
            serial: serial.into(),
            site: "BJO".into(),
            current: String::new(),
            name: name.into(),
            problem: said.as_ref().map(ToString::to_string),
            said,
        }
    }

    fn html(words: Words, plan: NamePlan) -> String {
        let request = NameRequest {
            template: "<b>{{ serial }}".into(),
            devices: plan.rows.iter().map(|row| row.device).collect(),
            ..NameRequest::default()
        };
        let asked = Asked {
            template: request.template.clone(),
            serials: sample::HOSTILE.into(),
            ..Asked::default()
        };
        let page = page(words, &asked, &[], &Found::Names(request, plan)).into_string();
        sample::assert_harmless(&page);
        assert!(!page.contains("<b>{{"), "{page}");
        page
    }

    #[test]
    fn names_are_stored_as_they_are_shown() {
        let plan = NamePlan {
            rows: vec![named("PF1", "BJO-001", None), named("PF2", "BJO-002", None)],
            named: 2,
            ..NamePlan::default()
        };
        let page = html(Words::ENGLISH, plan);
        assert!(page.contains("BJO-001") && page.contains("Give 2 machines"));
        assert_eq!(page.matches("name=\"devices\"").count(), 2);
    }

    #[test]
    fn what_is_in_the_way_comes_first_and_nothing_can_be_stored() {
        let clash = NameReason::SameAs {
            serial: "PF1".into(),
        };
        let plan = NamePlan {
            rows: vec![
                named("PF1", "BJO-8B", None),
                named("PF2", "BJO-8B", Some(clash)),
            ],
            named: 1,
            problems: 1,
            ..NamePlan::default()
        };
        let page = html(Words::BOKMAL, plan);
        assert!(page.contains("PF1 får samme navn"), "{page}");
        assert!(!page.contains("POST /api/v1/device-names"));
        assert!(page.find("/devices/PF2") < page.find("/devices/PF1"));
    }

    #[test]
    fn serial_numbers_are_read_as_people_paste_them() {
        let asked = Asked {
            serials: " PF1, PF2\r\nPF3;PF4 ".into(),
            ..Asked::default()
        };
        assert_eq!(
            asked.serials().collect::<Vec<_>>(),
            ["PF1", "PF2", "PF3", "PF4"]
        );
    }
}
