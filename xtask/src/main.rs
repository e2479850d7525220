//! The one door: `cargo xtask demo`, `test`, `check`, `nightly`, `bench`, `supply-chain`.
//!
//! Thin on purpose: it installs what is missing, builds, and calls the program that does the work.

mod bench;
mod fuzz;
mod nightly;
mod setup;
mod supply_chain;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
Usage: cargo xtask <COMMAND>

Commands:
  demo      Build everything and show the whole path once, in virtual machines
              --exit            End when it is done, instead of leaving the server running
              --summary FILE    Write the measured figures as JSON
  test      Run all tests, those in virtual machines included
  check     Formatting, lints and the tests that need no virtual machine
  nightly   What takes too long for every change, each by its name; the results are kept in target/nightly
              --only NAME       Only this one: `engine`, long property tests; `power-cuts`, states of a disk after one;
                                `vm-cuts`, two hundred power cuts of virtual machines; `attacks`; `fuzz`, every reader
                                of outside data with ten million inputs; `storm` and `storm-postgres`, a county at work
                                on a server that is killed every ten seconds for a quarter of an hour; `storm-power`, on
                                one that loses its power in a virtual machine instead; `wan`, a line to the server that
                                fails at fifty points of a deployment; `api`, a hundred thousand random
                                questions to the admin API; `years`, ten thousand histories of a county in virtual time;
                                `keyboard`, ten thousand keys pressed at a machine; `supply-chain`, what the programs
                                are made of, and the agent compiled twice
  bench     Measure, and print the figures
              --json FILE       Write them as JSON
              --only NAME       Only this one; `engine` is the content engine against its peers, which needs root,
                                25 GB and half an hour. Only if named: `console`, the server under load; `overview`, its
                                first page in a browser meanwhile; `import`, what a large import does to others;
                                `rules`, how long the rule of a collection takes
              --rounds N        How often each is run (3)
              --profile small   Try the engine with a few hundred MB; its figures mean little
  supply-chain
            Licences, sources and bans of all that we depend on, and an SBOM of each program in target/sbom
              --advisories      Whether anybody warns of any of it; the list of warnings is fetched
  setup     Only install what the other commands need
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("--help", &[][..]),
    };
    let done = match command {
        "demo" => demo(rest),
        "test" => test(),
        "check" => check(),
        "nightly" => nightly::run(rest),
        "bench" => bench::run(rest),
        "supply-chain" => supply_chain::run(rest),
        "setup" => setup::everything(),
        "-h" | "--help" | "help" => {
            eprint!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprint!("error: there is no command `{other}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error
                .chain()
                .skip(1)
                .for_each(|cause| eprintln!("  cause: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &[String]) -> Result<()> {
    setup::everything()?;
    build_programs()?;
    run(e2e()?.arg("first-light").args(arguments))
}

fn test() -> Result<()> {
    setup::everything()?;
    timed("check", check_without_setup)?;
    timed("build the programs", build_programs)?;
    timed("guides and virtual machines", || run(e2e()?.arg("all")))
}

fn check() -> Result<()> {
    setup::everything()?;
    check_without_setup()
}

fn check_without_setup() -> Result<()> {
    timed("formatting", || {
        run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    timed("what we depend on", supply_chain::may_be)?;
    timed("lints", || {
        run(cargo().args([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    timed("tests without virtual machines", || {
        run(cargo().args(["test", "--workspace", "--quiet", "--no-fail-fast"]))
    })?;
    timed("the server's tests on PostgreSQL", || {
        run(cargo()
            .args(["test", "--package", "server", "--test", "it", "--quiet"])
            .env("FORESTAGE_TEST_DATABASE", "postgres"))
    })
}

/// The release programs: `forestage` for people, `forestage-agent` (static) for devices, and `e2e` that drives both.
fn build_programs() -> Result<()> {
    build_programs_for_people()?;
    run(cargo().args([
        "build",
        "--profile",
        "agent",
        "--package",
        "agent",
        "--target",
        setup::AGENT_TARGET,
    ]))
}

/// `forestage` and `e2e` are built as one selection: each alone has other features of what they share, and would compile
/// the server again.
fn build_programs_for_people() -> Result<()> {
    run(cargo().args(["build", "--release", "--package", "cli", "--package", "e2e"]))
}

/// `e2e` as `build_programs_for_people` made it. Without `CARGO` it takes the programs beside it as they are.
fn e2e() -> Result<Command> {
    let own = std::env::current_exe()?;
    let target = own
        .ancestors()
        .nth(2)
        .context("xtask lies in no target folder")?;
    let mut command = Command::new(target.join("release/e2e"));
    command.current_dir(root()).env_remove("CARGO");
    Ok(command)
}

fn timed(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {what}");
    let start = Instant::now();
    work().with_context(|| format!("{what} failed"))?;
    eprintln!(
        "==> {what}: done in {} s; {} are free",
        start.elapsed().as_secs(),
        setup::free_space()?
    );
    Ok(())
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the root")
        .to_owned()
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(())
}
