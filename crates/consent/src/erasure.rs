//! All that this service does for erasure, as the participant `consent`. It guarantees that nothing
//! of the person is written after the fence, and that the sweep looks for all that the deletion
//! took; that a step is done once and answered is the participant's part.

use std::collections::HashMap;
use std::sync::Arc;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use assent_contracts::consent::{Actor, Method, State};
use assent_contracts::erasure::Step;
use assent_eventstore::{Session, StoreError};
use assent_participant::{
    Held, Keeping, PurposeRows, PurposeTask, Steps, Task, held, open, subjects,
};
use assent_runtime::{Clock, Ids};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::commands::{Origin, Pending, ledger};
use crate::domain::decide::Command;
use crate::domain::event::Act;
use crate::domain::ledger::Ledger;
use crate::domain::scope::{ANY, Scope};
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

/// What this service holds of one purpose of a person and need not keep: what she was asked, and what a list claimed of
/// her; beside these the codes by which she would have agreed. Her words stay, as the proof of them.
static OF_PURPOSE: [PurposeRows; 2] = [
    PurposeRows::new(
        "asks",
        "asks WHERE subject_id = $1 AND purpose = $2 AND asked_at <= $3",
        "request_id::text",
    ),
    PurposeRows::new(
        "claims",
        "claims WHERE subject_id = $1 AND acted_at <= $3 AND batch_id IN
            (SELECT batch_id FROM claim_batches WHERE purpose = $2)",
        "batch_id::text",
    ),
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

    /// The fence of a purpose is a no to it, as of the moment up to which its data are meant: what is told later and is
    /// older counts no more, and a yes that is younger stands.
    async fn carry_out_for_purpose(
        &self,
        session: &mut Session,
        task: &mut PurposeTask,
    ) -> Result<(), StoreError> {
        match task.command.purpose_step {
            Step::Fence => {
                self.say_no(session, task).await?;
                task.touched.keep("consent_proof", "proof_of_consent", None);
                let until = self.keeping.evidence_until(self.clock.now());
                task.touched.keep("verdicts", "proof_of_consent", until);
            }
            Step::Delete => {
                const DELETE: &str = "
                    DELETE FROM codes WHERE subject_id = $1 AND about = ANY($2) RETURNING about";
                codes(session, task, DELETE).await?;
                task.delete(session.conn(), &OF_PURPOSE).await?;
            }
            // No key was ever here.
            Step::DestroyKeys => {}
            Step::Sweep => {
                const FIND: &str =
                    "SELECT about FROM codes WHERE subject_id = $1 AND about = ANY($2)";
                codes(session, task, FIND).await?;
                take_out_late(session.conn(), task).await?;
                task.find(session.conn(), &OF_PURPOSE).await?;
            }
        }
        Ok(())
    }
}

/// Notes the codes by which she would have agreed to the purpose: which they are her stream tells. Under its lock nobody asks
/// her meanwhile.
async fn codes(
    session: &mut Session,
    task: &mut PurposeTask,
    statement: &'static str,
) -> Result<(), StoreError> {
    let subject = task.command.subject_id;
    let stream = session.lock(&[subject]).await?.remove(&subject).unwrap_or_default();
    let ledger = ledger(&stream)?;
    let about = ledger.requests_about(&task.command.purpose, task.command.until);
    let about: Vec<Uuid> = about.collect();
    let codes: Vec<Uuid> =
        sqlx::query_scalar(statement).bind(subject).bind(about).fetch_all(session.conn()).await?;
    task.touched.add("codes", codes);
    Ok(())
}

