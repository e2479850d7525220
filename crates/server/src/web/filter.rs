//! What the overview shows: the filter, as it stands in the URL.

use std::fmt::Write as _;

use serde::Deserialize;
use wire::admin_api::{DeviceRow, DeviceState, KeyProtection};
use wire::assets::AssetState;

/// Longer search texts are cut: no name, serial or model is longer.
const TEXT_CHARS_MAX: usize = 100;
/// Megabytes, as in every other place: powers of ten.
const MEGABYTE: u64 = 1_000_000;

/// All states, in the order of a device's life; the troubled ones last.
pub const STATES: [DeviceState; 9] = [
    DeviceState::Imported,
    DeviceState::Staged,
    DeviceState::CheckedIn,
    DeviceState::Running,
    DeviceState::Completed,
    DeviceState::Stopped,
    DeviceState::Failed,
    DeviceState::Stalled,
    DeviceState::Quarantined,
];

/// The query string as it arrives.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FilterQuery {
    site: String,
    class: String,
    model: String,
    collection: String,
    deployment: String,
    bundle: String,
    state: String,
    step: String,
    done: String,
    seen: String,
    fetched: String,
    key: String,
    asset: String,
    text: String,
    sort: String,
    hide: String,
}

/// When a device was last heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Within so many minutes.
    Within(u32),
    /// Not for so many minutes, or never.
    Before(u32),
}

impl Seen {
    /// What a page offers.
    pub const CHOICES: [Self; 6] = [
        Self::Within(5),
        Self::Within(60),
        Self::Within(1440),
        Self::Before(5),
        Self::Before(60),
        Self::Before(1440),
    ];

    fn parse(text: &str) -> Option<Self> {
        let (before, minutes) = match text.strip_prefix('-') {
            Some(minutes) => (true, minutes),
            None => (false, text),
        };
        let minutes = minutes.parse().ok().filter(|minutes| *minutes > 0)?;
        Some(if before {
            Self::Before(minutes)
        } else {
            Self::Within(minutes)
        })
    }

    /// As it stands in URLs: minutes, negative for "not for so long".
    #[must_use]
    pub fn key(self) -> String {
        match self {
            Self::Within(minutes) => minutes.to_string(),
            Self::Before(minutes) => format!("-{minutes}"),
        }
    }

    fn matches(self, at_ms: Option<i64>, now_ms: i64) -> bool {
        let since = |minutes: u32| now_ms - i64::from(minutes) * 60_000;
        match self {
            Self::Within(minutes) => at_ms.is_some_and(|at| at >= since(minutes)),
            Self::Before(minutes) => at_ms.is_none_or(|at| at < since(minutes)),
        }
    }
}

/// Assets in which state are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Assets {
    /// Those in use, and stolen ones that were heard of: an alarm.
    #[default]
    InUse,
    /// Retired ones.
    Retired,
    /// Stolen ones.
    Stolen,
    /// All of them.
    All,
}

impl Assets {
    /// What a page offers besides those in use.
    pub const CHOICES: [Self; 3] = [Self::Retired, Self::Stolen, Self::All];

    /// As it stands in URLs.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::InUse => "",
            Self::Retired => "retired",
            Self::Stolen => "stolen",
            Self::All => "all",
        }
    }

    /// Whether a row is among them.
    #[must_use]
    pub fn hold(self, row: &DeviceRow) -> bool {
        let state = row.out_of_use.as_ref().map(|out| out.state);
        match self {
            Self::InUse => state.is_none() || row.is_stolen_and_seen(),
            Self::Retired => state == Some(AssetState::Retired),
            Self::Stolen => state == Some(AssetState::Stolen),
            Self::All => true,
        }
    }
}

/// By what rows are sorted, if not by what happens to them. Trouble stands first in every order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// By host name, else by serial number.
    Name,
    /// By model.
    Model,
    /// By site and class.
    Site,
}

impl Sort {
    const ALL: [Self; 3] = [Self::Name, Self::Model, Self::Site];

    /// As it stands in URLs; also the class of its column.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Model => "model",
            Self::Site => "site",
        }
    }
}

/// The columns that may be hidden, by their classes.
const HIDEABLE: [&str; 8] = [
    "model", "site", "pupil", "aim", "step", "time", "content", "seen",
];

