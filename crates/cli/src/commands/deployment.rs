//! `forestage deployment`: which collection runs which sequence.

mod life;

use std::io::{IsTerminal as _, Write as _};

use clap::{Args, Subcommand};
use wire::admin_api::{Deployment as Row, Purpose};
use wire::deployments::{
    ApproveRequest, CapRequest, DailyHours, DeclineRequest, DeviceList, ResumeRequest, StopRequest,
    Window,
};
use wire::names::{CollectionName, DeploymentName, SequenceName};

use crate::commands::device;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, seconds};
use crate::settings::connect;

/// A run that is expected to take longer than a week is a typing error.
const EXPECTED_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Which collection runs which sequence.
#[derive(Debug, Subcommand)]
pub(crate) enum Deployment {
    /// Create a deployment: the devices of a collection run a sequence
    ///
    /// A name that is taken is refused; `deployment change` changes what exists. A required deployment (the default) runs without a key press. The cap is how many devices it may ever touch:
    /// beyond it the deployment stops and asks, so that a mistake in a collection can't wipe a fleet.
    #[command(after_help = "Example:\n\
            \x20 forestage deployment create autumn-2026 --collection pupils-2026 --sequence pupil-laptop \\\n\
            \x20     --expected 16m --cap 40")]
    Create(Create),
    /// Change a deployment; what isn't named stays as it is
    ///
    /// Whether it is stopped stays, too: `stop` and `resume` are for that. One that isn't stopped and writes over disks
    /// is confirmed, and so is a cap that is raised.
    #[command(
        after_help = "Example:\n  forestage deployment change autumn-2026 --expected 20m --daily 16:00-06:00"
    )]
    Change(Change),
    /// List all deployments
    #[command(after_help = "Example:\n  forestage deployment list")]
    List,
    /// Show what a deployment would do, before it is made
    ///
    /// How many machines, which of them are held back and why, which models lack a prestage or drivers, and the words
    /// that confirm it.
    #[command(after_help = "Example:\n\
            \x20 forestage deployment preview autumn-2026 --collection pupils-2026 --sequence pupil-laptop \\\n\
            \x20     --expected 16m --cap 40")]
    Preview(Create),
    /// Show how a deployment stands; with `--watch` again and again until nothing is left to do
    #[command(
        name = "status",
        alias = "show",
        after_help = "Example:\n  forestage deployment status autumn-2026 --watch"
    )]
    Status {
        /// The deployment
        name: DeploymentName,
        /// Again every two seconds, until nothing is due and nothing runs
        #[arg(long)]
        watch: bool,
    },
    /// Stop a deployment: no device begins it any more, and running ones stop at once
    #[command(
        after_help = "Example:\n  forestage deployment stop autumn-2026 --let-running-finish"
    )]
    Stop {
        /// The deployment
        name: DeploymentName,
        /// Runs that have begun go on to their end
        #[arg(long)]
        let_running_finish: bool,
    },
    /// Let a stopped deployment go on; runs that were stopped with it go on where they were
    ///
    /// One that writes over disks is confirmed; `deployment status` shows the words.
    #[command(
        after_help = "Example:\n  forestage deployment resume autumn-2026 --confirm \"autumn-2026 38\""
    )]
    Resume {
        /// The deployment
        name: DeploymentName,
        /// The words `NAME NUMBER`, for one that writes over disks; asked for at a terminal
        #[arg(long, default_value = "", hide_default_value = true)]
        confirm: String,
    },
    /// Change how many devices a deployment may touch; raising it wants a confirmation
    #[command(
        after_help = "Example:\n  forestage deployment raise-cap autumn-2026 2600 --confirm \"autumn-2026 2600\""
    )]
    RaiseCap {
        /// The deployment
        name: DeploymentName,
        /// How many devices it may touch
        cap: u32,
        /// The words `NAME CAP`; asked for at a terminal
        #[arg(long, default_value = "", hide_default_value = true)]
        confirm: String,
    },
    /// Approve what another administrator asked of a deployment; it is done at once
    ///
    /// Where the server wants a second person for mass actions (`serve --second-person-above`), a deployment that writes over
    /// disks stays as it is until somebody else than the one who asked approves. `deployment status` shows what awaits it.
    #[command(
        after_help = "Example:\n  forestage deployment approve autumn-2026 --confirm \"autumn-2026 2600\""
    )]
    Approve {
        /// The deployment
        name: DeploymentName,
        /// The words `NAME MACHINES`; asked for at a terminal
        #[arg(long, default_value = "", hide_default_value = true)]
        confirm: String,
    },
    /// Decline what was asked of a deployment, or take back what you asked yourself
    #[command(
        after_help = "Example:\n  forestage deployment decline autumn-2026 --reason \"after the exams\""
    )]
    Decline {
        /// The deployment
        name: DeploymentName,
        /// Why, for the audit
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Have an available deployment begin on devices
    #[command(after_help = "Example:\n  forestage deployment start reset-2026 PF3ABC12")]
    Start {
        #[command(flatten)]
        on: OnDevices,
        /// `NAME COUNT`, for a deployment that writes over disks
        #[arg(long, default_value = "", hide_default_value = true)]
        confirm: String,
    },
    /// Have a deployment leave devices alone; one that runs it stops at once
    #[command(after_help = "Example:\n  forestage deployment cancel autumn-2026 PF3ABC12")]
    Cancel(OnDevices),
    /// Take a cancellation back: the deployment may begin on these devices again
    ///
    /// A run that the cancellation stopped stays stopped: `run retry` has it go on.
    #[command(
        after_help = "Example:\n  forestage deployment uncancel autumn-2026 PF3ABC12 --confirm \"autumn-2026 1\""
    )]
    Uncancel {
        #[command(flatten)]
        on: OnDevices,
        /// `NAME COUNT`, for a deployment that writes over disks; asked for at a terminal
        #[arg(long, default_value = "", hide_default_value = true)]
        confirm: String,
    },
    /// Have every failed run of a deployment go on where it failed
    #[command(after_help = "Example:\n  forestage deployment retry-failed autumn-2026")]
    RetryFailed {
        /// The deployment
        name: DeploymentName,
    },
}

