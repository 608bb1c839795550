//! `POST /v1/seal` and `POST /v1/open`: free text under a person's key, such as the evidence of a
//! consent. It guarantees that opening is on record before it happens; the ciphertext isn't kept
//! here and goes with what it speaks of.

use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{
    OpenRequest, OpenResponse, SealRequest, SealResponse, SealText, SealsRequest, SealsResponse,
};
use assent_contracts::sealed::Sealed;
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use assent_sealing::{Aad, KeyState, from_text, open, seal, to_text};
use axum::extract::State;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::access::{Access, check_reason};
use crate::app::App;
use crate::error::VaultError;
use crate::lookup::require_open;
use crate::people;
use crate::resolve::recorded;

/// Longest text that is sealed, in bytes.
const TEXT_MAX: usize = 64 << 10;
/// Most texts in one request.
const TEXTS_MAX: usize = 500;
/// Longest name of a field.
const FIELD_MAX: usize = 64;
/// Evidence of a consent, the one field that is opened over HTTP.
const EVIDENCE: &str = "consent.evidence";

/// Seal free text under a person's key.
///
/// Needs `seal:write`. The text is not kept here: the ciphertext goes with what it speaks of.
#[utoipa::path(
    post, path = "/v1/seal", tag = "access", security(("bearer" = [])),
    request_body = SealRequest,
    responses((status = 200, body = SealResponse), (status = 404, description = "subject_unknown"),
        (status = 410, description = "subject_erased"), (status = 422, description = "validation_failed"))
)]
pub(crate) async fn seal_text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<SealRequest>,
) -> Result<Json<SealResponse>, Problem> {
    caller.require("seal:write")?;
    let text = Zeroizing::new(request.text);
    if text.len() > TEXT_MAX || request.field.is_empty() || request.field.len() > FIELD_MAX {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("field must have 1 to 64 bytes and text at most 64 KiB"));
    }
    require_open(&app, request.subject_id).await?;
    let key = match app.keys.get(&[request.subject_id]).await.map_err(VaultError::from)?.pop() {
        Some(KeyState::Live(key)) => key,
        Some(KeyState::Destroyed) => return Err(Problem::new(Code::SubjectErased)),
        Some(KeyState::Never) | None => return Err(Problem::new(Code::SubjectUnknown)),
    };
    let aad = Aad {
        subject: request.subject_id,
        record: request.record,
        field: &request.field,
        version: key.version,
    };
    let sealed = to_text(&seal(&key.key, app.ids.as_ref(), aad, text.as_bytes()));
    Ok(Json(SealResponse { sealed: bound(request.record, &sealed) }))
}

/// Seal one text each under the keys of many people.
///
/// Needs `seal:write`. Nothing of them is kept here.
#[utoipa::path(
    post, path = "/v1/seals", tag = "access", security(("bearer" = [])),
    request_body = SealsRequest,
    responses((status = 200, body = SealsResponse), (status = 422, description = "validation_failed: too many, or too long"))
)]
pub(crate) async fn seal_texts(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<SealsRequest>,
) -> Result<Json<SealsResponse>, Problem> {
    caller.require("seal:write")?;
    let SealsRequest { field, texts } = request;
    let texts = Zeroizing::new(texts.into_iter().map(Secret).collect::<Vec<_>>());
    let too_long = texts.iter().any(|Secret(it)| it.text.len() > TEXT_MAX);
    if texts.len() > TEXTS_MAX || too_long || field.is_empty() || field.len() > FIELD_MAX {
        return Err(Problem::new(Code::ValidationFailed).detail(
            "at most 500 texts; field must have 1 to 64 bytes and each text at most 64 KiB",
        ));
    }
    let subjects: Vec<SubjectId> = texts.iter().map(|Secret(it)| it.subject_id).collect();
    let mut connection = app.pool().acquire().await.map_err(VaultError::from)?;
    let fenced = people::fenced(&mut connection, &subjects).await?;
    drop(connection);
    let keys = app.keys.get(&subjects).await.map_err(VaultError::from)?;
    let seal_one = |(Secret(it), key): (&Secret, KeyState)| match key {
        KeyState::Live(key) if !fenced.contains(&it.subject_id) => {
            let (subject, record) = (it.subject_id, it.record);
            let aad = Aad { subject, record, field: &field, version: key.version };
            let sealed = seal(&key.key, app.ids.as_ref(), aad, it.text.as_bytes());
            Some(bound(record, &to_text(&sealed)))
        }
        _ => None,
    };
    let sealed = texts.iter().zip(keys).map(seal_one).collect();
    Ok(Json(SealsResponse { sealed }))
}

/// A text that is wiped when it isn't needed any more.
struct Secret(SealText);

impl zeroize::Zeroize for Secret {
    fn zeroize(&mut self) {
        self.0.text.zeroize();
    }
}

/// Open what was sealed under a person's key.
///
/// Needs `subjects:resolve`, or `subjects:export` for her own answer. Who opened what of whom, and why, is on record
/// before it is opened.
#[utoipa::path(
    post, path = "/v1/open", tag = "access", security(("bearer" = [])),
    request_body = OpenRequest,
    responses((status = 200, body = OpenResponse), (status = 404, description = "subject_unknown: or erased"),
        (status = 422, description = "validation_failed: it doesn't open: another person's, another field's, or damaged"))
)]
pub(crate) async fn open_text(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(request): Json<OpenRequest>,
) -> Result<Json<OpenResponse>, Problem> {
    if !caller.has("subjects:export") {
        caller.require("subjects:resolve")?;
    }
    check_reason(&request.reason)?;
    if request.field != EVIDENCE {
        return Err(Problem::new(Code::ValidationFailed)
            .detail(format!("the only field that can be opened is {EVIDENCE}")));
    }
    let unopened = || Problem::new(Code::ValidationFailed).detail("the ciphertext doesn't open");
    let (record, sealed) = unbound(&request.sealed).ok_or_else(unopened)?;
    let person = to_the_end(async move {
        let access = Access { caller: caller.name(), reason: &request.reason, field: EVIDENCE };
        recorded(&app, access, &[], &[request.subject_id]).await
    })
    .await?
    .pop()
    .flatten();
    let Some((_, key)) = person else { return Err(Problem::new(Code::SubjectUnknown)) };
    let aad = Aad { subject: request.subject_id, record, field: EVIDENCE, version: key.version };
    let bytes = open(&key.key, aad, &sealed).map_err(|_| unopened())?;
    let text = str::from_utf8(&bytes).map_err(|_| unopened())?.to_owned();
    Ok(Json(OpenResponse { text }))
}

/// A ciphertext with the record that it is bound to: whoever opens it has nothing else.
fn bound(record: Uuid, sealed: &Sealed) -> Sealed {
    Sealed(format!("{record}.{}", sealed.0))
}

fn unbound(sealed: &Sealed) -> Option<(Uuid, Vec<u8>)> {
    let (record, text) = sealed.0.split_once('.')?;
    Some((record.parse().ok()?, from_text(&Sealed(text.to_owned())).ok()?))
}
