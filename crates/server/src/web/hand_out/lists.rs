//! Pupils, classes, history and labels.

use maud::{Markup, html};
use serde_json::Value;
use wire::admin_api::CollectionRow;
use wire::assignments::{AssignmentRow, ClassHandOut, ClassPairs, ClassRow, Pair};
use wire::pupils::{HandOutSettings, PupilDetail, PupilRow};
use wire::reasons::ListReason;

use super::super::layout::{device_address, or_dash};
use super::super::words::Words;
use super::super::{assets, draw};
use super::shown::{class_address, class_select};
use crate::pupils::history;
use crate::pupils::labels::paper::{PAPERS, Paper};
use crate::pupils::register::Filter;
use crate::routes::page::{encode, query_of};

/// Rows that a page shows; the next page has the others.
const ROWS_SHOWN_MAX: usize = 500;

/// What surrounds the list of pupils.
pub(super) struct Register<'a> {
    pub(super) words: Words,
    pub(super) may_change: bool,
    pub(super) known: usize,
    pub(super) filter: &'a Filter,
    /// Rows before those of this page.
    pub(super) from: usize,
    /// Whom somebody looked for; such a search has one page.
    pub(super) text: &'a str,
    pub(super) settings: Option<&'a HandOutSettings>,
}

/// Tabs between the lists.
fn tabs(words: Words, here: &str) -> Markup {
    let tabs = [
        ("/pupils", words.t("Pupils")),
        ("/pupils/classes", words.t("Classes")),
        ("/pupils/history", words.t("Hand-outs and returns")),
    ];
    html! {
        nav.hand-out-tabs aria-label=(words.t("Lists of the hand-out")) {
            @for (address, name) in tabs {
                a href=(address) aria-current=[(address == here).then_some("page")] { (name) }
            }
        }
    }
}

/// All pupils.
pub(super) fn pupils(register: &Register<'_>, rows: &[PupilRow], classes: &[ClassRow]) -> Markup {
    let words = register.words;
    html! {
        div.headline.page-title { h1 { (words.t("Pupils")) } span.muted { (rows.len()) } }
        (tabs(words, "/pupils"))
        @if register.known > 0 {
            (filter_form(words, register.filter, classes))
            form.hand-out-filter method="post" action="/pupils" role="search" {
                label for="f-text" { (words.t("Name or number")) }
                input id="f-text" name="text" type="search" value=(register.text) autocomplete="off" required;
                button type="submit" { (words.t("Search")) }
                @if !register.text.is_empty() { a href="/pupils" { (words.t("Show all pupils")) } }
            }
        }
        @if rows.is_empty() && register.known == 0 {
            div.empty {
                h2 { (words.t("No pupils yet")) }
                p { (words.t("Import the list of pupils from the school's system below.")) }
            }
        } @else if rows.is_empty() {
            div.empty { h2 { (words.t("Nobody is found")) } p { a href="/pupils" { (words.t("Show all pupils")) } } }
        } @else {
            (pupil_page(register, rows))
        }
        @if register.may_change { (import_forms(words)) (add_form(words, register.filter)) }
        @if let Some(settings) = register.settings { (settings_form(words, settings)) }
        script src=(assets::address("hand_out.js")) defer {}
    }
}

/// The rows of this page, and the way to the others.
fn pupil_page(register: &Register<'_>, rows: &[PupilRow]) -> Markup {
    let (words, filter) = (register.words, register.filter);
    let from = register.from.min(rows.len());
    let until = rows.len().min(from + ROWS_SHOWN_MAX);
    let page = |from: usize| {
        let (site, class) = (encode(&filter.site), encode(&filter.class));
        format!(
            "/pupils?site={site}&class={class}&without={}&from={from}",
            filter.without
        )
    };
    html! {
        (pupil_table(words, &rows[from..until]))
        @if !register.text.is_empty() && until < rows.len() {
            p.muted { (words.fill("The first {n} are shown; say more of the name to see the others.", &[("n", &ROWS_SHOWN_MAX)])) }
        } @else if from > 0 || until < rows.len() {
            nav.buttons aria-label=(words.t("Pages")) {
                @if from > 0 { a rel="prev" href=(page(from.saturating_sub(ROWS_SHOWN_MAX))) { (words.t("Previous page")) } }
                @if until < rows.len() { a rel="next" href=(page(until)) { (words.t("Next page")) } }
            }
        }
    }
}

