//! The key store: wrapped keys in a Postgres database of their own, which is never part of a data
//! backup. It guarantees that a destroyed key can't be minted again, that "never had one" and
//! "destroyed" differ for ever, and that once [`KeyStore::destroy`] has answered no table file
//! holds the wrapped bytes any more. Keys handed out before are the callers' leases.
//!
//! **Write-ahead log.** A wrapped key is written to WAL when it is minted, again when its table
//! file is rewritten for the destruction of a neighbour, and once more, in the image of its page,
//! when it is destroyed. [`wal`](crate::wal) sees to it that those segments are removed, given
//! `wal_recycle = off` on the key store's server (otherwise old segments are reused, with their
//! bytes in them until overwritten) and no WAL archive but one under daily keys that expire.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use assent_runtime::{Clock, Ids};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

use crate::{DataKey, Kek, KekError, Keks};

/// How long [`KeyStore::destroy`] waits for transactions that keep the key's bytes alive.
const READERS_WAIT: Duration = Duration::from_secs(10);
/// How long the rewrite of a table file waits for its lock.
const REWRITE_LOCK_TIMEOUT: &str = "SET lock_timeout = '5s'";

const INSERT_NEW: &str = "
INSERT INTO keys (id, wrapped, kek_id, version, created_at)
SELECT id, wrapped, $3, $4, $5 FROM unnest($1::uuid[], $2::bytea[]) AS new (id, wrapped)";

const INSERT_MISSING: &str = "
INSERT INTO keys (id, wrapped, kek_id, version, created_at)
SELECT id, wrapped, $3, $4, $5 FROM unnest($1::uuid[], $2::bytea[]) AS new (id, wrapped)
ORDER BY id
ON CONFLICT (id) DO NOTHING
RETURNING id";

/// The version that new keys get. Keys are never rotated in place: it is part of what ciphertext
/// is bound to, so that they could be.
const VERSION: i32 = 1;

/// The key store can't do it now. Nothing was half done: repeat it.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The database failed.
    #[error("key store: {0}")]
    Database(#[from] sqlx::Error),
    /// The key-encryption key can't be used.
    #[error("key store: {0}")]
    Kek(#[from] KekError),
    /// A stored key doesn't unwrap: it was wrapped by another key-encryption key.
    #[error("key store: key {id} was wrapped by {kek_id}, which is not the one configured")]
    Foreign {
        /// The key.
        id: Uuid,
        /// What wrapped it.
        kek_id: String,
    },
    /// Stored keys need a wrapping key that isn't configured.
    #[error(
        "key store: {keys} keys are wrapped by {kek_id}, which is not configured: put it back until `assent keys rewrap` \
         says that none is left"
    )]
    Missing {
        /// What wraps them.
        kek_id: String,
        /// How many there are.
        keys: u64,
    },
    /// Keys are destroyed, but a transaction that began before keeps their bytes on disk: one of
    /// this database that may still read them, or one of any database of the server that wrote
    /// and goes on. Repeat.
    #[error("key store: destroyed, but an older transaction keeps its bytes")]
    StillVisible,
}

/// A key and its version.
pub struct StoredKey {
    /// The key.
    pub key: DataKey,
    /// Its version, part of what ciphertext is bound to.
    pub version: i32,
}

/// What the store knows under an id.
pub enum KeyState {
    /// There is a key.
    Live(StoredKey),
    /// There was a key, or there never may be one: it was destroyed.
    Destroyed,
    /// There never was a key.
    Never,
}

impl KeyState {
    /// The key, if there is one.
    #[must_use]
    pub fn live(self) -> Option<StoredKey> {
        match self {
            Self::Live(key) => Some(key),
            Self::Destroyed | Self::Never => None,
        }
    }
}

/// Keys of people, wrapped, in their own database.
#[derive(Clone)]
pub struct KeyStore {
    pool: PgPool,
    keks: Keks,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Whether the log may hold destroyed keys.
    destroyed: Arc<AtomicBool>,
}

