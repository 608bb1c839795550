//! Files over HTTP: `POST /v1/media` takes one to the provider, `DELETE` ends it there, `POST
//! /v1/inbound/{message_id}/media` fetches what she sent, `POST /v1/templates/examples` shows the reviewers one. It
//! guarantees that a file passes through in pieces, within its kind's bytes, and is written nowhere; and that
//! hers is opened for nobody before who reads it, and why, is on record.

use std::io;
use std::pin::Pin;

use assent_contracts::SubjectId;
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Path, Problem, Query};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::conversations::read::{check_reason, on_record, unrestricted};
use super::messages::{database, keyless, store};
use crate::domain::media::{MediaType, TELLING};
use crate::media::{self, DeleteError, New};
use crate::state::{Messaging, fenced};
use crate::whatsapp::KEPT;
use crate::whatsapp::management::ManageError;
use crate::whatsapp::media::Outgoing;

/// The most bytes of what a person can send.
const INBOUND_BYTES_MAX: u64 = 100 << 20;

/// Whom a file is about.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct About {
    /// The person whom the file is about, such as an invoice's: it goes to nobody else, and ends with her erasure.
    #[serde(default)]
    #[param(value_type = Option<Uuid>)]
    pub subject_id: Option<SubjectId>,
}

/// A file at the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Uploaded {
    /// Its id: `id` of an image, video, audio, document or sticker.
    pub media_id: String,
    /// Which messages may carry it: `image`, `video`, `audio`, `document` or `sticker`.
    pub kind: String,
    /// Until when it is there.
    #[schema(value_type = String, format = DateTime)]
    pub gone_at: Timestamp,
}

/// Takes a file to the provider, who keeps it for 30 days. It is kept nowhere else.
///
/// The body is the file, `Content-Type` its type, `Content-Length` its bytes.
///
/// # Errors
/// `validation_failed` (a type, a size or a begin that WhatsApp doesn't take), `body_too_large`, `subject_erased`,
/// `provider_refused`, `dependency_unavailable` (no answer: upload it again).
#[utoipa::path(
    post, path = "/v1/media", tag = "media", security(("bearer" = [])), params(About),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It is there", body = Uploaded),
        (status = 410, description = "subject_erased"),
        (status = 413, description = "body_too_large"),
        (status = 422, description = "validation_failed, provider_refused")
    )
)]
pub async fn upload(
    State(messaging): State<Messaging>,
    caller: Caller,
    Query(about): Query<About>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Uploaded>), Problem> {
    // Who answers people sends files, and so does who runs campaigns.
    if !caller.has("conversations:write") {
        caller.require("messages:write")?;
    }
    let (media_type, file) = incoming(&headers, body).await?;
    let bytes = file.length;
    let subject = about.subject_id;
    if let Some(subject) = subject {
        let mut conn = messaging.pool().acquire().await.map_err(database)?;
        if !fenced(&mut conn, &[subject]).await.map_err(database)?.is_empty() {
            return Err(Code::SubjectErased.into());
        }
    }
    let id = messaging.provider.upload(file).await.map_err(refused)?;
    let by = caller.name().to_owned();
    // Whoever hangs up now leaves no file that nobody knows of.
    to_the_end(async move {
        let mut session = messaging.store.begin().await.map_err(store)?;
        if let Some(subject) = subject {
            session.lock_versions(&[subject]).await.map_err(store)?;
            if !fenced(session.conn(), &[subject]).await.map_err(database)?.is_empty() {
                session.rollback().await.map_err(store)?;
                messaging.provider.delete_media(&id).await.map_err(refused)?;
                return Err(Code::SubjectErased.into());
            }
        }
        let new = New { id: &id, media_type, bytes, subject, uploaded_by: &by };
        let now = messaging.clock.now();
        let gone_at = media::record(session.conn(), &new, now).await.map_err(database)?;
        session.commit().await.map_err(store)?;
        let kind = media_type.kind.as_str().to_owned();
        tracing::info!(kind, bytes, caller = by, "a file is uploaded");
        Ok((StatusCode::CREATED, Json(Uploaded { media_id: id, kind, gone_at })))
    })
    .await
}

