//! `POST /v1/conversations/{conversation_id}/read`: what was written, opened. Who reads what of whom, and why,
//! is committed as an event here, and recorded by the vault before it gives the key.

use assent_contracts::conversation::{CONVERSATION_READ, ConversationRead};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Limit, Listing, Page, Path, Problem};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;
use uuid::Uuid;

use super::find;
use super::notes::NOTE;
use crate::api::messages::{database, keyless, store};
use crate::domain::content::Content;
use crate::person_keys::{KeyError, LeasedKeys};
use crate::restriction;
use crate::state::{Messaging, fenced};
use crate::stored::{self, Stored};
use crate::whatsapp::reading::said;
use crate::whatsapp::updates::Said;

/// Who reads what is restricted: whoever answers the request, or defends a claim.
const READS_RESTRICTED: &str = "restricted:read";

/// Why it is read, and which page.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// Why: a stable code of yours, such as `answering`. It is on record before anything is opened.
    #[schema(pattern = "^[a-z0-9_.-]{1,64}$", example = "answering")]
    pub reason: String,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[schema(value_type = Option<u16>, minimum = 1, maximum = 500)]
    pub limit: Option<Limit>,
    /// Where to go on: `next` of the page before. Each page is on record.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Something that was written. No `Debug`: it holds plaintext.
#[derive(Serialize, ToSchema)]
pub struct Entry {
    /// Of the message, or of the note.
    pub id: Uuid,
    /// `person`, `bot`, `human`, `note`, or `other` for what was sent in between, such as a campaign.
    pub by: String,
    /// The name of the human's key.
    pub author: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Kind of the message: `text`, `button`, `image`, …; `note`.
    pub kind: String,
    /// What it says, where it says something in words.
    pub text: Option<String>,
    /// Of a message to her: `accepted`, `refused`, ….
    pub state: Option<String>,
    /// Of a message to her: why it did not go out.
    pub reasons: Vec<String>,
    /// Which template, where it was one.
    pub template: Option<String>,
    /// Where she said that she is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What it said is kept no longer, or can't be opened.
    pub gone: bool,
}

/// A place, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Place {
    /// North of the equator.
    pub latitude: f64,
    /// East of Greenwich.
    pub longitude: f64,
}

/// What was written, in its order, opened.
///
/// # Errors
/// `conversation_unknown`, `subject_erased`, `validation_failed` (no reason), `cursor_invalid`,
/// `dependency_unavailable` (without the vault nothing is opened), `forbidden` (also while the use of her data is
/// restricted, without `restricted:read`).
#[utoipa::path(
    post, path = "/v1/conversations/{conversation_id}/read", tag = "conversations",
    security(("bearer" = [])),
    params(("conversation_id" = Uuid, Path, description = "The conversation")),
    request_body = ReadRequest,
    responses(
        (status = 200, description = "A page of what was written", body = Listing<Entry>),
        (status = 400, description = "cursor_invalid"),
        (status = 404, description = "conversation_unknown"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn read(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<ReadRequest>,
) -> Result<Json<Listing<Entry>>, Problem> {
    caller.require("conversations:open")?;
    check_reason(&request.reason)?;
    let page = Page { limit: request.limit, cursor: request.cursor };
    let after = page.after::<(Timestamp, Uuid)>()?;
    let subject = find(&messaging, id).await?.subject;
    unrestricted(&messaging, &caller, subject).await?;
    let rows = sealed(&messaging, id, after, page.limit()).await.map_err(database)?;
    let (service, reader, reason) =
        (messaging.clone(), caller.name().to_owned(), request.reason.clone());
    to_the_end(async move { on_record(&service, id, subject, reader, reason).await }).await?;
    let keys = messaging.person_keys.lease(&request.reason, &[subject]).await?;
    let entries = rows.into_iter().map(|row| row.opened(subject, &keys));
    let entries = entries.collect::<Result<_, _>>().map_err(keyless(Code::SubjectErased))?;
    Ok(Json(Listing::cut(entries, page.limit(), |last| (last.at, last.id))))
}

/// A reason is a stable code, as the vault takes it: free text could hold personal data.
pub(in crate::api) fn check_reason(reason: &str) -> Result<(), Problem> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    if reason.is_empty() || reason.len() > 64 || !reason.bytes().all(fits) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("reason must be a code of lower-case letters, digits, '_', '.' and '-'"));
    }
    Ok(())
}

/// While the use of her data is restricted (GDPR Article 18) what was written is for those alone whose right says so.
/// Whether it is only the gate knows: where it can't say, nothing is opened without that right.
pub(in crate::api) async fn unrestricted(
    messaging: &Messaging,
    caller: &Caller,
    subject: Uuid,
) -> Result<(), Problem> {
    if caller.has(READS_RESTRICTED) {
        return Ok(());
    }
    let stands = restriction::stands(messaging, subject).await;
    if stands.map_err(|error| Problem::unavailable("consent", error))? {
        caller.require(READS_RESTRICTED)?;
    }
    Ok(())
}

/// Puts on record who reads a conversation, and why.
pub(in crate::api) async fn on_record(
    messaging: &Messaging,
    conversation_id: Uuid,
    subject: Uuid,
    reader: String,
    reason: String,
) -> Result<(), Problem> {
    let mut session = messaging.store.begin().await.map_err(store)?;
    session.lock_versions(&[subject]).await.map_err(store)?;
    if !fenced(session.conn(), &[subject]).await.map_err(database)?.is_empty() {
        return Err(Code::SubjectErased.into());
    }
    let now = messaging.clock.now();
    let event = ConversationRead { conversation_id, reader, reason, at: now };
    let id = messaging.ids.v7();
    let append = messaging.event(subject, id, CONVERSATION_READ, &event, now).map_err(store)?;
    session.append(vec![append]).await.map_err(store)?;
    session.commit().await.map_err(store)
}

