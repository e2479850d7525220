//! `forestage collection`: sets of devices.

use clap::{Args, Subcommand};
use client::Client;
use wire::admin_api::{CollectionChange, CollectionRow, DeviceRow, MemberChange};
use wire::collections::{CollectionPreview, ExclusionChange, RuleChange};
use wire::names::CollectionName;

use crate::commands::device;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count};
use crate::settings::connect;

/// Devices that a preview names.
const SHOWN_MAX: usize = 1000;

/// Sets of devices that deployments are aimed at.
#[derive(Debug, Subcommand)]
pub(crate) enum Collection {
    /// Create a collection
    #[command(
        after_help = "Example:\n  forestage collection create pupils-2026 --title \"New pupils, autumn 2026\""
    )]
    Create(Create),
    /// List all collections
    #[command(after_help = "Example:\n  forestage collection list")]
    List,
    /// Show a collection and the devices in it
    #[command(after_help = "Example:\n  forestage collection show pupils-2026")]
    Show {
        /// The collection
        name: CollectionName,
    },
    /// Let a rule decide who is in, besides those put in by hand
    ///
    /// A rule is an expression over a device, in the language of conditions in sequences. It sees serial, asset_tag, name,
    /// site.code, site.name, seen_site, class, model.vendor, model.product, model.sku, model.baseboard, state, prestage,
    /// prestage_version, tags, fields (what asset files have besides) and facts. It is evaluated when it is asked: for
    /// lists, for previews, and for each machine that checks in. With `--dry-run` nothing is stored.
    #[command(
        after_help = "Example:\n  forestage collection set-rule first-years \"class is startingwith('1')\" --limit-to pupils-2026"
    )]
    SetRule(SetRule),
    /// Show who is in and why, and who is kept out and why
    #[command(after_help = "Example:\n  forestage collection preview first-years")]
    Preview {
        /// The collection
        name: CollectionName,
    },
    /// Put devices in by hand
    #[command(after_help = "Example:\n  forestage collection add pupils-2026 PF3ABC12 PF3ABC13")]
    Add(Devices),
    /// Take devices out; those that a rule brings in are kept out
    #[command(after_help = "Example:\n  forestage collection remove pupils-2026 PF3ABC12")]
    Remove(Devices),
    /// Keep devices out, whatever rule or list says
    #[command(
        after_help = "Example:\n  forestage collection exclude pupils-2026 PF3ABC12 --reason \"used in an exam\""
    )]
    Exclude(Exclude),
    /// Let devices in again that were kept out
    #[command(after_help = "Example:\n  forestage collection include pupils-2026 PF3ABC12")]
    Include(Devices),
}

/// `collection set-rule`
#[derive(Debug, Args)]
pub(crate) struct SetRule {
    /// The collection
    name: CollectionName,
    /// The rule; an empty one takes the rule away
    rule: String,
    /// No device that isn't in this collection is in; without it the limit stays as it is
    #[arg(long, value_name = "NAME")]
    limit_to: Option<CollectionName>,
    /// Take the limit away
    #[arg(long, conflicts_with = "limit_to")]
    no_limit: bool,
    /// Only show who would be in
    #[arg(long)]
    dry_run: bool,
}

/// Some devices of a collection.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// The collection
    name: CollectionName,
    /// Serial numbers
    #[arg(required = true, value_name = "SERIAL")]
    serials: Vec<String>,
}

/// `collection exclude`
#[derive(Debug, Args)]
pub(crate) struct Exclude {
    #[command(flatten)]
    devices: Devices,
    /// Why, for everyone who wonders
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
}

/// `collection create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: small letters, digits and - _ . +
    name: CollectionName,
    /// One line for people
    #[arg(long)]
    title: Option<String>,
}

