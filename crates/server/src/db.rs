//! The database: one SQLite file, or PostgreSQL. Everything acknowledged is on the disk.
//!
//! Every query runs on both: `$1` placeholders, the types i64, String and `Vec<u8>`, and the clauses both know. What
//! differs between them is in this file, in [`dialect`] and in [`views`]. Writers are serial on both, as the code that calls them expects.

mod address;
mod dialect;
pub(crate) mod views;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, Transaction};

pub use self::address::{DatabaseUrl, DatabaseUrlError};
use crate::error::{Doing as _, Failure};
use crate::metrics::Histogram;

/// Readers at once.
const READERS_MAX: u32 = 8;
/// How long a request waits for its turn. Writers take turns in the order in which they came, on one connection.
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
    writer: AnyPool,
    numbers: Arc<Numbers>,
}

/// How long the database took.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// How long writers waited for their turn.
    pub(crate) waits: Histogram,
    /// From the beginning of a transaction to its end.
    pub(crate) turns: Histogram,
}

/// A transaction that may write.
pub(crate) struct Write {
    transaction: Transaction<'static, Any>,
    began: Instant,
    numbers: Arc<Numbers>,
}

impl Write {
    /// Takes everything back.
    pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
        self.transaction.rollback().await
    }
}

impl Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
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
        let writer = pool(engine, 1)
            .connect_with(options.clone())
            .await
            .doing("open the database")?;
        dialect::migrator(engine)
            .run(&writer)
            .await
            .map_err(|source| Failure::Migration { source })?;
        let readers = pool(engine, READERS_MAX)
            .connect_with(options)
            .await
            .doing("open the database")?;
        let db = Self {
            engine,
            readers,
            writer,
            numbers: Arc::default(),
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
        let begin = match self.engine {
            Engine::Sqlite => BEGIN_SQLITE,
            Engine::Postgres => BEGIN_POSTGRES,
        };
        let asked = Instant::now();
        let transaction = self.writer.begin_with(begin).await;
        self.numbers.waits.observe(asked.elapsed());
        Ok(Write {
            transaction: transaction.doing("begin a transaction")?,
            began: Instant::now(),
            numbers: Arc::clone(&self.numbers),
        })
    }

    /// How long it took so far.
    pub(crate) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// Closes all connections; SQLite's write-ahead log is folded in.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
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

/// Commits.
pub(crate) async fn commit(write: Write) -> Result<(), Failure> {
    let result = write.transaction.commit().await;
    write.numbers.turns.observe(write.began.elapsed());
    result.doing("commit a transaction")
}
