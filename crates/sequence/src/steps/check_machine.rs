//! Checks whether the machine is fit for what follows.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::facts::{Facts, Firmware};

use super::format_disk::{DiskRule, Size};
use super::{OnRestart, Outcome, PlanCx, Step, StepCx};
use crate::ports::StepError;
use crate::problem::{Code, Problems};
use crate::size;

/// Checks what the machine is and what it runs on, and reports all that is wrong at once. Put it before
/// `format-disk`: then nothing has been touched yet.
///
/// Only what is asked for is checked. With `attempts` and `wait` it waits for someone to plug in a charger; whatever
/// else is wrong ends the run at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CheckMachine {
    /// A built-in disk of at least this size is there, such as `100GiB`. Vendors count in powers of ten: a disk sold as
    /// 256 GB has 238 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_disk: Option<Size>,
    /// At least so much memory is there, as the OS counts it: firmware and graphics keep some for themselves, so ask
    /// for `7GiB` where 8 GiB are built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_memory: Option<Size>,
    /// Whether it must be on mains power. A machine that shows no power supply and no battery counts as being on it.
    #[serde(default)]
    pub mains_power: bool,
    /// The batteries are at least so full, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_battery_percent: Option<u8>,
    /// How it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareKind>,
    /// Whether a TPM 2.0 must be there.
    #[serde(default)]
    pub tpm: bool,
    /// Whether Secure Boot must be on (`true`) or off (`false`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// The clock doesn't show a day before this one, such as `2026-01-01`. Certificates aren't valid yet for a machine
    /// that believes it is 2020.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_not_before: Option<Day>,
}

/// How a machine is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// By UEFI.
    Uefi,
    /// By a BIOS.
    Bios,
}

impl FirmwareKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::Bios => "BIOS",
        }
    }
}

impl From<Firmware> for FirmwareKind {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Uefi => Self::Uefi,
            Firmware::Bios => Self::Bios,
        }
    }
}

/// A day such as `2026-01-01`, beginning at midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl Day {
    /// Seconds from 1970 to its beginning.
    fn unix_seconds(self) -> i64 {
        days_to(self.year, self.month, self.day) * SECONDS_OF_DAY
    }

    /// The day that `seconds` after 1970 falls on; `None` outside of what can be written.
    fn of_unix_seconds(seconds: i64) -> Option<Self> {
        let days = seconds.div_euclid(SECONDS_OF_DAY);
        let year = (1970..=9999_u16)
            .take_while(|year| days_to(*year, 1, 1) <= days)
            .last()?;
        let month = (1..=12)
            .rev()
            .find(|month| days_to(year, *month, 1) <= days)?;
        let day = u8::try_from(days - days_to(year, month, 1) + 1).ok()?;
        (day <= days_in(year, month)).then_some(Self { year, month, day })
    }
}

const SECONDS_OF_DAY: i64 = 24 * 60 * 60;

const fn is_leap(year: u16) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u16, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to this day, of the years this can be asked for.
fn days_to(year: u16, month: u8, day: u8) -> i64 {
    let before = i64::from(year) - 1;
    let leap_days = before / 4 - before / 100 + before / 400 - LEAP_DAYS_BEFORE_1970;
    let months: i64 = (1..month)
        .map(|month| i64::from(days_in(year, month)))
        .sum();
    (i64::from(year) - 1970) * 365 + leap_days + months + i64::from(day) - 1
}

const LEAP_DAYS_BEFORE_1970: i64 = 1969 / 4 - 1969 / 100 + 1969 / 400;

impl TryFrom<String> for Day {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not a day: write year, month and day, such as `2026-01-01`");
        let is_form = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if !is_form {
            return Err(wrong());
        }
        let year: u16 = text[..4].parse().map_err(|_| wrong())?;
        let month: u8 = text[5..7].parse().map_err(|_| wrong())?;
        let day: u8 = text[8..].parse().map_err(|_| wrong())?;
        let is_day =
            year >= 1970 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
        if is_day {
            Ok(Self { year, month, day })
        } else {
            Err(wrong())
        }
    }
}

