//! All that the vault does for erasure, as the participant `vault`. It guarantees that each step
//! can be repeated, that a step is answered only when it holds everywhere (one lease after it took
//! something away), and that the sweep tells what is really there; the order of the steps and
//! whoever else must answer are the saga's business.
//!
//! Commands come over Kafka and become rows of `erasure_commands`, in the transaction of the
//! consumer's position; [`Participant::run`] works them off and answers over HTTP.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_bus::{ApplyError, Received, Sequencing, Subscriber};
use assent_contracts::SubjectId;
use assent_contracts::api::consent::StopKind;
use assent_contracts::erasure::{self as contract, Evidence, Step};
use assent_contracts::topics::{ERASURE_COMMANDS, Topic, VAULT_EVENTS};
use assent_contracts::vault::{SUBJECT_ERASED, SUBJECT_REGISTERED};
use assent_eventstore::{Append, Expected, NewEvent, Session, Stream};
use assent_runtime::{Clock, failpoint, settle, telemetry};
use assent_sealing::KeyState;
use jiff_sqlx::ToSqlx as _;
use sha2::{Digest as _, Sha256};
use sqlx::{PgConnection, Row as _};
use tokio::sync::Notify;

use crate::access::{self, Access};
use crate::app::{App, PHONE};
use crate::domain::{self, Event, State};
use crate::error::VaultError;
use crate::people::{self, Barred};
use crate::resolve::open_phone;
use crate::suppress::close_gate;

mod participant;

pub use participant::Participant;

/// The name that the vault is registered under.
pub const PARTICIPANT: &str = "vault";

/// Takes commands over from Kafka.
pub struct Commands {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the participant.
    pub heard: Arc<Notify>,
}

impl Subscriber for Commands {
    fn name(&self) -> &'static str {
        "vault.erasure"
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
                .map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })?;
            if !command.participants.iter().any(|name| name == PARTICIPANT) {
                continue;
            }
            // A repeat is done and answered again.
            sqlx::query(
                "INSERT INTO erasure_commands (command_id, command, received_at) VALUES ($1, $2, $3)
                 ON CONFLICT (command_id) DO UPDATE SET answered_at = NULL",
            )
            .bind(command.command_id)
            .bind(sqlx::types::Json(&command))
            .bind(self.clock.now().to_sqlx())
            .execute(&mut *conn)
            .await?;
        }
        // Early by one commit at most: then the next look finds it.
        self.heard.notify_one();
        Ok(())
    }
}

/// Does a step and gives its evidence. Returns when the step holds everywhere.
///
/// # Errors
/// [`VaultError`]; repeat it.
pub async fn perform(app: &App, command: &contract::Command) -> Result<Evidence, VaultError> {
    match command.step {
        Step::Fence => fence(app, command).await,
        Step::Delete => delete(app, command).await,
        Step::DestroyKeys => destroy_keys(app, command).await,
        Step::Sweep => sweep(app, command.subject_id).await,
    }
}

/// From its commit on nothing new is taken for her, and nothing of her is handed out.
async fn fence(app: &App, command: &contract::Command) -> Result<Evidence, VaultError> {
    let mut session = app.store.begin().await?;
    session.lock_versions(&[command.subject_id]).await?;
    raise_tombstone(app, &mut session, command).await?;
    let mut touched = Touched::default();
    touched.add("tombstones", command.subject_id);
    let evidence = touched.keep(&mut session, command).await?;
    session.commit().await?;
    failpoint::hit_async("vault.after_fence").await;
    settle(app.clock.as_ref(), &app.lease).await;
    Ok(evidence)
}

/// Removes identifiers and index entries, and leaves a fingerprint of each address.
async fn delete(app: &App, command: &contract::Command) -> Result<Evidence, VaultError> {
    let subject = command.subject_id;
    let mut fingerprints = Vec::new();
    if let Some(person) = people::find(app.pool(), subject).await? {
        // The gate first: it must have closed before nobody knows the addresses any more.
        let occasion = format!("stop:erased:{}", command.request_id);
        let tokens = std::iter::once(person.tokens.as_slice());
        close_gate(app, StopKind::Erased, &occasion, tokens).await?;

        let mut transaction = app.pool().begin().await?;
        let access = Access { caller: PARTICIPANT, reason: "erasure", field: PHONE };
        access::record(&mut transaction, app.ids.as_ref(), app.clock.now(), access, &[subject])
            .await?;
        transaction.commit().await?;
        // A key that is gone already left its fingerprints when it went.
        if let Some(KeyState::Live(key)) = app.keys.get(&[subject]).await?.pop() {
            fingerprints = app.fingerprints.fingerprints(&open_phone(&person, &key)?);
        }
    }

    let mut session = app.store.begin().await?;
    session.lock_versions(&[subject]).await?;
    raise_tombstone(app, &mut session, command).await?;
    let mut touched = Touched::default();
    people::bar(session.conn(), &fingerprints, Barred::Erased, app.clock.now()).await?;
    for fingerprint in &fingerprints {
        touched.add("suppressions", hex(&fingerprint.0));
    }
    for token in people::remove(session.conn(), subject).await? {
        touched.add("addresses", token);
    }
    if people::remove_row(session.conn(), subject).await? {
        touched.add("people", subject);
    }
    let evidence = touched.keep(&mut session, command).await?;
    session.commit().await?;
    failpoint::hit_async("vault.after_delete").await;
    settle(app.clock.as_ref(), &app.lease).await;
    Ok(evidence)
}

