//! All that this service does for erasure, as the participant `consent`. It guarantees that a step
//! is done once and answered until the saga has heard it, that a fence is answered only one lease
//! after its commit, and that nothing of the person is written after it; order and deadlines are
//! left to the saga.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{ApplyError, ConsumerHandle, Received, Sequencing, Subscriber};
use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use assent_contracts::erasure::{Ack, COMMAND, Command as SagaCommand, Evidence, Positions, Step};
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_eventstore::{EventStore, Session, StoreError, parked};
use assent_http::{Code, ServiceClient};
use assent_runtime::{Clock, Ids, LeaseTerms, failpoint, settle};
use jiff_sqlx::ToSqlx as _;
use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{Origin, Pending, ledger};
use crate::domain::ledger::Command;
use crate::domain::purpose::hex;
use crate::gate::{self, Closing};
use crate::links::LINKING_LOCK;

/// The name that this service is registered under.
pub const PARTICIPANT: &str = "consent";

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
        "consent.erasure"
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
            let command: SagaCommand = serde_json::from_slice(&message.data)
                .map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })?;
            if !command.participants.iter().any(|name| name == PARTICIPANT) {
                continue;
            }
            sqlx::query(HEAR)
                .bind(command.command_id)
                .bind(command.request_id)
                .bind(command.subject_id)
                .bind(step_name(command.step))
                .bind(crate::stored::json(&command.barrier))
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
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// The lease.
    pub terms: LeaseTerms,
    /// The saga.
    pub saga: ServiceClient,
    /// What this service consumes.
    pub consumers: Vec<ConsumerHandle>,
    /// The topics of those consumers, with the deployment's prefix.
    pub topics: Vec<String>,
    /// The deployment's topic prefix.
    pub topic_prefix: String,
    /// Rings when a command was heard.
    pub heard: Arc<Notify>,
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
                () = self.heard.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        Ok(())
    }

    async fn open(&self) -> Result<Vec<Open>, sqlx::Error> {
        const OPEN: &str = "
            SELECT command_id, request_id, subject_id, step, barrier::text FROM erasure_steps
            WHERE NOT acknowledged ORDER BY random() LIMIT $1";
        let rows = sqlx::query(OPEN).bind(TOGETHER).fetch_all(self.store.pool()).await?;
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
        if !reaches(&positions, &open.barrier, &self.topics) {
            return Err(StillOpen::Behind);
        }
        let mut evidence = self.evidence(open).await?;
        evidence.positions = positions;
        if open.step == Step::Fence {
            failpoint::hit_async("consent.fence_committed").await;
            settle(&*self.clock, &self.terms).await;
        }
        let ack = Ack {
            command_id: open.command_id,
            step: open.step,
            participant: PARTICIPANT.to_owned(),
            evidence,
        };
        let path = format!("/v1/requests/{}/acks", open.request_id);
        match self.saga.post::<_, serde_json::Value>(&path, &ack, None).await {
            Ok(_) => {}
            // The saga has gone on, or asks by another command: this one is of no use any more.
            Err(error) if error.code() == Some(Code::AckMismatch) => {
                tracing::warn!(%error, request_id = %open.request_id, "an answer came too late");
            }
            Err(error) => return Err(error.into()),
        }
        sqlx::query("UPDATE erasure_steps SET acknowledged = true WHERE command_id = $1")
            .bind(open.command_id)
            .execute(self.store.pool())
            .await?;
        Ok(())
    }

    /// What was done for this command: done now, or found from the first time.
    async fn evidence(&self, open: &Open) -> Result<Evidence, StillOpen> {
        const BEFORE: &str =
            "SELECT evidence::text FROM erasure_steps WHERE command_id = $1 FOR UPDATE";
        const DONE: &str = "UPDATE erasure_steps SET evidence = $2::json WHERE command_id = $1";
        let mut session = self.store.begin().await?;
        let before: Option<String> =
            sqlx::query_scalar(BEFORE).bind(open.command_id).fetch_one(session.conn()).await?;
        if let Some(before) = before {
            session.rollback().await?;
            return serde_json::from_str(&before)
                .map_err(|error| sqlx::Error::Decode(error.into()).into());
        }
        let mut touched = Touched::default();
        match open.step {
            Step::Fence => self.fence(&mut session, open, &mut touched).await?,
            Step::Delete => {
                // What is deleted stays deleted only behind a fence; it is there already unless
                // this database is older than the saga.
                self.fence(&mut session, open, &mut Touched::default()).await?;
                delete(session.conn(), open.subject, &mut touched).await?;
            }
            // No key was ever here.
            Step::DestroyKeys => {}
            Step::Sweep => sweep(session.conn(), open.subject, &mut touched).await?,
        }
        let evidence = touched.evidence();
        // A sweep that found something is no proof: it is looked again.
        if open.step != Step::Sweep || evidence.counts.values().all(|count| *count == 0) {
            sqlx::query(DONE)
                .bind(open.command_id)
                .bind(crate::stored::json(&evidence))
                .execute(session.conn())
                .await?;
        }
        session.commit().await?;
        Ok(evidence)
    }

    /// Closes the ledger and every address of hers for whoever comes to have it.
    async fn fence(
        &self,
        session: &mut Session,
        open: &Open,
        touched: &mut Touched,
    ) -> Result<(), StillOpen> {
        const FENCE: &str = "
            INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
            ON CONFLICT (subject_id) DO NOTHING";
        let now = self.clock.now();
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LINKING_LOCK)
            .execute(session.conn())
            .await?;
        let stream = session.lock(&[open.subject]).await?.remove(&open.subject).unwrap_or_default();
        let mut ledger = ledger(&stream)?;
        let command = Command::Erase { request_id: open.request_id };
        let events = ledger.decide(command, now).unwrap_or_default();
        let mut pending = Pending::default();
        let origin = Origin { now, idempotency: None, traceparent: None };
        let ids = pending.push(&*self.ids, open.subject, &mut ledger, &events, origin);
        pending.write(session, now).await?;
        touched.add("fences", ids.iter().map(Uuid::to_string));
        sqlx::query(FENCE)
            .bind(open.subject)
            .bind(open.request_id)
            .bind(now.to_sqlx())
            .execute(session.conn())
            .await?;
        let tokens: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT token FROM gate_links WHERE subject_id = $1")
                .bind(open.subject)
                .fetch_all(session.conn())
                .await?;
        let closings = tokens
            .iter()
            .map(|bytes| {
                let token = AddressToken::from_bytes(bytes)
                    .map_err(|error| sqlx::Error::Decode(error.into()))?;
                Ok(Closing { token, kind: StopKind::Erased, by: open.request_id })
            })
            .collect::<Result<Vec<_>, sqlx::Error>>()?;
        gate::close(session.conn(), &closings, now).await?;
        touched.add("addresses", closings.iter().map(|closing| closing.token.to_string()));
        Ok(())
    }

    async fn positions(&self) -> Result<Positions, sqlx::Error> {
        let mut positions = Positions::new();
        for consumer in &self.consumers {
            for ((topic, partition), next) in consumer.positions().await? {
                let topic = format!("{}{topic}", self.topic_prefix);
                positions.entry(topic).or_default().insert(partition, next);
            }
        }
        Ok(positions)
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
            digest: hex(&digest.finalize()),
            positions: Positions::new(),
        }
    }
}

