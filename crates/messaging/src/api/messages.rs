//! `POST /v1/messages` queues a message, `GET /v1/messages/{message_id}` tells what became of it.

use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::consent::STOP_CONFIRMATION;
use assent_contracts::api::messaging::{MessageQueued, MessageView, Pricing};
use assent_contracts::messaging::{MESSAGE_REQUESTED, MessageRequested};
use assent_eventstore::{Idempotency, Session, StoreError, to_the_end};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Path, Problem, Query};
use assent_runtime::telemetry;
use axum::extract::State;
use axum::http::StatusCode;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::conversations;
use crate::consequences::{self, Obstacle};
use crate::domain::content::{ButtonValue, Card, Content, Header, Parameter, Values};
use crate::domain::intent;
use crate::domain::template::{self, Shape};
use crate::media;
use crate::person_keys::KeyError;
use crate::state::{Messaging, fenced};
use crate::stored::{self, Stored};

/// Longest wait of a `GET`.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// How often a waiting `GET` looks by itself: another replica may have moved the message.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A message to send.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageRequest {
    /// To whom.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// For which purpose.
    #[schema(example = "marketing", min_length = 1, max_length = 512)]
    pub purpose: String,
    /// On which channel.
    #[schema(pattern = "^whatsapp$", example = "whatsapp")]
    pub channel: String,
    /// Which template; without: `content`.
    #[serde(default)]
    #[schema(example = "hello")]
    pub template: Option<String>,
    /// In which of its languages; without: its only one, else `en`.
    #[serde(default)]
    pub language: Option<String>,
    /// Values of the template's body, in order or by name. All values are stored sealed under the
    /// person's key.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub parameters: Vec<Parameter>,
    /// Value of the template's header.
    #[serde(default)]
    pub header: Option<Header>,
    /// Values of the template's buttons.
    #[serde(default)]
    pub buttons: Vec<ButtonValue>,
    /// Values of a carousel's cards.
    #[serde(default)]
    pub cards: Vec<Card>,
    /// Free-form content instead of a template: within 24 hours of a message of hers.
    #[serde(default)]
    pub content: Option<Content>,
}

/// How to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wait {
    /// Answer only when the message is settled, or after this many milliseconds (at most 20,000).
    #[serde(default)]
    pub wait_ms: u64,
}

/// Queues a message. It is sent only if the gate allows it at that moment.
///
/// # Errors
/// `template_unknown`, `template_unavailable`, `template_mismatch`, `window_closed`, `message_unknown` (a
/// reaction to no message of hers), `media_unknown`, `validation_failed`, `subject_erased`, `idempotency_key_reused`,
/// `dependency_unavailable` (what it says can't be sealed).
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = MessageRequest,
    responses(
        (status = 202, description = "Queued", body = MessageQueued),
        (status = 404, description = "template_unknown, subject_unknown, message_unknown, media_unknown"),
        (status = 409, description = "template_unavailable, window_closed"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed, template_mismatch, channel_unknown")
    )
)]
pub async fn request(
    State(messaging): State<Messaging>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonBytes(request, body): JsonBytes<MessageRequest>,
) -> Result<(StatusCode, Json<MessageQueued>), Problem> {
    caller.require("messages:write")?;
    let said = check(&request)?;
    let idempotency = key.map(|key| {
        let scope = format!("{} POST /v1/messages", caller.name());
        messaging.store.idempotency(&scope, &key, &body)
    });
    if idempotency.is_some() {
        // Templates and windows change; what was answered doesn't.
        let mut session = messaging.store.begin().await.map_err(store)?;
        let first = first_answer(&messaging, &mut session, idempotency).await?;
        session.rollback().await.map_err(store)?;
        if let Some(first) = first {
            return Ok((StatusCode::ACCEPTED, Json(first)));
        }
    }
    check_files(&messaging, Some(request.subject_id), &said).await?;
    let what = match &said {
        Stored::Values(values) => {
            let name = request.template.clone().unwrap_or_default();
            let wanted = request.language.as_deref();
            let language = template_language(messaging.pool(), &name, wanted, values).await?;
            What { kind: "template", template: Some((name, language)) }
        }
        Stored::Content(content) => {
            may_answer(&messaging, request.subject_id, content).await?;
            What { kind: content.kind(), template: None }
        }
    };
    let id = messaging.ids.v7();
    let sealed = seal(&messaging, id, request.subject_id, &said).await?;
    let service = messaging.clone();
    let queued = to_the_end(async move {
        let new = New { id, what, sealed, idempotency, answers: None };
        queue(&service, &request, new).await
    })
    .await?;
    messaging.queued.notify_one();
    Ok((StatusCode::ACCEPTED, Json(queued)))
}

