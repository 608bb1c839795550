//! Where a consumer stands, checked against the log. It guarantees that nobody reads on from a
//! position that the log can't have; the rows themselves are the event store's checkpoints.

use std::collections::BTreeMap;

use assent_eventstore::{checkpoint, parked};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::plan::Facts;
use super::{ConsumerError, Place};
use crate::subscriber::Sequencing;
use crate::topics::Extent;

/// Where a consumer stands in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub place: Place,
    pub next_offset: i64,
    pub starts: i32,
}

/// Reads the positions in these partitions, and makes those that don't exist yet, at the start.
/// Halts on a position that the log can't have: its topic was made anew, or its end was lost.
pub(crate) async fn claim(
    pool: &PgPool,
    consumer: &str,
    extents: &[Extent],
) -> Result<Vec<Position>, ConsumerError> {
    let mut connection = pool.acquire().await?;
    let mut positions = Vec::with_capacity(extents.len());
    for &Extent { topic, ref topic_id, partition, start, end } in extents {
        let place = Place { topic, partition };
        let stored =
            checkpoint::open(&mut connection, consumer, topic.suffix, partition, topic_id, start)
                .await?;
        if stored.topic_id != *topic_id {
            let (stored, found) = (stored.topic_id, topic_id.clone());
            return Err(ConsumerError::OtherTopic { place, stored, found });
        }
        let next_offset = stored.next_offset;
        if !(start..=end).contains(&next_offset) {
            return Err(ConsumerError::OutsideLog { place, next_offset, start, end });
        }
        positions.push(Position { place, next_offset, starts: stored.starts });
    }
    Ok(positions)
}

/// The next offset of each partition, by topic (without prefix) and partition.
///
/// # Errors
/// If Postgres doesn't answer.
pub async fn positions(
    pool: &PgPool,
    consumer: &str,
) -> Result<BTreeMap<(String, i32), i64>, sqlx::Error> {
    let stored = checkpoint::all(&mut *pool.acquire().await?, consumer).await?;
    Ok(stored.into_iter().map(|at| ((at.topic, at.partition), at.next_offset)).collect())
}

/// Forgets the starts at this position: whoever started there came back.
pub(crate) async fn forget_starts(
    pool: &PgPool,
    consumer: &str,
    place: Place,
    expected: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE eventstore.consumer_offsets SET starts = 0
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND next_offset = $4",
    )
    .bind(consumer)
    .bind(place.topic.suffix)
    .bind(place.partition)
    .bind(expected)
    .execute(pool)
    .await?;
    Ok(())
}

/// What is known of these keys.
pub(crate) async fn facts(
    conn: &mut PgConnection,
    consumer: &str,
    topic: &str,
    sequencing: Sequencing,
    keys: &[Uuid],
) -> Result<Facts, sqlx::Error> {
    let blocked = parked::parked_keys(conn, consumer, topic, keys).await?;
    let last = match sequencing {
        Sequencing::Tracked => checkpoint::sequences(conn, consumer, topic, keys).await?,
        Sequencing::Own | Sequencing::None => Default::default(),
    };
    Ok(Facts { last, blocked })
}