impl From<Day> for String {
    fn from(day: Day) -> Self {
        day.to_string()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// What is asked for. The facts themselves are looked at when the plan is applied: a charger may be pulled while the
/// power is away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Plan(pub CheckMachine);

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "check that the machine has {}",
            self.0.wishes().join(", ")
        )
    }
}

/// One thing that is wrong.
struct Fault {
    text: String,
    /// What a person at the machine can do.
    remedy: &'static str,
    /// Whether that can be done while the run waits.
    can_be_waited_for: bool,
}

impl Fault {
    fn new(text: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            text: text.into(),
            remedy,
            can_be_waited_for: false,
        }
    }

    fn waiting(text: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            can_be_waited_for: true,
            ..Self::new(text, remedy)
        }
    }
}

/// Several causes side by side, each a link of the error chain, so that each is a line of its own.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Self>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_ref().map(|next| next.as_ref() as _)
    }
}

impl CheckMachine {
    /// What is asked for, in words.
    fn wishes(&self) -> Vec<String> {
        let size = |size: Size| size::in_words(size.0);
        let wishes = [
            self.min_disk
                .map(|min| format!("a built-in disk of {} or more", size(min))),
            self.min_memory
                .map(|min| format!("{} of memory or more", size(min))),
            self.mains_power.then(|| "mains power".to_owned()),
            self.min_battery_percent
                .map(|min| format!("batteries at least {min} % full")),
            self.firmware
                .map(|kind| format!("{} firmware", kind.name())),
            self.tpm.then(|| "a TPM 2.0".to_owned()),
            self.secure_boot
                .map(|on| format!("Secure Boot {}", if on { "on" } else { "off" })),
            self.clock_not_before
                .map(|day| format!("a clock that shows {day} or later")),
        ];
        wishes.into_iter().flatten().collect()
    }

    /// The first mistake in the arguments.
    fn mistake(&self) -> Option<&'static str> {
        if self == &Self::default() {
            return Some("nothing is checked");
        }
        self.min_battery_percent
            .is_some_and(|percent| percent > 100)
            .then_some("`min-battery-percent` is more than 100")
    }

    fn faults(&self, facts: &Facts) -> Vec<Fault> {
        let faults = [
            self.min_disk.and_then(|min| disk_fault(min, facts)),
            self.min_memory.and_then(|min| memory_fault(min, facts)),
            self.mains_power.then(|| mains_fault(facts)).flatten(),
            self.min_battery_percent
                .and_then(|min| battery_fault(min, facts)),
            self.firmware.and_then(|kind| firmware_fault(kind, facts)),
            (self.tpm && !facts.tpm).then(|| {
                Fault::new(
                    "no TPM 2.0 was found",
                    "switch the TPM on in the firmware setup",
                )
            }),
            self.secure_boot.and_then(|on| secure_boot_fault(on, facts)),
            self.clock_not_before
                .and_then(|day| clock_fault(day, facts)),
        ];
        faults.into_iter().flatten().collect()
    }
}

fn disk_fault(min: Size, facts: &Facts) -> Option<Fault> {
    let built_in = DiskRule {
        removable: Some(false),
        ..DiskRule::default()
    };
    let largest = facts
        .disks
        .iter()
        .filter(|disk| built_in.matches(disk))
        .map(|disk| disk.size_bytes)
        .max();
    let wanted = size::in_words(min.0);
    match largest {
        None => Some(Fault::new(
            format!("no built-in disk was found, {wanted} are needed"),
            "check that the disk is built in and enabled in the firmware setup",
        )),
        Some(bytes) if bytes < min.0 => Some(Fault::new(
            format!(
                "the largest built-in disk has {}, {wanted} are needed",
                size::in_words(bytes)
            ),
            "build in a larger disk, or use another machine",
        )),
        Some(_) => None,
    }
}