/// Deletes a file at the provider. One that is gone is deleted.
///
/// # Errors
/// `provider_refused`, `dependency_unavailable` (no answer: repeat it).
#[utoipa::path(
    delete, path = "/v1/media/{media_id}", tag = "media", security(("bearer" = [])),
    params(("media_id" = String, Path, description = "The file")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 422, description = "provider_refused")
    )
)]
pub async fn delete(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if !caller.has("conversations:write") {
        caller.require("messages:write")?;
    }
    match media::delete(&messaging, &id).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(DeleteError::Provider(error)) => Err(refused(error)),
        Err(DeleteError::Database(error)) => Err(database(error)),
    }
}

/// Why a file of hers is fetched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchRequest {
    /// Why: a stable code of yours, such as `answering`. It is on record before anything is fetched.
    #[schema(pattern = "^[a-z0-9_.-]{1,64}$", example = "answering")]
    pub reason: String,
}

/// Fetches the file of a message of hers from the provider, who keeps it for seven days.
///
/// # Errors
/// `message_unknown`, `media_unknown` (it carries none, or it is kept no longer), `subject_erased`,
/// `validation_failed` (no reason), `provider_refused`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/inbound/{message_id}/media", tag = "media", security(("bearer" = [])),
    params(("message_id" = Uuid, Path, description = "Her message")),
    request_body = FetchRequest,
    responses(
        (status = 200, description = "The file", body = Vec<u8>, content_type = "application/octet-stream"),
        (status = 404, description = "message_unknown, media_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed, provider_refused")
    )
)]
pub async fn fetch(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<FetchRequest>,
) -> Result<Response, Problem> {
    const FIND: &str = "
        SELECT subject_id, conversation_id, content FROM inbound_messages
        WHERE id = $1 AND said_at > $2";
    caller.require("conversations:open")?;
    check_reason(&request.reason)?;
    let since = messaging.clock.now() - KEPT;
    let found = sqlx::query(FIND).bind(id).bind(since.to_sqlx());
    let found = found.fetch_optional(messaging.pool()).await.map_err(database)?;
    let row = found.ok_or(Code::MessageUnknown)?;
    let subject: SubjectId = row.try_get(0).map_err(database)?;
    let conversation: Option<Uuid> = row.try_get(1).map_err(database)?;
    let conversation = conversation.ok_or(Code::MessageUnknown)?;
    let sealed: Option<Vec<u8>> = row.try_get(2).map_err(database)?;
    let sealed = sealed.ok_or(Code::MediaUnknown)?;
    unrestricted(&messaging, &caller, subject).await?;
    let (service, reader) = (messaging.clone(), caller.name().to_owned());
    let reason = request.reason.clone();
    to_the_end(async move { on_record(&service, conversation, subject, reader, reason).await })
        .await?;
    let keys = messaging.person_keys.lease(&request.reason, &[subject]).await?;
    let raw = keys.open(subject, id, "content", &sealed).map_err(keyless(Code::SubjectErased))?;
    drop(keys);
    let raw: serde_json::Value = serde_json::from_slice(&raw).map_err(|_| Code::MediaUnknown)?;
    let file = raw.get("type").and_then(|it| it.as_str()).and_then(|kind| raw.get(kind));
    let file = file.and_then(|it| it.get("id")).and_then(|it| it.as_str());
    let found = messaging.provider.find_media(file.ok_or(Code::MediaUnknown)?).await;
    let found = found.map_err(refused)?;
    if found.file_size.is_some_and(|bytes| bytes > INBOUND_BYTES_MAX) {
        return Err(Code::MediaUnknown.into());
    }
    let answer = messaging.provider.fetch_media(&found).await.map_err(refused)?;
    let length = answer.content_length();
    let pieces = bounded(answer.bytes_stream(), INBOUND_BYTES_MAX);
    let mut response = Body::from_stream(pieces).into_response();
    let headers = response.headers_mut();
    // It is a stranger's file: no browser shows or keeps it.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(mime_type) = HeaderValue::try_from(found.mime_type) {
        headers.insert(CONTENT_TYPE, mime_type);
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

/// An example of what stands above a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Example {
    /// Its handle: `example` of a header in `POST /v1/templates/create`.
    pub example: String,
}

