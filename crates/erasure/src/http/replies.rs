//! `POST /v1/requests/{request_id}/replies`: a recipient outside answers what it was asked. It guarantees that only the
//! key that it is registered with answers for it, once, and that what it tells of a person is sealed under her key
//! before it is kept.

use std::collections::BTreeMap;

use assent_contracts::SubjectId;
use assent_contracts::api::holdings::Holding;
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::acknowledge::may_answer;
use super::{App, store_problem};
use crate::archivist::ArchiveError;
use crate::domain::recipients::AnswerRefusal;

/// Most pieces of one answer.
const HOLDINGS_MAX: usize = 2_000;
/// Longest name of a kind.
const KIND_MAX: usize = 64;

/// The answer to an inquiry. No `Debug`: it holds plaintext.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reply {
    /// What it answers.
    inquiry_id: Uuid,
    /// Who answers; must be the name that the caller is registered under.
    participant: String,
    /// To disclose: what it holds on her; empty where that is nothing. Anything else: empty, once it is done.
    #[serde(default)]
    #[schema(max_items = 2000)]
    holdings: Vec<Holding>,
}

/// The answer to an answer: recorded, now or before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplyAnswer {
    request_id: Uuid,
    inquiry_id: Uuid,
}

#[utoipa::path(
    post, path = "/v1/requests/{request_id}/replies", tag = "participants",
    params(("request_id" = Uuid, Path, description = "The request")),
    request_body = Reply,
    responses(
        (status = 200, description = "Recorded, now or before", body = ReplyAnswer),
        (status = 403, description = "forbidden: the key is not this participant's, or it is suspended"),
        (status = 404, description = "request_unknown, participant_unknown"),
        (status = 409, description = "ack_mismatch, with the member reason: unknown_inquiry, not_asked or erased"),
        (status = 422, description = "validation_failed"),
        (status = 503, description = "dependency_unavailable: come again"),
    ),
    security(("bearer" = []))
)]
/// Answers an inquiry as a participant.
pub(super) async fn reply(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
    Json(reply): Json<Reply>,
) -> Result<Json<ReplyAnswer>, Problem> {
    caller.require("erasure:ack")?;
    let is_code = |text: &str| {
        (1..=KIND_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
    };
    let holdings = &reply.holdings;
    if holdings.len() > HOLDINGS_MAX
        || holdings.iter().any(|it| !is_code(&it.kind) || it.evidence.is_some())
    {
        return Err(Problem::new(Code::ValidationFailed).detail(
            "holdings: at most 2,000, each of a kind of a-z and _, none with sealed evidence",
        ));
    }
    let subject = app.sagas.subject_of(request_id).await.map_err(store_problem)?;
    let subject = subject.ok_or(Code::RequestUnknown)?;
    let inquiry_id = reply.inquiry_id;
    let key = caller.name().to_owned();
    let recording = app.clone();
    let recorded = to_the_end(async move {
        let sealed = match reply.holdings.is_empty() {
            true => None,
            false => {
                // Whether it may is looked up before anything is sealed, and again with the record of it.
                if let Err(problem) = check(&recording, subject, request_id, &key, &reply).await? {
                    return Ok(Err(problem));
                }
                let Reply { inquiry_id, participant, holdings } = &reply;
                let sealing = recording.archivist.seal(subject, *inquiry_id, participant, holdings);
                match sealing.await {
                    Ok(sealed) => Some(sealed),
                    Err(error) => return Ok(Err(unsealed(error))),
                }
            }
        };
        record(&recording, subject, request_id, &key, reply, sealed).await
    });
    recorded.await.map_err(store_problem)??;
    Ok(Json(ReplyAnswer { request_id, inquiry_id }))
}

async fn check(
    app: &App,
    subject: SubjectId,
    request_id: Uuid,
    key: &str,
    reply: &Reply,
) -> Result<Result<(), Problem>, StoreError> {
    let mut held = app.sagas.hold(subject).await?;
    let answerer = held.answerer(&reply.participant).await?;
    let heard = may_answer(answerer, key).and_then(|()| {
        let (inquiry, name) = (reply.inquiry_id, &reply.participant);
        let events = held.person.hear(request_id, inquiry, name, BTreeMap::new(), held.now);
        events.map(|_| ()).map_err(refused)
    });
    held.rollback().await?;
    Ok(heard)
}

async fn record(
    app: &App,
    subject: SubjectId,
    request_id: Uuid,
    key: &str,
    reply: Reply,
    sealed: Option<Vec<u8>>,
) -> Result<Result<(), Problem>, StoreError> {
    let mut records = BTreeMap::new();
    for holding in &reply.holdings {
        *records.entry(holding.kind.clone()).or_default() += 1;
    }
    let (inquiry, name) = (reply.inquiry_id, &reply.participant);
    let mut held = app.sagas.hold(subject).await?;
    let answerer = held.answerer(name).await?;
    let heard = may_answer(answerer, key).and_then(|()| {
        held.person.hear(request_id, inquiry, name, records, held.now).map_err(refused)
    });
    let events = match heard {
        Ok(events) => events,
        Err(problem) => {
            held.rollback().await?;
            return Ok(Err(problem));
        }
    };
    let new = !events.is_empty();
    held.record(events, None).await?;
    if let Some(sealed) = sealed.filter(|_| new) {
        held.keep_disclosure(request_id, inquiry, name, &sealed).await?;
    }
    held.answered(name, inquiry).await?;
    held.commit().await?;
    Ok(Ok(()))
}

fn refused(refusal: AnswerRefusal) -> Problem {
    Problem::new(Code::AckMismatch).detail(refusal.to_string()).with("reason", refusal.name())
}

fn unsealed(error: ArchiveError) -> Problem {
    match error {
        ArchiveError::Refused(refusal) => Problem::new(Code::AckMismatch)
            .detail(refusal.to_string())
            .with("reason", refusal.name()),
        error => Problem::unavailable("vault", error),
    }
}
