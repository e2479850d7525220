//! The databar: how long something took against how long it was expected to take.
//!
//! The bar's scale ends at twice the expected time, so the expected time is always in the middle and bars of different
//! rows compare at a glance. Its colour goes from green to yellow with the distance from the expected time; red is kept
//! for failures alone, and a number or a word always says the same as the colour.

use std::fmt::Write as _;

use wire::admin_api::DeviceState;

use super::format;

/// The last step of the scale from green (0) to yellow. Twenty steps are finer than the eye tells apart.
pub const HUE_MAX: u8 = 20;
/// Up to this share of the expected time a difference does not matter: machines are not that equal.
const TOLERANCE: f64 = 0.1;

/// What a databar shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// How much of the bar is filled; 50 is the expected time, 100 twice that or more.
    pub fill_percent: u8,
    /// The colour.
    pub tone: Tone,
    /// The same in a number or a word.
    pub label: String,
}

/// The colour of a databar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// No expected time is known.
    Plain,
    /// From green (0) to yellow ([`HUE_MAX`]).
    Hue(u8),
    /// Red.
    Failed,
}

impl Tone {
    /// The class in the stylesheet.
    #[must_use]
    pub fn class(self) -> String {
        match self {
            Self::Plain => "hue-plain".to_owned(),
            Self::Hue(step) => format!("hue-{}", step.min(HUE_MAX)),
            Self::Failed => "hue-failed".to_owned(),
        }
    }
}

/// Computes the databar of something that took (or has taken so far) `elapsed` of `expected` seconds; 0 means that no
/// expected time is known.
#[must_use]
pub fn databar(elapsed: u64, expected: u64, state: DeviceState) -> Bar {
    let fill_percent = format::percent(elapsed, expected.saturating_mul(2));
    let fill_percent = if expected == 0 && state == DeviceState::Failed {
        100
    } else {
        fill_percent
    };
    Bar {
        fill_percent,
        tone: tone(elapsed, expected, state),
        label: label(elapsed, expected, state),
    }
}

fn tone(elapsed: u64, expected: u64, state: DeviceState) -> Tone {
    match state {
        DeviceState::Failed => Tone::Failed,
        // What somebody broke off says nothing about how long it takes.
        DeviceState::Stopped => Tone::Plain,
        _ if expected == 0 => Tone::Plain,
        DeviceState::Completed => Tone::Hue(hue(distance(elapsed, expected).abs())),
        // Being below the expected time says nothing while the run goes on.
        _ => Tone::Hue(hue(distance(elapsed, expected).max(0.0))),
    }
}

/// How far from the expected time, as a share of it; negative below.
#[expect(clippy::cast_precision_loss, reason = "no run lasts 2^52 seconds")]
fn distance(elapsed: u64, expected: u64) -> f64 {
    elapsed as f64 / expected as f64 - 1.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=HUE_MAX just before"
)]
fn hue(distance: f64) -> u8 {
    let share = ((distance - TOLERANCE) / (1.0 - TOLERANCE)).clamp(0.0, 1.0);
    (share * f64::from(HUE_MAX)).round() as u8
}

fn label(elapsed: u64, expected: u64, state: DeviceState) -> String {
    match state {
        DeviceState::Failed => "failed".to_owned(),
        DeviceState::Stopped => "stopped".to_owned(),
        DeviceState::Stalled => "stalled".to_owned(),
        _ if expected == 0 => "no estimate".to_owned(),
        DeviceState::Completed if distance(elapsed, expected).abs() <= TOLERANCE => {
            "on time".to_owned()
        }
        DeviceState::Completed if elapsed < expected => {
            format!("{} faster", format::clock(expected - elapsed))
        }
        _ if elapsed > expected => format!("{} over", format::clock(elapsed - expected)),
        _ => format!("{} %", format::percent(elapsed, expected)),
    }
}

/// The colours as rules of the stylesheet: `.hue-0` to `.hue-20` for light and dark screens.
#[must_use]
pub fn stylesheet() -> String {
    let mut css = String::new();
    for step in 0..=HUE_MAX {
        let (light, dark) = (oklch(step, Screen::Light), oklch(step, Screen::Dark));
        let _ = writeln!(css, ".hue-{step}{{--bar:light-dark({light},{dark})}}");
    }
    css
}

#[derive(Clone, Copy)]
enum Screen {
    Light,
    Dark,
}

/// The hue angles of OKLCH: green is 152, yellow 92. Red (about 25) lies on neither side of the way between.
const ANGLES: (f64, f64) = (152.0, 92.0);

fn angle(step: u8) -> f64 {
    mix(ANGLES.0, ANGLES.1, step)
}

fn mix(from: f64, to: f64, step: u8) -> f64 {
    from + (to - from) * f64::from(step) / f64::from(HUE_MAX)
}

