//! Variables: all that are set, by whom they are for, and a form that sets one. Where a value comes from, on other pages.

use axum::extract::{Query, State};
use maud::{Markup, html};
use serde_json::{Value, json};
use wire::variables::{VALUE_BYTES_MAX, VariableOrigin, VariableRow, VariableScope};

use super::filter::encode;
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::error::Failure;
use crate::fleet::variables::{Wanted, rows_for};
use crate::people::roles::May;
use crate::state::AppState;

/// How long the name of a variable may be.
const KEY_CHARS_MAX: usize = 63;

/// Which variables are shown, as the form of the page sends it: what isn't chosen is empty.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Chosen {
    scope: String,
    name: String,
}

/// `GET /variables`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
    Query(chosen): Query<Chosen>,
) -> Result<Markup, Failure> {
    let filled = |text: &str| (!text.trim().is_empty()).then(|| text.trim().to_owned());
    let wanted = Wanted {
        scope: filled(&chosen.scope),
        name: filled(&chosen.name).filter(|_| !chosen.scope.is_empty()),
    };
    let rows = rows_for(&state, &visitor.user, &wanted).await?;
    let can_change = visitor.user.may(May::Deploy);
    let content = page(visitor.words, &rows, &chosen, can_change);
    Ok(visitor.page(visitor.words.t("Variables"), None, &content))
}

/// A link to the variables of one collection, model, site, class or device.
pub(super) fn link(words: Words, scope: VariableScope, name: &str) -> Markup {
    html! { a href=(address(scope, name)) { (words.t("Variables")) } }
}

/// The same among the actions at the head of a page.
pub(super) fn button(words: Words, scope: VariableScope, name: &str) -> Markup {
    html! { a.button href=(address(scope, name)) { (words.t("Variables")) } }
}

fn address(scope: VariableScope, name: &str) -> String {
    format!("/variables?scope={scope}&name={}", encode(name))
}

fn page(words: Words, rows: &[VariableRow], chosen: &Chosen, can_change: bool) -> Markup {
    html! {
        (draw::head(&[], words.t("Variables"), words.t("values that task sequences read, for some machines or one"), &html! {}))
        (narrow(words, chosen))
        @if rows.is_empty() {
            (draw::empty(words.t("No variable is set"), words.t("Of two values for one machine, that of its own wins over its class, its class over its site, its site over its model, its model over its collection.")))
        } @else { (table(words, rows, can_change)) }
        @if can_change { (form(words, chosen)) }
    }
}

fn scopes(words: Words, chosen: &str) -> Markup {
    html! {
        @for scope in VariableScope::ALL {
            option value=(scope) selected[scope.to_string() == chosen] { (words.t(scope_word(scope))) }
        }
    }
}

fn narrow(words: Words, chosen: &Chosen) -> Markup {
    html! {
        form.filters method="get" action="/variables" role="search" {
            label { (words.t("For")) " "
                select name="scope" { option value="" { (words.t("everything")) } (scopes(words, &chosen.scope)) }
            }
            label { (words.t("Name")) " " input name="name" value=(chosen.name) autocomplete="off"; }
            button type="submit" { (words.t("Apply")) }
            a href="/variables" { (words.t("Show all")) }
        }
    }
}

fn table(words: Words, rows: &[VariableRow], can_change: bool) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            let body = json!({ "scope": row.scope, "name": row.name, "unset": [row.key] });
            let question = words.fill(en("Remove {key}?"), &[("key", &row.key)]);
            html! {
                td { (words.t(scope_word(row.scope))) }
                th scope="row" { a href=(address(row.scope, &row.name)) { (row.name) } }
                td { span.mono { (row.key) } }
                td.value { code { (in_words(&row.value)) } }
                td { (words.time(row.updated_at_ms)) }
                @if can_change { td {
                    button type="button" data-api="POST /api/v1/variables" data-body=(body) data-confirm=(question)
                        aria-label=(words.fill(en("Remove {key} of {name}"), &[("key", &row.key), ("name", &row.name)])) { (words.t("Remove")) }
                } }
            }
        })
        .collect();
    let mut columns = vec![
        words.t("For"),
        words.t("Name"),
        words.t("Variable"),
        words.t("Value"),
        words.t("Set|moment"),
    ];
    if can_change {
        columns.push(words.t("Action"));
    }
    draw::table(words.t("Variables"), &columns, &[], &lines)
}

