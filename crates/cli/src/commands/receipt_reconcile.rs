//! `forestage receipt reconcile`: what was ordered against what the sticks say.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use wire::drift::PrestageId;
use wire::receipt::ReceiptResult;
use wire::reconciliation::{
    ReconcileSerials, ReconciledFilter, ReconciledRow, ReconciledState, Reconciliation,
};

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count};
use crate::settings::{connect, read_text};

/// Rows shown to people; all are in the JSON and in the CSV.
const ROWS_SHOWN_MAX: usize = 50;
/// A file with a serial number on each line.
const SERIALS_BYTES_MAX: u64 = 4 << 20;

/// `receipt reconcile`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("order").required(true))]
pub(crate) struct Reconcile {
    /// The order: the number of an accepted import
    #[arg(long, value_name = "N", group = "order")]
    import: Option<i64>,
    /// The order: a file with one serial number on each line
    #[arg(long, value_name = "FILE", group = "order")]
    serials: Option<Utf8PathBuf>,
    /// Only these rows: missing, failed, wrong-model, wrong-bundle, staged-twice, unexpected, staged, or `differing` for
    /// all that aren't as ordered
    #[arg(long, value_name = "STATE", value_parser = filter, default_value = "", hide_default_value = true)]
    only: ReconciledFilter,
    /// The oldest version of a prestage that is as good as the newest
    #[arg(long, value_name = "NAME@N")]
    oldest: Vec<PrestageId>,
    /// Write the rows as a CSV for the vendor
    #[arg(long, value_name = "FILE", requires = "import")]
    csv: Option<Utf8PathBuf>,
}

fn filter(text: &str) -> Result<ReconciledFilter, String> {
    text.parse()
}

/// Does what was asked. Where something isn't as ordered, the work has failed: scripts see it by the exit code.
pub(crate) fn run(reconcile: &Reconcile, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let answer = match (reconcile.import, &reconcile.serials) {
        (Some(import), _) => client
            .reconciliation(import, reconcile.only, &reconcile.oldest)
            .trying(|| format!("cannot reconcile import {import}"))?,
        (None, Some(path)) => {
            let asked = ReconcileSerials {
                serials: serials(path)?,
                oldest: reconcile.oldest.iter().map(ToString::to_string).collect(),
                state: reconcile.only.word().to_owned(),
            };
            client
                .reconcile_serials(&asked)
                .trying(|| format!("cannot reconcile the serial numbers in {path}"))?
        }
        (None, None) => return Err(Failure::usage("no order is named")),
    };
    if let (Some(path), Some(import)) = (&reconcile.csv, reconcile.import) {
        let bytes = client
            .reconciliation_csv(import, reconcile.only, &reconcile.oldest)
            .trying(|| format!("cannot reconcile import {import}"))?;
        std::fs::write(path, bytes).trying(|| format!("cannot write {path}"))?;
        let rows = usize::try_from(answer.rows_total).unwrap_or(usize::MAX);
        output.say(&format!("{path} written ({})", count(rows, "row")));
    }
    output.answer(&answer, |look| render(&answer, look))?;
    match answer.counts.differing() {
        0 => Ok(()),
        differing => Err(Failure::new(format!(
            "{} not as ordered, by what the sticks say",
            match differing {
                1 => "1 machine is".to_owned(),
                many => format!("{many} machines are"),
            }
        ))
        .hint("`--csv FILE --only missing` writes a list for the vendor")),
    }
}

/// One serial number on each line; what follows a delimiter is passed over, so that a column cut from a table will do.
fn serials(path: &Utf8Path) -> Outcome<Vec<String>> {
    let text = read_text(path, SERIALS_BYTES_MAX)?;
    let first = |line: &str| {
        let first = line.split([';', ',', '\t']).next().unwrap_or_default();
        first
            .trim_matches(|c: char| c.is_whitespace() || c == '"' || c == '\u{feff}')
            .to_owned()
    };
    let serials: Vec<String> = text
        .lines()
        .map(first)
        .filter(|serial| !serial.is_empty())
        .collect();
    if serials.is_empty() {
        return Err(Failure::new(format!("{path} holds no serial number")));
    }
    Ok(serials)
}

