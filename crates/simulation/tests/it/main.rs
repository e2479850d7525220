//! Histories of a county: as many as a test run has time for, and that one seed is one history.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

/// The rest comes at night.
const SEEDS: u64 = 200;
/// A program simulates one world at a time, and a test run has two cores.
const PROGRAMS: u64 = 2;

fn years(arguments: &[String]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_years"))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn ended(child: Child) -> (bool, String) {
    let output = child.wait_with_output().expect("the program ends");
    let text = String::from_utf8(output.stdout).expect("text");
    (output.status.success(), text)
}

#[test]
fn every_history_ends_well() {
    let seeds = testkit::chance::variable("FORESTAGE_YEARS").unwrap_or(SEEDS);
    let from = testkit::chance::variable("FORESTAGE_YEARS_FROM").unwrap_or(1);
    let programs: Vec<Child> = (0..PROGRAMS)
        .map(|program| {
            let share = format!("--seeds={}", seeds.saturating_sub(program));
            let first = format!("--from={}", from + program);
            years(&[share, first, format!("--step={PROGRAMS}")])
        })
        .collect();
    let ends: Vec<_> = programs.into_iter().map(ended).collect();
    for (_, text) in &ends {
        eprint!("{text}");
    }
    assert!(ends.iter().all(|(is_well, _)| *is_well));
}

#[test]
fn a_seed_is_one_history() {
    let tell = || ended(years(&["--seed=7".to_owned()]));
    let (first, second) = (tell(), tell());
    assert!(first.0, "{}", first.1);
    assert_eq!(nameless(&first.1), nameless(&second.1));
}

/// The story with a number for each name that the server made up.
fn nameless(story: &str) -> String {
    let mut names = BTreeMap::new();
    let is_name = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let in_name = |letter: char| letter.is_ascii_hexdigit() || letter == '-';
    let words = story.split_inclusive(|letter: char| !in_name(letter));
    words
        .map(|word| {
            let bare = word.trim_end_matches(|letter: char| !in_name(letter));
            if !is_name(bare) {
                return word.to_owned();
            }
            let next = names.len();
            let number = names.entry(bare.to_owned()).or_insert(next);
            word.replace(bare, &format!("#{number}"))
        })
        .collect()
}