/// Does what was asked.
pub(crate) fn run(command: &Collection, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Collection::Create(create) => {
            let change = CollectionChange {
                name: create.name.clone(),
                title: create.title.clone(),
            };
            let row = client
                .put_collection(&change)
                .trying(|| format!("cannot create the collection {}", create.name))?;
            output.answer(&row, |_| format!("collection {} created\n", row.name))
        }
        Collection::List => {
            let rows = client
                .collections()
                .trying(|| "cannot list collections".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Collection::SetRule(set) => {
            let limit_to = match set.no_limit {
                true => Some(String::new()),
                false => set.limit_to.as_ref().map(ToString::to_string),
            };
            let change = RuleChange {
                rule: Some(set.rule.clone()),
                limit_to,
            };
            let preview = match set.dry_run {
                true => client.collection_preview(&set.name, Some(&change), SHOWN_MAX),
                false => client.put_collection_rule(&set.name, &change),
            }
            .trying(|| format!("cannot set the rule of {}", set.name))?;
            output.answer(&preview, |look| render_preview(&preview, look))
        }
        Collection::Preview { name } => {
            let preview = client
                .collection_preview(name, None, SHOWN_MAX)
                .trying(|| format!("cannot show who is in {name}"))?;
            output.answer(&preview, |look| render_preview(&preview, look))
        }
        Collection::Add(devices) | Collection::Remove(devices) => {
            let ids = device::find_all(&client, &devices.serials)?;
            let change = match command {
                Collection::Add(_) => MemberChange {
                    add: ids,
                    ..MemberChange::default()
                },
                _ => MemberChange {
                    remove: ids,
                    ..MemberChange::default()
                },
            };
            let row = client
                .change_members(&devices.name, &change)
                .trying(|| format!("cannot change the members of {}", devices.name))?;
            output.answer(&row, |_| {
                format!("{}: {}\n", row.name, count(row.members as usize, "device"))
            })
        }
        Collection::Exclude(exclude) => {
            let change = ExclusionChange {
                exclude: device::find_all(&client, &exclude.devices.serials)?,
                reason: exclude.reason.clone(),
                ..ExclusionChange::default()
            };
            change_exclusions(&client, &exclude.devices.name, &change, output)
        }
        Collection::Include(devices) => {
            let change = ExclusionChange {
                include: device::find_all(&client, &devices.serials)?,
                ..ExclusionChange::default()
            };
            change_exclusions(&client, &devices.name, &change, output)
        }
        Collection::Show { name } => {
            let rows = client
                .collections()
                .trying(|| "cannot list collections".into())?;
            let row = rows
                .into_iter()
                .find(|row| row.name == *name)
                .ok_or_else(|| unknown(name))?;
            let mut devices = client.devices().trying(|| "cannot list devices".into())?;
            devices.retain(|device| device.collections.contains(name));
            let shown = Shown {
                collection: row,
                devices,
            };
            output.answer(&shown, |look| {
                let title = look
                    .paint
                    .bold(&crate::output::clean(&shown.collection.title));
                let members = count(shown.devices.len(), "device");
                format!(
                    "{} {title} ({members})\n\n{}",
                    shown.collection.name,
                    device::render_list(&shown.devices, look)
                )
            })
        }
    }
}

fn change_exclusions(
    client: &Client,
    name: &CollectionName,
    change: &ExclusionChange,
    output: &Output,
) -> Outcome<()> {
    let preview = client
        .change_exclusions(name, change)
        .trying(|| format!("cannot change who is kept out of {name}"))?;
    output.answer(&preview, |look| render_preview(&preview, look))
}

fn render_preview(preview: &CollectionPreview, look: &Look) -> String {
    let mut text = format!(
        "{}: {} ({} by rule), {} excluded, {} limited, {} undecided\n",
        preview.name,
        count(preview.members as usize, "device"),
        preview.by_rule,
        preview.excluded,
        preview.limited,
        preview.undecided
    );
    for (what, value) in [
        ("rule", &preview.rule.rule),
        ("limited to", &preview.rule.limit_to),
    ] {
        if !value.is_empty() {
            text.push_str(&format!("  {what}: {}\n", clean(value)));
        }
    }
    let mut table = Table::new(&["serial", "site", "class", "in", "why"]);
    for device in &preview.devices {
        table.row([
            device.serial.clone(),
            device.site.clone(),
            device.class.clone(),
            if device.is_in { "yes" } else { "no" }.into(),
            device.reason.clone(),
        ]);
    }
    if !table.is_empty() {
        text.push_str(&format!("\n{}", table.render(look, "")));
    }
    text
}

#[derive(serde::Serialize)]
struct Shown {
    collection: CollectionRow,
    devices: Vec<DeviceRow>,
}

fn unknown(name: &CollectionName) -> Failure {
    Failure::new(format!("there is no collection {name}"))
        .hint("`forestage collection list` shows all")
}

fn render_list(rows: &[CollectionRow], look: &Look) -> String {
    let mut table = Table::new(&["name", ">devices", "title"]);
    for row in rows {
        table.row([
            row.name.to_string(),
            row.members.to_string(),
            row.title.clone(),
        ]);
    }
    if table.is_empty() {
        "no collections yet\n".into()
    } else {
        table.render(look, "")
    }
}
