//! `docs/reference/cli.md`, made from the commands; a test compares, and `UPDATE=1` rewrites it.

use std::fmt::Write as _;

use clap::{Arg, Command, CommandFactory};

use crate::chapters::{CHAPTERS, exit_codes};
use crate::in_console::{self, InConsole};
use crate::output::wrap;

/// Markdown wraps here.
const WIDTH: usize = 110;

fn reference() -> String {
    let mut program = crate::Cli::command();
    program.build();
    let mut text = String::from(
        "# The program `forestage`\n\n<!-- Generated from the program itself: do not edit. -->\n\n",
    );
    paragraph(
        &mut text,
        &program
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default(),
    );
    paragraph(
        &mut text,
        "Every command takes `--json`: the answer then is JSON on stdout; messages and progress go to stderr. Errors \
         are three parts on stderr: `error:` what was tried, `cause:` why it failed, `hint:` what to do.",
    );
    paragraph(&mut text, &format!("Exit codes: {}.", exit_codes()));
    for chapter in CHAPTERS {
        let _ = writeln!(text, "## {}\n", chapter.title);
        for noun in chapter
            .nouns
            .iter()
            .filter_map(|noun| program.find_subcommand(noun))
        {
            if noun.has_subcommands() {
                for verb in noun
                    .get_subcommands()
                    .filter(|verb| verb.get_name() != "help")
                {
                    section(
                        &mut text,
                        &format!("{} {}", noun.get_name(), verb.get_name()),
                        verb,
                    );
                }
            } else {
                section(&mut text, noun.get_name(), noun);
            }
        }
    }
    format!("{}\n", text.trim_end())
}

fn paragraph(text: &mut String, content: &str) {
    for line in wrap(content, WIDTH) {
        let _ = writeln!(text, "{line}");
    }
    text.push('\n');
}

fn section(text: &mut String, name: &str, command: &Command) {
    let _ = writeln!(text, "### `forestage {name}`\n");
    let about = command
        .get_long_about()
        .or(command.get_about())
        .map(ToString::to_string)
        .unwrap_or_default();
    for part in about.split("\n\n") {
        let end = if part.ends_with(['.', '?', ':']) {
            ""
        } else {
            "."
        };
        paragraph(text, &format!("{}{end}", part.replace('\n', " ")));
    }
    let args: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_global_set() && arg.get_id() != "help")
        .collect();
    for arg in &args {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ");
        let default = match (
            default.is_empty() || default == "false" || arg.is_hide_default_value_set(),
            default,
        ) {
            (true, _) => String::new(),
            (false, value) => format!(" (default: `{value}`)"),
        };
        let mark = if arg.is_required_set() {
            ""
        } else {
            " (optional)"
        };
        let lines = wrap(
            &format!("`{}`{mark}: {help}{default}", usage_of(arg)),
            WIDTH - 2,
        );
        for (at, line) in lines.iter().enumerate() {
            let _ = writeln!(text, "{}{line}", if at == 0 { "- " } else { "  " });
        }
    }
    if !args.is_empty() {
        text.push('\n');
    }
    let place = match in_console::of(name) {
        InConsole::Page(path) => format!("In the console: `{path}`."),
        InConsole::Nowhere(reason) => format!("Not in the console: {reason}."),
    };
    paragraph(text, &place);
    let example = command
        .get_after_help()
        .map(ToString::to_string)
        .unwrap_or_default();
    let example = example
        .trim_start_matches("Example:\n")
        .lines()
        .map(|line| line.strip_prefix("  ").unwrap_or(line));
    let _ = writeln!(
        text,
        "```sh\n{}\n```\n",
        example.collect::<Vec<_>>().join("\n")
    );
}

fn usage_of(arg: &Arg) -> String {
    let value = arg
        .get_value_names()
        .map(|names| names.join(" "))
        .unwrap_or_default();
    match arg.get_long() {
        None => value,
        Some(long) if arg.get_action().takes_values() => format!("--{long} {value}"),
        Some(long) => format!("--{long}"),
    }
}

#[test]
fn the_reference_page_is_that_of_this_program() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/cli.md");
    let made = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/reference/cli.md is out of date: run this test with UPDATE=1"
    );
    let long: Vec<&str> = made
        .lines()
        .filter(|line| line.chars().count() > 120)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}
