//! Building a projection anew beside the live one. It guarantees that queries and the live
//! consumer go on meanwhile, that an interruption costs nothing that was committed, and that the
//! new tables take the place of the old in one transaction, at one position, after every row was
//! compared; nothing is published. Whether differences are expected (the fold has changed) is said
//! by whoever asks for it.

mod swap;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use assent_bus::envelope::Delivery;
use assent_bus::replay::{self, Batch};
use assent_bus::{ApplyError, BusConfig, consumer};
use assent_runtime::{Clock, failpoint};
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::apply::{self, Item};
use crate::error::ProjectorError;
use crate::model::{Projection, Schema};

/// How often rebuilds are looked for when nothing announces them.
const PAUSE: Duration = Duration::from_secs(1);
/// The lock of whoever works on rebuilds: one replica at a time. Ends with its connection.
const REBUILD_LOCK: i64 = 0x0061_7373_656e_7402;
/// How many events may be missing for the last look, which stops the live consumer.
const NEAR: i64 = 5_000;

/// Where the last rebuild of a projection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The projection.
    pub projection: Projection,
    /// The generation that it builds or built.
    pub generation: i32,
    /// `running`, `done`, `different` (not swapped in) or `failed`.
    pub state: String,
    /// Why it failed, a code.
    pub reason: Option<String>,
    /// How many events it has read.
    pub events: i64,
    /// How many rows differed from the live ones at the same position.
    pub differences: Option<i64>,
    /// When it was asked for.
    pub requested_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Asks for a rebuild. `false` when one is running.
///
/// # Errors
/// When the database fails.
pub async fn request(
    pool: &PgPool,
    projection: Projection,
    accept_differences: bool,
    at: Timestamp,
) -> Result<bool, ProjectorError> {
    let asked = sqlx::query(
        "INSERT INTO rebuilds (projection, generation, state, accept_differences, requested_at)
         SELECT projection, generation + 1, 'running', $2, $3
         FROM generations WHERE projection = $1
         ON CONFLICT (projection) DO UPDATE SET
             generation = excluded.generation, state = 'running', reason = NULL,
             accept_differences = excluded.accept_differences, prepared = false, events = 0,
             differences = NULL, requested_at = excluded.requested_at, finished_at = NULL
         WHERE rebuilds.state <> 'running'",
    )
    .bind(projection.name())
    .bind(accept_differences)
    .bind(at.to_sqlx())
    .execute(pool)
    .await?;
    Ok(asked.rows_affected() == 1)
}

/// Where the last rebuild stands; none: there never was one.
///
/// # Errors
/// When the database fails.
pub async fn progress(
    pool: &PgPool,
    projection: Projection,
) -> Result<Option<Progress>, ProjectorError> {
    let row = sqlx::query(
        "SELECT generation, state, reason, events, differences, requested_at, finished_at
         FROM rebuilds WHERE projection = $1",
    )
    .bind(projection.name())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Progress {
        projection,
        generation: row.try_get(0)?,
        state: row.try_get(1)?,
        reason: row.try_get(2)?,
        events: row.try_get(3)?,
        differences: row.try_get(4)?,
        requested_at: row.try_get::<SqlTimestamp, _>(5)?.to_jiff(),
        finished_at: row.try_get::<Option<SqlTimestamp>, _>(6)?.map(|at| at.to_jiff()),
    }))
}

/// Works off rebuilds: one replica at a time, whoever comes first.
pub struct Rebuilder {
    /// The service's database.
    pub pool: PgPool,
    /// Kafka.
    pub bus: BusConfig,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Rings when a rebuild was asked for.
    pub asked: Arc<Notify>,
}

