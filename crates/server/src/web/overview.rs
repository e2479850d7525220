//! The overview: one table of all devices, troubled ones first, that keeps itself up to date.
//!
//! Pure functions over rows. Each device is one `tbody`, the unit that the live updates replace.

use std::collections::BTreeMap;
use std::sync::Arc;

use maud::{Markup, html};
use wire::admin_api::{DeviceRow, DeviceState, ExpectedFrom, KeyProtection, RunRow};
use wire::views::{SavedView, VIEW_NAME_CHARS_MAX};

use super::assets;
use super::databar::databar;
use super::filter::{Assets, Clock, Filter, STATES, Seen, Sort, encode, is_done_since, state_key};
use super::format;
use super::layout;
use super::runs;
use super::words::{Words, en};
pub use crate::fleet::view::Fleet;
use crate::fleet::view::as_of;
use crate::people::auth::User;
use crate::people::roles::{May, Reach};

/// Rows on one page: the largest fleet in one piece. A browser draws only those in sight.
pub const ROWS_MAX: usize = 3000;

/// For whom the overview is drawn, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The visitor's language.
    pub words: Words,
    /// The visitor.
    pub user: &'a User,
    /// All devices.
    pub fleet: &'a Fleet,
    /// What is shown of it.
    pub filter: &'a Filter,
}

/// What a whole page shows beside the devices.
#[derive(Debug, Default)]
pub struct Beside {
    /// The collections that devices can be put into.
    pub collections: Vec<String>,
    /// The views that the visitor has.
    pub views: Vec<SavedView>,
}

impl Sight<'_> {
    fn pupils(&self) -> bool {
        self.user.may(May::ViewPupils)
    }

    /// Whether there is anything that they may do with several devices.
    fn picks(&self) -> bool {
        self.user.may(May::Operate) || self.user.may(May::Deploy)
    }

    /// Whether there is anything that they may do with this one: nothing with a visitor, and what is in quarantine is
    /// decided about elsewhere.
    fn may_pick(&self, row: &DeviceRow) -> bool {
        self.picks() && row.state != DeviceState::Quarantined && self.user.covers(&row.site)
    }
}

/// The rows that someone with this reach sees.
#[must_use]
pub fn within(fleet: &Fleet, reach: &Reach) -> Vec<Arc<DeviceRow>> {
    let rows = fleet.rows().iter();
    rows.filter(|row| reach.sees(row.as_ref()))
        .cloned()
        .collect()
}

/// The rows that figures are made of: those that belong to the sites in reach, wherever they are.
#[must_use]
pub fn belonging(fleet: &Fleet, reach: &Reach) -> Vec<Arc<DeviceRow>> {
    let rows = fleet.rows().iter();
    rows.filter(|row| reach.covers(&row.site))
        .cloned()
        .collect()
}

/// The rows to show, in order: trouble first, then what moves, then the rest by site, class and name.
#[must_use]
pub fn select<'a>(
    rows: &'a [Arc<DeviceRow>],
    filter: &Filter,
    clock: Clock,
) -> Vec<&'a Arc<DeviceRow>> {
    let mut shown: Vec<_> = rows
        .iter()
        .filter(|row| filter.matches(row, clock))
        .collect();
    shown.sort_by_cached_key(|row| sort_key(row, filter.sort));
    shown
}

/// Where a row stands among the others, as a text that browsers compare as this server does: a row that changes finds
/// its place by it.
#[must_use]
pub fn sort_key(row: &DeviceRow, sort: Option<Sort>) -> String {
    let rank = match row.state {
        DeviceState::Failed => 0,
        DeviceState::Stalled => 1,
        DeviceState::Quarantined => 2,
        DeviceState::Running => 3,
        DeviceState::CheckedIn => 4,
        DeviceState::Stopped => 5,
        DeviceState::Completed => 6,
        DeviceState::Staged => 7,
        DeviceState::Imported => 8,
    };
    // The latest to finish stands first; rows of a run that goes on keep their places while it does.
    let ended = row.run.as_ref().and_then(|run| run.ended_at_ms);
    let newest = match row.state {
        DeviceState::Completed => i64::MAX - ended.unwrap_or(0),
        _ => 0,
    };
    if let Some(sort) = sort {
        let name = row.name.as_deref().unwrap_or(&row.serial);
        let by = match sort {
            Sort::Name => String::new(),
            Sort::Model => row.model.product.to_lowercase(),
            Sort::Site => format!("{}\t{}", site_name(row), row.class).to_lowercase(),
        };
        return format!(
            "{}\t{by}\t{}\t{}",
            rank.min(3),
            name.to_lowercase(),
            row.device
        );
    }
    let name = row.name.as_deref().unwrap_or("\u{ffff}");
    format!(
        "{rank}{newest:019}\t{}\t{}\t{name}\t{}\t{}",
        row.site, row.class, row.serial, row.device
    )
}

