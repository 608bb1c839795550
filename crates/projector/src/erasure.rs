//! All that the projector does for erasure, as the participant `projector`. It guarantees that
//! after the fence no row about the person is written, neither by late events nor by rebuilds,
//! and that the sweep looks into every table, the unfinished ones of a rebuild included; the
//! order of the steps is the saga's business.
//!
//! Commands come over Kafka and become rows of `erasure_commands`, in the transaction of the
//! consumer's position; [`Participant::run`] works them off and answers over HTTP.

mod participant;

use std::collections::BTreeMap;
use std::sync::Arc;

use assent_bus::{ApplyError, Received, Sequencing, Subscriber};
use assent_contracts::SubjectId;
use assent_contracts::erasure::{self as contract, Evidence, Step};
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_eventstore::parked;
use assent_runtime::{Clock, failpoint};
use jiff_sqlx::ToSqlx as _;
use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use tokio::sync::Notify;

use crate::apply::{MALFORMED_DATA, stop_writers};
use crate::error::ProjectorError;
use crate::model::{Projection, Schema};
pub use participant::Participant;

/// The name that the projector is registered under.
pub const PARTICIPANT: &str = "projector";

/// Takes commands over from Kafka.
pub struct Commands {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the participant.
    pub heard: Arc<Notify>,
}

impl Subscriber for Commands {
    fn name(&self) -> &'static str {
        "projector.erasure"
    }

    fn topics(&self) -> Vec<Topic> {
        vec![ERASURE_COMMANDS]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::None
    }

    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        for (index, message) in batch.iter().enumerate() {
            if message.event_type != contract::COMMAND {
                continue;
            }
            let command: contract::Command = serde_json::from_slice(&message.data)
                .map_err(|_| ApplyError::Poison { index, reason: MALFORMED_DATA })?;
            if !command.participants.iter().any(|name| name == PARTICIPANT) {
                continue;
            }
            // A repeat is answered again.
            sqlx::query(
                "INSERT INTO erasure_commands (command_id, command, received_at) VALUES ($1, $2, $3)
                 ON CONFLICT (command_id) DO UPDATE SET answered_at = NULL",
            )
            .bind(command.command_id)
            .bind(Json(&command))
            .bind(self.clock.now().to_sqlx())
            .execute(&mut *conn)
            .await?;
        }
        // Early by one commit at most: then the next look finds it.
        self.heard.notify_one();
        Ok(())
    }
}

/// Does a step and gives its evidence, without positions. Repeating it is harmless, and answers
/// what the first execution did.
///
/// # Errors
/// [`ProjectorError`]; repeat it.
pub async fn perform(
    pool: &PgPool,
    clock: &dyn Clock,
    command: &contract::Command,
) -> Result<Evidence, ProjectorError> {
    let subject = command.subject_id;
    let mut tx = pool.begin().await?;
    let counts = match command.step {
        Step::Fence => {
            stop_writers(&mut tx).await?;
            raise(&mut tx, clock, command).await?;
            BTreeMap::from([("fences".to_owned(), 1)])
        }
        Step::Delete => {
            stop_writers(&mut tx).await?;
            raise(&mut tx, clock, command).await?;
            delete(&mut tx, subject).await?
        }
        // The projector keeps no keys.
        Step::DestroyKeys => BTreeMap::from([("keys".to_owned(), 0)]),
        // What is left is told as it is, each time anew.
        Step::Sweep => {
            let counts = sweep(&mut tx, subject).await?;
            return Ok(evidence(counts, subject));
        }
    };
    let evidence = keep(&mut tx, command, evidence(counts, subject)).await?;
    tx.commit().await?;
    failpoint::hit_async("projector.after_erasure_step").await;
    Ok(evidence)
}

/// Nothing is written about her any more.
async fn raise(
    conn: &mut PgConnection,
    clock: &dyn Clock,
    command: &contract::Command,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
         ON CONFLICT (subject_id) DO NOTHING",
    )
    .bind(command.subject_id)
    .bind(command.request_id)
    .bind(clock.now().to_sqlx())
    .execute(conn)
    .await?;
    Ok(())
}

