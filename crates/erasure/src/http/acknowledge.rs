//! `POST /v1/requests/{request_id}/acks`: a participant answers a command; `POST /v1/acks`: many at once. Repeating
//! an answer is harmless; one that matches no command is refused with `ack_mismatch` and counted.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::SubjectId;
use assent_contracts::erasure::{Ack, AckOutcome, AcksAnswer, AcksRequest, RequestAck};
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Caller, Code, Json, Path, Problem};
use assent_runtime::failpoint;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{App, store_problem};
use crate::domain::{Command, Event, Person, Refusal, Status};
use crate::metrics;

/// Most answers at once.
const ACKS_MAX: usize = 500;

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
        (status = 403, description = "forbidden: the key is not this participant's, or it is suspended"),
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
    let (recording, key) = (app.clone(), caller.name().to_owned());
    let recorded = to_the_end(async move { record(&recording, request_id, &key, ack).await }).await;
    let status = recorded.map_err(store_problem)??;
    failpoint::hit_async("erasure.ack_recorded").await;
    app.wake.notify_one();
    Ok(Json(AckAnswer { request_id, status }))
}

#[utoipa::path(
    post, path = "/v1/acks", tag = "participants",
    request_body(content = AcksRequest, description = "1 to 500 answers: request_id, and ack as for one"),
    responses(
        (status = 200, description = "What became of each, in their order", body = AcksAnswer),
        (status = 422, description = "validation_failed: more than 500"),
    ),
    security(("bearer" = []))
)]
/// Answers many commands as a participant. One that is refused keeps no other from being recorded.
pub(super) async fn acknowledge_many(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<AcksRequest>,
) -> Result<Json<AcksAnswer>, Problem> {
    caller.require("erasure:ack")?;
    if !(1..=ACKS_MAX).contains(&request.acks.len()) {
        return Err(
            Problem::new(Code::ValidationFailed).detail(format!("1 to {ACKS_MAX} answers at once"))
        );
    }
    let (recording, key) = (app.clone(), caller.name().to_owned());
    let recorded =
        to_the_end(async move { record_many(&recording, &key, request.acks).await }).await;
    let outcomes = recorded.map_err(store_problem)?;
    failpoint::hit_async("erasure.ack_recorded").await;
    app.wake.notify_one();
    Ok(Json(AcksAnswer { outcomes }))
}

/// What a person's events are after this answer, of whichever erasure of hers it is.
fn decide(
    person: &Person,
    request_id: Uuid,
    ack: Ack,
    now: Timestamp,
) -> Result<Vec<Event>, Refusal> {
    let acknowledge = Command::Acknowledge { request_id, ack };
    match person.purposes.get(request_id) {
        Some(of_purpose) => of_purpose.decide(acknowledge, now),
        None => person.saga.decide(acknowledge, now),
    }
}

/// Those about whole persons in one transaction; the others, which are few, one by one. The outcomes are in the order of
/// the answers.
async fn record_many(
    app: &App,
    key: &str,
    acks: Vec<RequestAck>,
) -> Result<Vec<AckOutcome>, StoreError> {
    const OF_PURPOSES: &str = "SELECT request_id FROM purpose_erasures WHERE request_id = ANY($1)";
    let requests: Vec<Uuid> = acks.iter().map(|it| it.request_id).collect();
    let of_purposes: Vec<Uuid> =
        sqlx::query_scalar(OF_PURPOSES).bind(&requests).fetch_all(app.sagas.store.pool()).await?;
    if of_purposes.is_empty() {
        return record_together(app, key, acks).await;
    }
    let (alone, together): (Vec<_>, Vec<_>) =
        acks.into_iter().enumerate().partition(|(_, it)| of_purposes.contains(&it.request_id));
    let (places, together): (Vec<usize>, Vec<RequestAck>) = together.into_iter().unzip();
    let recorded = record_together(app, key, together).await?;
    let mut outcomes: BTreeMap<usize, AckOutcome> = places.into_iter().zip(recorded).collect();
    for (place, RequestAck { request_id, ack }) in alone {
        let command_id = ack.command_id;
        let refused = record(app, request_id, key, ack).await?.err();
        let refused = refused.map(|problem| problem.code.name().to_owned());
        outcomes.insert(place, AckOutcome { command_id, refused });
    }
    Ok(outcomes.into_values().collect())
}

