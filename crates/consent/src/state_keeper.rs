//! Keeps the compacted state topic true, and marks whose words may concern others
//! ([`standing`]). A deposed relay leader may write an old value after a
//! newer one, and there it would win for ever: whoever finds a record older than the person's
//! ledger has the current state published again. Followers that read in between are left to their
//! own rule: they ignore what is older than what they have.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{ApplyError, Reader, Received, Sequencing, Subscriber};
use assent_contracts::consent::{ConsentState, State};
use assent_contracts::topics::{CONSENT_STATE, Topic};
use assent_eventstore::{Append, EventStore, Expected};
use assent_runtime::{Cadence, Clock, Ids};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::commands::{ledger, state_record};
use crate::standing;

/// Its consumer.
pub const READER: Reader = Reader { consumer: "consent.state-keeper", topic: CONSENT_STATE };

/// Follows the state topic.
pub struct StateKeeper {
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
}

impl Subscriber for StateKeeper {
    fn name(&self) -> &'static str {
        READER.consumer
    }

    fn topics(&self) -> Vec<Topic> {
        vec![READER.topic]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::None
    }

    /// Nobody waits for it.
    fn cadence(&self) -> Cadence {
        Cadence::steady(Duration::from_millis(500))
    }

    /// A record behind the ledger is either on its way to being overtaken by one in the outbox,
    /// or wrong for good; publishing the current state is right in both cases, and a record of
    /// the current version asks for nothing more. So this comes to rest.
    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        // Within the batch only the last record of a key stands.
        let last: HashMap<Uuid, i64> = batch.iter().map(|r| (r.key, r.sequence)).collect();
        let keys: Vec<Uuid> = last.keys().copied().collect();
        let rows = sqlx::query("SELECT id, version FROM eventstore.streams WHERE id = ANY($1)")
            .bind(&keys)
            .fetch_all(&mut *conn)
            .await?;
        let speakers: Vec<Uuid> =
            batch.iter().filter(|record| may_concern_others(record)).map(|r| r.key).collect();
        standing::mark_speakers(conn, &speakers).await?;
        standing::mark_located(&self.store, conn, &keys).await?;
        let mut stale = Vec::new();
        for row in rows {
            let (key, version): (Uuid, i64) = (row.try_get(0)?, row.try_get(1)?);
            if last.get(&key).is_some_and(|sequence| *sequence < version) {
                stale.push(key);
            }
        }
        if !stale.is_empty() {
            tracing::info!(records = stale.len(), "older states are written over");
            self.publish_again(&stale).await?;
        }
        Ok(())
    }
}

/// A first word that is a yes changes nothing for whoever shares an address.
fn may_concern_others(record: &Received) -> bool {
    let yes = |state: &ConsentState| state.consents.iter().all(|line| line.state == State::Given);
    record.sequence > 1 || !serde_json::from_slice(&record.data).is_ok_and(|state| yes(&state))
}

impl StateKeeper {
    /// In a transaction of its own: it may be repeated, and it must hold the streams' locks for
    /// as short as an append does.
    async fn publish_again(&self, subjects: &[Uuid]) -> Result<(), ApplyError> {
        let transient = |error: assent_eventstore::StoreError| {
            tracing::debug!(%error, "the state can't be published again yet");
            ApplyError::Transient("state_not_republished".to_owned())
        };
        let now = self.clock.now();
        let mut session = self.store.begin().await.map_err(transient)?;
        let streams = session.lock(subjects).await.map_err(transient)?;
        let mut appends = Vec::with_capacity(streams.len());
        for (subject, stream) in &streams {
            let ledger = ledger(stream).map_err(transient)?;
            appends.push(Append {
                state: Some(state_record(&*self.ids, &ledger)),
                ..Append::new(
                    *subject,
                    Expected::Exact(stream.version),
                    assent_contracts::topics::CONSENT_EVENTS,
                    Vec::new(),
                    now,
                )
            });
        }
        session.append(appends).await.map_err(transient)?;
        session.commit().await.map_err(transient)
    }
}