/// Takes an example for a template's reviewers to the provider. The body is as in `POST /v1/media`.
///
/// # Errors
/// `validation_failed` (JPEG, PNG, MP4 and PDF are examples), `template_unavailable` (no app is configured),
/// `provider_refused`, `rate_limited`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/templates/examples", tag = "templates", security(("bearer" = [])),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It is there", body = Example),
        (status = 409, description = "template_unavailable"),
        (status = 413, description = "body_too_large"),
        (status = 422, description = "validation_failed, provider_refused"),
        (status = 429, description = "rate_limited")
    )
)]
pub async fn example(
    State(messaging): State<Messaging>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Example>), Problem> {
    caller.require("messages:write")?;
    let app = messaging.config.whatsapp.app_id.clone().ok_or_else(|| {
        Problem::new(Code::TemplateUnavailable)
            .detail("app_id is not configured")
            .with("reason", "no_app")
    })?;
    let (media_type, file) = incoming(&headers, body).await?;
    if !media_type.is_example() {
        let fault = "an example is image/jpeg, image/png, video/mp4 or application/pdf";
        return Err(Problem::new(Code::ValidationFailed).detail(fault));
    }
    let uploaded = messaging.provider.upload_example(&app, file).await;
    let example = uploaded.map_err(refused)?;
    Ok((StatusCode::CREATED, Json(Example { example })))
}

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// A file as it comes in: of a type and size that the provider takes, and beginning as such a file does.
async fn incoming(
    headers: &HeaderMap,
    body: Body,
) -> Result<(MediaType, Outgoing<Pieces>), Problem> {
    let invalid = |fault: String| Problem::new(Code::ValidationFailed).detail(fault);
    let text = |name: HeaderName| headers.get(name).and_then(|it| it.to_str().ok());
    let media_type = text(CONTENT_TYPE).and_then(MediaType::parse);
    let media_type = media_type
        .ok_or_else(|| invalid("Content-Type: none of the types that WhatsApp takes".to_owned()))?;
    let length: Option<u64> = text(CONTENT_LENGTH).and_then(|it| it.parse().ok());
    let length = length.ok_or_else(|| invalid("Content-Length is needed".to_owned()))?;
    media_type.check_size(length).map_err(|fault| {
        let is_long = length > media_type.kind.bytes_max();
        let code = if is_long { Code::BodyTooLarge } else { Code::ValidationFailed };
        Problem::new(code).detail(fault)
    })?;
    let mut pieces = body.into_data_stream();
    let mut first = BytesMut::new();
    while first.len() < TELLING.min(usize::try_from(length).unwrap_or(TELLING)) {
        match pieces.next().await {
            Some(Ok(piece)) => first.extend_from_slice(&piece),
            _ => return Err(invalid("the file ends too early".to_owned())),
        }
    }
    media_type.check_begin(&first).map_err(invalid)?;
    let rest = pieces.map(|piece| piece.map_err(io::Error::other));
    let whole = stream::once(async move { Ok(first.freeze()) }).chain(rest);
    let pieces: Pieces = Box::pin(bounded(whole, length));
    Ok((media_type, Outgoing { mime_type: media_type.name, length, pieces }))
}

/// No more than so many bytes.
fn bounded<E>(
    pieces: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    most: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static
where
    E: std::error::Error + Send + Sync + 'static,
{
    let mut left = most;
    pieces.map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        left = left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| io::Error::other("longer than it may be"))?;
        Ok(piece)
    })
}

pub(super) fn refused(error: ManageError) -> Problem {
    match error {
        ManageError::Gone => Code::MediaUnknown.into(),
        ManageError::TooMany => Problem::new(Code::RateLimited).retry_after(60),
        ManageError::Refused { code, subcode, title, http_status } => {
            let mut problem = Problem::new(Code::ProviderRefused)
                .with("provider_status", http_status)
                .with("provider_code", code)
                .with("provider_subcode", subcode);
            problem.detail = title;
            problem
        }
        error => Problem::unavailable("provider", error),
    }
}
