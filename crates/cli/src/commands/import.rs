//! `forestage import`: files of vendors, from draft to undo.

use clap::{Args, Subcommand};
use wire::imports::{
    AcceptImport, ImportDraft, ImportProfile, ImportRow, ImportState, RowResult, UndoImport,
    UndoReport,
};

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, bytes, clean, count, moment};
use crate::settings::connect;

/// Rows shown to people; all are in the JSON.
const ROWS_SHOWN_MAX: usize = 50;
/// All rows of a file.
pub(crate) const ROWS_ALL: usize = wire::imports::IMPORT_ROWS_MAX;

/// Files of vendors: look at drafts, accept them, take imports back.
#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// List all imports, newest first
    #[command(after_help = "Example:\n  forestage import list")]
    List,
    /// Show an import: its columns, and what each row does or did
    #[command(after_help = "Example:\n  forestage import show 7 --rows invalid")]
    Show(Show),
    /// Accept a draft: its rows become machines
    #[command(after_help = "Example:\n  forestage import accept 7")]
    Accept(Accept),
    /// Throw a draft away
    #[command(after_help = "Example:\n  forestage import discard 7")]
    Discard {
        /// The import's number
        import: i64,
    },
    /// Take an accepted import back
    ///
    /// Its new machines go, its changed machines get their old values. Rows that were changed since are named and
    /// stay as they are, unless forced. Machines that have checked in are never deleted.
    #[command(after_help = "Example:\n  forestage import undo 7 --dry-run")]
    Undo(Undo),
    /// List, save and remove profiles: how the files of one vendor are read
    #[command(
        subcommand,
        after_help = "Example:\n  forestage import profile save acme --from 7"
    )]
    Profile(Profile),
}

/// `import profile`
#[derive(Debug, Subcommand)]
pub(crate) enum Profile {
    /// List all profiles
    #[command(after_help = "Example:\n  forestage import profile list")]
    List,
    /// Save how a draft is read, so that the next file with these titles is read the same way
    #[command(after_help = "Example:\n  forestage import profile save acme --from 7")]
    Save {
        /// The profile's name
        name: String,
        /// The import's number
        #[arg(long, value_name = "IMPORT")]
        from: i64,
    },
    /// Remove a profile
    #[command(after_help = "Example:\n  forestage import profile remove acme")]
    Remove {
        /// The profile's name
        name: String,
    },
}

/// `import show`
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The import's number
    import: i64,
    /// Only rows of this kind: new, changed, unchanged, duplicate, invalid or skipped
    #[arg(long, value_name = "KIND", value_parser = kind)]
    rows: Option<RowResult>,
}

/// `import accept`
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// The import's number
    import: i64,
    /// Leave out rows that are invalid or duplicates
    #[arg(long)]
    valid_rows_only: bool,
}

