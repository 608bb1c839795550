//! Erases people who are kept no longer (GDPR Article 5(1)(e)): those without a consent in force or waiting,
//! of whom nothing was heard or recorded for as long as the policy says. It guarantees that each is
//! asked for once at the erasure service, also when that is away, and that nobody is who has agreed or
//! written since she was found; the erasure itself, its holds and its certificate are the saga's. What stands against
//! addresses of nobody ends with the same look, by [`suppression`], and evidence by [`proofs`].

use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::consent::Actor;
use assent_http::ServiceClient;
use assent_participant::Keeping;
use assent_runtime::Clock;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{metrics, policy, proofs, suppression};

/// How often it is looked. Days matter here.
const PAUSE: Duration = Duration::from_secs(3_600);
/// How often those who were found are asked for while the erasure service is away.
const RETRY: Duration = Duration::from_secs(30);
/// How long somebody who was found may wait to be asked for.
const LATE: SignedDuration = SignedDuration::from_hours(24);
/// Most people in one round: each is a saga.
const ROUND_MAX: i64 = 200;

/// She has no consent in force or waiting, and since a moment no address was linked and nothing heard of her. What is
/// restricted is kept (GDPR Article 18): nobody goes because time ran out while that stands.
macro_rules! idle {
    ($subject:literal, $cutoff:literal) => {
        concat!(
            " NOT EXISTS (SELECT FROM fences f WHERE f.subject_id = ",
            $subject,
            ")",
            " AND NOT EXISTS (SELECT FROM gate_links n WHERE n.subject_id = ",
            $subject,
            " AND n.linked_at > ",
            $cutoff,
            ")",
            " AND NOT EXISTS (SELECT FROM restrictions r WHERE r.subject_id = ",
            $subject,
            ")",
            " AND NOT EXISTS (SELECT FROM consent_lines c WHERE c.subject_id = ",
            $subject,
            " AND c.state IN ('given', 'requested'))",
            " AND NOT EXISTS (SELECT FROM contacts t WHERE t.subject_id = ",
            $subject,
            " AND t.contacted_at > ",
            $cutoff,
            ")"
        )
    };
}

/// She has said no to nothing since a moment. Asking for her erasure withdraws everything, so this is only looked
/// at before.
macro_rules! silent {
    ($subject:literal, $cutoff:literal) => {
        concat!(
            " NOT EXISTS (SELECT FROM consent_lines s WHERE s.subject_id = ",
            $subject,
            " AND s.since > ",
            $cutoff,
            ")"
        )
    };
}

/// What the erasure service is asked.
#[derive(Debug, Serialize)]
struct Request {
    subject_id: SubjectId,
    actor: Actor,
    reason: &'static str,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    request_id: Uuid,
}

/// Erases who is kept no longer.
#[derive(Clone)]
pub struct Keeper {
    /// The consent service's rows.
    pub pool: PgPool,
    /// The erasure service.
    pub erasure: ServiceClient,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// How long what keeps people out, and evidence, is kept.
    pub keeping: Keeping,
}

/// How many people are kept no longer when it is so many days.
///
/// # Errors
/// When the database fails.
pub async fn count(
    conn: &mut PgConnection,
    idle_days: u32,
    now: Timestamp,
) -> Result<i64, sqlx::Error> {
    const COUNT: &str = concat!(
        "SELECT count(DISTINCT l.subject_id) FROM gate_links l WHERE l.linked_at <= $1 AND",
        idle!("l.subject_id", "$1"),
        " AND",
        silent!("l.subject_id", "$1")
    );
    sqlx::query_scalar(COUNT).bind(cutoff(idle_days, now).to_sqlx()).fetch_one(conn).await
}

/// Why somebody is kept no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// She never said anything to a question for her consent.
    NeverConsented,
    /// She said no, took it back, or it has run out.
    ConsentLapsed,
}

/// Somebody who is kept no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Due {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// Why.
    pub why: Why,
}