/// What it says, within the provider's limits.
fn check(request: &MessageRequest) -> Result<Stored, Problem> {
    let invalid = |fault: String| Problem::new(Code::ValidationFailed).detail(fault);
    if request.channel != "whatsapp" {
        return Err(Problem::new(Code::ChannelUnknown).detail("the channel is whatsapp"));
    }
    let named = |text: &str| (1..=512).contains(&text.len());
    if !named(&request.purpose) || request.purpose == STOP_CONFIRMATION {
        return Err(invalid("the purpose can't be sent for".to_owned()));
    }
    let values = Values {
        parameters: request.parameters.clone(),
        header: request.header.clone(),
        buttons: request.buttons.clone(),
        cards: request.cards.clone(),
    };
    match (&request.template, &request.content) {
        (Some(_), None) => values.check().map(|()| Stored::Values(values)).map_err(invalid),
        (None, Some(content)) if values.is_empty() && request.language.is_none() => {
            content.check().map(|()| Stored::Content(content.clone())).map_err(invalid)
        }
        (None, Some(_)) => Err(invalid("content has no template's values or language".to_owned())),
        _ => Err(invalid("a message has either a template or content".to_owned())),
    }
}

/// The language to send in, if the template is known in it, may be sent, and takes these values.
///
/// # Errors
/// `template_unknown`, `template_unavailable`, `template_mismatch`.
pub(crate) async fn template_language(
    pool: &PgPool,
    name: &str,
    wanted: Option<&str>,
    values: &Values,
) -> Result<String, Problem> {
    const KNOWN: &str = "
        SELECT language, status, components, named FROM templates WHERE name = $1 ORDER BY language";
    let rows = sqlx::query(KNOWN).bind(name).fetch_all(pool).await.map_err(database)?;
    let known: Vec<Known> =
        rows.iter().map(Known::read).collect::<Result<_, _>>().map_err(database)?;
    let wanted = match (wanted, known.as_slice()) {
        (Some(language), _) => language,
        (None, [only]) => &only.language,
        (None, _) => "en",
    };
    let template = known.iter().find(|it| it.language == wanted).ok_or(Code::TemplateUnknown)?;
    if let Some(Obstacle::Wait(reason, _) | Obstacle::Refuse(reason)) =
        template::obstacle(&template.status)
    {
        return Err(Problem::new(Code::TemplateUnavailable)
            .detail("the provider doesn't send it now")
            .with("reason", reason));
    }
    if let Some(components) = &template.components {
        Shape::read(components, template.named)
            .fits(values)
            .map_err(|fault| Problem::new(Code::TemplateMismatch).detail(fault))?;
    }
    Ok(wanted.to_owned())
}

/// Whether the files that it carries can go out with it. `to` is none for what goes to many.
///
/// # Errors
/// `media_unknown`, `validation_failed`.
pub(super) async fn check_files(
    messaging: &Messaging,
    to: Option<SubjectId>,
    said: &Stored,
) -> Result<(), Problem> {
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    media::check(&mut conn, to, said, messaging.clock.now()).await
}

/// A template in one language.
struct Known {
    language: String,
    status: String,
    components: Option<serde_json::Value>,
    named: bool,
}

impl Known {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            language: row.try_get(0)?,
            status: row.try_get(1)?,
            components: row.try_get(2)?,
            named: row.try_get(3)?,
        })
    }
}

/// Whether free-form content may go to her now: she wrote within a day, and what it reacts to is hers.
async fn may_answer(
    messaging: &Messaging,
    subject: SubjectId,
    content: &Content,
) -> Result<(), Problem> {
    const HERS: &str =
        "SELECT EXISTS (SELECT FROM inbound_messages WHERE id = $1 AND subject_id = $2)";
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    if let Content::Reaction { message_id, .. } = content {
        let hers: bool = sqlx::query_scalar(HERS)
            .bind(message_id)
            .bind(subject)
            .fetch_one(&mut *conn)
            .await
            .map_err(database)?;
        if !hers {
            return Err(Code::MessageUnknown.into());
        }
    }
    let now = messaging.clock.now();
    let open = consequences::windows(&mut conn, &[subject], now).await.map_err(database)?;
    if open.is_empty() { Err(Code::WindowClosed.into()) } else { Ok(()) }
}