fn filter_form(words: Words, filter: &Filter, classes: &[ClassRow]) -> Markup {
    let mut sites: Vec<(&str, &str)> = classes
        .iter()
        .map(|row| (row.site.as_str(), row.site_name.as_str()))
        .collect();
    sites.dedup();
    html! {
        form.hand-out-filter method="get" action="/pupils" {
            label for="f-site" { (words.t("Site")) }
            select id="f-site" name="site" {
                option value="" { (words.t("All")) }
                @for (code, name) in sites { option value=(code) selected[code == filter.site] { (name) } }
            }
            label for="f-class" { (words.t("Class")) }
            input id="f-class" name="class" type="text" value=(filter.class) size="6" autocomplete="off";
            label.check {
                input type="checkbox" name="without" value="true" checked[filter.without];
                span { (words.t("Without a device")) }
            }
            button type="submit" { (words.t("Show")) }
        }
    }
}

fn pupil_table(words: Words, rows: &[PupilRow]) -> Markup {
    let columns = [
        words.t("Name"),
        words.t("Number or user name"),
        words.t("Site"),
        words.t("Class"),
        words.t("Device"),
    ];
    let rows: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href={ "/pupils/" (row.pupil) } { (row.name) }
                    @if row.left_at_ms.is_some() { " " span.tag { (words.t("has left")) } } }
                td.mono { (row.external_id) }
                td { (row.site_name) }
                td { @if row.class.is_empty() { "—" } @else { a href=(class_address(&row.site, &row.class)) { (row.class) } } }
                td { (held(words, row)) }
            }
        })
        .collect();
    draw::table(words.t("Pupils"), &columns, &[], &rows)
}

fn held(words: Words, row: &PupilRow) -> Markup {
    html! {
        @if row.devices.is_empty() { span.muted { (words.t("none")) } }
        @for (index, device) in row.devices.iter().enumerate() {
            @if index > 0 { ", " }
            a.mono href=(device_address(&device.serial)) { (device.serial) }
            @if !device.asset_tag.is_empty() { " " span.muted { (device.asset_tag) } }
        }
    }
}

/// What people call a paper.
fn called(words: Words, paper: &Paper) -> String {
    let size = words.millimetres(paper.label);
    match paper.places() {
        1 => words.fill("Label printer, {size}", &[("size", &size)]),
        places => words.fill(
            "A4, {n} labels of {size}",
            &[("n", &places), ("size", &size)],
        ),
    }
}

/// What is wrong with rows of lists, by its code, for the script that shows what an import did.
fn reasons(words: Words) -> Value {
    let all = ListReason::ALL.iter();
    all.map(|(name, english)| (code(name), Value::from(words.t(english))))
        .collect()
}

/// `NoSite` as it stands in documents: `no-site`.
fn code(name: &str) -> String {
    let mut code = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !code.is_empty() {
            code.push('-');
        }
        code.push(letter.to_ascii_lowercase());
    }
    code
}

fn import_forms(words: Words) -> Markup {
    let reasons = reasons(words);
    let form = |id: &str, api: &str, title: &str, explanation: &str, is_list: bool| {
        html! {
            section.card {
                h2 { (title) }
                p.muted { (explanation) }
                form.stacked data-api=(api) data-report="" {
                    label for={ (id) "-file" } { (words.t("File (CSV or Excel)")) }
                    input id={ (id) "-file" } name="file" type="file" data-body="" accept=".csv,.txt,.xlsx,text/csv" required;
                    label.check {
                        input type="checkbox" name="dry-run" value="true" checked;
                        span { (words.t("Only say what would happen")) }
                    }
                    @if is_list {
                        label.check {
                            input type="checkbox" name="complete" value="true";
                            span { (words.t("The list is complete: whoever isn't on it has left")) }
                        }
                    }
                    button.primary type="submit" { (words.t("Import")) }
                }
                div.hand-out-report data-report-of=(api)
                    data-said=(words.t("{new} new, {changed} changed, {unchanged} unchanged, {invalid} refused, {left} left"))
                    data-stored=(words.t("It is stored.")) data-not-stored=(words.t("Nothing was stored."))
                    data-line=(words.t("Line {n}")) data-reasons=(reasons) role="status" {}
            }
        }
    };
    html! {
        div.hand-out-forms {
            (form("pupils", "POST /api/v1/pupils/import", words.t("Import pupils"),
                words.t("One row a pupil: number or user name, name, site, class. Titles in English or Norwegian."), true))
            (form("hand-out", "POST /api/v1/assignments/import", words.t("Hand out by list"),
                words.t("One row a device: serial number, asset tag or host name, and the pupil's number."), false))
        }
    }
}