/// A part of a list that came since may claim an older yes of hers again: it would count no more.
async fn take_out_late(conn: &mut PgConnection, task: &PurposeTask) -> Result<(), sqlx::Error> {
    const TAKE_OUT: &str = "
        DELETE FROM claims WHERE subject_id = $1 AND acted_at <= $3 AND batch_id IN
            (SELECT batch_id FROM claim_batches WHERE purpose = $2)";
    sqlx::query(TAKE_OUT)
        .bind(task.command.subject_id)
        .bind(&task.command.purpose)
        .bind(task.command.until.to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether she has said no to all of a purpose, and no yes to any of it stands that is as old as this.
fn has_said_no(ledger: &Ledger, scope: &Scope, until: Timestamp) -> bool {
    let no = |state| matches!(state, State::Withdrawn | State::Refused);
    let mut to_all = ledger.lines().filter(|(own, _)| own.covers(scope));
    let mut of_it = ledger.lines().filter(|(own, _)| scope.covers(own));
    to_all.any(|(_, line)| no(line.state))
        && of_it.all(|(_, line)| no(line.state) || line.since > until)
}

impl Eraser {
    /// Records the no, unless it stands already or she is erased whole.
    async fn say_no(
        &self,
        session: &mut Session,
        task: &mut PurposeTask,
    ) -> Result<(), StoreError> {
        let subject = task.command.subject_id;
        let stream = session.lock(&[subject]).await?.remove(&subject).unwrap_or_default();
        let mut ledger = ledger(&stream)?;
        let scope = Scope::new(&task.command.purpose, ANY);
        // Of somebody who has no stream here there is nothing to take back.
        if ledger.version == 0 || has_said_no(&ledger, &scope, task.command.until) {
            task.touched.add("withdrawals", std::iter::empty::<Uuid>());
            return Ok(());
        }
        let now = self.clock.now();
        let act = Act {
            actor: Actor::System,
            method: Method::ErasureRequest,
            place: None,
            evidence: None,
            // The saga's clock may be ahead.
            acted_at: Some(task.command.until.min(now)),
        };
        let events = ledger.decide(Command::Withdraw { scope, act }, now).unwrap_or_default();
        let origin = Origin { now, idempotency: None, traceparent: None };
        let mut pending = Pending::default();
        let ids = pending.push(&*self.ids, subject, &mut ledger, &events, origin);
        task.touched.add("withdrawals", ids);
        pending.write(session, now).await
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Event;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn act() -> Act {
        Act {
            actor: Actor::Subject,
            method: Method::Api,
            place: None,
            evidence: None,
            acted_at: None,
        }
    }

    fn yes(purpose: &str, second: i64) -> Event {
        Event::Granted {
            scope: Scope::new(purpose, "whatsapp"),
            notice: (1, "n".to_owned()),
            act: act(),
            at: at(second),
            valid_until: None,
            lapses_after_days: None,
            confirms: None,
        }
    }

    fn no(purpose: &str, second: i64) -> Event {
        Event::Withdrawn { scope: Scope::new(purpose, ANY), act: act(), at: at(second) }
    }

    fn fold(events: &[Event]) -> Ledger {
        let numbered = (1_i64..).zip(events);
        Ledger::fold(numbered.map(|(n, event)| (Uuid::from_u128(n as u128), n, event)))
    }

    #[test]
    fn a_purpose_is_fenced_by_a_no_that_leaves_a_younger_yes() {
        let (scope, until) = (Scope::new("news", ANY), at(5));
        let stands = |events: &[Event]| has_said_no(&fold(events), &scope, until);
        assert!(!stands(&[yes("news", 1)]));
        assert!(stands(&[yes("news", 1), no("news", 2)]));
        assert!(stands(&[yes("news", 1), no(ANY, 2)]), "a no to everything is one to this");
        assert!(!stands(&[no("news", 2), yes("news", 3)]), "she changed her mind before");
        assert!(stands(&[no("news", 2), yes("news", 9)]), "and since: that is new");
        assert!(!stands(&[no("service", 2)]), "another purpose");

        // The no is as of that moment, whenever it is recorded: done again, it takes nothing away that came since.
        let mut ledger = fold(&[yes("news", 1), yes("news", 9)]);
        let act = Act { acted_at: Some(until), ..act() };
        for event in ledger.decide(Command::Withdraw { scope, act }, at(20)).unwrap() {
            ledger.evolve(Uuid::from_u128(77), 3, &event);
        }
        let line = ledger.last_word(&Scope::new("news", "whatsapp")).unwrap();
        assert_eq!((line.state, line.since), (State::Given, at(9)));
        let late =
            fold(&[no("news", 5), yes("news", 4)]).last_word(&Scope::new("news", "whatsapp"));
        assert_eq!(late.map(|line| line.state), Some(State::Withdrawn), "told later, and older");
    }
}