async fn seal(
    messaging: &Messaging,
    id: Uuid,
    subject: SubjectId,
    said: &Stored,
) -> Result<Option<Vec<u8>>, Problem> {
    if matches!(said, Stored::Values(values) if values.is_empty()) {
        return Ok(None);
    }
    let keys = messaging.person_keys.lease("queue_message", &[subject]).await?;
    // Without a key: nobody, or nobody any more.
    keys.seal(subject, id, "parameters", &stored::write(said))
        .map(Some)
        .map_err(keyless(Code::SubjectUnknown))
}

/// What is sent.
struct What {
    kind: &'static str,
    /// Name and language.
    template: Option<(String, String)>,
}

struct New {
    id: Uuid,
    what: What,
    sealed: Option<Vec<u8>>,
    idempotency: Option<Idempotency>,
    /// What it answers.
    answers: Option<Answers>,
}

/// Which conversation a human answers.
pub(super) struct Answers {
    pub(super) conversation: Uuid,
    /// The name of the key.
    pub(super) human: String,
}

/// Queues an answer of a human to a person who wrote within a day. A repeated key gives the first answer.
///
/// # Errors
/// As [`request`]; `window_closed`; `conversation_state_conflict` (somebody else has it by now).
pub(super) async fn answer(
    messaging: &Messaging,
    request: MessageRequest,
    answers: Answers,
    idempotency: Option<Idempotency>,
) -> Result<MessageQueued, Problem> {
    let said = check(&request)?;
    let Stored::Content(content) = &said else {
        return Err(Problem::new(Code::ValidationFailed).detail("an answer has content"));
    };
    may_answer(messaging, request.subject_id, content).await?;
    check_files(messaging, Some(request.subject_id), &said).await?;
    let what = What { kind: content.kind(), template: None };
    let id = messaging.ids.v7();
    let sealed = seal(messaging, id, request.subject_id, &said).await?;
    let service = messaging.clone();
    let queued = to_the_end(async move {
        let new = New { id, what, sealed, idempotency, answers: Some(answers) };
        queue(&service, &request, new).await
    })
    .await?;
    messaging.queued.notify_one();
    Ok(queued)
}

/// What the same request was answered before, with the state of now.
pub(super) async fn first_answer(
    messaging: &Messaging,
    session: &mut Session,
    idempotency: Option<Idempotency>,
) -> Result<Option<MessageQueued>, Problem> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    let Some(first) = session.first_answer(idempotency).await.map_err(store)? else {
        return Ok(None);
    };
    // A message's id is that of the event that asked for it.
    let message_id = first.event_ids.first().copied().unwrap_or_default();
    let view = read(messaging.pool(), message_id).await?;
    let state = view.map_or_else(|| "refused".to_owned(), |view| view.state);
    Ok(Some(MessageQueued { message_id, state }))
}

/// Queues within one transaction, unless the key was used before or the person is fenced.
async fn queue(
    messaging: &Messaging,
    request: &MessageRequest,
    new: New,
) -> Result<MessageQueued, Problem> {
    const INSERT: &str = "
        INSERT INTO intents (id, subject_id, purpose, channel, template, language, parameters, state,
                             requested_at, changed_at, traceparent, kind, author, conversation_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', $8, $8, $9, $10, $11,
                coalesce($12, (SELECT id FROM conversations
                               WHERE subject_id = $2 AND state <> 'closed')))";
    let subject = request.subject_id;
    let mut session = messaging.store.begin().await.map_err(store)?;
    session.lock_versions(&[subject]).await.map_err(store)?;
    if let Some(first) = first_answer(messaging, &mut session, new.idempotency).await? {
        session.rollback().await.map_err(store)?;
        return Ok(first);
    }
    if !fenced(session.conn(), &[subject]).await.map_err(database)?.is_empty() {
        return Err(Code::SubjectErased.into());
    }
    if let Some(Answers { conversation, human }) = &new.answers {
        conversations::still_has(session.conn(), *conversation, human).await?;
    }
    let now = messaging.clock.now();
    let (template, language) = new.what.template.unzip();
    let event = MessageRequested {
        message_id: new.id,
        purpose: request.purpose.clone(),
        channel: request.channel.clone(),
        template: template.clone().unwrap_or_else(|| new.what.kind.to_owned()),
        campaign_id: None,
        at: now,
    };
    let mut append =
        messaging.event(subject, new.id, MESSAGE_REQUESTED, &event, now).map_err(store)?;
    append.idempotency = new.idempotency;
    session.append(vec![append]).await.map_err(store)?;
    sqlx::query(INSERT)
        .bind(new.id)
        .bind(subject)
        .bind(&request.purpose)
        .bind(&request.channel)
        .bind(template)
        .bind(language)
        .bind(&new.sealed)
        .bind(now.to_sqlx())
        .bind(telemetry::traceparent())
        .bind(new.what.kind)
        .bind(new.answers.as_ref().map(|it| format!("human:{}", it.human)))
        .bind(new.answers.as_ref().map(|it| it.conversation))
        .execute(session.conn())
        .await
        .map_err(database)?;
    session.commit().await.map_err(store)?;
    Ok(MessageQueued { message_id: new.id, state: intent::State::Queued.as_str().to_owned() })
}

