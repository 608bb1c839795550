//! `POST /v1/requests/{request_id}/acks`: a participant answers a command. Repeating an answer is
//! harmless; one that matches no command is refused with `ack_mismatch` and counted.

use assent_contracts::erasure::Ack;
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Caller, Code, Json, Path, Problem};
use assent_runtime::failpoint;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, store_problem};
use crate::domain::{Command, Refusal, Status};
use crate::metrics;

/// The answer to an acknowledgement: recorded, now or before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AckAnswer {
    /// The request.
    request_id: Uuid,
    /// Where it stands.
    status: Status,
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/acks", tag = "participants",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body(content = Ack, description = "command_id, step, participant, evidence {counts, digest, positions}"),
    responses(
        (status = 200, description = "Recorded, now or before", body = AckAnswer),
        (status = 403, description = "forbidden: the key is not this participant's"),
        (status = 404, description = "request_unknown, participant_unknown"),
        (status = 409, description = "ack_mismatch, with the member reason"),
        (status = 422, description = "validation_failed: the evidence"),
    ),
    security(("bearer" = []))
)]
/// Answers a command as a participant.
pub(super) async fn acknowledge(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(ack): Json<Ack>,
) -> Result<Json<AckAnswer>, Problem> {
    caller.require("erasure:ack")?;
    authenticate(&app, &caller, &ack.participant).await?;
    let recording = app.clone();
    let recorded = to_the_end(async move { record(&recording, request_id, ack).await }).await;
    let status = recorded.map_err(store_problem)?.map_err(refusal_problem)?;
    failpoint::hit_async("erasure.ack_recorded").await;
    app.wake.notify_one();
    Ok(Json(AckAnswer { request_id, status }))
}

/// Only the key that a participant is registered with may answer for it.
async fn authenticate(app: &App, caller: &Caller, participant: &str) -> Result<(), Problem> {
    let key_name: Option<String> =
        sqlx::query_scalar("SELECT key_name FROM participants WHERE name = $1")
            .bind(participant)
            .fetch_optional(app.sagas.store.pool())
            .await
            .map_err(|error| store_problem(error.into()))?;
    let key_name = key_name.ok_or(Code::ParticipantUnknown)?;
    if key_name == caller.name() {
        return Ok(());
    }
    Err(Problem::new(Code::Forbidden).detail("another key answers for this participant"))
}

async fn record(
    app: &App,
    request_id: Uuid,
    ack: Ack,
) -> Result<Result<Status, Refusal>, StoreError> {
    let Some(subject) = app.sagas.subject_of(request_id).await? else {
        return Ok(Err(Refusal::UnknownRequest));
    };
    let mut held = app.sagas.hold(subject).await?;
    match held.person.saga.decide(Command::Acknowledge { request_id, ack }, held.now) {
        Ok(events) => held.record(events, None).await?,
        Err(refusal) => {
            held.rollback().await?;
            return Ok(Err(refusal));
        }
    }
    let status = held.person.saga.request.as_ref().map_or(Status::Requested, |r| r.status());
    held.commit().await?;
    Ok(Ok(status))
}

fn refusal_problem(refusal: Refusal) -> Problem {
    metrics::refused(refusal);
    let code = match refusal {
        Refusal::UnknownRequest => Code::RequestUnknown,
        Refusal::EvidenceInvalid => Code::ValidationFailed,
        _ => Code::AckMismatch,
    };
    Problem::new(code).detail(refusal.to_string()).with("reason", refusal.name())
}
