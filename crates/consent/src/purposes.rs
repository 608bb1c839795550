//! Purposes in the store: each is a stream of its own, its newest version a row for the gate. It
//! guarantees that two who define at once make two versions, and that a deployment has its first
//! purposes before it serves; what makes a definition valid is left to `domain::purpose`.

use std::sync::Arc;

use assent_contracts::consent::{PURPOSE_DEFINED, PurposeDefined};
use assent_contracts::topics::CONSENT_EVENTS;
use assent_eventstore::{Append, EventStore, Expected, Idempotency, NewEvent, StoreError};
use assent_runtime::{Clock, Ids};
use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::commands::raw;
use crate::domain::purpose::{Definition, Invalid, define, stream_id};
use crate::stored;

/// A purpose was not defined.
#[derive(Debug, thiserror::Error)]
pub enum DefineError {
    /// It is no definition.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for DefineError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The purposes of this deployment.
#[derive(Clone)]
pub struct Purposes {
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
}

impl Purposes {
    /// Defines a purpose, or a new version of it; gives what holds now. Saying the same again
    /// changes nothing.
    ///
    /// # Errors
    /// [`DefineError`].
    pub async fn define(
        &self,
        definition: Definition,
        idempotency: Option<Idempotency>,
    ) -> Result<PurposeDefined, DefineError> {
        let stream = stream_id(&definition.purpose);
        let mut session = self.store.begin().await?;
        let locked = session.lock(&[stream]).await?;
        let events = locked.get(&stream).map_or(&[][..], |stream| &stream.events);
        if let Some(key) = idempotency
            && let Some(first) = session.first_answer(key).await?
        {
            session.rollback().await?;
            let answered = events.iter().find(|event| event.version == first.version);
            return match answered {
                Some(event) => Ok(event.decode()?),
                None => Err(StoreError::Aborted.into()),
            };
        }
        let newest: Option<PurposeDefined> = events.last().map(|e| e.decode()).transpose()?;
        let outcome = define(newest.as_ref(), definition);
        let decided = match outcome {
            Ok(decided) => decided,
            Err(invalid) => {
                session.rollback().await?;
                return Err(invalid.into());
            }
        };
        // Recorded time never steps back: what was in force at a moment is settled by then.
        let after = |last: Timestamp| last.checked_add(SignedDuration::from_micros(1));
        let last = events.last().and_then(|event| after(event.recorded_at).ok());
        let now = last.map_or(self.clock.now(), |last| self.clock.now().max(last));
        let mut new = Vec::new();
        if let Some(defined) = &decided {
            let id = self.ids.v7();
            write(session.conn(), defined, id).await?;
            let data = raw(stored::json(defined));
            new.push(NewEvent { id, event_type: PURPOSE_DEFINED, data });
        }
        let append =
            Append { idempotency, ..Append::new(stream, Expected::Any, CONSENT_EVENTS, new, now) };
        session.append(vec![append]).await?;
        session.commit().await?;
        decided.or(newest).ok_or_else(|| StoreError::Aborted.into())
    }

    /// Defines those of the first purposes that don't exist yet; what an operator made of them
    /// since stays.
    ///
    /// # Errors
    /// [`DefineError`].
    pub async fn bootstrap(&self, definitions: &[Definition]) -> Result<(), DefineError> {
        for definition in definitions {
            let known = sqlx::query("SELECT 1 FROM purposes WHERE purpose = $1")
                .bind(&definition.purpose)
                .fetch_optional(self.store.pool())
                .await?;
            if known.is_none() {
                self.define(definition.clone(), None).await?;
            }
        }
        Ok(())
    }
}

/// All versions of a purpose, oldest first: the event's id, when it was recorded, what it says.
///
/// # Errors
/// When the database fails, or an event can't be read.
pub async fn history(
    conn: &mut PgConnection,
    purpose: &str,
) -> Result<Vec<(Uuid, Timestamp, PurposeDefined)>, sqlx::Error> {
    const HISTORY: &str = "
        SELECT id, recorded_at, data::text FROM eventstore.events
        WHERE stream = $1 ORDER BY version";
    sqlx::query(HISTORY)
        .bind(stream_id(purpose))
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| {
            let at = row.try_get::<jiff_sqlx::Timestamp, _>(1)?.to_jiff();
            let defined = serde_json::from_str(row.try_get(2)?)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok((row.try_get(0)?, at, defined))
        })
        .collect()
}

async fn write(
    conn: &mut PgConnection,
    defined: &PurposeDefined,
    event_id: Uuid,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO purposes (purpose, channels, notice_version, notice_hash, validity_days,
                              definition, event_id)
        VALUES ($1, $2, $3, $4, $5, $6::json, $7)
        ON CONFLICT (purpose) DO UPDATE SET
            channels = excluded.channels, notice_version = excluded.notice_version,
            notice_hash = excluded.notice_hash, validity_days = excluded.validity_days,
            definition = excluded.definition, event_id = excluded.event_id";
    let number = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
    sqlx::query(WRITE)
        .bind(&defined.purpose)
        .bind(&defined.channels)
        .bind(number(defined.notice_version))
        .bind(&defined.notice_hash)
        .bind(defined.validity_days.map(number))
        .bind(stored::json(defined))
        .bind(event_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// The newest version of every purpose, sorted by name.
///
/// # Errors
/// When the database fails.
pub async fn all(pool: &PgPool) -> Result<Vec<PurposeDefined>, sqlx::Error> {
    sqlx::query("SELECT definition::text FROM purposes ORDER BY purpose")
        .fetch_all(pool)
        .await?
        .iter()
        .map(|row| {
            serde_json::from_str(row.try_get(0)?).map_err(|error| sqlx::Error::Decode(error.into()))
        })
        .collect()
}
