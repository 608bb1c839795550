//! `GET /v1/subjects/{subject_id}/holdings`: the rows of the read models on a person, for her to have. They are worked
//! out of what the other services hold, which may be newer.

use std::sync::Arc;

use assent_contracts::api::holdings::{Holding, Provenance};
use assent_http::{Caller, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{App, consents, contacts, messages};

/// The rows of the read models on a person: contact and consents first, then messages, oldest first.
///
/// Needs `subjects:export`.
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/holdings", tag = "contacts", security(("bearer" = [])),
    params(("subject_id" = Uuid, Path, description = "The person"), Page),
    responses((status = 200, body = Listing<Holding>))
)]
pub(crate) async fn holdings(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(subject_id): Path<Uuid>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Holding>>, Problem> {
    caller.require("subjects:export")?;
    let after = page.after::<Uuid>()?;
    let limit = page.limit();
    let mut items = Vec::new();
    if after.is_none() {
        for contact in contacts::read(&app, Some(subject_id), Uuid::nil(), 1).await? {
            items.push(row("contact", json!(contact)));
        }
        for consents in consents::read(&app, Some(subject_id), Uuid::nil(), 1).await? {
            items.push(row("consents", json!(consents)));
        }
    }
    let messages =
        messages::read(&app, Some(subject_id), after.unwrap_or(Uuid::nil()), limit).await?;
    let Listing { items: messages, next } = Listing::cut(messages, limit, |last| last.message_id);
    items.extend(messages.iter().map(|message| row("message", json!(message))));
    Ok(Json(Listing { items, next }))
}

/// A row, without its key.
fn row(model: &str, mut data: Value) -> Holding {
    if let Some(fields) = data.as_object_mut() {
        fields.remove("subject_id");
    }
    data["model"] = Value::from(model);
    Holding::new("read_model", Provenance::Derived, data)
}
