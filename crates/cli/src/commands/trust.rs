//! `forestage trust`: what devices are made to trust, and the keys that sign bundles and warrants.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use serde::Serialize;
use wire::keys::{KeyPurpose, KeyRow, NewKey, PublicKey};
use wire::names::KeyName;

use crate::ask;
use crate::failure::{Failure, Outcome, Trying};
use crate::output::{Look, Output, Table, moment};
use crate::settings::{connect, read_text};
use crate::signing_key;

/// Digits of a public half that tell two keys apart; `--json` has all.
const SHOWN_DIGITS: usize = 16;
/// A public half is one line.
const PUBLIC_BYTES_MAX: u64 = 1024;

/// What devices are made to trust, and the keys that sign bundles and warrants.
#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Show addresses, certificate authority and keys, as baked into boot images
    #[command(after_help = "Example:\n  forestage trust show --json")]
    Show,
    /// List the keys that sign bundles or warrants, or did
    #[command(after_help = "Example:\n  forestage trust list")]
    List,
    /// Make a key, on a computer that never meets the server
    ///
    /// Writes the private half to FILE, encrypted with a passphrase (asked for, or from FORESTAGE_PASSPHRASE) and for you
    /// alone, and the public half to FILE.pub. Needs no server and no network. Keep FILE where you keep the keys of the
    /// building, twice; carry FILE.pub to where you are logged in, and add it there.
    #[command(after_help = "Example:\n  forestage trust make-key vault.key")]
    MakeKey {
        /// The file to write
        file: Utf8PathBuf,
    },
    /// Add a key: boot images that are built from now on trust it
    ///
    /// It doesn't sign bundles yet. Build a boot image, publish it, let it reach the machines and the factory's media; then
    /// have the key sign with `trust use`. A key with `--wipe` signs warrants instead: a machine with such a boot image lets
    /// nobody write over its deployed disk without one (`forestage warrant`).
    #[command(
        after_help = "Example:\n  forestage trust add vault-2026 --public-key vault.key.pub\n  forestage trust add server-2027 --on-server\n  forestage trust add wipe-2026 --wipe --public-key wipe.key.pub"
    )]
    Add(Add),
    /// Have a key sign what is built from now on
    ///
    /// Whoever signed before stays trusted. If the private half isn't on the server, a build waits for its signature:
    /// `prestage root`, `prestage sign`, `prestage add-signature`.
    #[command(after_help = "Example:\n  forestage trust use vault-2026")]
    Use {
        /// The key
        name: KeyName,
    },
    /// Retire a key, for good
    ///
    /// Boot images that are built from now on refuse what it has signed; those that exist go on believing it. Its private
    /// half is removed from the server, if it was there. Warrants of a wipe key are no longer handed out.
    #[command(after_help = "Example:\n  forestage trust retire server --yes")]
    Retire {
        /// The key
        name: KeyName,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

/// `trust add`
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// What it will be called: small letters, digits and - _ . +
    name: KeyName,
    #[command(flatten)]
    place: Place,
    /// It signs warrants, not bundles; such a key never lies on the server
    #[arg(long, conflicts_with = "on_server")]
    wipe: bool,
}

/// Where the private half is.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Place {
    /// The public half (64 hexadecimal digits), or the file that it is in; the private half stays where it is
    #[arg(long, value_name = "KEY|FILE")]
    public_key: Option<String>,
    /// The server makes the key and signs by itself
    #[arg(long)]
    on_server: bool,
}

