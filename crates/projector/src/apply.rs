//! How a batch of events gets into a schema: one look at the fences, one SELECT of the batch's
//! keys, folds in memory, one upsert. It guarantees per key that every event is folded in once, in
//! order, and that nothing is written about a fenced person; the transaction is the caller's.

use std::collections::HashSet;

use assent_bus::{ApplyError, Received};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::model::consents::Consents;
use crate::model::contacts::Contacts;
use crate::model::messages::Messages;
use crate::model::{Model, Projection, Schema, Stop, step};

/// The reason of an event whose data doesn't have the shape of its type.
pub(crate) const MALFORMED_DATA: &str = "malformed_data";
/// The lock between writers (shared) and whoever raises a fence (exclusive).
const FENCE_LOCK: i64 = 0x0061_7373_656e_7401;

/// An event that stands in a batch.
#[derive(Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) event: &'a Received,
    /// Given up on record: it advances its key and changes nothing.
    pub(crate) discarded: bool,
}

/// Brings a batch of one partition into the projection's tables of this schema.
pub(crate) async fn apply(
    projection: Projection,
    conn: &mut PgConnection,
    schema: Schema,
    batch: &[Item<'_>],
) -> Result<(), ApplyError> {
    match projection {
        Projection::Contacts => apply_to::<Contacts>(conn, schema, batch).await,
        Projection::Consents => apply_to::<Consents>(conn, schema, batch).await,
        Projection::Messages => apply_to::<Messages>(conn, schema, batch).await,
    }
}

/// Records that an event of this key was given up, so that the next one is no gap.
pub(crate) async fn skip(
    projection: Projection,
    conn: &mut PgConnection,
    key: Uuid,
    sequence: i64,
) -> Result<(), sqlx::Error> {
    match projection {
        Projection::Contacts => skip_in::<Contacts>(conn, key, sequence).await,
        Projection::Consents => skip_in::<Consents>(conn, key, sequence).await,
        Projection::Messages => skip_in::<Messages>(conn, key, sequence).await,
    }
}

async fn apply_to<M: Model>(
    conn: &mut PgConnection,
    schema: Schema,
    batch: &[Item<'_>],
) -> Result<(), ApplyError> {
    let mut keys: Vec<Uuid> = batch.iter().map(|item| item.event.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let fenced = fenced(conn, &keys).await?;
    keys.retain(|key| !fenced.contains(key));
    if keys.is_empty() {
        return Ok(());
    }
    let events: Vec<&Received> = batch.iter().map(|item| item.event).collect();
    let mut rows = M::load(conn, schema, &keys, &events).await?;
    let mut changed = HashSet::with_capacity(keys.len());
    for (index, item) in batch.iter().enumerate() {
        let key = item.event.key;
        if fenced.contains(&key) {
            continue;
        }
        let row = rows.entry(key).or_insert_with(|| M::empty(key));
        if step::<M>(row, item.event, item.discarded).map_err(|stop| stop.at(index))? {
            changed.insert(key);
        }
    }
    let mut rows: Vec<(Uuid, M::Row)> =
        rows.into_iter().filter(|(key, _)| changed.contains(key)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    // One order of locks for all writers, and neighbours in the index together.
    rows.sort_unstable_by_key(|(key, _)| *key);
    M::store(conn, schema, rows.into_iter().map(|(_, row)| row).collect()).await?;
    Ok(())
}

impl Stop {
    fn at(self, index: usize) -> ApplyError {
        match self {
            Self::Gap => ApplyError::gap(index),
            Self::Malformed => ApplyError::Poison { index, reason: MALFORMED_DATA },
        }
    }
}

async fn skip_in<M: Model>(
    conn: &mut PgConnection,
    key: Uuid,
    sequence: i64,
) -> Result<(), sqlx::Error> {
    if fenced(conn, &[key]).await?.contains(&key) {
        return Ok(());
    }
    let row = M::load(conn, Schema::Live, &[key], &[]).await?.remove(&key);
    let mut row = row.unwrap_or_else(|| M::empty(key));
    if M::sequence(&row) + 1 == sequence {
        M::advance(&mut row, sequence);
        M::store(conn, Schema::Live, vec![row]).await?;
    }
    Ok(())
}

/// Whom nothing may be written about. From here to the end of the transaction no fence is raised.
async fn fenced(conn: &mut PgConnection, keys: &[Uuid]) -> Result<HashSet<Uuid>, sqlx::Error> {
    hold_fences(conn).await?;
    // A statement of its own: its snapshot must be younger than the lock.
    let fenced: Vec<Uuid> =
        sqlx::query_scalar("SELECT subject_id FROM fences WHERE subject_id = ANY($1)")
            .bind(keys)
            .fetch_all(conn)
            .await?;
    Ok(HashSet::from_iter(fenced))
}

/// Waits for fences that are being raised, and keeps new ones off until the transaction ends.
pub(crate) async fn hold_fences(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)").bind(FENCE_LOCK).execute(conn).await?;
    Ok(())
}

/// Waits for every writer, and keeps new ones off until the transaction ends.
pub(crate) async fn stop_writers(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(FENCE_LOCK).execute(conn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use assent_contracts::topics::VAULT_EVENTS;
    use assent_contracts::vault::SUBJECT_REGISTERED;
    use jiff::Timestamp;

    use super::*;

    fn received(sequence: i64, data: &str) -> Received {
        Received {
            topic: VAULT_EVENTS,
            partition: 0,
            offset: sequence,
            key: Uuid::nil(),
            sequence,
            event_sequence: None,
            id: Uuid::nil(),
            event_type: SUBJECT_REGISTERED.to_owned(),
            time: Timestamp::UNIX_EPOCH,
            traceparent: None,
            data: data.as_bytes().to_vec(),
        }
    }

    const GOOD: &str =
        r#"{"addresses":[],"fields":[],"origin":"import","at":"2026-01-01T00:00:00Z"}"#;

    #[test]
    fn last_plus_one_is_folded_duplicates_are_dropped_and_a_gap_stops() {
        let mut row = Contacts::empty(Uuid::nil());
        let mut take = |sequence, data: &str, discarded| {
            let event = received(sequence, data);
            step::<Contacts>(&mut row, &event, discarded)
        };
        assert_eq!(take(1, GOOD, false), Ok(true));
        assert_eq!(take(1, GOOD, false), Ok(false));
        assert_eq!(take(3, GOOD, false), Err(Stop::Gap));
        assert_eq!(take(2, "1", false), Err(Stop::Malformed));
        assert_eq!(take(2, "1", true), Ok(true), "a discard advances the key");
        assert_eq!(take(3, GOOD, false), Ok(true));
    }
}
