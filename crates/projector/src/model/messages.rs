//! Messages in both directions: what was asked for, what the gate said, how far the provider got.
//! No content and no provider id: those stay sealed with messaging.

use std::collections::HashMap;

use assent_bus::Received;
use assent_contracts::messaging::{
    LEASE_OVERRUN, LeaseOverrun, MESSAGE_ACCEPTED, MESSAGE_FAILED, MESSAGE_RECEIVED,
    MESSAGE_REFUSED, MESSAGE_REQUESTED, MESSAGE_UNCERTAIN, MessageAccepted, MessageFailed,
    MessageReceived, MessageRefused, MessageRequested, MessageUncertain, STATUS_CHANGED,
    SUBJECT_ERASED, Status, StatusChanged,
};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::Deserialize;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use uuid::Uuid;

use super::{Event, Malformed, Model, Schema, json};

/// The read model of messages.
pub struct Messages;

/// A person's messages, as far as a batch speaks of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The key.
    pub subject_id: Uuid,
    /// The last sequence folded in.
    pub sequence: i64,
    /// Her messages that the batch speaks of.
    pub messages: HashMap<Uuid, Message>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `outbound` or `inbound`.
    pub direction: String,
    /// `requested`, `refused`, `accepted`, `failed`, `uncertain`, `sent`, `delivered`, `read`,
    /// `received`.
    pub status: String,
    /// The purpose.
    pub purpose: Option<String>,
    /// The channel.
    pub channel: Option<String>,
    /// The template.
    pub template: Option<String>,
    /// Kind of an inbound message.
    pub kind: Option<String>,
    /// Why it was refused or failed.
    pub reasons: Vec<String>,
    /// The permit it rested on.
    pub permit_id: Option<Uuid>,
    /// Error code of the provider.
    pub provider_code: Option<i64>,
    /// By how much its provider call overran its lease.
    pub lease_overrun_ms: Option<i64>,
    /// Time of its first event.
    pub created_at: Timestamp,
    /// Time of its last event.
    pub updated_at: Timestamp,
}

impl Message {
    fn outbound(at: Timestamp) -> Self {
        Self {
            direction: "outbound".to_owned(),
            status: "requested".to_owned(),
            purpose: None,
            channel: None,
            template: None,
            kind: None,
            reasons: Vec::new(),
            permit_id: None,
            provider_code: None,
            lease_overrun_ms: None,
            created_at: at,
            updated_at: at,
        }
    }
}

impl Row {
    fn message(&mut self, id: Uuid, event: &Event<'_>) -> &mut Message {
        let message = self.messages.entry(id).or_insert_with(|| Message::outbound(event.time));
        message.updated_at = event.time;
        message
    }
}

impl Model for Messages {
    type Row = Row;

    fn empty(key: Uuid) -> Row {
        Row { subject_id: key, sequence: 0, messages: HashMap::new() }
    }

    fn sequence(row: &Row) -> i64 {
        row.sequence
    }

    fn advance(row: &mut Row, sequence: i64) {
        row.sequence = sequence;
    }

    fn fold(row: &mut Row, event: &Event<'_>) -> Result<(), Malformed> {
        match &*event.event_type {
            MESSAGE_REQUESTED => {
                let data: MessageRequested = event.read()?;
                let message = row.message(data.message_id, event);
                message.purpose = Some(data.purpose);
                message.channel = Some(data.channel);
                message.template = Some(data.template);
            }
            MESSAGE_REFUSED => {
                let data: MessageRefused = event.read()?;
                let message = row.message(data.message_id, event);
                "refused".clone_into(&mut message.status);
                message.reasons = data.reasons;
            }
            MESSAGE_ACCEPTED => {
                let data: MessageAccepted = event.read()?;
                let message = row.message(data.message_id, event);
                progress(message, "accepted");
                message.permit_id = Some(data.permit_id);
            }
            MESSAGE_FAILED => {
                let data: MessageFailed = event.read()?;
                let message = row.message(data.message_id, event);
                "failed".clone_into(&mut message.status);
                message.reasons = vec![data.reason];
                message.provider_code = data.provider_code;
            }
            MESSAGE_UNCERTAIN => {
                let data: MessageUncertain = event.read()?;
                let message = row.message(data.message_id, event);
                progress(message, "uncertain");
                message.reasons = vec![data.reason];
            }
            STATUS_CHANGED => {
                let data: StatusChanged = event.read()?;
                let message = row.message(data.message_id, event);
                progress(message, status(data.status));
                message.provider_code = data.provider_code.or(message.provider_code);
            }
            LEASE_OVERRUN => {
                let data: LeaseOverrun = event.read()?;
                // Of somebody who is being erased: under the message's own id, and no message of anybody's.
                if data.message_id == row.subject_id {
                    return Ok(());
                }
                let message = row.message(data.message_id, event);
                message.lease_overrun_ms = data.overrun_ms.try_into().ok();
            }
            MESSAGE_RECEIVED => {
                let data: MessageReceived = event.read()?;
                let message = row.message(data.message_id, event);
                "inbound".clone_into(&mut message.direction);
                "received".clone_into(&mut message.status);
                message.kind = Some(data.kind);
            }
            // Only after the fence, which drops it before it gets here; in doubt nothing is kept.
            SUBJECT_ERASED => row.messages.clear(),
            _ => {}
        }
        Ok(())
    }

