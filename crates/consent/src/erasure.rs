//! All that this service does for erasure, as the participant `consent`. It guarantees that nothing
//! of the person is written after the fence, and that the sweep looks for all that the deletion
//! took; that a step is done once and answered is the participant's part.

use std::collections::HashMap;
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use assent_contracts::erasure::Step;
use assent_eventstore::{Session, StoreError};
use assent_participant::{Held, Keeping, Steps, Task, held, open, subjects};
use assent_runtime::{Clock, Ids};
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

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
    /// How long what keeps people out, and evidence, is kept.
    pub keeping: Keeping,
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
        step: Step,
        tasks: &mut [Task],
    ) -> Result<(), StoreError> {
        match step {
            Step::Fence => {
                self.fence(session, tasks).await?;
                let until = self.keeping.suppression_until(self.clock.now());
                for task in open(tasks) {
                    task.touched.keep("fence", "stays_erased", None);
                    task.touched.keep("closed_addresses", "stays_erased", until);
                }
            }
            Step::Delete => {
                // What is deleted stays deleted only behind a fence; it is there already unless
                // this database is older than the saga. What that touches is the fence's evidence.
                let mut fences: Vec<Task> =
                    tasks.iter().map(|task| Task::of(task.command.clone())).collect();
                self.fence(session, &mut fences).await?;
                // Who shares an address with her stands without her words from now on.
                standing::mark_addresses_of(session.conn(), &subjects(tasks)).await?;
                held::delete(session.conn(), &HELD, tasks).await?;
                let mut gone = permits::forget(session.conn(), &subjects(tasks)).await?;
                for task in open(tasks) {
                    let hers = gone.remove(&task.command.subject_id).unwrap_or_default();
                    task.touched.add("permits", hers);
                }
            }
            // No key was ever here.
            Step::DestroyKeys => {}
            Step::Sweep => {
                held::find(session.conn(), &HELD, tasks).await?;
                let mut left = permits::recorded(session.conn(), &subjects(tasks)).await?;
                for task in open(tasks) {
                    let hers = left.remove(&task.command.subject_id).unwrap_or_default();
                    task.touched.add("permits", hers);
                }
            }
        }
        Ok(())
    }
}

impl Eraser {
    /// Closes the ledgers and every address of their own for whoever comes to have it. Those of who is one with
    /// them are closed by their own erasures.
    async fn fence(&self, session: &mut Session, tasks: &mut [Task]) -> Result<(), StoreError> {
        const FENCE: &str = "
            INSERT INTO fences (subject_id, request_id, fenced_at)
            SELECT subject_id, request_id, $3
            FROM unnest($1::uuid[], $2::uuid[]) AS t (subject_id, request_id)
            ON CONFLICT (subject_id) DO NOTHING";
        const OWN: &str =
            "SELECT subject_id, token FROM gate_links WHERE subject_id = ANY($1) AND own";
        let (now, people) = (self.clock.now(), subjects(tasks));
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(LINKING_LOCK)
            .execute(session.conn())
            .await?;
        let mut streams = session.lock(&people).await?;
        let mut pending = Pending::default();
        for task in open(tasks) {
            let subject = task.command.subject_id;
            let stream = streams.remove(&subject).unwrap_or_default();
            let mut ledger = ledger(&stream)?;
            let erase = Command::Erase { request_id: task.command.request_id };
            let events = ledger.decide(erase, now).unwrap_or_default();
            let origin = Origin { now, idempotency: None, traceparent: None };
            let ids = pending.push(&*self.ids, subject, &mut ledger, &events, origin);
            task.touched.add("fences", ids);
        }
        pending.write(session, now).await?;
        let requests: Vec<Uuid> = open(tasks).map(|task| task.command.request_id).collect();
        sqlx::query(FENCE)
            .bind(&people)
            .bind(requests)
            .bind(now.to_sqlx())
            .execute(session.conn())
            .await?;
        let rows: Vec<(Uuid, Vec<u8>)> =
            sqlx::query_as(OWN).bind(&people).fetch_all(session.conn()).await?;
        let mut own: HashMap<Uuid, Vec<AddressToken>> = HashMap::new();
        for (subject, bytes) in rows {
            let token = AddressToken::from_bytes(&bytes)
                .map_err(|error| sqlx::Error::Decode(error.into()))?;
            own.entry(subject).or_default().push(token);
        }
        let mut closings = Vec::new();
        for task in open(tasks) {
            let tokens = own.remove(&task.command.subject_id).unwrap_or_default();
            task.touched.add("addresses", tokens.iter().map(ToString::to_string));
            let by = task.command.request_id;
            let closing = |token| Closing { token, kind: StopKind::Erased, by, since: now };
            closings.extend(tokens.into_iter().map(closing));
        }
        gate::close(session.conn(), &closings).await?;
        Ok(())
    }
}