/// Which devices to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A site's code.
    pub site: Option<String>,
    /// A class.
    pub class: Option<String>,
    /// A model's product name.
    pub model: Option<String>,
    /// A collection that the device is in.
    pub collection: Option<String>,
    /// The deployment of its latest run.
    pub deployment: Option<String>,
    /// What is staged on it, such as `probook@3`, or any version of `probook`.
    pub bundle: Option<String>,
    /// A state.
    pub state: Option<DeviceState>,
    /// The title of the step it is at.
    pub step: Option<String>,
    /// Only those that were done today.
    pub done_today: bool,
    /// When it was last heard of.
    pub seen: Option<Seen>,
    /// More than so many megabytes fetched over the network.
    pub fetched_megabytes: Option<u64>,
    /// Where the key of the device lies.
    pub key: Option<KeyProtection>,
    /// Assets in which state.
    pub assets: Assets,
    /// Words that must all occur in the device's texts, letter case ignored.
    pub text: String,
    /// The order.
    pub sort: Option<Sort>,
    /// Columns that aren't shown.
    pub hidden: Vec<&'static str>,
}

impl From<FilterQuery> for Filter {
    /// A state that does not exist is no filter: an old bookmark shows too much rather than nothing.
    fn from(query: FilterQuery) -> Self {
        let cut = |text: &str| text.trim().chars().take(TEXT_CHARS_MAX).collect::<String>();
        let some = |text: &str| Some(cut(text)).filter(|text| !text.is_empty());
        Self {
            site: some(&query.site),
            class: some(&query.class),
            model: some(&query.model),
            collection: some(&query.collection),
            deployment: some(&query.deployment),
            bundle: some(&query.bundle),
            state: STATES
                .into_iter()
                .find(|&state| state_key(state) == query.state),
            step: some(&query.step),
            done_today: query.done == "today",
            seen: Seen::parse(&query.seen),
            fetched_megabytes: query.fetched.trim().parse().ok(),
            key: KeyProtection::of_word(&query.key),
            assets: Assets::CHOICES
                .into_iter()
                .find(|assets| assets.key() == query.asset)
                .unwrap_or_default(),
            text: cut(&query.text),
            sort: Sort::ALL.into_iter().find(|sort| sort.key() == query.sort),
            hidden: HIDEABLE
                .into_iter()
                .filter(|column| query.hide.split(',').any(|hidden| hidden == *column))
                .collect(),
        }
    }
}

/// What a filter needs to know of the time: now, and when today began.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// When this day began, where the server stands.
    pub today_ms: i64,
}

impl Clock {
    /// The time of the server.
    #[must_use]
    pub fn now() -> Self {
        let now = jiff::ZonedDateTime::now();
        let now_ms = now.timestamp().as_millisecond();
        let today_ms = now
            .start_of_day()
            .map_or(now_ms - 86_400_000, |day| day.timestamp().as_millisecond());
        Self { now_ms, today_ms }
    }
}

impl Filter {
    /// What a query string says, without its `?`.
    #[must_use]
    pub fn of_query(query: &str) -> Self {
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let pairs = pairs.map(|(name, value)| (name.into_owned(), value.into_owned().into()));
        let query = serde_json::Value::Object(pairs.collect());
        serde_json::from_value::<FilterQuery>(query)
            .unwrap_or_default()
            .into()
    }

