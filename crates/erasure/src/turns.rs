//! Whose turn it is. It guarantees that people of bulks and those who came alone take turns, so that whoever came alone
//! is behind no bulk, nor behind its repeats where somebody is silent; what is done in a turn is the driver's.

use assent_contracts::SubjectId;
use jiff_sqlx::ToSqlx as _;

use crate::store::Sagas;

/// Most sagas that are moved on in one transaction.
pub const TOGETHER: i64 = 100;
/// Most people of bulks that may be under way: half of all, so that others find room however many a bulk has.
pub const BULK_WINDOW_MAX: i64 = UNDER_WAY_MAX / 2;
/// Most sagas that are under way before another is begun.
const UNDER_WAY_MAX: i64 = 2_000;

/// Who is due, in turns, and how many are under way; of each kind those who are under way come first. Of those who
/// wait for their first step none is begun while too many are under way: their commands would be repeated before they
/// can be answered. Those that are overdue don't count: whoever is silent keeps nobody from being fenced.
///
/// # Errors
/// When the database fails.
pub async fn due(sagas: &Sagas) -> Result<(Vec<SubjectId>, u32), sqlx::Error> {
    const UNDER_WAY: &str = "
        SELECT count(*) FROM requests
        WHERE look_at IS NOT NULL AND status NOT IN ('requested', 'on_hold', 'incomplete')";
    // A join and no EXISTS: that would be priced so high that Postgres compiles the query each time.
    const DUE: &str = "
        SELECT subject_id
        FROM (VALUES (false), (true)) AS born (in_bulk) CROSS JOIN LATERAL (
            SELECT subject_id, row_number() OVER (ORDER BY is_new, look_at) AS turn
            FROM (
                SELECT r.subject_id, r.look_at, r.status = 'requested' AS is_new
                FROM requests r
                LEFT JOIN bulk_people p
                    ON p.request_id = r.request_id AND p.request_id IS NOT NULL AND NOT p.done
                WHERE r.look_at <= $1 AND (r.status <> 'requested' OR $3)
                  AND (p.request_id IS NOT NULL) = in_bulk
                ORDER BY is_new, look_at LIMIT $2) AS due) AS turns
        ORDER BY turn, in_bulk LIMIT $2";
    let pool = sagas.store.pool();
    let under_way: i64 = sqlx::query_scalar(UNDER_WAY).fetch_one(pool).await?;
    let due = sqlx::query_scalar(DUE)
        .bind(sagas.clock.now().to_sqlx())
        .bind(TOGETHER)
        .bind(under_way < UNDER_WAY_MAX)
        .fetch_all(pool)
        .await?;
    Ok((due, u32::try_from(under_way).unwrap_or(u32::MAX)))
}
