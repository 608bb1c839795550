//! `GET /v1/subjects/{subject_id}/holdings`: what the vault holds of a person, opened, for her to have. It guarantees
//! that each field is on record before it is decrypted, and that nothing is said of whoever is one with her;
//! to whom it goes is left to the caller.

use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::api::holdings::{Holding, Provenance};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Json, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::access::{self, Access, AccessRecord};
use crate::app::{App, EMAIL, NAME, PARENT_USER_ID, PHONE, USER_ID};
use crate::error::VaultError;
use crate::lookup::require_open;
use crate::resolve::{open_field, recorded};

/// Why it is read, in access records.
const REASON: &str = "subject_request";

/// What the vault holds of a person.
///
/// Needs `subjects:export`. Her contact data first, then who looked at them when and why, oldest first: by what they
/// did, not by name (Court of Justice, C-579/21, paragraph 83). Each field is put on record before it is decrypted.
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}/holdings", tag = "subjects", security(("bearer" = [])),
    params(("subject_id" = Uuid, Path, description = "The person"), Page),
    responses((status = 200, body = Listing<Holding>), (status = 410, description = "subject_erased"))
)]
pub(crate) async fn holdings(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
    Query(page): Query<Page>,
) -> Result<Json<Listing<Holding>>, Problem> {
    caller.require("subjects:export")?;
    let after = page.after::<Uuid>()?;
    require_open(&app, subject_id).await?;
    let mut items = Vec::new();
    if after.is_none() {
        let reading = Arc::clone(&app);
        items
            .extend(to_the_end(async move { contact(&reading, &caller, subject_id).await }).await?);
    }
    let (after, limit) = (after.unwrap_or_default(), page.limit());
    let records = access::read(&app, Some(subject_id), after, limit).await?;
    let Listing { items: records, next } = Listing::cut(records, limit, |last| last.id);
    items.extend(records.into_iter().map(looked_at));
    Ok(Json(Listing { items, next }))
}

/// Her contact data; none: she isn't known here.
async fn contact(
    app: &App,
    caller: &Caller,
    subject: SubjectId,
) -> Result<Option<Holding>, VaultError> {
    const ALSO: [&str; 4] = [USER_ID, PARENT_USER_ID, NAME, EMAIL];
    let access = Access { caller: caller.name(), reason: REASON, field: PHONE };
    let Some((person, key)) = recorded(app, access, &ALSO, &[subject]).await?.pop().flatten()
    else {
        return Ok(None);
    };
    let mut data = json!({"country": person.region, "origin": person.origin});
    for field in [PHONE].into_iter().chain(ALSO) {
        if let Some(text) = open_field(&person, &key, field, person.sealed(field))? {
            data[field] = Value::from(text.as_str());
        }
    }
    let holding = Holding::new("contact", Provenance::Provided, data);
    Ok(Some(Holding { at: Some(person.registered_at), ..holding }))
}

fn looked_at(record: AccessRecord) -> Holding {
    let data = json!({"reason": record.reason, "field": record.field});
    let holding = Holding::new("access", Provenance::Recorded, data);
    Holding { id: Some(record.id), at: Some(record.at), ..holding }
}
