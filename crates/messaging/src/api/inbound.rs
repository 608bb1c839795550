//! `POST /v1/inbound/{id}/read`: tells a person that her message was read, and shows that an answer is being
//! written. It is no message: it says nothing, needs no consent, and answers what she has just sent. Whoever
//! is fenced gets none.

use assent_contracts::SubjectId;
use assent_http::{Caller, Code, Json, Path, Problem};
use assent_runtime::Lease;
use axum::extract::State;
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::messages::{database, keyless};
use crate::rates::{self, Reserved};
use crate::state::{Messaging, fenced};
use crate::whatsapp::KEPT;
use crate::whatsapp::answer::Answer;
use crate::whatsapp::client::{Call, Outcome};
use crate::whatsapp::outbound::ReadMark;

/// What to show.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// Whether an answer is being written. It is shown until that comes, 25 seconds at most.
    #[serde(default)]
    pub typing: bool,
}

/// She sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Marked {
    /// Her message.
    pub message_id: Uuid,
}

/// Marks a message of hers as read.
///
/// # Errors
/// `message_unknown`, `subject_erased`, `rate_limited`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/inbound/{message_id}/read", tag = "messages", security(("bearer" = [])),
    params(("message_id" = Uuid, Path, description = "Her message, as `message_received` names it.")),
    request_body = ReadRequest,
    responses(
        (status = 200, description = "She sees it", body = Marked),
        (status = 404, description = "message_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 429, description = "rate_limited")
    )
)]
pub async fn read(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<ReadRequest>,
) -> Result<Json<Marked>, Problem> {
    // The provider keeps messages for 30 days.
    const FIND: &str = "
        SELECT subject_id, content FROM inbound_messages
        WHERE id = $1 AND content IS NOT NULL AND said_at > $2";
    caller.require("messages:write")?;
    let config = &messaging.config;
    let number = &config.whatsapp.phone_number_id;
    let since = messaging.clock.now() - KEPT;
    let row = sqlx::query(FIND)
        .bind(id)
        .bind(since.to_sqlx())
        .fetch_optional(messaging.pool())
        .await
        .map_err(database)?
        .ok_or(Code::MessageUnknown)?;
    let subject: SubjectId = row.try_get(0).map_err(database)?;
    let sealed: Vec<u8> = row.try_get(1).map_err(database)?;
    let wait = std::time::Duration::from_secs(1);
    let reserved = rates::reserve(messaging.pool(), number, 1, config.sending.per_second, wait);
    match reserved.await.map_err(database)? {
        Reserved::After(wait) => tokio::time::sleep(wait).await,
        Reserved::Resting(rest) => {
            let seconds = u32::try_from(rest.as_secs()).unwrap_or(u32::MAX).max(1);
            return Err(Problem::new(Code::RateLimited).retry_after(seconds));
        }
    }
    let lease = Lease::start(&messaging.clock, &config.terms);
    let keys = messaging.person_keys.lease("mark_read", &[subject]).await?;
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    if !fenced(&mut conn, &[subject]).await.map_err(database)?.is_empty() {
        return Err(Code::SubjectErased.into());
    }
    drop(conn);
    let raw = keys.open(subject, id, "content", &sealed).map_err(keyless(Code::MessageUnknown))?;
    let raw: serde_json::Value = serde_json::from_slice(&raw).map_err(|_| Code::MessageUnknown)?;
    let provider_id = raw.get("id").and_then(serde_json::Value::as_str);
    let provider_id = provider_id.ok_or(Code::MessageUnknown)?;
    // As each message is: counted again now that it is ready.
    let (per_second, wait) = (config.sending.per_second, lease.remaining() / 2);
    match rates::call(messaging.pool(), number, 1, per_second, wait).await.map_err(database)? {
        Some(wait) => tokio::time::sleep(wait).await,
        None => return Err(Problem::new(Code::RateLimited).retry_after(1)),
    }
    let mark = ReadMark::new(provider_id, request.typing).to_json();
    let Call { outcome, .. } = messaging.provider.send(mark, lease).await;
    let failed = match outcome {
        Outcome::Answered(Answer::Done | Answer::Accepted { .. }) => {
            return Ok(Json(Marked { message_id: id }));
        }
        Outcome::Answered(Answer::Refused { code, .. }) => format!("refused with code {code:?}"),
        Outcome::Answered(Answer::Unreadable) => "an answer that can't be read".to_owned(),
        Outcome::Withheld => "the lease ran out".to_owned(),
        Outcome::Unreachable => "unreachable".to_owned(),
        Outcome::Lost(reason) => reason.to_owned(),
    };
    Err(Problem::unavailable("provider", failed))
}
