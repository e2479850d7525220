//! On site, in the boot image: check in, run what the server orders, from local content. And go on with an order that
//! is already here without waiting for any network.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sequence::engine::{Journal, RunEnd, World};
use sequence::ports::BootTarget;
use serde_json::json;
use wire::boot_config::Trust;
use wire::device_api::{CheckInReply, RefusedOrder};
use wire::event::{Environment, FinishAction};
use wire::order::Order;

use crate::connection::Connection;
use crate::host::{Host, wait};
use crate::journal::{OrderState, RunJournal, forget_reported, load_order, mark_reported};
use crate::log;
use crate::reporter::Reporter;
use crate::runner::{self, Listeners};
use crate::screen::Phase;
use crate::secrets::Secrets;
use crate::view::Board;
use crate::warrant::{self, NoWarrant};

/// How long the end of a run waits for the server before the machine restarts; later starts report what is left.
pub(crate) const REPORT_WAIT: Duration = Duration::from_secs(20);
/// A run that failed before the power went asks for a newer order first, for so long.
const FAILED_WAIT_MS: u64 = 60_000;
/// Someone who retries a run may stand in front of the machine.
const RETRY_WAIT: Duration = Duration::from_secs(30);
/// A machine with nothing to do asks every minute, unless the server says when.
const IDLE_PAUSE: Duration = Duration::from_secs(60);
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(120);
/// Why there is no network is shown anew this often.
const NETWORK_SHOWN_EVERY: Duration = Duration::from_secs(3);
/// The server says when to ask again, within reason.
const TOLD_SECONDS: std::ops::RangeInclusive<u64> = 5..=3600;

/// What the parts of a deployment share.
pub struct Site {
    pub(crate) board: Arc<Board>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) connection: Arc<Connection>,
}

impl Site {
    pub(crate) fn new(board: Arc<Board>, host: Arc<dyn Host>, trust: Trust) -> Self {
        Self {
            board,
            connection: Arc::new(Connection::new(trust, Arc::clone(&host))),
            host,
        }
    }

    /// A site without a screen.
    #[must_use]
    pub fn in_the_dark(host: Arc<dyn Host>, trust: Trust) -> Self {
        Self::new(Arc::new(Board::new(None)), host, trust)
    }

    pub(crate) fn pause(&self, time: Duration) {
        wait(&*self.host, time, || false);
    }
}

/// Deploys, in the boot image. Never returns.
pub fn run(site: &Site) -> ! {
    site.board.set_machine(&site.host.facts());
    if let Some(url) = site.connection.server_url() {
        site.board.set_server(url);
    }
    if let Err(error) = site.host.mount_staging() {
        let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        site.board.fail(
            &chain,
            "the disk may be damaged: switch off and on again, or have it staged anew",
        );
        log::milestone("deploy-failed", json!({ "errors": chain }));
        site.host.stay();
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
                site.host.stay()
            }
        };
    }
}

/// The order at power-on: the one on the disk if there is work left, else whatever the server says.
fn next_order(site: &Site) -> Order {
    let folder = site.host.folder();
    let stored = match folder.map(|folder| load_order(site.host.files(), &folder)) {
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
            match ask_for_a_while(site) {
                // Nothing tells of a run once another order is on the disk.
                Some(next) if next.run != order.run => {
                    report_finished(site, &order, None);
                    next
                }
                next => next.unwrap_or(order),
            }
        }
        Some((order, OrderState::Unreported)) => {
            report_finished(site, &order, None);
            ask(site, true)
        }
        // Its OS may be half there: it isn't for starting.
        Some((order, OrderState::Stopped)) => {
            report_finished(site, &order, None);
            ask(site, false)
        }
        Some((_, OrderState::Reported)) => ask(site, true),
        None => ask(site, false),
    }
}

/// Asks the server for a newer order than the failed one, but not for long: it may have to be tried without network.
fn ask_for_a_while(site: &Site) -> Option<Order> {
    let end_ms = site.host.uptime_ms() + FAILED_WAIT_MS;
    let mut tries = 0;
    loop {
        wait(&*site.host, left(site, end_ms), || show_network(site));
        if !site.connection.is_online() {
            return None;
        }
        match site.connection.check_in() {
            Ok(CheckInReply::Run { order, .. }) => return Some(order),
            Ok(_) => return None,
            Err(_) => tries += 1,
        }
        let pause = site.connection.retry_pause(tries);
        if pause >= left(site, end_ms) {
            return None;
        }
        site.pause(pause);
    }
}