fn pupil_fields(words: Words, id: &str, row: Option<&PupilRow>, site: &str) -> Markup {
    let text = |of: fn(&PupilRow) -> &str| row.map(of).unwrap_or_default();
    html! {
        label for={ (id) "-name" } { (words.t("Name")) }
        input id={ (id) "-name" } name="name" type="text" maxlength="128" required autocomplete="off" value=(text(|row| &row.name));
        label for={ (id) "-number" } { (words.t("Number or user name")) }
        input id={ (id) "-number" } name="external-id" type="text" maxlength="128" required autocomplete="off" value=(text(|row| &row.external_id));
        label for={ (id) "-site" } { (words.t("Site (code)")) }
        input id={ (id) "-site" } name="site" type="text" maxlength="128" required autocomplete="off"
            value=(row.map_or(site, |row| &row.site));
        label for={ (id) "-class" } { (words.t("Class")) }
        input id={ (id) "-class" } name="class" type="text" maxlength="128" autocomplete="off" data-empty="send" value=(text(|row| &row.class));
        label.check {
            input type="checkbox" name="several" checked[row.is_some_and(|row| row.several)];
            span { (words.t("May have more than one device")) }
        }
    }
}

fn add_form(words: Words, filter: &Filter) -> Markup {
    html! {
        details.card {
            summary { (words.t("Add one pupil")) }
            form.stacked data-api="POST /api/v1/pupils" data-done=(words.t("Added")) {
                (pupil_fields(words, "add", None, &filter.site))
                button.primary type="submit" { (words.t("Add")) }
            }
        }
    }
}

fn settings_form(words: Words, settings: &HandOutSettings) -> Markup {
    html! {
        details.card {
            summary { (words.t("Settings of the hand-out")) }
            form.stacked data-api="PUT /api/v1/hand-out-settings" data-done=(words.t("Stored")) {
                label for="s-days" { (words.t("Erase pupils without a device after so many days")) }
                input id="s-days" name="retention-days" type="number" min="0" max="3650" required value=(settings.retention_days);
                p.note.muted { (words.t("Counted from the last return, from leaving or from the last list that named them, whichever is latest. 0 keeps them until someone erases them.")) }
                label for="s-owner" { (words.t("A line on every label")) }
                input id="s-owner" name="owner-line" type="text" maxlength="80" data-empty="send" value=(settings.owner_line);
                button.primary type="submit" { (words.t("Store")) }
            }
        }
    }
}

