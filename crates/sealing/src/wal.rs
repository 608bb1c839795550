//! The write-ahead log of the key store's server. It guarantees that the bytes of destroyed keys leave it within
//! [`GONE_WITHIN`], also on a server where nothing else happens, or says what keeps them: a segment that is being
//! written stays for ever on an idle server, so it is ended, and the checkpoint that removes it is asked for or waited
//! for. Standbys and archives have a log of their own.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::PgExecutor;

use crate::keystore::{KeyStore, KeyStoreError};

/// How long after a destruction its bytes may stand in a file of the server.
pub const GONE_WITHIN: Duration = Duration::from_secs(60 * 60);
/// How often the log is looked after, if a key was destroyed since.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// How long a checkpoint is waited for: what is left of the bound, with room for a look that comes late.
const PATIENCE: Duration = Duration::from_secs(40 * 60);
/// Between two looks whether the checkpoint has been made.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What a role may not do.
const NOT_ALLOWED: &str = "42501";

const SEGMENT_NOW: &str = "
    SELECT div(pg_current_wal_insert_lsn() - '0/0'::pg_lsn,
               pg_size_bytes(current_setting('wal_segment_size')))::bigint";
/// Segments before this one were removed by the last checkpoint.
const SEGMENT_KEPT: &str = "
    SELECT div(redo_lsn - '0/0'::pg_lsn,
               pg_size_bytes(current_setting('wal_segment_size')))::bigint
    FROM pg_control_checkpoint()";
/// Segments that are used again still hold what was in them.
const KEEPS: &str = "
    SELECT CASE WHEN current_setting('wal_recycle')::bool THEN 'wal_recycle'
                WHEN current_setting('wal_keep_size') <> '0' THEN 'wal_keep_size' END";
const SLOT_KEEPS: &str = "
    SELECT EXISTS (
        SELECT FROM pg_replication_slots
        WHERE div(restart_lsn - '0/0'::pg_lsn,
                  pg_size_bytes(current_setting('wal_segment_size'))) <= $1)";

/// Where the bytes of destroyed keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wal {
    /// In no segment of the server any more.
    Left,
    /// Perhaps still in one, because of this.
    Kept(String),
}

/// The setting of the server by which segments of its log outlive checkpoints, if one does, as this session sees it.
///
/// # Errors
/// When the database fails.
pub async fn keeps_segments(server: impl PgExecutor<'_>) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(KEEPS).fetch_one(server).await
}

impl KeyStore {
    /// Sees to it that no segment of the log holds the bytes of a key that was destroyed before. Whoever may
    /// (`pg_checkpoint`, and `EXECUTE` on `pg_switch_wal()`) does it at once; others fill the segment and wait for the
    /// server's next checkpoint, at most for so long.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn leave_wal(&self, patience: Duration) -> Result<Wal, KeyStoreError> {
        if let Some(setting) = keeps_segments(self.pool()).await? {
            return Ok(Wal::Kept(setting));
        }
        let last = self.segment(SEGMENT_NOW).await?;
        self.end_segment(last).await?;
        let give_up = self.clock().boottime() + patience;
        let mut beyond = last;
        loop {
            let held: bool =
                sqlx::query_scalar(SLOT_KEEPS).bind(last).fetch_one(self.pool()).await?;
            if held {
                // A checkpoint that is made meanwhile removes nothing.
                beyond = beyond.max(self.segment(SEGMENT_KEPT).await?);
            } else if self.may("CHECKPOINT").await? || self.segment(SEGMENT_KEPT).await? > beyond {
                return Ok(Wal::Left);
            }
            if self.clock().boottime() >= give_up {
                let by = if held { "a replication slot" } else { "no checkpoint in time" };
                return Ok(Wal::Kept(by.to_owned()));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Looks after the log for ever: each time that keys were destroyed since the last time, and once after a start,
    /// since one of before may have been.
    pub async fn keep_out_of_wal(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if !self.destroyed().swap(false, Ordering::AcqRel) {
                continue;
            }
            match self.leave_wal(PATIENCE).await {
                Ok(Wal::Left) => {}
                Ok(Wal::Kept(by)) => {
                    self.destroyed().store(true, Ordering::Release);
                    tracing::warn!(%by, "the log of the key store's server may still hold destroyed keys");
                }
                Err(error) => {
                    self.destroyed().store(true, Ordering::Release);
                    tracing::warn!(%error, "the log of the key store's server isn't looked after");
                }
            }
        }
    }

    /// Ends the segment that is being written.
    async fn end_segment(&self, last: i64) -> Result<(), sqlx::Error> {
        const FILL: &str = "SELECT pg_logical_emit_message(false, 'assent', repeat(' ', 1048576))";
        if self.may("SELECT pg_switch_wal()").await? {
            return Ok(());
        }
        while self.segment(SEGMENT_NOW).await? <= last {
            sqlx::raw_sql(FILL).execute(self.pool()).await?;
        }
        Ok(())
    }

    /// Does it; not: this role may not.
    async fn may(&self, sql: &'static str) -> Result<bool, sqlx::Error> {
        match sqlx::raw_sql(sql).execute(self.pool()).await {
            Ok(_) => Ok(true),
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NOT_ALLOWED) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn segment(&self, sql: &'static str) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(sql).fetch_one(self.pool()).await
    }
}