impl Rebuilder {
    /// Works until `stopping`. A rebuild under way is left where it is: whoever comes next goes on.
    ///
    /// # Errors
    /// Never; failures are logged and tried again.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                outcome = self.work() => if let Err(error) = outcome {
                    tracing::warn!(%error, "a rebuild will be tried again");
                },
            }
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = self.asked.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Finishes every rebuild that is running, unless another replica is at it.
    ///
    /// # Errors
    /// What may pass: the database or Kafka doesn't answer.
    pub async fn work(&self) -> Result<(), ProjectorError> {
        for projection in Projection::ALL {
            let running = progress(&self.pool, projection).await?;
            if running.is_none_or(|progress| progress.state != "running") {
                continue;
            }
            // Detached: the lock must not go back into the pool with its connection.
            let mut lock = self.pool.acquire().await?.detach();
            let ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
                .bind(REBUILD_LOCK)
                .fetch_one(&mut lock)
                .await?;
            if !ours {
                return Ok(());
            }
            let outcome = self.rebuild(projection).await;
            // Closing alone frees the lock a moment later, when the server notices.
            let _ = sqlx::query("SELECT pg_advisory_unlock($1)")
                .bind(REBUILD_LOCK)
                .execute(&mut lock)
                .await;
            let _ = lock.close().await;
            match outcome {
                Err(ProjectorError::Event(reason)) => {
                    self.finish(projection, "failed", Some(&reason)).await?;
                }
                other => other?,
            }
        }
        Ok(())
    }

    async fn rebuild(&self, projection: Projection) -> Result<(), ProjectorError> {
        self.prepare(projection).await?;
        loop {
            let target = self.live_positions(projection).await?;
            let from = self.own_positions(projection).await?;
            let missing: i64 = target
                .iter()
                .map(|(partition, end)| (end - from.get(partition).copied().unwrap_or(0)).max(0))
                .sum();
            if missing <= NEAR {
                match swap::swap(self, projection).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => continue,
                    // The live consumer may stand in the way: it is asked again.
                    Err(ProjectorError::Database(error)) if is_lock_trouble(&error) => {
                        tracing::info!(projection = projection.name(), "the swap is tried again");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.read(projection, &from, &target).await?;
        }
    }

    /// Makes the empty tables, once per rebuild.
    async fn prepare(&self, projection: Projection) -> Result<(), ProjectorError> {
        let mut tx = self.pool.begin().await?;
        apply::hold_fences(&mut tx).await?;
        let prepared: bool = sqlx::query_scalar(
            "SELECT prepared FROM rebuilds WHERE projection = $1 AND state = 'running' FOR UPDATE",
        )
        .bind(projection.name())
        .fetch_one(&mut *tx)
        .await?;
        if prepared {
            return Ok(());
        }
        for table in projection.tables() {
            let statements = format!(
                "DROP TABLE IF EXISTS next.{table};
                 CREATE TABLE next.{table} (LIKE live.{table} INCLUDING ALL);"
            );
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *tx).await?;
        }
        sqlx::query("DELETE FROM rebuild_offsets WHERE projection = $1")
            .bind(projection.name())
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE rebuilds SET prepared = true, events = 0 WHERE projection = $1")
            .bind(projection.name())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Reads from Kafka, each batch in a transaction of its own with its position.
    async fn read(
        &self,
        projection: Projection,
        from: &BTreeMap<i32, i64>,
        to: &BTreeMap<i32, i64>,
    ) -> Result<(), ProjectorError> {
        let from = to.keys().map(|p| (*p, from.get(p).copied().unwrap_or(0))).collect();
        replay::read(&self.bus, projection.topic(), &from, to, async |batch| {
            let mut tx = self.pool.begin().await?;
            take_in(&mut tx, projection, &batch).await?;
            failpoint::hit_async("projector.rebuild_batch").await;
            tx.commit().await?;
            Ok::<_, ProjectorError>(())
        })
        .await
        .map_err(read_error)
    }

    async fn live_positions(
        &self,
        projection: Projection,
    ) -> Result<BTreeMap<i32, i64>, ProjectorError> {
        let positions = consumer::positions(&self.pool, projection.consumer()).await?;
        let topic = projection.topic().suffix;
        let ours = positions.into_iter().filter(|((name, _), _)| name == topic);
        Ok(ours.map(|((_, partition), next)| (partition, next)).collect())
    }

    async fn own_positions(
        &self,
        projection: Projection,
    ) -> Result<BTreeMap<i32, i64>, ProjectorError> {
        own_positions(&mut *self.pool.acquire().await?, projection).await
    }

    async fn finish(
        &self,
        projection: Projection,
        state: &str,
        reason: Option<&str>,
    ) -> Result<(), ProjectorError> {
        sqlx::query(
            "UPDATE rebuilds SET state = $2, reason = $3, finished_at = $4 WHERE projection = $1",
        )
        .bind(projection.name())
        .bind(state)
        .bind(reason)
        .bind(self.clock.now().to_sqlx())
        .execute(&self.pool)
        .await?;
        tracing::info!(projection = projection.name(), state, reason, "rebuild ended");
        Ok(())
    }
}

async fn own_positions(
    conn: &mut PgConnection,
    projection: Projection,
) -> Result<BTreeMap<i32, i64>, ProjectorError> {
    let rows =
        sqlx::query("SELECT partition, next_offset FROM rebuild_offsets WHERE projection = $1")
            .bind(projection.name())
            .fetch_all(conn)
            .await?;
    Ok(rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect::<Result<_, sqlx::Error>>()?)
}

/// Folds a batch into `next` and moves the position, in the caller's transaction. What the live
/// consumer passed over is passed over; what it parked waits here too, and with it all that is
/// behind (the live consumer has parked that as well).
async fn take_in(
    conn: &mut PgConnection,
    projection: Projection,
    batch: &Batch,
) -> Result<(), ProjectorError> {
    let first = batch.messages.first().map_or(batch.next_offset, Delivery::offset);
    let parked = offsets(conn, "parked", projection, batch.partition, first).await?;
    let discards = offsets(conn, "discards", projection, batch.partition, first).await?;
    let items: Vec<Item<'_>> = batch
        .messages
        .iter()
        .filter_map(|message| match message {
            Delivery::Event(event) if !parked.contains(&event.offset) => {
                Some(Item { event, discarded: discards.contains(&event.offset) })
            }
            // A malformed message is parked or discarded; it has no sequence to advance to.
            _ => None,
        })
        .collect();
    if !items.is_empty() {
        apply::apply(projection, conn, Schema::Next, &items).await.map_err(
            |error| match error {
                ApplyError::Poison { reason, .. } => ProjectorError::Event(reason.to_owned()),
                ApplyError::Transient(code) => {
                    ProjectorError::Database(sqlx::Error::Protocol(code))
                }
            },
        )?;
    }
    sqlx::query(
        "INSERT INTO rebuild_offsets (projection, partition, next_offset) VALUES ($1, $2, $3)
         ON CONFLICT (projection, partition) DO UPDATE SET next_offset = excluded.next_offset",
    )
    .bind(projection.name())
    .bind(batch.partition)
    .bind(batch.next_offset)
    .execute(&mut *conn)
    .await?;
    sqlx::query("UPDATE rebuilds SET events = events + $2 WHERE projection = $1")
        .bind(projection.name())
        .bind(i64::try_from(batch.messages.len()).unwrap_or(i64::MAX))
        .execute(conn)
        .await?;
    Ok(())
}

async fn offsets(
    conn: &mut PgConnection,
    table: &str,
    projection: Projection,
    partition: i32,
    from: i64,
) -> Result<HashSet<i64>, sqlx::Error> {
    let offsets: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!(
        "SELECT message_offset FROM eventstore.{table}
         WHERE consumer = $1 AND topic = $2 AND partition = $3 AND message_offset >= $4"
    )))
    .bind(projection.consumer())
    .bind(projection.topic().suffix)
    .bind(partition)
    .bind(from)
    .fetch_all(conn)
    .await?;
    Ok(HashSet::from_iter(offsets))
}

fn read_error(error: replay::ReadError<ProjectorError>) -> ProjectorError {
    match error {
        replay::ReadError::Handler(error) => error,
        other => ProjectorError::Kafka(other.to_string()),
    }
}

/// Deadlock or lock timeout: somebody was faster.
fn is_lock_trouble(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40P01" | "55P03"))
}