/// Does what was asked.
pub(crate) fn run(command: &Trust, output: &Output) -> Outcome<()> {
    match command {
        Trust::Show => show(output),
        Trust::List => {
            let rows = connect()?.keys().trying(|| "cannot list the keys".into())?;
            output.answer(&rows, |look| render_list(&rows, look))
        }
        Trust::MakeKey { file } => make_key(file, output),
        Trust::Add(add) => {
            let new = NewKey {
                name: add.name.clone(),
                purpose: match add.wipe {
                    true => KeyPurpose::Wipe,
                    false => KeyPurpose::Bundle,
                },
                public_key: add
                    .place
                    .public_key
                    .as_deref()
                    .map(public_key)
                    .transpose()?,
            };
            let row = connect()?
                .add_key(&new)
                .trying(|| format!("cannot add the key {}", add.name))?;
            output.answer(&row, |_| {
                format!(
                    "key {} is trusted by boot images that are built from now on\n",
                    row.name
                )
            })
        }
        Trust::Use { name } => {
            let row = connect()?
                .use_key(name)
                .trying(|| format!("cannot have the key {name} sign"))?;
            output.answer(&row, |_| {
                format!("key {} signs what is built from now on\n", row.name)
            })
        }
        Trust::Retire { name, yes } => {
            let client = connect()?;
            let question = format!("Retire the key {name} for good?");
            ask::confirmed(&question, *yes)?;
            let row = client
                .retire_key(name)
                .trying(|| format!("cannot retire the key {name}"))?;
            output.answer(&row, |_| render_retired(&row))
        }
    }
}

fn show(output: &Output) -> Outcome<()> {
    let trust: wire::boot_config::Trust = connect()?
        .trust()
        .trying(|| "cannot ask the server what devices trust".into())?;
    output.answer(&trust, |look| {
        let title = |text: &str| look.paint.bold(text);
        let lines = |items: &[String]| {
            items
                .iter()
                .map(|item| format!("  {item}\n"))
                .collect::<String>()
        };
        let wipe_keys: Vec<String> = trust.wipe_keys.iter().map(ToString::to_string).collect();
        let wipe_keys = match wipe_keys.as_slice() {
            [] => "  none: the server alone decides what is written over\n".to_owned(),
            keys => lines(keys),
        };
        format!(
            "{}\n{}{}\n{}{}\n{}{}\n{}",
            title("Server addresses, tried in order"),
            lines(&trust.server_urls),
            title("Keys that sign bundles (Ed25519)"),
            lines(&trust.bundle_keys),
            title("Keys that sign warrants to write over deployed disks (Ed25519)"),
            wipe_keys,
            title("Certificate authority"),
            trust
                .ca_pem
                .trim_end()
                .lines()
                .map(|line| format!("  {line}\n"))
                .collect::<String>(),
        )
    })
}

fn make_key(file: &camino::Utf8Path, output: &Output) -> Outcome<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Made<'a> {
        file: &'a camino::Utf8Path,
        public_file: Utf8PathBuf,
        public_key: PublicKey,
    }
    let made = Made {
        file,
        public_file: signing_key::public_file(file),
        public_key: signing_key::make(file)?,
    };
    output.answer(&made, |_| {
        format!(
            "{}\nprivate half: {file}, encrypted; keep it here\npublic half: {}; add it with `forestage trust add`\n",
            made.public_key, made.public_file
        )
    })
}

/// As digits, or in a file.
fn public_key(text: &str) -> Outcome<PublicKey> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let content = read_text(text.into(), PUBLIC_BYTES_MAX)?;
    content
        .trim()
        .parse()
        .trying(|| format!("{text} holds no public half of a key"))
        .map_err(|failure: Failure| {
            failure.hint("`forestage trust make-key` writes it to FILE.pub")
        })
}

fn render_list(rows: &[KeyRow], look: &Look) -> String {
    let mut table = Table::new(&[
        "key",
        "signs",
        "state",
        "private half",
        "public half begins",
        "added",
        ">bundles",
        ">wait staged",
    ]);
    for row in rows {
        table.row([
            row.name.to_string(),
            match row.purpose {
                KeyPurpose::Bundle => "bundles".to_owned(),
                KeyPurpose::Wipe => "warrants".to_owned(),
            },
            row.state.to_string(),
            row.place.to_string(),
            row.public_key.to_string()[..SHOWN_DIGITS].to_owned(),
            moment(row.added_at_ms),
            row.bundles.to_string(),
            row.staged.to_string(),
        ]);
    }
    table.render(look, "")
}

fn render_retired(row: &KeyRow) -> String {
    let mut text = format!(
        "key {} is retired: build a boot image, so that what it signed is refused\n",
        row.name
    );
    if row.bundles > 0 {
        text.push_str(&format!(
            "versions of prestages that it signed, to be built or signed anew: {}\n",
            row.bundles
        ));
    }
    if row.staged > 0 {
        text.push_str(&format!(
            "machines that wait staged with one of them: {}\n",
            row.staged
        ));
    }
    text
}
