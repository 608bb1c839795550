//! `GET /v1/subjects/{subject_id}/history`: every event of a person's ledger, oldest first.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::StopKind;
use assent_eventstore::StoredEvent;
use assent_http::{Caller, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::App;
use super::refusals::{database, store};
use crate::{gate, lines};

/// One event of a ledger, as it was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEvent {
    /// Its id.
    pub id: Uuid,
    /// Its type, such as `assent.consent.granted.v1`.
    pub r#type: String,
    /// Its place in the ledger, from 1.
    pub sequence: i64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Its data; evidence in it is sealed.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl HistoryEvent {
    /// As it is stored.
    pub(super) fn of(event: StoredEvent) -> Result<Self, Problem> {
        Ok(Self {
            id: event.id,
            sequence: event.version,
            recorded_at: event.recorded_at,
            data: serde_json::from_str(&event.data).map_err(Problem::internal)?,
            r#type: event.event_type,
        })
    }
}

/// What happened, in order?
///
/// Without `suppression:read` no event tells that an address is suppressed or was somebody's who was
/// erased, and who is erased has no history.
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/history", tag = "consents",
    params(("subject_id" = Uuid, Path, description = "The person"), Page),
    responses((status = 200, body = Listing<HistoryEvent>)),
    security(("bearer" = []))
)]
pub(super) async fn history(
    State(app): State<App>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<HistoryEvent>>, Problem> {
    caller.require("consent:read")?;
    let sees_bars = caller.has("suppression:read");
    let after = page.after::<i64>()?.unwrap_or(0);
    let limit = page.limit();
    if !sees_bars {
        let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
        let (_, erased) = lines::of_subject(&mut conn, subject_id).await.map_err(database)?;
        if erased {
            return Ok(Json(Listing { items: Vec::new(), next: None }));
        }
    }
    let events = app
        .0
        .store
        .load(subject_id, after, limit as i64 + 1)
        .await
        .map_err(store)?
        .into_iter()
        .map(|event| {
            let mut event = HistoryEvent::of(event)?;
            if !sees_bars {
                hide_bars(&mut event.data);
            }
            Ok(event)
        })
        .collect::<Result<Vec<_>, Problem>>()?;
    Ok(Json(Listing::cut(events, limit, |last| last.sequence)))
}

fn hide_bars(data: &mut serde_json::Value) {
    if let Some(bars) = data.get_mut("bars").and_then(serde_json::Value::as_array_mut) {
        bars.retain(|bar| bar["kind"] == gate::kind_name(StopKind::Stopped));
    }
}
