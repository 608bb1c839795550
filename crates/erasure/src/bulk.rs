//! Makes requests of the people of bulks, a few at a time. It guarantees that each becomes one request, whoever dies
//! when, and that no more than a window of them are under way: whoever asks for one erasure isn't behind all of them.
//! From there each is a request like any other.

use std::convert::Infallible;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::consent::Actor;
use assent_contracts::rights::{IdentityMethod, RequestKind};
use assent_eventstore::{StoreError, to_the_end};
use assent_http::{Code, Problem};
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::Opening;
use crate::domain::request::Check;
use crate::http::{App, NewRequest, stop_marketing, store_problem, terms};

/// Taken by the one replica that works on bulks.
const LOCK: i64 = 0x0062_756c_6b31;
/// Most people whose requests are made at the same time: each waits for one lease.
const TOGETHER: i64 = 64;
/// When what wasn't submitted is dropped.
const DROPPED_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Somebody whose request is to be made.
struct Waiting {
    bulk_id: Uuid,
    line: i64,
    subject: SubjectId,
    number_country: Option<String>,
    place: Option<String>,
    reason: String,
    key: String,
    received_at: Timestamp,
}

/// Works until `stopping`. Any number of replicas may; one of them does.
///
/// # Errors
/// Never: failures are logged and tried again.
pub async fn run(app: App, stopping: CancellationToken) -> Result<(), Infallible> {
    while !stopping.is_cancelled() {
        let pause = match round(&app).await {
            Ok(0) => app.archivist.pace.poll,
            Ok(_) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, "the people of bulks wait");
                app.archivist.pace.retry
            }
        };
        if stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            break;
        }
    }
    Ok(())
}

/// Makes requests of the next people, as far as there is room; gives of how many.
async fn round(app: &App) -> Result<usize, sqlx::Error> {
    const LEAD: &str = "SELECT pg_try_advisory_xact_lock($1)";
    const DONE: &str = "
        UPDATE bulk_people p SET done = true FROM subject_requests s
        WHERE s.request_id = p.request_id AND NOT p.done AND s.closed_at IS NOT NULL";
    const DROP: &str = "DELETE FROM bulks WHERE submitted_at IS NULL AND opened_at < $1";
    let pool = app.sagas.store.pool();
    // Held until the end of the round; if this replica dies it goes with its connection.
    let mut lead = pool.begin().await?;
    let leads: bool = sqlx::query_scalar(LEAD).bind(LOCK).fetch_one(&mut *lead).await?;
    if !leads {
        return Ok(0);
    }
    let old = app.sagas.clock.now().checked_sub(DROPPED_AFTER).unwrap_or(Timestamp::UNIX_EPOCH);
    sqlx::query(DROP).bind(old.to_sqlx()).execute(pool).await?;
    sqlx::query(DONE).execute(pool).await?;
    let room = app.archivist.pace.bulk_window - under_way(pool).await?;
    if room <= 0 {
        return Ok(0);
    }
    let waiting = waiting(pool, room.min(TOGETHER)).await?;
    let mut making = JoinSet::new();
    for one in waiting {
        let app = app.clone();
        making.spawn(async move { settle(&app, one).await });
    }
    let mut made = 0;
    for settled in making.join_all().await {
        made += usize::from(settled?);
    }
    lead.commit().await?;
    if made > 0 {
        app.wake.notify_one();
    }
    Ok(made)
}

/// How many are under way. Those that a hold or a silent participant keeps waiting make room for others.
async fn under_way(pool: &PgPool) -> Result<i64, sqlx::Error> {
    const UNDER_WAY: &str = "
        SELECT count(*) FROM bulk_people p LEFT JOIN requests r ON r.request_id = p.request_id
        WHERE p.request_id IS NOT NULL AND NOT p.done
          AND (r.status IS NULL OR r.status NOT IN ('on_hold', 'incomplete'))";
    sqlx::query_scalar(UNDER_WAY).fetch_one(pool).await
}

async fn waiting(pool: &PgPool, limit: i64) -> Result<Vec<Waiting>, sqlx::Error> {
    const WAITING: &str = "
        SELECT p.bulk_id, p.line, p.subject_id, p.number_country, b.place, b.reason, b.key,
               b.received_at
        FROM bulk_people p JOIN bulks b USING (bulk_id)
        WHERE p.request_id IS NULL AND p.problem IS NULL AND b.submitted_at IS NOT NULL
        ORDER BY b.submitted_at, p.bulk_id, p.line LIMIT $1";
    let rows = sqlx::query(WAITING).bind(limit).fetch_all(pool).await?;
    let one = |row: &PgRow| {
        Ok(Waiting {
            bulk_id: row.try_get(0)?,
            line: row.try_get(1)?,
            subject: row.try_get(2)?,
            number_country: row.try_get(3)?,
            place: row.try_get(4)?,
            reason: row.try_get(5)?,
            key: row.try_get(6)?,
            received_at: row.try_get::<SqlTimestamp, _>(7)?.to_jiff(),
        })
    };
    rows.iter().map(one).collect()
}

/// Makes the request and notes it; whether one is there now. What can't be done at the moment is left for later.
async fn settle(app: &App, one: Waiting) -> Result<bool, sqlx::Error> {
    const NOTE: &str = "
        UPDATE bulk_people SET request_id = $3, problem = $4 WHERE bulk_id = $1 AND line = $2";
    // One line, one request: whoever died before noting it makes no second.
    let request_id = Uuid::new_v5(&one.bulk_id, &one.line.to_be_bytes());
    let (bulk_id, line) = (one.bulk_id, one.line);
    let (made, problem) = match make(app, one, request_id).await {
        Ok(()) => (Some(request_id), None),
        Err(problem) if lasts(problem.code) => (None, Some(problem.code.to_string())),
        Err(problem) => {
            tracing::warn!(code = %problem.code, "somebody of a bulk waits");
            return Ok(false);
        }
    };
    let note = sqlx::query(NOTE).bind(bulk_id).bind(line).bind(made).bind(problem);
    note.execute(app.sagas.store.pool()).await?;
    Ok(made.is_some())
}

/// Whether it is no use to try again.
fn lasts(code: Code) -> bool {
    matches!(code, Code::ValidationFailed | Code::MalformedBody)
}

async fn make(app: &App, one: Waiting, request_id: Uuid) -> Result<(), Problem> {
    let Waiting { subject, number_country, place, reason, key, received_at, .. } = one;
    let new = NewRequest::of_bulk(subject, place.clone(), number_country);
    let terms = terms(app, &new, received_at).await?;
    stop_marketing(app, &new, subject).await?;
    let opening = Opening {
        request_id,
        kind: RequestKind::Erasure,
        purpose: None,
        actor: Actor::Operator,
        origin: None,
        reason: None,
        place,
        known: true,
        received_at,
        terms,
        check: Some(Check { method: IdentityMethod::Operator, reason, key }),
    };
    let app = app.clone();
    to_the_end(async move { record(&app, subject, opening).await }).await.map_err(store_problem)
}

async fn record(app: &App, subject: SubjectId, opening: Opening) -> Result<(), StoreError> {
    let mut held = app.sagas.hold(subject).await?;
    if held.person.requests.get(opening.request_id).is_some() {
        return held.rollback().await;
    }
    let (_, events) = held.person.open(opening, &held.registry, held.now);
    held.record(events, None).await?;
    held.commit().await
}