/// A deployment and some devices.
#[derive(Debug, Args)]
pub(crate) struct OnDevices {
    /// The deployment
    name: DeploymentName,
    /// Serial numbers
    #[arg(required = true, value_name = "SERIAL")]
    serials: Vec<String>,
}

/// `deployment create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: small letters, digits and - _ . +
    name: DeploymentName,
    /// The devices
    #[arg(long, value_name = "NAME")]
    collection: CollectionName,
    /// The task sequence they run
    #[arg(long, value_name = "NAME")]
    sequence: SequenceName,
    /// How long a run is expected to take, such as 90s, 16m or 1h30m; left out: as the sites say, or as earlier runs took
    #[arg(long, value_name = "TIME", value_parser = parse_expected, default_value = "0", hide_default_value = true)]
    expected: u64,
    /// How many devices it may ever touch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cap: u32,
    /// It begins on a machine when someone starts it for that machine, instead of by itself
    #[arg(long)]
    available: bool,
    /// Devices stay in the collection when their run is done: what is deployed to it next reaches them, too
    #[arg(long)]
    stay_in_collection: bool,
    /// How many machines run it at a time, over all sites; 0 for no limit
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    slots: u32,
    /// No device begins before, such as 2026-08-17T07:00+02:00
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    starts: Option<i64>,
    /// No device begins from then on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    ends: Option<i64>,
    /// Devices begin in these hours only, in the time zone of their site
    #[arg(long, value_name = "HH:MM-HH:MM")]
    daily: Option<DailyHours>,
    /// For one that writes over disks: the words `NAME NUMBER` that `preview` shows; asked for at a terminal
    #[arg(long, default_value = "", hide_default_value = true)]
    confirm: String,
}

