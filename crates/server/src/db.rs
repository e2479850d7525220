//! The database: one SQLite file, or PostgreSQL. Everything acknowledged is on the disk.
//!
//! Every query runs on both: `$1` placeholders, the types i64, String and `Vec<u8>`, and the clauses both know. What
//! differs between them is in this file, in [`dialect`] and in [`views`]. Writers are serial on both, as the code that calls them expects.

mod address;
mod dialect;
mod group;
pub(crate) mod views;

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Connection as _};

pub use self::address::{DatabaseUrl, DatabaseUrlError};
use self::group::Writer;
pub(crate) use self::group::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::metrics::Histogram;

/// Readers at once.
const READERS_MAX: u32 = 8;
/// How long a request waits for its turn. Writers take turns in the order in which they came, on one connection; those
/// that wait at the same time are committed together, see [`group`].
const TURN_TIME_MAX: Duration = Duration::from_secs(30);
/// How long SQLite waits for another program that has the file locked.
const BUSY_MS_MAX: u64 = 30_000;

/// Begins with the write lock, so that a transaction never has to be repeated.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
/// PostgreSQL has no lock for all that is written, so one is agreed on: its number is the bytes "forestag".
const BEGIN_POSTGRES: &str = "BEGIN; SELECT pg_advisory_xact_lock(7381244094337802599)";

/// A row as the database answers it.
pub(crate) type DbRow = sqlx::any::AnyRow;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// The database.
#[derive(Clone)]
pub(crate) struct Db {
    engine: Engine,
    readers: AnyPool,
    writers: AnyPool,
    writer: Writer,
    numbers: Arc<Numbers>,
}

/// How long the database took.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// How long writers waited for their turn.
    pub(crate) waits: Histogram,
    /// From the beginning of a turn until what was written is on the disk.
    pub(crate) turns: Histogram,
}

impl Db {
    /// Opens (or makes) the database and brings it to this release's form.
    pub(crate) async fn open(file: &Utf8Path, url: Option<&DatabaseUrl>) -> Result<Self, Failure> {
        sqlx::any::install_default_drivers();
        let (engine, url) = match url {
            None => (Engine::Sqlite, address::of_file(file)),
            Some(url) => (Engine::Postgres, url.secret_text()?),
        };
        let options: AnyConnectOptions = url.parse().doing("read the address of the database")?;
        let writers = pool(engine, 1)
            .connect_with(options.clone())
            .await
            .doing("open the database")?;
        dialect::migrator(engine)
            .run(&writers)
            .await
            .map_err(|source| Failure::Migration { source })?;
        let readers = pool(engine, READERS_MAX)
            .connect_with(options)
            .await
            .doing("open the database")?;
        let begin = match engine {
            Engine::Sqlite => BEGIN_SQLITE,
            Engine::Postgres => BEGIN_POSTGRES,
        };
        let numbers = Arc::<Numbers>::default();
        let db = Self {
            engine,
            readers,
            writer: Writer::new(writers.clone(), begin, Arc::clone(&numbers)),
            writers,
            numbers,
        };
        db.make_views().await?;
        Ok(db)
    }

    /// For reading.
    pub(crate) const fn read(&self) -> &AnyPool {
        &self.readers
    }

    /// Begins a transaction that takes the write lock at once, so that it never has to be repeated.
    pub(crate) async fn write(&self) -> Result<Write, Failure> {
        self.writer.write().await
    }

    /// How long it took so far.
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Closes all connections; SQLite's write-ahead log is folded in.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.rest().await;
        self.writers.close().await;
    }
}

/// The condition for one key in `$1`, or for all if there is none and `$1` is empty. These are two texts, because with one
/// that says both no database takes an index.
pub(crate) fn only(column: &str, key: Option<&str>) -> String {
    match key {
        Some(_) => format!("{column} = $1"),
        None => "$1 = ''".to_owned(),
    }
}

/// One connection to a database that is left in the form it has.
pub(crate) async fn connect(url: &DatabaseUrl) -> Result<AnyConnection, Failure> {
    open(&url.secret_text()?).await
}

/// The same to an SQLite file.
pub(crate) async fn connect_file(path: &Utf8Path) -> Result<AnyConnection, Failure> {
    open(&address::of_file(path)).await
}

async fn open(url: &str) -> Result<AnyConnection, Failure> {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.doing("open the database")
}

/// Brings a PostgreSQL database to the form it had with the migration `newest`, in the transaction of the caller.
pub(crate) async fn migrate(connection: &mut AnyConnection, newest: i64) -> Result<(), Failure> {
    let mut migrator = dialect::migrator(Engine::Postgres);
    migrator
        .migrations
        .to_mut()
        .retain(|migration| migration.version <= newest);
    migrator
        .run(connection)
        .await
        .map_err(|source| Failure::Migration { source })
}

/// The numbers of this release's migrations, in order.
pub(crate) fn migrations() -> Vec<i64> {
    dialect::migrator(Engine::Sqlite)
        .iter()
        .map(|migration| migration.version)
        .collect()
}

/// The number of this release's newest migration.
pub(crate) fn newest_migration() -> i64 {
    migrations().into_iter().max().unwrap_or(0)
}

fn pool(engine: Engine, connections: u32) -> AnyPoolOptions {
    let options = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(TURN_TIME_MAX);
    let prepare = dialect::connection_settings(engine);
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            sqlx::raw_sql(prepare).execute(connection).await?;
            Ok(())
        })
    })
}