/// One pupil.
pub(super) fn pupil(words: Words, may_change: bool, detail: &PupilDetail) -> Markup {
    let row = &detail.pupil;
    let id = row.pupil;
    if row.erased_at_ms.is_some() {
        return html! {
            div.headline.page-title { h1 { (words.t("Erased")) } }
            div.empty { h2 { (words.t("Everything personal of this pupil was erased")) }
                p { a href="/pupils" { (words.t("Show all pupils")) } } }
            (history_table(words, &detail.history))
        };
    }
    html! {
        div.headline.page-title {
            h1 { (row.name) }
            span.muted { (row.site_name) " " a href=(class_address(&row.site, &row.class)) { (row.class) } }
            @if row.left_at_ms.is_some() { span.tag { (words.t("has left")) } }
        }
        section.card {
            h2 { (words.t("Has now")) }
            @if row.devices.is_empty() { p.muted { (words.t("No device")) } }
            @for device in &row.devices {
                p {
                    a.mono href=(device_address(&device.serial)) { (device.serial) } " " (device.asset_tag) " · " (words.time(device.handed_out_at_ms)) " "
                    @if may_change {
                        button type="button" data-api={ "POST /api/v1/assignments/" (device.assignment) "/return" } data-body="{}"
                            data-done=(words.t("Taken back")) { (words.t("Take back")) }
                    }
                }
            }
        }
        h2 { (words.t("Hand-outs and returns")) }
        (history_table(words, &detail.history))
        @if may_change {
            div.hand-out-forms {
                section.card {
                    h2 { (words.t("Correct")) }
                    form.stacked data-api={ "PUT /api/v1/pupils/" (id) } data-done=(words.t("Stored")) {
                        (pupil_fields(words, "put", Some(row), ""))
                        button.primary type="submit" { (words.t("Store")) }
                    }
                }
                section.card {
                    h2 { (words.t("Personal data")) }
                    p { (words.t("Everything that is kept of this person, to hand over to them.")) }
                    p { a href={ "/api/v1/pupils/" (id) "/export" } download="pupil.json" { (words.t("Export as a file")) } }
                    p { (words.t("Erasing empties name, number, class and all notes, in the history too. It can't be undone.")) }
                    button.danger type="button" data-api={ "POST /api/v1/pupils/" (id) "/erase" } data-then="/pupils"
                        data-done=(words.t("Erased")) data-confirm=(words.t("Erase everything personal of this pupil?"))
                        data-confirm-type=(row.external_id) { (words.t("Erase")) }
                }
            }
        }
    }
}

/// Hand-outs and returns.
pub(in crate::web) fn history_table(words: Words, rows: &[AssignmentRow]) -> Markup {
    let columns = [
        words.t("Device"),
        words.t("Pupil"),
        words.t("Class"),
        words.t("Handed out"),
        words.t("By"),
        words.t("Back"),
        words.t("Condition"),
    ];
    let rows: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a.mono href=(device_address(&row.serial)) { (row.serial) } @if !row.asset_tag.is_empty() { span.sub { (row.asset_tag) } } }
                td { @if row.name.is_empty() { span.muted { "—" } } @else { a href={ "/pupils/" (row.pupil) } { (row.name) } } }
                td { (or_dash(&row.class)) }
                td { (words.time(row.handed_out_at_ms)) }
                td { (row.handed_out_by) }
                td { @match row.returned_at_ms {
                    Some(at_ms) => { (words.time(at_ms)) span.sub { (row.returned_by) } }
                    None => { span.tag { (words.t("is out")) } }
                } }
                td { (or_dash(&row.condition)) @if !row.note.is_empty() { span.sub { (row.note) } } }
            }
        })
        .collect();
    if rows.is_empty() {
        html! { div.empty { h2 { (words.t("No hand-outs yet")) } p { a href="/assign" { (words.t("Scan a machine or a pupil")) } } } }
    } else {
        draw::table(words.t("Hand-outs and returns"), &columns, &[], &rows)
    }
}

/// All hand-outs and returns.
pub(super) fn history(words: Words, filter: &history::Filter, rows: &[AssignmentRow]) -> Markup {
    let query = query_of(&filter.pairs());
    let and = if query.is_empty() { '?' } else { '&' };
    html! {
        div.headline.page-title { h1 { (words.t("Hand-outs and returns")) } span.muted { (rows.len()) } }
        (tabs(words, "/pupils/history"))
        form.hand-out-filter method="get" action="/pupils/history" role="search" {
            label for="h-text" { (words.t("Serial number, asset tag, class or by whom")) }
            input id="h-text" name="text" type="search" value=(filter.text) maxlength="100" autocomplete="off";
            label for="h-since" { (words.t("From|day")) }
            input id="h-since" name="since" type="date" value=(filter.since);
            label for="h-until" { (words.t("To|day")) }
            input id="h-until" name="until" type="date" value=(filter.until);
            label.check {
                input type="checkbox" name="open" value="true" checked[filter.open];
                span { (words.t("Only what is out")) }
            }
            button type="submit" { (words.t("Show")) }
            @if !query.is_empty() { a href="/pupils/history" { (words.t("Show all")) } }
            a href={ "/api/v1/assignments.csv" (query) } download="hand-outs.csv" { "CSV" }
        }
        (history_table(words, &rows[..rows.len().min(ROWS_SHOWN_MAX)]))
        @if let Some(last) = rows.get(ROWS_SHOWN_MAX.saturating_sub(1)) {
            p { a href={ "/pupils/history" (query) (and) "before=" (last.handed_out_at_ms) } { (words.t("Older ones")) } }
        }
    }
}