/// In one transaction; each is decided as if it had come alone, after those before it.
async fn record_together(
    app: &App,
    key: &str,
    acks: Vec<RequestAck>,
) -> Result<Vec<AckOutcome>, StoreError> {
    let requests: Vec<Uuid> = acks.iter().map(|it| it.request_id).collect();
    let subjects = app.sagas.subjects_of(&requests).await?;
    let people: BTreeSet<SubjectId> = subjects.values().copied().collect();
    let people: Vec<SubjectId> = people.into_iter().collect();
    let mut crowd = app.sagas.hold_all(&people).await?;
    let answerers = crowd.answerers().await?;
    let mut outcomes = Vec::with_capacity(acks.len());
    for RequestAck { request_id, ack } in acks {
        let (name, command_id) = (ack.participant.clone(), ack.command_id);
        let subject = subjects.get(&request_id).copied();
        let person = subject.and_then(|it| crowd.person(it).map(|person| (it, person)));
        let decided = match person {
            None => Err(refusal_problem(Refusal::UnknownRequest)),
            Some((subject, person)) => may_answer(answerers.get(&ack.participant).cloned(), key)
                .and_then(|()| {
                    let decided = decide(person, request_id, ack, crowd.now);
                    decided.map(|events| (subject, events)).map_err(refusal_problem)
                }),
        };
        let refused = match decided {
            Ok((subject, events)) => {
                crowd.record(subject, &events)?;
                crowd.answered(&name, command_id);
                None
            }
            Err(problem) => Some(problem.code.name().to_owned()),
        };
        outcomes.push(AckOutcome { command_id, refused });
    }
    crowd.commit().await?;
    Ok(outcomes)
}

/// Who may answer is looked up in the transaction that records the answer: no suspension comes between.
async fn record(
    app: &App,
    request_id: Uuid,
    key: &str,
    ack: Ack,
) -> Result<Result<Status, Problem>, StoreError> {
    let Some(subject) = app.sagas.subject_of(request_id).await? else {
        return Ok(Err(refusal_problem(Refusal::UnknownRequest)));
    };
    let mut held = app.sagas.hold(subject).await?;
    let answerer = held.answerer(&ack.participant).await?;
    let (name, command_id) = (ack.participant.clone(), ack.command_id);
    let decided = may_answer(answerer, key)
        .and_then(|()| decide(&held.person, request_id, ack, held.now).map_err(refusal_problem));
    match decided {
        Ok(events) => {
            held.record(events, None).await?;
            held.answered(&name, command_id).await?;
        }
        Err(problem) => {
            held.rollback().await?;
            return Ok(Err(problem));
        }
    }
    let request = match held.person.purposes.get(request_id) {
        Some(of_purpose) => of_purpose.request(),
        None => held.person.saga.request.as_ref(),
    };
    let status = request.map_or(Status::Requested, |request| request.status());
    held.commit().await?;
    Ok(Ok(status))
}

/// Only the key that a participant is registered with may answer for it, unless it is suspended.
pub(super) fn may_answer(answerer: Option<(String, bool)>, key: &str) -> Result<(), Problem> {
    let forbidden = |detail| Err(Problem::new(Code::Forbidden).detail(detail));
    match answerer {
        None => Err(Code::ParticipantUnknown.into()),
        Some((name, _)) if name != key => forbidden("another key answers for this participant"),
        Some((_, true)) => forbidden("this participant is suspended"),
        Some(_) => Ok(()),
    }
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
