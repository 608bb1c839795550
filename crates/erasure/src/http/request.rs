//! `POST /v1/requests`: a person is to be erased. It is a stop to all marketing at once, before
//! anything else; that needs the consent service to answer.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{ConsentAnswer, WithdrawRequest};
use assent_contracts::consent::{Actor, Method};
use assent_eventstore::{Idempotency, StoreError, to_the_end};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, ClientError, Code, IdempotencyKey, Json, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, store_problem};
use crate::domain::{Command, Status};
use crate::store::Origin;

/// A request to be erased.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRequest {
    /// Whom it concerns.
    #[schema(value_type = Uuid)]
    subject_id: SubjectId,
    /// Who asked.
    actor: Actor,
    /// A code for the ground, such as `consent_withdrawn` (GDPR Article 17(1)); no free text.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: Option<String>,
}

/// The answer: the request that stands for this person.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestAnswer {
    /// The request.
    request_id: Uuid,
    /// Where it stands.
    status: Status,
}

#[utoipa::path(
    post, path = "/v1/requests", tag = "requests",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = NewRequest,
    responses(
        (status = 201, description = "Accepted; marketing has stopped", body = RequestAnswer),
        (status = 200, description = "A request for this person exists already", body = RequestAnswer),
        (status = 422, description = "validation_failed"),
        (status = 503, description = "dependency_unavailable: the stop could not be settled, nothing was accepted"),
    ),
    security(("bearer" = []))
)]
/// Asks to erase a person.
pub(super) async fn request_erasure(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(new, body): JsonBytes<NewRequest>,
) -> Result<(StatusCode, Json<RequestAnswer>), Problem> {
    caller.require("erasure:write")?;
    if new.reason.as_deref().is_some_and(|reason| !is_code(reason)) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("reason: 1 to 64 of a-z, 0-9 and _, no free text"));
    }
    stop_marketing(&app, &new).await?;
    let idempotency = key.0.map(|key| app.sagas.store.idempotency(caller.name(), &key, &body));
    let origin = Origin { actor: new.actor, reason: new.reason };
    let accepting = app.clone();
    let accepted = to_the_end(async move {
        loop {
            match accept(&accepting, new.subject_id, &origin, idempotency).await {
                // Whoever took the key has committed: the next look finds the first answer.
                Err(StoreError::KeyTaken) => {}
                accepted => return accepted,
            }
        }
    })
    .await
    .map_err(store_problem)?;
    app.wake.notify_one();
    Ok((accepted.0, Json(accepted.1)))
}

fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A stop on every purpose and channel, settled before this returns. Each asks anew: the answer to
/// an earlier one would not speak of what was granted since.
async fn stop_marketing(app: &App, new: &NewRequest) -> Result<(), Problem> {
    let withdrawal = WithdrawRequest {
        subject_id: new.subject_id,
        purpose: "*".to_owned(),
        channel: "*".to_owned(),
        actor: new.actor,
        method: Method::ErasureRequest,
        evidence: None,
        acted_at: None,
        place: None,
    };
    let key = format!("erasure-{}", app.sagas.ids.v7());
    let stopped: Result<ConsentAnswer, ClientError> =
        app.consent.post("/v1/consents/withdraw", &withdrawal, Some(&key)).await;
    match stopped {
        Ok(_) => Ok(()),
        Err(error) => match error.code() {
            // Fenced: nothing is granted there any more, and nothing is sent.
            Some(Code::SubjectErased | Code::SubjectUnknown) => Ok(()),
            _ if error.is_transient() => Err(Problem::unavailable("consent", error)),
            _ => Err(Problem::internal(error)),
        },
    }
}

async fn accept(
    app: &App,
    subject: SubjectId,
    origin: &Origin,
    idempotency: Option<Idempotency>,
) -> Result<(StatusCode, RequestAnswer), StoreError> {
    let mut held = app.sagas.hold(subject).await?;
    if let Some(key) = idempotency
        && let Some(first) = held.first_answer(key).await?
    {
        let saga = app.sagas.load(first.stream).await?;
        held.rollback().await?;
        let request = saga.request.ok_or(StoreError::Aborted)?;
        let created = !first.event_ids.is_empty();
        let status = if created { Status::Requested } else { request.status() };
        let code = if created { StatusCode::CREATED } else { StatusCode::OK };
        return Ok((code, RequestAnswer { request_id: request.id, status }));
    }
    let request_id = app.sagas.ids.v7();
    let command = Command::RequestErasure { request_id, registry: &held.registry };
    // A request is never refused: a person who has one keeps it.
    let events = held.saga.decide(command, held.now).unwrap_or_default();
    let created = !events.is_empty();
    match (created, idempotency) {
        (true, key) => held.begin_request(events, origin, key).await?,
        (false, Some(key)) => held.keep_answer(key).await?,
        (false, None) => {}
    }
    let request = held.saga.request.as_ref().ok_or(StoreError::Aborted)?;
    let answer = RequestAnswer { request_id: request.id, status: request.status() };
    held.commit().await?;
    Ok((if created { StatusCode::CREATED } else { StatusCode::OK }, answer))
}
