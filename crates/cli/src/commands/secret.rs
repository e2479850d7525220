//! `forestage secret`: what machines are given when a step needs it, and nobody can read back.

use clap::{Args, Subcommand};
use wire::names::SecretName;
use wire::secrets::{SECRET_BYTES_MAX, SecretChange, SecretRow};

use crate::ask;
use crate::failure::{Outcome, Trying};
use crate::output::{Look, Output, Table, moment};
use crate::settings::connect;

/// Secrets that machines are given when a step needs them: passwords for joining, passphrases, keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Set a secret
    ///
    /// It is typed without being shown, or read from standard input, of which one line break at the end doesn't count. It is
    /// never an argument, and nobody can read it back. Runs get the new value from their next request on.
    #[command(
        after_help = "Example:\n  forestage secret set wifi-school --site BJO < passphrase.txt"
    )]
    Set(One),
    /// List the names of all secrets, and what asks for them
    #[command(after_help = "Example:\n  forestage secret list")]
    List,
    /// Remove a secret
    ///
    /// Machines that ask for it from now on stop at that step and say so.
    #[command(after_help = "Example:\n  forestage secret remove wifi-school --site BJO")]
    Remove(One),
}

/// A command about one secret.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its name, as sequences have it
    name: SecretName,
    /// The value for the machines of this site; without it, for all whose site has none of its own
    #[arg(
        long,
        value_name = "CODE",
        default_value = "",
        hide_default_value = true
    )]
    site: String,
}

impl One {
    /// `of site BJO`, or nothing.
    fn whose(&self) -> String {
        match self.site.as_str() {
            "" => String::new(),
            site => format!(" of site {site}"),
        }
    }
}

/// Does what was asked.
pub(crate) fn run(command: &Secret, output: &Output) -> Outcome<()> {
    match command {
        Secret::Set(one) => set(one, output),
        Secret::List => {
            let rows = connect()?
                .secrets()
                .trying(|| "cannot list secrets".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Secret::Remove(one) => {
            connect()?
                .remove_secret(&one.name, &one.site)
                .trying(|| format!("cannot remove the secret {}", one.name))?;
            let said = format!("secret {}{} removed\n", one.name, one.whose());
            output.answer(&(), |_| said)
        }
    }
}

fn set(one: &One, output: &Output) -> Outcome<()> {
    let client = connect()?;
    let prompt = format!("Secret {}{}: ", one.name, one.whose());
    let change = SecretChange {
        value: ask::typed_or_read(&prompt, SECRET_BYTES_MAX)?,
        site: one.site.clone(),
    };
    let row = client
        .set_secret(&one.name, &change)
        .trying(|| format!("cannot set the secret {}", one.name))?;
    output.answer(&row, |_| {
        format!("secret {}{} set\n", one.name, one.whose())
    })
}

fn render_list(rows: &[SecretRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "secret",
        "site",
        "set",
        "by",
        ">released",
        "last",
        "asked for by",
    ]);
    for row in rows {
        let sequences: Vec<&str> = row.sequences.iter().map(|name| name.as_str()).collect();
        table.row([
            row.name.to_string(),
            match row.site.as_str() {
                "" => "all".to_owned(),
                site => site.to_owned(),
            },
            moment(row.changed_at_ms),
            row.changed_by.clone(),
            row.releases.to_string(),
            row.released_at_ms.map(moment).unwrap_or_default(),
            sequences.join(" "),
        ]);
    }
    if table.is_empty() {
        "no secrets yet\n".into()
    } else {
        table.render(look, "")
    }
}
