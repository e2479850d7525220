//! The content engine against its peers, on the same data in the same run: `cargo xtask bench --only engine`.
//!
//! Needs root (loop devices) and about 25 GB of disk. Debian in two versions is installed once and kept. Each round runs us
//! and every peer in turn, with cold caches and with the sync inside the measured part; what is printed are medians, one
//! line of JSON per figure. A peer that isn't installed is named as missing. Nothing here can fail on being slow.
//!
//! Arguments: `--only NAME` (`engine` is all), `--rounds N`, `--profile desktop|small`, `--data FOLDER`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured, and stops if its own data are wrong"
)]

mod bytes;
mod data;
mod ours;
mod race;
mod races;
mod stage;

use std::path::Path;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Measured like every peer: as a process of its own.
    if arguments.first().is_some_and(|first| first == "ours") {
        return ours::run(&arguments[1..]);
    }
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    };
    let is_wanted =
        |name: &str| value("--only").is_none_or(|only| only == "engine" || only == name);
    let rounds =
        value("--rounds").map_or(3, |rounds| rounds.parse().expect("--rounds takes a number"));
    let profile = value("--profile").unwrap_or("desktop");
    let profile = data::Profile::named(profile).expect("--profile is desktop or small");
    let data = profile.prepare(Path::new(value("--data").expect("--data names a folder")));
    for (name, race) in races::ALL {
        if is_wanted(name) {
            println!("{}", race(&data).run(rounds));
        }
    }
    for (name, measure) in bytes::ALL {
        if is_wanted(name) {
            println!("{}", measure(name, &data));
        }
    }
}
