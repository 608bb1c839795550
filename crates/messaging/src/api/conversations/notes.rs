//! `POST /v1/conversations/{conversation_id}/notes`: what colleagues should know. It is sealed under the
//! person's key, read like what she wrote, and ends with it.

use assent_contracts::conversation::{CONVERSATION_NOTED, ConversationNoted};
use assent_eventstore::to_the_end;
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Path, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::find;
use crate::api::messages::{database, keyless, store};
use crate::state::{Messaging, fenced};

/// The field that a note is sealed as.
pub const NOTE: &str = "note";
/// Longest note, in characters.
const CHARS_MAX: usize = 4096;

/// A note. No `Debug`: it may tell of her.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoteRequest {
    /// The text.
    #[schema(min_length = 1, max_length = 4096)]
    pub text: String,
}

/// It is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct Noted {
    /// The note.
    pub note_id: Uuid,
}

/// Writes a note. Closed conversations take them too.
///
/// # Errors
/// `conversation_unknown`, `subject_erased`, `subject_unknown`, `validation_failed`,
/// `idempotency_key_reused`.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation_id}/notes", tag = "conversations",
    security(("bearer" = [])),
    params(
        ("conversation_id" = Uuid, Path, description = "The conversation"),
        ("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")
    ),
    request_body = NoteRequest,
    responses(
        (status = 201, description = "Written", body = Noted),
        (status = 404, description = "conversation_unknown, subject_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn note(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    IdempotencyKey(key): IdempotencyKey,
    JsonBytes(request, body): JsonBytes<NoteRequest>,
) -> Result<(StatusCode, Json<Noted>), Problem> {
    const INSERT: &str = "
        INSERT INTO conversation_notes (id, conversation_id, subject_id, author, body, written_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    caller.require("conversations:write")?;
    if !(1..=CHARS_MAX).contains(&request.text.chars().count()) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail(format!("a note has 1 to {CHARS_MAX} characters")));
    }
    let idempotency = key.map(|key| {
        let scope = format!("{} POST /v1/conversations/{id}/notes", caller.name());
        messaging.store.idempotency(&scope, &key, &body)
    });
    let subject = find(&messaging, id).await?.subject;
    let note_id = messaging.ids.v7();
    let keys = messaging.person_keys.lease("conversation_note", &[subject]).await?;
    let sealed = keys
        .seal(subject, note_id, NOTE, request.text.as_bytes())
        .map_err(keyless(Code::SubjectUnknown))?;
    let (service, author) = (messaging.clone(), caller.name().to_owned());
    let note_id = to_the_end(async move {
        let mut session = service.store.begin().await.map_err(store)?;
        session.lock_versions(&[subject]).await.map_err(store)?;
        if let Some(key) = idempotency
            && let Some(first) = session.first_answer(key).await.map_err(store)?
        {
            session.rollback().await.map_err(store)?;
            return Ok(first.event_ids.first().copied().unwrap_or_default());
        }
        if !fenced(session.conn(), &[subject]).await.map_err(database)?.is_empty() {
            return Err(Problem::from(Code::SubjectErased));
        }
        let now = service.clock.now();
        sqlx::query(INSERT)
            .bind(note_id)
            .bind(id)
            .bind(subject)
            .bind(&author)
            .bind(sealed)
            .bind(now.to_sqlx())
            .execute(session.conn())
            .await
            .map_err(database)?;
        // A note's id is that of its event.
        let event = ConversationNoted { conversation_id: id, note_id, author, at: now };
        let mut append =
            service.event(subject, note_id, CONVERSATION_NOTED, &event, now).map_err(store)?;
        append.idempotency = idempotency;
        session.append(vec![append]).await.map_err(store)?;
        session.commit().await.map_err(store)?;
        Ok(note_id)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(Noted { note_id })))
}
