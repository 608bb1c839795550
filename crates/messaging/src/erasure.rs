//! All that this service does for erasure, as the participant `messaging`. It guarantees that a step
//! is done once and answered until the saga has heard it, that a fence is answered only one lease
//! after its commit, that nothing of the person is written after it, and that nothing is called
//! deleted while a stored webhook body may name her; order and deadlines are left to the saga.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{ApplyError, ConsumerHandle, Received, Sequencing, Subscriber};
use assent_contracts::SubjectId;
use assent_contracts::erasure::{Ack, COMMAND, Command, Evidence, Positions, Step};
use assent_contracts::messaging::{SUBJECT_ERASED, SubjectErased};
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_eventstore::{Session, StoreError, parked, to_the_end};
use assent_http::Code;
use assent_runtime::{Clock, failpoint, settle};
use jiff_sqlx::ToSqlx as _;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::state::Messaging;

/// The name that this service is registered under.
pub const PARTICIPANT: &str = "messaging";

/// How often open steps are looked for when nothing announces them.
const PAUSE: Duration = Duration::from_millis(500);
/// Steps that are worked on at the same time.
const TOGETHER: i64 = 16;

/// Hears the saga's commands: each becomes a row, which the [`Participant`] works off.
pub struct Commands {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Wakes the participant.
    pub heard: Arc<Notify>,
}

impl Subscriber for Commands {
    fn name(&self) -> &'static str {
        "messaging.erasure"
    }

    fn topics(&self) -> Vec<Topic> {
        vec![ERASURE_COMMANDS]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::None
    }

    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        // A repeat is answered again, with what was done the first time.
        const HEAR: &str = "
            INSERT INTO erasure_steps (command_id, request_id, subject_id, step, barrier, received_at)
            VALUES ($1, $2, $3, $4, $5::json, $6)
            ON CONFLICT (command_id) DO UPDATE SET acknowledged = false";
        for (index, message) in batch.iter().enumerate() {
            if message.event_type != COMMAND {
                continue;
            }
            let poison = || ApplyError::Poison { index, reason: "malformed_data" };
            let command: Command = serde_json::from_slice(&message.data).map_err(|_| poison())?;
            if !command.participants.iter().any(|name| name == PARTICIPANT) {
                continue;
            }
            sqlx::query(HEAR)
                .bind(command.command_id)
                .bind(command.request_id)
                .bind(command.subject_id)
                .bind(step_name(command.step))
                .bind(serde_json::to_string(&command.barrier).map_err(|_| poison())?)
                .bind(self.clock.now().to_sqlx())
                .execute(&mut *conn)
                .await?;
        }
        // Early by a commit at most: then the next look finds it.
        self.heard.notify_one();
        Ok(())
    }
}

/// A step that the saga waits for.
#[derive(Debug, Clone)]
struct Open {
    command_id: Uuid,
    request_id: Uuid,
    subject: SubjectId,
    step: Step,
    barrier: Positions,
}

