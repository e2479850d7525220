//! `forestage collection`: sets of devices.

use clap::{Args, Subcommand};
use wire::admin_api::{CollectionRow, DeviceRow};
use wire::names::CollectionName;

use crate::commands::device;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, count};
use crate::settings::connect;

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
}

/// `collection create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: small letters, digits and - _ . +
    name: CollectionName,
    /// One line for people
    #[arg(long, default_value = "", hide_default_value = true)]
    title: String,
}

/// Does what was asked.
pub(crate) fn run(command: &Collection, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Collection::Create(create) => {
            let row = CollectionRow {
                name: create.name.clone(),
                title: create.title.clone(),
                members: 0,
            };
            client
                .put_collection(&row)
                .trying(|| format!("cannot create the collection {}", create.name))?;
            output.answer(&row, |_| format!("collection {} created\n", row.name))
        }
        Collection::List => {
            let rows = client
                .collections()
                .trying(|| "cannot list collections".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
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
