//! `POST /v1/conversations/{conversation_id}/reply`: a human answers. Whoever answers has the conversation
//! from then on; the answer goes out through the gate, and only while the window is open.

use assent_contracts::api::consent::{Decision, Verdict, VerdictRequest};
use assent_contracts::api::messaging::MessageQueued;
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Path, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::Row as _;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{act, find};
use crate::api::messages::{self, Answers, MessageRequest, database, store};
use crate::consequences;
use crate::conversations::Row;
use crate::domain::content::Content;
use crate::domain::conversation::Command;
use crate::state::Messaging;

/// An answer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplyRequest {
    /// What is said.
    pub content: Content,
}

/// Answers her. Where nobody has the conversation, the caller takes it.
///
/// # Errors
/// `conversation_unknown`, `conversation_state_conflict` (somebody else has it, or it is closed),
/// `window_closed` (with the templates that her consent covers, in `templates`), `message_unknown`, `media_unknown`,
/// `subject_erased`, `validation_failed`, `idempotency_key_reused`.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation_id}/reply", tag = "conversations",
    security(("bearer" = [])),
    params(
        ("conversation_id" = Uuid, Path, description = "The conversation"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")
    ),
    request_body = ReplyRequest,
    responses(
        (status = 202, description = "Queued; the gate is asked when it is sent", body = MessageQueued),
        (status = 404, description = "conversation_unknown, message_unknown, subject_unknown, media_unknown"),
        (status = 409, description = "conversation_state_conflict, window_closed"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn reply(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBytes(request, body): JsonBytes<ReplyRequest>,
) -> Result<(StatusCode, Json<MessageQueued>), Problem> {
    caller.require("conversations:write")?;
    request.content.check().map_err(|fault| Problem::new(Code::ValidationFailed).detail(fault))?;
    let row = find(&messaging, id).await?;
    let idempotency = key.map(|key| {
        let scope = format!("{} POST /v1/conversations/{id}/reply", caller.name());
        messaging.store.idempotency(&scope, &key, &body)
    });
    if idempotency.is_some() {
        // Windows and hands change; what was answered doesn't.
        let mut session = messaging.store.begin().await.map_err(store)?;
        let first = messages::first_answer(&messaging, &mut session, idempotency).await?;
        session.rollback().await.map_err(store)?;
        if let Some(first) = first {
            return Ok((StatusCode::ACCEPTED, Json(first)));
        }
    }
    let now = messaging.clock.now();
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    let open = consequences::windows(&mut conn, &[row.subject], now).await.map_err(database)?;
    drop(conn);
    if open.is_empty() {
        let templates = covered(&messaging, &row).await;
        return Err(Problem::new(Code::WindowClosed).with("templates", templates));
    }
    let take = Command::Assign { to: caller.name().to_owned(), from: None };
    let row = act(&messaging, id, take).await?;
    let request = MessageRequest {
        subject_id: row.subject,
        purpose: messaging.config.conversations.purpose.clone(),
        channel: row.channel,
        template: None,
        language: None,
        parameters: Vec::new(),
        header: None,
        buttons: Vec::new(),
        cards: Vec::new(),
        content: Some(request.content),
    };
    // Sealing takes a while: whoever has lost it to a colleague meanwhile doesn't answer.
    let answers = Answers { conversation: id, human: caller.name().to_owned() };
    let queued = messages::answer(&messaging, request, answers, idempotency).await?;
    Ok((StatusCode::ACCEPTED, Json(queued)))
}

/// The approved templates for which she has agreed, each with a purpose under which it may go out now. None
/// where the consent service can't say: the gate is asked anyway when one is sent.
async fn covered(messaging: &Messaging, row: &Row) -> Value {
    const APPROVED: &str = "
        SELECT name, language, category FROM templates
        WHERE status IN ('APPROVED', 'FLAGGED') ORDER BY name, language LIMIT 100";
    let service = messaging.config.conversations.purpose.clone();
    let marketing = messaging.config.marketing_purposes.first().cloned().unwrap_or_default();
    let mut allowed = Vec::new();
    for purpose in [&service, &marketing] {
        let ask = VerdictRequest {
            subject_id: row.subject,
            purpose: purpose.clone(),
            channel: row.channel.clone(),
        };
        match messaging.consent.post::<_, Verdict>("/v1/verdict", &ask, None).await {
            Ok(verdict) if verdict.verdict == Decision::Allow => allowed.push(purpose.clone()),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "which templates consent covers can't be told"),
        }
    }
    let rows = sqlx::query(APPROVED).fetch_all(messaging.pool()).await.unwrap_or_default();
    let template = |row: &sqlx::postgres::PgRow| {
        let category: String = row.try_get(2).ok()?;
        let purpose = if category == "MARKETING" { &marketing } else { &service };
        let (name, language): (String, String) = (row.try_get(0).ok()?, row.try_get(1).ok()?);
        allowed
            .contains(purpose)
            .then(|| json!({"name": name, "language": language, "purpose": purpose}))
    };
    rows.iter().filter_map(template).collect()
}