async fn delete(
    conn: &mut PgConnection,
    subject: SubjectId,
) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let mut counts = BTreeMap::new();
    for (schema, table) in tables(conn).await? {
        let statement = format!("DELETE FROM {}.{table} WHERE subject_id = $1", schema.name());
        let deleted =
            sqlx::query(AssertSqlSafe(statement)).bind(subject).execute(&mut *conn).await?;
        *counts.entry(table.to_owned()).or_default() += deleted.rows_affected();
    }
    counts.insert("parked".to_owned(), parked::clear_keys(conn, &[subject]).await?);
    Ok(counts)
}

/// Counts what is left of a person in every table. After her erasure all are 0.
///
/// # Errors
/// When the database fails.
pub async fn sweep(
    conn: &mut PgConnection,
    subject: SubjectId,
) -> Result<BTreeMap<String, u64>, sqlx::Error> {
    let mut counts = BTreeMap::new();
    for (schema, table) in tables(conn).await? {
        let query = format!("SELECT count(*) FROM {}.{table} WHERE subject_id = $1", schema.name());
        let found = count(conn, &query, subject).await?;
        *counts.entry(table.to_owned()).or_default() += found;
    }
    for (kind, query) in [
        ("parked", "SELECT count(*) FROM eventstore.parked WHERE key = $1"),
        (
            "unfenced",
            "SELECT count(*) FROM (SELECT $1::uuid) AS her (id)
             WHERE NOT EXISTS (SELECT 1 FROM fences WHERE subject_id = her.id)",
        ),
    ] {
        counts.insert(kind.to_owned(), count(conn, query, subject).await?);
    }
    if counts.values().any(|count| *count > 0) {
        tracing::error!(?counts, "the sweep found something left");
    }
    Ok(counts)
}

async fn count(
    conn: &mut PgConnection,
    query: &str,
    subject: SubjectId,
) -> Result<u64, sqlx::Error> {
    let found: i64 =
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).bind(subject).fetch_one(conn).await?;
    Ok(found.unsigned_abs())
}

/// Every table that can hold rows about a person: the live ones, and those of a rebuild.
async fn tables(conn: &mut PgConnection) -> Result<Vec<(Schema, &'static str)>, sqlx::Error> {
    let building: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'next'")
            .fetch_all(conn)
            .await?;
    let all =
        Projection::ALL.into_iter().flat_map(|projection| projection.tables().iter().copied());
    Ok(all
        .flat_map(|table| [(Schema::Live, table), (Schema::Next, table)])
        .filter(|(schema, table)| *schema == Schema::Live || building.iter().any(|b| b == table))
        .collect())
}

/// Keeps the evidence of the first execution, in its transaction: a repeat finds nothing left to
/// do, but must answer the same.
async fn keep(
    conn: &mut PgConnection,
    command: &contract::Command,
    evidence: Evidence,
) -> Result<Evidence, sqlx::Error> {
    let kept: Option<Json<Evidence>> = sqlx::query_scalar(
        "UPDATE erasure_commands SET evidence = coalesce(evidence, $2)
         WHERE command_id = $1 RETURNING evidence",
    )
    .bind(command.command_id)
    .bind(Json(&evidence))
    .fetch_optional(conn)
    .await?;
    Ok(kept.map_or(evidence, |kept| kept.0))
}

/// The digest is over the sorted lines `<kind> <subject> <count>` of what was touched.
fn evidence(counts: BTreeMap<String, u64>, subject: SubjectId) -> Evidence {
    use std::fmt::Write as _;
    let mut digest = Sha256::new();
    for (kind, count) in counts.iter().filter(|(_, count)| **count > 0) {
        digest.update(format!("{kind} {subject} {count}\n"));
    }
    let digest = digest.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    Evidence { counts, digest, ..Evidence::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_speaks_only_of_what_was_touched() {
        let subject = SubjectId::nil();
        let nothing = evidence(BTreeMap::from([("contacts".to_owned(), 0)]), subject);
        assert_eq!(nothing.digest, evidence(BTreeMap::new(), subject).digest);
        let something = evidence(BTreeMap::from([("contacts".to_owned(), 1)]), subject);
        assert_ne!(nothing.digest, something.digest);
        assert_eq!(something.digest.len(), 64);
    }
}
