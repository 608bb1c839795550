//! Calls that were not taken yet, in Postgres. It guarantees that a call is queued in the transaction of what it
//! tells, that of two calls about one person the earlier goes first (those about one purpose's data beside the others: whoever
//! doesn't take them still hears that the whole person is erased), and that no two replicas make the same call at once.

use assent_contracts::SubjectId;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

/// For how long a call is nobody else's: longer than it can take. Whoever dies with it leaves it until then.
const CLAIMED: SignedDuration = SignedDuration::from_secs(30);
/// Calls to one participant at once.
const TOGETHER: i64 = 8;

/// A participant that is to be called.
#[derive(Debug, Clone)]
pub struct Callee {
    /// Its name.
    pub name: String,
    /// Where.
    pub url: String,
    /// The ids of its secrets.
    pub secrets: Vec<Uuid>,
}

/// A call.
#[derive(Debug)]
pub struct Call {
    /// What it tells: a command or an inquiry.
    pub message_id: Uuid,
    /// Its own id, the same in each try.
    pub event_id: Uuid,
    /// The body.
    pub body: String,
    /// How often it was tried before.
    pub tries: i32,
}

/// What is to be told.
#[derive(Debug)]
pub struct Told<'a> {
    /// The command or the inquiry.
    pub message_id: Uuid,
    /// The id of the event.
    pub event_id: Uuid,
    /// Whom it concerns.
    pub subject: SubjectId,
    /// The event.
    pub body: &'a str,
    /// Whether it is a command about one purpose's data.
    pub of_purpose: bool,
    /// When.
    pub at: Timestamp,
}

/// Queues a call to each of these that has an address, unless one that tells the same waits.
///
/// # Errors
/// When the database fails.
pub async fn queue(
    conn: &mut PgConnection,
    participants: &[String],
    told: &Told<'_>,
) -> Result<(), sqlx::Error> {
    const QUEUE: &str = "
        INSERT INTO webhooks (participant, message_id, event_id, subject_id, body, look_at, of_purpose)
        SELECT name, $2, $3, $4, $5, $6, $7 FROM participants
        WHERE name = ANY($1) AND webhook_url IS NOT NULL ORDER BY name
        ON CONFLICT (participant, message_id) DO NOTHING";
    sqlx::query(QUEUE)
        .bind(participants)
        .bind(told.message_id)
        .bind(told.event_id)
        .bind(told.subject)
        .bind(told.body)
        .bind(told.at.to_sqlx())
        .bind(told.of_purpose)
        .execute(conn)
        .await?;
    Ok(())
}

/// Drops a call: it was taken, or answered without having been.
///
/// # Errors
/// When the database fails.
pub async fn settle(
    conn: &mut PgConnection,
    participant: &str,
    message_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM webhooks WHERE participant = $1 AND message_id = $2")
        .bind(participant)
        .bind(message_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Who is to be called now. Nobody who is suspended; who left still has to answer, and so is called.
///
/// # Errors
/// When the database fails.
pub async fn callees(pool: &PgPool, now: Timestamp) -> Result<Vec<Callee>, sqlx::Error> {
    const CALLEES: &str = "
        SELECT name, webhook_url, webhook_secret, webhook_secret_before FROM participants
        WHERE webhook_url IS NOT NULL AND webhook_secret IS NOT NULL AND suspended_at IS NULL
          AND EXISTS (
              SELECT FROM webhooks due
              WHERE due.participant = name AND due.look_at <= $1
                AND NOT EXISTS (
                    SELECT FROM webhooks earlier
                    WHERE earlier.participant = due.participant
                      AND earlier.subject_id = due.subject_id
                      AND earlier.of_purpose = due.of_purpose AND earlier.place < due.place))
        ORDER BY name";
    let callee = |row: &PgRow| -> Result<Callee, sqlx::Error> {
        let secrets: [Option<Uuid>; 2] = [row.try_get(2)?, row.try_get(3)?];
        Ok(Callee {
            name: row.try_get(0)?,
            url: row.try_get(1)?,
            secrets: secrets.into_iter().flatten().collect(),
        })
    };
    let rows = sqlx::query(CALLEES).bind(now.to_sqlx()).fetch_all(pool).await?;
    rows.iter().map(callee).collect()
}

/// Takes the calls that are to be made to a participant now, of each person the first.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    pool: &PgPool,
    participant: &str,
    now: Timestamp,
) -> Result<Vec<Call>, sqlx::Error> {
    const CLAIM: &str = "
        WITH due AS MATERIALIZED (
            SELECT w.participant, w.message_id FROM webhooks w
            WHERE w.participant = $1 AND w.look_at <= $2
              AND NOT EXISTS (
                  SELECT FROM webhooks earlier
                  WHERE earlier.participant = w.participant
                    AND earlier.subject_id = w.subject_id
                    AND earlier.of_purpose = w.of_purpose AND earlier.place < w.place)
            ORDER BY w.look_at, w.place LIMIT $4 FOR UPDATE OF w SKIP LOCKED)
        UPDATE webhooks SET look_at = $3, tries = webhooks.tries + 1
        FROM due
        WHERE webhooks.participant = due.participant AND webhooks.message_id = due.message_id
        RETURNING webhooks.message_id, webhooks.event_id, webhooks.body, webhooks.tries - 1";
    let until = now.checked_add(CLAIMED).unwrap_or(Timestamp::MAX);
    let rows = sqlx::query(CLAIM)
        .bind(participant)
        .bind(now.to_sqlx())
        .bind(until.to_sqlx())
        .bind(TOGETHER)
        .fetch_all(pool)
        .await?;
    let call = |row: &PgRow| -> Result<Call, sqlx::Error> {
        Ok(Call {
            message_id: row.try_get(0)?,
            event_id: row.try_get(1)?,
            body: row.try_get(2)?,
            tries: row.try_get(3)?,
        })
    };
    rows.iter().map(call).collect()
}

/// Sets when a call that was not taken is made again.
///
/// # Errors
/// When the database fails.
pub async fn put_off(
    pool: &PgPool,
    participant: &str,
    message_id: Uuid,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE webhooks SET look_at = $3 WHERE participant = $1 AND message_id = $2")
        .bind(participant)
        .bind(message_id)
        .bind(at.to_sqlx())
        .execute(pool)
        .await?;
    Ok(())
}

/// Gives a participant another secret; the one before goes on signing beside it, and the one before that no more.
/// None: it has no address, or nobody has this name.
///
/// # Errors
/// When the database fails.
pub async fn rotate(pool: &PgPool, name: &str, secret: Uuid) -> Result<Option<Uuid>, sqlx::Error> {
    const ROTATE: &str = "
        UPDATE participants SET webhook_secret_before = webhook_secret, webhook_secret = $2
        WHERE name = $1 AND webhook_url IS NOT NULL RETURNING webhook_secret";
    sqlx::query_scalar(ROTATE).bind(name).bind(secret).fetch_optional(pool).await
}

/// Ends a rotation: only the newest secret signs. Tells whether there is such a participant.
///
/// # Errors
/// When the database fails.
pub async fn end_rotation(pool: &PgPool, name: &str) -> Result<bool, sqlx::Error> {
    let ended = sqlx::query("UPDATE participants SET webhook_secret_before = NULL WHERE name = $1")
        .bind(name)
        .execute(pool)
        .await?;
    Ok(ended.rows_affected() == 1)
}