/// What was written, sealed.
pub(in crate::api) struct Sealed {
    pub(in crate::api) entry: Entry,
    sealed: Option<Vec<u8>>,
}

/// A page and one row more. Kinds of rows: 1 from her, 2 to her, 3 a note.
async fn sealed(
    messaging: &Messaging,
    id: Uuid,
    after: Option<(Timestamp, Uuid)>,
    limit: usize,
) -> Result<Vec<Sealed>, sqlx::Error> {
    const READ: &str = "
        SELECT * FROM (
            SELECT id, 1 AS source, said_at AS at, kind, content AS sealed, NULL AS author,
                   NULL AS state, '{}'::text[] AS reasons, NULL AS template
            FROM inbound_messages WHERE conversation_id = $1
            UNION ALL
            SELECT id, 2, requested_at, kind, parameters, author, state, reasons, template
            FROM intents WHERE conversation_id = $1
            UNION ALL
            SELECT id, 3, written_at, 'note', body, author, NULL, '{}', NULL
            FROM conversation_notes WHERE conversation_id = $1) AS entries
        WHERE $2::timestamptz IS NULL OR (at, id) > ($2, $3)
        ORDER BY at, id LIMIT $4";
    let rows = sqlx::query(READ)
        .bind(id)
        .bind(after.map(|(at, _)| at.to_sqlx()))
        .bind(after.map_or(Uuid::nil(), |(_, id)| id))
        .bind(limit as i64 + 1)
        .fetch_all(messaging.pool())
        .await?;
    rows.iter().map(Sealed::read).collect()
}

impl Sealed {
    /// Of the first nine columns of a row, as the query below names them.
    pub(in crate::api) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        let author: Option<String> = row.try_get(5)?;
        let human = author.as_deref().and_then(|it| it.strip_prefix("human:"));
        let (by, author) = match (row.try_get::<i32, _>(1)?, author.as_deref(), human) {
            (1, ..) => ("person", None),
            (3, author, _) => ("note", author),
            (_, _, Some(human)) => ("human", Some(human)),
            (_, Some("bot"), _) => ("bot", None),
            _ => ("other", None),
        };
        Ok(Self {
            entry: Entry {
                id: row.try_get(0)?,
                by: by.to_owned(),
                author: author.map(str::to_owned),
                at: row.try_get::<SqlTimestamp, _>(2)?.to_jiff(),
                kind: row.try_get(3)?,
                text: None,
                state: row.try_get(6)?,
                reasons: row.try_get(7)?,
                template: row.try_get(8)?,
                place: None,
                gone: false,
            },
            sealed: row.try_get(4)?,
        })
    }

    /// Opened; an error where it can't be now, or she is gone.
    pub(in crate::api) fn opened(
        self,
        subject: Uuid,
        keys: &LeasedKeys,
    ) -> Result<Entry, KeyError> {
        let Self { mut entry, sealed } = self;
        let field = match entry.by.as_str() {
            "person" => "content",
            "note" => NOTE,
            _ => "parameters",
        };
        // A template may have had no values; everything else said something.
        let Some(sealed) = sealed else {
            entry.gone = entry.template.is_none();
            return Ok(entry);
        };
        let bytes = match keys.open(subject, entry.id, field, &sealed) {
            Ok(bytes) => bytes,
            Err(KeyError::Foreign) => {
                entry.gone = true;
                return Ok(entry);
            }
            Err(error) => return Err(error),
        };
        let element =
            (field == "content").then(|| serde_json::from_slice::<Value>(&bytes).ok()).flatten();
        entry.place = element.as_ref().and_then(place);
        entry.text = match field {
            NOTE => str::from_utf8(&bytes).ok().map(str::to_owned),
            "content" => element.as_ref().and_then(hers),
            _ => stored::read(&bytes).and_then(ours),
        };
        Ok(entry)
    }
}

/// The place that a message of hers tells.
fn place(element: &Value) -> Option<Place> {
    let told = element.get("location")?;
    let degrees = |name: &str| told.get(name)?.as_f64();
    Some(Place { latitude: degrees("latitude")?, longitude: degrees("longitude")? })
}

/// The words of a message of hers; of a picture its caption.
fn hers(element: &Value) -> Option<String> {
    match said(element) {
        Said::Text(text) => Some(text),
        Said::Button { text, payload } => text.or(payload),
        Said::Other(kind) => Some(element.get(kind)?.get("caption")?.as_str()?.to_owned()),
    }
}

/// The words of a message to her.
fn ours(stored: Stored) -> Option<String> {
    match stored {
        Stored::Content(Content::Text { body, .. })
        | Stored::Content(Content::Buttons { body, .. })
        | Stored::Content(Content::List { body, .. }) => Some(body),
        Stored::Content(Content::Reaction { emoji, .. }) => Some(emoji),
        Stored::Content(
            Content::Image(media)
            | Content::Video(media)
            | Content::Audio(media)
            | Content::Document(media)
            | Content::Sticker(media),
        ) => media.caption,
        Stored::Content(Content::Location(place)) => place.name,
        Stored::Values(values) => {
            let texts: Vec<&str> = values.parameters.iter().map(|it| it.text()).collect();
            Some(texts.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_she_said_that_she_is_is_hers_to_see() {
        let said = json!({"type": "location",
            "location": {"latitude": 45.764, "longitude": 4.8357, "name": "Lyon"}});
        assert_eq!(place(&said), Some(Place { latitude: 45.764, longitude: 4.8357 }));
        assert_eq!(place(&json!({"type": "text", "text": {"body": "Lyon"}})), None);
        assert_eq!(place(&json!({"location": {"latitude": "north"}})), None);
    }
}
