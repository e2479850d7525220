//! Which database a server keeps its data in, for all commands that need to know.

use camino::Utf8PathBuf;
use clap::Args;
use server::DatabaseUrl;

use crate::failure::{Failure, Outcome, Trying};

/// Where the address of the database is read from, if not from the command line.
const DATABASE_VARIABLE: &str = "FORESTAGE_DATABASE";

/// A PostgreSQL database, or none.
#[derive(Debug, Args)]
pub(crate) struct DatabaseArgs {
    /// A PostgreSQL database instead of the SQLite file in the data folder, such as
    /// postgres://forestage@db.example/forestage; also read from the environment variable FORESTAGE_DATABASE, which may
    /// hold a password
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// A file with the password of the database
    #[arg(long, value_name = "FILE")]
    database_password_file: Option<Utf8PathBuf>,
}

impl DatabaseArgs {
    /// Which database to use. A password on the command line could be read by everyone on the machine, so it is refused.
    pub(crate) fn url(&self) -> Outcome<Option<DatabaseUrl>> {
        let given = self.database.clone();
        let from_environment = || {
            std::env::var(DATABASE_VARIABLE)
                .ok()
                .filter(|text| !text.is_empty())
        };
        let Some(text) = given.clone().or_else(from_environment) else {
            return match &self.database_password_file {
                None => Ok(None),
                Some(_) => Err(Failure::usage("a password file was given, but no database")
                    .hint("add `--database postgres://…`")),
            };
        };
        let url: DatabaseUrl = text
            .parse()
            .map_err(|error| Failure::usage("cannot use the database").because(error))?;
        if given.is_some() && url.has_password() {
            return Err(Failure::usage(
                "a password on the command line can be read by everyone on this machine",
            )
            .hint(format!(
                "use `--database-password-file`, or put the address into the environment variable {DATABASE_VARIABLE}"
            )));
        }
        let Some(path) = &self.database_password_file else {
            return Ok(Some(url));
        };
        let password = std::fs::read_to_string(path)
            .trying(|| format!("cannot read the password file {path}"))?;
        let password = password.trim_end_matches(['\r', '\n']);
        url.with_password(password)
            .map(Some)
            .map_err(|error| Failure::usage("cannot use the password").because(error))
    }
}