fn left(site: &Site, end_ms: u64) -> Duration {
    Duration::from_millis(end_ms.saturating_sub(site.host.uptime_ms()))
}

/// Sends what is left of a run that ended; waits for it as long as `limit` says.
pub(crate) fn report_finished(site: &Site, order: &Order, limit: Option<Duration>) -> bool {
    let journal = match RunJournal::open(order.run, Arc::clone(&site.host) as _, None) {
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
        remember_reported(site, order);
    }
    reporter.end();
    site.connection.set_run(None);
    is_reported
}

/// Remembers on the disk that the server has everything.
pub(crate) fn remember_reported(site: &Site, order: &Order) {
    log::milestone("reported", json!({ "run": order.run }));
    let Some(folder) = site.host.folder() else {
        return;
    };
    if let Err(error) = mark_reported(site.host.files(), &folder, order.run) {
        // The worst that follows: the events are sent once more, which is normal.
        log::note(&format!(
            "cannot remember that the run was reported: {error}"
        ));
    }
}

fn show_network(site: &Site) -> bool {
    if site.host.is_online() {
        site.board.set_address(&site.host.address());
        site.board.set_phase(Phase::Contacting, "");
        return true;
    }
    let problem = site.host.network_problem();
    let text = if problem.is_empty() {
        "Checking every few seconds.".to_owned()
    } else {
        format!("{problem}. Checking every few seconds.")
    };
    site.board.set_phase(Phase::WaitingNetwork, &text);
    false
}

fn wait_for_network(site: &Site) {
    if !site.host.is_online() {
        log::milestone(
            "waiting-network",
            json!({ "problem": site.host.network_problem() }),
        );
    }
    while !show_network(site) {
        wait(&*site.host, NETWORK_SHOWN_EVERY, || site.host.is_online());
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
                site.board
                    .set_phase(Phase::Quarantined, &with_key_problem(site, message));
                let seconds = retry_seconds.clamp(*TOLD_SECONDS.start(), *TOLD_SECONDS.end());
                Duration::from_secs(seconds)
            }
            Ok(CheckInReply::Refused { message }) => {
                failures = 0;
                site.board
                    .set_phase(Phase::Refused, &with_key_problem(site, message));
                REFUSED_PAUSE
            }
            Err(error) => {
                failures += 1;
                let text =
                    format!("The server can't be reached; trying again by itself. ({error:#})");
                site.board.set_phase(Phase::Contacting, &text);
                site.connection.retry_pause(failures)
            }
        };
        wait(&*site.host, pause, || !site.host.is_online());
    }
}

