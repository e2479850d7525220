//! Sites, classes and models.

use maud::{Markup, html};
use serde_json::json;
use wire::classes::{ClassRow, ModelRow};
use wire::sites::{SiteDetail, SiteRow};
use wire::variables::{VariableScope, model_name};

use super::table;
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
        (table(words, words.t("Sites"), &columns, &lines, en("No sites yet: an import makes them, or you do.")))
        @if can_change { details { summary { (words.t("New site")) } (site_form(words, &SiteRow::default())) } }
    }
}

fn site_form(words: Words, row: &SiteRow) -> Markup {
    let slots = row.slots.to_string();
    html! {
        form.stacked.card data-api="PUT /api/v1/sites/{code}" data-then="/sites" {
            @if row.code.is_empty() {
                label for="code" { (words.t("Code")) }
                input #code name="code" required placeholder="BJO" autocomplete="off";
            } @else { input type="hidden" name="code" value=(row.code); }
            label for="name" { (words.t("Name")) }
            input #name name="name" value=(row.name) autocomplete="off";
            label for="subnets" { (words.t("Subnets, one a line")) }
            textarea #subnets name="subnets" rows="3" data-type="lines" data-empty="send" placeholder="10.17.0.0/16" { (row.subnets.join("\n")) }
            label for="slots" { (words.t("How many at a time, 0 for no limit")) }
            input #slots name="slots" type="number" min="0" value=(slots);
            label for="time-zone" { (words.t("Time zone")) }
            input #time-zone name="time-zone" value=(row.time_zone) placeholder="Europe/Oslo" autocomplete="off";
            div.buttons { button.primary { (words.t("Store the site")) } }
        }
    }
}

/// One site. Its visitor may change it, or move devices.
pub(super) fn site(
    words: Words,
    detail: &SiteDetail,
    (can_change, can_move): (bool, bool),
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
                td { @if can_move {
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
    let all: Vec<_> = detail.misplaced.iter().map(|one| one.device).collect();
    html! {
        (draw::head(&[("/sites", words.t("Sites"))], &row.name, &row.code, &actions))
        dl.identity.plain {
            div { dt { (words.t("Running")) } dd { (places(words, row)) } }
            div { dt { (words.t("Waiting")) } dd { (row.waiting) } }
            div { dt { (words.t("Devices")) } dd { (row.devices) } }
            div { dt { (words.t("Subnets")) } dd { (layout::or_dash(&row.subnets.join(" "))) } }
            @for (state, number) in &row.states { div { dt { (layout::state_named(words, state)) } dd { (number) } } }
        }
        (draw::block("waiting-title", words.t("Waiting for a place"), "",
            &table(words, words.t("Waiting for a place"), &[en("Place"), en("Serial number"), en("Deployment"), en("Since")], &queue, en("Nobody waits."))))
        (draw::block("misplaced-title", words.t("Not where the import says"), "",
            &table(words, words.t("Not where the import says"), &[en("Serial number"), en("Import says"), en("Seen at"), en("Action")], &misplaced, en("Every machine is where it belongs."))))
        @if can_move && all.len() > 1 {
            button data-api="POST /api/v1/devices/move-to-seen-site" data-body=(json!({ "devices": all }))
                data-confirm=(words.t("Move all of them to where they were seen?")) { (words.t("Move all to where they were seen")) }
        }
        @if can_change {
            details { summary { (words.t("Change the site")) } (site_form(words, row)) }
        }
    }
}

/// All classes.
pub(super) fn classes(words: Words, rows: &[ClassRow], can_change: bool) -> Markup {
    let lines: Vec<Markup> = rows
        .iter()
        .map(|row| {
            let software: Vec<&str> = row
                .class
                .software
                .iter()
                .map(|name| name.as_str())
                .collect();
            html! {
                th scope="row" { (row.name) }
                td { (row.site) }
                td { (layout::or_dash(&row.class.title)) }
                td { (layout::or_dash(&row.class.school_year)) }
                td { (layout::or_dash(&row.class.teacher)) }
                td.number { (row.devices) }
                td { (layout::or_dash(&software.join(", "))) }
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
        (table(words, words.t("Classes"), columns, &lines, en("No classes yet: an import makes them, or you do.")))
        @if can_change { details { summary { (words.t("Make or change a class")) }
            form.stacked.card data-api="PUT /api/v1/classes/{site}/{name}" {
                label for="site" { (words.t("Site")) }
                input #site name="site" required autocomplete="off" placeholder="BJO";
                label for="name" { (words.t("Class")) }
                input #name name="name" required autocomplete="off" placeholder="1STA";
                label for="title" { (words.t("Title")) }
                input #title name="title" autocomplete="off";
                label for="school-year" { (words.t("School year")) }
                input #school-year name="school-year" autocomplete="off" placeholder="2026/27";
                label for="teacher" { (words.t("Teacher")) }
                input #teacher name="teacher" autocomplete="off";
                label for="software" { (words.t("Software: packages, one a line")) }
                textarea #software name="software" rows="3" data-type="lines" data-empty="send" {}
                div.buttons { button.primary { (words.t("Store the class")) } }
            }
        } }
    }
}

/// All models.
pub(super) fn models(words: Words, rows: &[ModelRow]) -> Markup {
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
        (table(words, words.t("Models"), &columns, &lines, en("No models yet: they come with devices.")))
    }
}
