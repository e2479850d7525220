//! What the overview shows: the filter, as it stands in the URL.

use std::fmt::Write as _;

use serde::Deserialize;
use wire::admin_api::{DeviceRow, DeviceState};

/// Longer search texts are cut: no name, serial or model is longer.
const TEXT_CHARS_MAX: usize = 100;

/// All states, in the order of a device's life; the troubled ones last.
pub const STATES: [DeviceState; 8] = [
    DeviceState::Imported,
    DeviceState::Staged,
    DeviceState::CheckedIn,
    DeviceState::Running,
    DeviceState::Completed,
    DeviceState::Failed,
    DeviceState::Stalled,
    DeviceState::Quarantined,
];

/// The query string as it arrives.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct FilterQuery {
    site: String,
    state: String,
    text: String,
}

/// Which devices to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// A site's code.
    pub site: Option<String>,
    /// A state.
    pub state: Option<DeviceState>,
    /// Words that must all occur in the device's texts, letter case ignored.
    pub text: String,
}

impl From<FilterQuery> for Filter {
    /// A state that does not exist is no filter: an old bookmark shows too much rather than nothing.
    fn from(query: FilterQuery) -> Self {
        let cut = |text: &str| text.trim().chars().take(TEXT_CHARS_MAX).collect::<String>();
        Self {
            site: Some(cut(&query.site)).filter(|site| !site.is_empty()),
            state: STATES
                .into_iter()
                .find(|&state| state_key(state) == query.state),
            text: cut(&query.text),
        }
    }
}

impl Filter {
    /// Whether everything is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same filter with another state.
    #[must_use]
    pub fn with_state(&self, state: Option<DeviceState>) -> Self {
        Self {
            state,
            ..self.clone()
        }
    }

    /// Whether `row` is to be shown.
    #[must_use]
    pub fn matches(&self, row: &DeviceRow) -> bool {
        self.state.is_none_or(|state| state == row.state) && self.matches_but_state(row)
    }

    /// As [`Self::matches`], but whatever the state is: what the counts by state are taken over.
    #[must_use]
    pub fn matches_but_state(&self, row: &DeviceRow) -> bool {
        self.site.as_ref().is_none_or(|site| *site == row.site) && self.matches_text(row)
    }

    fn matches_text(&self, row: &DeviceRow) -> bool {
        if self.text.is_empty() {
            return true;
        }
        let mut haystack = format!(
            "{} {} {} {} {} {} {}",
            row.name.as_deref().unwrap_or_default(),
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

    /// The filter as a query string, with its `?`; empty if there is no filter.
    #[must_use]
    pub fn query(&self) -> String {
        let pairs = [
            ("site", self.site.as_deref().unwrap_or_default()),
            ("state", self.state.map(state_key).unwrap_or_default()),
            ("text", self.text.as_str()),
        ];
        let mut query = String::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            query.push(if query.is_empty() { '?' } else { '&' });
            let _ = write!(query, "{name}={}", encode(value));
        }
        query
    }
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
        }
        .into()
    }

    fn shown(site: &str, state: &str, text: &str) -> usize {
        let filter = filter(site, state, text);
        sample::devices()
            .iter()
            .filter(|row| filter.matches(row))
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
