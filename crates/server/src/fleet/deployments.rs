//! Deployments: a sequence for a collection.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use serde_json::json;
use wire::admin_api::Deployment;
use wire::names::DeploymentName;
use wire::webhooks::WebhookEvent;

use crate::db::commit;
use crate::error::{Doing as _, Failure, to_json};
use crate::limits::JSON_BYTES_MAX;
use crate::people::audit::audit;
use crate::people::auth::User;
use crate::routes::{parse, read_json};
use crate::state::{AppState, now_ms};
use crate::webhooks::outbox::emit;

/// `GET /api/v1/deployments`
pub(crate) async fn list(State(state): State<AppState>) -> Result<Json<Vec<Deployment>>, Failure> {
    state.deployments().await.map(Json)
}

/// `PUT /api/v1/deployments/{name}`
pub(crate) async fn put(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Deployment>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let deployment: Deployment = read_json(body, JSON_BYTES_MAX).await?;
    if deployment.name != name {
        return Err(Failure::bad_request(
            "other-name",
            "the name in the path is another one",
        ));
    }
    if deployment.cap == 0 {
        return Err(Failure::bad_request(
            "no-cap",
            "a deployment that may touch no device does nothing",
        )
        .hint("set `cap` to the number of devices you mean to reach"));
    }
    let mut db = state.db().write().await?;
    let collection: Option<String> =
        sqlx::query_scalar("SELECT name FROM collections WHERE name = $1")
            .bind(deployment.collection.as_str())
            .fetch_optional(&mut *db)
            .await
            .doing("look up a collection")?;
    if collection.is_none() {
        return Err(
            Failure::not_found(format!("collection {}", deployment.collection))
                .hint("create it first"),
        );
    }
    let sequence: Option<String> =
        sqlx::query_scalar("SELECT name FROM sequences WHERE name = $1 LIMIT 1")
            .bind(deployment.sequence.as_str())
            .fetch_optional(&mut *db)
            .await
            .doing("look up a sequence")?;
    if sequence.is_none() {
        return Err(
            Failure::not_found(format!("sequence {}", deployment.sequence)).hint("store it first"),
        );
    }
    sqlx::query(
        "INSERT INTO deployments (name, collection, document, stopped, created_at_ms) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (name) DO UPDATE SET collection = excluded.collection, document = excluded.document, \
         stopped = excluded.stopped, cap_told = 0",
    )
    .bind(name.as_str())
    .bind(deployment.collection.as_str())
    .bind(to_json("write a deployment", &deployment)?)
    .bind(i64::from(deployment.stopped))
    .bind(now_ms())
    .execute(&mut *db)
    .await
    .doing("store a deployment")?;
    let detail = format!(
        "{} for {}, cap {}",
        deployment.sequence, deployment.collection, deployment.cap
    );
    audit(
        &mut db,
        &user.name,
        "deployment-stored",
        name.as_str(),
        &detail,
    )
    .await?;
    commit(db).await?;
    Ok(Json(deployment))
}

/// `POST /api/v1/deployments/{name}/stop`: no device begins it any more; runs go on to their end.
pub(crate) async fn stop(
    State(state): State<AppState>,
    Extension(user): Extension<User>,
    Path(name): Path<String>,
) -> Result<Json<Deployment>, Failure> {
    let name: DeploymentName = parse(&name)?;
    let mut db = state.db().write().await?;
    let stopped = sqlx::query("UPDATE deployments SET stopped = 1 WHERE name = $1 AND stopped = 0")
        .bind(name.as_str())
        .execute(&mut *db)
        .await
        .doing("stop a deployment")?;
    if stopped.rows_affected() == 1 {
        let data = json!({ "deployment": name });
        emit(&mut db, WebhookEvent::DeploymentStopped, data).await?;
    }
    audit(&mut db, &user.name, "deployment-stopped", name.as_str(), "").await?;
    commit(db).await?;
    let deployments = state.deployments().await?;
    let found = deployments
        .into_iter()
        .find(|deployment| deployment.name == name);
    found
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("deployment {name}")))
}