/// What became of a message, at once or when it is settled.
///
/// # Errors
/// `message_unknown`.
#[utoipa::path(
    get, path = "/v1/messages/{message_id}", tag = "messages", security(("bearer" = [])),
    params(("message_id" = Uuid, Path, description = "The message"), Wait),
    responses(
        (status = 200, description = "The message", body = MessageView),
        (status = 404, description = "message_unknown")
    )
)]
pub async fn show(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(wait): Query<Wait>,
) -> Result<Json<MessageView>, Problem> {
    caller.require("messages:read")?;
    let wait = Duration::from_millis(wait.wait_ms).min(WAIT_MAX);
    let until = messaging.clock.boottime() + wait;
    loop {
        // Registered before the look, so that no move in between is missed.
        let mut moved = std::pin::pin!(messaging.moved.notified());
        moved.as_mut().enable();
        let view = read(messaging.pool(), id).await?.ok_or(Code::MessageUnknown)?;
        let settled = intent::State::parse(&view.state).is_none_or(intent::State::is_settled);
        let left = until.saturating_sub(messaging.clock.boottime());
        if settled || left.is_zero() {
            return Ok(Json(view));
        }
        let _ = tokio::time::timeout(left.min(LOOK_AGAIN), moved).await;
    }
}

async fn read(pool: &PgPool, id: Uuid) -> Result<Option<MessageView>, Problem> {
    const READ: &str = "
        SELECT id, subject_id, purpose, channel, template, state, reasons, provider_code, status,
               requested_at, changed_at, kind, priced_by IS NOT NULL, price_category, price_model,
               price_type, billable
        FROM intents WHERE id = $1";
    let row = sqlx::query(READ).bind(id).fetch_optional(pool).await.map_err(database)?;
    let Some(row) = row else { return Ok(None) };
    let view = || {
        Ok::<_, sqlx::Error>(MessageView {
            message_id: row.try_get(0)?,
            subject_id: row.try_get(1)?,
            purpose: row.try_get(2)?,
            channel: row.try_get(3)?,
            template: row.try_get(4)?,
            state: row.try_get(5)?,
            reasons: row.try_get(6)?,
            provider_code: row.try_get(7)?,
            status: row.try_get(8)?,
            requested_at: row.try_get::<SqlTimestamp, _>(9)?.to_jiff(),
            changed_at: row.try_get::<SqlTimestamp, _>(10)?.to_jiff(),
            kind: row.try_get(11)?,
            pricing: if row.try_get::<bool, _>(12)? {
                Some(Pricing {
                    category: row.try_get(13)?,
                    model: row.try_get(14)?,
                    kind: row.try_get(15)?,
                    billable: row.try_get(16)?,
                })
            } else {
                None
            },
        })
    };
    view().map(Some).map_err(database)
}

/// Why there is no text: the vault was too slow, or what `gone` says.
pub(super) fn keyless(gone: Code) -> impl FnOnce(KeyError) -> Problem {
    move |error| match error {
        KeyError::LeaseOver => Problem::unavailable("vault", error),
        KeyError::Gone | KeyError::Foreign => gone.into(),
    }
}

pub(crate) fn database(error: sqlx::Error) -> Problem {
    Problem::unavailable("database", error)
}

pub(crate) fn store(error: StoreError) -> Problem {
    match error {
        StoreError::KeyReused => Code::IdempotencyKeyReused.into(),
        StoreError::Overloaded => Code::Overloaded.into(),
        other => Problem::unavailable("database", other),
    }
}
