//! The database: one SQLite file, write-ahead log, everything acknowledged is on the disk.

use camino::Utf8Path;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::time::Duration;

use crate::error::{Doing as _, Failure};

/// Readers at once; writers queue anyway.
const CONNECTIONS_MAX: u32 = 8;
/// How long a writer waits for the one before it.
const BUSY_TIME_MAX: Duration = Duration::from_secs(30);

/// A transaction that may write.
pub(crate) type Write = Transaction<'static, Sqlite>;

/// The database.
#[derive(Clone)]
pub(crate) struct Db {
    pool: SqlitePool,
}

impl Db {
    /// Opens (or makes) the database and brings it to this release's form.
    pub(crate) async fn open(path: &Utf8Path) -> Result<Self, Failure> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIME_MAX);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .doing("open the database")?;
        sqlx::migrate!("./migrations")
            .run(&pool)
            .await
            .map_err(|source| Failure::Migration { source })?;
        Ok(Self { pool })
    }

    /// For reading.
    pub(crate) const fn read(&self) -> &SqlitePool {
        &self.pool
    }

    /// Begins a transaction that takes the write lock at once, so that it never has to be repeated.
    pub(crate) async fn write(&self) -> Result<Write, Failure> {
        self.pool
            .begin_with("BEGIN IMMEDIATE")
            .await
            .doing("begin a transaction")
    }

    /// Closes all connections; the write-ahead log is folded in.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// Commits.
pub(crate) async fn commit(transaction: Write) -> Result<(), Failure> {
    transaction.commit().await.doing("commit a transaction")
}
