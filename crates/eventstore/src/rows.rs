//! The rows of a batch as columns: what goes to Postgres in one statement by UNNEST, whatever the
//! number of appends. Locking and versions are left to the session.

use std::fmt::Write as _;

use jiff_sqlx::{Timestamp, ToSqlx as _};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::{Append, Message, NewEvent, StateRecord, StoredEvent};

/// Everything of a batch of appends in one round trip. The payload travels once: the outbox row of
/// an event takes its bytes from the same parameter.
const APPEND: &str = "
WITH event AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[],
                         $6::timestamptz[], $7::text[], $8::text[])
    WITH ORDINALITY AS t (stream, version, id, event_type, data, at, traceparent, topic, n)
), stored AS (
    INSERT INTO eventstore.events (stream, version, id, event_type, data, recorded_at, traceparent)
    SELECT stream, version, id, event_type, data::json, at, traceparent FROM event ORDER BY n
), queued AS (
    INSERT INTO eventstore.outbox
        (topic, key, sequence, event_id, event_type, recorded_at, traceparent, payload)
    SELECT topic, stream, version, id, event_type, at, traceparent, convert_to(data, 'UTF8')
    FROM event ORDER BY n
), answered AS (
    INSERT INTO eventstore.idempotency_keys
        (key_hash, body_hash, stream, version, event_ids, recorded_at)
    SELECT key_hash, body_hash, stream, version, event_ids::uuid[], at
    FROM unnest($9::bytea[], $10::bytea[], $11::uuid[], $12::bigint[], $13::text[],
                $14::timestamptz[])
        AS a (key_hash, body_hash, stream, version, event_ids, at)
    ORDER BY key_hash
    ON CONFLICT (key_hash) DO NOTHING
    RETURNING 1
), states AS (
    INSERT INTO eventstore.outbox
        (topic, key, sequence, event_sequence, event_id, event_type, recorded_at, traceparent, payload)
    SELECT topic, key, version, version, id, event_type, at, traceparent, convert_to(data, 'UTF8')
    FROM unnest($15::text[], $16::uuid[], $17::bigint[], $18::uuid[], $19::text[],
                $20::timestamptz[], $21::text[], $22::text[])
        WITH ORDINALITY AS s (topic, key, version, id, event_type, at, traceparent, data, n)
    ORDER BY n
)
SELECT count(*) FROM answered";

const QUEUE: &str = "
INSERT INTO eventstore.outbox
    (topic, key, event_id, event_type, recorded_at, traceparent, payload)
SELECT topic, key, id, event_type, at, traceparent, convert_to(data, 'UTF8')
FROM unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::timestamptz[], $6::text[],
            $7::text[])
    WITH ORDINALITY AS t (topic, key, id, event_type, at, traceparent, data, n)
ORDER BY n";

/// An event of a transaction: whether it is there tells whether the transaction committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Witness {
    pub(crate) stream: Uuid,
    pub(crate) version: i64,
    pub(crate) id: Uuid,
}

/// Events, idempotency keys and state records of a batch of appends.
#[derive(Default)]
pub(crate) struct AppendRows<'a> {
    stream: Vec<Uuid>,
    version: Vec<i64>,
    id: Vec<Uuid>,
    event_type: Vec<&'a str>,
    data: Vec<&'a str>,
    at: Vec<Timestamp>,
    traceparent: Vec<Option<&'a str>>,
    topic: Vec<&'a str>,
    keys: KeyRows<'a>,
    states: StateRows<'a>,
}

#[derive(Default)]
struct KeyRows<'a> {
    key_hash: Vec<&'a [u8]>,
    body_hash: Vec<&'a [u8]>,
    stream: Vec<Uuid>,
    version: Vec<i64>,
    event_ids: Vec<String>,
    at: Vec<Timestamp>,
}

#[derive(Default)]
struct StateRows<'a> {
    rows: QueueRows<'a>,
    version: Vec<i64>,
}

impl<'a> AppendRows<'a> {
    /// `event` of `append`, which brings its stream to `version`.
    pub(crate) fn push_event(&mut self, append: &'a Append, event: &'a NewEvent, version: i64) {
        self.stream.push(append.stream);
        self.version.push(version);
        self.id.push(event.id);
        self.event_type.push(event.event_type);
        self.data.push(event.data.get());
        self.at.push(append.at.to_sqlx());
        self.traceparent.push(append.traceparent.as_deref());
        self.topic.push(append.topic.suffix);
    }

