//! The store of one service: opens sessions, loads streams, cleans up. It guarantees that nothing
//! is read half-committed; who may read what is left to the service.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgPool;
use tokio::sync::Notify;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::idempotency::{Idempotency, RETENTION};
use crate::rows::stored_event;
use crate::{Append, Appended, Session, StoreError, StoredEvent};

const LOAD: &str = "
SELECT position, id, stream, version, event_type, data::text AS data, recorded_at, traceparent
FROM eventstore.events WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3";

const READ: &str = "
SELECT position, id, stream, version, event_type, data::text AS data, recorded_at, traceparent
FROM eventstore.events WHERE position > $1 ORDER BY position LIMIT $2";

const CLEAN: &str = "
DELETE FROM eventstore.idempotency_keys WHERE key_hash IN
    (SELECT key_hash FROM eventstore.idempotency_keys WHERE recorded_at < $1 LIMIT 10000)";

/// The event store in one service's database. Cheap to clone.
#[derive(Clone)]
pub struct EventStore {
    inner: Arc<Inner>,
}

struct Inner {
    pool: PgPool,
    idempotency_secret: Vec<u8>,
    outbox_hint: Notify,
}

impl std::fmt::Debug for EventStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStore").finish_non_exhaustive()
    }
}

impl EventStore {
    /// A store over `pool` (see [`connect`](crate::connect)), whose database has been
    /// [migrated](crate::schema::migrate). `idempotency_secret` keys the hashes of idempotency keys: all
    /// replicas of the service share it, and losing it only forgets first answers.
    #[must_use]
    pub fn new(pool: PgPool, idempotency_secret: &[u8]) -> Self {
        Self {
            inner: Arc::new(Inner {
                pool,
                idempotency_secret: idempotency_secret.to_vec(),
                outbox_hint: Notify::new(),
            }),
        }
    }

    /// The pool, for the service's own reads.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.inner.pool
    }

    /// Wakes the relay of this process. NOTIFY inside the transaction would reach every process,
    /// but Postgres lets only one transaction with a NOTIFY commit at a time in the whole cluster:
    /// group commit would be gone. A relay that isn't the leader passes the hint on.
    pub(crate) fn outbox_hint(&self) -> &Notify {
        &self.inner.outbox_hint
    }

    /// Begins a transaction; see [`Session`] on cancellation.
    ///
    /// # Errors
    /// When no connection is to be had in time.
    pub async fn begin(&self) -> Result<Session, StoreError> {
        Session::begin(self).await
    }

    /// Up to `limit` events of `stream` after version `after`, oldest first: page on with the last
    /// version that came. An unknown stream has none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(
        &self,
        stream: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let rows =
            sqlx::query(LOAD).bind(stream).bind(after).bind(limit).fetch_all(self.pool()).await?;
        Ok(rows.iter().map(stored_event).collect::<Result<_, _>>()?)
    }

    /// Up to `limit` events of all streams after `position`, for replays by the owner. An event
    /// whose transaction commits late can appear at a lower position than one already read: don't
    /// follow the store with this, follow the topic.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn read(&self, position: i64, limit: i64) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(READ).bind(position).bind(limit).fetch_all(self.pool()).await?;
        Ok(rows.iter().map(stored_event).collect::<Result<_, _>>()?)
    }

    /// How many rows wait in the outbox, counted up to `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn backlog(&self, limit: i64) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT FROM eventstore.outbox LIMIT $1) AS waiting",
        )
        .bind(limit)
        .fetch_one(self.pool())
        .await?)
    }

    /// Hashes what a client sent as idempotency key, with the body it came with. `scope` names the
    /// caller and the operation, so that two callers with one key don't meet.
    #[must_use]
    pub fn idempotency(&self, scope: &str, key: &str, body: &[u8]) -> Idempotency {
        Idempotency::new(&self.inner.idempotency_secret, scope, key, body)
    }

    /// One append in a transaction of its own, which runs to its end even if the caller goes away.
    /// A repeated idempotency key gives what the first append gave.
    ///
    /// # Errors
    /// As [`Session::append`] and [`Session::commit`]; [`StoreError::KeyReused`].
    pub async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let store = self.clone();
        to_the_end(async move {
            loop {
                match store.try_append(append.clone()).await {
                    // Whoever took the key has committed: the next look finds the first answer.
                    Err(StoreError::KeyTaken) => {}
                    outcome => return outcome,
                }
            }
        })
        .await
    }

    async fn try_append(&self, append: Append) -> Result<Appended, StoreError> {
        let mut session = self.begin().await?;
        let appended = match session.append_once(append).await {
            Ok(appended) => appended,
            Err(error) => {
                session.rollback().await?;
                return Err(error);
            }
        };
        session.commit().await?;
        Ok(appended)
    }

    /// Deletes first answers older than their [retention](crate::IDEMPOTENCY_RETENTION) at `now`;
    /// returns how many. Call it now and then, from any replica.
    ///
    /// # Errors
    /// When the database fails; what was deleted before stays deleted.
    pub async fn clean(&self, now: Timestamp) -> Result<u64, StoreError> {
        let before = now - jiff::SignedDuration::try_from(RETENTION).expect("seven days fit");
        let mut deleted = 0;
        loop {
            let result = sqlx::query(CLEAN).bind(before.to_sqlx()).execute(self.pool()).await?;
            if result.rows_affected() == 0 {
                return Ok(deleted);
            }
            deleted += result.rows_affected();
        }
    }

    /// Runs [`EventStore::clean`] every hour until `stopping`.
    pub async fn keep_clean(
        &self,
        clock: Arc<dyn assent_runtime::Clock>,
        stopping: tokio_util::sync::CancellationToken,
    ) {
        const PAUSE: Duration = Duration::from_secs(60 * 60);
        while stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
            match self.clean(clock.now()).await {
                Ok(deleted) => tracing::debug!(deleted, "cleaned idempotency keys"),
                Err(error) => tracing::warn!(%error, "idempotency keys are not cleaned"),
            }
        }
    }
}

/// Runs `work` in a task of its own, so that it goes on when the caller is cancelled, as a request
/// handler is when its client hangs up.
///
/// # Panics
/// When `work` panics.
pub async fn to_the_end<F>(work: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    match tokio::spawn(work.in_current_span()).await {
        Ok(output) => output,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime cancels it, and that ends the caller too.
            Err(_) => std::future::pending().await,
        },
    }
}