/// `deployment change`
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// The deployment
    name: DeploymentName,
    /// The devices
    #[arg(long, value_name = "NAME")]
    collection: Option<CollectionName>,
    /// The task sequence they run
    #[arg(long, value_name = "NAME")]
    sequence: Option<SequenceName>,
    /// How long a run is expected to take, such as 90s, 16m or 1h30m; 0: as the sites say, or as earlier runs took
    #[arg(long, value_name = "TIME", value_parser = parse_expected)]
    expected: Option<u64>,
    /// How many devices it may ever touch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cap: Option<u32>,
    /// Whether it begins when someone starts it for a machine (`available`) or by itself (`required`)
    #[arg(long, value_parser = ["available", "required"])]
    purpose: Option<String>,
    /// Whether devices stay in the collection when their run is done
    #[arg(long, value_name = "true|false")]
    stay_in_collection: Option<bool>,
    /// How many machines run it at a time, over all sites; 0 for no limit
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// No device begins before, such as 2026-08-17T07:00+02:00
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    starts: Option<i64>,
    /// No device begins from then on
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    ends: Option<i64>,
    /// Devices begin in these hours only, in the time zone of their site
    #[arg(long, value_name = "HH:MM-HH:MM")]
    daily: Option<DailyHours>,
    /// It has no window: devices begin at any time
    #[arg(long, conflicts_with_all = ["starts", "ends", "daily"])]
    no_window: bool,
    /// The words that are asked for at a terminal
    #[arg(long, default_value = "", hide_default_value = true)]
    confirm: String,
}