    /// What `append` brings besides its events, the last of which made `version`.
    pub(crate) fn push_rest(&mut self, append: &'a Append, version: i64) {
        if let Some(key) = &append.idempotency {
            self.keys.key_hash.push(&key.key_hash);
            self.keys.body_hash.push(&key.body_hash);
            self.keys.stream.push(append.stream);
            self.keys.version.push(version);
            self.keys.event_ids.push(array_literal(append.events.iter().map(|event| event.id)));
            self.keys.at.push(append.at.to_sqlx());
        }
        if let Some(state) = &append.state {
            self.states.version.push(version);
            self.states.rows.push_state(append, state);
        }
    }

    /// The last event that will be inserted.
    pub(crate) fn witness(&self) -> Option<Witness> {
        let (&stream, &version, &id) = (self.stream.last()?, self.version.last()?, self.id.last()?);
        Some(Witness { stream, version, id })
    }

    /// Whether the outbox gets rows.
    pub(crate) fn queues(&self) -> bool {
        !self.stream.is_empty() || !self.states.version.is_empty()
    }

    /// Inserts all. `false` when an idempotency key
    /// was there already.
    pub(crate) async fn insert(&self, conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
        if !self.queues() && self.keys.key_hash.is_empty() {
            return Ok(true);
        }
        let states = &self.states.rows;
        let written: i64 = sqlx::query_scalar(APPEND)
            .bind(&self.stream)
            .bind(&self.version)
            .bind(&self.id)
            .bind(&self.event_type)
            .bind(&self.data)
            .bind(&self.at)
            .bind(&self.traceparent)
            .bind(&self.topic)
            .bind(&self.keys.key_hash)
            .bind(&self.keys.body_hash)
            .bind(&self.keys.stream)
            .bind(&self.keys.version)
            .bind(&self.keys.event_ids)
            .bind(&self.keys.at)
            .bind(&states.topic)
            .bind(&states.key)
            .bind(&self.states.version)
            .bind(&states.id)
            .bind(&states.event_type)
            .bind(&states.at)
            .bind(&states.traceparent)
            .bind(&states.data)
            .fetch_one(conn)
            .await?;
        Ok(usize::try_from(written) == Ok(self.keys.key_hash.len()))
    }
}

/// Outbox rows that are not events: state records and messages.
#[derive(Default)]
pub(crate) struct QueueRows<'a> {
    topic: Vec<&'a str>,
    key: Vec<Uuid>,
    id: Vec<Uuid>,
    event_type: Vec<&'a str>,
    at: Vec<Timestamp>,
    traceparent: Vec<Option<&'a str>>,
    data: Vec<Option<&'a str>>,
}

impl<'a> QueueRows<'a> {
    pub(crate) fn push_message(&mut self, message: &'a Message) {
        self.topic.push(message.topic.suffix);
        self.key.push(message.key);
        self.id.push(message.id);
        self.event_type.push(message.event_type);
        self.at.push(message.at.to_sqlx());
        self.traceparent.push(message.traceparent.as_deref());
        self.data.push(Some(message.data.get()));
    }

    fn push_state(&mut self, append: &'a Append, state: &'a StateRecord) {
        self.topic.push(state.topic.suffix);
        self.key.push(append.stream);
        self.id.push(state.id);
        self.event_type.push(state.event_type);
        self.at.push(append.at.to_sqlx());
        self.traceparent.push(append.traceparent.as_deref());
        self.data.push(state.data.as_deref().map(serde_json::value::RawValue::get));
    }

    pub(crate) async fn insert(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.topic.is_empty() {
            return Ok(());
        }
        sqlx::query(QUEUE)
            .bind(&self.topic)
            .bind(&self.key)
            .bind(&self.id)
            .bind(&self.event_type)
            .bind(&self.at)
            .bind(&self.traceparent)
            .bind(&self.data)
            .execute(conn)
            .await?;
        Ok(())
    }
}

/// `{a,b}`: UNNEST takes apart arrays of arrays, so each list of ids travels as a literal.
fn array_literal(ids: impl Iterator<Item = Uuid>) -> String {
    let mut literal = String::from("{");
    for (n, id) in ids.enumerate() {
        let comma = if n == 0 { "" } else { "," };
        write!(literal, "{comma}{id}").expect("a String takes what is written");
    }
    literal.push('}');
    literal
}

/// A row with the columns of an event, by name.
pub(crate) fn stored_event(row: &PgRow) -> Result<StoredEvent, sqlx::Error> {
    Ok(StoredEvent {
        position: row.try_get("position")?,
        id: row.try_get("id")?,
        stream: row.try_get("stream")?,
        version: row.try_get("version")?,
        event_type: row.try_get("event_type")?,
        data: row.try_get("data")?,
        recorded_at: row.try_get::<Timestamp, _>("recorded_at")?.to_jiff(),
        traceparent: row.try_get("traceparent")?,
    })
}
