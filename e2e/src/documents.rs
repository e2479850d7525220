//! Every command shown in a document is one that was run.
//!
//! A shown command counts as run if a command with the same words before its first option was run, and each of its
//! options was given to such a command. Values may differ: a document names its own schools.

use anyhow::{Context, Result, bail};
use camino::Utf8Path;

/// The documents whose commands the demo runs, in virtual machines. All other guides are run as they stand, see
/// [`crate::guides`].
pub(crate) const RUN_BY_THE_DEMO: &[&str] = &[
    "README.md",
    "docs/guide/first-prestage.md",
    "docs/guide/sequences.md",
];

/// Run with signed boot images, see [`crate::secure_boot`].
pub(crate) const RUN_WITH_SECURE_BOOT: &str = "docs/guide/secure-boot.md";

/// Compares the commands of all documents of the demo with those that were run.
pub(crate) fn check(root: &Utf8Path, ran: &[Vec<String>]) -> Result<usize> {
    let mut shown = 0;
    for document in RUN_BY_THE_DEMO {
        let path = root.join(document);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        shown += check_text(&text, ran).with_context(|| (*document).to_owned())?;
    }
    Ok(shown)
}

/// Compares the commands of a document with those that were run; says how many it shows.
pub(crate) fn check_text(markdown: &str, ran: &[Vec<String>]) -> Result<usize> {
    let commands = commands(markdown);
    for command in &commands {
        if !was_run(command, ran) {
            bail!(
                "it shows `forestage {}`, which nothing has run",
                command.join(" ")
            );
        }
    }
    Ok(commands.len())
}

/// The commands in the `sh` blocks of a document, without the program's name, continued lines joined.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut line = String::new();
    for text in markdown.lines() {
        if let Some(language) = text.trim_start().strip_prefix("```") {
            inside = !inside && language == "sh";
            continue;
        }
        if !inside {
            continue;
        }
        match text.strip_suffix('\\') {
            Some(begun) => line.push_str(begun),
            None => {
                line.push_str(text);
                let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
                if words.first().is_some_and(|word| word == "forestage") {
                    found.push(words[1..].to_vec());
                }
                line.clear();
            }
        }
    }
    found
}

fn was_run(shown: &[String], ran: &[Vec<String>]) -> bool {
    let alike: Vec<&Vec<String>> = ran
        .iter()
        .filter(|command| verb(command) == verb(shown))
        .collect();
    !alike.is_empty()
        && options(shown).all(|option| {
            alike
                .iter()
                .any(|command| options(command).any(|given| given == option))
        })
}

/// The noun and the verb: `serve`, `asset import`.
fn verb(command: &[String]) -> Vec<&str> {
    let nouns_without_verb = ["serve", "login", "logout", "status", "completion"];
    let count = if command
        .first()
        .is_some_and(|word| nouns_without_verb.contains(&word.as_str()))
    {
        1
    } else {
        2
    };
    command.iter().take(count).map(String::as_str).collect()
}

fn options(command: &[String]) -> impl Iterator<Item = &str> {
    command
        .iter()
        .filter(|word| word.starts_with("--"))
        .map(|word| word.split('=').next().unwrap_or(word))
}

#[cfg(test)]
mod tests {
    use super::{commands, was_run};

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn commands_are_found_in_sh_blocks_alone() {
        let text = "```sh\nforestage asset import a.csv \\\n    --collection x\nls\n```\n```\nforestage no\n```\n";
        assert_eq!(commands(text), [words("asset import a.csv --collection x")]);
    }

    #[test]
    fn another_verb_or_option_was_not_run() {
        let ran = [words("asset import b.csv --collection y --dry-run")];
        assert!(was_run(&words("asset import a.csv --collection x"), &ran));
        assert!(!was_run(&words("asset export a.csv"), &ran));
        assert!(!was_run(&words("asset import a.csv --force"), &ran));
    }
}