/// Does what was asked.
pub(crate) fn run(command: &Deployment, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Deployment::Create(create) => {
            let row = create.row();
            let doing = || format!("cannot create the deployment {}", row.name);
            let preview = client.preview_deployment(&row).trying(doing)?;
            let typed = typed(&create.confirm, preview.confirm.as_deref())?;
            let row = client.create_deployment(&row, &typed).trying(doing)?;
            output.answer(&row, |_| {
                let warnings: String = preview
                    .warnings
                    .iter()
                    .map(|warning| format!("  note: {}\n", clean(warning)))
                    .collect();
                format!(
                    "deployment {}: {} runs {}, at most {} devices\n{}{warnings}",
                    row.name,
                    row.collection,
                    row.sequence,
                    row.cap,
                    life::awaits(&row)
                )
            })
        }
        Deployment::Change(change) => {
            let doing = || format!("cannot change the deployment {}", change.name);
            let mut all = client.deployments().trying(doing)?.into_iter();
            let before = all.find(|row| row.name == change.name).ok_or_else(|| {
                Failure::new(doing())
                    .because("there is no such deployment")
                    .hint("`forestage deployment list` shows all")
            })?;
            let row = change.row(before);
            let preview = client.preview_deployment(&row).trying(doing)?;
            let typed = typed(&change.confirm, preview.confirm.as_deref())?;
            let row = client.change_deployment(&row, &typed).trying(doing)?;
            output.answer(&row, |look| {
                let awaits = match preview.second_person {
                    true => life::awaits(&row),
                    false => String::new(),
                };
                render_list(std::slice::from_ref(&row), look) + &awaits
            })
        }
        Deployment::Preview(create) => {
            let preview = client
                .preview_deployment(&create.row())
                .trying(|| format!("cannot preview the deployment {}", create.name))?;
            output.answer(&preview, |look| life::render_preview(&preview, look))
        }
        Deployment::Status { name, watch } => life::status(&client, name, *watch, output),
        Deployment::List => {
            let rows = client
                .deployments()
                .trying(|| "cannot list deployments".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Deployment::Stop {
            name,
            let_running_finish,
        } => {
            let request = StopRequest {
                let_running_finish: *let_running_finish,
            };
            let row = client
                .stop_deployment(name, &request)
                .trying(|| format!("cannot stop the deployment {name}"))?;
            output.answer(&row, |_| {
                let running = match let_running_finish {
                    true => "running ones finish",
                    false => "running ones stop at once",
                };
                format!("deployment {name} stopped: no device gets an order from it any more, {running}\n")
            })
        }
        Deployment::Resume { name, confirm } => {
            let doing = || format!("cannot resume the deployment {name}");
            let status = client.deployment_status(name).trying(doing)?;
            let request = ResumeRequest {
                confirm: typed(confirm, status.confirm_resume.as_deref())?,
            };
            let row = client.resume_deployment(name, &request).trying(doing)?;
            let waiting = client.deployment_status(name).trying(doing)?.approval;
            output.answer(&row, |_| match waiting {
                Some(_) => life::approved_first(name),
                None => format!("deployment {name} goes on\n"),
            })
        }
        Deployment::RaiseCap { name, cap, confirm } => {
            let request = CapRequest {
                cap: *cap,
                confirm: typed(confirm, Some(&format!("{name} {cap}")))?,
            };
            let status = client
                .change_cap(name, &request)
                .trying(|| format!("cannot change the cap of {name}"))?;
            output.answer(&status, |look| life::render_status(&status, look))
        }
        Deployment::Approve { name, confirm } => {
            let doing = || format!("cannot approve what was asked of {name}");
            let status = client.deployment_status(name).trying(doing)?;
            let words = status.approval.map(|approval| approval.confirm);
            let request = ApproveRequest {
                confirm: typed(confirm, words.as_deref())?,
            };
            let status = client.approve_deployment(name, &request).trying(doing)?;
            output.answer(&status, |look| life::render_status(&status, look))
        }
        Deployment::Decline { name, reason } => {
            let request = DeclineRequest {
                reason: reason.clone(),
            };
            let status = client
                .decline_deployment(name, &request)
                .trying(|| format!("cannot decline what was asked of {name}"))?;
            output.answer(&status, |look| life::render_status(&status, look))
        }
        Deployment::Start { on, confirm } => {
            let devices = DeviceList {
                devices: device::find_all(&client, &on.serials)?,
                confirm: confirm.clone(),
            };
            let acted = client
                .start_deployment(&on.name, &devices)
                .trying(|| format!("cannot start {}", on.name))?;
            output.answer(&acted, |_| life::render_acted(&acted, "begins"))
        }
        Deployment::Cancel(on) => {
            let devices = DeviceList {
                devices: device::find_all(&client, &on.serials)?,
                ..DeviceList::default()
            };
            let acted = client
                .cancel_deployment(&on.name, &devices)
                .trying(|| format!("cannot cancel {}", on.name))?;
            output.answer(&acted, |_| life::render_acted(&acted, "cancelled"))
        }
        Deployment::Uncancel { on, confirm } => {
            let doing = || format!("cannot let {} begin again", on.name);
            let status = client.deployment_status(&on.name).trying(doing)?;
            let words = format!("{} {}", on.name, on.serials.len());
            let devices = DeviceList {
                devices: device::find_all(&client, &on.serials)?,
                confirm: typed(confirm, status.wipes.then_some(words.as_str()))?,
            };
            let acted = client
                .uncancel_deployment(&on.name, &devices)
                .trying(doing)?;
            output.answer(&acted, |_| life::render_acted(&acted, "may begin"))
        }
        Deployment::RetryFailed { name } => {
            let acted = client
                .retry_failed(name)
                .trying(|| format!("cannot retry the failed runs of {name}"))?;
            output.answer(&acted, |_| life::render_acted(&acted, "goes on"))
        }
    }
}

/// The words that confirm something: given, or typed at a terminal. What nobody is there to type is refused.
pub(crate) fn typed(given: &str, wanted: Option<&str>) -> Outcome<String> {
    let Some(wanted) = wanted else {
        return Ok(given.to_owned());
    };
    if !given.is_empty() || !std::io::stdin().is_terminal() {
        if given.trim() == wanted {
            return Ok(given.to_owned());
        }
        return Err(Failure::refused("this must be confirmed")
            .because("it writes over disks, or touches more machines than before")
            .hint(format!(
                "look at the preview, then add --confirm \"{wanted}\""
            )));
    }
    // Nobody reads what is written here if stderr is gone; the answer is checked all the same.
    let _ = write!(
        std::io::stderr(),
        "This writes over disks. Type \"{wanted}\" to go on: "
    );
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(|error| Failure::new("cannot read your answer").because(error))?;
    Ok(line.trim().to_owned())
}

fn parse_time(text: &str) -> Result<i64, String> {
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_millisecond)
        .map_err(|_| format!("{text:?} is not a time such as 2026-08-17T07:00+02:00"))
}

