//! `forestage asset`: the machines we know of, imported from a spreadsheet.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use wire::admin_api::AssetImportReport;
use wire::names::CollectionName;

use crate::commands::asset_export::{self, Export};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, count};
use crate::settings::{connect, read_limited};

/// A CSV of 2500 machines has about 500 KiB.
const CSV_BYTES_MAX: u64 = 64 << 20;
/// Refused rows shown to people; all are in the JSON.
const ROWS_SHOWN_MAX: usize = 50;

/// Import the machines you are going to get.
#[derive(Debug, Subcommand)]
pub(crate) enum Asset {
    /// Import an asset file (CSV) into a collection
    ///
    /// The columns are recognised by their titles, in English and Norwegian; the report says what each was taken for.
    /// Either every row is good or nothing is stored: rows that are refused are listed with their line and the reason.
    #[command(
        after_help = "Example:\n  forestage asset import laptops.csv --collection pupils-2026 --dry-run"
    )]
    Import(Import),
    /// Export the asset system's table: every computer with its name, state, pupil and times
    ///
    /// The same rows as the SQL view `asset_computers`; what the columns hold is a contract.
    #[command(
        after_help = "Example:\n  forestage asset export --state completed --output assets.csv"
    )]
    Export(Export),
}

/// `asset import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The CSV file
    file: Utf8PathBuf,
    /// The collection the machines are put into
    #[arg(long, value_name = "NAME")]
    collection: CollectionName,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Asset, output: &Output) -> Outcome<()> {
    let import = match command {
        Asset::Import(import) => import,
        Asset::Export(export) => return asset_export::run(export, output),
    };
    let csv = read_limited(&import.file, CSV_BYTES_MAX)
        .trying(|| format!("cannot read {}", import.file))?;
    let report = connect()?
        .import_assets(&csv, Some(&import.collection), import.dry_run)
        .trying(|| format!("cannot import {}", import.file))?;
    output.answer(&report, |look| render(&report, look))?;
    if report.invalid > 0 {
        let rows = count(report.invalid as usize, "row");
        return Err(Failure::new(format!(
            "{rows} of {} refused, nothing was stored",
            import.file
        ))
        .hint("correct the lines listed and import the file again"));
    }
    Ok(())
}

/// The report for people.
fn render(report: &AssetImportReport, look: &Look) -> String {
    let mut text = String::new();
    let mut columns = Table::new(&["column", "taken for"]);
    for (title, field) in &report.columns {
        columns.row([
            title.clone(),
            if field.is_empty() {
                "(not used)".into()
            } else {
                field.clone()
            },
        ]);
    }
    text.push_str(&columns.render(look, "  "));
    text.push('\n');

    let invalid: Vec<_> = report
        .rows
        .iter()
        .filter(|row| !row.problems.is_empty() || row.result == "invalid")
        .collect();
    if !invalid.is_empty() {
        let mut problems = Table::new(&[">line", "serial", "result", "why"]);
        for row in invalid.iter().take(ROWS_SHOWN_MAX) {
            problems.row([
                row.line.to_string(),
                row.serial.clone(),
                row.result.clone(),
                row.problems.join("; "),
            ]);
        }
        text.push_str(&problems.render(look, "  "));
        if invalid.len() > ROWS_SHOWN_MAX {
            text.push_str(&format!(
                "  and {} more; `--json` lists all\n",
                invalid.len() - ROWS_SHOWN_MAX
            ));
        }
        text.push('\n');
    }
    let verb = if report.dry_run || report.invalid > 0 {
        "would be "
    } else {
        ""
    };
    text.push_str(&format!(
        "{} new, {} changed, {} unchanged, {} refused{}\n",
        report.new,
        report.changed,
        report.unchanged,
        report.invalid,
        if verb.is_empty() {
            ""
        } else {
            " (nothing was stored)"
        },
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::output::{Look, Paint};
    use wire::admin_api::{AssetImportReport, AssetImportRow};

    #[test]
    fn refused_rows_are_named_with_line_and_reason() {
        let report = AssetImportReport {
            dry_run: true,
            columns: vec![
                ("Serienummer".into(), "serial".into()),
                ("Farge".into(), String::new()),
            ],
            rows: vec![
                AssetImportRow {
                    line: 2,
                    serial: "PF1".into(),
                    result: "new".into(),
                    problems: vec![],
                },
                AssetImportRow {
                    line: 3,
                    serial: String::new(),
                    result: "invalid".into(),
                    problems: vec!["no serial number".into(), "unknown site Bjørnøya".into()],
                },
            ],
            new: 1,
            changed: 0,
            unchanged: 0,
            invalid: 1,
        };
        insta::assert_snapshot!(render(
            &report,
            &Look {
                paint: Paint::NONE,
                width: 80
            }
        ));
    }
}
