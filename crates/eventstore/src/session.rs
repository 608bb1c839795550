//! One transaction of the store. It guarantees that a stream is locked before the ids of its
//! events and outbox rows are drawn, so that their order per key is the order of the commits;
//! deciding what to append is left to the caller.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use assent_runtime::failpoint;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Executor as _, PgConnection, Row as _, Transaction};
use tokio::time::Instant;
use uuid::Uuid;

use crate::idempotency::{FirstAnswer, Idempotency};
use crate::rows::{AppendRows, QueueRows, Witness, stored_event};
use crate::store::EventStore;
use crate::{Append, Appended, Expected, Message, StoreError, Stream};

/// How long the outcome of a cut COMMIT is asked for, while Postgres restarts. The look under way
/// then is waited for: where nothing answers it takes seconds.
const OUTCOME_PATIENCE: Duration = Duration::from_secs(15);
const OUTCOME_PAUSE: Duration = Duration::from_millis(100);

/// Every statement of a session goes by keys. Its plan must not depend on the statistics of the
/// day: one made while a table was new and empty scans it whole, and stays with the connection.
const BEGIN: &str = "BEGIN; SET LOCAL plan_cache_mode = force_generic_plan; \
    SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
    SET LOCAL enable_mergejoin = off; SET LOCAL jit = off";

/// An advisory lock and not a row: it costs no write, and there is something to lock before the
/// first event. The keys come sorted.
const LOCK: &str = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key";

const VERSIONS: &str = "
SELECT wanted.id, coalesce((SELECT e.version FROM eventstore.events e WHERE e.stream = wanted.id
                            ORDER BY e.version DESC LIMIT 1), 0)
FROM unnest($1::uuid[]) AS wanted (id)";

const EVENTS: &str = "
SELECT position, id, stream, version, event_type, data::text AS data, recorded_at, traceparent
FROM eventstore.events WHERE stream = ANY($1) ORDER BY stream, version";

const FIRST_ANSWERS: &str = "
SELECT key_hash, body_hash, stream, version, event_ids
FROM eventstore.idempotency_keys WHERE key_hash = ANY($1)";

const LANDED: &str =
    "SELECT 1 FROM eventstore.events WHERE stream = $1 AND version = $2 AND id = $3";

