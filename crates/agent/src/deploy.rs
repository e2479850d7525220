//! On site, in the boot image: check in, run what the server orders, from local content. And go on with an order that
//! is already here without waiting for any network.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use sequence::engine::{Journal, RunEnd};
use serde_json::json;
use wire::device_api::CheckInReply;
use wire::event::{Environment, FinishAction};
use wire::layout::VolumeRole;
use wire::order::Order;

use crate::connection::Connection;
use crate::content_port::RunContent;
use crate::journal::{OrderState, RunJournal, forget_reported, load_order, mark_reported};
use crate::machine::boot;
use crate::machine::linux::LinuxMachine;
use crate::machine::volumes::Volumes;
use crate::reporter::{Reporter, retry_pause};
use crate::runner::{self, Listeners};
use crate::screen::Phase;
use crate::view::Board;
use crate::{clock, log, power};

/// A disk that is there shows within seconds; a blank machine must not wait longer.
const DISK_WAIT: Duration = Duration::from_secs(20);
/// How long the end of a run waits for the server before the machine restarts; later starts report what is left.
pub(crate) const REPORT_WAIT: Duration = Duration::from_secs(20);
/// A run that failed before the power went asks for a newer order first, for so long.
const FAILED_WAIT: Duration = Duration::from_secs(60);
/// Someone who retries a run may stand in front of the machine.
const RETRY_WAIT: Duration = Duration::from_secs(30);
/// A machine with nothing to do asks every minute, unless the server says when.
const IDLE_PAUSE: Duration = Duration::from_secs(60);
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// The server says when to ask again, within reason.
const TOLD_SECONDS: std::ops::RangeInclusive<u64> = 5..=3600;

/// What the parts of a deployment share.
pub(crate) struct Site {
    pub(crate) board: Arc<Board>,
    pub(crate) volumes: Arc<Volumes>,
    pub(crate) connection: Arc<Connection>,
}

/// Deploys, in the boot image. Never returns.
pub(crate) fn run(site: &Site) -> ! {
    site.board.set_machine(&site.volumes.kernel.facts());
    if let Some(url) = site.connection.server_url() {
        site.board.set_server(url);
    }
    if let Err(error) = mount_staging_if_there(&site.volumes) {
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        site.board.fail(
            &chain,
            "the disk may be damaged: switch off and on again, or have it staged anew",
        );
        log::milestone("deploy-failed", json!({ "errors": chain }));
        power::stay();
    }
    let mut order = next_order(site);
    loop {
        order = match execute(site, &order) {
            Ok(next) => next,
            Err(error) => {
                let chain = vec![
                    "cannot write the journal: nothing further was done".to_owned(),
                    error.to_string(),
                ];
                site.board.fail(
                    &chain,
                    "the disk is full or damaged: switch off and on again, or have it staged anew",
                );
                log::milestone("deploy-failed", json!({ "errors": chain }));
                power::stay()
            }
        };
    }
}

fn mount_staging_if_there(volumes: &Volumes) -> Result<()> {
    let is_there = clock::wait_until(DISK_WAIT, || {
        matches!(volumes.find(VolumeRole::Staging), Ok(Some(_)))
    });
    if is_there {
        volumes.mount_staging()?;
    } else if let Err(error) = volumes.own_disk() {
        return Err(error);
    } else {
        log::note("no staging partition: this machine was not staged, or has another disk");
    }
    Ok(())
}

/// The order at power-on: the one on the disk if there is work left, else whatever the server says.
fn next_order(site: &Site) -> Order {
    let stored = match site.volumes.staging().map(load_order) {
        Some(Ok(stored)) => stored,
        Some(Err(error)) => {
            log::note(&format!(
                "the order on the disk can't be read; asking the server: {error}"
            ));
            None
        }
        None => None,
    };
    match stored {
        Some((order, OrderState::Unfinished)) => order,
        Some((order, OrderState::Failed)) => {
            site.connection.set_run(Some(order.run));
            ask_for_a_while(site).unwrap_or(order)
        }
        Some((order, OrderState::Unreported | OrderState::Stopped)) => {
            report_finished(site, &order, None);
            ask(site, true)
        }
        Some((_, OrderState::Reported)) => ask(site, true),
        None => ask(site, false),
    }
}