/// What this service holds of a person: kind, and a query that names each piece ($1 is she).
/// The tombstone (her last event, and her fence) and the closed addresses stay: they hold no more
/// than her random id and keyed hashes, and keep her erased.
const HELD: [(&str, &str, &str); 5] = [
    ("consent_lines", "consent_lines WHERE subject_id = $1", "purpose || ' ' || channel"),
    ("links", "gate_links WHERE subject_id = $1", "encode(token, 'hex')"),
    ("permits", "permits WHERE subject_id = $1", "permit_id::text"),
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
    conn: &mut PgConnection,
    subject: SubjectId,
    touched: &mut Touched,
) -> Result<(), StillOpen> {
    for (kind, rows, name) in HELD {
        let statement = format!("DELETE FROM {rows} RETURNING {name}");
        touched.add(kind, names(conn, statement, subject).await?);
    }
    let parked = parked::clear_keys(conn, &[subject]).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_is_reached_when_every_partition_named_has_been_consumed() {
        const VAULT: &str = "assent.vault.events.v1";
        let at = |topic: &str, partition, next| {
            Positions::from([(topic.to_owned(), BTreeMap::from([(partition, next)]))])
        };
        let reaches =
            |positions, barrier| super::reaches(&positions, &barrier, &[VAULT.to_owned()]);
        assert!(reaches(at(VAULT, 0, 5), at(VAULT, 0, 5)));
        assert!(!reaches(at(VAULT, 0, 4), at(VAULT, 0, 5)));
        assert!(!reaches(at(VAULT, 0, 5), at(VAULT, 3, 1)));
        assert!(!reaches(Positions::new(), at(VAULT, 0, 1)), "nothing consumed yet");
        assert!(reaches(at(VAULT, 0, 0), at("assent.other", 0, 9)), "not consumed here");
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_finding() {
        let mut one = Touched::default();
        one.add("permits", ["b".to_owned(), "a".to_owned()]);
        let mut two = Touched::default();
        two.add("permits", ["a".to_owned()]);
        two.add("permits", ["b".to_owned()]);
        assert_eq!(one.evidence(), two.evidence());
        assert_eq!(one.evidence().counts["permits"], 2);
    }
}
