//! The database of a backup: an SQLite file, wherever the server keeps its data. From PostgreSQL all rows are copied to one
//! in a transaction that sees a single moment; to PostgreSQL they are copied back. A backup is so the way from one to the other, too.

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _};

use super::error::{BackupError, failed};
use super::{SNAPSHOT, create_private, remove_if_there};
use crate::db::{self, DatabaseUrl, Db};
use crate::error::{Doing as _, Failure};

/// Sees what was committed when it read for the first time, and nothing later; nobody waits for it.
const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// All that was committed at one moment; gone with this value.
pub(super) struct Snapshot {
    pub(super) path: Utf8PathBuf,
    /// The number of its newest migration.
    pub(super) schema: i64,
}

impl Snapshot {
    /// Of `url`, or of the file `database` if there is none. Lies in the folder `data` while it is needed.
    pub(super) fn take(
        data: &Utf8Path,
        database: &Utf8Path,
        url: Option<&DatabaseUrl>,
    ) -> Result<Self, BackupError> {
        let mut snapshot = Self {
            path: data.join(SNAPSHOT),
            schema: 0,
        };
        for end in ["", "-wal", "-shm"] {
            remove_if_there(&Utf8PathBuf::from(format!("{}{end}", snapshot.path)))?;
        }
        // For us alone from its first byte on: SQLite writes into an empty file.
        create_private(&snapshot.path).map_err(failed("create", &snapshot.path))?;
        let name = url.map_or_else(|| database.to_string(), ToString::to_string);
        snapshot.schema = wait(async {
            match url {
                None => copy_file(database, &snapshot.path).await,
                Some(url) => copy_out(url, &snapshot.path).await,
            }
        })
        .map_err(|error| error.told("read", name))?;
        Ok(snapshot)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, "cannot remove {}: the next backup will", self.path);
        }
    }
}

/// Refuses a database that has something in it.
pub(super) fn expect_empty(url: &DatabaseUrl) -> Result<(), BackupError> {
    wait(async {
        let mut connection = db::connect(url).await?;
        let found = has_tables(&mut connection).await;
        close(connection).await?;
        match found? {
            true => Err(Error::Filled),
            false => Ok(()),
        }
    })
    .map_err(|error| error.told("look into", url.to_string()))
}

/// Fills the empty database at `url` with what is in the file `from`, in this release's form: all of it, or nothing.
pub(super) fn fill(url: &DatabaseUrl, from: &Utf8Path) -> Result<(), BackupError> {
    wait(async {
        // A backup of an earlier release.
        Db::open(from, None).await?.close().await;
        copy_in(from, url).await
    })
    .map_err(|error| error.told("fill", url.to_string()))
}

#[derive(Debug)]
enum Error {
    Filled,
    OtherRelease,
    Failed(Failure),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Error {
    fn told(self, what: &'static str, database: String) -> BackupError {
        match self {
            Self::Filled => BackupError::Filled { database },
            Self::OtherRelease => BackupError::OtherRelease { database },
            Self::Failed(source) => BackupError::Database {
                what,
                database,
                source: Box::new(source),
            },
        }
    }
}

/// Backups are made by programs without a runtime.
fn wait<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::System {
            what: "start a runtime",
            source: source.into(),
        })?;
    runtime.block_on(work)
}

/// One read transaction of SQLite: nobody waits for it, and what was deleted isn't copied.
async fn copy_file(database: &Utf8Path, to: &Utf8Path) -> Result<i64, Error> {
    let mut connection = db::connect_file(database).await?;
    let taken = sqlx::query("VACUUM INTO $1")
        .bind(to.as_str())
        .execute(&mut connection)
        .await
        .doing("take a snapshot");
    let versions = versions(&mut connection).await;
    close(connection).await?;
    taken?;
    Ok(newest(&versions?))
}

async fn copy_out(url: &DatabaseUrl, to: &Utf8Path) -> Result<i64, Error> {
    let mut server = db::connect(url).await?;
    let mut from = server
        .begin_with(BEGIN_SNAPSHOT)
        .await
        .doing("begin a transaction")?;
    let schema = db::newest_migration();
    if versions(&mut from).await? != db::migrations() {
        return Err(Error::OtherRelease);
    }
    Db::open(to, None).await?.close().await;
    let mut file = db::connect_file(to).await?;
    let tables = tables(&mut file).await?;
    let mut into = file.begin().await.doing("begin a transaction")?;
    copy_rows(&tables, &mut from, &mut into).await?;
    into.commit().await.doing("commit")?;
    from.rollback().await.doing("end a transaction")?;
    close(server).await?;
    close(file).await?;
    Ok(schema)
}

