//! `forestage deployment`: which collection runs which sequence.

use clap::{Args, Subcommand};
use wire::admin_api::{Deployment as Row, Purpose};
use wire::names::{CollectionName, DeploymentName, SequenceName};

use crate::api;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, seconds};
use crate::settings::connect;

/// A run that is expected to take longer than a week is a typing error.
const EXPECTED_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// Which collection runs which sequence.
#[derive(Debug, Subcommand)]
pub(crate) enum Deployment {
    /// Create a deployment: the devices of a collection run a sequence
    ///
    /// A required deployment (the default) runs without a key press. The cap is how many devices it may ever touch:
    /// beyond it the deployment stops and asks, so that a mistake in a collection can't wipe a fleet.
    #[command(after_help = "Example:\n\
            \x20 forestage deployment create autumn-2026 --collection pupils-2026 --sequence pupil-laptop \\\n\
            \x20     --expected 16m --cap 40")]
    Create(Create),
    /// List all deployments
    #[command(after_help = "Example:\n  forestage deployment list")]
    List,
    /// Stop a deployment: devices get no more orders from it
    #[command(after_help = "Example:\n  forestage deployment stop autumn-2026")]
    Stop {
        /// The deployment
        name: DeploymentName,
    },
}

/// `deployment create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: small letters, digits and - _ . +
    name: DeploymentName,
    /// The devices
    #[arg(long, value_name = "NAME")]
    collection: CollectionName,
    /// The task sequence they run
    #[arg(long, value_name = "NAME")]
    sequence: SequenceName,
    /// How long a run is expected to take, such as 90s, 16m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    expected: u64,
    /// How many devices it may ever touch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    cap: u32,
    /// Someone at the machine chooses it, instead of it being required
    #[arg(long)]
    available: bool,
    /// Devices stay in the collection when their run is done
    #[arg(long)]
    stay_in_collection: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Deployment, output: &Output) -> Outcome<()> {
    let client = connect()?;
    match command {
        Deployment::Create(create) => {
            let row = create.row();
            client
                .put_deployment(&row)
                .trying(|| format!("cannot create the deployment {}", row.name))?;
            output.answer(&row, |_| {
                format!(
                    "deployment {}: {} runs {}, at most {} devices\n",
                    row.name, row.collection, row.sequence, row.cap
                )
            })
        }
        Deployment::List => {
            let rows = client
                .deployments()
                .trying(|| "cannot list deployments".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Deployment::Stop { name } => {
            let rows = client
                .deployments()
                .trying(|| "cannot list deployments".into())?;
            let mut row = rows
                .into_iter()
                .find(|row| row.name == *name)
                .ok_or_else(|| {
                    Failure::new(format!("there is no deployment {name}"))
                        .hint("`forestage deployment list` shows all")
                })?;
            row.stopped = true;
            api::stop_deployment(&client, name)
                .trying(|| format!("cannot stop the deployment {name}"))?;
            row.stopped = true;
            output.answer(&row, |_| {
                format!("deployment {name} stopped: no device gets an order from it any more\n")
            })
        }
    }
}

impl Create {
    fn row(&self) -> Row {
        Row {
            name: self.name.clone(),
            collection: self.collection.clone(),
            sequence: self.sequence.clone(),
            purpose: if self.available {
                Purpose::Available
            } else {
                Purpose::Required
            },
            expected_seconds: self.expected,
            leave_collection_on_success: !self.stay_in_collection,
            cap: self.cap,
            stopped: false,
            slots: 0,
            window: None,
        }
    }
}

/// `1h30m`, `16m`, `90s`, each unit at most once, in this order.
pub(crate) fn parse_seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 16m or 1h30m");
    let mut rest = text;
    let mut total = 0_u64;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        if let Some((number, after)) = rest.split_once(unit) {
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total = number
                .checked_mul(factor)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(wrong)?;
            rest = after;
        }
    }
    if !rest.is_empty() || total == 0 {
        return Err(wrong());
    }
    if total > EXPECTED_SECONDS_MAX {
        return Err(format!("{text} is longer than a week"));
    }
    Ok(total)
}

fn render_list(rows: &[Row], look: &Look) -> String {
    let mut table = Table::new(&[
        "name",
        "collection",
        "sequence",
        "purpose",
        ">expected",
        ">cap",
        "state",
    ]);
    for row in rows {
        let purpose = match row.purpose {
            Purpose::Required => "required",
            Purpose::Available => "available",
        };
        table.row([
            row.name.to_string(),
            row.collection.to_string(),
            row.sequence.to_string(),
            purpose.into(),
            seconds(row.expected_seconds),
            row.cap.to_string(),
            if row.stopped { "stopped" } else { "active" }.into(),
        ]);
    }
    if table.is_empty() {
        "no deployments yet\n".into()
    } else {
        table.render(look, "")
    }
}

#[cfg(test)]
mod tests {
    use super::parse_seconds;

    #[test]
    fn durations() {
        for (text, seconds) in [("16m", 960), ("90s", 90), ("1h30m", 5400), ("1h1m1s", 3661)] {
            assert_eq!(parse_seconds(text), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "16",
            "m",
            "0m",
            "1m1h",
            "-1m",
            "1d",
            "999999999999999999999h",
            "200h",
            "1m m",
        ] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
