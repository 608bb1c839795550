//! Evidence that may be wanted in a dispute ends after the term that the configuration sets: what the gate answered to
//! who was about to send, and claims of consents with what became of them. It guarantees that nothing younger than the
//! configuration says goes, nor anything of somebody who had its use restricted, who may need it herself (GDPR
//! Article 18(1)(c)). Her words with their evidence are her ledger: they go with her.

use assent_participant::Keeping;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool};

/// Rows that end in one transaction.
const TOGETHER: i64 = 500;

macro_rules! verdicts {
    () => {
        "b.at < $1 AND NOT EXISTS (SELECT FROM restrictions r WHERE r.subject_id = ANY(b.subjects))"
    };
}

macro_rules! older_verdicts {
    () => {
        "p.at < $1 AND NOT EXISTS (SELECT FROM restrictions r WHERE r.subject_id = p.subject_id)"
    };
}

/// Of batches that were decided, or that nobody ever decided on; what is being carried out is neither.
macro_rules! claims {
    () => {
        "coalesce(b.decided_at, b.submitted_at) < $1 AND b.state <> 'approved'
         AND NOT EXISTS (SELECT FROM restrictions r WHERE r.subject_id = c.subject_id)"
    };
}

/// How much would go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Due {
    /// Verdicts that were given to who was about to send.
    pub verdicts: i64,
    /// Claims of consents.
    pub claims: i64,
}

/// How much is older than this.
///
/// # Errors
/// When the database fails.
pub async fn due(conn: &mut PgConnection, older: Timestamp) -> Result<Due, sqlx::Error> {
    const DUE: &str = concat!(
        "SELECT (SELECT coalesce(sum(cardinality(b.subjects)), 0)::bigint
                 FROM permit_batches b WHERE ",
        verdicts!(),
        ") + (SELECT count(*) FROM permits p WHERE ",
        older_verdicts!(),
        "), (SELECT count(*) FROM claims c JOIN claim_batches b USING (batch_id) WHERE ",
        claims!(),
        ")"
    );
    let (verdicts, claims): (i64, i64) =
        sqlx::query_as(DUE).bind(older.to_sqlx()).fetch_one(conn).await?;
    Ok(Due { verdicts, claims })
}

/// Ends what is kept for so many days; gives how many rows. Any number of replicas may.
///
/// # Errors
/// When the database fails; what has ended stays so.
pub async fn forget(pool: &PgPool, days: u32, now: Timestamp) -> Result<u64, sqlx::Error> {
    const VERDICTS: &str = concat!(
        "DELETE FROM permit_batches WHERE batch_id IN (
             SELECT b.batch_id FROM permit_batches b WHERE ",
        verdicts!(),
        " LIMIT $2 FOR UPDATE OF b SKIP LOCKED)"
    );
    const OLDER_VERDICTS: &str = concat!(
        "DELETE FROM permits WHERE (subject_id, permit_id) IN (
             SELECT p.subject_id, p.permit_id FROM permits p WHERE ",
        older_verdicts!(),
        " LIMIT $2 FOR UPDATE OF p SKIP LOCKED)"
    );
    const CLAIMS: &str = concat!(
        "DELETE FROM claims WHERE (batch_id, subject_id) IN (
             SELECT c.batch_id, c.subject_id FROM claims c JOIN claim_batches b USING (batch_id)
             WHERE ",
        claims!(),
        " LIMIT $2 FOR UPDATE OF c SKIP LOCKED)"
    );
    let older = Keeping::over(days, now).to_sqlx();
    let mut all = 0;
    for forget in [VERDICTS, OLDER_VERDICTS, CLAIMS] {
        loop {
            let piece = sqlx::query(forget).bind(older).bind(TOGETHER).execute(pool).await?;
            all += piece.rows_affected();
            if piece.rows_affected() < TOGETHER.unsigned_abs() {
                break;
            }
        }
    }
    Ok(all)
}
