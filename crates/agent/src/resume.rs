//! In the installed OS: finishes the run that began in the boot image, reports it, and takes itself out of the way.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use camino::Utf8Path;
use sequence::engine::RunEnd;
use serde_json::json;
use wire::event::{Environment, FinishAction};
use wire::order::Order;

use crate::connection::{Connection, load_trust};
use crate::deploy::{self, Site};
use crate::journal::{OrderState, load_order};
use crate::machine::boot;
use crate::machine::linux::LinuxMachine;
use crate::machine::target::Target;
use crate::machine::volumes::Volumes;
use crate::network::Network;
use crate::reporter::Reporter;
use crate::screen::Phase;
use crate::view::Board;
use crate::{clock, log, power};

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
    let volumes = Arc::new(Volumes::new(Environment::Os));
    // A power cut in the middle of a package may have left it; services are to start from now on.
    LinuxMachine::remove_policy(&Target::open(Utf8Path::new("/"))?)?;
    let folder = volumes.mount_staging()?.to_owned();
    let Some((order, state)) = load_order(&folder).context("cannot read the order")? else {
        return boot::disable_agent();
    };
    let network = Network::of_os(volumes.kernel.clone());
    let connection = Arc::new(Connection::new(
        load_trust()?,
        Arc::clone(&volumes),
        network,
    ));
    let site = Site {
        board: Arc::new(Board::new(None)),
        volumes,
        connection,
    };
    match state {
        OrderState::Reported => boot::disable_agent(),
        OrderState::Unreported => {
            deploy::report_finished(&site, &order, None);
            boot::disable_agent()
        }
        OrderState::Unfinished | OrderState::Failed | OrderState::Stopped => {
            finish(&site, order, &folder)
        }
    }
}

fn finish(site: &Site, mut order: Order, folder: &Utf8Path) -> Result<()> {
    log::milestone("resumed-in-os", json!({ "run": order.run }));
    let (end, reporter) = loop {
        let (end, reporter) = deploy::run_order(site, &order, Phase::Deploying)
            .context("cannot write the journal")?;
        if !matches!(end, RunEnd::Failed | RunEnd::Aborted) {
            break (end, reporter);
        }
        // The service stays enabled: the next start tries a failed run again, and asks for one that was stopped.
        let next = deploy::wait_for_another(site, &order, &reporter);
        if next.run != order.run {
            // It begins with the disk, which can't be laid out from here.
            boot::set_default(&site.volumes, false)?;
            power::restart(&site.volumes)
        }
        order = next;
    };
    match end {
        RunEnd::Done(FinishAction::Stay) => {
            wait_long(&reporter);
            deploy::remember_reported(folder, &order);
            boot::disable_agent()?;
        }
        RunEnd::Done(action) => {
            if reporter.wait_reported(deploy::REPORT_WAIT) {
                deploy::remember_reported(folder, &order);
                boot::disable_agent()?;
            }
            if action == FinishAction::ShutDown {
                power::off(&site.volumes)
            } else {
                power::restart(&site.volumes)
            }
        }
        RunEnd::Suspended(_) => {
            reporter.wait_reported(deploy::REPORT_WAIT);
            power::restart(&site.volumes)
        }
        RunEnd::Failed | RunEnd::Aborted => {}
    }
    reporter.end();
    Ok(())
}

/// The OS is up and in use; this waits for the server as long as it takes.
fn wait_long(reporter: &Reporter) {
    while !reporter.is_reported() {
        clock::pause(Duration::from_secs(1));
    }
}
