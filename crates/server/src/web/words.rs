//! The words of the pages, in English and in Norwegian Bokmål.
//!
//! The English text is the key: a page says `words.t("Devices")`, and `words/nb/*.txt` holds `Devices = Enheter`. What
//! has no translation is shown in English; a test below fails for it. Numbers, dates and sizes are written as the
//! language writes them.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::LazyLock;

use jiff::Timestamp;
use maud::{Markup, html};
use wire::reasons::{self, Saying};

use super::format;

/// One file per subject, so that people who work on different pages don't meet in one.
#[rustfmt::skip]
const BOKMAL: &[&str] = &[
    include_str!("words/nb/assets.txt"),
    include_str!("words/nb/audit.txt"),
    include_str!("words/nb/catalog.txt"),
    include_str!("words/nb/frame.txt"),
    include_str!("words/nb/hand_out.txt"),
    include_str!("words/nb/insights.txt"),
    include_str!("words/nb/imports.txt"),
    include_str!("words/nb/lists.txt"),
    include_str!("words/nb/people.txt"),
    include_str!("words/nb/plan.txt"),
    include_str!("words/nb/quarantine.txt"),
    include_str!("words/nb/reasons.txt"),
    include_str!("words/nb/secrets.txt"),
    include_str!("words/nb/targeting.txt"),
    include_str!("words/nb/variables.txt"),
    include_str!("words/nb/watch.txt"),
    include_str!("words/nb/webhooks.txt"),
];

/// Read once; a page asks for a few dozen of them.
static BOKMAL_BY_ENGLISH: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| BOKMAL.iter().flat_map(|file| entries(file)).collect());

/// What refusals are called, by their codes. In English the refusal itself says it, with what it is about.
const REFUSALS: &str = include_str!("words/nb/refusals.txt");
static BOKMAL_BY_CODE: LazyLock<HashMap<&'static str, &'static str>> =
    LazyLock::new(|| entries(REFUSALS).collect());

/// `English = Norsk`, one a line; empty lines and lines that begin with `#` are for those who read the file.
fn entries(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(" = "))
        .map(|(english, norwegian)| (english.trim(), norwegian.trim()))
}

/// A language that the pages speak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Norwegian Bokmål.
    Bokmal,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Bokmal];

    /// The code that stands in `lang` attributes and in the cookie.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Bokmal => "nb",
        }
    }

    /// What the language calls itself.
    #[must_use]
    pub const fn own_name(self) -> &'static str {
        match self {
            Self::English => "English",
            Self::Bokmal => "Norsk bokmål",
        }
    }

    /// The language with this code; Norwegian of any kind is answered in Bokmål.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let primary = code.trim().split(['-', '_']).next().unwrap_or_default();
        match primary.to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "nb" | "no" | "nn" => Some(Self::Bokmal),
            _ => None,
        }
    }

    /// The first language of an `Accept-Language` header that we speak; the weights come in falling order from every
    /// browser, so that the order alone is looked at.
    #[must_use]
    pub fn preferred(accept: &str) -> Self {
        accept
            .split(',')
            .filter_map(|part| part.split(';').next())
            .find_map(Self::from_code)
            .unwrap_or_default()
    }
}

