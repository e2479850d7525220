//! `forestage assignment`: who has which device.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use client::{AssignmentFilter, Client, ListOptions};
use wire::assignments::{
    AssignmentRow, ClassHandOut, ClassPairs, HandOut, HandOutReply, Pair, ScannedDevice, TakeBack,
};
use wire::names::AssignmentId;

use crate::commands::pupil::{self, How, LIST_BYTES_MAX, answer_import};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, moment};
use crate::settings::{connect, read_limited};

/// Who has which device.
#[derive(Debug, Subcommand)]
pub(crate) enum Assignment {
    /// List the devices that are out, and who has them
    #[command(after_help = "Example:\n  forestage assignment list --site BJO")]
    List(List),
    /// Hand a device out to a pupil
    ///
    /// The device is named by its serial number, asset tag, host name or the content of its label.
    #[command(after_help = "Example:\n  forestage assignment assign PF3ABC12 karnor01")]
    Assign(Assign),
    /// Take a device back
    #[command(
        after_help = "Example:\n  forestage assignment return PF3ABC12 --condition \"screen cracked\""
    )]
    Return(Return),
    /// Hand out to a whole class, in order
    ///
    /// Pairs the devices meant for the class, by serial number, with its pupils who have none, by name. Without `--yes`
    /// it only says who would get what.
    #[command(after_help = "Example:\n  forestage assignment class BJO 8B --yes")]
    Class(Class),
    /// Import a list (CSV or Excel) of who gets which device
    ///
    /// One column names the device (serial number, asset tag or host name), one the pupil's number. Either every row is
    /// good or nothing is handed out.
    #[command(after_help = "Example:\n  forestage assignment import hand-out.csv --dry-run")]
    Import {
        /// The list
        file: Utf8PathBuf,
        #[command(flatten)]
        how: How,
    },
    /// Show every hand-out and return of a device
    #[command(after_help = "Example:\n  forestage assignment history PF3ABC12")]
    History {
        /// The device: serial number, asset tag or host name
        device: String,
    },
}

/// `assignment list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only devices of this site
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// Only those with this in serial number, asset tag, class or the name of whoever handed it out or took it back
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    text: String,
    /// The first day of hand-outs, such as 2026-08-17
    #[arg(
        long,
        value_name = "DAY",
        default_value = "",
        hide_default_value = true
    )]
    since: String,
    /// The last day of hand-outs
    #[arg(
        long,
        value_name = "DAY",
        default_value = "",
        hide_default_value = true
    )]
    until: String,
    /// Also what came back
    #[arg(long)]
    all: bool,
}

/// `assignment assign`
#[derive(Debug, Args)]
pub(crate) struct Assign {
    /// The device: serial number, asset tag or host name
    device: String,
    /// The pupil's number or user name
    pupil: String,
    /// A note
    #[arg(long, default_value = "", hide_default_value = true)]
    note: String,
    /// Take back what is in the way
    #[arg(long)]
    swap: bool,
    /// The pupil gets it beside the one they have
    #[arg(long, conflicts_with = "swap")]
    additional: bool,
}

/// `assignment return`
#[derive(Debug, Args)]
pub(crate) struct Return {
    /// The device: serial number, asset tag or host name
    device: String,
    /// In which condition it came back
    #[arg(long, default_value = "", hide_default_value = true)]
    condition: String,
}

