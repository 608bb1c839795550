//! The key store: wrapped keys in a Postgres database of their own, which is never part of a data
//! backup. It guarantees that a destroyed key can't be minted again, that "never had one" and
//! "destroyed" differ for ever, and that once [`KeyStore::destroy`] has answered no table file
//! holds the wrapped bytes any more. Keys handed out before are the callers' leases.
//!
//! **Write-ahead log.** A wrapped key is written to WAL when it is minted, and again when its
//! table file is rewritten for the destruction of a neighbour. Those segments are removed at the
//! second checkpoint after, so within 2 × `checkpoint_timeout` (10 minutes by default), given
//! `wal_recycle = off` on the key store's server (otherwise old segments are reused, with their
//! bytes in them until overwritten) and no WAL archive but one under daily keys that expire.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use assent_runtime::{Clock, Ids};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, PgPool, Row};
use uuid::Uuid;

use crate::{DataKey, Kek};

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
    /// A stored key doesn't unwrap: it was wrapped by another key-encryption key.
    #[error("key store: key {id} was wrapped by {kek_id}, which is not the one configured")]
    Foreign {
        /// The key.
        id: Uuid,
        /// What wrapped it.
        kek_id: String,
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
    kek: Arc<dyn Kek>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl KeyStore {
    /// A store on its own database.
    #[must_use]
    pub fn new(pool: PgPool, kek: Arc<dyn Kek>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { pool, kek, clock, ids }
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
        let wrapped: Vec<Vec<u8>> = ids
            .iter()
            .zip(&keys)
            .map(|(id, key)| self.kek.wrap(key, &binding(*id, VERSION)))
            .collect();
        // Nearly always all are new; asking Postgres to expect conflicts costs half as much again.
        let insert = |sql: &'static str| {
            sqlx::query_scalar(sql)
                .bind(ids)
                .bind(&wrapped)
                .bind(self.kek.id())
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
        for row in rows {
            let id: Uuid = row.try_get("id")?;
            let state = match row.try_get::<Option<&[u8]>, _>("wrapped")? {
                None => KeyState::Destroyed,
                Some(wrapped) => {
                    let version = row.try_get("version")?;
                    let key = self.kek.unwrap(wrapped, &binding(id, version));
                    let kek_id = || row.try_get("kek_id").unwrap_or_default();
                    let key = key.map_err(|_| KeyStoreError::Foreign { id, kek_id: kek_id() })?;
                    KeyState::Live(StoredKey { key, version })
                }
            };
            found.insert(id, state);
        }
        Ok(found)
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
        .bind(self.kek.id())
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
