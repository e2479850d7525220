//! Sites, classes and models.

use maud::{Markup, html};
use serde_json::json;
use wire::classes::{ClassRow, ModelAlias, ModelRow};
use wire::sites::{SiteDetail, SiteRow};
use wire::variables::{VariableScope, model_name};

use super::table;
use crate::fleet::aliases::KnownModels;
use crate::web::draw;
use crate::web::filter::encode;
use crate::web::words::{Words, en};
use crate::web::{format, layout, variables};

fn places(words: Words, row: &SiteRow) -> String {
    match row.slots {
        0 => words.fill("{n}, no limit", &[("n", &row.live)]),
        slots => words.fill("{n} of {m}", &[("n", &row.live), ("m", &slots)]),
    }
}

/// All sites.
pub(super) fn sites(words: Words, rows: &[SiteRow], can_change: bool) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href={ "/sites/" (encode(&row.code)) } { (row.code) } }
                td { (row.name) }
                td.number { (row.devices) }
                td.number { (places(words, row)) }
                td.number { (row.waiting) }
                td.number { @if row.elsewhere > 0 { "⚠ " } (row.elsewhere) }
                td { (layout::or_dash(&row.subnets.join(" "))) }
            }
        })
        .collect();
    let columns = [
        en("Code"),
        en("Name"),
        en("Devices"),
        en("Running"),
        en("Waiting"),
        en("Seen elsewhere"),
        en("Subnets"),
    ];
    html! {
        div.headline.page-title { h1 { (words.t("Sites")) } span.muted { (words.number(rows.len() as u64)) } }
        (table(words, words.t("Sites"), &columns, &[2, 3, 4, 5], &lines, en("No sites yet: an import makes them, or you do.")))
        @if can_change { details { summary { (words.t("New site")) } (site_form(words, None)) } }
    }
}

/// The form of a new site or of one that exists. Whatever isn't changed isn't sent, and stays as it is.
fn site_form(words: Words, row: Option<&SiteRow>) -> Markup {
    let new = SiteRow::default();
    let site = row.unwrap_or(&new);
    // Of a site that exists, zeros are shown; a new one is said nothing of.
    let slots = row.map(|row| row.slots.to_string());
    html! {
        form.stacked.card data-api="PUT /api/v1/sites/{code}" data-then="/sites" {
            @match row {
                None => {
                    label for="code" { (words.t("Code")) }
                    input #code name="code" required placeholder="BJO" autocomplete="off";
                }
                Some(row) => { input type="hidden" name="code" value=(row.code); }
            }
            label for="name" { (words.t("Name")) }
            input #name name="name" value=(site.name) data-changed data-empty="send" autocomplete="off";
            label for="subnets" { (words.t("Subnets, one a line")) }
            textarea #subnets name="subnets" rows="3" data-type="lines" data-changed data-empty="send" placeholder="10.17.0.0/16" { (site.subnets.join("\n")) }
            label for="slots" { (words.t("How many at a time, 0 for no limit")) }
            input #slots name="slots" type="number" min="0" value=[slots] data-changed;
            label for="expected" { (words.t("Expected minutes here, such as 16 or 1:30, for deployments that don't say it")) }
            input #expected name="expected-seconds" value=(super::minutes(site.expected_seconds)) data-type="minutes" data-changed data-empty="send" autocomplete="off" placeholder="16";
            label for="time-zone" { (words.t("Time zone")) }
            input #time-zone name="time-zone" value=(site.time_zone) data-changed data-empty="send" placeholder="Europe/Oslo" autocomplete="off";
            div.buttons { button.primary { (words.t("Store the site")) } }
        }
    }
}