/// All classes.
pub(super) fn classes(words: Words, rows: &[ClassRow]) -> Markup {
    let columns = [
        words.t("Class"),
        words.t("Site"),
        words.t("Pupils"),
        words.t("Without a device"),
        words.t("Devices left"),
    ];
    let rows: Vec<Markup> = rows
        .iter()
        .map(|row| {
            html! {
                th scope="row" { a href=(class_address(&row.site, &row.class)) { (or_dash(&row.class)) } }
                td { (row.site_name) }
                td.number { (row.pupils) }
                td.number { (row.without) }
                td.number { (row.free) }
            }
        })
        .collect();
    html! {
        div.headline.page-title { h1 { (words.t("Classes")) } span.muted { (rows.len()) } }
        (tabs(words, "/pupils/classes"))
        @if rows.is_empty() { div.empty { h2 { (words.t("No classes yet")) } } }
        @else { (draw::table(words.t("Classes"), &columns, &[2, 3, 4], &rows)) }
    }
}

/// One class: who has which device, who is without.
pub(super) fn class(words: Words, may_change: bool, class: &ClassHandOut) -> Markup {
    let (n, of) = (class.without().count(), class.pupils.len());
    html! {
        div.headline.page-title {
            h1 { (class.site_name) " " (class.class) }
            span.muted { (words.fill("{n} of {of} are without", &[("n", &n), ("of", &of)])) }
            @if may_change {
                a href={ "/assign?of=" (class.site) "%7C" (class.class) } { (words.t("Scan for this class")) }
            }
        }
        (tabs(words, ""))
        @if class.pupils.is_empty() {
            div.empty { h2 { (words.t("Nobody is in this class")) } p { a href="/pupils" { (words.t("Import pupils")) } } }
        } @else { (pupil_table(words, &class.pupils)) }
        @if may_change && !class.pairs().is_empty() { (preview(words, class)) }
        @if !class.free.is_empty() {
            h2 { (words.t("Devices left")) }
            p { @for (index, device) in class.free.iter().enumerate() { @if index > 0 { ", " } a.mono href=(device_address(&device.serial)) { (device.serial) } } }
        }
    }
}

/// Who would get what, and the button that does just that.
fn preview(words: Words, class: &ClassHandOut) -> Markup {
    let pairs = class.pairs();
    let body = ClassPairs {
        pairs: pairs
            .iter()
            .map(|(device, pupil)| Pair {
                device: device.device,
                pupil: pupil.pupil,
            })
            .collect(),
    };
    let body = serde_json::to_string(&body).unwrap_or_default();
    html! {
        details.card {
            summary { (words.t("Hand out to the whole class, in order")) }
            ol { @for (device, pupil) in &pairs { li { a.mono href=(device_address(&device.serial)) { (device.serial) } " → " (pupil.name)
                @if !device.ready { " " span.tag { (words.t("not deployed yet")) } } } } }
            button.primary type="button" data-api="POST /api/v1/assignments/pairs" data-body=(body) data-done=(words.t("Handed out"))
                data-confirm=(words.t("Hand out all of these?")) { (words.fill("Hand out {n} devices", &[("n", &pairs.len())])) }
        }
    }
}

