//! `GET /v1/retention`: which texts would go because they are too old, before they go. It guarantees that looking
//! changes nothing; they end by `housekeeping`.

use std::num::NonZeroU32;

use assent_http::{Caller, Json, Problem, Query};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::messages::database;
use crate::housekeeping::{self, Texts};
use crate::state::Messaging;

/// For how long what was written is kept, and what follows.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetentionView {
    /// For how many days.
    conversation_days: u32,
    /// What would go now, by age alone: while the use of somebody's data is restricted hers stay. That there was a
    /// message, and what became of it, stays.
    due: Texts,
}

/// By how many days to look.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Asked {
    /// As if the configuration said so; not given: what it says.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1)]
    conversation_days: Option<NonZeroU32>,
}

/// For how long is what was written kept, and how much would go now?
///
/// # Errors
/// `dependency_unavailable`.
#[utoipa::path(
    get, path = "/v1/retention", tag = "conversations", security(("bearer" = [])), params(Asked),
    responses((status = 200, description = "What would go", body = RetentionView))
)]
pub async fn retention(
    State(messaging): State<Messaging>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<RetentionView>, Problem> {
    caller.require("conversations:read")?;
    let configured = messaging.config.conversations.retention_days;
    let asked = asked.conversation_days.map(NonZeroU32::get);
    let conversation_days = asked.unwrap_or(u32::from(configured));
    let due = housekeeping::due(&messaging, conversation_days, &[]).await.map_err(database)?;
    Ok(Json(RetentionView { conversation_days, due }))
}
