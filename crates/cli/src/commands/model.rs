//! `forestage model`: what the fleet consists of.

use clap::{Args, Subcommand};
use wire::classes::{AliasChange, ModelAlias, ModelRow};

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, clean, seconds};
use crate::settings::connect;

/// What the fleet consists of.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// List models: how many, with which drivers and prestages, how long they take, what is missing
    #[command(after_help = "Example:\n  forestage model list")]
    List,
    /// Say which model a vendor's name in asset files stands for
    ///
    /// Letter case and the number of blanks make no difference. Imports and comparisons with receipts then take it for that
    /// model.
    #[command(
        after_help = "Example:\n  forestage model alias \"EliteBook 840 G10 (5Z1A2)\" --is \"HP EliteBook 840 14 inch G10 Notebook PC\""
    )]
    Alias(SetAlias),
    /// List the names that vendors use
    #[command(after_help = "Example:\n  forestage model aliases")]
    Aliases,
    /// Forget a vendor's name
    #[command(after_help = "Example:\n  forestage model unalias \"EliteBook 840 G10 (5Z1A2)\"")]
    Unalias {
        /// The vendor's name
        name: String,
    },
}

/// `model alias`
#[derive(Debug, Args)]
pub(crate) struct SetAlias {
    /// The vendor's name, as it stands in the file
    name: String,
    /// The product name that machines of the model say
    #[arg(long = "is", value_name = "PRODUCT")]
    product: String,
    /// Their manufacturer; left out: that of the known model
    #[arg(long, default_value = "", hide_default_value = true)]
    vendor: String,
}

/// Does what was asked.
pub(crate) fn run(command: &Model, output: &Output) -> Outcome<()> {
    match command {
        Model::List => {
            let rows = connect()?.models().trying(|| "cannot list models".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Model::Alias(set) => {
            let change = AliasChange {
                product: set.product.clone(),
                vendor: set.vendor.clone(),
            };
            let row = connect()?
                .put_model_alias(&set.name, &change)
                .trying(|| format!("cannot say what {} stands for", set.name))?;
            output.answer(&row, |look| {
                render_aliases(std::slice::from_ref(&row), look)
            })
        }
        Model::Aliases => {
            let rows = connect()?
                .model_aliases()
                .trying(|| "cannot list the names of models".into())?;
            output.answer(&rows, |look| render_aliases(&rows, look))
        }
        Model::Unalias { name } => {
            let row = connect()?
                .remove_model_alias(name)
                .trying(|| format!("cannot forget {name}"))?;
            output.answer(&row, |_| {
                format!("{} stands for no model any more\n", clean(&row.alias))
            })
        }
    }
}

fn render_aliases(rows: &[ModelAlias], look: &Look) -> String {
    let mut table = Table::new(&["vendor's name", "model"]);
    for row in rows {
        let model = format!("{} {}", row.vendor, row.product);
        table.row([row.alias.clone(), model.trim().to_owned()]);
    }
    if table.is_empty() {
        "no names of vendors yet\n".into()
    } else {
        table.render(look, "")
    }
}

fn render_list(rows: &[ModelRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "model",
        ">devices",
        "drivers",
        "prestages",
        ">median",
        "missing",
    ]);
    for row in rows {
        table.row([
            format!("{} {}", row.vendor, row.product),
            row.devices.to_string(),
            row.drivers.join(" "),
            row.prestages.join(" "),
            row.median_seconds.map_or_else(|| "-".into(), seconds),
            row.warnings.join("; "),
        ]);
    }
    if table.is_empty() {
        "no models yet\n".into()
    } else {
        table.render(look, "")
    }
}
