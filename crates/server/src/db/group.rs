//! Writers that wait at the same time are committed together.
//!
//! A commit waits until all is on the disk, which takes as long for one request as for fifty. So each request's
//! transaction is a savepoint within one that is shared, and nobody is answered before the shared one is committed. A
//! request that goes wrong takes back its own part and no other's.
//!
//! The committer queues for the connection like everyone else, behind those that wait already; whoever comes later is in
//! the next group. Alone, a request is committed at once.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::{Numbers, TURN_TIME_MAX};
use crate::error::{Doing as _, Failure, chain};

/// How a group ended, once it has: if it failed, why.
type End = Option<Result<(), String>>;

/// Where the shared transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is none.
    Closed,
    /// It has begun, and no savepoint is open.
    Open,
    /// A savepoint is open. If nobody holds it, it is to be taken back.
    Inside,
    /// A statement is on its way. If nobody waits for it any more, nothing is known, and the connection is given up.
    Unclear,
}

/// Takes back what one request wrote.
const TAKE_BACK: &str = "ROLLBACK TO SAVEPOINT request; RELEASE SAVEPOINT request";

/// What the writers share.
struct Shared {
    pool: AnyPool,
    begin: &'static str,
    stage: Stage,
    connection: Option<PoolConnection<Any>>,
    end: watch::Sender<End>,
    numbers: Arc<Numbers>,
}

/// The way to write.
#[derive(Clone)]
pub(super) struct Writer {
    shared: Arc<Mutex<Shared>>,
}

/// A transaction that may write. Dropped without a [`commit`], it never was.
pub(crate) struct Write {
    shared: OwnedMutexGuard<Shared>,
    began: Instant,
}

