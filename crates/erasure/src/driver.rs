//! Moves sagas on: issues what is due, sends again what is not answered, notes what is overdue,
//! certifies what is proved. It guarantees that a saga goes on after any restart and with any
//! number of replicas, because all that it knows is in the store; the rules are the domain's, and whose turn it is
//! says `turns`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{BusConfig, TopicError};
use assent_contracts::SubjectId;
use assent_contracts::erasure::{Positions, Step};
use assent_eventstore::{StoreError, to_the_end};
use assent_runtime::failpoint;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::barrier::Ends;
use crate::certificate;
use crate::domain::{Command, Issued, Refusal, Summary};
use crate::metrics;
use crate::store::{Held, Sagas};
use crate::turns::{self, TOGETHER};
use assent_signing::Issuer;
use assent_signing::canonical::CanonicalError;

mod purposes;

/// With each further so many under way an answer takes as long again.
const UNDER_WAY_EASY: u32 = 250;
/// Sagas that are worked on alone, at the same time.
const ALONE: usize = 8;

/// How patient the saga is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long the answers to a command may take before it is overdue.
    pub step_timeout: Duration,
    /// How long before an unanswered command is sent again; doubled each time.
    pub retry: Duration,
    /// The longest pause between two repeats.
    pub retry_max: Duration,
    /// How often due sagas are looked for when nothing announces them.
    pub poll: Duration,
    /// How many people of bulks are under way at once: whoever asks for one erasure waits behind no more.
    pub bulk_window: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            step_timeout: Duration::from_secs(60),
            retry: Duration::from_secs(2),
            retry_max: Duration::from_secs(300),
            poll: Duration::from_millis(500),
            bulk_window: 256,
        }
    }
}

/// The worker.
#[derive(Clone)]
pub struct Driver {
    /// The sagas.
    pub sagas: Sagas,
    /// Where barriers are read.
    pub bus: BusConfig,
    /// Signs certificates.
    pub issuer: Arc<Issuer>,
    /// The legal entity that certificates name.
    pub controller: Arc<str>,
    /// How long backups of keys are kept, where that is stated.
    pub key_backup_kept: Option<SignedDuration>,
    /// How patient it is.
    pub pace: Pace,
    /// Wakes it when something may be due.
    pub wake: Arc<Notify>,
}

