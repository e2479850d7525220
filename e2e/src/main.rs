//! Scenarios that boot virtual machines: the demo, and what must not go wrong. And the guides that need none.
//!
//! Nothing is simulated but the hardware. Every command of `forestage` that a scenario runs is shown as it is typed.

mod api;
mod audit;
mod browser;
mod check;
mod console;
mod documents;
mod first_light;
mod fleet;
mod guides;
mod load;
mod oidc;
mod python;
mod readers;
mod scenarios;
mod secure_boot;
mod storm;
mod summary;
mod wan;
mod world;

use std::process::ExitCode;

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand};

/// Scenarios that boot virtual machines.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The whole path once: from bare disk to a pupil's desk
    FirstLight(FirstLight),
    /// What must not go wrong: altered bundles, wrong disks, no network, power cuts
    Scenarios {
        /// Only scenarios whose name contains this
        name: Option<String>,
    },
    /// Secure Boot with own keys: what is signed starts, what isn't or was altered doesn't
    SecureBoot,
    /// The guides that need no virtual machine, each in a world of its own, from top to bottom
    Guides {
        /// Only these, such as `simulate`
        names: Vec<String>,
    },
    /// Every page of the console in a real browser, and journeys through those that change something
    Browser {
        /// Only pages whose address contains one of these, such as `/devices`; `journeys` walks those alone
        pages: Vec<String>,
    },
    /// Signing in at an identity provider, in a real browser
    Oidc,
    /// A hundred thousand random questions to the admin API, by people of every role
    Api(api::Options),
    /// Every reader of bytes from outside, with a hundred thousand inputs that have mistakes in them
    Readers(readers::Options),
    /// Measure the server while a simulated fleet has its first day
    Load(load::Load),
    /// Measure how long machines wait while a large import is accepted and taken back
    Import(load::Load),
    /// Measure how long the rule of a collection takes; with `--devices 10000`, for instance
    Rules(load::Load),
    /// Kill the server every ten seconds while a simulated fleet is at work, or cut its power, and compare every event afterwards
    Storm(storm::Options),
    /// Cut the line to the server at many points of a deployment, in virtual machines, and compare every event afterwards
    Wan(wan::Options),
    /// Measure the overview in a real browser while a simulated fleet is at work
    Overview(load::Overview),
    /// All of it, as the tests run them
    All,
}

/// Options of the demo.
#[derive(clap::Args, Clone, Default)]
struct FirstLight {
    /// End when it is done, instead of leaving the server running
    #[arg(long)]
    exit: bool,
    /// Write the measured figures as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<Utf8PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::FirstLight(options) => first_light::run(&options),
        Command::Scenarios { name } => scenarios::run(name.as_deref()),
        Command::SecureBoot => secure_boot::run(),
        Command::Guides { names } => guides::run(&names),
        Command::Browser { pages } => browser::run(&pages),
        Command::Oidc => oidc::run(),
        Command::Api(options) => api::run(&options),
        Command::Readers(options) => readers::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Import(options) => load::import(&options),
        Command::Rules(options) => load::rules(&options),
        Command::Storm(options) => storm::run(&options),
        Command::Wan(options) => wan::run(&options),
        Command::Overview(options) => load::overview(&options),
        Command::All => {
            let options = FirstLight {
                exit: true,
                summary: None,
            };
            readers::run(&readers::Options::default())
                .and_then(|()| guides::run(&[]))
                .and_then(|()| browser::run(&[]))
                .and_then(|()| oidc::run())
                .and_then(|()| storm::short())
                .and_then(|()| scenarios::run(None))
                .and_then(|()| secure_boot::run())
                .and_then(|()| wan::short())
                .and_then(|()| first_light::run(&options))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console::failure(&error);
            ExitCode::FAILURE
        }
    }
}