fn form(words: Words, chosen: &Chosen) -> Markup {
    html! {
        details.edit open[!chosen.name.is_empty()] {
            summary { (words.t("Set a variable")) }
            form.stacked.card data-api="POST /api/v1/variables" data-done=(words.t("Set. Runs that are ordered from now on have it.")) {
                label for="scope" { (words.t("For")) }
                select #scope name="scope" { (scopes(words, &chosen.scope)) }
                label for="name" { (words.t("Name of the collection, site or class, serial number, or VENDOR/PRODUCT")) }
                input #name name="name" value=(chosen.name) required autocomplete="off" spellcheck="false";
                label for="key" { (words.t("Variable")) }
                input #key name="key" data-type="omit" required maxlength=(KEY_CHARS_MAX) pattern="[a-z][a-z0-9_]*" autocomplete="off" spellcheck="false" placeholder="keyboard";
                label for="value" { (words.t("Value: a text, a number, true or false, or JSON")) }
                input #value name="value" data-type="value" data-in="set" data-named-by="key" data-empty="send" maxlength=(VALUE_BYTES_MAX)
                    autocomplete="off" spellcheck="false";
                div.buttons { button.primary { (words.t("Set the variable")) } }
            }
        }
    }
}

/// A text as it is, everything else as JSON.
fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => layout::or_dash(text).to_owned(),
        other => other.to_string(),
    }
}

const fn scope_word(scope: VariableScope) -> &'static str {
    match scope {
        VariableScope::Collection => en("Collection"),
        VariableScope::Model => en("Model"),
        VariableScope::Site => en("Site"),
        VariableScope::Class => en("Class"),
        VariableScope::Device => en("Device"),
    }
}

/// Where a value comes from.
pub(super) fn origin(words: Words, origin: &VariableOrigin) -> String {
    match origin {
        VariableOrigin::Sequence { name } => {
            words.fill(en("task sequence {name}"), &[("name", name)])
        }
        VariableOrigin::Scope { scope, name } => words.fill(of_scope(*scope), &[("name", name)]),
        VariableOrigin::Asset => words.t("the asset").to_owned(),
        VariableOrigin::Unknown => words.t("elsewhere").to_owned(),
    }
}

/// What has the variables, to be filled in.
const fn of_scope(scope: VariableScope) -> &'static str {
    match scope {
        VariableScope::Collection => en("collection {name}"),
        VariableScope::Model => en("model {name}"),
        VariableScope::Site => en("site {name}"),
        VariableScope::Class => en("class {name}"),
        VariableScope::Device => en("device {name}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::sample;
    use super::*;

    fn drawn(can_change: bool) -> String {
        let row = |scope, name: &str, value| VariableRow {
            scope,
            name: name.into(),
            key: "keyboard".into(),
            value,
            updated_at_ms: 1,
        };
        let rows = [
            row(VariableScope::Site, sample::HOSTILE, json!("no")),
            row(
                VariableScope::Model,
                "acme/book 14",
                json!({ "x": sample::HOSTILE }),
            ),
        ];
        page(Words::BOKMAL, &rows, &Chosen::default(), can_change).into_string()
    }

    #[test]
    fn who_may_not_change_them_sees_them_and_no_form() {
        let (seen, changed) = (drawn(false), drawn(true));
        sample::assert_harmless(&changed);
        assert!(
            seen.contains("/variables?scope=model&amp;name=acme%2Fbook%2014"),
            "{seen}"
        );
        assert!(!seen.contains("data-api") && changed.contains("data-api"));
    }

    #[test]
    fn a_value_says_from_where_it_is_in_the_visitor_s_language() {
        let site = VariableOrigin::Scope {
            scope: VariableScope::Site,
            name: "BJO".into(),
        };
        assert_eq!(origin(Words::BOKMAL, &site), "skolen BJO");
        assert_eq!(origin(Words::ENGLISH, &site), "site BJO");
    }
}