fn oklch(step: u8, screen: Screen) -> String {
    let (lightness, chroma) = match screen {
        Screen::Light => (mix(0.64, 0.80, step), mix(0.145, 0.165, step)),
        Screen::Dark => (mix(0.68, 0.84, step), mix(0.140, 0.160, step)),
    };
    format!("oklch({lightness:.3} {chroma:.3} {:.1})", angle(step))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::web::filter::STATES;

    fn hue_of(bar: &Bar) -> u8 {
        match bar.tone {
            Tone::Hue(step) => step,
            other => panic!("no hue: {other:?}"),
        }
    }

    #[test]
    fn examples() {
        let check = |elapsed, expected, state, fill, tone, label: &str| {
            let bar = databar(elapsed, expected, state);
            assert_eq!(
                bar,
                Bar {
                    fill_percent: fill,
                    tone,
                    label: label.to_owned()
                }
            );
        };
        check(0, 1200, DeviceState::Running, 0, Tone::Hue(0), "0 %");
        check(600, 1200, DeviceState::Running, 25, Tone::Hue(0), "50 %");
        check(
            1260,
            1200,
            DeviceState::Running,
            52,
            Tone::Hue(0),
            "1:00 over",
        );
        check(
            1860,
            1200,
            DeviceState::Running,
            77,
            Tone::Hue(10),
            "11:00 over",
        );
        check(
            2400,
            1200,
            DeviceState::Running,
            100,
            Tone::Hue(20),
            "20:00 over",
        );
        check(
            1150,
            1200,
            DeviceState::Completed,
            47,
            Tone::Hue(0),
            "on time",
        );
        check(
            540,
            1200,
            DeviceState::Completed,
            22,
            Tone::Hue(10),
            "11:00 faster",
        );
        check(
            0,
            1200,
            DeviceState::Completed,
            0,
            Tone::Hue(20),
            "20:00 faster",
        );
        check(300, 1200, DeviceState::Failed, 12, Tone::Failed, "failed");
        check(300, 0, DeviceState::Failed, 100, Tone::Failed, "failed");
        check(1300, 1200, DeviceState::Stopped, 54, Tone::Plain, "stopped");
        check(300, 0, DeviceState::Running, 0, Tone::Plain, "no estimate");
        check(900, 1200, DeviceState::Stalled, 37, Tone::Hue(0), "stalled");
    }

    proptest! {
        #[test]
        fn red_means_failed_and_every_bar_has_a_word(
            elapsed: u64, expected: u64, state in prop::sample::select(&STATES),
        ) {
            let bar = databar(elapsed, expected, state);
            prop_assert_eq!(bar.tone == Tone::Failed, state == DeviceState::Failed);
            prop_assert!(!bar.label.is_empty());
            prop_assert!(bar.fill_percent <= 100);
            if let Tone::Hue(step) = bar.tone {
                prop_assert!(step <= HUE_MAX);
            }
        }

        #[test]
        fn a_later_run_is_never_greener_nor_shorter(
            a in 0_u64..100_000, b in 0_u64..100_000, expected in 1_u64..50_000,
        ) {
            let (early, late) = (a.min(b), a.max(b));
            let (early, late) = (
                databar(early, expected, DeviceState::Running),
                databar(late, expected, DeviceState::Running),
            );
            prop_assert!(hue_of(&early) <= hue_of(&late));
            prop_assert!(early.fill_percent <= late.fill_percent);
        }

        #[test]
        fn further_from_the_expected_time_is_never_greener(
            near in 0_u64..10_000, more in 0_u64..10_000, expected in 1_u64..10_000,
        ) {
            let far = near + more;
            let done = |elapsed| hue_of(&databar(elapsed, expected, DeviceState::Completed));
            prop_assert!(done(expected + near) <= done(expected + far));
            prop_assert!(done(expected.saturating_sub(near)) <= done(expected.saturating_sub(far)));
        }

        #[test]
        fn a_run_within_its_expected_time_is_green(elapsed in 0_u64..10_000, more in 0_u64..10_000) {
            let bar = databar(elapsed, elapsed + more.max(1), DeviceState::Running);
            prop_assert_eq!(bar.tone, Tone::Hue(0));
        }

        #[test]
        fn colours_go_straight_from_green_to_yellow(step in 0..HUE_MAX) {
            prop_assert!(angle(step) > angle(step + 1));
            for step in [step, step + 1] {
                prop_assert!((85.0..=160.0).contains(&angle(step)), "neither red nor blue");
            }
        }
    }

    #[test]
    fn the_stylesheet_has_every_class_for_both_screens() {
        let css = stylesheet();
        for step in 0..=HUE_MAX {
            let class = Tone::Hue(step).class();
            let rule = css
                .lines()
                .find(|line| line.starts_with(&format!(".{class}{{")));
            assert_eq!(
                rule.unwrap_or_default().matches("oklch(").count(),
                2,
                "{class}"
            );
        }
    }
}
