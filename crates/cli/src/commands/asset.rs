//! `forestage asset`: the machines we know of, imported from what vendors send.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use serde::Serialize;
use wire::imports::{AcceptImport, ImportCounts, ImportDraft, ImportLine, ImportSettings};
use wire::names::CollectionName;

use crate::commands::asset_export::{self, Export};
use crate::commands::import::{ROWS_ALL, render_accepted, render_draft};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Output, count};
use crate::settings::{connect, read_limited};

/// A file of 2500 machines has about 500 KiB; the server takes no more than this.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Import the machines you are going to get.
#[derive(Debug, Subcommand)]
pub(crate) enum Asset {
    /// Import an asset file (CSV or Excel)
    ///
    /// The columns are recognised by their titles, in English and Norwegian; the report says what each was taken for,
    /// and `--map` corrects it. Either every row is good or nothing is stored: rows that are refused are listed with
    /// their line and the reason. With `--dry-run` the file stays a draft that can be accepted later.
    #[command(
        after_help = "Example:\n  forestage asset import laptops.xlsx --collection pupils-2026 --dry-run\n  \
                      forestage asset import order.csv --map \"Maskin-ID=serial\" --map \"Rom=field:room\""
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
    /// The CSV or .xlsx file
    file: Utf8PathBuf,
    /// The collection the machines are put into
    #[arg(long, value_name = "NAME")]
    collection: Option<CollectionName>,
    /// Only say what would happen; the file stays a draft
    #[arg(long)]
    dry_run: bool,
    /// What a column means: serial, asset-tag, uuid, vendor, product, sku, baseboard, site, site-name, class,
    /// field:NAME or ignored
    #[arg(long, value_name = "COLUMN=FIELD", value_parser = assignment)]
    map: Vec<(String, String)>,
    /// The profile to read the file with; `none` uses none
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    profile: String,
    /// Which sheet of a workbook, from 1
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        hide_default_value = true
    )]
    sheet: u32,
    /// Leave out rows that are invalid or duplicates
    #[arg(long)]
    valid_rows_only: bool,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (column, field) = text
        .rsplit_once('=')
        .ok_or("a column's title, =, and what it means")?;
    Ok((column.trim().to_owned(), field.trim().to_owned()))
}

/// What `asset import` answers.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Report {
    dry_run: bool,
    import: i64,
    columns: Vec<(String, String)>,
    problems: Vec<String>,
    rows: Vec<ImportLine>,
    new: u32,
    changed: u32,
    unchanged: u32,
    duplicate: u32,
    invalid: u32,
    skipped: u32,
}

impl Report {
    fn of(draft: &ImportDraft, dry_run: bool) -> Self {
        let column =
            |column: &wire::imports::ImportColumn| (column.title.clone(), column.field.clone());
        let counts: ImportCounts = draft.import.counts;
        Self {
            dry_run,
            import: draft.import.import,
            columns: draft.columns.iter().map(column).collect(),
            problems: draft.problems.clone(),
            rows: draft.rows.clone(),
            new: counts.new,
            changed: counts.changed,
            unchanged: counts.unchanged,
            duplicate: counts.duplicate,
            invalid: counts.invalid,
            skipped: counts.skipped,
        }
    }
}

/// Does what was asked.
pub(crate) fn run(command: &Asset, output: &Output) -> Outcome<()> {
    let import = match command {
        Asset::Import(import) => import,
        Asset::Export(export) => return asset_export::run(export, output),
    };
    let file = read_limited(&import.file, FILE_BYTES_MAX)
        .trying(|| format!("cannot read {}", import.file))?;
    let client = connect()?;
    let trying = || format!("cannot import {}", import.file);
    let settings = ImportSettings {
        sheet: import.sheet,
        mapping: import.map.iter().cloned().collect::<BTreeMap<_, _>>(),
        profile: import.profile.clone(),
        collection: import
            .collection
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    let name = import.file.file_name().unwrap_or("file");
    let uploaded = client
        .upload_import(name, &file, &settings)
        .trying(trying)?;
    let id = uploaded.import.import;
    if !settings.mapping.is_empty() {
        client.set_import(id, &settings).trying(trying)?;
    }
    let draft = client.import(id, None, ROWS_ALL).trying(trying)?;
    let refused = draft.import.counts.refused();
    let is_bad = !draft.problems.is_empty() || refused > 0 && !import.valid_rows_only;
    let report = Report::of(&draft, import.dry_run);
    if import.dry_run || is_bad {
        output.answer(&report, |look| {
            let advice =
                format!("\nimport {id} is a draft: `forestage import accept {id}` stores it\n");
            let advice = if is_bad { "" } else { &advice };
            format!("{}{advice}", render_draft(&draft, look))
        })?;
    }
    if is_bad {
        let hint = "correct the lines listed and import the file again";
        let (what, hint) = match draft.problems.first() {
            Some(problem) => (
                problem.clone(),
                "say what the columns mean with `--map`".to_owned(),
            ),
            None => (
                format!(
                    "{} of {} refused",
                    count(refused as usize, "row"),
                    import.file
                ),
                format!("{hint}, or leave them out with `--valid-rows-only`"),
            ),
        };
        return Err(Failure::new(format!("{what}, nothing was stored")).hint(hint));
    }
    if !import.dry_run {
        let accept = AcceptImport {
            valid_rows_only: import.valid_rows_only,
            seen: draft.plan.clone(),
        };
        let row = client.accept_import(id, &accept).trying(trying)?;
        output.answer(&report, |_| render_accepted(&row))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::assignment;
    use crate::commands::import::render_draft;
    use crate::output::{Look, Paint};
    use wire::imports::ImportDraft;

    #[test]
    fn a_draft_names_columns_and_refused_rows_with_line_and_reason() {
        let draft: ImportDraft = serde_json::from_value(serde_json::json!({
            "import": {
                "import": 7, "file": "ordre.xlsx", "digest": "", "file-bytes": 1, "state": "draft",
                "counts": { "new": 1, "changed": 1, "invalid": 1 }, "settings": {}, "uploaded-by": "admin",
                "uploaded-at-ms": 0,
            },
            "form": "Excel workbook", "sheets": ["Ordre", "Vilkår"], "sheet": 1, "title-line": 4,
            "profile": "acme", "same-as": [3], "rows-total": 3,
            "columns": [
                { "title": "Serienummer", "field": "serial", "told": true, "samples": ["PF1", "PF2"] },
                { "title": "Farge", "field": "field:farge", "told": false, "samples": [] },
            ],
            "rows": [
                { "line": 5, "serial": "PF1", "result": "new", "changes": [{ "field": "class", "old": "", "new": "8B" }] },
                { "line": 6, "serial": "PF2", "result": "changed", "changes": [{ "field": "class", "old": "8A", "new": "8B" }] },
                { "line": 7, "serial": "", "result": "invalid", "problems": ["there is no serial number"] },
            ],
        }))
        .unwrap();
        let look = Look {
            paint: Paint::NONE,
            width: 80,
        };
        insta::assert_snapshot!(render_draft(&draft, &look));
    }

    #[test]
    fn the_last_equals_sign_parts_column_and_field() {
        assert_eq!(
            assignment("A=B = serial").unwrap(),
            ("A=B".into(), "serial".into())
        );
        assert!(assignment("serial").is_err());
    }
}