/// Why a step is still open.
#[derive(Debug, thiserror::Error)]
enum StillOpen {
    #[error("not all that the barrier names has been consumed")]
    Behind,
    #[error("a stored webhook body or an opt-in from before the fence may name the person")]
    Unprocessed,
    #[error("the person is not fenced here")]
    NotFenced,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Saga(#[from] assent_http::ClientError),
}

/// Works off open steps and answers the saga.
#[derive(Clone)]
pub struct Participant {
    /// The service.
    pub messaging: Messaging,
    /// What this service consumes.
    pub consumers: Vec<ConsumerHandle>,
}

impl Participant {
    /// Works until `stopping`. Any number of replicas may.
    ///
    /// # Errors
    /// Never: what fails is logged and tried again.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        while !stopping.is_cancelled() {
            match self.open().await {
                Ok(steps) => self.work_off(steps).await,
                Err(error) => tracing::warn!(%error, "erasure steps wait"),
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = self.messaging.commanded.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<Vec<Open>, sqlx::Error> {
        const OPEN: &str = "
            SELECT command_id, request_id, subject_id, step, barrier::text FROM erasure_steps
            WHERE NOT acknowledged ORDER BY random() LIMIT $1";
        let rows = sqlx::query(OPEN).bind(TOGETHER).fetch_all(self.messaging.pool()).await?;
        rows.iter().map(open_step).collect()
    }

    async fn work_off(&self, steps: Vec<Open>) {
        let mut tasks = JoinSet::new();
        for step in steps {
            let participant = self.clone();
            tasks.spawn(async move {
                if let Err(error) = participant.carry_out(&step).await {
                    let (request_id, step) = (step.request_id, step_name(step.step));
                    tracing::info!(%error, %request_id, step, "an erasure step is still open");
                }
            });
        }
        tasks.join_all().await;
    }

    async fn carry_out(&self, open: &Open) -> Result<(), StillOpen> {
        let positions = self.positions().await?;
        let consumed = [self.messaging.config.bus.topic_name(&ERASURE_COMMANDS)];
        if !reaches(&positions, &open.barrier, &consumed) {
            return Err(StillOpen::Behind);
        }
        let mut evidence = self.evidence(open).await?;
        evidence.positions = positions;
        if open.step == Step::Fence {
            failpoint::hit_async("messaging.fence_committed").await;
            settle(&*self.messaging.clock, &self.messaging.config.terms).await;
        }
        let ack = Ack {
            command_id: open.command_id,
            step: open.step,
            participant: PARTICIPANT.to_owned(),
            evidence,
        };
        let path = format!("/v1/requests/{}/acks", open.request_id);
        match self.messaging.erasure.post::<_, serde_json::Value>(&path, &ack, None).await {
            Ok(_) => {}
            // The saga has gone on, or asks by another command: this one is of no use any more.
            Err(error) if error.code() == Some(Code::AckMismatch) => {
                tracing::warn!(%error, request_id = %open.request_id, "an answer came too late");
            }
            Err(error) => return Err(error.into()),
        }
        sqlx::query("UPDATE erasure_steps SET acknowledged = true WHERE command_id = $1")
            .bind(open.command_id)
            .execute(self.messaging.pool())
            .await?;
        Ok(())
    }

    /// What was done for this command: done now, or found from the first time.
    async fn evidence(&self, open: &Open) -> Result<Evidence, StillOpen> {
        let (messaging, open) = (self.messaging.clone(), open.clone());
        to_the_end(async move { carry_out(&messaging, &open).await }).await
    }

    async fn positions(&self) -> Result<Positions, sqlx::Error> {
        let mut positions = Positions::new();
        for consumer in &self.consumers {
            for ((topic, partition), next) in consumer.positions().await? {
                let topic = format!("{}{topic}", self.messaging.config.bus.topic_prefix);
                positions.entry(topic).or_default().insert(partition, next);
            }
        }
        Ok(positions)
    }
}

async fn carry_out(messaging: &Messaging, open: &Open) -> Result<Evidence, StillOpen> {
    const BEFORE: &str =
        "SELECT evidence::text FROM erasure_steps WHERE command_id = $1 FOR UPDATE";
    const DONE: &str = "UPDATE erasure_steps SET evidence = $2::json WHERE command_id = $1";
    let mut session = messaging.store.begin().await?;
    let before: Option<String> =
        sqlx::query_scalar(BEFORE).bind(open.command_id).fetch_one(session.conn()).await?;
    if let Some(before) = before {
        session.rollback().await?;
        return serde_json::from_str(&before).map_err(undecodable);
    }
    let mut touched = Touched::default();
    match open.step {
        Step::Fence => fence(messaging, &mut session, open, &mut touched).await?,
        Step::Delete => {
            all_processed(session.conn(), open.subject).await?;
            delete(messaging, &mut session, open, &mut touched).await?;
        }
        // Her key is the vault's; what was leased of it here has ended with its lease.
        Step::DestroyKeys => {}
        Step::Sweep => {
            all_processed(session.conn(), open.subject).await?;
            sweep(session.conn(), open.subject, &mut touched).await?;
        }
    }
    let evidence = touched.evidence();
    // A sweep that found something is no proof: it is looked again.
    if open.step != Step::Sweep || evidence.counts.values().all(|count| *count == 0) {
        sqlx::query(DONE)
            .bind(open.command_id)
            .bind(serde_json::to_string(&evidence).map_err(undecodable)?)
            .execute(session.conn())
            .await?;
    }
    session.commit().await?;
    Ok(evidence)
}

fn undecodable(error: serde_json::Error) -> StillOpen {
    sqlx::Error::Decode(error.into()).into()
}

/// From this commit on nothing of hers is written; what was queued is refused. What is being called at
/// this moment may start within its lease, which is waited out before the answer.
async fn fence(
    messaging: &Messaging,
    session: &mut Session,
    open: &Open,
    touched: &mut Touched,
) -> Result<(), StillOpen> {
    const FENCE: &str = "
        INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
        ON CONFLICT (subject_id) DO NOTHING";
    const CANCEL: &str = "
        UPDATE intents SET state = 'refused', reasons = '{erased}', claim_id = NULL,
               claim_until = NULL, changed_at = $2
        WHERE subject_id = $1 AND state IN ('queued', 'claimed')
        RETURNING id";
    let now = messaging.clock.now();
    session.lock_versions(&[open.subject]).await?;
    sqlx::query(FENCE)
        .bind(open.subject)
        .bind(open.request_id)
        .bind(now.to_sqlx())
        .execute(session.conn())
        .await?;
    touched.add("fences", [open.request_id.to_string()]);
    let cancelled: Vec<Uuid> = sqlx::query_scalar(CANCEL)
        .bind(open.subject)
        .bind(now.to_sqlx())
        .fetch_all(session.conn())
        .await?;
    touched.add("cancelled", cancelled.iter().map(Uuid::to_string));
    Ok(())
}

/// Nothing that came in before the fence waits to be processed. Bodies are sealed: which of them name
/// her can't be told without processing them.
async fn all_processed(conn: &mut PgConnection, subject: SubjectId) -> Result<(), StillOpen> {
    const WAITING: &str = "
        SELECT EXISTS (SELECT FROM webhook_bodies WHERE received_at <= fenced_at)
            OR EXISTS (SELECT FROM declarations
                       WHERE will = 'start' AND settled_at IS NULL AND heard_at <= fenced_at)
        FROM fences WHERE subject_id = $1";
    match sqlx::query_scalar(WAITING).bind(subject).fetch_optional(conn).await? {
        Some(false) => Ok(()),
        Some(true) => Err(StillOpen::Unprocessed),
        None => Err(StillOpen::NotFenced),
    }
}

/// What this service holds of a person: kind, and a query that names each piece ($1 is she).
/// The tombstone (her last event, and her fence) stays: it holds no more than her random id.
const HELD: [(&str, &str, &str); 5] = [
    ("intents", "intents WHERE subject_id = $1", "id::text"),
    ("inbound_messages", "inbound_messages WHERE subject_id = $1", "id::text"),
    ("declarations", "declarations WHERE subjects @> ARRAY[$1]", "id::text"),
    (
        "events",
        "eventstore.events WHERE stream = $1 AND version <
            (SELECT version FROM eventstore.streams WHERE id = $1)",
        "id::text",
    ),
    (
        "idempotency_keys",
        "eventstore.idempotency_keys WHERE stream = $1",
        "encode(key_hash, 'hex')",
    ),
];

async fn delete(
    messaging: &Messaging,
    session: &mut Session,
    open: &Open,
    touched: &mut Touched,
) -> Result<(), StillOpen> {
    let now = messaging.clock.now();
    session.lock_versions(&[open.subject]).await?;
    let event = SubjectErased { request_id: open.request_id, at: now };
    let id = messaging.ids.v7();
    let append = messaging.event(open.subject, id, SUBJECT_ERASED, &event, now)?;
    session.append(vec![append]).await?;
    for (kind, rows, name) in HELD {
        let statement = format!("DELETE FROM {rows} RETURNING {name}");
        touched.add(kind, names(session.conn(), statement, open.subject).await?);
    }
    let parked = parked::clear_keys(session.conn(), &[open.subject]).await?;
    touched.add("parked", (0..parked).map(|n| n.to_string()));
    Ok(())
}

async fn sweep(
    conn: &mut PgConnection,
    subject: SubjectId,
    touched: &mut Touched,
) -> Result<(), StillOpen> {
    for (kind, rows, name) in HELD {
        let statement = format!("SELECT {name} FROM {rows}");
        touched.add(kind, names(conn, statement, subject).await?);
    }
    let parked = "SELECT message_offset::text FROM eventstore.parked WHERE key = $1".to_owned();
    touched.add("parked", names(conn, parked, subject).await?);
    Ok(())
}

async fn names(
    conn: &mut PgConnection,
    statement: String,
    subject: SubjectId,
) -> Result<Vec<String>, sqlx::Error> {
    // Only from the constants above.
    let statement = sqlx::AssertSqlSafe(statement);
    sqlx::query_scalar(statement).bind(subject).fetch_all(conn).await
}

fn open_step(row: &PgRow) -> Result<Open, sqlx::Error> {
    let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
    Ok(Open {
        command_id: row.try_get(0)?,
        request_id: row.try_get(1)?,
        subject: row.try_get(2)?,
        step: match row.try_get(3)? {
            "fence" => Step::Fence,
            "delete" => Step::Delete,
            "destroy_keys" => Step::DestroyKeys,
            "sweep" => Step::Sweep,
            other => return Err(decode(format!("unknown step {other}").into())),
        },
        barrier: serde_json::from_str(row.try_get(4)?).map_err(|error| decode(error.into()))?,
    })
}

const fn step_name(step: Step) -> &'static str {
    match step {
        Step::Fence => "fence",
        Step::Delete => "delete",
        Step::DestroyKeys => "destroy_keys",
        Step::Sweep => "sweep",
    }
}

/// Whether `positions` has come to `barrier`, as far as it speaks of topics consumed here.
fn reaches(positions: &Positions, barrier: &Positions, consumed: &[String]) -> bool {
    barrier.iter().filter(|(topic, _)| consumed.contains(topic)).all(|(topic, partitions)| {
        let reached = |partition| positions.get(topic)?.get(partition).copied();
        partitions.iter().all(|(partition, next)| reached(partition).unwrap_or(0) >= *next)
    })
}

/// What a step touched or found, by kind.
#[derive(Default)]
struct Touched(BTreeMap<&'static str, BTreeSet<String>>);

impl Touched {
    fn add(&mut self, kind: &'static str, what: impl IntoIterator<Item = String>) {
        self.0.entry(kind).or_default().extend(what);
    }

    /// Counts, and a digest over the sorted list of `kind item` lines.
    fn evidence(&self) -> Evidence {
        let mut digest = Sha256::new();
        for (kind, items) in &self.0 {
            for item in items {
                digest.update(format!("{kind} {item}\n"));
            }
        }
        Evidence {
            counts: self.0.iter().map(|(k, items)| ((*k).to_owned(), items.len() as u64)).collect(),
            digest: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            positions: Positions::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_counts_only_for_topics_that_are_consumed_here() {
        let at =
            |topic: &str, next| Positions::from([(topic.to_owned(), BTreeMap::from([(0, next)]))]);
        let reaches = |positions, barrier| reaches(&positions, &barrier, &["commands".to_owned()]);
        assert!(reaches(at("commands", 5), at("commands", 5)));
        assert!(!reaches(at("commands", 4), at("commands", 5)));
        assert!(reaches(Positions::new(), at("vault", 9)));
    }
}