/// Asks the server for a newer order than the failed one, but not for long: it may have to be tried without network.
fn ask_for_a_while(site: &Site) -> Option<Order> {
    let mut tries = 0;
    let mut found = None;
    let mut next_ms = 0;
    clock::wait_until(FAILED_WAIT, || {
        show_network(site);
        if !site.connection.network().is_up() || clock::uptime_ms() < next_ms {
            return false;
        }
        tries += 1;
        next_ms =
            clock::uptime_ms() + u64::try_from(retry_pause(tries).as_millis()).unwrap_or(1000);
        match site.connection.check_in() {
            Ok(CheckInReply::Run { order, .. }) => {
                found = Some(order);
                true
            }
            Ok(_) => true,
            Err(_) => false,
        }
    });
    found
}

/// Sends what is left of a run that ended; waits for it as long as `limit` says.
pub(crate) fn report_finished(site: &Site, order: &Order, limit: Option<Duration>) -> bool {
    let Some(folder) = site.volumes.staging() else {
        return false;
    };
    let journal = match RunJournal::open(order.run, Arc::clone(&site.volumes) as _, None) {
        Ok(journal) => journal,
        Err(error) => {
            log::note(&format!(
                "the journal of the last run can't be read: {error}"
            ));
            return false;
        }
    };
    site.connection.set_run(Some(order.run));
    let reporter = Reporter::start(order.run, journal.events(), Arc::clone(&site.connection));
    let is_reported = loop {
        show_network(site);
        if reporter.wait_reported(limit.unwrap_or(Duration::from_secs(1))) {
            break true;
        }
        if limit.is_some() {
            break false;
        }
    };
    if is_reported {
        remember_reported(folder, order);
    }
    reporter.end();
    site.connection.set_run(None);
    is_reported
}

/// Remembers on the disk that the server has everything.
pub(crate) fn remember_reported(folder: &camino::Utf8Path, order: &Order) {
    log::milestone("reported", json!({ "run": order.run }));
    if let Err(error) = mark_reported(folder, order.run) {
        // The worst that follows: the events are sent once more, which is normal.
        log::note(&format!(
            "cannot remember that the run was reported: {error}"
        ));
    }
}

fn show_network(site: &Site) -> bool {
    let network = site.connection.network();
    if network.is_up() {
        site.board.set_address(&network.address());
        site.board.set_phase(Phase::Contacting, "");
        return true;
    }
    let problem = network.problem();
    let text = if problem.is_empty() {
        "Checking every few seconds.".to_owned()
    } else {
        format!("{problem}. Checking every few seconds.")
    };
    site.board.set_phase(Phase::WaitingNetwork, &text);
    false
}

fn wait_for_network(site: &Site) {
    if !site.connection.network().is_up() {
        log::milestone(
            "waiting-network",
            json!({ "problem": site.connection.network().problem() }),
        );
    }
    while !show_network(site) {
        clock::pause(Duration::from_millis(300));
    }
}

/// Asks the server until it has an order. A machine whose OS is finished goes there instead of waiting.
fn ask(site: &Site, is_finished: bool) -> Order {
    let mut failures = 0;
    loop {
        wait_for_network(site);
        let pause = match site.connection.check_in() {
            Ok(CheckInReply::Run { order, .. }) => return order,
            Ok(CheckInReply::Idle {
                message,
                retry_seconds,
                ..
            }) => {
                failures = 0;
                // One that is told when to ask again waits for its turn.
                if is_finished && retry_seconds.is_none() {
                    start_os(site);
                }
                site.board.set_phase(Phase::Idle, &message);
                idle_pause(retry_seconds)
            }
            Ok(CheckInReply::Quarantined {
                message,
                retry_seconds,
            }) => {
                failures = 0;
                site.board.set_phase(Phase::Quarantined, &message);
                let seconds = retry_seconds.clamp(*TOLD_SECONDS.start(), *TOLD_SECONDS.end());
                Duration::from_secs(seconds)
            }
            Ok(CheckInReply::Refused { message }) => {
                failures = 0;
                site.board.set_phase(Phase::Refused, &message);
                REFUSED_PAUSE
            }
            Err(error) => {
                failures += 1;
                let text =
                    format!("The server can't be reached; trying again by itself. ({error:#})");
                site.board.set_phase(Phase::Contacting, &text);
                retry_pause(failures)
            }
        };
        clock::wait_until(pause, || !site.connection.network().is_up());
    }
}

