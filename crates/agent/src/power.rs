//! Switching off and restarting, with everything on the disk first.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::system::{RebootCommand, reboot};
use serde_json::json;
use wire::event::Environment;

use crate::machine::volumes::Volumes;
use crate::{clock, log};

/// Switches the machine off.
pub(crate) fn off(volumes: &Volumes) -> ! {
    go(volumes, "powering-off", "poweroff", RebootCommand::PowerOff)
}

/// Restarts the machine.
pub(crate) fn restart(volumes: &Volumes) -> ! {
    go(volumes, "restarting", "reboot", RebootCommand::Restart)
}

fn go(volumes: &Volumes, milestone: &str, verb: &str, command: RebootCommand) -> ! {
    volumes.release_all();
    log::milestone(milestone, json!({}));
    log::flush();
    let is_asked = volumes.environment == Environment::Os
        && Command::new("systemctl")
            .arg(verb)
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
    if is_asked {
        // The OS ends us on its way down; if it does not get there, we go without it.
        clock::pause(Duration::from_secs(120));
        rustix::fs::sync();
    }
    if let Err(error) = reboot(command) {
        log::note(&format!("the kernel refused to {verb}: {error}"));
    }
    stay()
}

/// Stays as it is, screen and all, until someone switches off.
pub(crate) fn stay() -> ! {
    loop {
        clock::pause(Duration::from_secs(3600));
    }
}