/// One site. Its visitor may change it, or move devices of the sites that `can_move` names.
pub(super) fn site(
    words: Words,
    detail: &SiteDetail,
    can_change: bool,
    can_move: &dyn Fn(&str) -> bool,
) -> Markup {
    let row = &detail.site;
    let queue: Vec<Markup> = detail
        .queue
        .iter()
        .zip(1..)
        .map(|(one, place)| {
            html! {
                td.number { (place) }
                th scope="row" { (one.serial) }
                td { (one.deployment) }
                td { (words.time(one.arrived_at_ms)) }
            }
        })
        .collect();
    let misplaced: Vec<Markup> = detail
        .misplaced
        .iter()
        .map(|one| {
            html! {
                th scope="row" { (one.serial) }
                td { (one.site) }
                td { (one.seen_site) }
                td { @if can_move(&one.site) {
                    button data-api="POST /api/v1/devices/move-to-seen-site" data-body=(json!({ "devices": [one.device] })) {
                        (words.t("Move there"))
                    }
                } }
            }
        })
        .collect();
    let actions = html! {
        (variables::button(words, VariableScope::Site, &row.code))
        @if can_change {
            button.danger type="button" data-api={ "DELETE /api/v1/sites/" (encode(&row.code)) } data-then="/sites"
                data-confirm=(words.t("Remove this site?")) { (words.t("Remove the site")) }
        }
    };
    let movable = detail.misplaced.iter().filter(|one| can_move(&one.site));
    let all: Vec<_> = movable.map(|one| one.device).collect();
    html! {
        (draw::head(&[("/sites", words.t("Sites"))], &row.name, &row.code, &actions))
        dl.identity.plain {
            div { dt { (words.t("Running")) } dd { (places(words, row)) } }
            div { dt { (words.t("Waiting")) } dd { (row.waiting) } }
            div { dt { (words.t("Devices")) } dd { (row.devices) } }
            div { dt { (words.t("Subnets")) } dd { (layout::or_dash(&row.subnets.join(" "))) } }
            @if row.expected_seconds > 0 { div { dt { (words.t("Expected duration")) } dd { (format::clock(row.expected_seconds)) } } }
            @for (state, number) in &row.states { div { dt { (layout::state_named(words, state)) } dd { (number) } } }
        }
        (draw::block("waiting-title", words.t("Waiting for a place"), "",
            &table(words, words.t("Waiting for a place"), &[en("Place"), en("Serial number"), en("Deployment"), en("Since")], &[0], &queue, en("Nobody waits."))))
        (draw::block("misplaced-title", words.t("Not where the import says"), "",
            &table(words, words.t("Not where the import says"), &[en("Serial number"), en("Import says"), en("Seen at"), en("Action")], &[], &misplaced, en("Every machine is where it belongs."))))
        @if all.len() > 1 {
            button data-api="POST /api/v1/devices/move-to-seen-site" data-body=(json!({ "devices": all }))
                data-confirm=(words.t("Move all of them to where they were seen?")) { (words.t("Move all to where they were seen")) }
        }
        @if can_change {
            details { summary { (words.t("Change the site")) } (site_form(words, Some(row))) }
        }
    }
}

/// All classes.
pub(super) fn classes(words: Words, rows: &[ClassRow], can_change: bool) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href={ "/classes/" (encode(&row.site)) "/" (encode(&row.name)) } { (row.name) } }
                td { (row.site) }
                td { (layout::or_dash(&row.class.title)) }
                td { (layout::or_dash(&row.class.school_year)) }
                td { (layout::or_dash(&row.class.teacher)) }
                td.number { (row.devices) }
                td { (layout::or_dash(&software(row, ", "))) }
                td { @if !row.missing.is_empty() { "⚠ " (row.missing.join(", ")) } }
                td { (variables::link(words, VariableScope::Class, &row.name)) }
                @if can_change { td {
                    button type="button" data-api={ "DELETE /api/v1/classes/" (encode(&row.site)) "/" (encode(&row.name)) }
                        aria-label=(words.fill(en("Remove {name}"), &[("name", &row.name)]))
                        data-confirm=(words.fill(en("Remove the class {name}? Machines and pupils keep its name."), &[("name", &row.name)])) {
                        (words.t("Remove"))
                    }
                } }
            }
        })
        .collect();
    let columns = [
        en("Class"),
        en("Site"),
        en("Title"),
        en("School year"),
        en("Teacher"),
        en("Devices"),
        en("Software"),
        en("Not published"),
        en("Variables"),
        en("Action"),
    ];
    let columns = &columns[..if can_change { 10 } else { 9 }];
    html! {
        div.headline.page-title { h1 { (words.t("Classes")) } span.muted { (words.number(rows.len() as u64)) } }
        (table(words, words.t("Classes"), columns, &[5], &lines, en("No classes yet: an import makes them, or you do.")))
        @if can_change { details { summary { (words.t("Make a class")) } (class_form(words, None)) } }
    }
}