/// Who is kept no longer when it is so many days, by id, after this one. Nothing is done about it.
///
/// # Errors
/// When the database fails.
pub async fn due(
    conn: &mut PgConnection,
    idle_days: u32,
    now: Timestamp,
    after: SubjectId,
    limit: i64,
) -> Result<Vec<Due>, sqlx::Error> {
    const DUE: &str = concat!(
        "SELECT DISTINCT l.subject_id,
                EXISTS (SELECT FROM consent_lines a WHERE a.subject_id = l.subject_id)
         FROM gate_links l WHERE l.linked_at <= $1 AND l.subject_id > $2 AND",
        idle!("l.subject_id", "$1"),
        " AND",
        silent!("l.subject_id", "$1"),
        " ORDER BY l.subject_id LIMIT $3"
    );
    let rows: Vec<(SubjectId, bool)> = sqlx::query_as(DUE)
        .bind(cutoff(idle_days, now).to_sqlx())
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    let why = |asked| if asked { Why::ConsentLapsed } else { Why::NeverConsented };
    Ok(rows.into_iter().map(|(subject_id, asked)| Due { subject_id, why: why(asked) }).collect())
}

/// How many people the keeper has found and the erasure service hasn't heard of: all, and those found more
/// than a day ago.
///
/// # Errors
/// When the database fails.
pub async fn waiting(conn: &mut PgConnection, now: Timestamp) -> Result<(i64, i64), sqlx::Error> {
    const WAITING: &str = "
        SELECT count(*), count(*) FILTER (WHERE found_at <= $1)
        FROM retention_due WHERE request_id IS NULL";
    let late = now.checked_sub(LATE).unwrap_or(Timestamp::UNIX_EPOCH);
    sqlx::query_as(WAITING).bind(late.to_sqlx()).fetch_one(conn).await
}

fn cutoff(idle_days: u32, now: Timestamp) -> Timestamp {
    let idle = SignedDuration::from_hours(24 * i64::from(idle_days));
    // Nobody was here before; Postgres knows no times as old as a year of millions would give.
    now.checked_sub(idle).unwrap_or(Timestamp::UNIX_EPOCH).max(Timestamp::UNIX_EPOCH)
}

impl Keeper {
    /// Looks until `stopping`. Any number of replicas may.
    ///
    /// # Errors
    /// Never: failures are logged and tried again.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        loop {
            let round = self.round().await;
            let ended = self.end_by_age().await;
            self.tell(round.is_ok() && ended).await;
            let pause = match round {
                Ok(_) if !ended => RETRY,
                Ok(found) if found == ROUND_MAX as usize => Duration::ZERO,
                Ok(_) => PAUSE,
                Err(problem) => {
                    tracing::warn!(problem, "people who are kept no longer wait");
                    RETRY
                }
            };
            if stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Says when it last looked, also where the policy limits nothing, and how many are late.
    async fn tell(&self, looked: bool) {
        let now = self.clock.now();
        if looked {
            metrics::retention_ran(now);
        }
        match self.late(now).await {
            Ok(late) => metrics::retention_overdue(late.unsigned_abs()),
            Err(error) => tracing::warn!(%error, "what is kept no longer can't be counted"),
        }
    }

    /// People, closed addresses and evidence that should have gone more than a day ago.
    async fn late(&self, now: Timestamp) -> Result<i64, sqlx::Error> {
        let mut conn = self.pool.acquire().await?;
        let (_, people) = waiting(&mut conn, now).await?;
        let Keeping { suppression_days, evidence_days } = self.keeping;
        let older = Keeping::overdue(suppression_days, now);
        let addresses = suppression::due(&mut conn, older).await?;
        let evidence = proofs::due(&mut conn, Keeping::overdue(evidence_days, now)).await?;
        Ok(people + addresses + evidence.verdicts + evidence.claims)
    }