/// One transaction of the store, in which a service may also write rows of its own
/// ([`Session::conn`]). Dropping it rolls back.
///
/// Await it only in a task that nobody cancels, such as one spawned by
/// [`to_the_end`](crate::to_the_end) or the [`Batcher`](crate::batcher::Batcher): cancelling
/// `begin` or `commit` half-way can hand a connection with an open transaction back to the pool
/// (sqlx #4385).
pub struct Session {
    store: EventStore,
    transaction: Transaction<'static, Postgres>,
    /// Locked streams with their versions as this transaction sees them.
    locked: HashMap<Uuid, i64>,
    witness: Option<Witness>,
    queued: bool,
    /// A statement of ours failed or lost a race: only a rollback is left.
    doomed: bool,
    /// The caller had the connection last, so the transaction may be aborted unseen.
    unchecked: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("locked", &self.locked.len()).finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) async fn begin(store: &EventStore) -> Result<Self, StoreError> {
        Ok(Self {
            transaction: store.pool().begin_with(BEGIN).await?,
            store: store.clone(),
            locked: HashMap::new(),
            witness: None,
            queued: false,
            doomed: false,
            unchecked: false,
        })
    }

    /// The connection, for the service's own rows in the same transaction. A statement that fails
    /// on it aborts the whole transaction; [`Session::commit`] then fails.
    pub fn conn(&mut self) -> &mut PgConnection {
        self.unchecked = true;
        &mut self.transaction
    }

    /// Locks `ids` until the end of the session and loads their events. Streams that don't exist
    /// come back empty, and locked as well.
    ///
    /// Locks of one call are taken in one order. Two calls in one session may deadlock with another
    /// session, which Postgres ends after a second ([`StoreError::is_transient`]): lock all in one.
    /// Each takes a place in the server's lock table (`max_locks_per_transaction` times
    /// `max_connections` in all): keep a session below a few thousand streams.
    ///
    /// # Errors
    /// When the database fails, or a lock isn't had within its time-out.
    pub async fn lock(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, Stream>, StoreError> {
        self.take_locks(ids).await?;
        let mut streams: HashMap<Uuid, Stream> =
            ids.iter().map(|&id| (id, Stream::default())).collect();
        for row in self.checked_rows(sqlx::query(EVENTS).bind(ids)).await? {
            let event = stored_event(&row)?;
            let stream = streams.entry(event.stream).or_default();
            stream.version = event.version;
            stream.events.push(event);
        }
        self.locked.extend(streams.iter().map(|(&id, stream)| (id, stream.version)));
        Ok(streams)
    }

    /// Locks `ids` like [`Session::lock`] and gives their versions only, for services that keep
    /// the state of a stream in rows of their own. 0 means that the stream doesn't exist.
    ///
    /// # Errors
    /// As [`Session::lock`].
    pub async fn lock_versions(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, i64>, StoreError> {
        self.take_locks(ids).await?;
        let rows = self.checked_rows(sqlx::query(VERSIONS).bind(ids)).await?;
        let mut versions = HashMap::with_capacity(rows.len());
        for row in rows {
            versions.insert(row.try_get(0)?, row.try_get(1)?);
        }
        self.locked.extend(versions.iter().map(|(&id, &version)| (id, version)));
        Ok(versions)
    }

    async fn take_locks(&mut self, ids: &[Uuid]) -> Result<(), StoreError> {
        let keys: Vec<i64> =
            BTreeSet::from_iter(ids.iter().copied().map(lock_key)).into_iter().collect();
        self.checked_rows(sqlx::query(LOCK).bind(keys)).await?;
        Ok(())
    }

    /// The first answers to these idempotency keys, in their order; `None` for a key that is new.
    /// Call it after [`Session::lock`], so that it sees whoever held the lock before.
    ///
    /// # Errors
    /// When the database fails. A key with another body gives `Err` in its place
    /// ([`StoreError::KeyReused`]) and leaves the session usable.
    pub async fn first_answers(
        &mut self,
        keys: &[Idempotency],
    ) -> Result<Vec<Result<Option<FirstAnswer>, StoreError>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let hashes: Vec<&[u8]> = keys.iter().map(|key| key.key_hash.as_slice()).collect();
        let rows = self.checked_rows(sqlx::query(FIRST_ANSWERS).bind(&hashes)).await?;
        let mut found: HashMap<Vec<u8>, (Vec<u8>, FirstAnswer)> =
            HashMap::with_capacity(rows.len());
        for row in rows {
            let answer = FirstAnswer {
                stream: row.try_get(2)?,
                version: row.try_get(3)?,
                event_ids: row.try_get(4)?,
            };
            found.insert(row.try_get(0)?, (row.try_get(1)?, answer));
        }
        Ok(keys
            .iter()
            .map(|key| match found.get(key.key_hash.as_slice()) {
                None => Ok(None),
                Some((body, answer)) if *body == key.body_hash => Ok(Some(answer.clone())),
                Some(_) => Err(StoreError::KeyReused),
            })
            .collect())
    }

    /// The first answer to one idempotency key.
    ///
    /// # Errors
    /// [`StoreError::KeyReused`] when it came with another body; when the database fails.
    pub async fn first_answer(
        &mut self,
        key: Idempotency,
    ) -> Result<Option<FirstAnswer>, StoreError> {
        self.first_answers(&[key]).await?.pop().unwrap_or(Ok(None))
    }

    /// Appends, in this order; streams that aren't locked yet are locked first. Events, outbox
    /// rows, state records and idempotency keys become durable together at [`Session::commit`].
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a stream is not where it is expected: nothing of this call was
    /// written and the session stays usable. [`StoreError::KeyTaken`] when another transaction with
    /// the same idempotency key was faster: only a rollback is left.
    pub async fn append(&mut self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let missing: Vec<Uuid> = appends
            .iter()
            .map(|append| append.stream)
            .filter(|id| !self.locked.contains_key(id))
            .collect();
        if !missing.is_empty() {
            self.lock_versions(&missing).await?;
        }

        let mut rows = AppendRows::default();
        let mut versions = self.locked.clone();
        let mut appended = Vec::with_capacity(appends.len());
        for (index, append) in appends.iter().enumerate() {
            let version = versions.get_mut(&append.stream).expect("locked above");
            if let Expected::Exact(expected) = append.expected
                && expected != *version
            {
                return Err(StoreError::Conflict {
                    index,
                    stream: append.stream,
                    expected,
                    actual: *version,
                });
            }
            for event in &append.events {
                *version += 1;
                rows.push_event(append, event, *version);
            }
            rows.push_rest(append, *version);
            appended.push(Appended {
                version: *version,
                event_ids: append.events.iter().map(|event| event.id).collect(),
            });
        }

        // From here on a failure leaves a transaction that must not commit.
        self.doomed = true;
        if !rows.insert(&mut self.transaction).await? {
            return Err(StoreError::KeyTaken);
        }
        self.doomed = false;
        self.unchecked = false;
        self.queued |= rows.queues();
        self.witness = self.witness.or_else(|| rows.witness());
        self.locked = versions;
        Ok(appended)
    }

    /// Locks the stream and appends to it, unless the idempotency key was used before: then this
    /// is what was appended then.
    pub(crate) async fn append_once(&mut self, append: Append) -> Result<Appended, StoreError> {
        self.lock_versions(&[append.stream]).await?;
        if let Some(key) = append.idempotency
            && let Some(first) = self.first_answer(key).await?
        {
            return Ok(Appended { version: first.version, event_ids: first.event_ids });
        }
        self.append(vec![append]).await?.pop().ok_or(StoreError::Aborted)
    }

    /// Queues messages that are not events of a stream, such as commands to another service.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn enqueue(&mut self, messages: Vec<Message>) -> Result<(), StoreError> {
        let mut rows = QueueRows::default();
        for message in &messages {
            rows.push_message(message);
        }
        self.doomed = true;
        rows.insert(&mut self.transaction).await?;
        self.doomed = false;
        self.unchecked = false;
        self.queued |= !messages.is_empty();
        Ok(())
    }

    /// Makes everything of this session durable, or nothing. When the connection is cut during the
    /// COMMIT, the outcome is looked up, so `Ok` and `Err` still mean what they say.
    ///
    /// # Errors
    /// When the transaction did not commit; [`StoreError::Unknown`] when that can't be told: the
    /// session appended no event, or Postgres didn't come back in time.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if self.doomed {
            self.rollback().await?;
            return Err(StoreError::Aborted);
        }
        if self.unchecked {
            // COMMIT of an aborted transaction rolls back and calls that a success.
            self.transaction.execute("SELECT 1").await?;
        }
        let Self { store, transaction, witness, queued, .. } = self;
        failpoint::hit_async("eventstore.before_commit").await;
        if let Err(error) = transaction.commit().await {
            if !outcome_is_open(&error) {
                return Err(error.into());
            }
            let landed = match witness {
                Some(witness) => outcome(|| landed(&store, witness)).await,
                None => None,
            };
            match landed {
                Some(true) => {}
                Some(false) => return Err(error.into()),
                None => return Err(StoreError::Unknown(error)),
            }
        }
        failpoint::hit_async("eventstore.after_commit").await;
        if queued {
            store.outbox_hint().notify_one();
        }
        Ok(())
    }

    /// Ends the session without a trace.
    ///
    /// # Errors
    /// When the database fails; the transaction is gone all the same.
    pub async fn rollback(self) -> Result<(), StoreError> {
        Ok(self.transaction.rollback().await?)
    }

    async fn checked_rows(
        &mut self,
        query: sqlx::query::Query<'_, Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<PgRow>, StoreError> {
        self.unchecked = false;
        match query.fetch_all(&mut *self.transaction).await {
            Ok(rows) => Ok(rows),
            Err(error) => {
                self.doomed = true;
                Err(error.into())
            }
        }
    }
}