/// `import undo`
#[derive(Debug, Args)]
pub(crate) struct Undo {
    /// The import's number
    import: i64,
    /// Also rows that were changed since
    #[arg(long)]
    force: bool,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

fn kind(text: &str) -> Result<RowResult, String> {
    let known = RowResult::ALL.into_iter().find(|kind| kind.word() == text);
    known.ok_or_else(|| "new, changed, unchanged, duplicate, invalid or skipped".to_owned())
}

/// Does what was asked.
pub(crate) fn run(command: &Import, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Import::List => {
            let rows = client.imports().trying(|| "cannot list imports".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Import::Show(show) => {
            let draft = client
                .import(show.import, show.rows, ROWS_ALL)
                .trying(|| format!("cannot show import {}", show.import))?;
            output.answer(&draft, |look| render_draft(&draft, look))
        }
        Import::Accept(accept) => {
            let wish = AcceptImport {
                valid_rows_only: accept.valid_rows_only,
                ..AcceptImport::default()
            };
            let row = client
                .accept_import(accept.import, &wish)
                .trying(|| format!("cannot accept import {}", accept.import))?;
            output.answer(&row, |_| render_accepted(&row))
        }
        Import::Discard { import } => {
            let row = client
                .discard_import(*import)
                .trying(|| format!("cannot discard import {import}"))?;
            output.answer(&row, |_| format!("import {import} discarded\n"))
        }
        Import::Undo(undo) => {
            let wish = UndoImport {
                force: undo.force,
                dry_run: undo.dry_run,
            };
            let report = client
                .undo_import(undo.import, &wish)
                .trying(|| format!("cannot undo import {}", undo.import))?;
            output.answer(&report, |look| render_undo(&report, look))
        }
        Import::Profile(profile) => run_profile(profile, output),
    }
}

fn run_profile(command: &Profile, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Profile::List => {
            let rows = client
                .import_profiles()
                .trying(|| "cannot list import profiles".into())?;
            output.answer(&rows, |look| render_profiles(&rows, look))
        }
        Profile::Save { name, from } => {
            let draft = client
                .import(*from, None, 1)
                .trying(|| format!("cannot show import {from}"))?;
            if draft.columns.is_empty() {
                return Err(Failure::new(format!("import {from} is no draft any more"))
                    .hint("upload the file again with `forestage asset import FILE --dry-run`"));
            }
            let columns = || draft.columns.iter();
            let profile = ImportProfile {
                name: name.clone(),
                titles: columns().map(|column| column.title.clone()).collect(),
                mapping: columns()
                    .map(|column| (column.title.clone(), column.field.clone()))
                    .collect(),
                ..ImportProfile::default()
            };
            let saved = client
                .put_import_profile(&profile)
                .trying(|| format!("cannot save the import profile {name}"))?;
            output.answer(&saved, |_| {
                format!("import profile {} saved\n", clean(&saved.name))
            })
        }
        Profile::Remove { name } => {
            let removed = client
                .remove_import_profile(name)
                .trying(|| format!("cannot remove the import profile {name}"))?;
            output.answer(&removed, |_| {
                format!("import profile {} removed\n", clean(name))
            })
        }
    }
}

fn render_list(rows: &[ImportRow], look: &Look) -> String {
    let mut table = Table::new(&[
        ">import", "state", ">new", ">changed", ">refused", "by", "when", ">size", "file",
    ]);
    for row in rows {
        table.row([
            row.import.to_string(),
            row.state.word().to_owned(),
            row.counts.new.to_string(),
            row.counts.changed.to_string(),
            row.counts.refused().to_string(),
            row.uploaded_by.clone(),
            moment(row.uploaded_at_ms),
            bytes(row.file_bytes),
            row.file.clone(),
        ]);
    }
    if table.is_empty() {
        "no imports yet\n".into()
    } else {
        table.render(look, "")
    }
}

/// A draft, or what an import did.
pub(crate) fn render_draft(draft: &ImportDraft, look: &Look) -> String {
    let mut text = head(draft);
    if !draft.columns.is_empty() {
        let mut columns = Table::new(&["column", "taken for", "by", "such as"]);
        for column in &draft.columns {
            columns.row([
                column.title.clone(),
                column.field.clone(),
                if column.told { "you" } else { "guess" }.into(),
                column.samples.join(", "),
            ]);
        }
        text.push_str(&columns.render(look, "  "));
        text.push('\n');
    }
    for problem in &draft.problems {
        text.push_str(&format!("  problem: {}\n", clean(problem)));
    }
    let shown: Vec<_> = draft
        .rows
        .iter()
        .filter(|row| row.result != RowResult::Unchanged)
        .collect();
    if !shown.is_empty() {
        let mut rows = Table::new(&[">line", "serial", "result", "what"]);
        for row in shown.iter().take(ROWS_SHOWN_MAX) {
            let changes = row.changes.iter().map(|change| match change.old.as_str() {
                "" => format!("{}: {}", change.field, change.new),
                old => format!("{}: {old} → {}", change.field, change.new),
            });
            let what: Vec<String> = row.problems.iter().cloned().chain(changes).collect();
            rows.row([
                row.line.to_string(),
                row.serial.clone(),
                row.result.word().into(),
                what.join("; "),
            ]);
        }
        text.push_str(&rows.render(look, "  "));
        if shown.len() > ROWS_SHOWN_MAX {
            let more = shown.len() - ROWS_SHOWN_MAX;
            text.push_str(&format!("  and {more} more; `--json` lists all\n"));
        }
        text.push('\n');
    }
    text.push_str(&counts(&draft.import));
    text
}

fn head(draft: &ImportDraft) -> String {
    let import = &draft.import;
    let mut text = format!(
        "import {}, {}: {}\n",
        import.import,
        import.state.word(),
        clean(&import.file)
    );
    if !draft.form.is_empty() {
        text.push_str(&format!(
            "  {}, titles in line {}",
            clean(&draft.form),
            draft.title_line
        ));
        if draft.sheets.len() > 1 {
            let name = usize::try_from(draft.sheet)
                .ok()
                .and_then(|sheet| draft.sheets.get(sheet.wrapping_sub(1)));
            let name = name.map(String::as_str).unwrap_or_default();
            text.push_str(&format!(
                ", sheet {} of {} ({})",
                draft.sheet,
                draft.sheets.len(),
                clean(name)
            ));
        }
        if let Some(profile) = &draft.profile {
            text.push_str(&format!(", read with the profile {}", clean(profile)));
        }
        text.push('\n');
    }
    for other in &draft.same_as {
        text.push_str(&format!("  the very same file is import {other} already\n"));
    }
    text.push('\n');
    text
}

fn counts(import: &ImportRow) -> String {
    let counts = &import.counts;
    format!(
        "{} new, {} changed, {} unchanged, {} duplicate, {} invalid, {} skipped{}\n",
        counts.new,
        counts.changed,
        counts.unchanged,
        counts.duplicate,
        counts.invalid,
        counts.skipped,
        if import.state == ImportState::Draft {
            " (nothing is stored yet)"
        } else {
            ""
        },
    )
}

/// An import that was just accepted.
pub(crate) fn render_accepted(row: &ImportRow) -> String {
    format!(
        "{}import {} accepted; `forestage import undo {}` takes it back\n",
        counts(row),
        row.import,
        row.import
    )
}

fn render_undo(report: &UndoReport, look: &Look) -> String {
    let mut text = String::new();
    if !report.kept.is_empty() {
        let mut kept = Table::new(&[">line", "serial", "stays, because"]);
        for row in &report.kept {
            kept.row([row.line.to_string(), row.serial.clone(), row.why.clone()]);
        }
        text.push_str(&kept.render(look, "  "));
        text.push('\n');
    }
    text.push_str(&format!(
        "{} deleted, {} restored, {} kept{}\n",
        count(report.deleted as usize, "machine"),
        report.restored,
        report.kept.len(),
        if report.dry_run {
            " (a dry run: nothing was done)"
        } else {
            ""
        },
    ));
    text
}

fn render_profiles(rows: &[ImportProfile], look: &Look) -> String {
    let mut table = Table::new(&["name", "saved by", "when", "columns"]);
    for row in rows {
        let fields: Vec<String> = row
            .mapping
            .iter()
            .map(|(title, field)| format!("{title} = {field}"))
            .collect();
        table.row([
            row.name.clone(),
            row.updated_by.clone(),
            moment(row.updated_at_ms),
            fields.join(", "),
        ]);
    }
    if table.is_empty() {
        "no import profiles yet\n".into()
    } else {
        table.render(look, "")
    }
}