/// Why a saga could not be moved on now.
#[derive(Debug, thiserror::Error)]
enum Stuck {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the barrier can't be read: {0}")]
    Barrier(#[from] TopicError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Certificate(#[from] CanonicalError),
}

impl Driver {
    /// Works until `stopping`. Failures are logged and outlived.
    ///
    /// # Errors
    /// Never; the type is the lifecycle's.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        while !stopping.is_cancelled() {
            let (due, under_way) = match turns::due(&self.sagas).await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(%error, "due erasures can't be read");
                    (Vec::new(), 0)
                }
            };
            let is_all = i64::try_from(due.len()) != Ok(TOGETHER);
            let mut moved = true;
            let alone = self.move_together(due, self.pace.patience(under_way)).await;
            for some in alone.chunks(ALONE) {
                let mut tasks = JoinSet::new();
                for subject in some {
                    let (driver, subject) = (self.clone(), *subject);
                    tasks.spawn(async move { driver.drive_logged(subject).await });
                }
                moved &= tasks.join_all().await.into_iter().all(|moved| moved);
            }
            moved &= self.drive_purposes().await;
            if moved && !is_all {
                continue;
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.pace.poll) => {}
            }
        }
        Ok(())
    }

    /// Issues what is due for many, in one transaction or two. Gives those that are to be looked at alone: what else
    /// may be due for them, and all of them where it fails.
    async fn move_together(&self, due: Vec<SubjectId>, patience: Duration) -> Vec<SubjectId> {
        if due.len() < 2 {
            return due;
        }
        let (driver, people) = (self.clone(), due.clone());
        // In a task of its own, which nobody cancels.
        match to_the_end(async move { driver.start_steps(&people, patience).await }).await {
            Ok(started) => due.into_iter().filter(|it| !started.contains(it)).collect(),
            Err(error) => {
                tracing::warn!(%error, "erasures are moved on one by one");
                due
            }
        }
    }

    /// Whom a step was started for.
    async fn start_steps(
        &self,
        people: &[SubjectId],
        patience: Duration,
    ) -> Result<BTreeSet<SubjectId>, Stuck> {
        let (mut started, deleting) = self.start_all(people, None, patience).await?;
        if !deleting.is_empty() {
            // Read after the last fence of theirs was answered, and asking Kafka takes its time: not under lock.
            let ends = Ends::read(&self.bus).await?;
            started.extend(self.start_all(&deleting, Some(ends), patience).await?.0);
        }
        if !started.is_empty() {
            failpoint::hit_async("erasure.step_started").await;
        }
        Ok(started)
    }

    /// Starts what is due but, without `ends`, deletions; those people are told too.
    async fn start_all(
        &self,
        people: &[SubjectId],
        ends: Option<Ends>,
        patience: Duration,
    ) -> Result<(BTreeSet<SubjectId>, Vec<SubjectId>), Stuck> {
        let mut crowd = self.sagas.hold_all(people).await?;
        let (mut started, mut deleting) = (BTreeSet::new(), Vec::new());
        for subject in crowd.due().await? {
            let Some(person) = crowd.person(subject) else { continue };
            let Some(Summary::Due(step)) = person.next(&crowd.registry, crowd.now) else {
                continue;
            };
            let barrier = match (&ends, step) {
                (None, Step::Delete) => {
                    deleting.push(subject);
                    continue;
                }
                (Some(ends), Step::Delete) => ends.of(subject),
                _ => Positions::new(),
            };
            let command_id = self.sagas.ids.v7();
            let held = person.holds.stand(crowd.now);
            let registry = &crowd.registry;
            let command = Command::StartStep { command_id, registry, barrier, held };
            let events = person.start_step(command, crowd.now)?;
            // What ends with her fence beside the saga is written where one is looked at alone.
            if events.len() != 1 {
                continue;
            }
            crowd.record(subject, &events)?;
            let Some(person) = crowd.person(subject) else { continue };
            let request = person.saga.request.as_ref();
            let issued = request.and_then(|request| request.command(command_id)).cloned();
            // Several newcomers at several steps: look at once whether more is due.
            let more = person.next(&crowd.registry, crowd.now) != Some(Summary::Waiting);
            let look_at = if more { crowd.now } else { later(crowd.now, patience) };
            if let Some(issued) = issued {
                crowd.issue(subject, &issued, look_at)?;
                started.insert(subject);
            }
        }
        if started.is_empty() {
            crowd.rollback().await?;
        } else {
            tracing::info!(people = started.len(), "erasure steps begin");
            crowd.commit().await?;
        }
        Ok((started, deleting))
    }

    async fn drive_logged(&self, subject: SubjectId) -> bool {
        match self.drive(subject).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "an erasure can't be moved on now");
                // One that can't be moved must not stand before those that can.
                let at = later(self.sagas.clock.now(), self.pace.retry);
                if let Err(error) = self.sagas.defer(subject, at).await {
                    tracing::warn!(%error, "nor can it be put off");
                }
                false
            }
        }
    }

    /// Moves one saga on as far as it goes without an answer.
    async fn drive(&self, subject: SubjectId) -> Result<(), Stuck> {
        let mut barrier: Option<Positions> = None;
        let mut certifying = false;
        loop {
            let mut held = self.sagas.hold(subject).await?;
            // Another replica was faster, or it rests.
            let Some(tries) = held.due().await? else { return Ok(held.rollback().await?) };
            let Some(next) = held.person.next(&held.registry, held.now) else {
                return Ok(held.rollback().await?);
            };
            match next {
                Summary::Held => {
                    let end = held.person.holds.end(held.now);
                    held.look_again(end, 0).await?;
                    return Ok(held.commit().await?);
                }
                Summary::Completed => {
                    held.look_again(None, 0).await?;
                    return Ok(held.commit().await?);
                }
                Summary::Waiting => return self.remind(held, tries).await,
                // Asking Kafka takes its time: not under lock.
                Summary::Due(Step::Delete) if barrier.is_none() => {
                    held.rollback().await?;
                    barrier = Some(Ends::read(&self.bus).await?.of(subject));
                }
                Summary::Due(_) => {
                    self.start_step(held, barrier.take().unwrap_or_default()).await?;
                    failpoint::hit_async("erasure.step_started").await;
                    return Ok(());
                }
                Summary::Proved if !certifying => {
                    held.rollback().await?;
                    failpoint::hit_async("erasure.before_certificate").await;
                    certifying = true;
                }
                Summary::Proved => {
                    let completed = self.complete(held).await;
                    return completed.inspect_err(|_| metrics::certificate_failed());
                }
            }
        }
    }

    async fn start_step(&self, mut held: Held, barrier: Positions) -> Result<(), Stuck> {
        let command_id = self.sagas.ids.v7();
        let standing = held.person.holds.stand(held.now);
        let registry = &held.registry;
        let command = Command::StartStep { command_id, registry, barrier, held: standing };
        let events = held.person.start_step(command, held.now)?;
        held.record(events, None).await?;
        let request = held.person.saga.request.as_ref();
        if let Some(issued) = request.and_then(|request| request.command(command_id)).cloned() {
            let (request_id, step) = (request.map(|request| request.id), issued.step);
            tracing::info!(?request_id, ?step, "an erasure step begins");
            held.issue(&issued).await?;
        }
        // Several newcomers at several steps: look at once whether more is due.
        let more = held.person.next(&held.registry, held.now) != Some(Summary::Waiting);
        let next = if more { held.now } else { later(held.now, self.pace.retry) };
        held.look_again(Some(next), 0).await?;
        Ok(held.commit().await?)
    }

    /// Sends open commands again and notes which are overdue.
    async fn remind(&self, mut held: Held, tries: i32) -> Result<(), Stuck> {
        let timeout =
            SignedDuration::try_from(self.pace.step_timeout).unwrap_or(SignedDuration::MAX);
        let open: Vec<Issued> = held
            .person
            .saga
            .request
            .iter()
            .flat_map(|request| &request.commands)
            .filter(|command| !command.is_answered())
            .cloned()
            .collect();
        let mut next = later(held.now, self.pace.pause(tries));
        for issued in open {
            let command = Command::MarkOverdue { command_id: issued.command_id, timeout };
            match held.person.saga.decide(command, held.now) {
                Ok(events) if events.is_empty() => {}
                Ok(events) => {
                    let owners = held.owners().await?;
                    let missing: Vec<_> =
                        issued.missing().map(|name| (name, owners.get(name))).collect();
                    tracing::warn!(step = ?issued.step, ?missing, "an erasure step is overdue");
                    metrics::overdue();
                    held.record(events, None).await?;
                }
                Err(refusal) => metrics::refused(refusal),
            }
            held.issue(&issued).await?;
            if issued.overdue.is_empty() {
                let overdue_at = later(issued.at, self.pace.step_timeout);
                if overdue_at > held.now {
                    next = next.min(overdue_at);
                }
            }
        }
        held.look_again(Some(next), tries.saturating_add(1)).await?;
        Ok(held.commit().await?)
    }

    async fn complete(&self, mut held: Held) -> Result<(), Stuck> {
        let secrets = held.secrets_of(&certificate::answers(&held.person)).await?;
        let (controller, key_backup_kept) = (&*self.controller, self.key_backup_kept);
        let terms = certificate::Terms { controller, key_backup_kept };
        let payload = certificate::payload(&held.person, &secrets, terms, held.now);
        let Some(payload) = payload else { return Ok(held.rollback().await?) };
        let request_id = payload.request_id;
        let signed = certificate::sign(&self.issuer, &payload)?;
        let command = Command::Complete {
            registry: &held.registry,
            certificate_sha256: signed.payload_sha256,
        };
        let events = held.person.complete(command, held.now)?;
        held.record(events, None).await?;
        held.keep_certificate(request_id, &signed.jws).await?;
        held.look_again(None, 0).await?;
        held.commit().await?;
        metrics::completed();
        tracing::info!(%request_id, "an erasure is complete");
        Ok(())
    }
}

impl Pace {
    /// How long the answers to a command are waited for before it is sent again, with so many under way.
    fn patience(&self, under_way: u32) -> Duration {
        self.retry.saturating_mul(1 + under_way / UNDER_WAY_EASY).min(self.retry_max)
    }

    /// How long to wait before the next try.
    pub(crate) fn pause(&self, tries: i32) -> Duration {
        let doublings = u32::try_from(tries).unwrap_or(0).min(16);
        self.retry.saturating_mul(1 << doublings).min(self.retry_max)
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let pace = Pace::default();
        let pauses: Vec<u64> =
            [0, 1, 2, 7, 8, i32::MAX].iter().map(|tries| pace.pause(*tries).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 256, 300, 300]);
    }
}
