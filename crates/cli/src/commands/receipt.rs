//! `forestage receipt`: what the factory did.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use media::medium::read_receipts;
use wire::admin_api::ReceiptRow;
use wire::receipt::{ImportReceipts, Receipt as Record, ReceiptImport, ReceiptResult, ReceiptText};

use crate::api;
use crate::commands::receipt_reconcile::{self, Reconcile};
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, count, moment, seconds};
use crate::settings::{connect, read_limited};

/// Receipts shown one by one; all of them are in the JSON.
const ROWS_SHOWN_MAX: usize = 50;
/// A receipt has about 1 KiB.
const RECEIPT_BYTES_MAX: u64 = 1 << 20;

/// What the factory did.
#[derive(Debug, Subcommand)]
pub(crate) enum Receipt {
    /// Import the receipts of a boot medium
    ///
    /// Takes images, devices and single JSON files, and hands all of them in at once. Importing a receipt twice changes
    /// nothing. A receipt is a claim of the factory, not a proof.
    #[command(
        after_help = "Example:\n  forestage receipt import /dev/sdb\n  forestage receipt import PF3ABC12.json"
    )]
    Import(Import),
    /// List all receipts, newest first
    #[command(after_help = "Example:\n  forestage receipt list")]
    List,
    /// Compare an order with the receipts: what is staged, missing, wrong, or was never ordered
    ///
    /// The exit code is 0 if every machine is staged as ordered and 1 if not; `--csv` and `--json` hold every row.
    /// Receipts are claims: what comes out is what the sticks say.
    #[command(
        after_help = "Example:\n  forestage receipt reconcile --import 7\n  forestage receipt reconcile --import 7 --only missing --csv missing.csv"
    )]
    Reconcile(Reconcile),
}

/// `receipt import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Images, devices or JSON files
    #[arg(required = true, value_name = "STICK.img|DEVICE|FILE.json")]
    from: Vec<Utf8PathBuf>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Receipt, output: &Output) -> Outcome<()> {
    match command {
        Receipt::Import(import) => run_import(import, output),
        Receipt::Reconcile(reconcile) => receipt_reconcile::run(reconcile, output),
        Receipt::List => {
            let rows = api::receipts(&connect()?).trying(|| "cannot list receipts".into())?;
            output.answer(&rows, |look| {
                let pairs = rows
                    .iter()
                    .map(|row: &ReceiptRow| (&row.receipt, Some(row.received_at_ms)));
                render(pairs, look)
            })
        }
    }
}

/// Every receipt that can be read is handed in; one that can't does not hold up the others.
fn run_import(import: &Import, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let mut files = Vec::new();
    let mut unreadable = 0;
    for path in &import.from {
        for file in read(path)? {
            match file {
                Ok(file) => files.push(file),
                Err(failure) => {
                    unreadable += 1;
                    output.say_failure(&failure);
                }
            }
        }
    }
    let wanted = ImportReceipts {
        dry_run: import.dry_run,
        files,
    };
    let report = client
        .import_receipts(&wanted)
        .trying(|| "cannot hand in the receipts".into())?;
    for row in report.rows.iter().filter(|row| row.receipt.is_none()) {
        unreadable += 1;
        let what = format!("{} is no receipt", row.file);
        output.say_failure(&Failure::new(what).because(row.why.clone()));
    }
    output.answer(&report, |look| imported(&report, look))?;
    if unreadable > 0 {
        return Err(Failure::new(format!(
            "{} could not be read",
            count(unreadable, "receipt")
        )));
    }
    Ok(())
}

/// A few are shown one by one; of many, those that failed.
fn imported(report: &ReceiptImport, look: &Look) -> String {
    let receipts = || report.rows.iter().filter_map(|row| row.receipt.as_ref());
    let is_failed = |receipt: &&Record| receipt.result == ReceiptResult::Failed;
    let all = count(receipts().count(), "receipt");
    let summary = format!(
        "{all}{}: {} new, {} known already, {} of failures\n",
        if report.dry_run {
            ", nothing is stored"
        } else {
            " imported"
        },
        report.new,
        report.known,
        receipts().filter(is_failed).count()
    );
    let mut shown: Vec<&Record> = receipts().collect();
    if shown.len() > ROWS_SHOWN_MAX {
        shown.retain(is_failed);
        shown.truncate(ROWS_SHOWN_MAX);
    }
    if shown.is_empty() {
        return summary;
    }
    let table = render(shown.into_iter().map(|receipt| (receipt, None)), look);
    format!("{table}\n{summary}")
}

fn read(path: &Utf8Path) -> Outcome<Vec<Outcome<ReceiptText>>> {
    if path.extension() == Some("json") {
        let bytes =
            read_limited(path, RECEIPT_BYTES_MAX).trying(|| format!("cannot read {path}"))?;
        return Ok(vec![Ok(ReceiptText {
            name: path.to_string(),
            text: String::from_utf8_lossy(&bytes).into_owned(),
        })]);
    }
    let files = read_receipts(path).trying(|| format!("cannot read the boot medium {path}"))?;
    Ok(files
        .into_iter()
        .map(|file| {
            let name = format!("receipts/{} of {path}", file.name);
            let receipt = file.receipt.trying(|| format!("cannot read {name}"))?;
            let text = serde_json::to_string(&receipt).trying(|| format!("cannot send {name}"))?;
            Ok(ReceiptText { name, text })
        })
        .collect())
}

fn render<'a>(receipts: impl Iterator<Item = (&'a Record, Option<i64>)>, look: &Look) -> String {
    let mut table = Table::new(&[
        "serial", "model", "result", ">took", "prestage", "disk", "imported", "remark",
    ]);
    for (receipt, received) in receipts {
        let result = match receipt.result {
            ReceiptResult::Staged => "staged",
            ReceiptResult::Failed => "failed",
        };
        let prestage = match (&receipt.prestage, receipt.prestage_version) {
            (Some(name), Some(version)) => format!("{name}@{version}"),
            _ => "-".into(),
        };
        table.row([
            receipt.serial.clone(),
            format!("{} {}", receipt.vendor, receipt.product),
            result.into(),
            seconds(receipt.seconds),
            prestage,
            receipt.disk_serial.clone(),
            received.map_or_else(|| "now".into(), moment),
            remark(receipt),
        ]);
    }
    if table.is_empty() {
        "no receipts\n".into()
    } else {
        table.render(look, "")
    }
}

/// Why it failed; or what to know of a machine that is staged.
fn remark(receipt: &Record) -> String {
    let refuses = receipt.secure_boot.iter().flat_map(|said| &said.refuses);
    let refuses: Vec<&str> = refuses.map(String::as_str).collect();
    if receipt.errors.is_empty() && !refuses.is_empty() {
        return format!(
            "starts only while Secure Boot is off: {}",
            refuses.join("; ")
        );
    }
    receipt.errors.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::receipt::{ReceiptSecureBoot, SecureBootState};

    #[test]
    fn a_staged_machine_that_starts_only_without_secure_boot_is_told() {
        let text = include_str!("../../tests/it/receipt.json");
        let mut receipt: Record = serde_json::from_str(text).unwrap();
        receipt.errors.clear();
        assert_eq!(remark(&receipt), "");
        receipt.secure_boot = Some(ReceiptSecureBoot {
            state: SecureBootState::Off,
            refuses: vec!["loader.efi: it isn't signed".into()],
        });
        assert_eq!(
            remark(&receipt),
            "starts only while Secure Boot is off: loader.efi: it isn't signed"
        );
        receipt.errors = vec!["cannot write".into(), "no space".into()];
        assert_eq!(remark(&receipt), "cannot write: no space");
    }
}
