//! All that this service does for erasure, as the participant `consent`. It guarantees that nothing
//! of the person is written after the fence, and that the sweep looks for all that the deletion
//! took; that a step is done once and answered is the participant's part.

use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use assent_contracts::erasure::{Command as SagaCommand, Step};
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, Steps, Touched, held};
use assent_runtime::{Clock, Ids};
use jiff_sqlx::ToSqlx as _;

use crate::commands::{Origin, Pending, ledger};
use crate::domain::decide::Command;
use crate::gate::{self, Closing};
use crate::links::LINKING_LOCK;
use crate::{permits, standing};

/// What the consent service does for an erasure.
pub struct Eraser {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
}

/// What this service holds of a person. The tombstone (her last event, and her fence) and the closed
/// addresses stay: they hold no more than her random id and keyed hashes, and keep her erased.
static HELD: [Held; 14] = [
    Held::new("consent_lines", "consent_lines WHERE subject_id = $1", "purpose || ' ' || channel"),
    Held::new("links", "gate_links WHERE subject_id = $1", "encode(token, 'hex')"),
    Held::new("ages", "ages WHERE subject_id = $1", "subject_id::text"),
    Held::new("restrictions", "restrictions WHERE subject_id = $1", "event_id::text"),
    Held::new("asks", "asks WHERE subject_id = $1", "request_id::text"),
    Held::new("contacts", "contacts WHERE subject_id = $1", "subject_id::text"),
    Held::new("claims", "claims WHERE subject_id = $1", "batch_id::text"),
    Held::new("codes", "codes WHERE subject_id = $1", "about::text"),
    Held::new("preference_links", "preference_links WHERE subject_id = $1", "link_id::text"),
    Held::new("standing_due", "standing_due WHERE subject_id = $1", "id::text"),
    Held::new("retention_due", "retention_due WHERE subject_id = $1", "subject_id::text"),
    Held::new("permits", "permits WHERE subject_id = $1", "permit_id::text"),
    held::EVENTS,
    held::IDEMPOTENCY_KEYS,
];

impl Steps for Eraser {
    const PARTICIPANT: &'static str = "consent";
    const CONSUMER: &'static str = "consent.erasure";
    type Error = StoreError;

    async fn carry_out(
        &self,
        session: &mut Session,
        command: &SagaCommand,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        let subject = command.subject_id;
        match command.step {
            Step::Fence => {
                self.fence(session, command, touched).await?;
                touched.keep("fence", "stays_erased", None);
                touched.keep("closed_addresses", "stays_erased", None);
            }
            Step::Delete => {
                // What is deleted stays deleted only behind a fence; it is there already unless
                // this database is older than the saga.
                self.fence(session, command, &mut Touched::default()).await?;
                // Who shares an address with her stands without her words from now on.
                standing::mark_addresses_of(session.conn(), &[subject]).await?;
                held::delete(session.conn(), &HELD, subject, touched).await?;
                let permits = permits::forget(session.conn(), subject).await?;
                touched.add("permits", permits);
            }
            // No key was ever here.
            Step::DestroyKeys => {}
            Step::Sweep => {
                held::find(session.conn(), &HELD, subject, touched).await?;
                let permits = permits::recorded(session.conn(), subject).await?;
                touched.add("permits", permits);
            }
        }
        Ok(())
    }
}

impl Eraser {
    /// Closes the ledger and every address of her own for whoever comes to have it. Those of who is one with her
    /// are closed by their own erasures.
    async fn fence(
        &self,
        session: &mut Session,
        command: &SagaCommand,
        touched: &mut Touched,
    ) -> Result<(), StoreError> {
        const FENCE: &str = "
            INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $2, $3)
            ON CONFLICT (subject_id) DO NOTHING";
        let (now, subject) = (self.clock.now(), command.subject_id);
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LINKING_LOCK)
            .execute(session.conn())
            .await?;
        let stream = session.lock(&[subject]).await?.remove(&subject).unwrap_or_default();
        let mut ledger = ledger(&stream)?;
        let erase = Command::Erase { request_id: command.request_id };
        let events = ledger.decide(erase, now).unwrap_or_default();
        let mut pending = Pending::default();
        let origin = Origin { now, idempotency: None, traceparent: None };
        let ids = pending.push(&*self.ids, subject, &mut ledger, &events, origin);
        pending.write(session, now).await?;
        touched.add("fences", ids);
        sqlx::query(FENCE)
            .bind(subject)
            .bind(command.request_id)
            .bind(now.to_sqlx())
            .execute(session.conn())
            .await?;
        let tokens: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT token FROM gate_links WHERE subject_id = $1 AND own")
                .bind(subject)
                .fetch_all(session.conn())
                .await?;
        let closings = tokens
            .iter()
            .map(|bytes| {
                let token = AddressToken::from_bytes(bytes)
                    .map_err(|error| sqlx::Error::Decode(error.into()))?;
                Ok(Closing { token, kind: StopKind::Erased, by: command.request_id, since: now })
            })
            .collect::<Result<Vec<_>, sqlx::Error>>()?;
        gate::close(session.conn(), &closings).await?;
        touched.add("addresses", closings.iter().map(|closing| closing.token.to_string()));
        Ok(())
    }
}