/// How long a machine with nothing to do waits before it asks again.
fn idle_pause(told_seconds: Option<u64>) -> Duration {
    told_seconds.map_or(IDLE_PAUSE, |seconds| {
        Duration::from_secs(seconds.clamp(*TOLD_SECONDS.start(), *TOLD_SECONDS.end()))
    })
}

/// The run is finished and nothing is to be done: the OS is what this machine is for.
fn start_os(site: &Site) {
    match boot::set_default(&site.volumes, true) {
        Ok(()) => {
            site.board.set_phase(Phase::RestartingIntoOs, "");
            power::restart(&site.volumes)
        }
        Err(error) => log::warn("the OS can't be started; waiting for an order", &error),
    }
}

/// Runs an order to its end. Returns the next one, if the machine stays on.
fn execute(site: &Site, order: &Order) -> io::Result<Order> {
    let (end, reporter) = run_order(site, order, Phase::Deploying)?;
    match end {
        RunEnd::Suspended(environment) => {
            reporter.wait_reported(REPORT_WAIT);
            reporter.end();
            if environment == Environment::Os {
                site.board.set_phase(Phase::RestartingIntoOs, "");
            }
            power::restart(&site.volumes)
        }
        RunEnd::Done(action) => {
            site.board.set_phase(Phase::DeployDone, "");
            if reporter.wait_reported(REPORT_WAIT)
                && let Some(folder) = site.volumes.staging()
            {
                remember_reported(folder, order);
            }
            match action {
                FinishAction::ShutDown => power::off(&site.volumes),
                FinishAction::Restart => power::restart(&site.volumes),
                FinishAction::Stay => {}
            }
            while !reporter.is_reported() {
                clock::pause(Duration::from_secs(1));
            }
            reporter.end();
            site.connection.set_run(None);
            Ok(ask(site, true))
        }
        RunEnd::Failed | RunEnd::Aborted => {
            if end == RunEnd::Aborted {
                site.board.stopped();
            }
            Ok(wait_for_another(site, order, &reporter))
        }
    }
}

/// After a failure or a stop: the screen stays, what happened is reported, and then the server is asked twice a
/// minute: for a new order, or whether to go on with this one.
pub(crate) fn wait_for_another(site: &Site, order: &Order, reporter: &Reporter) -> Order {
    while !reporter.is_reported() {
        clock::pause(Duration::from_secs(1));
    }
    log::milestone("reported", json!({ "run": order.run }));
    loop {
        clock::pause(RETRY_WAIT);
        if !site.connection.network().is_up() {
            continue;
        }
        match site.connection.check_in() {
            Ok(CheckInReply::Run {
                order: next, go_on, ..
            }) if go_on || next.run != order.run => {
                log::milestone("goes-on", json!({ "run": next.run }));
                reporter.end();
                return next;
            }
            Ok(_) => {}
            Err(error) => log::warn("no newer order; asking again", &error),
        }
    }
}

/// Runs `order` with everything attached. Used in the boot image and in the OS.
pub(crate) fn run_order(
    site: &Site,
    order: &Order,
    phase: Phase,
) -> io::Result<(RunEnd, Arc<Reporter>)> {
    site.connection.set_run(Some(order.run));
    let go_on = site.connection.is_to_go_on(order.run);
    if let Some(folder) = site.volumes.staging().filter(|_| go_on) {
        forget_reported(folder, order.run)?;
    }
    let mut journal = RunJournal::open(order.run, Arc::clone(&site.volumes) as _, Some(order))?;
    site.board.begin_run(
        phase,
        host_name(order),
        order.expected_seconds,
        journal.events(),
    );
    let reporter = Reporter::start(order.run, journal.events(), Arc::clone(&site.connection));
    let machine = LinuxMachine::new(Arc::clone(&site.volumes));
    let packages = order.packages.clone();
    let content = RunContent::on_site(
        packages,
        Arc::clone(&site.volumes),
        Arc::clone(&site.connection),
    );
    let listeners = Listeners::new(Arc::clone(&site.board), Some(Arc::clone(&reporter)));
    let end = runner::run(order, &mut journal, &machine, &content, &listeners, go_on)?;
    if let Err(error) = site.connection.store_key() {
        log::warn("the device's key is not on the disk", &error);
    }
    Ok((end, reporter))
}

/// The name of the machine, if the order already says it.
fn host_name(order: &Order) -> Option<String> {
    ["hostname", "name"]
        .iter()
        .find_map(|key| order.variables.get(*key)?.as_str().map(str::to_owned))
}
