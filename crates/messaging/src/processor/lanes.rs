//! Which bodies are taken, and in what order. It guarantees that what one person wrote is applied in the order in
//! which it was stored, whichever replica takes it and whoever dies: a body is not taken while an earlier one that
//! shares a lane with it is another processor's, or waits to be tried again. Bodies that share none, and those that
//! tell of our own messages only, wait for nobody ([ADR 34](../../../docs/adr/0034-one-lane-a-person.md)).

use std::collections::HashSet;
use std::time::Duration;

use jiff_sqlx::Timestamp as SqlTimestamp;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{Opened, Stored};
use crate::state::Messaging;

/// Bodies taken at once, most of which are small.
const TAKE: i64 = 256;
/// How many bytes they may have together, unless a single body has more.
const TAKE_BYTES: i64 = 8 << 20;
/// How long a processor holds what it took.
const HOLD: Duration = Duration::from_secs(60);

/// Takes what is due, the earliest first. One processor takes at a time: two that looked at once would each miss
/// what the other is about to hold.
pub async fn take(messaging: &Messaging) -> Result<Vec<Stored>, sqlx::Error> {
    const LOCK: &str = "SELECT pg_advisory_xact_lock(3, 0)";
    // A hold that ran out may be applied at this very moment: that is waited for, not passed over.
    const SQL: &str = "
        WITH held AS MATERIALIZED (
            SELECT lane, position, id FROM webhook_bodies, unnest(lanes) AS lane
            WHERE parked IS NULL AND not_before > now()
        ), due AS (
            SELECT id, position, octet_length(sealed) AS bytes FROM webhook_bodies AS it
            WHERE parked IS NULL AND not_before <= now()
              AND (lanes = '{}' OR NOT EXISTS (
                  SELECT FROM held WHERE held.lane = ANY(it.lanes)
                                     AND (held.position, held.id) < (it.position, it.id)))
            ORDER BY position, id LIMIT $1 FOR UPDATE
        ), summed AS (
            SELECT id, sum(bytes) OVER (ORDER BY position, id) - bytes AS before FROM due
        )
        UPDATE webhook_bodies SET not_before = now() + make_interval(secs => $2), attempts = attempts + 1
        WHERE id IN (SELECT id FROM summed WHERE before < $3)
        RETURNING id, hour_key, sealed, received_at, position, lanes";
    let mut transaction = messaging.pool().begin().await?;
    sqlx::query(LOCK).execute(&mut *transaction).await?;
    let rows = sqlx::query(SQL)
        .bind(TAKE)
        .bind(HOLD.as_secs_f64())
        .bind(TAKE_BYTES)
        .fetch_all(&mut *transaction)
        .await?;
    transaction.commit().await?;
    let mut taken = rows.iter().map(stored).collect::<Result<Vec<_>, _>>()?;
    taken.sort_unstable_by_key(|body| (body.position, body.id));
    Ok(taken)
}

fn stored(row: &PgRow) -> Result<Stored, sqlx::Error> {
    Ok(Stored {
        id: row.try_get(0)?,
        hour_key: row.try_get(1)?,
        sealed: row.try_get(2)?,
        received_at: row.try_get::<SqlTimestamp, _>(3)?.to_jiff(),
        position: row.try_get(4)?,
        lanes: row.try_get(5)?,
    })
}

/// The lanes of bodies that were taken and are still to be applied: what stands behind one of them waits.
#[derive(Default)]
pub struct Behind(HashSet<i16>);

impl Behind {
    /// A body with these lanes was not applied.
    pub fn wait(&mut self, lanes: &[i16]) {
        self.0.extend(lanes);
    }

    /// Those that stand behind none; the others are let go, and stand in the way of what is behind them.
    pub async fn without(&mut self, messaging: &Messaging, bodies: Vec<Opened>) -> Vec<Opened> {
        let mut free = Vec::with_capacity(bodies.len());
        let mut waiting = Vec::new();
        for body in bodies {
            if body.stored.lanes.iter().any(|lane| self.0.contains(lane)) {
                self.wait(&body.stored.lanes);
                waiting.push(body.stored.id);
            } else {
                free.push(body);
            }
        }
        if !waiting.is_empty()
            && let Err(error) = let_go(messaging, &waiting).await
        {
            tracing::warn!(%error, "webhook bodies are held for longer than needed");
        }
        free
    }
}

/// They were not tried.
async fn let_go(messaging: &Messaging, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    const LET_GO: &str = "
        UPDATE webhook_bodies SET not_before = now(), attempts = attempts - 1 WHERE id = ANY($1)";
    sqlx::query(LET_GO).bind(ids).execute(messaging.pool()).await.map(|_| ())
}
