//! `forestage completion`: what a shell needs to complete our commands.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::failure::Outcome;
use crate::output::print;

/// `completion`
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Does what was asked.
pub(crate) fn run(command: &Completion) -> Outcome<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        command.shell,
        &mut crate::Cli::command(),
        "forestage",
        &mut script,
    );
    print(&String::from_utf8_lossy(&script))
}