/// Destroys her key. One lease later nobody holds what was derived from it.
async fn destroy_keys(app: &App, command: &contract::Command) -> Result<Evidence, VaultError> {
    let subject = command.subject_id;
    let destroyed = app.keys.destroy(&[subject]).await?;
    failpoint::hit_async("vault.after_destroy").await;
    settle(app.clock.as_ref(), &app.lease).await;

    let mut session = app.store.begin().await?;
    let streams = session.lock(&[subject]).await?;
    raise_tombstone(app, &mut session, command).await?;
    let stream = streams.get(&subject);
    let state = stream.map(state_of).unwrap_or_default();
    let now = app.clock.now();
    let erase = domain::Command::Erase { request_id: command.request_id };
    if let Ok(Some(Event::Erased(erased))) = domain::decide(state, erase, now) {
        let event = NewEvent::new(app.ids.v7(), SUBJECT_ERASED, &erased)
            .map_err(|_| VaultError::Corrupt("event"))?;
        let append = Append::new(subject, Expected::Any, VAULT_EVENTS, vec![event], now);
        session.append(vec![Append { traceparent: telemetry::traceparent(), ..append }]).await?;
    }
    let mut touched = Touched::default();
    if destroyed > 0 {
        touched.add("keys", subject);
    }
    let evidence = touched.keep(&mut session, command).await?;
    session.commit().await?;
    Ok(evidence)
}

/// Counts what is left of a person, by looking for it everywhere. After a whole erasure all are 0.
///
/// # Errors
/// [`VaultError`].
pub async fn sweep(app: &App, subject: SubjectId) -> Result<Evidence, VaultError> {
    let row = sqlx::query(
        "SELECT (SELECT count(*) FROM people WHERE subject_id = $1) AS people,
                (SELECT count(*) FROM addresses WHERE subject_id = $1) AS addresses,
                (SELECT count(*) FROM (SELECT $1) AS her (id)
                 WHERE NOT EXISTS (SELECT 1 FROM tombstones t WHERE t.subject_id = her.id))
                    AS unfenced",
    )
    .bind(subject)
    .fetch_one(app.pool())
    .await?;
    let mut counts = BTreeMap::new();
    for name in ["people", "addresses", "unfenced"] {
        counts.insert(name.to_owned(), row.try_get::<i64, _>(name)?.unsigned_abs());
    }
    counts.insert("keys".to_owned(), app.keys.count_live(&[subject]).await?);
    if counts.values().any(|count| *count > 0) {
        tracing::error!(?counts, "the sweep found something left");
    }
    Ok(Evidence { counts, digest: hex(&Sha256::digest(b"")), ..Evidence::default() })
}

/// The tombstone that every write about her looks for. Under the lock of her stream.
async fn raise_tombstone(
    app: &App,
    session: &mut Session,
    command: &contract::Command,
) -> Result<(), VaultError> {
    sqlx::query(
        "INSERT INTO tombstones (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
         ON CONFLICT (subject_id) DO NOTHING",
    )
    .bind(command.subject_id)
    .bind(command.request_id)
    .bind(app.clock.now().to_sqlx())
    .execute(session.conn())
    .await?;
    Ok(())
}

fn state_of(stream: &Stream) -> State {
    stream.events.iter().fold(State::Unknown, |state, event| match event.event_type.as_str() {
        SUBJECT_REGISTERED => State::Registered,
        SUBJECT_ERASED => State::Erased,
        _ => state,
    })
}

/// What a step touched: kinds and ids, counted and digested.
#[derive(Default)]
struct Touched(BTreeSet<(&'static str, String)>);

impl Touched {
    fn add(&mut self, kind: &'static str, id: impl ToString) {
        self.0.insert((kind, id.to_string()));
    }

    fn evidence(&self) -> Evidence {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut digest = Sha256::new();
        for (kind, id) in &self.0 {
            *counts.entry((*kind).to_owned()).or_default() += 1;
            digest.update(format!("{kind} {id}\n"));
        }
        Evidence { counts, digest: hex(&digest.finalize()), ..Evidence::default() }
    }

    /// Keeps the evidence of the first execution, in its transaction: a repeat finds nothing left
    /// to do, but must answer the same.
    async fn keep(
        &self,
        session: &mut Session,
        command: &contract::Command,
    ) -> Result<Evidence, VaultError> {
        let evidence = self.evidence();
        let kept: Option<sqlx::types::Json<Evidence>> = sqlx::query_scalar(
            "UPDATE erasure_commands SET evidence = coalesce(evidence, $2)
             WHERE command_id = $1 RETURNING evidence",
        )
        .bind(command.command_id)
        .bind(sqlx::types::Json(&evidence))
        .fetch_optional(session.conn())
        .await?;
        Ok(kept.map_or(evidence, |kept| kept.0))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_over_the_sorted_list_of_what_was_touched() {
        let mut one = Touched::default();
        one.add("people", "b");
        one.add("addresses", "a");
        let mut other = Touched::default();
        other.add("addresses", "a");
        other.add("people", "b");
        assert_eq!(one.evidence(), other.evidence());
        assert_eq!(one.evidence().digest, hex(&Sha256::digest("addresses a\npeople b\n")));
        assert_eq!(one.evidence().counts["people"], 1);
    }
}
