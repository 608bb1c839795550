//! `POST /v1/subjects/lookup` and `GET /v1/subjects/{subject_id}`: who has an address, and what is held of
//! a person. Nothing is decrypted here, so nothing goes on record.

use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{LookupRequest, LookupResponse};
use assent_contracts::vault::Origin;
use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, EMAIL, NAME, PARENT_USER_ID, PHONE, USER_ID};
use crate::error::VaultError;
use crate::people::{self, Barred};
use crate::{identities, phone, user_id};

/// Find a person by her address.
///
/// Needs `subjects:read`.
#[utoipa::path(
    post, path = "/v1/subjects/lookup", tag = "subjects", security(("bearer" = [])),
    request_body = LookupRequest,
    responses((status = 200, body = LookupResponse), (status = 422, description = "phone_invalid, validation_failed"))
)]
pub(crate) async fn lookup(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<LookupRequest>,
) -> Result<Json<LookupResponse>, Problem> {
    caller.require("subjects:read")?;
    let told = request.addresses.len();
    let (tokens, fingerprints, number_country) = match (request.phone, request.user_id) {
        (Some(text), None) if told == 0 => {
            let text = Zeroizing::new(text);
            let phone = phone::parse(&text, request.country.as_deref())
                .map_err(|invalid| Problem::new(Code::PhoneInvalid).detail(invalid.reason()))?;
            let fingerprints = app.fingerprints.all(&phone.e164);
            (app.addresses.all(&phone.e164), fingerprints, phone.region)
        }
        (None, Some(text)) if told == 0 => {
            let user_id = user_id::parse(&Zeroizing::new(text)).ok_or_else(|| {
                Problem::new(Code::ValidationFailed).detail("user_id: CC. and letters or digits")
            })?;
            let fingerprints = app.fingerprints.all(&user_id.text);
            (app.addresses.all(&user_id.text), fingerprints, None)
        }
        (None, None) if (1..=100).contains(&told) => (request.addresses, Vec::new(), None),
        _ => {
            return Err(Problem::new(Code::ValidationFailed)
                .detail("give a phone, a user_id or the addresses of one person"));
        }
    };
    let known = people::known(app.pool(), &tokens).await?;
    let known = tokens.iter().find_map(|token| known.get(token)).copied();
    let barred = if known.is_some_and(|known| known.fenced) {
        Some(Barred::Erased)
    } else {
        let marks = people::marks(fingerprints, &tokens);
        people::barred(app.pool(), &marks, Timestamp::UNIX_EPOCH).await?.into_values().max()
    };
    let gets_tokens = caller.has("subjects:resolve") || caller.has("gate:write");
    Ok(Json(LookupResponse {
        subject_id: known.map(|known| known.subject),
        barred: barred
            .filter(|_| caller.has("suppression:read"))
            .map(|barred| barred.reason().to_owned()),
        addresses: if gets_tokens { tokens } else { Vec::new() },
        number_country,
    }))
}

/// What the vault holds of a person, without its content.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subject {
    /// Her id.
    subject_id: Uuid,
    /// Which fields are held.
    fields: Vec<&'static str>,
    /// People who are one with her by the platform's word. Each is erased by a request of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    linked: Vec<Uuid>,
    /// ISO 3166-1 alpha-2 region of her number.
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<String>,
    /// By which road she came to be known.
    origin: Origin,
    /// Since when.
    registered_at: Timestamp,
}

/// Show which fields are held of a person.
///
/// Needs `subjects:read`. Somebody who is being or was erased is gone (410).
#[utoipa::path(
    get, path = "/v1/subjects/{subject_id}", tag = "subjects", security(("bearer" = [])),
    params(("subject_id" = Uuid, Path, description = "The person")),
    responses((status = 200, body = Subject), (status = 404, description = "subject_unknown"),
        (status = 410, description = "subject_erased"))
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(subject_id): Path<SubjectId>,
) -> Result<Json<Subject>, Problem> {
    caller.require("subjects:read")?;
    require_open(&app, subject_id).await?;
    let person = people::find(app.pool(), subject_id).await?;
    let person = person.ok_or_else(|| Problem::new(Code::SubjectUnknown))?;
    let held = [
        (person.phone.is_some(), PHONE),
        (person.user_id.is_some(), USER_ID),
        (person.parent_user_id.is_some(), PARENT_USER_ID),
        (person.name.is_some(), NAME),
        (person.email.is_some(), EMAIL),
    ];
    let linked = identities::linked(app.pool(), &[subject_id]).await?;
    Ok(Json(Subject {
        subject_id,
        fields: held.iter().filter(|(held, _)| *held).map(|(_, field)| *field).collect(),
        linked: linked.into_iter().map(|(_, other)| other).collect(),
        region: person.region,
        origin: person.origin,
        registered_at: person.registered_at,
    }))
}

/// # Errors
/// `subject_erased` when an erasure of this person has begun.
pub(crate) async fn require_open(app: &App, subject: SubjectId) -> Result<(), Problem> {
    let mut connection = app.pool().acquire().await.map_err(VaultError::from)?;
    if people::any_fenced(&mut connection, &[subject]).await? {
        return Err(Problem::new(Code::SubjectErased));
    }
    Ok(())
}
