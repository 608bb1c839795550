//! A new log from the stores, where Kafka lost its own. It guarantees that every event that a store still holds
//! is published again under its sequence, that no position of the old log is taken for one of the new,
//! and that nobody whose key is destroyed is served: without the log only the key store still
//! knows of erasures that the erasure database doesn't.

use assent_contracts::topics::{
    CONSENT_EVENTS, ERASURE_EVENTS, MESSAGING_EVENTS, Topic, VAULT_EVENTS,
};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{Executor as _, PgConnection};
use uuid::Uuid;

use crate::serve::Service;

/// Positions, and places of single messages, in a log that is gone. A database that was used is never taken for a
/// fresh one, also where it holds no events.
const FORGET: &str = "
DELETE FROM eventstore.own_log;
DELETE FROM eventstore.consumer_offsets;
DELETE FROM eventstore.parked;
DELETE FROM eventstore.discards;
DELETE FROM eventstore.outbox;
INSERT INTO eventstore.incarnation (name, compared_at) VALUES ('of another log', now())
ON CONFLICT (only_row) DO UPDATE SET name = excluded.name;";

/// Of somebody who is erased only the last event is left: followers learn of her from the saga's list, and would
/// take the rest for lost.
const PUBLISH: &str = "
INSERT INTO eventstore.outbox
    (topic, key, sequence, event_id, event_type, recorded_at, traceparent, payload)
SELECT $1, stream, version, id, event_type, recorded_at, traceparent, convert_to(data::text, 'UTF8')
FROM eventstore.events
WHERE stream IN (SELECT stream FROM eventstore.events WHERE version = 1)
ORDER BY position";

const NEW_LOG: &str = "
INSERT INTO participant.log_begins (at) VALUES ($1)
ON CONFLICT (only_row) DO UPDATE SET at = excluded.at";

/// Prepares a database for the new log, in the caller's transaction. Gives how many events it will publish.
///
/// # Errors
/// When the database fails.
pub async fn begin(
    conn: &mut PgConnection,
    service: Service,
    now: Timestamp,
) -> Result<u64, sqlx::Error> {
    conn.execute(FORGET).await?;
    if service != Service::Erasure {
        sqlx::query(NEW_LOG).bind(now.to_sqlx()).execute(&mut *conn).await?;
    }
    let Some(topic) = topic_of(service) else { return Ok(0) };
    Ok(sqlx::query(PUBLISH).bind(topic.suffix).execute(conn).await?.rows_affected())
}

const fn topic_of(service: Service) -> Option<Topic> {
    match service {
        Service::Consent => Some(CONSENT_EVENTS),
        Service::Vault => Some(VAULT_EVENTS),
        Service::Messaging => Some(MESSAGING_EVENTS),
        Service::Erasure => Some(ERASURE_EVENTS),
        Service::Projector | Service::Console | Service::Gateway => None,
    }
}

/// Whose keys are destroyed, as the key store of today says.
///
/// # Errors
/// When the key store doesn't answer.
pub async fn destroyed(keys: &mut PgConnection) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT id FROM keys WHERE destroyed_at IS NOT NULL ORDER BY id")
        .fetch_all(keys)
        .await
}

/// Fences these people. Nothing of them is read, sent or written from then on; that they are erased again, in full
/// and with a certificate, is for a new request. Gives those who weren't fenced.
///
/// # Errors
/// When the database fails.
pub async fn fence(
    conn: &mut PgConnection,
    service: Service,
    people: &[Uuid],
    now: Timestamp,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const FENCES: &str = "
        INSERT INTO fences (subject_id, request_id, fenced_at)
        SELECT it, '00000000-0000-0000-0000-000000000000', $2 FROM unnest($1::uuid[]) AS it
        ON CONFLICT (subject_id) DO NOTHING RETURNING subject_id";
    const TOMBSTONES: &str = "
        INSERT INTO tombstones (subject_id, request_id, fenced_at)
        SELECT it, '00000000-0000-0000-0000-000000000000', $2 FROM unnest($1::uuid[]) AS it
        ON CONFLICT (subject_id) DO NOTHING RETURNING subject_id";
    let statement = match service {
        Service::Vault => TOMBSTONES,
        Service::Consent | Service::Messaging | Service::Projector => FENCES,
        Service::Erasure | Service::Console | Service::Gateway => return Ok(Vec::new()),
    };
    sqlx::query_scalar(statement).bind(people).bind(now.to_sqlx()).fetch_all(conn).await
}