fn memory_fault(min: Size, facts: &Facts) -> Option<Fault> {
    (facts.memory_bytes < min.0).then(|| {
        let (has, wanted) = (size::in_words(facts.memory_bytes), size::in_words(min.0));
        Fault::new(
            format!("{has} of memory are there, {wanted} are needed"),
            "check that all memory modules sit firmly, or use another machine",
        )
    })
}

fn mains_fault(facts: &Facts) -> Option<Fault> {
    const REMEDY: &str = "plug in the charger";
    match (facts.power.mains, facts.power.battery_percent) {
        // Without any supply or battery it is a desktop or a virtual machine: it would be off without mains power.
        (Some(true), _) | (None, None) => None,
        (Some(false), _) => Some(Fault::waiting("it runs on its battery", REMEDY)),
        (None, Some(_)) => Some(Fault::waiting(
            "it has a battery and doesn't say whether a charger is plugged in",
            REMEDY,
        )),
    }
}

fn battery_fault(min: u8, facts: &Facts) -> Option<Fault> {
    match facts.power.battery_percent {
        None => Some(Fault::new(
            format!("it shows no battery, one that is {min} % full is needed"),
            "check that the battery is connected, or leave out `min-battery-percent` for machines without one",
        )),
        Some(percent) if percent < min => Some(Fault::waiting(
            format!("the batteries are {percent} % full, {min} % are needed"),
            "let the battery charge",
        )),
        Some(_) => None,
    }
}

fn firmware_fault(kind: FirmwareKind, facts: &Facts) -> Option<Fault> {
    let actual = FirmwareKind::from(facts.firmware);
    (actual != kind).then(|| {
        Fault::new(
            format!(
                "it was started by {}, {} is needed",
                actual.name(),
                kind.name()
            ),
            "change the boot mode in the firmware setup",
        )
    })
}

fn secure_boot_fault(on: bool, facts: &Facts) -> Option<Fault> {
    match (on, facts.secure_boot) {
        (true, false) => Some(Fault::new(
            "Secure Boot is off",
            "switch Secure Boot on in the firmware setup",
        )),
        (false, true) => Some(Fault::new(
            "Secure Boot is on",
            "switch Secure Boot off in the firmware setup",
        )),
        _ => None,
    }
}

fn clock_fault(day: Day, facts: &Facts) -> Option<Fault> {
    let shown = match facts.clock {
        Some(seconds) if seconds >= day.unix_seconds() => return None,
        Some(seconds) => Day::of_unix_seconds(seconds).map(|day| day.to_string()),
        None => None,
    };
    let shown = shown.unwrap_or_else(|| "no date".to_owned());
    Some(Fault::new(
        format!("the clock shows {shown}, it can't be before {day}"),
        "set the clock in the firmware setup; if it forgets, its battery is empty",
    ))
}

/// All faults as one error.
fn refuse(faults: &[Fault]) -> StepError {
    let mut remedies: Vec<&str> = Vec::new();
    for fault in faults {
        if !remedies.contains(&fault.remedy) {
            remedies.push(fault.remedy);
        }
    }
    let causes = faults.iter().rev().fold(None, |next, fault| {
        Some(Box::new(Cause {
            text: fault.text.clone(),
            next,
        }))
    });
    let error = if faults.iter().all(|fault| fault.can_be_waited_for) {
        StepError::new("this machine isn't ready yet")
    } else {
        StepError::refused("this machine isn't fit for this sequence")
    };
    let error = error.hint(remedies.join("; "));
    match causes {
        Some(cause) => error.because(cause as Box<dyn Error + Send + Sync>),
        None => error,
    }
}

impl Step for CheckMachine {
    const KIND: &'static str = "check-machine";
    const EXAMPLE: &'static str = r"- id: fit
  attempts: 30
  wait: 10s
  check-machine:
    min-disk: 100GiB
    min-memory: 7GiB
    mains-power: true
    firmware: uefi
    clock-not-before: 2026-01-01
";
    type Plan = Plan;
    const ON_RESTART: OnRestart = OnRestart::Redo;
    const FITS_FACTORY: bool = true;
    const OBSERVES: bool = true;

    fn check(&self, problems: &mut Problems) {
        if let Some(mistake) = self.mistake() {
            problems.error(Code::Step, mistake, "");
        }
    }