    /// Whether what stands against addresses of nobody, and evidence, has ended where its time was over. Neither waits
    /// for the other.
    async fn end_by_age(&self) -> bool {
        let Keeping { suppression_days, evidence_days } = self.keeping;
        let now = self.clock.now();
        let addresses = suppression::forget(&self.pool, suppression_days, now).await;
        let evidence = proofs::forget(&self.pool, evidence_days, now).await;
        match addresses.and_then(|addresses| Ok((addresses, evidence?))) {
            Ok((0, 0)) => true,
            Ok((addresses, evidence)) => {
                tracing::info!(addresses, evidence, "what was kept long enough has ended");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "what is kept no longer waits");
                false
            }
        }
    }

    /// Finds people and asks for their erasure; gives how many were found.
    ///
    /// # Errors
    /// What stands in the way; who was found is asked for later.
    pub async fn round(&self) -> Result<usize, String> {
        const FIND: &str = concat!(
            "INSERT INTO retention_due (subject_id, found_at)
             SELECT DISTINCT l.subject_id, $2 FROM gate_links l
             WHERE l.linked_at <= $1
               AND NOT EXISTS (SELECT FROM retention_due d WHERE d.subject_id = l.subject_id) AND",
            idle!("l.subject_id", "$1"),
            " AND",
            silent!("l.subject_id", "$1"),
            " LIMIT $3 ON CONFLICT DO NOTHING"
        );
        const FORGET: &str = concat!(
            "DELETE FROM retention_due d WHERE request_id IS NULL AND NOT (",
            idle!("d.subject_id", "$1"),
            ")"
        );
        const WAITING: &str =
            "SELECT subject_id FROM retention_due WHERE request_id IS NULL ORDER BY subject_id";
        const STILL: &str = concat!("SELECT", idle!("$1", "$2"));
        let failed = |error: sqlx::Error| error.to_string();
        let mut conn = self.pool.acquire().await.map_err(failed)?;
        let policy = policy::in_force(&mut conn).await.map_err(failed)?;
        let days = policy.and_then(|current| current.policy.retention.idle_days);
        let now = self.clock.now();
        // Who is kept again, because she or the policy has changed, is asked for no more.
        let cutoff = days.map_or(Timestamp::UNIX_EPOCH, |days| cutoff(days, now)).to_sqlx();
        sqlx::query(FORGET).bind(cutoff).execute(&mut *conn).await.map_err(failed)?;
        if days.is_none() {
            return Ok(0);
        }
        let find = sqlx::query(FIND).bind(cutoff).bind(now.to_sqlx()).bind(ROUND_MAX);
        let found = find.execute(&mut *conn).await.map_err(failed)?.rows_affected();
        let waiting: Vec<SubjectId> =
            sqlx::query_scalar(WAITING).fetch_all(&mut *conn).await.map_err(failed)?;
        for subject in waiting {
            // Each of those before took a lease: she may have come back since the round began.
            let still: bool = sqlx::query_scalar(STILL)
                .bind(subject)
                .bind(cutoff)
                .fetch_one(&mut *conn)
                .await
                .map_err(failed)?;
            if still {
                self.ask(&mut conn, subject).await?;
            }
        }
        Ok(found as usize)
    }

    async fn ask(&self, conn: &mut PgConnection, subject_id: SubjectId) -> Result<(), String> {
        const HEARD: &str = "UPDATE retention_due SET request_id = $2 WHERE subject_id = $1";
        let request = Request { subject_id, actor: Actor::System, reason: "retention" };
        let key = format!("retention-{subject_id}");
        let answer: Result<Accepted, _> =
            self.erasure.post("/v1/requests", &request, Some(&key)).await;
        let Accepted { request_id } = answer.map_err(|error| error.to_string())?;
        let heard = sqlx::query(HEARD).bind(subject_id).bind(request_id).execute(conn).await;
        heard.map(|_| ()).map_err(|error| error.to_string())
    }
}