/// The content of the overview page.
#[must_use]
pub fn overview(sight: Sight<'_>, beside: &Beside, clock: Clock) -> Markup {
    let (words, filter) = (sight.words, sight.filter);
    let rows = &within(sight.fleet, &sight.user.reach);
    let shown = select(rows, filter, clock);
    html! {
        h1.hidden { (words.t("Overview")) }
        (tiles(words, rows, filter, clock))
        (filters(sight, rows))
        (views(sight, &beside.views))
        p.count #count role="status" { (count(words, shown.len(), rows.len())) }
        table class={ "devices" @if has_pupils(sight, &shown) { " with-pupils" } @for column in &filter.hidden { " hide-" (column) } } role="table" aria-label=(words.t("Devices")) data-at=(sight.fleet.at()) {
            thead role="rowgroup" {
                tr role="row" {
                    @for (class, title, note) in COLUMNS.iter().filter(|(class, ..)| *class != PUPIL || sight.pupils()) {
                        @let sort = sort_of(class);
                        th class=(class) role="columnheader" scope="col" title=[(!note.is_empty()).then(|| words.t(note))]
                            aria-sort=[(sort.is_some() && filter.sort == sort).then_some("ascending")] {
                            @if *class == NAME && sight.picks() {
                                input.pick-all type="checkbox" aria-label=(words.t("Tick all that are shown"));
                            }
                            @if sort.is_some() || *class == STATE {
                                a href={ "/" (filter.with_sort(sort).query()) } { (words.t(title)) }
                            } @else { (words.t(title)) }
                        }
                    }
                }
            }
            @for row in shown.iter().take(ROWS_MAX) { (device(sight, row, clock.now_ms)) }
        }
        @if sight.picks() { (bulk(sight, &beside.collections)) }
        div.empty #empty hidden[!shown.is_empty()] { (empty(words, rows.is_empty())) }
    }
}

/// Whether anybody has one of these. Without, the column is there and takes no room: the page shows it with the first one.
fn has_pupils(sight: Sight<'_>, shown: &[&Arc<DeviceRow>]) -> bool {
    let mut rows = shown.iter().take(ROWS_MAX);
    rows.any(|row| sight.fleet.pupil(sight.user, row.device).is_some())
}

/// Class, title and explanation of each column.
const COLUMNS: [(&str, &str, &str); 10] = [
    (NAME, en("Device"), ""),
    (STATE, en("State"), ""),
    (
        "model",
        en("Model"),
        en("Below: what lies staged on the disk"),
    ),
    ("site", en("Site and class"), ""),
    (PUPIL, en("Pupil"), ""),
    (
        "aim",
        en("Deployment"),
        en("Below: the collections the device is in"),
    ),
    ("step", en("Step"), ""),
    ("time", en("Elapsed of expected"), ""),
    (
        "content number",
        en("Content"),
        en("How much came from the machine's own disk, and what was fetched over the network"),
    ),
    (
        "seen number",
        en("Last seen"),
        en("Below: the release of its boot image"),
    ),
];

/// The class of the first column.
const NAME: &str = "name";
/// The class of the second one. Its order is the usual one: by what happens to the devices.
const STATE: &str = "state";
/// The class of the column that only those see who may see pupils.
const PUPIL: &str = "pupil";

/// The order that the title of a column stands for.
fn sort_of(class: &str) -> Option<Sort> {
    [Sort::Name, Sort::Model, Sort::Site]
        .into_iter()
        .find(|sort| sort.key() == class)
}

/// The class by which a column is hidden: the first word of all that it has.
fn column_key(class: &'static str) -> &'static str {
    class.split(' ').next().unwrap_or(class)
}

/// How many rows are shown, in words.
#[must_use]
pub fn count(words: Words, shown: usize, all: usize) -> String {
    if shown > ROWS_MAX {
        words.fill(
            "The first {max} of {n} devices; narrow the filter to see the others",
            &[("max", &ROWS_MAX), ("n", &shown)],
        )
    } else if shown == all {
        let all = u64::try_from(all).unwrap_or(u64::MAX);
        words.count(all, "{n} device", "{n} devices")
    } else {
        words.fill("{n} of {m} devices", &[("n", &shown), ("m", &all)])
    }
}

fn empty(words: Words, no_devices: bool) -> Markup {
    html! {
        @if no_devices {
            h2 { (words.t("No devices yet")) }
            p { (words.t("Import an asset file to begin:")) " " code { "forestage asset import laptops.csv" } }
        } @else {
            h2 { (words.t("No device matches")) }
            p { a href="/" { (words.t("Show all devices")) } }
        }
    }
}

/// The counts by state; each is a link that sets or clears the filter.
#[must_use]
pub fn tiles(words: Words, rows: &[Arc<DeviceRow>], filter: &Filter, clock: Clock) -> Markup {
    let (mut counts, mut today) = (BTreeMap::new(), 0_usize);
    let counted = rows
        .iter()
        .filter(|row| filter.matches_but_state(row, clock));
    for row in counted {
        *counts.entry(state_key(row.state)).or_insert(0_usize) += 1;
        today += usize::from(is_done_since(row, clock.today_ms));
    }
    html! {
        nav.tiles #tiles aria-label=(words.t("Devices by state")) {
            @for state in STATES {
                @let count = counts.get(state_key(state)).copied().unwrap_or_default();
                @let current = filter.state == Some(state);
                @let target = filter.with_state((!current).then_some(state));
                (tile(words, (state, words.t(layout::state_word(state))), count, current, &target))
                @if state == DeviceState::Completed {
                    @let target = filter.with_done_today(!filter.done_today);
                    (tile(words, (state, words.t("Done today")), today, filter.done_today, &target))
                }
            }
        }
    }
}

fn tile(
    words: Words,
    (state, word): (DeviceState, &str),
    count: usize,
    current: bool,
    target: &Filter,
) -> Markup {
    html! {
        a class={ "tile s-" (state_key(state)) @if count == 0 { " none" } }
            href={ "/" (target.query()) } aria-current=[current.then_some("true")]
            title=(if current { words.t("Show all states") } else { words.t("Show only these") }) {
            span.figure { (count) }
            span.word { (layout::icon(layout::state_icon(state))) (word) }
        }
    }
}

/// One choice of the filters: its name in the address, what it is called, and the values that rows have.
pub(super) struct Choice<'a> {
    pub(super) name: &'static str,
    title: &'static str,
    all: &'static str,
    chosen: Option<&'a str>,
    values: BTreeMap<&'a str, String>,
}