    fn plan(&self, _cx: &PlanCx<'_>) -> Result<Plan, StepError> {
        match self.mistake() {
            Some(mistake) => Err(StepError::refused(mistake)),
            None => Ok(Plan(self.clone())),
        }
    }

    fn apply(&self, plan: Plan, cx: &StepCx<'_>) -> Result<Outcome, StepError> {
        let faults = plan.0.faults(&cx.machine().facts()?);
        if faults.is_empty() {
            Ok(Outcome::done())
        } else {
            Err(refuse(&faults))
        }
    }
}

#[cfg(test)]
mod tests {
    use wire::facts::{Facts, Power};

    use super::{CheckMachine, Day, SECONDS_OF_DAY};

    fn faults(asked: &str, facts: &Facts) -> Vec<String> {
        let step: CheckMachine = serde_json::from_str(asked).unwrap();
        step.faults(facts)
            .into_iter()
            .map(|fault| fault.text)
            .collect()
    }

    #[test]
    fn only_what_is_asked_for_is_checked() {
        let bare = Facts::default();
        assert_eq!(faults("{}", &bare), [""; 0]);
        assert_eq!(faults(r#"{ "mains-power": true }"#, &bare), [""; 0]);
        assert_eq!(faults(r#"{ "min-battery-percent": 0 }"#, &bare).len(), 1);
        assert_eq!(
            faults(r#"{ "firmware": "uefi", "secure-boot": false }"#, &bare),
            [""; 0]
        );
        assert_eq!(
            faults(
                r#"{ "firmware": "bios", "secure-boot": true, "tpm": true }"#,
                &bare
            )
            .len(),
            3
        );
    }

    #[test]
    fn a_battery_without_a_charger_in_sight_is_not_mains_power() {
        let on = |mains, battery_percent| Facts {
            power: Power {
                mains,
                battery_percent,
            },
            ..Facts::default()
        };
        let check =
            |mains, percent| faults(r#"{ "mains-power": true }"#, &on(mains, percent)).len();
        assert_eq!(
            (check(Some(true), Some(1)), check(Some(true), None)),
            (0, 0)
        );
        assert_eq!((check(Some(false), None), check(None, Some(99))), (1, 1));
    }

    #[test]
    fn days() {
        let day = |text: &str| Day::try_from(text.to_owned());
        assert_eq!(day("1970-01-01").unwrap().unix_seconds(), 0);
        assert_eq!(day("2026-01-01").unwrap().unix_seconds(), 1_767_225_600);
        assert_eq!(day("2000-02-29").unwrap().unix_seconds(), 951_782_400);
        assert_eq!(day("9999-12-31").unwrap().unix_seconds(), 253_402_214_400);
        for wrong in [
            "",
            "2026",
            "2026-1-1",
            "2026-13-01",
            "2026-00-10",
            "2026-04-31",
            "2100-02-29",
            "1969-12-31",
            "2026/01/01",
            "+026-01-01",
            "2026-01-01T00",
            "２026-1-1",
        ] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_day_is_read_as_it_is_written_or_not_at_all(text in "\\PC{0,12}|[0-9]{4}-[0-9]{2}-[0-9]{2}") {
            if let Ok(day) = Day::try_from(text.clone()) {
                proptest::prop_assert_eq!(day.to_string(), text);
                proptest::prop_assert_eq!(Day::of_unix_seconds(day.unix_seconds()), Some(day));
            }
        }
    }

    #[test]
    fn every_second_falls_on_its_day() {
        for days in 0..60_000 {
            let begin = days * SECONDS_OF_DAY;
            let day = Day::of_unix_seconds(begin).unwrap();
            assert_eq!(day.unix_seconds(), begin, "{day}");
            assert_eq!(Day::of_unix_seconds(begin + SECONDS_OF_DAY - 1), Some(day));
        }
        assert_eq!(Day::of_unix_seconds(-1), None);
        assert_eq!(Day::of_unix_seconds(i64::MAX), None);
    }
}
