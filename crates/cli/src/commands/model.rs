//! `forestage model`: what the fleet consists of.

use clap::Subcommand;
use wire::classes::ModelRow;

use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, seconds};
use crate::settings::connect;

/// What the fleet consists of.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// List models: how many, with which drivers and prestages, how long they take, what is missing
    #[command(after_help = "Example:\n  forestage model list")]
    List,
}

/// Does what was asked.
pub(crate) fn run(command: &Model, output: &Output) -> Outcome<()> {
    match command {
        Model::List => {
            let rows = connect()?.models().trying(|| "cannot list models".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
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
