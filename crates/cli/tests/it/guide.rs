//! Every command shown in the guide is one that this program takes.

use crate::world::program;

const GUIDE: &str = include_str!("../../../../docs/guide/first-prestage.md");

/// The commands in the guide's code blocks, continued lines joined.
fn commands() -> Vec<String> {
    let blocks = GUIDE
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let joined: Vec<String> = blocks.map(|block| block.replace("\\\n", " ")).collect();
    let lines = joined.iter().flat_map(|block| block.lines());
    lines
        .filter(|line| line.starts_with("forestage "))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn every_command_in_the_guide_is_understood() {
    let commands = commands();
    assert!(commands.len() > 20, "{commands:#?}");
    let folder = tempfile::tempdir().unwrap();
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        // With `--help` behind it, a command explains itself only if its noun and verb are known.
        let verbs: Vec<&str> = words
            .iter()
            .copied()
            .take_while(|word| {
                !word.starts_with('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
            })
            .take(2)
            .collect();
        let help = program(folder.path(), &[&verbs[..], &["--help"]].concat())
            .output()
            .unwrap();
        assert!(help.status.success(), "{command}");
        let help = String::from_utf8(help.stdout).unwrap();
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{command}: {option} is unknown");
        }
    }
}

#[test]
fn the_guide_wraps() {
    let long: Vec<&str> = GUIDE
        .lines()
        .filter(|line| line.chars().count() > 110)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