/// The sheet of labels.
pub(super) fn labels(words: Words, collections: &[CollectionRow], classes: &[ClassRow]) -> Markup {
    html! {
        div.headline.page-title { h1 { (words.t("Labels")) } }
        section.card {
            p.muted { (words.t("A QR code that the scanner of the assignment page reads, the name, serial number and asset tag, and the owner's line.")) }
            form.stacked method="get" action="/api/v1/labels.pdf" target="_blank" {
                label for="l-collection" { (words.t("Devices of a collection")) }
                select id="l-collection" name="collection" {
                    option value="" { (words.t("Any")) }
                    @for row in collections { option value=(row.name) { (row.name) } }
                }
                label for="l-of" { (words.t("Devices of a class")) }
                (class_select(words, "l-of", "of", classes, None))
                label for="l-devices" { (words.t("Or these serial numbers or asset tags, with commas between")) }
                input id="l-devices" name="devices" type="text" autocomplete="off";
                label for="l-paper" { (words.t("Paper")) }
                select id="l-paper" name="paper" { @for paper in PAPERS { option value=(paper.name) { (called(words, paper)) } } }
                label for="l-skip" { (words.t("Labels of the first sheet that are used already")) }
                input id="l-skip" name="skip" type="number" min="0" max="64" value="0";
                button.primary type="submit" { (words.t("Make the PDF")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::words::Words;
    use super::{ROWS_SHOWN_MAX, class, pupils};
    use crate::pupils::register::Filter;
    use wire::assignments::{ClassHandOut, FreeDevice};
    use wire::names::{DeviceId, PupilId};
    use wire::pupils::PupilRow;

    fn hostile() -> PupilRow {
        PupilRow {
            pupil: PupilId::random(),
            external_id: "e1".into(),
            name: "<script>alert(1)</script>".into(),
            site: "BJO".into(),
            site_name: "Bjørnøya skole".into(),
            class: "8B&\"".into(),
            several: false,
            devices: vec![],
            left_at_ms: None,
            erased_at_ms: None,
        }
    }

    #[test]
    fn hostile_names_stay_names() {
        let register = super::Register {
            words: Words::ENGLISH,
            may_change: true,
            known: 1,
            filter: &Filter::default(),
            from: 0,
            text: "<script>alert",
            settings: None,
        };
        let html = pupils(&register, &[hostile()], &[]).into_string();
        assert!(!html.contains("<script>alert"), "{html}");
        assert!(html.contains("&lt;script&gt;"));
    }

    #[test]
    fn a_long_list_has_pages() {
        let filter = Filter {
            class: "8B&".into(),
            ..Filter::default()
        };
        let rows: Vec<PupilRow> = (0..=2 * ROWS_SHOWN_MAX).map(|_| hostile()).collect();
        let check = |from: usize| {
            let register = super::Register {
                words: Words::ENGLISH,
                may_change: false,
                known: rows.len(),
                filter: &filter,
                from,
                text: "",
                settings: None,
            };
            let html = pupils(&register, &rows, &[]).into_string();
            let goes = |to: usize| {
                html.contains(&format!("class=8B%26&amp;without=false&amp;from={to}\""))
            };
            let shown = rows
                .iter()
                .filter(|row| html.contains(&row.pupil.to_string()));
            (
                shown.count(),
                goes(from.saturating_sub(ROWS_SHOWN_MAX)),
                goes(from.saturating_add(ROWS_SHOWN_MAX)),
            )
        };
        assert_eq!(check(0), (ROWS_SHOWN_MAX, false, true));
        assert_eq!(check(ROWS_SHOWN_MAX), (ROWS_SHOWN_MAX, true, true));
        assert_eq!(check(2 * ROWS_SHOWN_MAX), (1, true, false));
        assert_eq!(check(usize::MAX).0, 0);
    }

    #[test]
    fn a_class_shows_who_would_get_what_to_those_who_may_do_it() {
        let shown = ClassHandOut {
            site: "BJO".into(),
            site_name: "Bjørnøya skole".into(),
            class: "8B".into(),
            pupils: vec![hostile()],
            free: vec![FreeDevice {
                device: DeviceId::random(),
                serial: "PF1".into(),
                asset_tag: String::new(),
                ready: false,
            }],
        };
        assert!(
            class(Words::ENGLISH, true, &shown)
                .into_string()
                .contains("Hand out 1 devices")
        );
        assert!(
            !class(Words::ENGLISH, false, &shown)
                .into_string()
                .contains("data-api")
        );
    }
}