/// A machine that isn't let in, perhaps because of its key.
fn with_key_problem(site: &Site, message: String) -> String {
    match site.connection.key_problem() {
        Some(problem) => format!("{message} ({problem})"),
        None => message,
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
    match site.host.set_default_boot(BootTarget::Os) {
        Ok(()) => {
            site.board.set_phase(Phase::RestartingIntoOs, "");
            site.host.restart()
        }
        Err(error) => log::warn("the OS can't be started; waiting for an order", &error),
    }
}

/// Runs an order to its end. Returns the next one, if the machine stays on.
pub(crate) fn execute(site: &Site, order: &Order) -> io::Result<Order> {
    let (end, reporter) = match run_order(site, order, Phase::Deploying) {
        Ok(run) => run,
        Err(NotRun::Journal(error)) => return Err(error),
        Err(NotRun::Refused(why)) => return Ok(wait_for_warrant(site, &why)),
    };
    match end {
        RunEnd::Suspended(environment) => {
            reporter.wait_reported(REPORT_WAIT);
            reporter.end();
            if environment == Environment::Os {
                site.board.set_phase(Phase::RestartingIntoOs, "");
            }
            site.host.restart()
        }
        RunEnd::Done(action) => {
            site.board.set_phase(Phase::DeployDone, "");
            if reporter.wait_reported(REPORT_WAIT) {
                remember_reported(site, order);
            }
            match action {
                FinishAction::ShutDown => site.host.off(),
                FinishAction::Restart => site.host.restart(),
                FinishAction::Stay => {}
            }
            while !reporter.is_reported() {
                site.pause(Duration::from_secs(1));
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
        site.pause(Duration::from_secs(1));
    }
    log::milestone("reported", json!({ "run": order.run }));
    loop {
        site.pause(RETRY_WAIT);
        if !site.connection.is_online() {
            continue;
        }
        match site.connection.check_in() {
            Ok(CheckInReply::Run {
                order: next, go_on, ..
            }) if go_on || next.run != order.run => {
                // Where it isn't let in, nothing is to change either: not the screen, nor what starts next.
                if let Err(why) = warrant::check(&*site.host, &site.connection, &next) {
                    refuse(site, &next, &why);
                    continue;
                }
                log::milestone("goes-on", json!({ "run": next.run }));
                reporter.end();
                return next;
            }
            Ok(_) => {}
            Err(error) => log::warn("no newer order; asking again", &error),
        }
    }
}

/// An order that this machine doesn't take: nothing was written, and it is where it was when it was switched on.
fn wait_for_warrant(site: &Site, why: &NoWarrant) -> Order {
    site.board.set_phase(
        Phase::Refused,
        &format!(
            "{}. Nothing was written; asking again by itself.",
            chain(why)
        ),
    );
    site.pause(REFUSED_PAUSE);
    site.connection.set_run(None);
    next_order(site)
}

/// The server is told at the next check-in.
fn refuse(site: &Site, order: &Order, why: &NoWarrant) {
    let refused = RefusedOrder {
        run: order.run,
        reason: why.reason(),
        text: chain(why),
    };
    log::milestone("order-refused", json!(refused));
    site.connection.set_refused(Some(refused));
}

fn chain(error: &dyn std::error::Error) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source());
    texts
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Why an order was not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRun {
    /// The disk is full or damaged.
    #[error("cannot write the journal")]
    Journal(#[source] io::Error),
    /// It would write over a deployed disk, and nobody has signed that.
    #[error("the order was refused")]
    Refused(#[source] NoWarrant),
}

/// Runs `order` with everything attached, if it may. Used in the boot image and in the OS: every order goes through here.
pub(crate) fn run_order(
    site: &Site,
    order: &Order,
    phase: Phase,
) -> Result<(RunEnd, Arc<Reporter>), NotRun> {
    if let Err(why) = warrant::check(&*site.host, &site.connection, order) {
        refuse(site, order, &why);
        tell_refused(site);
        return Err(NotRun::Refused(why));
    }
    site.connection.set_refused(None);
    run_allowed(site, order, phase).map_err(NotRun::Journal)
}

/// Nobody would hear of it before this machine asks again, and from an installed OS never.
fn tell_refused(site: &Site) {
    if site.connection.is_online()
        && let Err(error) = site.connection.check_in()
    {
        log::warn(
            "the server isn't told yet that its order was refused",
            &error,
        );
    }
}

fn run_allowed(site: &Site, order: &Order, phase: Phase) -> io::Result<(RunEnd, Arc<Reporter>)> {
    site.connection.set_run(Some(order.run));
    let go_on = site.connection.is_to_go_on(order.run);
    if let Some(folder) = site.host.folder().filter(|_| go_on) {
        forget_reported(site.host.files(), &folder, order.run)?;
    }
    let mut journal = RunJournal::open(order.run, Arc::clone(&site.host) as _, Some(order))?;
    site.board.begin_run(
        phase,
        host_name(order),
        order.expected_seconds,
        journal.events(),
    );
    let reporter = Reporter::start(order.run, journal.events(), Arc::clone(&site.connection));
    let listeners = Listeners::new(Arc::clone(&site.board), Some(Arc::clone(&reporter)));
    let world = World {
        machine: &*site.host.machine(Secrets::new(&site.connection, order.run)),
        content: &*site.host.content(order.packages.clone(), &site.connection),
        observer: &listeners,
        clock: &*site.host,
    };
    let end = runner::run(order, &mut journal, &world, go_on)?;
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