impl Writer {
    pub(super) fn new(pool: AnyPool, begin: &'static str, numbers: Arc<Numbers>) -> Self {
        let shared = Shared {
            pool,
            begin,
            stage: Stage::Closed,
            connection: None,
            end: watch::Sender::new(None),
            numbers,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Waits for the turn and begins.
    pub(super) async fn write(&self) -> Result<Write, Failure> {
        let asked = Instant::now();
        let turn = tokio::time::timeout(TURN_TIME_MAX, Arc::clone(&self.shared).lock_owned());
        let mut shared = turn.await.map_err(|late| Failure::System {
            what: "begin a transaction",
            source: late.into(),
        })?;
        shared.numbers.waits.observe(asked.elapsed());
        let began = Instant::now();
        shared.settle().await;
        if shared.stage == Stage::Closed {
            shared.open().await?;
            let group = Arc::clone(&self.shared);
            tokio::spawn(async move { group.lock_owned().await.close().await });
        }
        shared.run("SAVEPOINT request", Stage::Inside).await?;
        Ok(Write { shared, began })
    }

    /// Waits until nothing is left to commit.
    pub(super) async fn rest(&self) {
        self.shared.lock().await.close().await;
    }
}

impl Shared {
    /// Runs a statement that leads to the next stage.
    async fn run(&mut self, sql: &'static str, next: Stage) -> Result<(), Failure> {
        self.stage = Stage::Unclear;
        let connection = self
            .connection
            .as_deref_mut()
            .ok_or(sqlx::Error::PoolClosed);
        let done = match connection {
            Ok(connection) => sqlx::raw_sql(sql).execute(connection).await.map(drop),
            Err(error) => Err(error),
        };
        done.doing("run a transaction")?;
        self.stage = next;
        Ok(())
    }

    async fn open(&mut self) -> Result<(), Failure> {
        self.connection = Some(self.pool.acquire().await.doing("begin a transaction")?);
        self.end = watch::Sender::new(None);
        let begin = self.begin;
        let begun = self.run(begin, Stage::Open).await;
        if begun.is_err() {
            self.give_up("the transaction could not begin").await;
        }
        begun
    }

    /// Cleans up after a request that went away.
    async fn settle(&mut self) {
        if self.stage == Stage::Inside
            && let Err(failure) = self.run(TAKE_BACK, Stage::Open).await
        {
            tracing::warn!(error = %chain(&failure), "cannot take back a request");
        }
        if self.stage == Stage::Unclear {
            self.give_up("a request before this one broke the transaction")
                .await;
        }
    }

    /// Commits what there is, and tells everyone who waits for it.
    async fn close(&mut self) {
        self.settle().await;
        if self.stage != Stage::Open {
            return;
        }
        match self.run("COMMIT", Stage::Closed).await {
            Ok(()) => {
                self.connection = None;
                self.end.send_replace(Some(Ok(())));
            }
            Err(failure) => self.give_up(&chain(&failure)).await,
        }
    }

    /// Nothing of the group is kept. A closed connection takes back by itself.
    async fn give_up(&mut self, why: &str) {
        tracing::error!("a transaction is given up: {why}");
        self.stage = Stage::Closed;
        if let Some(connection) = self.connection.take() {
            // It is of no use any more, whatever it says.
            let _ = connection.close().await;
        }
        self.end.send_replace(Some(Err(why.to_owned())));
    }
}

impl Write {
    /// Takes back what was written, now and not at the next writer's turn.
    pub(crate) async fn rollback(mut self) -> Result<(), Failure> {
        self.shared.run(TAKE_BACK, Stage::Open).await
    }
}

impl Deref for Write {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        self.shared
            .connection
            .as_deref()
            .expect("a savepoint has its connection")
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        self.shared
            .connection
            .as_deref_mut()
            .expect("a savepoint has its connection")
    }
}

/// Commits: what was written is on the disk when this answers.
pub(crate) async fn commit(mut write: Write) -> Result<(), Failure> {
    write
        .shared
        .run("RELEASE SAVEPOINT request", Stage::Open)
        .await?;
    let mut end = write.shared.end.subscribe();
    let numbers = Arc::clone(&write.shared.numbers);
    let began = write.began;
    drop(write);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Failure::System {
        what: "commit a transaction",
        source,
    };
    let end = end
        .wait_for(Option::is_some)
        .await
        .map_err(|gone| failed(gone.into()))?;
    numbers.turns.observe(began.elapsed());
    match &*end {
        Some(Err(why)) => Err(failed(why.clone().into())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Write, commit};
    use crate::db::Db;

    async fn db(folder: &tempfile::TempDir) -> Db {
        let path = camino::Utf8Path::from_path(folder.path())
            .unwrap()
            .join("a.db");
        Db::open(&path, None).await.unwrap()
    }

    async fn add(write: &mut Write, name: &str) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT INTO collections (name, title) VALUES ($1, '')")
            .bind(name)
            .execute(&mut **write)
            .await
            .map(drop)
    }

    async fn names(db: &Db) -> Vec<String> {
        sqlx::query_scalar("SELECT name FROM collections ORDER BY name")
            .fetch_all(db.read())
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_request_that_goes_wrong_takes_back_its_own_part_alone() {
        let folder = tempfile::tempdir().unwrap();
        let db = db(&folder).await;
        let one = |name: &'static str, goes_well: bool| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut write = db.write().await.unwrap();
                add(&mut write, name).await.unwrap();
                if goes_well {
                    commit(write).await.unwrap();
                    // Answered is committed: another connection sees it.
                    assert!(names(&db).await.contains(&name.to_owned()));
                } else {
                    let twice = add(&mut write, name).await;
                    assert!(twice.is_err());
                }
            })
        };
        let all = [
            one("a", true),
            one("b", false),
            one("c", true),
            one("d", false),
            one("e", true),
        ];
        for task in all {
            task.await.unwrap();
        }
        assert_eq!(names(&db).await, ["a", "c", "e"]);
        db.close().await;
    }

    #[tokio::test]
    async fn a_request_that_goes_away_at_any_moment_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let db = db(&folder).await;
        for polls in 0..40 {
            let work = async {
                let mut write = db.write().await.unwrap();
                add(&mut write, "gone").await.unwrap();
                add(&mut write, "gone too").await.unwrap();
                std::future::pending::<()>().await;
            };
            let mut work = std::pin::pin!(work);
            for _ in 0..polls {
                let once = std::future::poll_fn(|cx| {
                    let _pending = work.as_mut().poll(cx);
                    std::task::Poll::Ready(())
                });
                once.await;
                tokio::task::yield_now().await;
            }
        }
        let mut write = db.write().await.unwrap();
        add(&mut write, "stays").await.unwrap();
        commit(write).await.unwrap();
        assert_eq!(names(&db).await, ["stays"]);
        db.close().await;
    }

    #[tokio::test]
    async fn what_was_not_committed_is_gone_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let first = db(&folder).await;
        let mut write = first.write().await.unwrap();
        add(&mut write, "a").await.unwrap();
        commit(write).await.unwrap();
        let mut write = first.write().await.unwrap();
        add(&mut write, "b").await.unwrap();
        drop(write);
        first.close().await;
        assert_eq!(names(&db(&folder).await).await, ["a"]);
    }
}