    /// Whether every device is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == self.look()
    }

    /// The order and the columns alone.
    #[must_use]
    pub fn look(&self) -> Self {
        Self {
            sort: self.sort,
            hidden: self.hidden.clone(),
            ..Self::default()
        }
    }

    /// The same filter in another order.
    #[must_use]
    pub fn with_sort(&self, sort: Option<Sort>) -> Self {
        Self {
            sort,
            ..self.clone()
        }
    }

    /// The same filter with this column hidden, or shown if it was.
    #[must_use]
    pub fn with_column_toggled(&self, column: &str) -> Self {
        let is_hidden = |other: &&'static str| self.hidden.contains(other) != (*other == column);
        Self {
            hidden: HIDEABLE.into_iter().filter(is_hidden).collect(),
            ..self.clone()
        }
    }

    /// The same filter with another state.
    #[must_use]
    pub fn with_state(&self, state: Option<DeviceState>) -> Self {
        Self {
            state,
            done_today: false,
            ..self.clone()
        }
    }

    /// The same filter for those that were done today, or no longer so.
    #[must_use]
    pub fn with_done_today(&self, done_today: bool) -> Self {
        Self {
            state: None,
            done_today,
            ..self.clone()
        }
    }

    /// Whether `row` is to be shown.
    #[must_use]
    pub fn matches(&self, row: &DeviceRow, clock: Clock) -> bool {
        self.state.is_none_or(|state| state == row.state)
            && (!self.done_today || is_done_since(row, clock.today_ms))
            && self.matches_but_state(row, clock)
    }

    /// The same filter without what it says about runs: for figures about all runs of a device, not only the latest.
    #[must_use]
    pub fn without_deployment(&self) -> Self {
        Self {
            deployment: None,
            ..self.clone()
        }
    }

    /// As [`Self::matches`], but whatever the state is: what the counts by state are taken over.
    #[must_use]
    pub fn matches_but_state(&self, row: &DeviceRow, clock: Clock) -> bool {
        let same = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|w| w == text);
        let run = row.run.as_ref();
        self.assets.hold(row)
            && same(&self.site, &row.site)
            && same(&self.class, &row.class)
            && same(&self.model, &row.model.product)
            && self
                .collection
                .as_ref()
                .is_none_or(|wanted| row.collections.iter().any(|name| name.as_str() == wanted))
            && self
                .deployment
                .as_ref()
                .is_none_or(|wanted| run.is_some_and(|run| run.deployment.as_str() == wanted))
            && self.step.as_ref().is_none_or(|wanted| {
                run.is_some_and(|run| run.ended_at_ms.is_none() && run.step_title == *wanted)
            })
            && self
                .bundle
                .as_ref()
                .is_none_or(|wanted| has_bundle(row, wanted))
            && self
                .seen
                .is_none_or(|seen| seen.matches(row.last_seen_at_ms, clock.now_ms))
            && self.fetched_megabytes.is_none_or(|megabytes| {
                run.is_some_and(|run| {
                    run.content.network_packed > megabytes.saturating_mul(MEGABYTE)
                })
            })
            && self
                .key
                .is_none_or(|wanted| row.key_protection == Some(wanted))
            && self.matches_text(row)
    }

    fn matches_text(&self, row: &DeviceRow) -> bool {
        if self.text.is_empty() {
            return true;
        }
        let mut haystack = format!(
            "{} {} {} {} {} {} {} {}",
            row.name.as_deref().unwrap_or_default(),
            row.assigned_name.as_deref().unwrap_or_default(),
            row.serial,
            row.asset_tag,
            row.model,
            row.site,
            row.site_name,
            row.class
        )
        .to_lowercase();
        for text in row
            .message
            .iter()
            .chain(row.run.iter().map(|run| &run.step_title))
        {
            let _ = write!(haystack, " {}", text.to_lowercase());
        }
        self.text
            .to_lowercase()
            .split_whitespace()
            .all(|word| haystack.contains(word))
    }

    /// The filter as names and values, only those that narrow.
    #[must_use]
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let pairs = [
            ("site", text(&self.site)),
            ("class", text(&self.class)),
            ("model", text(&self.model)),
            ("collection", text(&self.collection)),
            ("deployment", text(&self.deployment)),
            ("bundle", text(&self.bundle)),
            (
                "state",
                self.state.map(state_key).unwrap_or_default().to_owned(),
            ),
            ("step", text(&self.step)),
            (
                "done",
                if self.done_today { "today" } else { "" }.to_owned(),
            ),
            ("seen", self.seen.map(Seen::key).unwrap_or_default()),
            (
                "fetched",
                self.fetched_megabytes
                    .map(|mb| mb.to_string())
                    .unwrap_or_default(),
            ),
            (
                "key",
                self.key
                    .map(KeyProtection::word)
                    .unwrap_or_default()
                    .to_owned(),
            ),
            ("asset", self.assets.key().to_owned()),
            ("text", self.text.clone()),
            (
                "sort",
                self.sort.map(Sort::key).unwrap_or_default().to_owned(),
            ),
            ("hide", self.hidden.join(",")),
        ];
        let narrowing = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        narrowing.collect()
    }

    /// The filter as a query string, with its `?`; empty if there is no filter.
    #[must_use]
    pub fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in self.pairs() {
            query.push(if query.is_empty() { '?' } else { '&' });
            let _ = write!(query, "{name}={}", encode(&value));
        }
        query
    }
}

