//! `forestage device`: the machines and where they stand.

use clap::{Args, Subcommand};
use client::Client;
use wire::admin_api::{DeviceRow, DeviceState};

use crate::api;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, moment};
use crate::settings::connect;

/// The machines and where they stand.
#[derive(Debug, Subcommand)]
pub(crate) enum Device {
    /// List devices
    #[command(after_help = "Example:\n  forestage device list --site BJO --state failed")]
    List(List),
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

/// The device with this serial number.
pub(crate) fn find(client: &Client, serial: &str) -> Outcome<DeviceRow> {
    let devices = client.devices().trying(|| "cannot list devices".into())?;
    only_match(&devices, serial).cloned()
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
