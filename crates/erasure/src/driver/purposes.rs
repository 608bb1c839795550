//! Moves the erasures of single purposes' data on, each alone: they are few. It guarantees for them what the driver
//! guarantees for whole persons; what differs is that no key is destroyed and which holds keep them waiting.

use assent_contracts::SubjectId;
use assent_contracts::erasure::{Positions, Step};
use assent_eventstore::StoreError;
use jiff::SignedDuration;
use jiff_sqlx::ToSqlx as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{ALONE, Driver, Stuck, TOGETHER, later};
use crate::barrier::Ends;
use crate::certificate;
use crate::domain::{Command, Issued, Summary};
use crate::metrics;
use crate::store::Held;

impl Driver {
    /// Moves on what is due. Tells whether all of it could be.
    pub(super) async fn drive_purposes(&self) -> bool {
        const DUE: &str = "
            SELECT request_id, subject_id FROM purpose_erasures
            WHERE look_at <= $1 ORDER BY look_at LIMIT $2";
        let due: Result<Vec<(Uuid, SubjectId)>, sqlx::Error> = sqlx::query_as(DUE)
            .bind(self.sagas.clock.now().to_sqlx())
            .bind(TOGETHER)
            .fetch_all(self.sagas.store.pool())
            .await;
        let due = match due {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "due erasures of one purpose's data can't be read");
                return false;
            }
        };
        let mut moved = true;
        for some in due.chunks(ALONE) {
            let mut tasks = JoinSet::new();
            for (request_id, subject) in some {
                let (driver, request_id, subject) = (self.clone(), *request_id, *subject);
                tasks.spawn(async move { driver.drive_purpose_logged(subject, request_id).await });
            }
            moved &= tasks.join_all().await.into_iter().all(|moved| moved);
        }
        moved
    }

    async fn drive_purpose_logged(&self, subject: SubjectId, request_id: Uuid) -> bool {
        let Err(error) = self.drive_purpose(subject, request_id).await else { return true };
        tracing::warn!(%error, %request_id, "an erasure of one purpose's data can't be moved on now");
        // One that can't be moved must not stand before those that can.
        if let Err(error) = self.defer_purpose(request_id).await {
            tracing::warn!(%error, "nor can it be put off");
        }
        false
    }

    async fn defer_purpose(&self, request_id: Uuid) -> Result<(), sqlx::Error> {
        const DEFER: &str =
            "UPDATE purpose_erasures SET look_at = $2 WHERE request_id = $1 AND look_at < $2";
        let at = later(self.sagas.clock.now(), self.pace.retry);
        let defer = sqlx::query(DEFER).bind(request_id).bind(at.to_sqlx());
        defer.execute(self.sagas.store.pool()).await.map(|_| ())
    }

    /// Moves one on as far as it goes without an answer.
    async fn drive_purpose(&self, subject: SubjectId, request_id: Uuid) -> Result<(), Stuck> {
        let mut barrier: Option<Positions> = None;
        loop {
            let mut held = self.sagas.hold(subject).await?;
            // Another replica was faster, or it rests.
            let Some(tries) = held.due_for_purpose(request_id).await? else {
                return Ok(held.rollback().await?);
            };
            let next = held.person.next_of_purpose(request_id, &held.registry, held.now);
            let Some(next) = next else { return Ok(held.rollback().await?) };
            match next {
                Summary::Held => {
                    let erasure = held.person.purposes.get(request_id);
                    let end =
                        erasure.and_then(|it| held.person.holds.end_for(&it.purpose, held.now));
                    held.look_again_for_purpose(request_id, end, 0).await?;
                    return Ok(held.commit().await?);
                }
                Summary::Completed => {
                    held.look_again_for_purpose(request_id, None, 0).await?;
                    return Ok(held.commit().await?);
                }
                Summary::Waiting => return self.remind_of_purpose(held, request_id, tries).await,
                // Asking Kafka takes its time: not under lock.
                Summary::Due(Step::Delete) if barrier.is_none() => {
                    held.rollback().await?;
                    barrier = Some(Ends::read(&self.bus).await?.of(subject));
                }
                Summary::Due(_) => {
                    let barrier = barrier.take().unwrap_or_default();
                    return self.start_purpose_step(held, request_id, barrier).await;
                }
                Summary::Proved => {
                    let completed = self.complete_purpose(held, request_id).await;
                    return completed.inspect_err(|_| metrics::certificate_failed());
                }
            }
        }
    }

    async fn start_purpose_step(
        &self,
        mut held: Held,
        request_id: Uuid,
        barrier: Positions,
    ) -> Result<(), Stuck> {
        let command_id = self.sagas.ids.v7();
        let events = match held.person.purposes.get(request_id) {
            None => Vec::new(),
            Some(erasure) => {
                let standing = held.person.holds.stand_for(&erasure.purpose, held.now);
                erasure.start_step(command_id, &held.registry, barrier, standing, held.now)?
            }
        };
        held.record(events, None).await?;
        let request = held.person.purposes.get(request_id).and_then(|it| it.request());
        if let Some(issued) = request.and_then(|request| request.command(command_id)).cloned() {
            tracing::info!(%request_id, step = ?issued.step, "a step of one purpose's erasure begins");
            held.issue_for_purpose(request_id, &issued).await?;
        }
        // Several newcomers at several steps: look at once whether more is due.
        let next = held.person.next_of_purpose(request_id, &held.registry, held.now);
        let more = next != Some(Summary::Waiting);
        let next = if more { held.now } else { later(held.now, self.pace.retry) };
        held.look_again_for_purpose(request_id, Some(next), 0).await?;
        Ok(held.commit().await?)
    }

    /// Sends open commands again and notes which are overdue.
    async fn remind_of_purpose(
        &self,
        mut held: Held,
        request_id: Uuid,
        tries: i32,
    ) -> Result<(), Stuck> {
        let timeout =
            SignedDuration::try_from(self.pace.step_timeout).unwrap_or(SignedDuration::MAX);
        let request = held.person.purposes.get(request_id).and_then(|it| it.request());
        let commands = request.into_iter().flat_map(|request| &request.commands);
        let open: Vec<Issued> = commands.filter(|it| !it.is_answered()).cloned().collect();
        let mut next = later(held.now, self.pace.pause(tries));
        for issued in open {
            self.note_overdue(&mut held, request_id, &issued, timeout).await?;
            held.issue_for_purpose(request_id, &issued).await?;
            if issued.overdue.is_empty() {
                let overdue_at = later(issued.at, self.pace.step_timeout);
                if overdue_at > held.now {
                    next = next.min(overdue_at);
                }
            }
        }
        held.look_again_for_purpose(request_id, Some(next), tries.saturating_add(1)).await?;
        Ok(held.commit().await?)
    }

    async fn note_overdue(
        &self,
        held: &mut Held,
        request_id: Uuid,
        issued: &Issued,
        timeout: SignedDuration,
    ) -> Result<(), StoreError> {
        let Some(erasure) = held.person.purposes.get(request_id) else { return Ok(()) };
        let command = Command::MarkOverdue { command_id: issued.command_id, timeout };
        match erasure.decide(command, held.now) {
            Ok(events) if events.is_empty() => {}
            Ok(events) => {
                let owners = held.owners().await?;
                let missing: Vec<_> =
                    issued.missing().map(|name| (name, owners.get(name))).collect();
                let step = issued.step;
                tracing::warn!(?step, ?missing, "a step of one purpose's erasure is overdue");
                metrics::overdue();
                held.record(events, None).await?;
            }
            Err(refusal) => metrics::refused(refusal),
        }
        Ok(())
    }

    async fn complete_purpose(&self, mut held: Held, request_id: Uuid) -> Result<(), Stuck> {
        let secrets = held.secrets_of(&[request_id]).await?;
        let (controller, key_backup_kept) = (&*self.controller, self.key_backup_kept);
        let terms = certificate::Terms { controller, key_backup_kept };
        let payload =
            certificate::payload_of_purpose(&held.person, request_id, &secrets, terms, held.now);
        let Some(payload) = payload else { return Ok(held.rollback().await?) };
        let signed = certificate::sign(&self.issuer, &payload)?;
        let sha256 = signed.payload_sha256.clone();
        let events = match held.person.purposes.get(request_id) {
            None => Vec::new(),
            Some(erasure) => erasure.complete(&held.registry, sha256, held.now)?,
        };
        held.record(events, None).await?;
        held.keep_purpose_certificate(request_id, &signed.jws).await?;
        held.look_again_for_purpose(request_id, None, 0).await?;
        held.commit().await?;
        metrics::completed();
        tracing::info!(%request_id, "an erasure of one purpose's data is complete");
        Ok(())
    }
}