async fn copy_in(from: &Utf8Path, url: &DatabaseUrl) -> Result<(), Error> {
    let mut file = db::connect_file(from).await?;
    let newest = newest(&versions(&mut file).await?);
    let tables = tables(&mut file).await?;
    let mut server = db::connect(url).await?;
    let mut into = server.begin().await.doing("begin a transaction")?;
    if has_tables(&mut into).await? {
        return Err(Error::Filled);
    }
    db::migrate(&mut into, newest).await?;
    copy_rows(&tables, &mut file, &mut into).await?;
    for table in &tables {
        table.count_on(&mut into).await?;
    }
    into.commit().await.doing("commit")?;
    close(server).await?;
    Ok(close(file).await?)
}

fn newest(versions: &[i64]) -> i64 {
    versions.iter().copied().max().unwrap_or(0)
}

/// The numbers of the migrations that were done, in order.
async fn versions(connection: &mut AnyConnection) -> Result<Vec<i64>, Failure> {
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version")
        .fetch_all(connection)
        .await
        .doing("look for the tables of a server")
}

/// Of PostgreSQL.
async fn has_tables(connection: &mut AnyConnection) -> Result<bool, Failure> {
    let tables: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()")
            .fetch_one(connection)
            .await
            .doing("look for tables")?;
    Ok(tables > 0)
}

async fn close(connection: AnyConnection) -> Result<(), Failure> {
    connection.close().await.doing("close the database")
}

/// A table of ours.
struct Table {
    name: String,
    columns: Vec<Column>,
    /// Tables that its rows point to.
    parents: Vec<String>,
}

struct Column {
    name: String,
    kind: Kind,
    /// Whether the database gives the number if there is none.
    is_counted: bool,
}

/// What decision 14 allows.
#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
    Bytes,
}

/// Reads from an SQLite file which tables it has: parents first.
async fn tables(file: &mut AnyConnection) -> Result<Vec<Table>, Failure> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
         AND name <> '_sqlx_migrations' ORDER BY name",
    )
    .fetch_all(&mut *file)
    .await
    .doing("list the tables")?;
    let mut unsorted = Vec::new();
    for name in names {
        let columns: Vec<(String, String)> =
            sqlx::query_as("SELECT name, type FROM pragma_table_info($1) ORDER BY cid")
                .bind(&name)
                .fetch_all(&mut *file)
                .await
                .doing("list the columns of a table")?;
        let parents: Vec<String> =
            sqlx::query_scalar("SELECT \"table\" FROM pragma_foreign_key_list($1)")
                .bind(&name)
                .fetch_all(&mut *file)
                .await
                .doing("list the references of a table")?;
        let columns = columns.into_iter().map(|(name, kind)| Column {
            name,
            is_counted: kind == "INTEGER",
            kind: match kind.as_str() {
                "TEXT" => Kind::Text,
                "BLOB" => Kind::Bytes,
                _ => Kind::Number,
            },
        });
        unsorted.push(Table {
            name,
            columns: columns.collect(),
            parents,
        });
    }
    Ok(parents_first(unsorted))
}

fn parents_first(mut unsorted: Vec<Table>) -> Vec<Table> {
    let mut sorted: Vec<Table> = Vec::new();
    while !unsorted.is_empty() {
        let is_done = |parent: &String| sorted.iter().any(|table| table.name == *parent);
        // In a circle nobody is first; the database will say so.
        let next = unsorted
            .iter()
            .position(|table| table.parents.iter().all(is_done))
            .unwrap_or(0);
        sorted.push(unsorted.remove(next));
    }
    sorted
}