    async fn load(
        conn: &mut PgConnection,
        schema: Schema,
        keys: &[Uuid],
        events: &[&Received],
    ) -> Result<HashMap<Uuid, Row>, sqlx::Error> {
        let subjects = sqlx::query(AssertSqlSafe(format!(
            "SELECT subject_id, sequence FROM {}.message_subjects WHERE subject_id = ANY($1)",
            schema.name()
        )))
        .bind(keys)
        .fetch_all(&mut *conn)
        .await?;
        let mut rows = HashMap::with_capacity(subjects.len());
        for row in &subjects {
            let (subject_id, sequence) = (row.try_get(0)?, row.try_get(1)?);
            rows.insert(subject_id, Row { subject_id, sequence, messages: HashMap::new() });
        }
        if rows.is_empty() {
            return Ok(rows);
        }
        let ids: Vec<Uuid> = events.iter().filter_map(|event| message_id(event)).collect();
        let messages = sqlx::query(AssertSqlSafe(format!(
            "SELECT message_id, subject_id, direction, status, purpose, channel, template, kind,
                    reasons, permit_id, provider_code, lease_overrun_ms, created_at, updated_at
             FROM {}.messages WHERE message_id = ANY($1)",
            schema.name()
        )))
        .bind(ids)
        .fetch_all(conn)
        .await?;
        for row in &messages {
            let Some(owner) = rows.get_mut(&row.try_get::<Uuid, _>(1)?) else { continue };
            let Json(reasons): Json<Vec<String>> = row.try_get(8)?;
            let message = Message {
                direction: row.try_get(2)?,
                status: row.try_get(3)?,
                purpose: row.try_get(4)?,
                channel: row.try_get(5)?,
                template: row.try_get(6)?,
                kind: row.try_get(7)?,
                reasons,
                permit_id: row.try_get(9)?,
                provider_code: row.try_get(10)?,
                lease_overrun_ms: row.try_get(11)?,
                created_at: row.try_get::<SqlTimestamp, _>(12)?.to_jiff(),
                updated_at: row.try_get::<SqlTimestamp, _>(13)?.to_jiff(),
            };
            owner.messages.insert(row.try_get(0)?, message);
        }
        Ok(rows)
    }

    async fn store(
        conn: &mut PgConnection,
        schema: Schema,
        rows: Vec<Row>,
    ) -> Result<(), sqlx::Error> {
        let subjects: Vec<Uuid> = rows.iter().map(|row| row.subject_id).collect();
        let sequences: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
        sqlx::query(AssertSqlSafe(format!(
            "INSERT INTO {}.message_subjects (subject_id, sequence)
             SELECT s, q FROM unnest($1::uuid[], $2::bigint[]) AS t (s, q)
             ON CONFLICT (subject_id) DO UPDATE SET sequence = excluded.sequence",
            schema.name()
        )))
        .bind(subjects)
        .bind(sequences)
        .execute(&mut *conn)
        .await?;
        Columns::of(rows)?.write(conn, schema).await
    }
}

/// The messages of a batch, column by column.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    subjects: Vec<Uuid>,
    directions: Vec<String>,
    statuses: Vec<String>,
    purposes: Vec<Option<String>>,
    channels: Vec<Option<String>>,
    templates: Vec<Option<String>>,
    kinds: Vec<Option<String>>,
    reasons: Vec<String>,
    permits: Vec<Option<Uuid>>,
    provider_codes: Vec<Option<i64>>,
    overruns: Vec<Option<i64>>,
    created: Vec<SqlTimestamp>,
    updated: Vec<SqlTimestamp>,
}

impl Columns {
    fn of(rows: Vec<Row>) -> Result<Self, sqlx::Error> {
        let mut columns = Self::default();
        for row in rows {
            for (id, message) in row.messages {
                columns.ids.push(id);
                columns.subjects.push(row.subject_id);
                columns.directions.push(message.direction);
                columns.statuses.push(message.status);
                columns.purposes.push(message.purpose);
                columns.channels.push(message.channel);
                columns.templates.push(message.template);
                columns.kinds.push(message.kind);
                columns.reasons.push(json(&message.reasons)?);
                columns.permits.push(message.permit_id);
                columns.provider_codes.push(message.provider_code);
                columns.overruns.push(message.lease_overrun_ms);
                columns.created.push(message.created_at.to_sqlx());
                columns.updated.push(message.updated_at.to_sqlx());
            }
        }
        Ok(columns)
    }

