//! `forestage pupil`: who may get a device, and what personal data asks for.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use client::{Client, ListOptions, PupilFilter};
use wire::pupils::{
    Erasure, HandOutSettings, ListImportReport, PupilDetail, PupilExport, PupilRow,
};

use crate::commands::assignment;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, moment};
use crate::settings::{connect, read_limited, write_private};

/// A list of a whole county has about 2 MiB.
pub(crate) const LIST_BYTES_MAX: u64 = 32 << 20;
/// Rows with problems or warnings shown to people; all are in the JSON.
const ROWS_SHOWN_MAX: usize = 50;

/// The pupils who get devices.
#[derive(Debug, Subcommand)]
pub(crate) enum Pupil {
    /// Import a list of pupils (CSV or Excel) from the school's system
    ///
    /// The columns are recognised by their titles, in English and Norwegian: number or user name, name (or first and last
    /// name), site, class. Either every row is good or nothing is stored. A pupil is known by the number: importing the
    /// list again corrects names and classes.
    #[command(after_help = "Example:\n  forestage pupil import pupils.csv --dry-run")]
    Import(Import),
    /// List pupils and what they have
    #[command(after_help = "Example:\n  forestage pupil list --site BJO --class 8B --without")]
    List(List),
    /// Show a pupil and every device they ever had
    #[command(after_help = "Example:\n  forestage pupil show karnor01")]
    Show {
        /// The pupil's number or user name
        pupil: String,
    },
    /// Write down everything that is kept of one person
    ///
    /// This is what you hand to a pupil or a parent who asks what is kept. The audit notes that you did.
    #[command(after_help = "Example:\n  forestage pupil export karnor01 --output karnor01.json")]
    Export(Export),
    /// Erase everything personal of a pupil
    ///
    /// Name, number, class and all notes go; hand-outs remain as those of nobody. It can't be undone, so the number is
    /// given twice.
    #[command(after_help = "Example:\n  forestage pupil erase karnor01 --confirm karnor01")]
    Erase(Erase),
    /// Show or set how long pupils are kept, and the owner's line on labels
    #[command(
        after_help = "Example:\n  forestage pupil settings --retention-days 180 --owner-line \"Tilhører Bjørnøya kommune\""
    )]
    Settings(Settings),
}

/// `pupil import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The list
    file: Utf8PathBuf,
    #[command(flatten)]
    how: How,
    /// The site of rows that name none
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// The list is complete: pupils of its sites that it doesn't name have left
    #[arg(long)]
    complete: bool,
}

/// How a list is imported.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Only say what would happen
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `pupil list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only those of this site
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// Only those of this class
    #[arg(
        long,
        value_name = "CLASS",
        default_value = "",
        hide_default_value = true
    )]
    class: String,
    /// Only those without a device
    #[arg(long)]
    without: bool,
}

/// `pupil export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The pupil's number or user name
    pupil: String,
    /// Write to this file, readable by you alone, instead of to the screen
    #[arg(long, value_name = "FILE")]
    output: Option<Utf8PathBuf>,
}

/// `pupil erase`
#[derive(Debug, Args)]
pub(crate) struct Erase {
    /// The pupil's number or user name
    pupil: String,
    /// The same once more
    #[arg(long, value_name = "PUPIL")]
    confirm: Option<String>,
}

/// `pupil settings`
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Erase pupils without a device so many days after their last return, leaving or listing; 0 never does
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u32>,
    /// A line on every label
    #[arg(long, value_name = "TEXT")]
    owner_line: Option<String>,
}