/// One class. Its visitor may change it.
pub(super) fn class(words: Words, row: &ClassRow, can_change: bool) -> Markup {
    let devices = format!("/?site={}&class={}", encode(&row.site), encode(&row.name));
    let api = format!(
        "/api/v1/classes/{}/{}",
        encode(&row.site),
        encode(&row.name)
    );
    html! {
        (draw::head(&[("/classes", words.t("Classes"))], &row.name, &row.site, &html! {
            a.button href=(devices) { (words.t("Show its devices")) }
        }))
        dl.identity.plain {
            div { dt { (words.t("Site")) } dd { a href={ "/sites/" (encode(&row.site)) } { (row.site) } } }
            div { dt { (words.t("Title")) } dd { (layout::or_dash(&row.class.title)) } }
            div { dt { (words.t("School year")) } dd { (layout::or_dash(&row.class.school_year)) } }
            div { dt { (words.t("Teacher")) } dd { (layout::or_dash(&row.class.teacher)) } }
            div { dt { (words.t("Devices")) } dd { (row.devices) } }
            div { dt { (words.t("Software")) } dd { (layout::or_dash(&software(row, ", "))) } }
            @if !row.missing.is_empty() { div { dt { (words.t("Not published")) } dd { "⚠ " (row.missing.join(", ")) } } }
        }
        @if can_change {
            details.edit { summary { (words.t("Change the class")) } (class_form(words, Some(row))) }
            @if row.is_made {
                button.danger type="button" data-api={ "DELETE " (api) } data-then="/classes" data-confirm-type=(row.name)
                    data-confirm=(words.t("Forget what is known of the class? Devices keep its name.")) { (words.t("Forget the class")) }
            }
        }
    }
}

/// The form of a new class or of one that exists. Whatever isn't changed isn't sent, and stays as it is.
fn class_form(words: Words, row: Option<&ClassRow>) -> Markup {
    let new = ClassRow::default();
    let class = &row.unwrap_or(&new).class;
    html! {
        form.stacked.card data-api="PUT /api/v1/classes/{site}/{name}" data-then="/classes/{site}/{name}" {
            @match row {
                None => {
                    label for="site" { (words.t("Site")) }
                    input #site name="site" required autocomplete="off" placeholder="BJO";
                    label for="name" { (words.t("Class")) }
                    input #name name="name" required autocomplete="off" placeholder="1STA";
                }
                Some(row) => {
                    input type="hidden" name="site" value=(row.site);
                    input type="hidden" name="name" value=(row.name);
                }
            }
            label for="title" { (words.t("Title")) }
            input #title name="title" value=(class.title) data-changed data-empty="send" autocomplete="off";
            label for="school-year" { (words.t("School year")) }
            input #school-year name="school-year" value=(class.school_year) data-changed data-empty="send" autocomplete="off" placeholder="2026/27";
            label for="teacher" { (words.t("Teacher")) }
            input #teacher name="teacher" value=(class.teacher) data-changed data-empty="send" autocomplete="off";
            label for="software" { (words.t("Software: packages, one a line")) }
            textarea #software name="software" rows="3" data-type="lines" data-changed data-empty="send" {
                @if let Some(row) = row { (software(row, "\n")) }
            }
            div.buttons { button.primary { (words.t("Store the class")) } }
        }
    }
}

fn software(row: &ClassRow, between: &str) -> String {
    let names: Vec<&str> = row
        .class
        .software
        .iter()
        .map(|name| name.as_str())
        .collect();
    names.join(between)
}

/// All models, and what vendors call them. With the models that are known, its visitor may say more of that.
pub(super) fn models(
    words: Words,
    rows: &[ModelRow],
    aliases: &[ModelAlias],
    known: Option<&KnownModels>,
) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { (row.vendor) " " (row.product) }
                td { (layout::or_dash(&row.sku)) }
                td.number { (row.devices) }
                td { (layout::or_dash(&row.drivers.join(", "))) }
                td { (layout::or_dash(&row.prestages.join(", "))) }
                td.number { @match row.median_seconds { Some(seconds) => (format::clock(seconds)), None => "—" } }
                td { @for warning in &row.said { "⚠ " (words.say(warning)) " " } }
                td { (variables::link(words, VariableScope::Model, &model_name(&row.vendor, &row.product))) }
            }
        })
        .collect();
    let columns = [
        en("Model"),
        en("SKU"),
        en("Devices"),
        en("Drivers"),
        en("Prestages"),
        en("Median duration"),
        en("Missing"),
        en("Variables"),
    ];
    html! {
        div.headline.page-title { h1 { (words.t("Models")) } span.muted { (words.number(rows.len() as u64)) } }
        (table(words, words.t("Models"), &columns, &[2, 5], &lines, en("No models yet: they come with devices.")))
        @if !aliases.is_empty() || known.is_some() {
            (draw::block("aliases-title", words.t("Names that vendors use"), words.t("what asset files call a model, and which one it is"),
                &alias_list(words, aliases, known)))
        }
    }
}