/// The time of the samples.
#[cfg(test)]
pub(super) const CLOCK: Clock = Clock {
    now_ms: super::sample::NOW_MS,
    today_ms: super::sample::NOW_MS - 20 * 60_000,
};

/// Whether the device's run was completed after this moment.
#[must_use]
pub fn is_done_since(row: &DeviceRow, since_ms: i64) -> bool {
    let ended = row.run.as_ref().and_then(|run| run.ended_at_ms);
    row.state == DeviceState::Completed && ended.is_some_and(|at| at >= since_ms)
}

fn has_bundle(row: &DeviceRow, wanted: &str) -> bool {
    let has = row.bundle.as_deref().unwrap_or_default();
    has == wanted || has.split_once('@').is_some_and(|(name, _)| name == wanted)
}

/// A state as it stands in URLs and class names.
#[must_use]
pub const fn state_key(state: DeviceState) -> &'static str {
    match state {
        DeviceState::Imported => "imported",
        DeviceState::Staged => "staged",
        DeviceState::CheckedIn => "checked-in",
        DeviceState::Running => "running",
        DeviceState::Completed => "completed",
        DeviceState::Failed => "failed",
        DeviceState::Stopped => "stopped",
        DeviceState::Stalled => "stalled",
        DeviceState::Quarantined => "quarantined",
    }
}