fn render(answer: &Reconciliation, look: &Look) -> String {
    let mut text = match (answer.import, &answer.file) {
        (Some(import), Some(file)) => format!("import {import}, {}: ", clean(file)),
        _ => String::new(),
    };
    let ordered = usize::try_from(answer.ordered).unwrap_or(usize::MAX);
    text.push_str(&format!("{} ordered", count(ordered, "machine")));
    if answer.left_out > 0 {
        let left_out = usize::try_from(answer.left_out).unwrap_or(usize::MAX);
        text.push_str(&format!(
            "; {} of the file left out",
            count(left_out, "row")
        ));
    }
    text.push_str("\nby what the sticks say (receipts are claims, not proofs):\n\n");
    let mut counts = Table::new(&["state", ">machines", "meaning"]);
    for state in ReconciledState::ALL {
        counts.row([
            state.word().into(),
            answer.counts.of(state).to_string(),
            meaning(state).into(),
        ]);
    }
    text.push_str(&counts.render(look, "  "));
    let shown = answer
        .rows
        .iter()
        .filter(|row| row.state != ReconciledState::Staged);
    let mut rows = Table::new(&[
        ">line",
        "serial",
        "asset tag",
        "state",
        "the stick says",
        "why",
    ]);
    for row in shown.clone().take(ROWS_SHOWN_MAX) {
        rows.row([
            row.line.map_or_else(|| "-".into(), |line| line.to_string()),
            row.serial.clone(),
            row.asset_tag.clone(),
            row.state.word().into(),
            says(row),
            row.why.join("; "),
        ]);
    }
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&rows.render(look, "  "));
    }
    let more = shown.count().saturating_sub(ROWS_SHOWN_MAX);
    if more > 0 {
        text.push_str(&format!(
            "  and {more} more; `--json` and `--csv` list all\n"
        ));
    }
    text
}

const fn meaning(state: ReconciledState) -> &'static str {
    match state {
        ReconciledState::Staged => "ordered, and staged as ordered",
        ReconciledState::Missing => "ordered, and no stick knows it",
        ReconciledState::Failed => "ordered, and its last receipt says that staging failed",
        ReconciledState::WrongModel => "ordered as another model than the stick met",
        ReconciledState::WrongBundle => "staged from another bundle than the one for its model",
        ReconciledState::StagedTwice => "staged more than once",
        ReconciledState::Unexpected => "on a stick, and nobody ordered it",
    }
}

fn says(row: &ReconciledRow) -> String {
    let Some(claim) = &row.claim else {
        return "-".into();
    };
    let result = match claim.result {
        ReceiptResult::Staged => "staged",
        ReceiptResult::Failed => "failed",
    };
    let prestage = claim.prestage.as_ref();
    let prestage = prestage.map_or_else(String::new, |id| format!(", {id}"));
    format!("{result}, {}{prestage}", claim.model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::package::Model;
    use wire::reconciliation::{ReconciledCounts, StickClaim};

    const LOOK: Look = Look {
        paint: crate::output::Paint::NONE,
        width: 110,
    };

    #[test]
    fn a_reconciliation_names_what_differs_and_says_that_it_is_a_claim() {
        let model = |product: &str| Model {
            vendor: "Acme".into(),
            product: product.into(),
            ..Model::default()
        };
        let claim = |result, receipts| StickClaim {
            result,
            model: model("Book 14"),
            prestage: Some("book-14@3".parse().unwrap()),
            disk_serial: "D1".into(),
            errors: vec![],
            received_at_ms: 1_780_000_000_000,
            receipts,
        };
        let row = |line, serial: &str, state, why: &str, claim| ReconciledRow {
            line,
            serial: serial.into(),
            asset_tag: "T1".into(),
            ordered: model("Book 14"),
            site: "BJO".into(),
            state,
            why: vec![why.into()],
            said: vec![],
            claim,
            device: None,
        };
        let answer = Reconciliation {
            import: Some(7),
            file: Some("ordre.xlsx".into()),
            ordered: 3,
            left_out: 1,
            counts: ReconciledCounts {
                staged: 1,
                missing: 1,
                failed: 1,
                unexpected: 1,
                ..ReconciledCounts::default()
            },
            rows_total: 4,
            rows: vec![
                row(
                    Some(5),
                    "PF1",
                    ReconciledState::Missing,
                    "no stick knows it",
                    None,
                ),
                row(
                    Some(6),
                    "PF2",
                    ReconciledState::Failed,
                    "the stick says that staging failed at the step disk",
                    Some(claim(ReceiptResult::Failed, 1)),
                ),
                row(
                    None,
                    "PF9\u{1b}[31m",
                    ReconciledState::Unexpected,
                    "nobody ordered it",
                    Some(claim(ReceiptResult::Staged, 1)),
                ),
            ],
        };
        insta::assert_snapshot!(render(&answer, &LOOK));
    }
}
