//! `forestage device`: the machines and where they stand.

use clap::{Args, Subcommand};
use client::Client;
use wire::admin_api::{DeviceRow, DeviceState, KeyProtection};
use wire::assets::{AssetChange, AssetDetail, AssetSeen};
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
    /// Show all that is known of a machine: as imported, and as it said itself
    #[command(after_help = "Example:\n  forestage device show PF3ABC12")]
    Show {
        /// The serial number
        serial: String,
    },
    /// Correct a machine's site, class, asset tag or name; what isn't said stays as it is
    ///
    /// An empty text empties a value. The name is the one that its next run gives it.
    #[command(
        after_help = "Example:\n  forestage device set PF3ABC12 --class 8C --asset-tag TK-40117"
    )]
    Set(Set),
    /// Retire a machine: it gets no order any more, and is in no collection
    #[command(after_help = "Example:\n  forestage device retire PF3ABC12 --reason \"worn out\"")]
    Retire(Becomes),
    /// Report a machine stolen: as retired, and an alarm if it asks for work
    #[command(
        after_help = "Example:\n  forestage device stolen PF3ABC12 --reason \"taken from the bus\""
    )]
    Stolen(Becomes),
    /// Take a machine back into use that was retired or stolen
    #[command(after_help = "Example:\n  forestage device restore PF3ABC12 --reason found")]
    Restore(Becomes),
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

/// `device set`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["site", "class", "asset_tag", "name"])))]
pub(crate) struct Set {
    /// The serial number
    serial: String,
    /// The code of its site
    #[arg(long, value_name = "CODE")]
    site: Option<String>,
    /// Its class
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Its asset tag
    #[arg(long, value_name = "TAG")]
    asset_tag: Option<String>,
    /// The name that its next run gives it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// `device retire`, `stolen` and `restore`
#[derive(Debug, Args)]
pub(crate) struct Becomes {
    /// The serial number
    serial: String,
    /// Why, for those who ask later
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    reason: String,
}

/// `device list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Those out of use too: `retired`, `stolen` or `all`; those in use if it isn't said
    #[arg(long, value_name = "ASSETS", value_parser = ["retired", "stolen", "all"])]
    asset: Option<String>,
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
            devices.retain(|row| is_wanted(row, list.asset.as_deref()));
            output.answer(&devices, |look| render_list(&devices, look))
        }
        Device::Name(_) => Ok(()),
        Device::Show { serial } => {
            let device = only_match(&devices, serial)?;
            let detail = api::asset(&client, device.device)
                .trying(|| format!("cannot show the device {serial}"))?;
            output.answer(&detail, |look| render_asset(&detail, look))
        }
        Device::Set(set) => {
            let device = only_match(&devices, &set.serial)?;
            let change = AssetChange {
                site: set.site.clone(),
                class: set.class.clone(),
                asset_tag: set.asset_tag.clone(),
                name: set.name.clone(),
            };
            let detail = api::change_asset(&client, device.device, &change)
                .trying(|| format!("cannot correct the device {}", set.serial))?;
            output.answer(&detail, |look| render_asset(&detail, look))
        }
        Device::Retire(becomes) => become_so(&client, &devices, ("retire", becomes), output),
        Device::Stolen(becomes) => become_so(&client, &devices, ("report-stolen", becomes), output),
        Device::Restore(becomes) => become_so(&client, &devices, ("restore", becomes), output),
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

fn is_wanted(row: &DeviceRow, asset: Option<&str>) -> bool {
    let state = row.out_of_use.as_ref().map(|out| out.state.word());
    match asset {
        None => state.is_none() || row.is_stolen_and_seen(),
        Some("all") => true,
        wanted => state == wanted,
    }
}

fn become_so(
    client: &Client,
    devices: &[DeviceRow],
    (what, becomes): (&str, &Becomes),
    output: &Output,
) -> Outcome<()> {
    let serial = &becomes.serial;
    let device = only_match(devices, serial)?;
    let detail = api::asset_becomes(client, device.device, what, &becomes.reason)
        .trying(|| format!("cannot change the device {serial}"))?;
    output.answer(&detail, |_| {
        let out = detail.device.out_of_use.as_ref();
        let word = out.map_or("in use again", |out| out.state.word());
        format!("{serial} is {word}\n")
    })
}

fn render_asset(detail: &AssetDetail, look: &Look) -> String {
    let row = &detail.device;
    let mut table = Table::new(&["what", "as imported", "as it says"]);
    let seen = detail.seen.as_ref();
    let said = |value: fn(&AssetSeen) -> &str| seen.map_or("", value).to_owned();
    let mut add = |what: &str, imported: &str, said: String| {
        table.row([what.to_owned(), imported.to_owned(), said]);
    };
    add("serial", &row.serial, said(|seen| &seen.serial));
    add("asset tag", &row.asset_tag, said(|seen| &seen.asset_tag));
    add("uuid", &detail.uuid, said(|seen| &seen.uuid));
    add(
        "product",
        &detail.model.product,
        said(|seen| &seen.model.product),
    );
    add("sku", &detail.model.sku, said(|seen| &seen.model.sku));
    add("site", &row.site, row.seen_site.clone().unwrap_or_default());
    add("class", &row.class, String::new());
    let told = row.run.as_ref().and_then(|run| run.name.clone());
    add(
        "name",
        row.assigned_name.as_deref().unwrap_or_default(),
        told.unwrap_or_default(),
    );
    let retired = row.retired_key.as_ref();
    let retired = retired.map(|key| format!(", signed with the retired key {key}"));
    let staged = row.bundle.clone().unwrap_or_default() + &retired.unwrap_or_default();
    add("staged", "", staged);
    add("boot image", "", row.boot_image.clone().unwrap_or_default());
    let protection = row.key_protection.map_or("", |one| match one {
        KeyProtection::Tpm => "in its TPM",
        KeyProtection::Software => "in a file: weaker, a copy of the disk has it",
    });
    add("key", "", protection.to_owned());
    add("address", "", said(|seen| &seen.address));
    add(
        "mac",
        "",
        seen.map(|seen| seen.macs.join(" ")).unwrap_or_default(),
    );
    for (name, value) in &detail.fields {
        add(name, value, String::new());
    }
    let out = row.out_of_use.as_ref().map(|out| {
        let (state, since) = (out.state.word(), moment(out.at_ms));
        format!("{state} since {since}, said {}: {}\n", out.by, out.reason)
    });
    format!("{}{}", table.render(look, ""), out.unwrap_or_default())
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
        "one of imported, staged, checked-in, running, completed, failed, stopped, stalled, quarantined"
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
