//! What stands against an address ends when nobody here has it and nothing was said against it for as long as the
//! configuration says. It guarantees that nothing ends of an address that somebody is linked to, whatever its age,
//! also while a link is being written; how somebody comes in again is the vault's.
//!
//! Nobody becomes contactable by it: whoever is imported with such a number later has no consent, and a claim of one
//! that is older than what has ended is refused ([`crate::claims`]).

use assent_participant::Keeping;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool};

use crate::links::LINKING_LOCK;

/// Rows that end in one transaction: links wait for it.
const TOGETHER: i64 = 1_000;

macro_rules! over {
    () => {
        "greatest(g.heard_at, g.changed_at) < $1
         AND NOT EXISTS (SELECT FROM gate_links l WHERE l.token = g.token)"
    };
}

/// How many closed addresses there are that nobody here has.
///
/// # Errors
/// When the database fails.
pub async fn kept(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    const KEPT: &str = "
        SELECT count(*) FROM gate_rows g
        WHERE NOT EXISTS (SELECT FROM gate_links l WHERE l.token = g.token)";
    sqlx::query_scalar(KEPT).fetch_one(conn).await
}

/// How many of them heard nothing since before `older`.
///
/// # Errors
/// When the database fails.
pub async fn due(conn: &mut PgConnection, older: Timestamp) -> Result<i64, sqlx::Error> {
    const DUE: &str = concat!("SELECT count(*) FROM gate_rows g WHERE ", over!());
    sqlx::query_scalar(DUE).bind(older.to_sqlx()).fetch_one(conn).await
}

/// Ends them when they are kept for so many days; gives how many. Any number of replicas may.
///
/// # Errors
/// When the database fails; what has ended stays so.
pub async fn forget(pool: &PgPool, days: u32, now: Timestamp) -> Result<u64, sqlx::Error> {
    const FORGET: &str = concat!(
        "WITH ended AS (
             SELECT g.token FROM gate_rows g WHERE ",
        over!(),
        " ORDER BY greatest(g.heard_at, g.changed_at) LIMIT $2 FOR UPDATE OF g SKIP LOCKED)
         DELETE FROM gate_rows USING ended WHERE gate_rows.token = ended.token"
    );
    let older = Keeping::over(days, now);
    let mut all = 0;
    // As a rule there is none, and then no link waits.
    if due(&mut *pool.acquire().await?, older).await? == 0 {
        return Ok(all);
    }
    loop {
        let mut transaction = pool.begin().await?;
        // Two statements: the second one's snapshot must begin after the lock is held, so that no link is being
        // written that it doesn't see.
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LINKING_LOCK)
            .execute(&mut *transaction)
            .await?;
        let piece = sqlx::query(FORGET)
            .bind(older.to_sqlx())
            .bind(TOGETHER)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        all += piece.rows_affected();
        if piece.rows_affected() < TOGETHER.unsigned_abs() {
            return Ok(all);
        }
    }
}