/// Does what was asked.
pub(crate) fn run(command: &Pupil, output: &Output) -> Outcome<()> {
    match command {
        Pupil::Import(import) => {
            let file = read_limited(&import.file, LIST_BYTES_MAX)
                .trying(|| format!("cannot read {}", import.file))?;
            let options = ListOptions {
                dry_run: import.how.dry_run,
                site: import.site.clone(),
                complete: import.complete,
            };
            let report = connect()?
                .import_pupils(&file, &options)
                .trying(|| format!("cannot import {}", import.file))?;
            answer_import(&report, &import.file, output)
        }
        Pupil::List(list) => {
            let filter = PupilFilter {
                site: list.site.clone(),
                class: list.class.clone(),
                without: list.without,
            };
            let rows = connect()?
                .pupils(&filter)
                .trying(|| "cannot list pupils".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Pupil::Show { pupil } => {
            let client = connect()?;
            let found = find(&client, pupil)?;
            let detail = client
                .pupil(found.pupil)
                .trying(|| format!("cannot show the pupil {pupil}"))?;
            output.answer(&detail, |look| render_detail(&detail, look))
        }
        Pupil::Export(export) => run_export(export, output),
        Pupil::Erase(erase) => run_erase(erase, output),
        Pupil::Settings(settings) => run_settings(settings, output),
    }
}

fn run_export(export: &Export, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let found = find(&client, &export.pupil)?;
    let kept: PupilExport = client
        .export_pupil(found.pupil)
        .trying(|| format!("cannot export the pupil {}", export.pupil))?;
    let mut text = serde_json::to_string_pretty(&kept)
        .map_err(|error| Failure::new("cannot write JSON").because(error))?;
    text.push('\n');
    match &export.output {
        None => crate::output::print(&text),
        Some(path) => {
            write_private(path, text.as_bytes()).trying(|| format!("cannot write {path}"))?;
            output.say(&format!(
                "written to {path}; delete it once it is handed over"
            ));
            Ok(())
        }
    }
}

fn run_erase(erase: &Erase, output: &Output) -> Outcome<()> {
    if erase.confirm.as_deref() != Some(erase.pupil.as_str()) {
        return Err(
            Failure::refused(format!("the pupil {} is not erased", erase.pupil)).hint(format!(
                "it can't be undone; add `--confirm {}` if you mean it",
                erase.pupil
            )),
        );
    }
    let client = connect()?;
    let found = find(&client, &erase.pupil)?;
    let erased: Erasure = client
        .erase_pupil(found.pupil)
        .trying(|| format!("cannot erase the pupil {}", erase.pupil))?;
    output.answer(&erased, |_| {
        format!(
            "erased; {} of nobody remain under the id {}\n",
            count(erased.assignments as usize, "hand-out"),
            erased.pupil
        )
    })
}

fn run_settings(change: &Settings, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let mut settings: HandOutSettings = client
        .hand_out_settings()
        .trying(|| "cannot read the settings".into())?;
    if change.retention_days.is_some() || change.owner_line.is_some() {
        if let Some(days) = change.retention_days {
            settings.retention_days = days;
        }
        if let Some(line) = &change.owner_line {
            settings.owner_line.clone_from(line);
        }
        settings = client
            .put_hand_out_settings(&settings)
            .trying(|| "cannot store the settings".into())?;
    }
    output.answer(&settings, |_| {
        let kept = match settings.retention_days {
            0 => "until someone erases them".to_owned(),
            days => format!("{days} days after return, leaving or the last list"),
        };
        format!(
            "pupils without a device are kept  {kept}\nowner's line on labels            {}\n",
            clean(&settings.owner_line)
        )
    })
}

/// The one pupil with this number.
pub(crate) fn find(client: &Client, number: &str) -> Outcome<PupilRow> {
    let reply = client
        .scan(number)
        .trying(|| format!("cannot look up the pupil {number}"))?;
    reply.pupils.into_iter().next().ok_or_else(|| {
        Failure::new(format!("there is no pupil {number}"))
            .hint("`forestage pupil list` shows all with their numbers")
    })
}

/// Says what an import of a list did, and fails if it was refused.
pub(crate) fn answer_import(
    report: &ListImportReport,
    file: &Utf8PathBuf,
    output: &Output,
) -> Outcome<()> {
    output.answer(report, |look| render_import(report, look))?;
    if report.invalid > 0 {
        let rows = count(report.invalid as usize, "row");
        return Err(
            Failure::new(format!("{rows} of {file} refused, nothing was stored"))
                .hint("correct the lines listed and import the file again"),
        );
    }
    Ok(())
}

fn render_import(report: &ListImportReport, look: &Look) -> String {
    let mut columns = Table::new(&["column", "taken for"]);
    for (title, field) in &report.columns {
        columns.row([title.clone(), field.clone()]);
    }
    let mut text = columns.render(look, "  ");
    text.push('\n');
    let noted: Vec<_> = report
        .rows
        .iter()
        .filter(|row| !row.problems.is_empty() || !row.warnings.is_empty())
        .collect();
    if !noted.is_empty() {
        let mut table = Table::new(&[">line", "what", "result", "why"]);
        for row in noted.iter().take(ROWS_SHOWN_MAX) {
            let why = row.problems.iter().chain(&row.warnings);
            table.row([
                row.line.to_string(),
                row.subject.clone(),
                row.result.clone(),
                why.cloned().collect::<Vec<_>>().join("; "),
            ]);
        }
        text.push_str(&table.render(look, "  "));
        if noted.len() > ROWS_SHOWN_MAX {
            let more = noted.len() - ROWS_SHOWN_MAX;
            text.push_str(&format!("  and {more} more; `--json` lists all\n"));
        }
        text.push('\n');
    }
    let left = match report.left {
        0 => String::new(),
        left => format!(", {left} left"),
    };
    text.push_str(&format!(
        "{} new, {} changed, {} unchanged, {} refused{left}{}\n",
        report.new,
        report.changed,
        report.unchanged,
        report.invalid,
        if report.stored {
            ""
        } else {
            " (nothing was stored)"
        },
    ));
    text
}

fn render_list(rows: &[PupilRow], look: &Look) -> String {
    let mut table = Table::new(&["pupil", "name", "site", "class", "has"]);
    for row in rows {
        let has: Vec<&str> = row
            .devices
            .iter()
            .map(|held| held.serial.as_str())
            .collect();
        let has = if row.left_at_ms.is_some() {
            format!("{} (has left)", has.join(", "))
        } else {
            has.join(", ")
        };
        table.row([
            row.external_id.clone(),
            row.name.clone(),
            row.site.clone(),
            row.class.clone(),
            has.trim().to_owned(),
        ]);
    }
    if table.is_empty() {
        "no pupils\n".into()
    } else {
        table.render(look, "")
    }
}

fn render_detail(detail: &PupilDetail, look: &Look) -> String {
    let row = &detail.pupil;
    let mut text = format!(
        "{}  {}, {} {}\n",
        clean(&row.external_id),
        look.paint.bold(&clean(&row.name)),
        clean(&row.site_name),
        clean(&row.class)
    );
    if let Some(left_at_ms) = row.left_at_ms {
        text.push_str(&format!("no longer listed since {}\n", moment(left_at_ms)));
    }
    text.push('\n');
    text.push_str(&assignment::render_list(&detail.history, look));
    text
}

#[cfg(test)]
mod tests {
    use super::{render_import, render_list};
    use crate::output::{Look, Paint};
    use wire::names::PupilId;
    use wire::pupils::{ListImportReport, ListImportRow, PupilRow};

    const LOOK: Look = Look {
        paint: Paint::NONE,
        width: 80,
    };

    #[test]
    fn refused_rows_are_named_with_line_and_reason() {
        let report = ListImportReport {
            dry_run: false,
            stored: false,
            columns: vec![("Elevnummer".into(), "pupil".into())],
            rows: vec![ListImportRow {
                line: 3,
                subject: "e1".into(),
                result: "invalid".into(),
                problems: vec!["there is no site XXX".into()],
                warnings: vec![],
                said: vec![],
            }],
            new: 0,
            changed: 0,
            unchanged: 0,
            invalid: 1,
            left: 0,
        };
        let text = render_import(&report, &LOOK);
        assert!(
            text.contains("3  e1    invalid  there is no site XXX"),
            "{text}"
        );
        assert!(text.ends_with("1 refused (nothing was stored)\n"), "{text}");
    }

    #[test]
    fn whoever_left_is_marked() {
        let row = PupilRow {
            pupil: PupilId::random(),
            external_id: "e1".into(),
            name: "Åse Ødegård".into(),
            site: "BJO".into(),
            site_name: "Bjørnøya skole".into(),
            class: "8B".into(),
            several: false,
            devices: vec![],
            left_at_ms: Some(1),
            erased_at_ms: None,
        };
        let text = render_list(&[row], &LOOK);
        assert!(
            text.contains("e1     Åse Ødegård  BJO   8B     (has left)"),
            "{text}"
        );
        assert_eq!(render_list(&[], &LOOK), "no pupils\n");
    }
}