async fn copy_rows(
    tables: &[Table],
    from: &mut AnyConnection,
    into: &mut AnyConnection,
) -> Result<(), Failure> {
    for table in tables {
        // Migrations leave rows, too.
        sqlx::query(AssertSqlSafe(format!("DELETE FROM {}", table.name)))
            .execute(&mut *into)
            .await
            .doing("empty a table")?;
        let (select, insert) = (table.select(), table.insert());
        let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(&mut *from);
        while let Some(row) = rows.try_next().await.doing("read a row")? {
            table
                .bind(&row, sqlx::query(AssertSqlSafe(insert.as_str())))
                .doing("read a row")?
                .execute(&mut *into)
                .await
                .doing("write a row")?;
        }
    }
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

impl Table {
    fn names(&self) -> String {
        let names: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("\"{}\"", column.name))
            .collect();
        names.join(", ")
    }

    fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.names(), self.name)
    }

    fn insert(&self) -> String {
        let places: Vec<String> = (1..=self.columns.len())
            .map(|number| format!("${number}"))
            .collect();
        format!(
            "INSERT INTO {} ({}) VALUES ({})",
            self.name,
            self.names(),
            places.join(", ")
        )
    }

    fn bind<'q>(&self, row: &db::DbRow, mut query: Query<'q>) -> Result<Query<'q>, sqlx::Error> {
        use sqlx::Row as _;
        for (at, column) in self.columns.iter().enumerate() {
            query = match column.kind {
                Kind::Number => query.bind(row.try_get::<Option<i64>, _>(at)?),
                Kind::Text => query.bind(row.try_get::<Option<String>, _>(at)?),
                Kind::Bytes => query.bind(row.try_get::<Option<Vec<u8>>, _>(at)?),
            };
        }
        Ok(query)
    }

    /// PostgreSQL counts on where the rows end, as SQLite does.
    async fn count_on(&self, into: &mut AnyConnection) -> Result<(), Failure> {
        let table = &self.name;
        for column in self.columns.iter().filter(|column| column.is_counted) {
            let column = &column.name;
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), \
                 COALESCE(MAX({column}), 1), COUNT(*) > 0) FROM {table}"
            );
            sqlx::query(AssertSqlSafe(sql))
                .execute(&mut *into)
                .await
                .doing("count on in a table")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_comes_after_those_that_it_points_to() {
        let table = |name: &str, parents: &[&str]| Table {
            name: name.into(),
            columns: Vec::new(),
            parents: parents.iter().map(|&parent| parent.into()).collect(),
        };
        let unsorted = vec![
            table("a", &["b", "d"]),
            table("b", &["c"]),
            table("c", &[]),
            table("d", &[]),
        ];
        let sorted = parents_first(unsorted);
        let names: Vec<&str> = sorted.iter().map(|table| table.name.as_str()).collect();
        assert_eq!(names, ["c", "b", "d", "a"]);
    }

    /// Every row as SQL, in the order of the text; when migrations ran is no row of ours.
    fn rows(file: &Utf8Path) -> Vec<String> {
        let output = std::process::Command::new("sqlite3")
            .args([file.as_str(), ".dump"])
            .output()
            .expect("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let is_ours =
            |line: &&str| line.starts_with("INSERT INTO ") && !line.contains("_sqlx_migrations");
        let mut rows: Vec<String> = text.lines().filter(is_ours).map(str::to_owned).collect();
        rows.sort_unstable();
        rows
    }

    #[tokio::test]
    async fn an_earlier_release_s_postgresql_comes_to_the_same_form_as_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let fixture = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fixtures/database-16/forestage.db"
        );
        let (old, copied) = (folder.join("old.db"), folder.join("copied.db"));
        std::fs::copy(fixture, &old).unwrap();
        let cluster = testkit::postgres::cluster().unwrap();
        let url: DatabaseUrl = cluster.database().unwrap().parse().unwrap();
        // As that release would have had it, migrated by this one.
        copy_in(&old, &url).await.unwrap();
        let early = copy_out(&url, &copied).await;
        assert!(matches!(early, Err(Error::OtherRelease)), "{early:?}");
        Db::open(&copied, Some(&url)).await.unwrap().close().await;
        copy_out(&url, &copied).await.unwrap();
        Db::open(&old, None).await.unwrap().close().await;
        let rows_of_file = rows(&old);
        assert!(rows_of_file.len() > 150, "{}", rows_of_file.len());
        assert_eq!(rows(&copied), rows_of_file);
    }
}
