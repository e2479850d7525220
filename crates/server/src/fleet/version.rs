//! Counts the changes of what assets are, so that a plan can tell whether the fleet is still the one it rests on.

use crate::error::{Doing as _, Failure};

/// Where the count stands.
pub(crate) async fn fleet_version(connection: &mut sqlx::AnyConnection) -> Result<i64, Failure> {
    sqlx::query_scalar("SELECT version FROM fleet_version WHERE id = 1")
        .fetch_one(connection)
        .await
        .doing("read the version of the fleet")
}

/// Belongs into every transaction in which an asset comes, goes or gets other values.
pub(crate) async fn fleet_changes(db: &mut crate::db::Write) -> Result<(), Failure> {
    sqlx::query("UPDATE fleet_version SET version = version + 1 WHERE id = 1")
        .execute(&mut **db)
        .await
        .doing("note that the fleet changes")?;
    Ok(())
}