/// Percent-encodes everything but letters, digits and `-_.~`.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn filter(site: &str, state: &str, text: &str) -> Filter {
        FilterQuery {
            site: site.into(),
            state: state.into(),
            text: text.into(),
            ..FilterQuery::default()
        }
        .into()
    }

    fn shown(site: &str, state: &str, text: &str) -> usize {
        let filter = filter(site, state, text);
        sample::devices()
            .iter()
            .filter(|row| filter.matches(row, CLOCK))
            .count()
    }

    #[test]
    fn filters_narrow() {
        let all = sample::devices().len();
        assert_eq!(shown("", "", ""), all);
        assert_eq!(shown("BJO", "", "") + shown("KON", "", ""), all);
        assert_eq!(shown("", "failed", ""), 1);
        assert_eq!(shown("", "quarantined", ""), 1);
        assert_eq!(shown("", "no such state", ""), all);
        assert_eq!(shown("", "", "BJØRNSLETTA"), shown("BJO", "", ""));
        assert_eq!(shown("", "", "no-such-device"), 0);
        let both = shown("", "", "kongsbakken probook");
        assert!(both > 0 && both < shown("KON", "", ""));
    }

    #[test]
    fn a_filter_survives_its_url() {
        let filter = filter("BJO", "checked-in", "  Ærlig & 10 % +x ");
        assert_eq!(
            filter.query(),
            "?site=BJO&state=checked-in&text=%C3%86rlig%20%26%2010%20%25%20%2Bx"
        );
        assert_eq!(Filter::default().query(), "");
        let uri: axum::http::Uri = format!("/{}", filter.query()).parse().unwrap();
        let axum::extract::Query(query) =
            axum::extract::Query::<FilterQuery>::try_from_uri(&uri).unwrap();
        assert_eq!(Filter::from(query), filter);
    }

    #[test]
    fn every_part_of_a_filter_survives_its_url() {
        let text = "?site=BJO&class=1STA&model=ProBook%20440&collection=autumn&deployment=d&bundle=probook%403\
            &state=running&step=Office&done=today&seen=-60&fetched=12&key=software&asset=stolen&text=x&sort=site&hide=model%2Cseen";
        let uri: axum::http::Uri = format!("/{text}").parse().unwrap();
        let axum::extract::Query(query) =
            axum::extract::Query::<FilterQuery>::try_from_uri(&uri).unwrap();
        let filter = Filter::from(query);
        assert_eq!(filter.query(), text);
        assert_eq!(Filter::of_query(&text[1..]), filter);
        assert!(!filter.is_empty() && filter.look().is_empty());
        assert_eq!(filter.look().query(), "?sort=site&hide=model%2Cseen");
        let shown = filter.with_column_toggled("seen");
        assert_eq!(shown.hidden, ["model"]);
        assert_eq!(shown.with_column_toggled("seen"), filter);
    }

    #[test]
    fn what_no_overview_understands_is_left_out() {
        for (query, expected) in [
            ("", ""),
            ("site=BJO&x=1&site=KON", "?site=KON"),
            ("sort=price&hide=name,aim,x", "?hide=aim"),
            ("text=Bj\u{f8}rn%20x+y", "?text=Bj%C3%B8rn%20x%20y"),
        ] {
            assert_eq!(Filter::of_query(query).query(), expected, "{query}");
        }
    }

    #[test]
    fn each_part_narrows() {
        let rows = sample::devices();
        let shown = |filter: Filter| {
            let matches = |row: &&DeviceRow| filter.matches(row, CLOCK);
            rows.iter().filter(matches).count()
        };
        let all = shown(Filter::default());
        let some = |text: &str| Some(text.to_owned());
        let narrowed = [
            Filter {
                key: Some(KeyProtection::Software),
                ..Filter::default()
            },
            Filter {
                class: some(&rows[0].class),
                ..Filter::default()
            },
            Filter {
                model: some(&rows[0].model.product),
                ..Filter::default()
            },
            Filter {
                bundle: some("probook"),
                ..Filter::default()
            },
            Filter {
                bundle: some("probook@3"),
                ..Filter::default()
            },
            Filter {
                seen: Some(Seen::Within(60)),
                ..Filter::default()
            },
            Filter {
                seen: Some(Seen::Before(60)),
                ..Filter::default()
            },
            Filter {
                done_today: true,
                ..Filter::default()
            },
        ];
        for filter in narrowed {
            let count = shown(filter.clone());
            assert!(
                count > 0 && count < all,
                "{filter:?} shows {count} of {all}"
            );
        }
        let nothing = [
            Filter {
                collection: some("no-such"),
                ..Filter::default()
            },
            Filter {
                deployment: some("no-such"),
                ..Filter::default()
            },
            Filter {
                bundle: some("probook@33"),
                ..Filter::default()
            },
            Filter {
                fetched_megabytes: Some(u64::MAX),
                ..Filter::default()
            },
        ];
        for filter in nothing {
            assert_eq!(shown(filter.clone()), 0, "{filter:?}");
        }
    }

    #[test]
    fn what_is_out_of_use_is_shown_to_those_who_ask_for_it_and_a_stolen_one_that_was_heard_of_to_all()
     {
        let mut row = sample::devices()[0].clone();
        let shown = |row: &DeviceRow| {
            [Assets::InUse, Assets::Retired, Assets::Stolen, Assets::All].map(|assets| {
                let filter = Filter {
                    assets,
                    ..Filter::default()
                };
                filter.matches(row, CLOCK)
            })
        };
        assert_eq!(shown(&row), [true, false, false, true]);
        let out = |state, at_ms| wire::assets::OutOfUse {
            state,
            reason: String::new(),
            by: "kari".into(),
            at_ms,
        };
        row.last_seen_at_ms = Some(5);
        row.out_of_use = Some(out(AssetState::Retired, 1));
        assert_eq!(shown(&row), [false, true, false, true]);
        row.out_of_use = Some(out(AssetState::Stolen, 5));
        assert_eq!(shown(&row), [false, false, true, true]);
        row.out_of_use = Some(out(AssetState::Stolen, 4));
        assert_eq!(shown(&row), [true, false, true, true]);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(
            filter("", "", &"ø".repeat(5000)).text.chars().count(),
            TEXT_CHARS_MAX
        );
    }

    #[test]
    fn every_state_has_its_own_key() {
        let keys: std::collections::BTreeSet<_> = STATES.into_iter().map(state_key).collect();
        assert_eq!(keys.len(), STATES.len());
    }
}
