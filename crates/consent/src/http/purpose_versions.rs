//! `GET /v1/purposes/{purpose}/versions`: all that a purpose ever was, with the texts that were shown.

use assent_contracts::consent::PurposeDefined;
use assent_http::{Caller, Code, Json, Listing, Path, Problem};
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::refusals::database;
use crate::policy::{Version, history};

/// One version of a purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurposeVersion {
    /// The event that made it.
    pub event_id: Uuid,
    /// From when on it was in force.
    pub recorded_at: Timestamp,
    /// What it says; nothing where the purpose was retired.
    pub definition: Option<PurposeDefined>,
}

impl From<Version> for PurposeVersion {
    fn from((event_id, recorded_at, definition): Version) -> Self {
        Self { event_id, recorded_at, definition }
    }
}

/// What was this purpose, and when?
#[utoipa::path(
    get, path = "/v1/purposes/{purpose}/versions", tag = "purposes",
    params(("purpose" = String, Path, description = "The purpose's name")),
    responses(
        (status = 200, description = "Oldest first", body = Listing<PurposeVersion>),
        (status = 404, description = "purpose_unknown"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn purpose_versions(
    State(app): State<App>,
    caller: Caller,
    Path(purpose): Path<String>,
) -> Result<Json<Listing<PurposeVersion>>, Problem> {
    caller.require("consent:read")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let items: Vec<PurposeVersion> = history(&mut conn, &purpose)
        .await
        .map_err(database)?
        .into_iter()
        .map(PurposeVersion::from)
        .collect();
    if items.is_empty() {
        return Err(Problem::new(Code::PurposeUnknown));
    }
    Ok(Json(Listing { items, next: None }))
}
