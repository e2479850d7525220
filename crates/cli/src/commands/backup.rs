//! `forestage backup key|create|verify|restore`: on the server's own machine, beside its data folder.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use serde::Serialize;
use server::backup::{self, BackupError, Contents, Key, Place, Recipient};

use crate::commands::database::DatabaseArgs;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, bytes, clean, count, moment};
use crate::settings::write_private;

/// Keep what a server knows elsewhere, encrypted.
#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Make a key that opens backups
    ///
    /// Writes it to a file and prints its public part, which makes backups and opens none. Keep the file away from the
    /// server and from the backups: whoever has it and a backup has everything, and without it a backup is worth nothing.
    #[command(after_help = "Example:\n  forestage backup key backup.key")]
    Key(MakeKey),
    /// Make a backup of a server, while it runs
    ///
    /// Holds everything: the database as it is at one moment, the certificate authority, the keys, packages, images and
    /// bundles. Run it on the server's computer, as the user who runs the server. The file is there as a whole or not at all.
    #[command(
        after_help = "Example:\n  forestage backup create monday.backup --data /var/lib/forestage --to age1…"
    )]
    Create(Create),
    /// Read all of a backup and say whether it is sound
    #[command(after_help = "Example:\n  forestage backup verify monday.backup --key backup.key")]
    Verify(Verify),
    /// Make a server's data folder from a backup
    ///
    /// Refuses a folder, or a database, that has something in it. With `--database`, what the server knows goes to that
    /// PostgreSQL database, wherever it was before. Never let two servers run from the same backup: each would hand out
    /// orders, and machines would report to one of them.
    #[command(
        after_help = "Example:\n  forestage backup restore monday.backup --key backup.key --data /var/lib/forestage"
    )]
    Restore(Restore),
}

/// `backup key`
#[derive(Debug, Args)]
pub(crate) struct MakeKey {
    /// The file to write
    file: Utf8PathBuf,
}

/// `backup create`
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The file to write
    file: Utf8PathBuf,
    /// The data folder of the server
    #[arg(long, value_name = "DIR")]
    data: Utf8PathBuf,
    /// The public part of a key that opens it; may be repeated
    #[arg(long, value_name = "PUBLIC-KEY", required = true)]
    to: Vec<Recipient>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Leave out packages, images and bundles
    #[arg(long)]
    without_content: bool,
}

/// `backup verify`
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The backup
    file: Utf8PathBuf,
    /// The file with the key
    #[arg(long, value_name = "FILE")]
    key: Utf8PathBuf,
}

/// `backup restore`
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    file: Utf8PathBuf,
    /// The file with the key
    #[arg(long, value_name = "FILE")]
    key: Utf8PathBuf,
    /// The data folder to make
    #[arg(long, value_name = "DIR")]
    data: Utf8PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Does what was asked.
pub(crate) fn run(command: &Backup, output: &Output) -> Outcome<()> {
    match command {
        Backup::Key(command) => make_key(&command.file, output),
        Backup::Create(command) => create(command, output),
        Backup::Verify(command) => verify(command, output),
        Backup::Restore(command) => restore(command, output),
    }
}

fn create(command: &Create, output: &Output) -> Outcome<()> {
    let (data, file) = (&command.data, &command.file);
    let database = command.database.url()?;
    let server = Place {
        data,
        database: database.as_ref(),
    };
    let bar = output.bytes_bar("backing up");
    let made = backup::create(server, file, &command.to, !command.without_content, &bar)
        .map_err(|error| told(format!("cannot make the backup {file}"), error))?;
    output.answer(&made, |_| {
        format!("{file}: {}\n{}", holds(&made), lacks(&made))
    })
}

fn verify(command: &Verify, output: &Output) -> Outcome<()> {
    let file = &command.file;
    let key = load(&command.key)?;
    let sound = backup::verify(file, &key, &output.bytes_bar("verifying"))
        .map_err(|error| told(format!("cannot verify the backup {file}"), error))?;
    output.answer(&sound, |_| {
        format!("{file} is sound: {}\n{}", holds(&sound), lacks(&sound))
    })
}

fn restore(command: &Restore, output: &Output) -> Outcome<()> {
    let (data, file) = (&command.data, &command.file);
    let database = command.database.url()?;
    let server = Place {
        data,
        database: database.as_ref(),
    };
    let key = load(&command.key)?;
    let restored = backup::restore(file, &key, server, &output.bytes_bar("restoring"))
        .map_err(|error| told(format!("cannot restore {file} to {data}"), error))?;
    output.answer(&restored, |_| {
        format!("{data}: {}\n{}", holds(&restored), lacks(&restored))
    })
}

fn make_key(file: &Utf8Path, output: &Output) -> Outcome<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Made<'a> {
        file: &'a Utf8Path,
        public_key: String,
    }
    if file.exists() {
        return Err(
            Failure::refused(format!("{file} exists, and a key is never written over"))
                .hint("name another file"),
        );
    }
    let key = Key::generate();
    write_private(file, key.secret_text().as_bytes())
        .map_err(|error| Failure::new(format!("cannot write the key {file}")).because(error))?;
    let made = Made {
        file,
        public_key: key.recipient().to_string(),
    };
    output.answer(&made, |_| format!("{}\n", made.public_key))
}

fn load(path: &Utf8Path) -> Outcome<Key> {
    Key::load(path).map_err(|error| told(format!("cannot use the key {path}"), error))
}

/// What and why, and what to do where we know it.
fn told(what: String, error: BackupError) -> Failure {
    let (failure, hint) = match &error {
        BackupError::Exists { .. } => (
            Failure::refused(what),
            "name another, or move what is there out of the way",
        ),
        BackupError::Filled { .. } => (Failure::refused(what), "name an empty database"),
        BackupError::NoData { .. } => (
            Failure::usage(what),
            "name the folder that `forestage serve --data` has, and the database if it has `--database`",
        ),
        BackupError::Busy { .. } => (Failure::new(what), "wait until it is done"),
        BackupError::Library { .. } => (
            Failure::new(what),
            "content that nobody needs is being removed: try again when that is done",
        ),
        BackupError::OtherRelease { .. } => (
            Failure::new(what),
            "use the `forestage` that serves it; a release changes the form when its server starts",
        ),
        BackupError::Decrypt { .. } => (
            Failure::new(what),
            "if it is the right key, the backup is damaged: take another one",
        ),
        BackupError::Damaged { .. } | BackupError::Malformed { .. } => {
            (Failure::new(what), "take another backup")
        }
        BackupError::TooNew { .. } => (
            Failure::new(what),
            "install the release that made it, or a later one",
        ),
        _ => return Failure::new(what).because(error),
    };
    failure.because(error).hint(hint)
}

fn holds(contents: &Contents) -> String {
    format!(
        "{}, {}, made {} by Forestage {}",
        count(contents.members, "file"),
        bytes(contents.bytes),
        moment(contents.head.made_at_ms),
        clean(&contents.head.forestage)
    )
}

/// What has to come from elsewhere.
fn lacks(contents: &Contents) -> String {
    let left_out = &contents.left_out;
    if left_out.files == 0 {
        return String::new();
    }
    format!(
        "packages, images and bundles were left out: {}, {}\n",
        count(left_out.files, "file"),
        bytes(left_out.bytes)
    )
}
