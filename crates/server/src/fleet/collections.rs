//! Collections: sets of devices.

use std::collections::BTreeSet;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use wire::admin_api::{CollectionChange, CollectionRow, DeviceRow, MemberChange};
use wire::names::CollectionName;
use wire::reasons::MemberReason;

use crate::db::commit;
use crate::error::{Doing as _, Failure};
use crate::fleet::targeting::membership;
use crate::limits::{JSON_BYTES_MAX, TITLE_CHARS_MAX};
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::page::PageQuery;
use crate::routes::{parse, read_json};
use crate::state::{AppState, Change};
use crate::text::clean;

/// `GET /api/v1/collections`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<CollectionRow>>, Failure> {
    state.collections_for(&user).await.map(Json)
}

/// `PUT /api/v1/collections/{name}`: what isn't said stays as it is.
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<CollectionRow>, Failure> {
    let name: CollectionName = parse(&name)?;
    let change: CollectionChange = read_json(body, JSON_BYTES_MAX).await?;
    if change.name != name {
        return Err(Failure::bad_request(
            "other-name",
            "the name in the path is another one",
        ));
    }
    let mut db = state.db().write().await?;
    sqlx::query(
        "INSERT INTO collections (name, title) VALUES ($1, '') ON CONFLICT (name) DO NOTHING",
    )
    .bind(name.as_str())
    .execute(&mut *db)
    .await
    .doing("store a collection")?;
    if let Some(title) = &change.title {
        sqlx::query("UPDATE collections SET title = $1 WHERE name = $2")
            .bind(clean(title, TITLE_CHARS_MAX))
            .bind(name.as_str())
            .execute(&mut *db)
            .await
            .doing("store the title of a collection")?;
    }
    audit(&mut db, &user.name, "collection-stored", name.as_str(), "").await?;
    commit(db).await?;
    find(&state, &name).await.map(Json)
}

/// `GET /api/v1/collections/{name}/members`
pub(crate) async fn members(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<(HeaderMap, Json<Vec<DeviceRow>>), Failure> {
    let name: CollectionName = parse(&name)?;
    find(&state, &name).await?;
    let mut rows = state.device_rows_for(&user).await?;
    rows.retain(|row| row.collections.contains(&name));
    let path = format!("/api/v1/collections/{name}/members");
    let (headers, rows) = page.cut(&path, rows, |row| row.device.to_string())?;
    Ok((headers, Json(rows)))
}

/// `POST /api/v1/collections/{name}/members`
pub(crate) async fn change_members(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<CollectionRow>, Failure> {
    let name: CollectionName = parse(&name)?;
    let change: MemberChange = read_json(body, JSON_BYTES_MAX).await?;
    find(&state, &name).await?;
    let mut db = state.db().write().await?;
    for device in &change.add {
        state.own_device_in(&user, &mut db, *device).await?;
        membership::put_in(&mut db, &name, &device.to_string()).await?;
    }
    for device in &change.remove {
        state.own_device_in(&user, &mut db, *device).await?;
        let who = user.name.clone();
        let reason = MemberReason::TakenOut { who };
        membership::take_out(&mut db, &name, &device.to_string(), &reason).await?;
    }
    let detail = format!("{} in, {} out", change.add.len(), change.remove.len());
    audit(
        &mut db,
        &user.name,
        "members-changed",
        name.as_str(),
        &detail,
    )
    .await?;
    commit(db).await?;
    state.members().forget();
    for device in change
        .add
        .into_iter()
        .chain(change.remove)
        .collect::<BTreeSet<_>>()
    {
        state.changed(Change::Device(device));
    }
    find(&state, &name).await.map(Json)
}

impl AppState {
    /// The names of all collections, for pages that let one choose.
    pub(crate) async fn collection_names(&self) -> Result<Vec<String>, Failure> {
        sqlx::query_scalar("SELECT name FROM collections ORDER BY name")
            .fetch_all(self.db().read())
            .await
            .doing("read the names of the collections")
    }
}

pub(crate) async fn find(
    state: &AppState,
    name: &CollectionName,
) -> Result<CollectionRow, Failure> {
    let rows = state.collections().await?;
    rows.into_iter()
        .find(|row| &row.name == name)
        .ok_or_else(|| Failure::not_found(format!("collection {name}")))
}
