//! `forestage audit`: who did what, and whether anybody changed the record of it.

use clap::{Args, Subcommand};
use client::Client;
use serde::Serialize;
use wire::admin_api::AuditRow;
use wire::audit::{AuditHead, Verifier};

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, clean, count, moment};
use crate::settings::connect;

/// Who did what.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List what was done, newest first
    #[command(after_help = "Example:\n  forestage audit list --who kari --text PF3ABC12")]
    List(List),
    /// Check that nobody changed, removed or reordered anything
    ///
    /// Reads the whole audit and goes along its chain. Prints the head: note it outside of the server, and give it with
    /// `--head` the next time. Then even an audit that was written anew as a whole is noticed.
    #[command(after_help = "Example:\n  forestage audit verify")]
    Verify(Verify),
}

/// `audit list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only what this user did; `device` and `server` do things, too
    #[arg(long, value_name = "USER")]
    who: Option<String>,
    /// Only this kind of deed, such as `asset-imported`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only what was done to exactly this
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// Only what was asked for from this IP address, or from this subnet
    #[arg(long, value_name = "ADDRESS|SUBNET")]
    address: Option<String>,
    /// Only rows that hold this text, whatever its case
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// How many rows at most, up to 5000
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// `audit verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A head that was noted earlier
    #[arg(long, value_name = "NUMBER:DIGEST")]
    head: Option<AuditHead>,
}

/// Does what was asked.
pub(crate) fn run(command: &Audit, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Audit::List(list) => {
            let filters = [
                ("who", &list.who),
                ("action", &list.action),
                ("subject", &list.subject),
                ("address", &list.address),
                ("text", &list.text),
            ];
            let filters: Vec<(&str, String)> = filters
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.clone()?)))
                .collect();
            let rows = client
                .audit(&filters, list.limit)
                .trying(|| "cannot read the audit".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Audit::Verify(verify) => {
            let verified = go_along(&client, verify.head)?;
            output.answer(&verified, |look| render_verified(&verified, look))
        }
    }
}

/// What `audit verify` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Verified {
    rows: u64,
    head: AuditHead,
    /// Whether the head that was noted earlier is in it.
    noted: bool,
}

fn go_along(client: &Client, noted: Option<AuditHead>) -> Outcome<Verified> {
    let broken = |error| {
        Failure::new("the audit isn't what it was")
            .because(error)
            .hint("find out who could write into the database; a backup shows what stood there")
    };
    let mut verifier = Verifier::new(noted);
    let mut last = 0;
    loop {
        let rows = client
            .audit_after(last)
            .trying(|| "cannot read the audit".into())?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            verifier.next(row).map_err(broken)?;
            last = row.number;
        }
    }
    let head = verifier.finish().map_err(broken)?;
    Ok(Verified {
        rows: head.number,
        head,
        noted: noted.is_some(),
    })
}

fn render_verified(verified: &Verified, look: &Look) -> String {
    let rows = count(usize::try_from(verified.rows).unwrap_or(usize::MAX), "row");
    let noted = match verified.noted {
        true => ", and the head you noted is one of them",
        false => "",
    };
    format!(
        "{} {rows} follow from one another{noted}\n  head  {}\n  note it outside of this server; `--head` compares with it\n",
        look.paint.good("ok"),
        verified.head
    )
}

fn render_list(rows: &[AuditRow], look: &Look) -> String {
    let mut table = Table::new(&[">row", "when", "who", "from", "what", "to", "more"]);
    for row in rows {
        table.row([
            row.number.to_string(),
            moment(row.at_ms),
            clean(&row.who),
            row.address.clone(),
            row.action.clone(),
            clean(&row.subject),
            clean(&row.detail),
        ]);
    }
    match table.is_empty() {
        true => "nothing that fits\n".into(),
        false => table.render(look, ""),
    }
}
