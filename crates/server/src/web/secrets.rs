//! Secrets: which there are, for whom, and who asks for them; a form that sets one. No value is ever shown: there is no way back.

use axum::extract::State;
use maud::{Markup, html};
use wire::secrets::{SECRET_BYTES_MAX, SecretRow};

use super::filter::encode;
use super::visitor::Visitor;
use super::words::{Words, en};
use super::{draw, layout};
use crate::error::Failure;
use crate::state::AppState;

/// The longest name of a secret.
const NAME_CHARS_MAX: usize = 64;

/// `GET /secrets`
pub(super) async fn show(
    visitor: Visitor,
    State(state): State<AppState>,
) -> Result<Markup, Failure> {
    let sites = state.site_rows(&visitor.user.reach).await?;
    let sites: Vec<(String, String)> = sites.into_iter().map(|row| (row.code, row.name)).collect();
    let content = page(visitor.words, &state.secrets().await?, &sites);
    Ok(visitor.page(visitor.words.t("Secrets"), None, &content))
}

fn page(words: Words, rows: &[SecretRow], sites: &[(String, String)]) -> Markup {
    html! {
        (draw::head(&[], words.t("Secrets"), words.t("passwords and keys that machines are given when a step needs them"), &html! {}))
        @if rows.is_empty() {
            (draw::empty(words.t("No secrets yet"), words.t("A step that joins a domain or a Wi-Fi names a secret. A machine is given it once, when its run comes to that step.")))
        } @else { (table(words, rows)) }
        (form(words, rows.is_empty(), sites))
    }
}

fn table(words: Words, rows: &[SecretRow]) -> Markup {
    let lines: Vec<Markup> = rows.iter().map(|row| line(words, row)).collect();
    let columns = [
        words.t("Secret"),
        words.t("For"),
        words.t("Asked for by"),
        words.t("Set|moment"),
        words.t("By"),
        words.t("Released"),
        words.t("Last released"),
        words.t("Action"),
    ];
    draw::table(words.t("Secrets"), &columns, &[5], &lines)
}

fn line(words: Words, row: &SecretRow) -> Markup {
    let path = match row.site.as_str() {
        "" => format!("/api/v1/secrets/{}", row.name),
        site => format!("/api/v1/secrets/{}?site={}", row.name, encode(site)),
    };
    let question = words.fill(
        en("Remove the secret {name}? Machines that need it stop at that step."),
        &[("name", &row.name)],
    );
    html! {
        th scope="row" { span.mono { (row.name) } }
        td { (whose(words, &row.site)) }
        td {
            @for (number, sequence) in row.sequences.iter().enumerate() {
                @if number > 0 { ", " }
                a href={ "/sequences/" (sequence) } { (sequence) }
            }
            @if row.sequences.is_empty() { (layout::or_dash("")) }
        }
        td { (words.time(row.changed_at_ms)) }
        td { (row.changed_by) }
        td.number { (words.number(row.releases)) }
        td { @match row.released_at_ms { Some(at_ms) => (words.time(at_ms)), None => (layout::or_dash("")) } }
        td {
            button type="button" data-api={ "DELETE " (path) } data-confirm=(question)
                aria-label=(words.fill(en("Remove {key} of {name}"), &[("key", &row.name), ("name", &whose(words, &row.site))])) { (words.t("Remove")) }
        }
    }
}

/// The machines that a value is for.
pub(super) fn whose(words: Words, site: &str) -> String {
    match site {
        "" => words.t("all sites").to_owned(),
        site => words.fill(en("site {name}"), &[("name", &site)]),
    }
}

fn form(words: Words, is_first: bool, sites: &[(String, String)]) -> Markup {
    html! {
        details.edit open[is_first] {
            summary { (words.t("Set a secret")) }
            form.stacked.card data-api="PUT /api/v1/secrets/{name}" data-done=(words.t("Set. Nobody can read it back.")) {
                label for="name" { (words.t("Name, as task sequences have it")) }
                input #name name="name" required maxlength=(NAME_CHARS_MAX) pattern="[a-z0-9][a-z0-9._\\-]*" autocomplete="off" spellcheck="false" placeholder="domain-join";
                label for="site" { (words.t("For")) }
                select #site name="site" {
                    option value="" { (words.t("all sites")) }
                    @for (code, name) in sites { option value=(code) { (code) " · " (name) } }
                }
                label for="value" { (words.t("Secret")) }
                textarea #value.unseen name="value" data-type="secret" rows="3" required maxlength=(SECRET_BYTES_MAX) autocomplete="off" spellcheck="false" {}
                p.muted { (words.t("A value for a site wins over the one for all. Runs get what is set from their next request on.")) }
                div.buttons { button.primary { (words.t("Set the secret")) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_whose_they_are_and_forms_hold_no_value() {
        let row = |site: &str, releases| SecretRow {
            name: "domain-join".parse().unwrap(),
            site: site.into(),
            changed_by: "<b>kari</b>".into(),
            changed_at_ms: 1,
            releases,
            released_at_ms: (releases > 0).then_some(2),
            sequences: vec!["teacher-laptop".parse().unwrap()],
        };
        let sites = [("BJØ".to_owned(), "Bjørnsletta".to_owned())];
        let page = page(Words::default(), &[row("", 0), row("BJØ", 3)], &sites).into_string();
        for expected in [
            "DELETE /api/v1/secrets/domain-join\"",
            "DELETE /api/v1/secrets/domain-join?site=BJ%C3%98\"",
            "all sites",
            "site BJØ",
            "/sequences/teacher-laptop",
            "&lt;b&gt;kari&lt;/b&gt;",
            "data-type=\"secret\"",
            "spellcheck=\"false\"></textarea>",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
    }
}
