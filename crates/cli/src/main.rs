//! `forestage`: the program for people. Every operator command, and the server.
//!
//! Here is only the table of contents: each noun is a module in [`commands`], which parses nothing but its own
//! arguments, asks the server through `client`, and turns the answer into text with a pure function.

mod api;
mod ask;
mod bundle;
mod chapters;
mod commands;
mod core_dumps;
mod failure;
#[cfg(test)]
mod in_console;
mod open_files;
mod output;
#[cfg(test)]
mod reference;
mod settings;
mod signing_key;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{
    asset, assignment, audit, backup, boot_image, class, collection, completion,
    content as content_command, deployment, device, import, login, medium, model, os_image,
    package, prestage, pupil, quarantine, receipt, report, run, secret, secure_boot,
    sequence as sequence_command, serve, simulate, site, token, trust, user, variable, view,
    warrant, webhook,
};
use crate::failure::{EXIT_OK, Outcome};
use crate::output::Output;

/// Stage laptops at the factory, finish them at school, from the same signed content.
#[derive(Debug, Parser)]
#[command(
    name = "forestage",
    version,
    disable_help_subcommand = true,
    subcommand_required = true
)]
pub(crate) struct Cli {
    /// Answer in JSON, on stdout; messages and progress go to stderr
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    ///
    /// Everything it knows is in its data folder, which is made at the first start, together with a certificate
    /// authority of its own and an administrator with a one-time password, printed once. It runs until it gets SIGTERM
    /// or SIGINT. FORESTAGE_LOG says how much it logs to stderr, such as `warn` or `server=debug`;
    /// with FORESTAGE_LOG_FORMAT=json each line is a JSON object.
    #[command(after_help = "Example:\n\
            \x20 forestage serve --data /var/lib/forestage --listen 0.0.0.0:8443 \\\n\
            \x20     --url https://forestage.example:8443")]
    Serve(serve::Serve),
    /// Log in to a server and remember it
    ///
    /// Asks for the password, or takes it from FORESTAGE_PASSWORD. A one-time password is replaced on the way: by what
    /// you type, or by FORESTAGE_NEW_PASSWORD. The token is stored in $FORESTAGE_CONFIG or
    /// ~/.config/forestage/config.json, readable by you alone; the password isn't stored.
    #[command(
        after_help = "Example:\n  forestage login https://forestage.example:8443 --ca ca.pem"
    )]
    Login(login::Login),
    /// Forget the server and the token
    ///
    /// The server revokes the token, so that a copy of it is worth nothing. If the server can't be told, it is forgotten
    /// all the same.
    #[command(after_help = "Example:\n  forestage logout")]
    Logout,
    /// Show which server we are logged in to, and whether it answers
    #[command(after_help = "Example:\n  forestage status")]
    Status,
    #[command(subcommand)]
    Trust(trust::Trust),
    #[command(subcommand)]
    Backup(backup::Backup),
    #[command(subcommand)]
    OsImage(os_image::OsImage),
    #[command(subcommand)]
    BootImage(boot_image::BootImage),
    #[command(subcommand)]
    SecureBoot(secure_boot::SecureBoot),
    #[command(subcommand)]
    Package(package::Package),
    #[command(subcommand)]
    Sequence(sequence_command::Sequence),
    #[command(subcommand)]
    Prestage(prestage::Prestage),
    #[command(subcommand)]
    Medium(medium::Medium),
    #[command(subcommand)]
    Receipt(receipt::Receipt),
    #[command(subcommand)]
    Asset(asset::Asset),
    #[command(subcommand)]
    Import(import::Import),
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    #[command(subcommand)]
    Site(site::Site),
    #[command(subcommand)]
    Class(class::Class),
    #[command(subcommand)]
    Model(model::Model),
    #[command(subcommand)]
    Collection(collection::Collection),
    #[command(subcommand)]
    Variable(variable::Variable),
    #[command(subcommand)]
    Secret(secret::Secret),
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    #[command(subcommand)]
    Deployment(deployment::Deployment),
    #[command(subcommand)]
    Warrant(warrant::Warrant),
    #[command(subcommand)]
    Report(report::Report),
    #[command(subcommand)]
    Device(device::Device),
    #[command(subcommand)]
    Run(run::Run),
    #[command(subcommand)]
    View(view::View),
    #[command(subcommand)]
    Pupil(pupil::Pupil),
    #[command(subcommand)]
    Assignment(assignment::Assignment),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Token(token::Token),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Content(content_command::Content),
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Print what a shell needs to complete these commands
    #[command(
        after_help = "Example:\n  forestage completion bash > /etc/bash_completion.d/forestage"
    )]
    Completion(completion::Completion),
}

fn main() -> ExitCode {
    let matches = chapters::with_table_of_contents(Cli::command()).get_matches();
    // clap ends the program itself (exit code 2) if the arguments don't fit.
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let output = Output::new(cli.json);
    match dispatch(&cli.command, &output) {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(failure) => {
            // If stderr is gone, the exit code still tells.
            let _ = write!(std::io::stderr(), "{}", failure.render());
            failure.exit_code()
        }
    }
}

fn dispatch(command: &Command, output: &Output) -> Outcome<()> {
    match command {
        Command::Serve(command) => serve::run(command, output),
        Command::Login(command) => login::run_login(command, output),
        Command::Logout => login::run_logout(output),
        Command::Status => login::run_status(output),
        Command::Trust(command) => trust::run(command, output),
        Command::Backup(command) => backup::run(command, output),
        Command::OsImage(command) => os_image::run(command, output),
        Command::BootImage(command) => boot_image::run(command, output),
        Command::SecureBoot(command) => secure_boot::run(command, output),
        Command::Package(command) => package::run(command, output),
        Command::Sequence(command) => sequence_command::run(command, output),
        Command::Prestage(command) => prestage::run(command, output),
        Command::Medium(command) => medium::run(command, output),
        Command::Receipt(command) => receipt::run(command, output),
        Command::Asset(command) => asset::run(command, output),
        Command::Import(command) => import::run(command, output),
        Command::Quarantine(command) => quarantine::run(command, output),
        Command::Site(command) => site::run(command, output),
        Command::Class(command) => class::run(command, output),
        Command::Model(command) => model::run(command, output),
        Command::Collection(command) => collection::run(command, output),
        Command::Report(command) => report::run(command, output),
        Command::Variable(command) => variable::run(command, output),
        Command::Secret(command) => secret::run(command, output),
        Command::Webhook(command) => webhook::run(command, output),
        Command::Deployment(command) => deployment::run(command, output),
        Command::Warrant(command) => warrant::run(command, output),
        Command::Device(command) => device::run(command, output),
        Command::Run(command) => run::run(command, output),
        Command::View(command) => view::run(command, output),
        Command::Pupil(command) => pupil::run(command, output),
        Command::Assignment(command) => assignment::run(command, output),
        Command::User(command) => user::run(command, output),
        Command::Token(command) => token::run(command, output),
        Command::Audit(command) => audit::run(command, output),
        Command::Content(command) => content_command::run(command, output),
        Command::Simulate(command) => simulate::run(command, output),
        Command::Completion(command) => completion::run(command),
    }
}