    async fn write(self, conn: &mut PgConnection, schema: Schema) -> Result<(), sqlx::Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        sqlx::query(AssertSqlSafe(format!(
            // What speaks of a message later names no purpose: the id of one that is barred by its purpose bars that too.
            "WITH n AS (
                 SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[],
                                      $7::text[], $8::text[], $9::text[], $10::uuid[], $11::bigint[],
                                      $12::bigint[], $13::timestamptz[], $14::timestamptz[])
                     AS n (i, s, d, t, p, c, m, k, r, e, o, l, a, u)),
             barred AS (
                 INSERT INTO erased_messages (message_id, subject_id)
                 SELECT n.i, n.s FROM n JOIN erased_purposes x
                     ON x.subject_id = n.s AND x.purpose = n.p AND n.a <= x.until
                 ORDER BY n.i ON CONFLICT DO NOTHING)
             INSERT INTO {}.messages
                 (message_id, subject_id, direction, status, purpose, channel, template, kind,
                  reasons, permit_id, provider_code, lease_overrun_ms, created_at, updated_at)
             SELECT i, s, d, t, p, c, m, k, r::jsonb, e, o, l, a, u FROM n
             WHERE NOT EXISTS (SELECT FROM erased_messages x WHERE x.message_id = n.i)
               AND NOT EXISTS (SELECT FROM erased_purposes x
                               WHERE x.subject_id = n.s AND x.purpose = n.p AND n.a <= x.until)
             ON CONFLICT (message_id) DO UPDATE SET
                 direction = excluded.direction, status = excluded.status,
                 purpose = excluded.purpose, channel = excluded.channel,
                 template = excluded.template, kind = excluded.kind, reasons = excluded.reasons,
                 permit_id = excluded.permit_id, provider_code = excluded.provider_code,
                 lease_overrun_ms = excluded.lease_overrun_ms, updated_at = excluded.updated_at",
            schema.name()
        )))
        .bind(self.ids)
        .bind(self.subjects)
        .bind(self.directions)
        .bind(self.statuses)
        .bind(self.purposes)
        .bind(self.channels)
        .bind(self.templates)
        .bind(self.kinds)
        .bind(self.reasons)
        .bind(self.permits)
        .bind(self.provider_codes)
        .bind(self.overruns)
        .bind(self.created)
        .bind(self.updated)
        .execute(conn)
        .await?;
        Ok(())
    }
}

/// The message that an event speaks of, whatever its type.
fn message_id(received: &Received) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Named {
        message_id: Uuid,
    }
    serde_json::from_slice::<Named>(&received.data).ok().map(|named| named.message_id)
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Sent => "sent",
        Status::Delivered => "delivered",
        Status::Read => "read",
        Status::Failed => "failed",
    }
}

/// The provider's reports come in any order: a message never steps back.
fn progress(message: &mut Message, status: &str) {
    let rank = |status: &str| match status {
        "requested" => 0,
        "uncertain" => 1,
        "accepted" => 2,
        "sent" => 3,
        "delivered" => 4,
        "read" => 5,
        _ => 6,
    };
    if rank(status) > rank(&message.status) {
        status.clone_into(&mut message.status);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{event, time};
    use super::*;

    #[test]
    fn a_message_never_steps_back() {
        let mut row = Messages::empty(Uuid::nil());
        let id = Uuid::from_u128(7);
        let changed =
            |status| StatusChanged { message_id: id, status, provider_code: None, at: time(2) };
        Messages::fold(&mut row, &event(1, STATUS_CHANGED, &changed(Status::Read))).unwrap();
        Messages::fold(&mut row, &event(2, STATUS_CHANGED, &changed(Status::Sent))).unwrap();
        let accepted = MessageAccepted {
            message_id: id,
            permit_id: Uuid::from_u128(8),
            provider_id: assent_contracts::sealed::Sealed("c".to_owned()),
            at: time(3),
        };
        Messages::fold(&mut row, &event(3, MESSAGE_ACCEPTED, &accepted)).unwrap();
        assert_eq!(row.messages[&id].status, "read");
        assert_eq!(row.messages[&id].permit_id, Some(Uuid::from_u128(8)));
        assert_eq!(row.messages[&id].created_at, time(1));
        assert_eq!(row.messages[&id].updated_at, time(3));
    }
}