impl<'a> Choice<'a> {
    /// A choice among values that are called what they are.
    pub(super) fn of(
        name: &'static str,
        title: &'static str,
        all: &'static str,
        chosen: &'a str,
        values: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self {
            name,
            title,
            all,
            chosen: Some(chosen).filter(|chosen| !chosen.is_empty()),
            values: values.map(|value| (value, value.to_owned())).collect(),
        }
    }

    pub(super) fn select(&self, words: Words) -> Markup {
        html! {
            label {
                span.hidden { (words.t(self.title)) }
                select name=(self.name) {
                    option value="" { (words.t(self.all)) }
                    @for (value, text) in self.values.iter().take(CHOICES_MAX) {
                        option value=(value) selected[self.chosen == Some(*value)] { (text) }
                    }
                    // A bookmark of something that no row has any more.
                    @if let Some(chosen) = self.chosen.filter(|chosen| !self.values.contains_key(chosen)) {
                        option value=(chosen) selected { (chosen) }
                    }
                }
            }
        }
    }
}

/// Values offered in one choice; a county has some hundred classes.
const CHOICES_MAX: usize = 1000;

/// The choices that rows themselves give.
pub(super) fn choices<'a>(rows: &'a [Arc<DeviceRow>], filter: &'a Filter) -> [Choice<'a>; 7] {
    let gather = |value: fn(&'a DeviceRow) -> &'a str| {
        let values = rows
            .iter()
            .map(|row| value(row))
            .filter(|value| !value.is_empty());
        values
            .map(|value| (value, value.to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let sites = rows.iter().filter(|row| !row.site.is_empty());
    let sites = sites.map(|row| {
        let name = format!("{} ({})", layout::or_dash(&row.site_name), row.site);
        (row.site.as_str(), name)
    });
    let collections = rows.iter().flat_map(|row| &row.collections);
    let collections = collections.map(|name| (name.as_str(), name.to_string()));
    [
        Choice {
            name: "site",
            title: en("Site"),
            all: en("All sites"),
            chosen: filter.site.as_deref(),
            values: sites.collect(),
        },
        Choice {
            name: "class",
            title: en("Class"),
            all: en("All classes"),
            chosen: filter.class.as_deref(),
            values: gather(|row| &row.class),
        },
        Choice {
            name: "model",
            title: en("Model"),
            all: en("All models"),
            chosen: filter.model.as_deref(),
            values: gather(|row| &row.model.product),
        },
        Choice {
            name: "collection",
            title: en("Collection"),
            all: en("All collections"),
            chosen: filter.collection.as_deref(),
            values: collections.collect(),
        },
        Choice {
            name: "deployment",
            title: en("Deployment"),
            all: en("All deployments"),
            chosen: filter.deployment.as_deref(),
            values: gather(|row| row.run.as_ref().map_or("", |run| run.deployment.as_str())),
        },
        Choice {
            name: "bundle",
            title: en("Staged"),
            all: en("Whatever is staged"),
            chosen: filter.bundle.as_deref(),
            values: gather(|row| row.bundle.as_deref().unwrap_or_default()),
        },
        Choice {
            name: "step",
            title: en("Step"),
            all: en("All steps"),
            chosen: filter.step.as_deref(),
            values: gather(|row| {
                row.run
                    .as_ref()
                    .filter(|run| run.ended_at_ms.is_none())
                    .map_or("", |run| run.step_title.as_str())
            }),
        },
    ]
}

fn filters(sight: Sight<'_>, rows: &[Arc<DeviceRow>]) -> Markup {
    let (words, filter) = (sight.words, sight.filter);
    let [site, class, rest @ ..] = choices(rows, filter);
    let more = filter.model.is_some()
        || filter.collection.is_some()
        || filter.deployment.is_some()
        || filter.bundle.is_some()
        || filter.step.is_some()
        || filter.key.is_some()
        || filter.assets != Assets::InUse
        || filter.seen.is_some()
        || filter.fetched_megabytes.is_some();
    html! {
        form.filters #filters method="get" action="/" role="search" {
            label.search {
                span.hidden { (words.t("Search")) }
                (layout::icon(layout::SEARCH))
                input type="search" name="text" value=(filter.text) maxlength="100" autocomplete="off"
                    placeholder=(words.t("Search name, serial, model, class"));
            }
            (site.select(words))
            (class.select(words))
            label {
                span.hidden { (words.t("State")) }
                select name="state" {
                    option value="" { (words.t("All states")) }
                    @for state in STATES {
                        option value=(state_key(state)) selected[filter.state == Some(state)] {
                            (words.t(layout::state_word(state)))
                        }
                    }
                }
            }
            @if filter.done_today { input type="hidden" name="done" value="today"; }
            @for (name, value) in filter.look().pairs() { input type="hidden" name=(name) value=(value); }
            details.more-filters open[more] {
                summary { (words.t("More")) }
                div.filters {
                    @for choice in &rest { (choice.select(words)) }
                    (assets_shown(words, filter))
                    (keys_shown(words, filter))
                    (seen_and_fetched(words, filter))
                }
                (columns(sight))
            }
            button type="submit" { (words.t("Apply")) }
            @if !filter.is_empty() { a.clear href={ "/" (filter.look().query()) } { (words.t("Clear")) } }
            a.clear href=(runs::address(&runs::of(filter))) { (words.t("Runs")) }
            a.clear href={ "/wall" @if let Some(site) = &filter.site { "?site=" (encode(site)) } } { (words.t("Wall screen")) }
            a.clear href={ "/api/v1/devices.csv" (filter.query()) } download="devices.csv" { "CSV" }
        }
    }
}

/// Which columns are shown; each is a link that hides it or shows it again.
fn columns(sight: Sight<'_>) -> Markup {
    let (words, filter) = (sight.words, sight.filter);
    let offered = COLUMNS
        .iter()
        .filter(|(class, ..)| ![NAME, STATE].contains(class))
        .filter(|(class, ..)| *class != PUPIL || sight.pupils());
    html! {
        p.columns {
            span.muted { (words.t("Columns")) }
            @for (class, title, _) in offered {
                @let key = column_key(class);
                @let is_hidden = filter.hidden.contains(&key);
                a href={ "/" (filter.with_column_toggled(key).query()) } .off[is_hidden] {
                    span aria-hidden="true" { (if is_hidden { "☐ " } else { "☑ " }) }
                    (words.t(title))
                    span.hidden { ": " (if is_hidden { words.t("hidden") } else { words.t("shown") }) }
                }
            }
        }
    }
}

/// Names for what is shown, and a field to name what is shown now.
fn views(sight: Sight<'_>, views: &[SavedView]) -> Markup {
    let (words, query) = (sight.words, sight.filter.query());
    let query = query.trim_start_matches('?');
    let may_share = sight.user.may(May::Administer);
    let current = views.iter().find(|view| view.query == query);
    html! {
        nav.views aria-label=(words.t("Saved views")) {
            @for view in views {
                @let is_current = current.is_some_and(|current| current == view);
                a href={ "/" @if !view.query.is_empty() { "?" (view.query) } } aria-current=[is_current.then_some("page")] {
                    (view.name)
                    @if view.shared { span.muted { " " (words.t("(shared)")) } }
                }
            }
            details.save-view {
                summary { (words.t("Save this view")) }
                form.filters data-api="PUT /api/v1/views/{name}" data-done=(words.t("Saved.")) {
                    input type="hidden" name="query" value=(query) data-empty="send";
                    label {
                        span.hidden { (words.t("Name of the view")) }
                        input name="name" required maxlength=(VIEW_NAME_CHARS_MAX) autocomplete="off"
                            placeholder=(words.t("Name of the view")) value=[current.map(|view| &view.name)];
                    }
                    @if may_share {
                        label.check {
                            input type="checkbox" name="shared" checked[current.is_some_and(|view| view.shared)];
                            span { (words.t("For everybody")) }
                        }
                    }
                    button type="submit" { (words.t("Save")) }
                    @if let Some(view) = current.filter(|view| may_share || !view.shared) {
                        button type="button" data-api={ "DELETE /api/v1/views/" (encode(&view.name)) "?shared=" (view.shared) }
                            data-done=(words.t("Deleted."))
                            data-confirm=(words.fill("Delete the view {name}?", &[("name", &view.name)])) {
                            (words.t("Delete this view"))
                        }
                    }
                }
            }
        }
    }
}

fn seen_and_fetched(words: Words, filter: &Filter) -> Markup {
    let told = |seen: Seen| match seen {
        Seen::Within(minutes) => {
            words.fill("Seen within {time}", &[("time", &span(words, minutes))])
        }
        Seen::Before(minutes) => {
            words.fill("Not seen for {time}", &[("time", &span(words, minutes))])
        }
    };
    let mut offered = Seen::CHOICES.to_vec();
    offered.extend(filter.seen.filter(|seen| !Seen::CHOICES.contains(seen)));
    html! {
        label {
            span.hidden { (words.t("Last seen")) }
            select name="seen" {
                option value="" { (words.t("Seen at any time")) }
                @for seen in offered {
                    option value=(seen.key()) selected[filter.seen == Some(seen)] { (told(seen)) }
                }
            }
        }
        label.fetched-filter {
            span { (words.t("Fetched more than")) }
            input type="number" name="fetched" min="0" max="1000000" inputmode="numeric"
                value=[filter.fetched_megabytes];
            span { "MB" }
        }
    }
}

/// What keeps a machine's key from being copied.
const fn key_protection(protection: KeyProtection) -> &'static str {
    match protection {
        KeyProtection::Tpm => en("Key in the TPM"),
        KeyProtection::Software => en("Key in a file"),
    }
}

fn keys_shown(words: Words, filter: &Filter) -> Markup {
    html! {
        label {
            span.hidden { (words.t("Key")) }
            select name="key" {
                option value="" { (words.t("Wherever the key is")) }
                @for protection in KeyProtection::ALL {
                    option value=(protection.word()) selected[filter.key == Some(protection)] { (words.t(key_protection(protection))) }
                }
            }
        }
    }
}

/// Assets that are out of use are found here.
fn assets_shown(words: Words, filter: &Filter) -> Markup {
    let word = |assets| match assets {
        Assets::InUse => en("In use"),
        Assets::Retired => en("Retired"),
        Assets::Stolen => en("Stolen"),
        Assets::All => en("All assets"),
    };
    html! {
        label {
            span.hidden { (words.t("Assets")) }
            select name="asset" {
                option value="" { (words.t(word(Assets::InUse))) }
                @for assets in Assets::CHOICES {
                    option value=(assets.key()) selected[filter.assets == assets] { (words.t(word(assets))) }
                }
            }
        }
    }
}

/// Minutes as people say them.
fn span(words: Words, minutes: u32) -> String {
    let count = |n: u32, one, many| words.count(u64::from(n), one, many);
    match minutes {
        minutes if minutes % 1440 == 0 => count(minutes / 1440, en("{n} day"), en("{n} days")),
        minutes if minutes % 60 == 0 => count(minutes / 60, en("{n} hour"), en("{n} hours")),
        minutes => count(minutes, en("{n} minute"), en("{n} minutes")),
    }
}

/// The id of a device's element.
#[must_use]
pub fn row_id(row: &DeviceRow) -> String {
    format!("d-{}", row.device)
}

/// One device: a `tbody` of one line, or two if something must be said.
#[must_use]
pub fn device(sight: Sight<'_>, row: &DeviceRow, now_ms: i64) -> Markup {
    let words = sight.words;
    let row = &as_of(row, now_ms);
    let name = row.name.as_deref().unwrap_or("—");
    html! {
        tbody id=(row_id(row)) class={ "device s-" (state_key(row.state)) } role="rowgroup" data-key=(sort_key(row, sight.filter.sort)) {
            tr role="row" {
                th.name role="rowheader" scope="row" {
                    @if sight.may_pick(row) { (pick(words, row)) }
                    @match &row.run {
                        Some(run) => { a href={ "/runs/" (run.run) } { (layout::or_dash(name)) } }
                        None => { span { (layout::or_dash(name)) } }
                    }
                    span.sub { (layout::serial_link(words, &row.serial, row.state)) }
                }
                td.state role="cell" { (layout::chip(words, row.state)) }
                td.model role="cell" title=(row.model) {
                    span { (layout::or_dash(&row.model.product)) }
                    span.sub { (row.bundle.as_deref().unwrap_or(&row.model.vendor)) }
                }
                td.site role="cell" title=(row.site) {
                    span { (layout::or_dash(site_name(row))) }
                    span.sub { (row.class) }
                    @if let Some(site) = seen_elsewhere(row) {
                        span.elsewhere { (words.fill("seen at {site}", &[("site", &site)])) }
                    }
                }
                @if sight.pupils() {
                    td.pupil role="cell" { span { (sight.fleet.pupil(sight.user, row.device).unwrap_or_default()) } }
                }
                td.aim role="cell" {
                    span { (row.run.as_ref().map_or("—", |run| run.deployment.as_str())) }
                    span.sub { (collections(row)) }
                }
                @match &row.run {
                    Some(run) => { (run_cells(words, run)) }
                    None => {
                        td.step role="cell" { span.muted { "—" } }
                        td.time role="cell" { span.muted { "—" } }
                        td.content.number role="cell" { span.muted { "—" } }
                    }
                }
                td.number.seen role="cell" {
                    (last_seen(words, row.last_seen_at_ms, now_ms))
                    @if let Some(release) = &row.boot_image { span.sub { (release) } }
                }
            }
            @if let Some(trouble) = trouble(words, row) { (trouble) }
        }
    }
}

fn collections(row: &DeviceRow) -> String {
    let names: Vec<_> = row.collections.iter().map(|name| name.as_str()).collect();
    names.join(", ")
}

/// The tick that chooses a device, see `assets/bulk.js`. A machine in quarantine is decided about elsewhere.
fn pick(words: Words, row: &DeviceRow) -> Markup {
    let name = row.name.as_deref().unwrap_or(&row.serial);
    html! {
        input.pick type="checkbox" value=(row.device) data-name=(name)
            data-run=[row.run.as_ref().map(|run| run.run)] data-serial=(row.serial)
            aria-label=(words.fill(en("Tick {machine}"), &[("machine", &layout::or_dash(name))]));
    }
}

/// What can be done with those that are ticked.
fn bulk(sight: Sight<'_>, collections: &[String]) -> Markup {
    let words = sight.words;
    let each = |what: &str| format!("POST /api/v1/runs/{{run}}/{what}");
    html! {
        div.bulk #bulk role="region" aria-label=(words.t("What to do with the devices that are ticked")) hidden {
            b data-count {}
            @if sight.user.may(May::Operate) {
                button type="button" data-each=(each("retry")) data-ask=(words.t("Retry {n} runs from the failed step?")) {
                    (words.t("Retry from the failed step"))
                }
                button type="button" data-each=(each("rerun")) data-typed="rerun {n}" data-words="rerun {serial}"
                    data-ask=(words.t("Run all steps again on {n} machines? What is on their disks may be overwritten.")) {
                    (words.t("Run again from the start"))
                }
                button.danger type="button" data-each=(each("stop")) data-ask=(words.t("Stop the runs on {n} machines?")) {
                    (words.t("Stop"))
                }
            }
            @if sight.user.may(May::Deploy) {
                label {
                    span.hidden { (words.t("Collection")) }
                    select name="collection" {
                        option value="" { (words.t("Choose a collection")) }
                        @for name in collections { option value=(name) { (name) } }
                    }
                }
                button type="button" data-members="add" data-typed="{collection} {n}"
                    data-ask=(words.t("Put {n} machines into {collection}? Its required deployments begin on them, and may overwrite their disks.")) {
                    (words.t("Put in"))
                }
                button type="button" data-members="remove" data-ask=(words.t("Take {n} machines out of {collection}?")) {
                    (words.t("Take out"))
                }
                button type="button" data-open="/device-names?serials={serials}" { (words.t("Name them")) }
            }
            button.quiet type="button" data-untick { (words.t("Untick all")) }
        }
        div #bulk-result role="status" tabindex="-1" hidden {}
        script src=(assets::address("bulk.js")) defer {}
    }
}

/// The site where it was seen, if that isn't the one of the import.
fn seen_elsewhere(row: &DeviceRow) -> Option<&str> {
    let seen = row.seen_site.as_deref().filter(|seen| *seen != row.site)?;
    row.seen_site_name.as_deref().or(Some(seen))
}

fn site_name(row: &DeviceRow) -> &str {
    if row.site_name.trim().is_empty() {
        &row.site
    } else {
        &row.site_name
    }
}

const fn is_working(state: DeviceState) -> bool {
    matches!(state, DeviceState::Running | DeviceState::Stalled)
}

fn run_cells(words: Words, run: &RunRow) -> Markup {
    let fetched = words.fill(
        "{content} of content, {server} in all at the server, {card} at the machine's network card",
        &[
            ("content", &words.bytes(run.content.network_packed)),
            ("server", &words.bytes(run.server_bytes)),
            ("card", &words.bytes(run.interface_bytes)),
        ],
    );
    html! {
        td.step role="cell" {
            span.line {
                span.of { (step_of(run)) }
                span.title { (layout::or_dash(&run.step_title)) }
                @if is_working(run.state) { span.percent { (percent(run)) } }
            }
            @if is_working(run.state) { (layout::progress(run.step_percent.unwrap_or(0))) }
        }
        td.time role="cell" { (elapsed(words, run)) }
        td.content.number role="cell" title=(fetched) {
            span.local { (local_share(words, run)) }
            span.sub.fetched { (fetched_megabytes(words, run)) }
        }
    }
}

fn step_of(run: &RunRow) -> String {
    format!("{}/{}", run.step_number, run.step_count)
}

fn percent(run: &RunRow) -> String {
    let percent = run.step_percent.map(|percent| percent.min(100));
    percent.map_or_else(String::new, |percent| format!("{percent} %"))
}

/// How much of the content didn't cross the network.
fn local_share(words: Words, run: &RunRow) -> String {
    let local = run.content.unchanged.saturating_add(run.content.local);
    let all = local.saturating_add(run.content.network);
    if all == 0 {
        return "—".to_owned();
    }
    words.fill("{n} % local", &[("n", &format::share(local, all))])
}

fn fetched_megabytes(words: Words, run: &RunRow) -> String {
    format!("{} MB", words.megabytes(run.content.network_packed))
}

/// What changes many times in the course of a run, as the script writes it into a row that it has; `None` if the rows
/// differ in more than that.
#[must_use]
pub fn cells(
    words: Words,
    before: &DeviceRow,
    after: &DeviceRow,
    now_ms: i64,
) -> Option<serde_json::Value> {
    let run = after.run.as_ref().filter(|run| is_working(run.state))?;
    if still(before) != still(after) {
        return None;
    }
    let seen = after.last_seen_at_ms?;
    Some(serde_json::json!([
        step_of(run),
        run.step_title,
        percent(run),
        run.step_percent.unwrap_or(0),
        local_share(words, run),
        fetched_megabytes(words, run),
        format::seconds_between(seen, now_ms),
    ]))
}

/// The row without what [`cells`] tells.
fn still(row: &DeviceRow) -> DeviceRow {
    let mut row = row.clone();
    row.last_seen_at_ms = row.last_seen_at_ms.map(|_| 0);
    if let Some(run) = &mut row.run {
        (run.step_number, run.step_count, run.step_percent) = (0, 0, None);
        run.step_title.clear();
        run.content = wire::event::ContentBytes::default();
        (run.server_bytes, run.interface_bytes) = (0, 0);
        (run.last_seen_at_ms, run.elapsed_seconds) = (0, 0);
    }
    row
}

/// Elapsed and expected time with the databar. While the run goes on, the page counts on by itself.
#[must_use]
pub fn elapsed(words: Words, run: &RunRow) -> Markup {
    let bar = databar(run.elapsed_seconds, run.expected_seconds, run.state);
    let label = bar_label(words, &bar.label);
    html! {
        div.timing data-elapsed=[(run.state == DeviceState::Running).then_some(run.elapsed_seconds)]
            data-expected=(run.expected_seconds) {
            span.line {
                span.elapsed { (format::clock(run.elapsed_seconds)) }
                @if run.expected_seconds > 0 { span.muted title=[who_expects(words, run.expected_from)] { " / " (format::clock(run.expected_seconds)) } }
                span.label { (label) }
            }
            (layout::bar(&bar))
        }
    }
}

/// Who says how long it takes, if it isn't who usually does.
fn who_expects(words: Words, from: ExpectedFrom) -> Option<&'static str> {
    match from {
        ExpectedFrom::Deployment | ExpectedFrom::Nobody => None,
        ExpectedFrom::Site => Some(words.t("As the site says")),
        ExpectedFrom::EarlierRuns => Some(words.t("The median of earlier runs")),
    }
}

