//! `forestage quarantine`: machines that are nobody yet.

use clap::{Args, Subcommand};
use wire::quarantine::{Decide as Wish, Decision, QuarantineRow};

use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, count, moment};
use crate::settings::connect;

/// Machines that could not be matched to one asset, and decisions about them.
#[derive(Debug, Subcommand)]
pub(crate) enum Quarantine {
    /// List the machines in quarantine, with the assets they may be
    #[command(after_help = "Example:\n  forestage quarantine list")]
    List {
        /// Only those that last asked from this site (its code)
        #[arg(long, value_name = "CODE")]
        site: Option<String>,
    },
    /// Decide who machines are
    ///
    /// A decision takes effect when the machine asks again, which it does by itself every half minute. Until then
    /// `forestage quarantine undo` takes it back.
    #[command(
        after_help = "Example:\n  forestage quarantine decide 6f1c2a9e --is-asset PF3ABC12\n  \
                      forestage quarantine decide --all --new-asset --site BJO"
    )]
    Decide(Decide),
    /// Take back a decision that the machine hasn't acted on yet
    #[command(after_help = "Example:\n  forestage quarantine undo 6f1c2a9e")]
    Undo {
        /// The machine, as `quarantine list` shows it
        machine: String,
    },
}

/// `quarantine decide`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["is_asset", "best", "new_asset", "replace_key", "reject"])))]
pub(crate) struct Decide {
    /// The machines, as `quarantine list` shows them (the first digits suffice)
    #[arg(required_unless_present = "all")]
    machines: Vec<String>,
    /// All machines in quarantine that nothing is decided about
    #[arg(long, conflicts_with = "machines")]
    all: bool,
    /// The machine is this asset
    #[arg(long, value_name = "SERIAL")]
    is_asset: Option<String>,
    /// Each machine is the asset that fits it best
    #[arg(long)]
    best: bool,
    /// The machine is a new asset
    #[arg(long)]
    new_asset: bool,
    /// The machine is this asset, with a new disk or mainboard: its old key is forgotten
    #[arg(long, value_name = "SERIAL")]
    replace_key: Option<String>,
    /// The machine stays out, for this reason
    #[arg(long, value_name = "REASON")]
    reject: Option<String>,
    /// The site of a new asset
    #[arg(
        long,
        value_name = "CODE",
        requires = "new_asset",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
    /// The class of a new asset
    #[arg(
        long,
        value_name = "CLASS",
        requires = "new_asset",
        default_value = "",
        hide_default_value = true
    )]
    class: String,
}

impl Decide {
    fn decision(&self) -> Decision {
        if let Some(reason) = &self.reject {
            return Decision::Reject {
                reason: reason.clone(),
            };
        }
        if let Some(asset) = &self.replace_key {
            return Decision::ReplaceKey {
                asset: Some(asset.clone()),
            };
        }
        if self.new_asset {
            return Decision::NewAsset {
                site: self.site.clone(),
                class: self.class.clone(),
            };
        }
        Decision::IsAsset {
            asset: self.is_asset.clone(),
        }
    }
}

/// Does what was asked.
pub(crate) fn run(command: &Quarantine, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let rows = client
        .quarantine()
        .trying(|| "cannot list the quarantine".into())?;
    match command {
        Quarantine::List { site } => {
            let is_wanted =
                |row: &&QuarantineRow| site.as_ref().is_none_or(|s| row.seen_site == *s);
            let rows: Vec<QuarantineRow> = rows.iter().filter(is_wanted).cloned().collect();
            output.answer(&rows, |look| render(&rows, look))
        }
        Quarantine::Decide(decide) => {
            let machines: Vec<String> = if decide.all {
                let open = rows.iter().filter(|row| row.decision.is_none());
                open.map(|row| row.machine.clone()).collect()
            } else {
                let named = decide.machines.iter();
                named
                    .map(|name| find(&rows, name))
                    .collect::<Outcome<_>>()?
            };
            if machines.is_empty() {
                return Err(Failure::new(
                    "no machine in quarantine waits for a decision",
                ));
            }
            let wish = Wish {
                machines,
                decision: decide.decision(),
            };
            let decided = client.decide(&wish).trying(|| "cannot decide".into())?;
            output.answer(&decided, |look| {
                let machines = count(decided.len(), "machine");
                format!("{}\ndecided about {machines}\n", render(&decided, look))
            })
        }
        Quarantine::Undo { machine } => {
            let machine = find(&rows, machine)?;
            let row = client
                .undo_decision(&machine)
                .trying(|| format!("cannot take back the decision about {machine}"))?;
            output.answer(&row, |_| {
                format!("nothing is decided about {machine} any more\n")
            })
        }
    }
}

/// The one machine that begins so.
fn find(rows: &[QuarantineRow], name: &str) -> Outcome<String> {
    let fitting: Vec<&QuarantineRow> = rows
        .iter()
        .filter(|row| row.machine.starts_with(name))
        .collect();
    match fitting.as_slice() {
        [row] => Ok(row.machine.clone()),
        [] => Err(
            Failure::new(format!("no machine in quarantine is called {name}"))
                .hint("`forestage quarantine list` shows all"),
        ),
        _ => Err(Failure::new(format!(
            "more than one machine in quarantine begins with {name}"
        ))
        .hint("give more digits")),
    }
}

fn render(rows: &[QuarantineRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "machine",
        "reason",
        "serial",
        "model",
        "asked from",
        "last seen",
        "decided",
        "may be",
    ]);
    for row in rows {
        let decided = row.decision.as_ref().map_or_else(
            || "-".to_owned(),
            |pending| match &pending.decision {
                Decision::IsAsset { .. } => "is an asset".into(),
                Decision::NewAsset { site, .. } => format!("new asset {site}"),
                Decision::ReplaceKey { .. } => "replace key".into(),
                Decision::Reject { .. } => "rejected".into(),
            },
        );
        let candidates: Vec<String> = row
            .candidates
            .iter()
            .map(|asset| {
                let bound = if asset.is_bound { ", bound" } else { "" };
                format!("{} (score {}{bound})", asset.serial, asset.score)
            })
            .collect();
        table.row([
            row.machine.chars().take(8).collect(),
            row.reason.word().into(),
            row.serial.clone(),
            format!("{} {}", row.vendor, row.product),
            format!("{} {}", row.seen_site, row.address)
                .trim()
                .to_owned(),
            moment(row.last_seen_at_ms),
            decided,
            candidates.join(", "),
        ]);
    }
    if table.is_empty() {
        "nobody is in quarantine\n".into()
    } else {
        table.render(look, "")
    }
}
