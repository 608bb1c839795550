//! Asking people for their consent: the rows behind the one message that may, and the renewals that are
//! due. It guarantees that a renewal is asked for once in its time, also after this service was away, and
//! never after the consent has ended; whether somebody may be asked is decided by the ledger, and
//! once more by the verdict when the message goes out.

use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_eventstore::batcher::Batcher;
use assent_runtime::Clock;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{CommandError, LedgerCommand, LedgerHandler, Wish};
use crate::domain::event::Question;
use crate::domain::scope::Scope;

/// How often renewals are looked for. Days matter here.
const PAUSE: Duration = Duration::from_secs(10);
const PAGE: i64 = 500;

/// Keeps who is asked what, and who did something of her own.
///
/// # Errors
/// When the database fails.
pub async fn keep(
    conn: &mut PgConnection,
    asks: &[(SubjectId, Question, Timestamp)],
    contacts: &[(SubjectId, Timestamp)],
) -> Result<(), sqlx::Error> {
    const ASK: &str = "
        INSERT INTO asks (request_id, subject_id, purpose, channel, asked_at)
        VALUES ($1, $2, $3, $4, $5)";
    const CONTACTS: &str = "
        INSERT INTO contacts (subject_id, contacted_at)
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[])
        ON CONFLICT (subject_id) DO UPDATE
            SET contacted_at = greatest(contacts.contacted_at, excluded.contacted_at)";
    for (subject, question, at) in asks {
        sqlx::query(ASK)
            .bind(question.request_id)
            .bind(subject)
            .bind(&question.scope.purpose)
            .bind(&question.scope.channel)
            .bind(at.to_sqlx())
            .execute(&mut *conn)
            .await?;
    }
    if !contacts.is_empty() {
        let (subjects, at): (Vec<SubjectId>, Vec<jiff_sqlx::Timestamp>) =
            contacts.iter().map(|(subject, at)| (*subject, at.to_sqlx())).unzip();
        sqlx::query(CONTACTS).bind(subjects).bind(at).execute(conn).await?;
    }
    Ok(())
}

/// Looks for renewals until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: failures are logged and tried again.
pub async fn run(
    pool: PgPool,
    batcher: Batcher<LedgerHandler>,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        if let Err(problem) = round(&pool, &batcher, &*clock).await {
            tracing::warn!(problem, "renewals wait");
        }
    }
    Ok(())
}

/// Asks for every renewal that is due; gives how many were asked for.
///
/// # Errors
/// What stands in the way; what was asked for stays so.
pub async fn round(
    pool: &PgPool,
    batcher: &Batcher<LedgerHandler>,
    clock: &dyn Clock,
) -> Result<usize, String> {
    // Who was asked for this consent's renewal has a question that is younger than the time for it.
    const DUE: &str = "
        SELECT c.subject_id, c.purpose, c.channel
        FROM consent_lines c JOIN purposes p USING (purpose)
        CROSS JOIN LATERAL (
            SELECT make_interval(days => (p.definition #>> '{ask,before_days}')::int) AS before
        ) ask
        WHERE c.state = 'given' AND c.valid_until > $1 AND p.definition -> 'ask' IS NOT NULL
          AND c.valid_until <= $1 + ask.before
          AND NOT EXISTS (
              SELECT FROM asks a WHERE a.subject_id = c.subject_id AND a.purpose = c.purpose
                AND a.channel = c.channel AND a.asked_at >= c.valid_until - ask.before)
          AND (c.subject_id, c.purpose, c.channel) > ($2, $3, $4)
        ORDER BY c.subject_id, c.purpose, c.channel LIMIT $5";
    let mut asked = 0;
    let mut last = (Uuid::nil(), String::new(), String::new());
    loop {
        let rows = sqlx::query(DUE)
            .bind(clock.now().to_sqlx())
            .bind(last.0)
            .bind(&last.1)
            .bind(&last.2)
            .bind(PAGE)
            .fetch_all(pool)
            .await
            .map_err(|error| error.to_string())?;
        let mut asking = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || Ok::<_, sqlx::Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            last = read().map_err(|error| error.to_string())?;
            let (subject, purpose, channel) = &last;
            let command = LedgerCommand {
                subject: *subject,
                wish: Wish::Ask { scope: Scope::new(purpose, channel), locale: None },
                idempotency: None,
                traceparent: None,
            };
            let batcher = batcher.clone();
            asking.push(tokio::spawn(async move { batcher.run(command).await }));
        }
        for task in asking {
            match task.await.map_err(|error| error.to_string())? {
                Ok(_) => asked += 1,
                Err(CommandError::Store(error)) => return Err(error.to_string()),
                // She has said something since, or may not be asked: then she isn't.
                Err(refusal) => tracing::debug!(%refusal, "a renewal is not asked for"),
            }
        }
        if rows.len() < PAGE as usize {
            return Ok(asked);
        }
    }
}
