//! Files that were uploaded to the provider from here. It guarantees that no byte of a file is kept: it passes
//! through, and what stays is its id at the provider, its kind and whom it is about. What is known not to be there,
//! not to be of the kind, or to be about somebody else is not queued ([ADR 32]).
//!
//! [ADR 32]: ../../../docs/adr/0032-files-pass-through.md

use assent_contracts::SubjectId;
use assent_http::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};

use crate::api::messages::database;
use crate::domain::media::{Kind, MediaType, of_content, of_values};
use crate::state::Messaging;
use crate::stored::Stored;
use crate::whatsapp::KEPT;
use crate::whatsapp::management::ManageError;

/// For so long after its end a file is known to be gone. After that it is one that nobody knows.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A file that was uploaded.
pub struct New<'a> {
    /// Its id at the provider.
    pub id: &'a str,
    /// Its type.
    pub media_type: MediaType,
    /// Its bytes.
    pub bytes: u64,
    /// Whom it is about.
    pub subject: Option<SubjectId>,
    /// The name of the key.
    pub uploaded_by: &'a str,
}

/// Writes down that a file was uploaded. Gives until when it is there.
///
/// # Errors
/// When the database fails.
pub async fn record(
    conn: &mut PgConnection,
    new: &New<'_>,
    now: Timestamp,
) -> Result<Timestamp, sqlx::Error> {
    const RECORD: &str = "
        INSERT INTO media
            (provider_id, kind, mime_type, bytes, subject_id, uploaded_by, uploaded_at, gone_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (provider_id) DO NOTHING";
    let gone_at = now + KEPT;
    sqlx::query(RECORD)
        .bind(new.id)
        .bind(new.media_type.kind.as_str())
        .bind(new.media_type.name)
        .bind(i64::try_from(new.bytes).unwrap_or(i64::MAX))
        .bind(new.subject)
        .bind(new.uploaded_by)
        .bind(now.to_sqlx())
        .bind(gone_at.to_sqlx())
        .execute(conn)
        .await?;
    Ok(gone_at)
}

/// Whether the files of a message can go out with it, as far as is known here: one that was uploaded elsewhere is
/// the provider's to judge. `to` is none for what goes to many.
///
/// # Errors
/// `media_unknown` for one that is gone, or about somebody else; `validation_failed` for another kind.
pub async fn check(
    conn: &mut PgConnection,
    to: Option<SubjectId>,
    said: &Stored,
    now: Timestamp,
) -> Result<(), Problem> {
    let files: Vec<(Kind, &str)> = match said {
        Stored::Content(content) => of_content(content).into_iter().collect::<Vec<_>>(),
        Stored::Values(values) => of_values(values).collect(),
    }
    .into_iter()
    .filter_map(|(kind, source)| Some((kind, source.id.as_deref()?)))
    .collect();
    for (kind, id) in files {
        match known(conn, id).await.map_err(database)? {
            None => {}
            Some(known) if known.gone_at <= now => return Err(Code::MediaUnknown.into()),
            Some(known) if known.subject.is_some() && known.subject != to => {
                return Err(Code::MediaUnknown.into());
            }
            // Anything may be sent as a document.
            Some(known) if known.kind != kind.as_str() && kind != Kind::Document => {
                let (is, wanted) = (known.kind, kind.as_str());
                let fault = format!("the file is one for {is} messages, not for {wanted}");
                return Err(Problem::new(Code::ValidationFailed).detail(fault));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

struct Known {
    kind: String,
    subject: Option<SubjectId>,
    gone_at: Timestamp,
}

async fn known(conn: &mut PgConnection, id: &str) -> Result<Option<Known>, sqlx::Error> {
    const KNOWN: &str = "SELECT kind, subject_id, gone_at FROM media WHERE provider_id = $1";
    let row = sqlx::query(KNOWN).bind(id).fetch_optional(conn).await?;
    row.map(|row| {
        Ok(Known {
            kind: row.try_get(0)?,
            subject: row.try_get(1)?,
            gone_at: row.try_get::<SqlTimestamp, _>(2)?.to_jiff(),
        })
    })
    .transpose()
}

/// Deletes a file at the provider, and remembers that it is gone. False: it is none of ours, or gone already.
///
/// # Errors
/// When the provider doesn't answer: it may be repeated.
pub async fn delete(messaging: &Messaging, id: &str) -> Result<bool, DeleteError> {
    const GONE: &str = "UPDATE media SET gone_at = $2 WHERE provider_id = $1 AND gone_at > $2";
    let now = messaging.clock.now();
    let mut conn = messaging.pool().acquire().await?;
    let is_there = known(&mut conn, id).await?.is_some_and(|it| it.gone_at > now);
    drop(conn);
    if !is_there {
        return Ok(false);
    }
    messaging.provider.delete_media(id).await?;
    sqlx::query(GONE).bind(id).bind(now.to_sqlx()).execute(messaging.pool()).await?;
    Ok(true)
}

/// Why a file is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The provider.
    #[error(transparent)]
    Provider(#[from] ManageError),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Deletes the files about a person at the provider, before their rows go with hers.
///
/// # Errors
/// When one may still be there.
pub async fn delete_theirs(messaging: &Messaging, people: &[SubjectId]) -> Result<(), DeleteError> {
    const THEIRS: &str =
        "SELECT provider_id FROM media WHERE subject_id = ANY($1) AND gone_at > $2";
    let now = messaging.clock.now();
    let theirs: Vec<String> = sqlx::query_scalar(THEIRS)
        .bind(people)
        .bind(now.to_sqlx())
        .fetch_all(messaging.pool())
        .await?;
    for id in theirs {
        delete(messaging, &id).await?;
    }
    Ok(())
}

/// Forgets files that have been gone for long.
///
/// # Errors
/// When the database fails.
pub async fn forget(messaging: &Messaging) -> Result<(), sqlx::Error> {
    let now = messaging.clock.now();
    let moment = now.checked_sub(REMEMBERED).unwrap_or(now);
    sqlx::query("DELETE FROM media WHERE gone_at < $1")
        .bind(moment.to_sqlx())
        .execute(messaging.pool())
        .await
        .map(drop)
}
