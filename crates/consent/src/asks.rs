//! Asking people for their consent: the rows behind the one message that may, and the renewals that are
//! due. It guarantees that a renewal is asked for once in its time, also after this service was away, and
//! never after the consent has ended; whether somebody may be asked is decided by the ledger, and
//! once more by the verdict when the message goes out.

use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::consent::AskKind;
use assent_eventstore::batcher::Batcher;
use assent_runtime::Clock;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{LedgerCommand, LedgerHandler, Wish};
use crate::domain::event::Question;
use crate::domain::scope::Scope;
use crate::policy;

/// How often renewals are looked for. Days matter here.
const PAUSE: Duration = Duration::from_secs(60);
const PAGE: i64 = 500;
/// The one channel by which people are asked.
pub const CHANNEL: &str = "whatsapp";

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
        INSERT INTO asks (request_id, subject_id, purpose, channel, asked_at, renews)
        VALUES ($1, $2, $3, $4, $5, $6)";
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
            .bind(question.kind == AskKind::Renewal)
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

/// Takes back what messages might have asked people who have said no.
///
/// # Errors
/// When the database fails.
pub async fn drop(conn: &mut PgConnection, noes: &[(SubjectId, Scope)]) -> Result<(), sqlx::Error> {
    const DROP: &str = "
        DELETE FROM asks USING unnest($1::uuid[], $2::text[], $3::text[]) AS no (subject, purpose, channel)
        WHERE asks.subject_id = no.subject AND no.purpose IN ('*', asks.purpose)
          AND no.channel IN ('*', asks.channel)";
    if noes.is_empty() {
        return Ok(());
    }
    let subjects: Vec<SubjectId> = noes.iter().map(|(subject, _)| *subject).collect();
    let purposes: Vec<&str> = noes.iter().map(|(_, scope)| &*scope.purpose).collect();
    let channels: Vec<&str> = noes.iter().map(|(_, scope)| &*scope.channel).collect();
    sqlx::query(DROP).bind(subjects).bind(purposes).bind(channels).execute(conn).await.map(|_| ())
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
    let failed = |error: sqlx::Error| error.to_string();
    let mut conn = pool.acquire().await.map_err(failed)?;
    let purposes = policy::purposes(&mut conn).await.map_err(failed)?;
    let mut asked = 0;
    for (purpose, defined) in purposes {
        let Some(asking) = defined.ask else { continue };
        let scope = Scope::new(&purpose, CHANNEL);
        let before = SignedDuration::from_hours(24 * i64::from(asking.before_days));
        asked += renew(&mut conn, batcher, clock, &scope, before).await?;
    }
    Ok(asked)
}

async fn renew(
    conn: &mut PgConnection,
    batcher: &Batcher<LedgerHandler>,
    clock: &dyn Clock,
    scope: &Scope,
    before: SignedDuration,
) -> Result<usize, String> {
    // Who was asked for this consent's renewal has a question that is younger than the time for it.
    const DUE: &str = "
        SELECT subject_id, valid_until FROM consent_lines c
        WHERE state = 'given' AND purpose = $1 AND channel = $2
          AND valid_until > $3 AND valid_until <= $4
          AND (valid_until, subject_id) > ($5, $6)
          AND NOT EXISTS (SELECT FROM asks a WHERE a.subject_id = c.subject_id
                          AND a.purpose = $1 AND a.channel = $2 AND a.renews
                          AND a.asked_at >= c.valid_until - make_interval(secs => $7))
        ORDER BY valid_until, subject_id LIMIT $8";
    let now = clock.now();
    let until = now.checked_add(before).unwrap_or(Timestamp::MAX);
    let mut asked = 0;
    let mut last = (now, Uuid::nil());
    loop {
        let rows = sqlx::query(DUE)
            .bind(&scope.purpose)
            .bind(&scope.channel)
            .bind(now.to_sqlx())
            .bind(until.to_sqlx())
            .bind(last.0.to_sqlx())
            .bind(last.1)
            .bind(before.as_secs_f64())
            .bind(PAGE)
            .fetch_all(&mut *conn)
            .await
            .map_err(|error| error.to_string())?;
        let mut commands = Vec::with_capacity(rows.len());
        for row in &rows {
            let read = || -> Result<_, sqlx::Error> {
                Ok((row.try_get::<jiff_sqlx::Timestamp, _>(1)?.to_jiff(), row.try_get(0)?))
            };
            last = read().map_err(|error| error.to_string())?;
            let wish = Wish::Ask { scope: scope.clone(), locale: None };
            commands.push(LedgerCommand::of_ours(last.1, wish));
        }
        for outcome in batcher.run_each(commands).await {
            match outcome {
                Ok(_) => asked += 1,
                // She has said something since, or may not be asked: then she isn't.
                Err(error) if error.lasts() => {
                    tracing::debug!(%error, "a renewal is not asked for")
                }
                Err(error) => tracing::warn!(%error, "a renewal waits"),
            }
        }
        if rows.len() < PAGE as usize {
            return Ok(asked);
        }
    }
}
