//! `forestage --help` as a table of contents: every command in its chapter, made from the commands themselves.

use clap::Command;

use crate::failure::{EXIT_OK, EXIT_REFUSED, EXIT_WORK_FAILED, EXIT_WRONG_USAGE};
use crate::output::pad;

/// A part of the table of contents.
pub(crate) struct Chapter {
    /// Its title.
    pub(crate) title: &'static str,
    /// The nouns in it, in order.
    pub(crate) nouns: &'static [&'static str],
}

/// All chapters, in the order of the work.
pub(crate) const CHAPTERS: &[Chapter] = &[
    Chapter {
        title: "The server",
        nouns: &["serve", "login", "logout", "status", "trust", "backup"],
    },
    Chapter {
        title: "Content",
        nouns: &[
            "os-image",
            "boot-image",
            "secure-boot",
            "package",
            "content",
        ],
    },
    Chapter {
        title: "What devices do",
        nouns: &["sequence"],
    },
    Chapter {
        title: "At the factory",
        nouns: &["prestage", "medium", "receipt"],
    },
    Chapter {
        title: "At school",
        nouns: &[
            "asset",
            "import",
            "quarantine",
            "site",
            "class",
            "model",
            "collection",
            "variable",
            "secret",
            "deployment",
            "warrant",
            "device",
            "run",
            "report",
            "view",
        ],
    },
    Chapter {
        title: "The hand-out",
        nouns: &["pupil", "assignment"],
    },
    Chapter {
        title: "People",
        nouns: &["user", "token", "audit"],
    },
    Chapter {
        title: "Training and tests",
        nouns: &["simulate"],
    },
    Chapter {
        title: "Other systems",
        nouns: &["webhook"],
    },
    Chapter {
        title: "This program",
        nouns: &["completion"],
    },
];

/// The commands of a noun as `noun verb` and their first line; a noun without verbs is its own command.
pub(crate) fn verbs(noun: &Command) -> Vec<(String, String)> {
    let about = |command: &Command| {
        command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default()
    };
    if noun.has_subcommands() {
        noun.get_subcommands()
            .map(|verb| {
                (
                    format!("{} {}", noun.get_name(), verb.get_name()),
                    about(verb),
                )
            })
            .collect()
    } else {
        vec![(noun.get_name().to_owned(), about(noun))]
    }
}

/// The exit codes, as scripts rely on them.
pub(crate) fn exit_codes() -> String {
    format!(
        "{EXIT_OK} ok, {EXIT_WORK_FAILED} the work failed, {EXIT_WRONG_USAGE} wrong usage, {EXIT_REFUSED} refused for \
         safety"
    )
}

/// The same command with a table of contents as its help.
pub(crate) fn with_table_of_contents(command: Command) -> Command {
    let mut contents = String::new();
    for (number, chapter) in CHAPTERS.iter().enumerate() {
        contents.push_str(&format!("{}. {}\n", number + 1, chapter.title));
        let nouns = chapter
            .nouns
            .iter()
            .filter_map(|noun| command.find_subcommand(noun));
        for (name, about) in nouns.flat_map(verbs) {
            contents.push_str(&format!("   {} {about}\n", pad(&name, 20, false)));
        }
        contents.push('\n');
    }
    let template =
        "{about}\n\nUsage: forestage [--json] NOUN VERB …\n\n{before-help}{options}\n{after-help}";
    command.before_help(contents.trim_end().to_owned()).help_template(template).after_help(format!(
        "`forestage NOUN VERB --help` explains a command and shows an example.\nExit codes: {}.",
        exit_codes()
    ))
}

#[cfg(test)]
mod tests {
    use super::CHAPTERS;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_is_in_exactly_one_chapter() {
        let listed: Vec<&str> = CHAPTERS
            .iter()
            .flat_map(|chapter| chapter.nouns)
            .copied()
            .collect();
        let unique: BTreeSet<&str> = listed.iter().copied().collect();
        assert_eq!(unique.len(), listed.len(), "a command is listed twice");
        let command = crate::Cli::command();
        let all: BTreeSet<&str> = command
            .get_subcommands()
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(unique, all);
    }

    #[test]
    fn every_command_has_an_example() {
        for noun in crate::Cli::command().get_subcommands() {
            let verbs: Vec<_> = if noun.has_subcommands() {
                noun.get_subcommands().collect()
            } else {
                vec![noun]
            };
            for verb in verbs {
                let after = verb
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                let name = verb.get_name();
                assert!(
                    after.starts_with("Example:\n  forestage "),
                    "{} {name} shows no example",
                    noun.get_name()
                );
                assert!(
                    verb.get_about().is_some(),
                    "{} {name} says nothing about itself",
                    noun.get_name()
                );
            }
        }
    }
}
