//! `GET /v1/projections` and rebuilds: what operators look at and set going.

use std::collections::BTreeMap;
use std::sync::Arc;

use assent_bus::{consumer, end_offsets};
use assent_http::{Caller, Code, Json, Listing, Path, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;

use super::App;
use crate::error::ProjectorError;
use crate::model::Projection;
use crate::rebuild;

/// A projection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectionStatus {
    /// Its name.
    name: String,
    /// The topic that it folds, with the deployment's prefix.
    topic: String,
    /// Which build is live, counted from 1.
    generation: i32,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// How many events it is behind; absent when Kafka can't be asked.
    lag: Option<i64>,
    /// How many messages wait for a decision.
    parked: i64,
    /// The last rebuild.
    rebuild: Option<RebuildStatus>,
}

/// Where a rebuild stands.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RebuildStatus {
    /// The projection.
    projection: String,
    /// The generation that it builds or built.
    generation: i32,
    /// `running`, `done`, `different` (compared and not swapped in) or `failed`.
    state: String,
    /// Why it failed, a stable code.
    reason: Option<String>,
    /// How many events it has read.
    events: i64,
    /// How many rows differed from the live ones at the same position.
    differences: Option<i64>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
}

impl From<rebuild::Progress> for RebuildStatus {
    fn from(progress: rebuild::Progress) -> Self {
        Self {
            projection: progress.projection.name().to_owned(),
            generation: progress.generation,
            state: progress.state,
            reason: progress.reason,
            events: progress.events,
            differences: progress.differences,
            requested_at: progress.requested_at,
            finished_at: progress.finished_at,
        }
    }
}

/// What a rebuild may do.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RebuildRequest {
    /// Swap in although rows differ: the fold has changed on purpose.
    #[serde(default)]
    accept_differences: bool,
}

/// Every projection with its generation and lag.
#[utoipa::path(
    get, path = "/v1/projections", tag = "projections", security(("bearer" = [])),
    responses((status = 200, body = Listing<ProjectionStatus>))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
) -> Result<Json<Listing<ProjectionStatus>>, Problem> {
    caller.require("operations")?;
    let mut items = Vec::new();
    for projection in Projection::ALL {
        items.push(status(&app, projection).await?);
    }
    Ok(Json(Listing { items, next: None }))
}

async fn status(app: &App, projection: Projection) -> Result<ProjectionStatus, ProjectorError> {
    let row = sqlx::query(
        "SELECT generation, since,
                (SELECT count(*) FROM eventstore.parked WHERE consumer = $2)
         FROM generations WHERE projection = $1",
    )
    .bind(projection.name())
    .bind(projection.consumer())
    .fetch_one(&app.pool)
    .await?;
    Ok(ProjectionStatus {
        name: projection.name().to_owned(),
        topic: app.bus.topic_name(&projection.topic()),
        generation: row.try_get(0)?,
        since: row.try_get::<SqlTimestamp, _>(1)?.to_jiff(),
        parked: row.try_get(2)?,
        lag: lag(app, projection).await?,
        rebuild: rebuild::progress(&app.pool, projection).await?.map(Into::into),
    })
}

async fn lag(app: &App, projection: Projection) -> Result<Option<i64>, ProjectorError> {
    let positions = consumer::positions(&app.pool, projection.consumer()).await?;
    let next: BTreeMap<i32, i64> =
        positions.into_iter().map(|((_, partition), next)| (partition, next)).collect();
    let Ok(ends) = end_offsets(&app.bus, projection.topic()).await else { return Ok(None) };
    let behind = ends
        .iter()
        .map(|(partition, end)| (end - next.get(partition).copied().unwrap_or_default()).max(0));
    Ok(Some(behind.sum()))
}

/// Builds a projection anew beside the live one, compares, and swaps it in. Answers at once.
#[utoipa::path(
    post, path = "/v1/projections/{name}/rebuild", tag = "projections",
    security(("bearer" = [])), params(("name" = String, Path, description = "The projection")),
    request_body = RebuildRequest,
    responses(
        (status = 202, body = RebuildStatus),
        (status = 404, description = "projection_unknown"),
        (status = 409, description = "rebuild_running"),
    )
)]
pub(crate) async fn rebuild(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
    Json(request): Json<RebuildRequest>,
) -> Result<Response, Problem> {
    caller.require("operations")?;
    let projection = Projection::by_name(&name).ok_or(Code::ProjectionUnknown)?;
    let accept = request.accept_differences;
    if !rebuild::request(&app.pool, projection, accept, app.clock.now()).await? {
        return Err(Code::RebuildRunning.into());
    }
    tracing::info!(projection = projection.name(), by = caller.name(), "rebuild asked for");
    app.asked.notify_one();
    let status = current(&app, projection).await?;
    Ok((StatusCode::ACCEPTED, Json(status)).into_response())
}

/// Where the last rebuild stands.
#[utoipa::path(
    get, path = "/v1/projections/{name}/rebuild", tag = "projections",
    security(("bearer" = [])), params(("name" = String, Path, description = "The projection")),
    responses((status = 200, body = RebuildStatus), (status = 404, description = "projection_unknown or not_found"))
)]
pub(crate) async fn progress(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<RebuildStatus>, Problem> {
    caller.require("operations")?;
    let projection = Projection::by_name(&name).ok_or(Code::ProjectionUnknown)?;
    Ok(Json(current(&app, projection).await?))
}

async fn current(app: &App, projection: Projection) -> Result<RebuildStatus, Problem> {
    let progress = rebuild::progress(&app.pool, projection).await?;
    progress
        .map(Into::into)
        .ok_or_else(|| Problem::new(Code::NotFound).detail("this projection was never rebuilt"))
}