/// `assignment class`
#[derive(Debug, Args)]
pub(crate) struct Class {
    /// The site's code
    site: String,
    /// The class
    class: String,
    /// Do it
    #[arg(long)]
    yes: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Assignment, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Assignment::List(list) => {
            let filter = AssignmentFilter {
                site: list.site.clone(),
                text: list.text.clone(),
                since: list.since.clone(),
                until: list.until.clone(),
                open: !list.all,
                ..AssignmentFilter::default()
            };
            let rows = client
                .assignments(&filter)
                .trying(|| "cannot list who has which device".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Assignment::Assign(assign) => run_assign(&client, assign, output),
        Assignment::Return(back) => run_return(&client, back, output),
        Assignment::Class(class) => run_class(&client, class, output),
        Assignment::Import { file, how } => {
            let bytes =
                read_limited(file, LIST_BYTES_MAX).trying(|| format!("cannot read {file}"))?;
            let options = ListOptions {
                dry_run: how.dry_run,
                ..ListOptions::default()
            };
            let report = client
                .import_assignments(&bytes, &options)
                .trying(|| format!("cannot import {file}"))?;
            answer_import(&report, file, output)
        }
        Assignment::History { device } => {
            let filter = AssignmentFilter {
                device: Some(find_device(&client, device)?.device),
                ..AssignmentFilter::default()
            };
            let rows = client
                .assignments(&filter)
                .trying(|| format!("cannot list who had {device}"))?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
    }
}

fn run_assign(client: &Client, assign: &Assign, output: &Output) -> Outcome<()> {
    let device = find_device(client, &assign.device)?;
    let pupil = pupil::find(client, &assign.pupil)?;
    let ask = HandOut {
        assignment: Some(AssignmentId::random()),
        device: device.device,
        pupil: pupil.pupil,
        note: assign.note.clone(),
        swap: assign.swap,
        additional: assign.additional,
    };
    let reply = client
        .hand_out(&ask)
        .trying(|| format!("cannot hand {} out to {}", assign.device, assign.pupil))?;
    output.answer(&reply, |look| render_reply(&reply, look))
}

fn run_return(client: &Client, back: &Return, output: &Output) -> Outcome<()> {
    let device = find_device(client, &back.device)?;
    let Some(holder) = device.holder else {
        return Err(
            Failure::new(format!("nobody has {}", device.serial)).hint(format!(
                "`forestage assignment history {}` shows who had it",
                device.serial
            )),
        );
    };
    let ask = TakeBack {
        condition: back.condition.clone(),
    };
    let row = client
        .take_back(holder.assignment, &ask)
        .trying(|| format!("cannot take {} back", back.device))?;
    output.answer(&row, |_| {
        format!("{} is back from {}\n", clean(&row.serial), clean(&row.name))
    })
}

fn run_class(client: &Client, class: &Class, output: &Output) -> Outcome<()> {
    let trying = || format!("cannot hand out to {} {}", class.site, class.class);
    let before = client
        .hand_out_class(&class.site, &class.class)
        .trying(trying)?;
    if !class.yes {
        return output.answer(&before, |look| render_preview(&before, look));
    }
    let pairs = before.pairs().into_iter().map(|(device, pupil)| Pair {
        device: device.device,
        pupil: pupil.pupil,
    });
    let pairs = ClassPairs {
        pairs: pairs.collect(),
    };
    let reply = client.hand_out_pairs(&pairs).trying(trying)?;
    output.answer(&reply, |look| render_list(&reply.made, look))
}

/// The one device that is called so.
fn find_device(client: &Client, text: &str) -> Outcome<ScannedDevice> {
    let reply = client
        .scan(text)
        .trying(|| format!("cannot look up the device {text}"))?;
    let mut devices = reply.devices.into_iter();
    match (devices.next(), devices.next()) {
        (Some(device), None) => Ok(device),
        (Some(_), Some(_)) => Err(
            Failure::new(format!("more than one device is called {text}"))
                .hint("name it by its serial number"),
        ),
        _ => Err(Failure::new(format!("there is no device {text}"))
            .hint("`forestage device list` shows all")),
    }
}

fn render_reply(reply: &HandOutReply, look: &Look) -> String {
    let mut text = String::new();
    for ended in &reply.ended {
        text.push_str(&format!(
            "{} is back from {}\n",
            clean(&ended.serial),
            clean(&ended.name)
        ));
    }
    text.push_str(&format!(
        "{} is with {}\n",
        clean(&reply.made.serial),
        clean(&reply.made.name)
    ));
    for warning in &reply.warnings {
        text.push_str(&format!(
            "{} {}\n",
            look.paint.warn("note:"),
            clean(&warning.text)
        ));
    }
    text
}

fn render_preview(class: &ClassHandOut, look: &Look) -> String {
    let pairs = class.pairs();
    let without = class.without().count();
    let mut table = Table::new(&["device", "asset tag", "would get it"]);
    for (device, pupil) in &pairs {
        table.row([
            device.serial.clone(),
            device.asset_tag.clone(),
            pupil.name.clone(),
        ]);
    }
    let mut text = if table.is_empty() {
        String::new()
    } else {
        table.render(look, "") + "\n"
    };
    let rest = match (without - pairs.len(), class.free.len() - pairs.len()) {
        (0, 0) => String::new(),
        (0, over) => format!(", {} left over", count(over, "device")),
        (lacking, _) => format!(", {} left without a device", count(lacking, "pupil")),
    };
    text.push_str(&format!(
        "{}{rest}; nothing was handed out\n",
        count(pairs.len(), "pair")
    ));
    text
}

/// Hand-outs and returns for people.
pub(crate) fn render_list(rows: &[AssignmentRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "device",
        "pupil",
        "name",
        "class",
        "since",
        "back",
        "condition",
    ]);
    for row in rows {
        table.row([
            row.serial.clone(),
            row.external_id.clone(),
            row.name.clone(),
            row.class.clone(),
            moment(row.handed_out_at_ms),
            row.returned_at_ms.map(moment).unwrap_or_default(),
            row.condition.clone(),
        ]);
    }
    if table.is_empty() {
        "none\n".into()
    } else {
        table.render(look, "")
    }
}
