//! A service's own events as its topic has them, against its store: the rows. It guarantees that an event
//! comes back as it was, under its id and its version, and that none is put in the place of another;
//! reading the topic is left to the bus.

use std::collections::{BTreeMap, HashMap};

use jiff_sqlx::{Timestamp, ToSqlx as _};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::{Session, StoreError, StoredEvent};

/// A position that was noted: the topic's id, the offset to compare next.
pub type Noted = (String, i64);

/// The positions that were noted for a topic, by partition.
///
/// # Errors
/// When the database fails.
pub async fn noted(pool: &PgPool, topic: &str) -> Result<BTreeMap<i32, Noted>, sqlx::Error> {
    const NOTED: &str =
        "SELECT partition, topic_id, next_offset FROM eventstore.own_log WHERE topic = $1";
    let rows: Vec<(i32, String, i64)> = sqlx::query_as(NOTED).bind(topic).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(partition, id, next)| (partition, (id, next))).collect())
}

/// Notes that everything before `next_offset` is in the store. It never steps back.
///
/// # Errors
/// When the database fails.
pub async fn note(
    conn: &mut PgConnection,
    topic: &str,
    partition: i32,
    topic_id: &str,
    next_offset: i64,
) -> Result<(), sqlx::Error> {
    const NOTE: &str = "
        INSERT INTO eventstore.own_log AS noted (topic, partition, topic_id, next_offset)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (topic, partition) DO UPDATE SET
            topic_id = excluded.topic_id,
            next_offset = CASE WHEN noted.topic_id = excluded.topic_id
                THEN greatest(noted.next_offset, excluded.next_offset) ELSE excluded.next_offset END";
    sqlx::query(NOTE)
        .bind(topic)
        .bind(partition)
        .bind(topic_id)
        .bind(next_offset)
        .execute(conn)
        .await?;
    Ok(())
}

/// Why the store and the topic can't be brought together.
#[derive(Debug, thiserror::Error)]
pub enum PutBackError {
    /// The store has another event in the place of one of the topic: somebody wrote to a restored
    /// database before it was compared.
    #[error("stream {stream} has another event {version} than its topic: the two have parted")]
    Parted {
        /// The stream.
        stream: Uuid,
        /// The version.
        version: i64,
    },
    /// The topic lacks an event that must have been there.
    #[error("stream {stream} goes on with event {found} in its topic, after {version} here")]
    Gap {
        /// The stream.
        stream: Uuid,
        /// The last version here.
        version: i64,
        /// What the topic has next.
        found: i64,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for PutBackError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A stream that got events back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Regained {
    /// The stream.
    pub stream: Uuid,
    /// Its version before.
    pub before: i64,
    /// Its version now.
    pub version: i64,
}

/// Puts back those of `events` that the store lacks: events of the store's own topic, in their order.
/// Nothing is published again.
///
/// # Errors
/// [`PutBackError`]; then only a rollback is left.
pub async fn put_back(
    session: &mut Session,
    events: &[StoredEvent],
) -> Result<Vec<Regained>, PutBackError> {
    const OTHERS: &str = "
        SELECT e.stream, e.version FROM eventstore.events e
        JOIN unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS told (stream, version, id)
            ON e.stream = told.stream AND e.version = told.version AND e.id <> told.id
        LIMIT 1";
    const INSERT: &str = "
        INSERT INTO eventstore.events (stream, version, id, event_type, data, recorded_at, traceparent)
        SELECT stream, version, id, event_type, data::json, at, traceparent
        FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[],
                    $7::text[])
            WITH ORDINALITY AS t (stream, version, id, event_type, data, at, traceparent, n)
        ORDER BY n";
    let ids: Vec<Uuid> = events.iter().map(|event| event.stream).collect();
    let before = session.lock_versions(&ids).await?;
    let mut versions = before.clone();
    let (missing, there) = sort(events, &mut versions)?;
    let column = |of: &[&StoredEvent]| -> (Vec<Uuid>, Vec<i64>, Vec<Uuid>) {
        let rows = of.iter().map(|it| (it.stream, (it.version, it.id)));
        let (streams, rest): (Vec<Uuid>, Vec<(i64, Uuid)>) = rows.unzip();
        let (versions, ids) = rest.into_iter().unzip();
        (streams, versions, ids)
    };
    let (streams, of_there, ids) = column(&there);
    let other: Option<(Uuid, i64)> = sqlx::query_as(OTHERS)
        .bind(streams)
        .bind(of_there)
        .bind(ids)
        .fetch_optional(session.conn())
        .await?;
    if let Some((stream, version)) = other {
        return Err(PutBackError::Parted { stream, version });
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let (streams, of_missing, ids) = column(&missing);
    sqlx::query(INSERT)
        .bind(streams)
        .bind(of_missing)
        .bind(ids)
        .bind(missing.iter().map(|it| it.event_type.as_str()).collect::<Vec<_>>())
        .bind(missing.iter().map(|it| it.data.as_str()).collect::<Vec<_>>())
        .bind(missing.iter().map(|it| it.recorded_at.to_sqlx()).collect::<Vec<Timestamp>>())
        .bind(missing.iter().map(|it| it.traceparent.as_deref()).collect::<Vec<_>>())
        .execute(session.conn())
        .await?;
    let regained = versions.into_iter().map(|(stream, version)| Regained {
        stream,
        before: before.get(&stream).copied().unwrap_or(0),
        version,
    });
    Ok(regained.filter(|it| it.version > it.before).collect())
}

/// Which of `events` are missing, given where the streams stand, and which are there.
fn sort<'a>(
    events: &'a [StoredEvent],
    versions: &mut HashMap<Uuid, i64>,
) -> Result<(Vec<&'a StoredEvent>, Vec<&'a StoredEvent>), PutBackError> {
    let (mut missing, mut there) = (Vec::new(), Vec::new());
    for event in events {
        let version = versions.entry(event.stream).or_default();
        if event.version <= *version {
            there.push(event);
        } else if event.version == *version + 1 {
            *version += 1;
            missing.push(event);
        } else {
            let (stream, version, found) = (event.stream, *version, event.version);
            return Err(PutBackError::Gap { stream, version, found });
        }
    }
    // A topic may hold an event twice: what is new here isn't compared with itself.
    Ok((missing, there))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: u128, version: i64) -> StoredEvent {
        StoredEvent {
            position: 0,
            id: Uuid::from_u128(stream * 100 + version.unsigned_abs() as u128),
            stream: Uuid::from_u128(stream),
            version,
            event_type: "a".to_owned(),
            data: "{}".to_owned(),
            recorded_at: jiff::Timestamp::UNIX_EPOCH,
            traceparent: None,
        }
    }

    #[test]
    fn what_is_missing_is_what_comes_next_and_a_gap_is_told() {
        let events = [event(1, 2), event(1, 3), event(2, 1), event(1, 3), event(1, 4)];
        let mut versions = HashMap::from([(Uuid::from_u128(1), 2)]);
        let (missing, there) = sort(&events, &mut versions).unwrap();
        assert_eq!(missing, [&events[1], &events[2], &events[4]]);
        assert_eq!(there, [&events[0], &events[3]]);
        assert_eq!(versions[&Uuid::from_u128(1)], 4);
        let late = [event(1, 6)];
        assert!(matches!(sort(&late, &mut versions), Err(PutBackError::Gap { found: 6, .. })));
    }
}
