//! Reads the outbox in passes: one query each, from the lowest id on, so one snapshot. It guarantees
//! ascending ids within a pass and never holds a snapshot while nobody takes its rows; which rows
//! are sent is left to the pump.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{ConnectOptions as _, PgConnection, Row as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::OutboxRecord;

/// How long a pass waits for its rows to be taken before it ends, giving up its snapshot.
const STALL: Duration = Duration::from_secs(5);

const READ: &str = "
SELECT id, topic, key, sequence, event_sequence, event_id, event_type, recorded_at, traceparent, payload
FROM eventstore.outbox ORDER BY id LIMIT $1";

/// What the reader says, in this order: any number of batches, then one end per pass.
pub(super) enum Read {
    /// Rows, ids ascending.
    Batch(Vec<OutboxRecord>),
    /// The pass is over.
    End {
        /// Whether rows may be left that it didn't reach.
        more: bool,
    },
    /// The connection failed; nothing follows.
    Failed(sqlx::Error),
}

pub(super) struct Limits {
    pub(super) pass_rows: i64,
    pub(super) batch_rows: usize,
}

/// A connection whose plans go by the primary key: the outbox is empty whenever statistics are
/// taken, and a plan made for an empty table sorts a million rows.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    options
        .clone()
        .options([
            ("enable_seqscan", "off"),
            ("enable_bitmapscan", "off"),
            ("enable_sort", "off"),
            ("jit", "off"),
        ])
        .connect()
        .await
}

/// Starts a reader in `tasks`: each message to the returned sender is one pass.
pub(super) async fn start(
    options: &PgConnectOptions,
    limits: Limits,
    tasks: &mut JoinSet<()>,
) -> Result<(mpsc::Sender<()>, mpsc::Receiver<Read>), sqlx::Error> {
    let conn = connect(options).await?;
    let (go, passes) = mpsc::channel(1);
    let (out, reads) = mpsc::channel(2);
    let mut reader =
        Reader { options: options.clone(), conn, limits, names: HashSet::new(), out: out.clone() };
    tasks.spawn(async move {
        if let Err(error) = reader.run(passes).await {
            let _ = out.send(Read::Failed(error)).await;
        }
    });
    Ok((go, reads))
}

struct Reader {
    options: PgConnectOptions,
    conn: PgConnection,
    limits: Limits,
    /// Topics and event types: few, so each is allocated once.
    names: HashSet<Arc<str>>,
    out: mpsc::Sender<Read>,
}

impl Reader {
    async fn run(&mut self, mut passes: mpsc::Receiver<()>) -> Result<(), sqlx::Error> {
        while passes.recv().await.is_some() {
            let more = match self.pass().await? {
                Passed::All { rows } => rows as i64 == self.limits.pass_rows,
                Passed::Stalled { batch } => {
                    // Half a result is still on the old connection.
                    self.conn = connect(&self.options).await?;
                    if self.out.send(Read::Batch(batch)).await.is_err() {
                        break;
                    }
                    true
                }
            };
            if self.out.send(Read::End { more }).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn pass(&mut self) -> Result<Passed, sqlx::Error> {
        let mut stream = sqlx::query(READ).bind(self.limits.pass_rows).fetch(&mut self.conn);
        let mut batch = Vec::new();
        let mut rows = 0;
        while let Some(row) = stream.try_next().await? {
            rows += 1;
            if batch.is_empty() {
                batch.reserve_exact(if rows == 1 { 16 } else { self.limits.batch_rows });
            }
            batch.push(record(&row, &mut self.names)?);
            if batch.len() >= self.limits.batch_rows {
                match tokio::time::timeout(STALL, self.out.reserve()).await {
                    Ok(Ok(slot)) => slot.send(Read::Batch(std::mem::take(&mut batch))),
                    Ok(Err(_)) => break,
                    Err(_) => return Ok(Passed::Stalled { batch }),
                }
            }
        }
        drop(stream);
        if !batch.is_empty() {
            let _ = self.out.send(Read::Batch(batch)).await;
        }
        Ok(Passed::All { rows })
    }
}

enum Passed {
    All { rows: usize },
    Stalled { batch: Vec<OutboxRecord> },
}

fn record(row: &PgRow, names: &mut HashSet<Arc<str>>) -> Result<OutboxRecord, sqlx::Error> {
    Ok(OutboxRecord {
        id: row.try_get(0)?,
        topic: interned(names, row.try_get(1)?),
        key: row.try_get(2)?,
        sequence: row.try_get(3)?,
        event_sequence: row.try_get(4)?,
        event_id: row.try_get(5)?,
        event_type: interned(names, row.try_get(6)?),
        recorded_at: row.try_get::<jiff_sqlx::Timestamp, _>(7)?.to_jiff(),
        traceparent: row.try_get(8)?,
        payload: row.try_get(9)?,
    })
}

fn interned(names: &mut HashSet<Arc<str>>, name: &str) -> Arc<str> {
    if let Some(known) = names.get(name) {
        return Arc::clone(known);
    }
    let new: Arc<str> = Arc::from(name);
    names.insert(Arc::clone(&new));
    new
}