/// The stream's place in the space of advisory locks. Two streams that meet there wait for each
/// other without need, which does no harm.
fn lock_key(stream: Uuid) -> i64 {
    let (high, low) = stream.as_u64_pair();
    (high ^ low).cast_signed()
}

/// Whether a failed COMMIT may have happened all the same.
fn outcome_is_open(error: &sqlx::Error) -> bool {
    match error {
        // Postgres said no, unless it was on its way out and said only that.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => true,
    }
}

/// Looks until it is known whether a transaction committed; `None` when Postgres can't be asked in
/// time.
async fn outcome<L>(look: impl Fn() -> L) -> Option<bool>
where
    L: Future<Output = Result<bool, StoreError>>,
{
    let give_up = Instant::now() + OUTCOME_PATIENCE;
    loop {
        match look().await {
            Ok(landed) => return Some(landed),
            Err(error) if Instant::now() >= give_up => {
                tracing::error!(%error, "the outcome of a commit stays unknown");
                return None;
            }
            Err(error) => tracing::warn!(%error, "asking for the outcome of a commit"),
        }
        tokio::time::sleep(OUTCOME_PAUSE).await;
    }
}

/// Whether the transaction of `witness` committed.
async fn landed(store: &EventStore, witness: Witness) -> Result<bool, StoreError> {
    let mut session = Session::begin(store).await?;
    // The lock waits until the server has ended the transaction, should it still be at it.
    session.take_locks(&[witness.stream]).await?;
    let query = sqlx::query(LANDED).bind(witness.stream).bind(witness.version).bind(witness.id);
    let landed = !session.checked_rows(query).await?.is_empty();
    session.rollback().await?;
    Ok(landed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where Postgres is away, most of the time goes by in the looks: each waits for a connection.
    #[tokio::test(start_paused = true)]
    async fn the_outcome_is_given_up_by_the_clock_however_long_a_look_takes() {
        const LOOK: Duration = Duration::from_secs(3);
        let began = Instant::now();
        let outcome = outcome(|| async {
            tokio::time::sleep(LOOK).await;
            Err(sqlx::Error::PoolTimedOut.into())
        });
        assert_eq!(outcome.await, None);
        let took = began.elapsed();
        assert!(took >= OUTCOME_PATIENCE && took <= OUTCOME_PATIENCE + LOOK + OUTCOME_PAUSE);
    }
}
