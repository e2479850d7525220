//! The program for devices. PID 1 of the boot image; `stage` at the factory, `deploy` on site; `resume` in the
//! installed OS. It asks nothing: no prompt, no shell, no menu.

#[cfg(test)]
mod altered_bundles;
mod asking;
mod block;
mod clock;
mod command_line;
pub mod connection;
mod content_port;
pub mod deploy;
mod device_key;
mod durable;
mod esp;
#[cfg(test)]
mod failing_media;
pub mod files;
#[cfg(test)]
mod flipped_bits;
#[cfg(test)]
mod foreign_orders;
mod gpt;
mod guard;
pub mod host;
mod init;
mod journal;
mod laptop;
mod log;
mod machine;
mod modules;
mod network;
mod power;
#[cfg(test)]
mod power_cuts;
pub mod readers;
mod receipt;
mod reporter;
pub mod resume;
mod runner;
mod screen;
pub mod secrets;
mod secure_boot;
mod stage;
#[cfg(test)]
mod test_bundle;
mod tpm;
mod view;
mod warrant;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use serde_json::json;
use wire::boot_config::BootMode;
use wire::event::Environment;

use crate::connection::load_trust;
use crate::deploy::Site;
use crate::laptop::Laptop;
use crate::machine::facts::Kernel;
use crate::machine::volumes::Volumes;
use crate::screen::Screen;
use crate::view::Board;

/// Exit code for a command line we do not know.
const WRONG_USAGE: u8 = 2;
/// PID 1 makes this file when the modules for what is plugged in have been loaded.
const MODULES_LOADED: &str = "/run/forestage/modules-loaded";
/// Loading them takes seconds on a laptop and half a minute in a slow virtual machine.
const MODULES_WAIT: Duration = Duration::from_secs(60);

/// What `forestage-agent` does.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    keep_memory_private();
    if rustix::process::getpid() == rustix::process::Pid::INIT {
        init::run();
    }
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["worker"] => worker(),
        ["resume"] => resume::run(),
        ["update-os-boot"] => update_os_boot(),
        ["chroot-exec", ..] => machine::command::chroot_exec(&args[1..]),
        ["facts"] => {
            print(&serde_json::to_string_pretty(&Kernel::default().facts()).unwrap_or_default())
        }
        ["--version" | "-V"] => print(&format!("forestage-agent {}", env!("CARGO_PKG_VERSION"))),
        _ => {
            let text = "usage: forestage-agent resume | update-os-boot | facts | --version\n";
            // With stderr closed there is nobody to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// A crash leaves no copy of our memory on the disk, and nobody but root reads it: it may hold a secret of the run or the device's key.
/// Programs that we start are as they always are.
fn keep_memory_private() {
    // Nothing but a kernel of another kind refuses this.
    let _set = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// In an OS that got another kernel: from the next start on it starts with that one.
fn update_os_boot() -> ExitCode {
    match machine::boot::install_os_entry(&Volumes::new(Environment::Os)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!(
                "forestage: this machine goes on starting with the kernel it has started with: {error:#}\n\
                 Mend that, then run: forestage-agent update-os-boot\n"
            );
            // With stderr closed there is nobody to tell.
            let _ = std::io::stderr().write_all(text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The work in the boot image, as a child of PID 1. Never returns.
fn worker() -> ! {
    log::start();
    std::panic::set_hook(Box::new(|info| {
        // PID 1 shows the screen; the reason goes where it can be read.
        log::milestone("panic", json!({ "what": info.to_string() }));
        log::flush();
    }));
    let line = command_line::load();
    let mode = line.mode.map_or("none", BootMode::as_str);
    log::milestone(
        "agent-started",
        json!({ "mode": mode, "version": env!("CARGO_PKG_VERSION") }),
    );
    let board = Arc::new(Board::new(Some(Screen::start())));
    board.set_phase(screen::Phase::Starting, "");
    if !clock::wait_until(MODULES_WAIT, || {
        std::fs::exists(MODULES_LOADED).unwrap_or(false)
    }) {
        log::note("the kernel modules take long; going on with what is there");
    }
    let volumes = Arc::new(Volumes::new(Environment::BootImage));
    let trust = load_trust();
    match (line.mode, trust) {
        (Some(BootMode::Stage), trust) => stage::run(&board, &volumes, &trust, line.is_quick),
        (Some(BootMode::Deploy), Ok(trust)) => {
            let laptop = Arc::new(Laptop::in_boot_image(volumes));
            deploy::run(&Site::new(board, laptop, trust))
        }
        (Some(BootMode::Deploy), Err(error)) => {
            let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
            board.fail(
                &chain,
                "the boot image is damaged: have this machine staged anew",
            );
            log::milestone("deploy-failed", json!({ "errors": chain }));
            power::stay()
        }
        (None, _) => {
            let what = "the kernel command line does not say forestage.mode=stage or forestage.mode=deploy";
            board.fail(
                &[what.to_owned()],
                "the boot image was built wrongly: build it again",
            );
            log::milestone("no-mode", json!({}));
            power::stay()
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    #[test]
    fn a_crash_leaves_nothing() {
        // From here on, neither do these tests.
        super::keep_memory_private();
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }
}