impl KeyStore {
    /// A store on its own database.
    #[must_use]
    pub fn new(
        pool: PgPool,
        keks: impl Into<Keks>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Self {
        let destroyed = Arc::new(AtomicBool::new(true));
        Self { pool, keks: keks.into(), clock, ids, destroyed }
    }

    pub(crate) fn destroyed(&self) -> &AtomicBool {
        &self.destroyed
    }

    pub(crate) const fn keks(&self) -> &Keks {
        &self.keks
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Whether the key that wraps can be used now.
    ///
    /// # Errors
    /// [`KekError`] when it can't.
    pub async fn look_at_kek(&self) -> Result<(), KekError> {
        let kek = Arc::clone(&self.keks.current);
        aside(move || kek.look()).await
    }

    /// The migrations of the key store's tables.
    #[must_use]
    pub fn migrator() -> Migrator {
        sqlx::migrate!("./migrations")
    }

    /// The keys under `ids` (distinct), in order, making those that never were. A destroyed one
    /// stays destroyed: minting and destroying meet at the same row.
    ///
    /// # Errors
    /// [`KeyStoreError`]; then none was made.
    pub async fn mint(&self, ids: &[Uuid]) -> Result<Vec<KeyState>, KeyStoreError> {
        let keys: Vec<DataKey> = ids.iter().map(|_| DataKey::generate(self.ids.as_ref())).collect();
        let of = ids.iter().map(|id| (*id, VERSION)).collect();
        let (keys, wrapped) = wrap(&self.keks.current, of, keys).await?;
        // Nearly always all are new; asking Postgres to expect conflicts costs half as much again.
        let insert = |sql: &'static str| {
            sqlx::query_scalar(sql)
                .bind(ids)
                .bind(&wrapped)
                .bind(self.keks.current.id())
                .bind(VERSION)
                .bind(self.clock.now().to_sqlx())
                .fetch_all(&self.pool)
        };
        let made: Vec<Uuid> = match insert(INSERT_NEW).await {
            Ok(_) => ids.to_vec(),
            Err(error) if is_duplicate(&error) => insert(INSERT_MISSING).await?,
            Err(error) => return Err(error.into()),
        };
        let made: BTreeSet<Uuid> = made.into_iter().collect();

        let known: Vec<Uuid> = ids.iter().copied().filter(|id| !made.contains(id)).collect();
        let mut found = if known.is_empty() { HashMap::new() } else { self.find(&known).await? };
        let state = |(id, key)| match found.remove(id) {
            None => KeyState::Live(StoredKey { key, version: VERSION }),
            Some(state) => state,
        };
        Ok(ids.iter().zip(keys).map(state).collect())
    }

    /// What is stored under `ids`, in order.
    ///
    /// # Errors
    /// [`KeyStoreError`].
    pub async fn get(&self, ids: &[Uuid]) -> Result<Vec<KeyState>, KeyStoreError> {
        let mut found = self.find(ids).await?;
        Ok(ids.iter().map(|id| found.remove(id).unwrap_or(KeyState::Never)).collect())
    }

    async fn find(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, KeyState>, KeyStoreError> {
        let rows = sqlx::query("SELECT id, wrapped, kek_id, version FROM keys WHERE id = ANY($1)")
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        let mut found = HashMap::with_capacity(rows.len());
        let mut wrapped = Vec::with_capacity(rows.len());
        for row in rows {
            let id: Uuid = row.try_get("id")?;
            match row.try_get("wrapped")? {
                None => {
                    found.insert(id, KeyState::Destroyed);
                }
                Some(bytes) => {
                    let (version, kek_id) = (row.try_get("version")?, row.try_get("kek_id")?);
                    wrapped.push(WrappedKey { id, version, kek_id, bytes });
                }
            }
        }
        for (wrapped, key) in self.unwrap(wrapped).await? {
            let version = wrapped.version;
            found.insert(wrapped.id, KeyState::Live(StoredKey { key, version }));
        }
        Ok(found)
    }

    /// Unwraps keys, each by what wrapped it.
    async fn unwrap(
        &self,
        wrapped: Vec<WrappedKey>,
    ) -> Result<Vec<(WrappedKey, DataKey)>, KeyStoreError> {
        if wrapped.is_empty() {
            return Ok(Vec::new());
        }
        let keks = self.keks.clone();
        aside(move || {
            let mut by_kek: BTreeMap<String, Vec<WrappedKey>> = BTreeMap::new();
            for key in wrapped {
                by_kek.entry(key.kek_id.clone()).or_default().push(key);
            }
            let mut opened = Vec::new();
            for (kek_id, group) in by_kek {
                let foreign = |id: Uuid| KeyStoreError::Foreign { id, kek_id: kek_id.clone() };
                let first = group.first().map_or(Uuid::nil(), |key| key.id);
                let kek = keks.of(&kek_id).ok_or_else(|| foreign(first))?;
                let bindings: Vec<_> =
                    group.iter().map(|key| binding(key.id, key.version)).collect();
                let pairs: Vec<(&[u8], &[u8])> = group
                    .iter()
                    .zip(&bindings)
                    .map(|(key, binding)| (key.bytes.as_slice(), binding.as_slice()))
                    .collect();
                let keys = kek.unwrap(&pairs)?;
                for (wrapped, key) in group.into_iter().zip(keys) {
                    let key = key.map_err(|_| foreign(wrapped.id))?;
                    opened.push((wrapped, key));
                }
            }
            Ok(opened)
        })
        .await
    }

    /// Wraps live keys again, under the key that wraps now, that another one had wrapped: the next `limit` of them
    /// behind `after`. Who was destroyed stays so: a row without a key is passed over, and one whose key is
    /// destroyed meanwhile is not written. Gives where to go on, and how many; none: there are no more.
    ///
    /// The bytes of before stay in dead rows until [`Self::rewrite_all`].
    ///
    /// # Errors
    /// [`KeyStoreError`]; what was done before stands.
    pub async fn rewrap(
        &self,
        after: Uuid,
        limit: i64,
    ) -> Result<Option<(Uuid, u64)>, KeyStoreError> {
        const NEXT: &str = "
            SELECT id, wrapped, kek_id, version FROM keys
            WHERE id > $1 AND wrapped IS NOT NULL AND kek_id <> $2 ORDER BY id LIMIT $3";
        const WRITE: &str = "
            UPDATE keys SET wrapped = new.wrapped, kek_id = $4
            FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS new (id, before, wrapped)
            WHERE keys.id = new.id AND keys.wrapped = new.before";
        let rows = sqlx::query(NEXT)
            .bind(after)
            .bind(self.keks.current.id())
            .bind(limit)
            .fetch_all(&self.pool)
            .await?;
        let wrapped = rows
            .iter()
            .map(|row| {
                Ok(WrappedKey {
                    id: row.try_get("id")?,
                    version: row.try_get("version")?,
                    kek_id: row.try_get("kek_id")?,
                    bytes: row.try_get("wrapped")?,
                })
            })
            .collect::<Result<Vec<_>, sqlx::Error>>()?;
        let Some(last) = wrapped.last().map(|key| key.id) else { return Ok(None) };
        let (before, keys): (Vec<_>, Vec<_>) = self.unwrap(wrapped).await?.into_iter().unzip();
        let of = before.iter().map(|key: &WrappedKey| (key.id, key.version)).collect();
        let (_, wrapped) = wrap(&self.keks.current, of, keys).await?;
        let (ids, before): (Vec<_>, Vec<_>) =
            before.into_iter().map(|key| (key.id, key.bytes)).unzip();
        let written = sqlx::query(WRITE)
            .bind(ids)
            .bind(before)
            .bind(wrapped)
            .bind(self.keks.current.id())
            .execute(&self.pool)
            .await?;
        Ok(Some((last, written.rows_affected())))
    }

    /// Rewrites all table files, so that none holds bytes that were replaced or deleted.
    ///
    /// # Errors
    /// [`KeyStoreError`]: repeat it.
    pub async fn rewrite_all(&self) -> Result<(), KeyStoreError> {
        const PARTITIONS: &str = "
            SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'keys'::regclass";
        // One of its own, so that everything written before it is past when it is.
        let xid: String =
            sqlx::query_scalar("SELECT pg_current_xact_id()::text").fetch_one(&self.pool).await?;
        self.wait_for_readers(&xid).await?;
        let partitions: Vec<String> = sqlx::query_scalar(PARTITIONS).fetch_all(&self.pool).await?;
        self.rewrite(&partitions.into_iter().collect()).await
    }

    /// Removes keys that never sealed anything, such as those of people whose registration lost a
    /// race. Destroyed keys are left alone.
    ///
    /// # Errors
    /// [`KeyStoreError`].
    pub async fn discard_unused(&self, ids: &[Uuid]) -> Result<(), KeyStoreError> {
        sqlx::query("DELETE FROM keys WHERE id = ANY($1) AND destroyed_at IS NULL")
            .bind(ids)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Destroys keys, so that no table file holds their bytes, and leaves a tombstone for each,
    /// also where there was none. Repeating it is harmless, and needed after an error.
    /// Gives how many were alive before.
    ///
    /// # Errors
    /// [`KeyStoreError`]; the keys may be destroyed then, but their bytes may still be on disk.
    pub async fn destroy(&self, ids: &[Uuid]) -> Result<u64, KeyStoreError> {
        let mut transaction = self.pool.begin().await?;
        let alive: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM keys WHERE id = ANY($1) AND destroyed_at IS NULL ORDER BY id FOR UPDATE",
        )
        .bind(ids)
        .fetch_all(&mut *transaction)
        .await?;
        let rows = sqlx::query(
            "INSERT INTO keys AS stored (id, wrapped, kek_id, version, created_at, destroyed_at)
             SELECT id, NULL, $2, $3, $4, $4 FROM unnest($1::uuid[]) AS gone (id) ORDER BY id
             ON CONFLICT (id) DO UPDATE
                 SET wrapped = NULL, destroyed_at = coalesce(stored.destroyed_at, $4)
             RETURNING tableoid::regclass::text AS partition,
                       pg_current_xact_id()::text AS xid",
        )
        .bind(ids)
        .bind(self.keks.current.id())
        .bind(VERSION)
        .bind(self.clock.now().to_sqlx())
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;

        let mut partitions = BTreeSet::new();
        let mut xid = None;
        for row in &rows {
            partitions.insert(row.try_get::<String, _>("partition")?);
            xid = Some(row.try_get::<String, _>("xid")?);
        }
        if let Some(xid) = xid {
            self.wait_for_readers(&xid).await?;
            self.rewrite(&partitions).await?;
        }
        Ok(alive.len() as u64)
    }

    /// Waits until no transaction can see what `xid` has changed: a rewrite keeps rows that one
    /// still sees. One of this database may have a snapshot from before. And while any transaction
    /// of the *server* that is as old goes on writing, new snapshots, the rewrite's own too, reach
    /// back to it, whatever database it is in.
    async fn wait_for_readers(&self, xid: &str) -> Result<(), KeyStoreError> {
        let give_up = self.clock.boottime() + READERS_WAIT;
        while !self.is_past(xid).await? {
            if self.clock.boottime() >= give_up {
                return Err(KeyStoreError::StillVisible);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn is_past(&self, xid: &str) -> Result<bool, KeyStoreError> {
        Ok(sqlx::query_scalar(
            "SELECT pg_snapshot_xmin(pg_current_snapshot()) > $1::xid8
                AND NOT EXISTS (
                    SELECT FROM pg_stat_activity
                    WHERE (datname = current_database() OR backend_type = 'walsender')
                      AND pid <> pg_backend_pid()
                      AND age(backend_xmin) >= age($1::xid8::xid))
                AND NOT EXISTS (
                    SELECT FROM pg_replication_slots WHERE age(xmin) >= age($1::xid8::xid))",
        )
        .bind(xid)
        .fetch_one(&self.pool)
        .await?)
    }

    /// Rewrites table files, so that neither dead rows nor free space hold what was in them.
    async fn rewrite(&self, partitions: &BTreeSet<String>) -> Result<(), KeyStoreError> {
        // What is rewritten held bytes that are in the log too.
        self.destroyed.store(true, Ordering::Release);
        let mut connection = self.pool.acquire().await?.detach();
        sqlx::raw_sql(REWRITE_LOCK_TIMEOUT).execute(&mut connection).await?;
        for partition in partitions {
            // The name comes from the catalogue, not from a caller.
            sqlx::raw_sql(AssertSqlSafe(format!("VACUUM (FULL) {partition}")))
                .execute(&mut connection)
                .await?;
        }
        sqlx::Connection::close(connection).await?;
        Ok(())
    }

    /// How many of `ids` still have key bytes: 0 after a destruction.
    ///
    /// # Errors
    /// [`KeyStoreError`].
    pub async fn count_live(&self, ids: &[Uuid]) -> Result<u64, KeyStoreError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM keys WHERE id = ANY($1) AND (wrapped IS NOT NULL OR destroyed_at IS NULL)",
        )
        .bind(ids)
        .fetch_one(&self.pool)
        .await?;
        Ok(count.unsigned_abs())
    }

    /// Ids of live keys that were made before `moment`, oldest first, for keys that end by age.
    ///
    /// # Errors
    /// [`KeyStoreError`].
    pub async fn live_made_before(&self, moment: Timestamp) -> Result<Vec<Uuid>, KeyStoreError> {
        Ok(sqlx::query_scalar(
            "SELECT id FROM keys WHERE created_at < $1 AND destroyed_at IS NULL ORDER BY created_at",
        )
        .bind(moment.to_sqlx())
        .fetch_all(&self.pool)
        .await?)
    }

    /// Its database.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }
}

/// A key as it is stored, and what wrapped it.
struct WrappedKey {
    id: Uuid,
    version: i32,
    kek_id: String,
    bytes: Vec<u8>,
}

/// Wraps keys, each bound to its id and version, and gives both in order.
async fn wrap(
    kek: &Arc<dyn Kek>,
    of: Vec<(Uuid, i32)>,
    keys: Vec<DataKey>,
) -> Result<(Vec<DataKey>, Vec<Vec<u8>>), KeyStoreError> {
    let bindings: Vec<_> = of.into_iter().map(|(id, version)| binding(id, version)).collect();
    let kek = Arc::clone(kek);
    aside(move || {
        let pairs: Vec<(&DataKey, &[u8])> =
            keys.iter().zip(&bindings).map(|(key, binding)| (key, binding.as_slice())).collect();
        let wrapped = kek.wrap(&pairs)?;
        Ok((keys, wrapped))
    })
    .await
}

/// Does what may block on a thread where that holds nobody up.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and everything that waits with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.is_unique_violation())
}

/// What a wrapped key is bound to: its id and version.
fn binding(id: Uuid, version: i32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(id.as_bytes());
    bytes[16..].copy_from_slice(&version.to_be_bytes());
    bytes
}