/// Marks an English text that is translated later, by [`Words::t`].
#[must_use]
pub const fn en(english: &'static str) -> &'static str {
    english
}

/// Speaks one language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Words(pub Language);

impl Words {
    /// English.
    pub const ENGLISH: Self = Self(Language::English);
    /// Norwegian Bokmål.
    pub const BOKMAL: Self = Self(Language::Bokmal);

    /// The text in this language. What follows a `|` in the English key tells apart what English has one word for, and
    /// isn't shown.
    #[must_use]
    pub fn t(self, english: &'static str) -> &'static str {
        let plain = || english.split_once('|').map_or(english, |(text, _)| text);
        match self.0 {
            Language::English => plain(),
            Language::Bokmal => BOKMAL_BY_ENGLISH
                .get(english)
                .copied()
                .unwrap_or_else(plain),
        }
    }

    /// As [`Self::t`], with each `{name}` replaced by its value. Values are put in once and are never read as templates.
    #[must_use]
    pub fn fill(self, english: &'static str, values: &[(&str, &dyn Display)]) -> String {
        reasons::fill(self.t(english), values)
    }

    /// What the server says, in this language.
    #[must_use]
    pub fn say(self, saying: &impl Saying) -> String {
        reasons::fill(self.t(saying.english()), &saying.values())
    }

    /// What a refusal with this code says; nothing in English, and for a code that another release knows.
    #[must_use]
    pub fn refusal(self, code: &str) -> Option<&'static str> {
        match self.0 {
            Language::English => None,
            Language::Bokmal => BOKMAL_BY_CODE.get(code).copied(),
        }
    }

    /// As [`Self::say`], several in one line.
    #[must_use]
    pub fn say_all(self, sayings: &[impl Saying]) -> String {
        let all: Vec<String> = sayings.iter().map(|saying| self.say(saying)).collect();
        all.join("; ")
    }

    /// One or many: `{n}` stands for the number in both texts.
    #[must_use]
    pub fn count(self, n: u64, one: &'static str, many: &'static str) -> String {
        self.fill(if n == 1 { one } else { many }, &[("n", &self.number(n))])
    }

    /// A whole number, its thousands set apart.
    #[must_use]
    pub fn number(self, number: u64) -> String {
        format::grouped(number)
    }

    /// Bytes with three significant digits and their unit.
    #[must_use]
    pub fn bytes(self, count: u64) -> String {
        self.decimal(format::bytes(count))
    }

    /// How long a step took: tenths of a second below ten seconds, else a clock.
    #[must_use]
    pub fn precise(self, milliseconds: u64) -> String {
        self.decimal(format::precise(milliseconds))
    }

    /// Megabytes with two decimals and no unit.
    #[must_use]
    pub fn megabytes(self, count: u64) -> String {
        self.decimal(format::megabytes(count))
    }

    /// Width and height in millimetres.
    #[must_use]
    pub fn millimetres(self, (width, height): (f32, f32)) -> String {
        self.decimal(format!("{width} × {height} mm"))
    }

    fn decimal(self, text: String) -> String {
        match self.0 {
            Language::English => text,
            Language::Bokmal => text.replace('.', ","),
        }
    }

    /// How long ago.
    #[must_use]
    pub fn ago(self, seconds: u64) -> String {
        let fill = |english, number: u64| self.fill(english, &[("n", &number)]);
        match seconds {
            0..=2 => self.t("now").to_owned(),
            3..=59 => fill(en("{n} s ago"), seconds),
            60..=3599 => fill(en("{n} min ago"), seconds / 60),
            3600..=86_399 => fill(en("{n} h ago"), seconds / 3600),
            _ => fill(en("{n} d ago"), seconds / 86_400),
        }
    }

    /// A day: `2026-08-17`, `17.08.2026`.
    #[must_use]
    pub fn date(self, at_ms: i64) -> String {
        self.strftime(at_ms, "%Y-%m-%d", "%d.%m.%Y")
    }

    /// A moment in UTC, without saying so: `2026-08-17 07:42`, `17.08.2026 07:42`.
    #[must_use]
    pub fn moment(self, at_ms: i64) -> String {
        self.strftime(at_ms, "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M")
    }

    fn strftime(self, at_ms: i64, english: &str, norwegian: &str) -> String {
        let pattern = match self.0 {
            Language::English => english,
            Language::Bokmal => norwegian,
        };
        Timestamp::from_millisecond(at_ms).map_or_else(
            |_| "—".to_owned(),
            |time| time.strftime(pattern).to_string(),
        )
    }

    /// A moment for a page: in UTC as it comes, in the reader's own time zone once the script has seen it.
    #[must_use]
    pub fn time(self, at_ms: i64) -> Markup {
        let exact = Timestamp::from_millisecond(at_ms)
            .map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
            .unwrap_or_default();
        html! { time datetime=(exact) { (self.moment(at_ms)) " UTC" } }
    }
}

#[cfg(test)]
mod tests;