/// The label of a databar in the visitor's language.
fn bar_label(words: Words, label: &str) -> String {
    if let Some(time) = label.strip_suffix(" over") {
        return words.fill("{n} over", &[("n", &time)]);
    }
    if let Some(time) = label.strip_suffix(" faster") {
        return words.fill("{n} faster", &[("n", &time)]);
    }
    let known = [
        en("failed"),
        en("stopped"),
        en("stalled"),
        en("no estimate"),
        en("on time"),
    ];
    let known = known.into_iter().find(|known| *known == label);
    known.map_or_else(|| label.to_owned(), |known| words.t(known).to_owned())
}

fn last_seen(words: Words, at_ms: Option<i64>, now_ms: i64) -> Markup {
    html! {
        @match at_ms {
            Some(at_ms) => {
                @let seconds = format::seconds_between(at_ms, now_ms);
                span data-ago=(seconds) title={ (words.moment(at_ms)) " UTC" } { (words.ago(seconds)) }
            }
            None => { span.muted { "—" } }
        }
    }
}

/// The second line: what went wrong and what to do, or why the device is kept apart.
fn trouble(words: Words, row: &DeviceRow) -> Option<Markup> {
    let run = row.run.as_ref();
    let text = match row.state {
        DeviceState::Failed => {
            let chain = run
                .map(|run| run.errors.join(": "))
                .filter(|chain| !chain.is_empty());
            chain
                .or_else(|| layout::message(words, row))
                .unwrap_or_else(|| words.t("The run failed without an error message.").into())
        }
        DeviceState::Stalled => layout::message(words, row).unwrap_or_else(|| {
            words
                .t("Silent for too long: no heartbeat from the machine.")
                .into()
        }),
        DeviceState::Quarantined => row.aside.as_ref().map_or_else(
            || words.t("The machine can't prove who it is.").into(),
            |why| words.say(why),
        ),
        DeviceState::Running if layout::has_refused(row) => layout::message(words, row)?,
        DeviceState::Imported
        | DeviceState::Staged
        | DeviceState::CheckedIn
        | DeviceState::Running
        | DeviceState::Completed
        | DeviceState::Stopped => return None,
    };
    let failed = (row.state == DeviceState::Failed).then_some(run).flatten();
    Some(html! {
        tr.trouble role="row" {
            td role="cell" aria-colspan="10" {
                div.note {
                    @if let Some(step) = failed.and_then(|run| run.failed_step.as_ref()) {
                        span { (words.t("Step")) " " code { (step) } }
                    }
                    span.what { (layout::prose(&text)) }
                    @if let Some(hint) = failed.and_then(|run| run.hint.as_ref()) {
                        span.hint { b { (words.t("What to do:")) " " } (layout::prose(hint)) }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::filter::CLOCK;
    use super::super::sample;
    use super::super::section::Section;
    use super::super::visitor::Visitor;
    use super::*;
    use crate::fleet::view::Holder;
    use crate::people::roles::Role;

    fn admin() -> User {
        Visitor::sample(Words::ENGLISH, Section::Overview).user
    }

    #[test]
    fn pupils_are_for_those_who_may_see_them() {
        let holders = sample::holders();
        let (device, holder) = holders.iter().next().unwrap();
        let (device, name) = (*device, holder.name.clone());
        let fleet = Fleet::of(sample::kept()).held_by(holders.clone());
        let shows = |role, site: &str| {
            let user = User {
                role,
                reach: Reach::of(role, site),
                ..admin()
            };
            let sight = Sight {
                words: Words::ENGLISH,
                user: &user,
                fleet: &fleet,
                filter: &Filter::default(),
            };
            let page = overview(sight, &Beside::default(), CLOCK).into_string();
            assert_eq!(
                page.contains("class=\"pupil\""),
                sight.pupils(),
                "{role} has the column or not"
            );
            // Nobody who is shown has one: no room for it.
            assert_eq!(page.contains("with-pupils"), page.contains(&name));
            page.contains(&name)
        };
        let row = fleet.row(device).unwrap();
        assert!(shows(Role::Admin, "") && shows(Role::AssetClerk, ""));
        assert!(shows(Role::SchoolAdmin, &row.site));
        assert!(!shows(Role::Viewer, "") && !shows(Role::Viewer, &row.site));
        // A pupil of another site who has a device of this one.
        let elsewhere = Holder {
            site: "elsewhere".into(),
            name: name.clone(),
        };
        let fleet = Fleet::of(sample::kept()).held_by([(device, elsewhere)].into());
        let user = User {
            role: Role::SchoolAdmin,
            reach: Reach::of(Role::SchoolAdmin, &row.site),
            ..admin()
        };
        assert_eq!(fleet.pupil(&user, device), None);
        assert_eq!(fleet.pupil(&admin(), device), Some(name.as_str()));
    }

    #[test]
    fn another_site_than_the_import_says_is_told_in_words() {
        let mut row = sample::devices().remove(0);
        (row.seen_site, row.seen_site_name) = (Some(row.site.clone()), Some("Here".into()));
        assert_eq!(seen_elsewhere(&row), None);
        (row.seen_site, row.seen_site_name) = (Some("XXX".into()), Some("Elsewhere".into()));
        assert_eq!(seen_elsewhere(&row), Some("Elsewhere"));
        row.seen_site_name = None;
        assert_eq!(seen_elsewhere(&row), Some("XXX"));
    }

    #[test]
    fn trouble_stands_first_in_every_order_and_then_names_rise() {
        let rows = sample::kept();
        for sort in [Sort::Name, Sort::Model, Sort::Site] {
            let filter = Filter::default().with_sort(Some(sort));
            let shown = select(&rows, &filter, CLOCK);
            assert_eq!(shown[0].state, DeviceState::Failed, "{sort:?}");
            let by = |row: &&Arc<DeviceRow>| match sort {
                Sort::Name => row.name.clone().unwrap_or_else(|| row.serial.clone()),
                Sort::Model => row.model.product.clone(),
                Sort::Site => row.site_name.clone(),
            };
            assert!(
                shown[3..].is_sorted_by_key(|row| by(row).to_lowercase()),
                "{sort:?}"
            );
        }
    }

    #[test]
    fn columns_can_be_hidden_and_the_form_keeps_them_so() {
        let (user, fleet) = (admin(), Fleet::of(sample::kept()));
        let filter = Filter::of_query("site=BJO&sort=model&hide=model,seen");
        let sight = Sight {
            words: Words::ENGLISH,
            user: &user,
            fleet: &fleet,
            filter: &filter,
        };
        let page = overview(sight, &Beside::default(), CLOCK).into_string();
        assert!(page.contains(r#"class="devices hide-model hide-seen""#));
        assert!(page.contains(r#"name="hide" value="model,seen""#));
        assert!(page.contains(r#"href="/?site=BJO&amp;sort=model&amp;hide=model""#));
        assert!(page.contains(r#"aria-sort="ascending""#));
        assert!(
            page.contains(r#"class="clear" href="/?sort=model&amp;hide=model%2Cseen""#),
            "clearing the filter keeps the look"
        );
    }

    #[test]
    fn a_view_is_a_link_and_only_administrators_share() {
        let view = |name: &str, query: &str, shared| SavedView {
            name: name.into(),
            query: query.into(),
            shared,
            saved_at_ms: 0,
        };
        let saved = [
            view("trouble", "state=failed", true),
            view("all", "", false),
        ];
        let fleet = Fleet::default();
        let shown = |role, query: &str| {
            let user = User { role, ..admin() };
            let sight = Sight {
                words: Words::ENGLISH,
                user: &user,
                fleet: &fleet,
                filter: &Filter::of_query(query),
            };
            views(sight, &saved).into_string()
        };
        let admin = shown(Role::Admin, "state=failed");
        assert!(admin.contains(r#"href="/?state=failed" aria-current="page""#));
        assert!(admin.contains(r#"href="/">all"#));
        assert!(admin.contains("For everybody") && admin.contains("?shared=true"));
        let viewer = shown(Role::Viewer, "state=failed");
        assert!(!viewer.contains("For everybody") && !viewer.contains("DELETE"));
        assert!(
            shown(Role::Viewer, "").contains("?shared=false"),
            "their own"
        );
    }

    #[test]
    fn trouble_stands_first() {
        let rows = sample::kept();
        let order: Vec<_> = select(&rows, &Filter::default(), CLOCK)
            .into_iter()
            .map(|row| row.state)
            .collect();
        assert_eq!(
            &order[..4],
            [
                DeviceState::Failed,
                DeviceState::Stalled,
                DeviceState::Quarantined,
                DeviceState::Running
            ]
        );
        assert_eq!(order.last(), Some(&DeviceState::Imported));
        assert_eq!(order.len(), rows.len());
    }

    #[test]
    fn tiles_count_and_toggle() {
        let rows = sample::kept();
        let site = Filter {
            site: Some("BJO".into()),
            ..Filter::default()
        };
        let html = tiles(
            Words::ENGLISH,
            &rows,
            &site.with_state(Some(DeviceState::Failed)),
            CLOCK,
        )
        .into_string();
        assert!(
            html.contains(r#"href="/?site=BJO" aria-current="true""#),
            "the current tile clears the state: {html}"
        );
        assert!(
            html.contains(r#"href="/?site=BJO&amp;state=running""#),
            "the others keep the site"
        );
    }

    #[test]
    fn counts_in_words() {
        let count = |shown, all| count(Words::ENGLISH, shown, all);
        assert_eq!(count(1, 1), "1 device");
        assert_eq!(count(3, 30), "3 of 30 devices");
        assert!(count(ROWS_MAX + 1, ROWS_MAX + 1).starts_with("The first 3000 of 3001"));
    }

    #[test]
    fn only_what_moves_is_told_by_cells() {
        let rows = sample::devices();
        let row = rows
            .iter()
            .find(|row| row.state == DeviceState::Running)
            .unwrap();
        let mut later = row.clone();
        later.run.as_mut().unwrap().step_percent = Some(99);
        later.last_seen_at_ms = Some(sample::NOW_MS - 1000);
        let told = cells(Words::ENGLISH, row, &later, sample::NOW_MS).unwrap();
        assert_eq!((&told[2], &told[3]), (&"99 %".into(), &99.into()));
        later.class = "another".into();
        assert_eq!(cells(Words::ENGLISH, row, &later, sample::NOW_MS), None);
        let mut failed = row.clone();
        failed.run.as_mut().unwrap().state = DeviceState::Failed;
        assert_eq!(cells(Words::ENGLISH, row, &failed, sample::NOW_MS), None);
    }

    #[test]
    fn no_text_of_a_device_becomes_markup() {
        let row = sample::hostile_device();
        let holder = Holder {
            name: sample::HOSTILE.into(),
            site: sample::HOSTILE.into(),
        };
        let holders = [(row.device, holder)].into();
        let fleet = Fleet::of(vec![Arc::new(row)]).held_by(holders);
        let user = admin();
        let beside = Beside {
            collections: vec![sample::HOSTILE.into()],
            views: vec![SavedView {
                name: sample::HOSTILE.into(),
                query: sample::HOSTILE.into(),
                shared: true,
                saved_at_ms: 0,
            }],
        };
        let page = |words, filter: &Filter| {
            let sight = Sight {
                words,
                user: &user,
                fleet: &fleet,
                filter,
            };
            overview(sight, &beside, CLOCK).into_string()
        };
        sample::assert_harmless(&page(Words::ENGLISH, &Filter::default()));
        let filter = Filter {
            text: sample::HOSTILE.into(),
            site: Some(sample::HOSTILE.into()),
            class: Some(sample::HOSTILE.into()),
            ..Filter::default()
        };
        sample::assert_harmless(&page(Words::BOKMAL, &filter));
    }

    #[test]
    fn an_order_that_is_refused_is_trouble() {
        let rows = sample::devices();
        let running = rows.iter().find(|row| row.state == DeviceState::Running);
        let mut row = running.unwrap().clone();
        assert!(trouble(Words::ENGLISH, &row).is_none());
        let deployment = "autumn".to_owned();
        row.said = Some(wire::reasons::MachineReason::RefusedBadWarrant { deployment });
        for (words, text) in [(Words::ENGLISH, "refused"), (Words::BOKMAL, "avviste")] {
            let said = trouble(words, &row).unwrap().into_string();
            assert!(said.contains(text), "{said}");
        }
    }

    #[test]
    fn rows_look_as_agreed() {
        let rows = sample::devices();
        let find = |state| rows.iter().find(|row| row.state == state).unwrap();
        let (user, fleet) = (
            admin(),
            Fleet::of(sample::kept()).held_by(sample::holders()),
        );
        let sight = Sight {
            words: Words::ENGLISH,
            user: &user,
            fleet: &fleet,
            filter: &Filter::default(),
        };
        let mut page = String::new();
        for state in STATES {
            page.push_str(
                &device(sight, find(state), sample::NOW_MS)
                    .into_string()
                    .replace("<t", "\n<t")
                    .replace("<span", "\n<span"),
            );
            page.push('\n');
        }
        insta::assert_snapshot!("device-rows", page.trim_start());
    }
}