fn alias_list(words: Words, aliases: &[ModelAlias], known: Option<&KnownModels>) -> Markup {
    let lines: Vec<Markup> = aliases
        .iter()
        .map(|row| {
            html! {
                th scope="row" { (row.alias) }
                td { (row.vendor) " " (row.product) }
                td { (row.set_by) ", " (words.time(row.set_at_ms)) }
                td { @if known.is_some() {
                    button type="button" data-api={ "DELETE /api/v1/model-aliases/" (encode(&row.alias)) }
                        data-confirm=(words.fill(en("Forget that {name} stands for a model?"), &[("name", &row.alias)])) { (words.t("Remove")) }
                } }
            }
        })
        .collect();
    let columns = [
        en("The vendor's name"),
        en("Model"),
        en("Said by"),
        en("Action"),
    ];
    html! {
        (table(words, words.t("Names that vendors use"), &columns, &[], &lines, en("None.")))
        @if let Some(known) = known.filter(|known| !known.is_empty()) {
            details.edit { summary { (words.t("Add a vendor's name")) }
                form.stacked.card data-api="PUT /api/v1/model-aliases/{name}" data-done=(words.t("Stored.")) {
                    label for="alias" { (words.t("The vendor's name")) }
                    input #alias name="name" required maxlength="128" autocomplete="off";
                    label for="alias-of" { (words.t("stands for the model")) }
                    (model_select("alias-of", known))
                    div.buttons { button.primary { (words.t("Store")) } }
                }
            }
        }
    }
}

/// A choice among the models that are known.
pub(in crate::web) fn model_select(id: &str, known: &KnownModels) -> Markup {
    html! {
        select id=(id) name="product" required {
            option value="" { "—" }
            @for (vendor, product) in known.values() { option value=(product) { (vendor) " " (product) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::classes::Class;

    use super::*;

    /// The names of the fields whose values are sent only if somebody changed them, with the values they are shown with.
    fn changed(form: &Markup) -> Vec<(String, String)> {
        let html = form.clone().into_string();
        let attribute = |tag: &str, name: &str| {
            let rest = tag.split_once(&format!(" {name}=\""))?.1;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let fields = html.split('<').filter(|tag| {
            (tag.starts_with("input") || tag.starts_with("textarea"))
                && tag.contains(" data-changed")
        });
        let read = fields.map(|tag| {
            let value = match tag.starts_with("textarea") {
                true => tag.split_once('>').map(|(_, text)| text.to_owned()),
                false => attribute(tag, "value"),
            };
            (
                attribute(tag, "name").unwrap_or_default(),
                value.unwrap_or_default(),
            )
        });
        read.collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    }

    #[test]
    fn the_form_of_a_class_is_filled_in_and_sends_what_was_changed() {
        let row = ClassRow {
            site: "BJO".into(),
            name: "1STA".into(),
            class: Class {
                school_year: "2026/27".into(),
                title: "Studie".into(),
                teacher: "Åse".into(),
                software: vec!["geogebra".parse().unwrap(), "office".parse().unwrap()],
            },
            ..ClassRow::default()
        };
        let shown = changed(&class_form(Words::ENGLISH, Some(&row)));
        let all = [
            ("title", "Studie"),
            ("school-year", "2026/27"),
            ("teacher", "Åse"),
            ("software", "geogebra\noffice"),
        ];
        assert_eq!(shown, pairs(&all));
        let new = changed(&class_form(Words::ENGLISH, None));
        assert_eq!(new, pairs(&all.map(|(name, _)| (name, ""))));
    }

    #[test]
    fn the_form_of_a_site_is_filled_in_and_sends_what_was_changed() {
        let row = SiteRow {
            code: "BJO".into(),
            name: "Bjørnsletta".into(),
            subnets: vec!["10.17.0.0/16".into()],
            slots: 40,
            expected_seconds: 990,
            time_zone: "Europe/Oslo".into(),
            ..SiteRow::default()
        };
        let shown = changed(&site_form(Words::ENGLISH, Some(&row)));
        let all = [
            ("name", "Bjørnsletta"),
            ("subnets", "10.17.0.0/16"),
            ("slots", "40"),
            ("expected-seconds", "16:30"),
            ("time-zone", "Europe/Oslo"),
        ];
        assert_eq!(shown, pairs(&all));
        // Somebody who types the code of a site that exists changes nothing that they don't type.
        let new = changed(&site_form(Words::ENGLISH, None));
        assert_eq!(new, pairs(&all.map(|(name, _)| (name, ""))));
    }
}
