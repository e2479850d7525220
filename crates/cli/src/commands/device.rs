//! `forestage device`: the machines and where they stand.

use clap::{Args, Subcommand};
use client::Client;
use wire::admin_api::{DeviceRow, DeviceState};
use wire::classes::{NamePlan, NameRequest};
use wire::names::{CollectionName, DeviceId};

use crate::api;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, count, moment};
use crate::settings::connect;

/// The machines and where they stand.
#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// List devices
    #[command(after_help = "Example:\n  forestage device list --site BJO --state failed")]
    List(List),
    /// Name the devices of a collection from a template
    ///
    /// A name is unique across the fleet, a valid host name and at most 15 characters long; æ, ø and å become ASCII.
    /// The template sees what rules of collections see; `number(3)` counts at each site. Devices that have a name keep
    /// it unless `--rename` is given. If one device can't be named, none is.
    #[command(after_help = "Example:\n\
            \x20 forestage device name --template \"{{ site.code }}-{{ class.name }}-{{ serial | last(6) }}\" \\\n\
            \x20     --collection pupils-2026 --dry-run")]
    Name(NameArgs),
    /// Forget the key a device is bound to, after a repair
    ///
    /// A device is bound to the key it made at its first contact; a second machine that claims its serial number is
    /// refused. A machine with a new disk or mainboard has lost its key. After this command, the next machine that
    /// claims the serial number is bound anew: be sure it's the right one.
    #[command(after_help = "Example:\n  forestage device reset-key PF3ABC12")]
    ResetKey {
        /// The serial number
        serial: String,
    },
}

/// `device name`
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// The template
    #[arg(long)]
    template: String,
    /// The devices of this collection
    #[arg(long, value_name = "NAME")]
    collection: CollectionName,
    /// Devices that have a name get a new one
    #[arg(long)]
    rename: bool,
    /// Longer names than the 15 characters that Windows allows
    #[arg(long)]
    long_names: bool,
    /// Only show the names
    #[arg(long)]
    dry_run: bool,
}

/// `device list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only this site (its code)
    #[arg(long, value_name = "CODE")]
    site: Option<String>,
    /// Only this state
    #[arg(long, value_name = "STATE", value_parser = parse_state)]
    state: Option<DeviceState>,
}

/// Does what was asked.
pub(crate) fn run(command: &Device, output: &Output) -> Outcome<()> {
    let client = connect()?;
    if let Device::Name(names) = command {
        return name(&client, names, output);
    }
    let mut devices = client.devices().trying(|| "cannot list devices".into())?;
    match command {
        Device::List(list) => {
            devices.retain(|row| {
                list.site
                    .as_ref()
                    .is_none_or(|site| row.site.to_lowercase() == site.to_lowercase())
            });
            devices.retain(|row| list.state.is_none_or(|state| row.state == state));
            output.answer(&devices, |look| render_list(&devices, look))
        }
        Device::Name(_) => Ok(()),
        Device::ResetKey { serial } => {
            let device = only_match(&devices, serial)?;
            api::reset_key(&client, device.device)
                .trying(|| format!("cannot reset the key of {serial}"))?;
            output.answer(device, |_| {
                format!("the next machine that claims {serial} will be bound to it\n")
            })
        }
    }
}

fn name(client: &Client, names: &NameArgs, output: &Output) -> Outcome<()> {
    let request = NameRequest {
        template: names.template.clone(),
        collection: Some(names.collection.clone()),
        devices: Vec::new(),
        long_names: names.long_names,
        rename: names.rename,
        apply: !names.dry_run,
    };
    let plan = client
        .name_devices(&request)
        .trying(|| format!("cannot name the devices of {}", names.collection))?;
    output.answer(&plan, |look| render_names(&plan, look))?;
    if plan.problems > 0 && !names.dry_run {
        return Err(Failure::new(format!(
            "{} can't be named so; none was",
            count(plan.problems as usize, "device")
        ))
        .hint("change the template, or look with --dry-run"));
    }
    Ok(())
}

fn render_names(plan: &NamePlan, look: &Look) -> String {
    let mut table = Table::new(&["serial", "site", "name now", "name", "problem"]);
    for row in &plan.rows {
        table.row([
            row.serial.clone(),
            row.site.clone(),
            row.current.clone(),
            row.name.clone(),
            row.problem.clone().unwrap_or_default(),
        ]);
    }
    let stored = if plan.applied { "stored" } else { "not stored" };
    format!(
        "{}\n{} named, {} kept, {} with problems; {stored}\n",
        table.render(look, ""),
        plan.named,
        plan.kept,
        plan.problems
    )
}

/// The device with this serial number.
pub(crate) fn find(client: &Client, serial: &str) -> Outcome<DeviceRow> {
    let devices = client.devices().trying(|| "cannot list devices".into())?;
    only_match(&devices, serial).cloned()
}

/// The devices with these serial numbers, all of them or none.
pub(crate) fn find_all(client: &Client, serials: &[String]) -> Outcome<Vec<DeviceId>> {
    let devices = client.devices().trying(|| "cannot list devices".into())?;
    serials
        .iter()
        .map(|serial| Ok(only_match(&devices, serial)?.device))
        .collect()
}

fn only_match<'d>(devices: &'d [DeviceRow], serial: &str) -> Outcome<&'d DeviceRow> {
    let mut matches = devices.iter().filter(|row| row.serial == serial);
    let device = matches.next().ok_or_else(|| {
        Failure::new(format!(
            "there is no device with the serial number {serial}"
        ))
        .hint("`forestage device list` shows all")
    })?;
    if matches.next().is_some() {
        return Err(
            Failure::refused(format!("several devices have the serial number {serial}"))
                .hint("correct the asset data first: it must be clear which machine is meant"),
        );
    }
    Ok(device)
}

fn parse_state(text: &str) -> Result<DeviceState, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|_| {
        "one of imported, staged, checked-in, running, completed, failed, stalled, quarantined"
            .to_owned()
    })
}

/// Devices as a table.
pub(crate) fn render_list(rows: &[DeviceRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "serial",
        "name",
        "model",
        "site",
        "class",
        "state",
        "last seen",
        "remark",
    ]);
    for row in rows {
        let remark = match (&row.message, &row.run) {
            (Some(message), _) => message.clone(),
            (None, Some(run)) if row.state == DeviceState::Running => {
                format!(
                    "step {} of {}: {}",
                    run.step_number, run.step_count, run.step_title
                )
            }
            _ => String::new(),
        };
        table.row([
            row.serial.clone(),
            row.name.clone().unwrap_or_else(|| "-".into()),
            row.model.to_string(),
            row.site.clone(),
            row.class.clone(),
            row.state.to_string(),
            row.last_seen_at_ms.map_or_else(|| "never".into(), moment),
            remark,
        ]);
    }
    if table.is_empty() {
        "no such devices\n".into()
    } else {
        table.render(look, "")
    }
}

#[cfg(test)]
mod tests {
    use super::parse_state;
    use wire::admin_api::DeviceState;

    #[test]
    fn states_are_written_as_in_the_api() {
        assert_eq!(parse_state("checked-in"), Ok(DeviceState::CheckedIn));
        assert!(parse_state("sleeping").is_err());
    }
}
