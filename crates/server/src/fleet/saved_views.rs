//! Saved views: names for what the overview shows, one's own or shared with everybody.
//!
//! A view is a query and nothing else: whoever opens one sees the rows that they may see. One that names a site which
//! doesn't exist for somebody doesn't exist for them either. Only administrators share, since everybody gets it.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use sqlx::FromRow;
use wire::views::{SavedView, VIEW_NAME_CHARS_MAX, ViewChange};

use crate::db::{Write, commit};
use crate::error::{Doing as _, Failure};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::people::roles::May;
use crate::routes::read_json;
use crate::state::{AppState, now_ms};
use crate::text::clean;
use crate::web::filter::Filter;

/// Views of one person, and shared ones: more are a heap, not a list.
const VIEWS_MAX: i64 = 100;
/// The owner of views that are shared.
const EVERYBODY: &str = "";

#[derive(FromRow)]
struct StoredView {
    owner: String,
    name: String,
    query: String,
    saved_at_ms: i64,
}

impl StoredView {
    fn exists_for(&self, user: &User) -> bool {
        let site = Filter::of_query(&self.query).site;
        site.is_none_or(|site| user.covers(&site))
    }

    fn view(self) -> SavedView {
        SavedView {
            shared: self.owner == EVERYBODY,
            name: self.name,
            query: self.query,
            saved_at_ms: self.saved_at_ms,
        }
    }
}

impl AppState {
    /// The views that someone has: their own, and those that are shared, by name.
    pub(crate) async fn views_for(&self, user: &User) -> Result<Vec<SavedView>, Failure> {
        let rows: Vec<StoredView> = sqlx::query_as(
            "SELECT owner, name, query, saved_at_ms FROM saved_views WHERE owner = $1 OR owner = '' \
             ORDER BY name, owner DESC",
        )
        .bind(&user.name)
        .fetch_all(self.db().read())
        .await
        .doing("read the saved views")?;
        let theirs = rows.into_iter().filter(|row| row.exists_for(user));
        Ok(theirs.map(StoredView::view).collect())
    }
}

/// `GET /api/v1/views`
pub(crate) async fn list(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
) -> Result<Json<Vec<SavedView>>, Failure> {
    state.views_for(&user).await.map(Json)
}

/// `GET /api/v1/views/{name}`: one's own, else the shared one.
pub(crate) async fn get(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<SavedView>, Failure> {
    let views = state.views_for(&user).await?;
    let view = views.into_iter().find(|view| view.name == name);
    view.map(Json).ok_or_else(|| no_view(&name))
}

/// `PUT /api/v1/views/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<SavedView>, Failure> {
    let change: ViewChange = read_json(body, JSON_BYTES_MAX).await?;
    let cleaned = clean(&name, VIEW_NAME_CHARS_MAX);
    if cleaned.is_empty() || cleaned != name {
        let message = format!("{name:?} can't be the name of a view");
        return Err(Failure::bad_request("bad-name", message)
            .hint(format!("{VIEW_NAME_CHARS_MAX} characters at most")));
    }
    let owner = owner(&user, change.shared)?;
    let query = change.query.trim().trim_start_matches('?');
    let query = Filter::of_query(query).query();
    let view = StoredView {
        owner: owner.to_owned(),
        name,
        query: query.trim_start_matches('?').to_owned(),
        saved_at_ms: now_ms(),
    };
    let mut db = state.db().write().await?;
    let others: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM saved_views WHERE owner = $1 AND name <> $2")
            .bind(owner)
            .bind(&view.name)
            .fetch_one(&mut *db)
            .await
            .doing("count the saved views")?;
    if others >= VIEWS_MAX {
        let message = format!("there are {VIEWS_MAX} views already");
        return Err(Failure::conflict("too-many-views", message).hint("delete one first"));
    }
    sqlx::query(
        "INSERT INTO saved_views (owner, name, query, saved_at_ms) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (owner, name) DO UPDATE SET query = excluded.query, saved_at_ms = excluded.saved_at_ms",
    )
    .bind(owner)
    .bind(&view.name)
    .bind(&view.query)
    .bind(view.saved_at_ms)
    .execute(&mut *db)
    .await
    .doing("store a saved view")?;
    note(&mut db, &user, "view-saved", &view).await?;
    commit(db).await?;
    Ok(Json(view.view()))
}

/// Which of two views of one name is meant.
#[derive(Debug, Deserialize)]
pub(crate) struct Whose {
    #[serde(default)]
    shared: bool,
}

/// `DELETE /api/v1/views/{name}?shared=BOOL`
pub(crate) async fn remove(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    Query(whose): Query<Whose>,
) -> Result<Json<SavedView>, Failure> {
    let owner = owner(&user, whose.shared)?;
    let mut db = state.db().write().await?;
    let view: Option<StoredView> = sqlx::query_as(
        "DELETE FROM saved_views WHERE owner = $1 AND name = $2 RETURNING owner, name, query, saved_at_ms",
    )
    .bind(owner)
    .bind(&name)
    .fetch_optional(&mut *db)
    .await
    .doing("delete a saved view")?;
    let view = view.ok_or_else(|| no_view(&name))?;
    note(&mut db, &user, "view-deleted", &view).await?;
    commit(db).await?;
    Ok(Json(view.view()))
}

/// Whose the view is to be.
fn owner(user: &User, shared: bool) -> Result<&str, Failure> {
    if !shared {
        return Ok(&user.name);
    }
    if user.may(May::Administer) {
        return Ok(EVERYBODY);
    }
    let message = "only administrators share views";
    Err(
        Failure::refused(StatusCode::FORBIDDEN, "not-to-share", message)
            .hint("save it for yourself, or ask an administrator"),
    )
}

async fn note(db: &mut Write, user: &User, action: &str, view: &StoredView) -> Result<(), Failure> {
    let whose = if view.owner == EVERYBODY {
        "shared"
    } else {
        "own"
    };
    // Not the query: what people search for is theirs, and the audit is kept.
    audit(db, &user.name, action, &view.name, whose).await
}

fn no_view(name: &str) -> Failure {
    Failure::not_found(format!("view {name:?}"))
}
