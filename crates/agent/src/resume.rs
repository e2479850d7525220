//! In the installed OS: finishes the run that began in the boot image, reports it, and takes itself out of the way.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use camino::Utf8Path;
use sequence::engine::RunEnd;
use sequence::ports::BootTarget;
use serde_json::json;
use wire::event::FinishAction;
use wire::order::Order;

use crate::connection::load_trust;
use crate::deploy::{self, NotRun, Site};
use crate::host::wait;
use crate::journal::{OrderState, load_order};
use crate::laptop::Laptop;
use crate::log;
use crate::machine::linux::LinuxMachine;
use crate::machine::target::Target;
use crate::reporter::Reporter;
use crate::screen::Phase;

/// Goes on with the run on the staging partition.
pub(crate) fn run() -> ExitCode {
    log::start();
    log::milestone(
        "agent-started",
        json!({ "mode": "resume", "version": env!("CARGO_PKG_VERSION") }),
    );
    let result = resume();
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::milestone("resume-failed", json!({ "error": format!("{error:#}") }));
            // systemd starts the service again after a pause.
            ExitCode::FAILURE
        }
    };
    log::flush();
    code
}

fn resume() -> Result<()> {
    // A power cut in the middle of a package may have left it; services are to start from now on.
    LinuxMachine::remove_policy(&Target::open(Utf8Path::new("/"))?)?;
    go_on(&Site::in_the_dark(Arc::new(Laptop::in_os()), load_trust()?))
}

/// Goes on with the run on the staging partition, until the machine restarts or nothing is left to do.
///
/// # Errors
/// What is on the disk can't be read or written.
pub fn go_on(site: &Site) -> Result<()> {
    let host = &site.host;
    let folder = host.mount_staging()?.context("no staging partition")?;
    let Some((order, state)) =
        load_order(host.files(), &folder).context("cannot read the order")?
    else {
        return host.disable_agent();
    };
    match state {
        OrderState::Reported => host.disable_agent(),
        OrderState::Unreported => {
            deploy::report_finished(site, &order, None);
            host.disable_agent()
        }
        OrderState::Unfinished | OrderState::Failed | OrderState::Stopped => finish(site, order),
    }
}

fn finish(site: &Site, mut order: Order) -> Result<()> {
    log::milestone("resumed-in-os", json!({ "run": order.run }));
    let (end, reporter) = loop {
        let ended = deploy::run_order(site, &order, Phase::Deploying);
        if matches!(ended, Err(NotRun::Refused(_))) {
            // The OS starts us again at once.
            site.pause(deploy::REFUSED_PAUSE);
        }
        let (end, reporter) = ended?;
        if !matches!(end, RunEnd::Failed | RunEnd::Aborted) {
            break (end, reporter);
        }
        // The service stays enabled: the next start tries a failed run again, and asks for one that was stopped.
        let next = deploy::wait_for_another(site, &order, &reporter);
        if next.run != order.run {
            // It begins with the disk, which can't be laid out from here.
            site.host.set_default_boot(BootTarget::BootImage)?;
            site.host.restart()
        }
        order = next;
    };
    match end {
        RunEnd::Done(FinishAction::Stay) => {
            wait_long(site, &reporter);
            deploy::remember_reported(site, &order);
            site.host.disable_agent()?;
        }
        RunEnd::Done(action) => {
            if reporter.wait_reported(deploy::REPORT_WAIT) {
                deploy::remember_reported(site, &order);
                site.host.disable_agent()?;
            }
            if action == FinishAction::ShutDown {
                site.host.off()
            } else {
                site.host.restart()
            }
        }
        RunEnd::Suspended(_) => {
            reporter.wait_reported(deploy::REPORT_WAIT);
            site.host.restart()
        }
        RunEnd::Failed | RunEnd::Aborted => {}
    }
    reporter.end();
    Ok(())
}

/// The OS is up and in use; this waits for the server as long as it takes.
fn wait_long(site: &Site, reporter: &Reporter) {
    while !reporter.is_reported() {
        wait(&*site.host, Duration::from_secs(60), || {
            reporter.is_reported()
        });
    }
}
