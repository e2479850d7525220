//! `forestage asset export`: the asset system's table.

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use wire::asset_computers::AssetComputer;

use crate::failure::{Outcome, Trying};
use crate::output::{Output, count, print};
use crate::settings::connect;

/// What is tried.
const WHAT: &str = "cannot read the asset system's table";

/// `asset export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// How it is written; `--json` is the same as json
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    /// Only the computers of the site with this code
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// Only the computers in this state, such as completed
    #[arg(long, default_value = "", hide_default_value = true)]
    state: String,
    /// Write it to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<Utf8PathBuf>,
}

/// How the table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line per computer; texts that a spreadsheet would carry out are defused
    Csv,
    /// A list of objects, texts as they are
    Json,
}

/// Does what was asked.
pub(crate) fn run(export: &Export, output: &Output) -> Outcome<()> {
    let trying = || WHAT.to_owned();
    let text = if export.format == Format::Json || output.is_json() {
        let computers = all(export)?;
        let mut text = serde_json::to_string_pretty(&computers).trying(trying)?;
        text.push('\n');
        text
    } else {
        let bytes = connect()?
            .asset_computers_csv(&export.site, &export.state)
            .trying(trying)?;
        String::from_utf8_lossy(&bytes).into_owned()
    };
    match &export.output {
        None => print(&text),
        Some(path) => {
            let size = count(text.len(), "byte");
            std::fs::write(path, text).trying(|| format!("cannot write {path}"))?;
            output.say(&format!("{path} written ({size})"));
            Ok(())
        }
    }
}

/// All pages.
fn all(export: &Export) -> Outcome<Vec<AssetComputer>> {
    let client = connect()?;
    let mut computers = Vec::new();
    let mut after = String::new();
    loop {
        let page = client
            .asset_computers(&after, &export.site, &export.state)
            .trying(|| WHAT.into())?;
        computers.extend(page.computers);
        match page.next {
            // A server that goes back would never end.
            Some(next) if next > after => after = next,
            _ => return Ok(computers),
        }
    }
}
