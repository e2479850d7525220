//! What is to go wrong, and how often: presets, files, and what the command line changes in them.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wire::names::StepPath;

use crate::failure::{Failure, Outcome};

/// A scenario is a dozen lines.
pub(super) const SCENARIO_BYTES_MAX: u64 = 64 << 10;
/// Extra machines of one kind: more would only fill the quarantine.
const EXTRAS_MAX: u32 = 1000;

/// A share of a fleet, in hundredths of a percent. Written `2%` or `0.5%`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(pub(super) u32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rule = || format!("{text:?} is not a share: write 0% to 100%, such as 2% or 0.5%");
        let number = text.strip_suffix('%').ok_or_else(rule)?;
        let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
        if rest.len() > 2 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(rule());
        }
        let whole: u32 = whole.parse().map_err(|_| rule())?;
        let hundredths: u32 = format!("{rest:0<2}").parse().map_err(|_| rule())?;
        match whole
            .checked_mul(100)
            .and_then(|share| share.checked_add(hundredths))
        {
            Some(share) if share <= 10_000 => Ok(Self(share)),
            _ => Err(rule()),
        }
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0 / 100)?;
        match self.0 % 100 {
            0 => {}
            rest if rest % 10 == 0 => write!(f, ".{}", rest / 10)?,
            rest => write!(f, ".{rest:02}")?,
        }
        f.write_str("%")
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What goes wrong, and how often. Each share is of the machines; one machine has at most one of `fail`, `stall`,
/// `offline`, and any of the others besides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct Scenario {
    /// A step fails for good; trying again on the server's page or with `run retry` mends it.
    pub(super) fail: Share,
    /// The steps that may fail; any if the list is empty.
    pub(super) fail_at: Vec<StepPath>,
    /// An attempt fails, and the next one goes well.
    pub(super) retry: Share,
    /// The machine falls silent in the middle of a step.
    pub(super) stall: Share,
    /// Someone pulls the plug once, at any moment.
    pub(super) cut: Share,
    /// The line is down for some minutes.
    pub(super) line_down: Share,
    /// The machine finishes without network, and reports when it is over.
    pub(super) offline: Share,
    /// Machines that no asset fits.
    pub(super) strangers: u32,
    /// Machines that claim to be one that checked in already.
    pub(super) claimants: u32,
    /// Machines whose firmware says what it likes, such as markup.
    pub(super) hostile: u32,
}

const fn percent(share: u32) -> Share {
    Share(share * 100)
}

/// The scenarios that come with the program, by name.
const PRESETS: [&str; 3] = ["calm", "first-school-day", "bad-day"];

impl Scenario {
    /// A scenario that comes with the program.
    fn preset(name: &str) -> Option<Self> {
        let scenario = match name {
            "calm" => Self::default(),
            "first-school-day" => Self {
                fail: percent(2),
                retry: percent(4),
                stall: percent(1),
                cut: percent(3),
                line_down: percent(5),
                offline: percent(2),
                strangers: 3,
                claimants: 1,
                hostile: 1,
                ..Self::default()
            },
            "bad-day" => Self {
                fail: percent(15),
                retry: percent(30),
                stall: percent(5),
                cut: percent(30),
                line_down: percent(30),
                offline: percent(10),
                strangers: 10,
                claimants: 5,
                hostile: 5,
                ..Self::default()
            },
            _ => return None,
        };
        Some(scenario)
    }

    /// The preset of that name, or the file.
    pub(super) fn find(name_or_file: &str) -> Outcome<Self> {
        if let Some(scenario) = Self::preset(name_or_file) {
            return Ok(scenario);
        }
        let path = camino::Utf8Path::new(name_or_file);
        let hint = format!(
            "a scenario is a YAML file or one of: {}",
            PRESETS.join(", ")
        );
        let text = crate::settings::read_text(path, SCENARIO_BYTES_MAX)
            .map_err(|failure| failure.hint(hint))?;
        parse(&text).map_err(|why| {
            Failure::usage(format!("cannot understand the scenario {path}"))
                .because(why)
                .hint("docs/guide/simulate.md describes every key")
        })
    }
}

/// Reads a scenario (YAML, and so JSON).
fn parse(text: &str) -> Result<Scenario, String> {
    let scenario: Scenario = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    for (name, number) in [
        ("strangers", scenario.strangers),
        ("claimants", scenario.claimants),
        ("hostile", scenario.hostile),
    ] {
        if number > EXTRAS_MAX {
            return Err(format!("{name} is at most {EXTRAS_MAX}"));
        }
    }
    if scenario.fail.0 + scenario.stall.0 + scenario.offline.0 > 10_000 {
        return Err("fail, stall and offline are more than 100% together".into());
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::{PRESETS, Scenario, Share, parse};

    #[test]
    fn shares_are_read_and_written() {
        for (text, share) in [
            ("0%", 0),
            ("2%", 200),
            ("0.5%", 50),
            ("12.34%", 1234),
            ("100%", 10_000),
        ] {
            let read: Share = text.parse().unwrap();
            assert_eq!((read.0, read.to_string().as_str()), (share, text));
        }
        for text in [
            "",
            "%",
            "2",
            "-1%",
            "100.01%",
            "1.234%",
            "2,5%",
            "٣%",
            "1.%x",
            "99999999999%",
        ] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_is_what_the_guide_says_and_nothing_else() {
        let scenario = parse("fail: 2%\nfail-at: [apps/office]\nstrangers: 3\n").unwrap();
        assert_eq!((scenario.fail, scenario.strangers), (Share(200), 3));
        assert_eq!(scenario.fail_at[0].as_str(), "apps/office");
        assert_eq!(parse("{\"stall\": \"1%\"}").unwrap().stall, Share(100));
        for text in [
            "fial: 2%",
            "fail: 2",
            "fail: 60%\nstall: 60%",
            "strangers: 1000000",
            "fail-at: [Not A Step]",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_preset_is_there_and_can_be_written_to_a_file() {
        for name in PRESETS {
            let scenario = Scenario::preset(name).unwrap();
            let text = serde_json::to_string(&scenario).unwrap();
            assert_eq!(parse(&text).unwrap(), scenario);
        }
    }
}