impl Create {
    fn row(&self) -> Row {
        Row {
            name: self.name.clone(),
            collection: self.collection.clone(),
            sequence: self.sequence.clone(),
            purpose: if self.available {
                Purpose::Available
            } else {
                Purpose::Required
            },
            expected_seconds: self.expected,
            leave_collection_on_success: !self.stay_in_collection,
            cap: self.cap,
            stopped: false,
            slots: self.slots,
            window: (self.starts.is_some() || self.ends.is_some() || self.daily.is_some())
                .then_some(Window {
                    starts_at_ms: self.starts,
                    ends_at_ms: self.ends,
                    daily: self.daily,
                }),
        }
    }
}

impl Change {
    fn row(&self, before: Row) -> Row {
        let was = before.window.unwrap_or_default();
        let window = match self.no_window {
            true => Window::default(),
            false => Window {
                starts_at_ms: self.starts.or(was.starts_at_ms),
                ends_at_ms: self.ends.or(was.ends_at_ms),
                daily: self.daily.or(was.daily),
            },
        };
        Row {
            name: before.name,
            collection: self.collection.clone().unwrap_or(before.collection),
            sequence: self.sequence.clone().unwrap_or(before.sequence),
            purpose: match self.purpose.as_deref() {
                Some("available") => Purpose::Available,
                Some(_) => Purpose::Required,
                None => before.purpose,
            },
            expected_seconds: self.expected.unwrap_or(before.expected_seconds),
            leave_collection_on_success: self
                .stay_in_collection
                .map_or(before.leave_collection_on_success, |stay| !stay),
            cap: self.cap.unwrap_or(before.cap),
            stopped: before.stopped,
            slots: self.slots.unwrap_or(before.slots),
            window: (window != Window::default()).then_some(window),
        }
    }
}

/// `1h30m`, `16m`, `90s`, each unit at most once, in this order.
pub(crate) fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 16m or 1h30m");
    let mut rest = text;
    let mut total = 0_u64;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = number
                .checked_mul(factor)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(wrong)?;
            rest = after;
        }
    }
    if !rest.is_empty() || total == 0 {
        return Err(wrong());
    }
    if total > EXPECTED_SECONDS_MAX {
        return Err(format!("{text} is longer than a week"));
    }
    Ok(total)
}

/// How long a run is expected to take; 0 says nothing about it.
pub(crate) fn parse_expected(text: &str) -> Result<u64, String> {
    match text {
        "0" => Ok(0),
        text => parse_seconds(text),
    }
}

fn render_list(rows: &[Row], look: &Look) -> String {
    let mut table = Table::new(&[
        "name",
        "collection",
        "sequence",
        "purpose",
        ">expected",
        ">cap",
        "state",
    ]);
    for row in rows {
        let purpose = match row.purpose {
            Purpose::Required => "required",
            Purpose::Available => "available",
        };
        table.row([
            row.name.to_string(),
            row.collection.to_string(),
            row.sequence.to_string(),
            purpose.into(),
            match row.expected_seconds {
                0 => "-".into(),
                expected => seconds(expected),
            },
            row.cap.to_string(),
            if row.stopped { "stopped" } else { "active" }.into(),
        ]);
    }
    if table.is_empty() {
        "no deployments yet\n".into()
    } else {
        table.render(look, "")
    }
}

#[cfg(test)]
mod tests {
    use super::{parse_expected, parse_seconds};

    #[test]
    fn durations() {
        for (text, seconds) in [("16m", 960), ("90s", 90), ("1h30m", 5400), ("1h1m1s", 3661)] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
            assert_eq!(parse_expected(text), Ok(seconds), "{text}");
        }
        assert_eq!(parse_expected("0"), Ok(0));
        for text in [
            "",
            "16",
            "m",
            "0m",
            "1m1h",
            "-1m",
            "1d",
            "999999999999999999999h",
            "200h",
            "1m m",
        ] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
