//! Erasures that this service has answered and that its database doesn't know: it was restored from before
//! them. It guarantees that, once [`Participant::redo`] has come back, everything that the saga
//! has on record as answered by this service is done here, and proved by a sweep; that nothing is
//! answered before is the service's part.

use std::collections::HashSet;
use std::slice;

use assent_contracts::erasure::{AnsweredStep, Command, Erased, Positions, Step};
use assent_contracts::purposes::{ErasedPurpose, PurposeCommand};
use assent_eventstore::StoreError;
use assent_http::{ClientError, Listing};
use jiff_sqlx::ToSqlx as _;
use uuid::Uuid;

use crate::answer::is_unknown_path;
use crate::commands::hear_all;
use crate::purposes::hear_for_purposes;
use crate::work::{BATCH, Open};
use crate::{Participant, Steps};

/// People per page.
const PAGE: usize = 500;

/// Why not all is done again yet. Repeat it.
#[derive(Debug, thiserror::Error)]
pub enum RedoError<E> {
    /// The saga doesn't tell who was erased.
    #[error("the list of the erased can't be read: {0}")]
    List(#[from] ClientError),
    /// A step can't be done now.
    #[error("request {request_id}, {}: {source}", .step.name())]
    Step {
        /// The request.
        request_id: Uuid,
        /// The step.
        step: Step,
        /// Why.
        source: Open<E>,
    },
    /// A sweep found something left.
    #[error("request {0}: the sweep found something left")]
    Left(Uuid),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<E> From<sqlx::Error> for RedoError<E> {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// An answered step that isn't known here.
struct Lost {
    erased: Erased,
    answered: AnsweredStep,
}

impl<S: Steps> Participant<S> {
    /// Does again what the saga has on record as answered by this service and this database doesn't know.
    /// Everyone is fenced before anybody is deleted: people can be linked. Gives the requests.
    ///
    /// # Errors
    /// [`RedoError`]; what was done stays done: repeat it.
    pub async fn redo(&self) -> Result<Vec<Uuid>, RedoError<S::Error>> {
        let (lost, until) = self.lost().await?;
        let mut requests = Vec::new();
        for step in [Step::Fence, Step::Delete, Step::DestroyKeys, Step::Sweep] {
            let of_step: Vec<&Lost> = lost.iter().filter(|it| it.answered.step == step).collect();
            for some in of_step.chunks(BATCH) {
                self.again(some).await?;
                requests.extend(some.iter().map(|it| it.erased.request_id));
            }
        }
        requests.extend(self.redo_for_purposes().await?);
        requests.sort_unstable();
        requests.dedup();
        if !requests.is_empty() {
            tracing::warn!(?requests, "erasures that this database didn't know are done again");
        }
        if let Some(cursor) = until {
            const KEEP: &str = "
                INSERT INTO participant.erased_until (cursor) VALUES ($1)
                ON CONFLICT (only_row) DO UPDATE SET cursor = excluded.cursor";
            sqlx::query(KEEP).bind(cursor).execute(self.store.pool()).await?;
        }
        Ok(requests)
    }

    /// Does again what was answered of single purposes' data, after all whole persons: who is erased has none.
    async fn redo_for_purposes(&self) -> Result<Vec<Uuid>, RedoError<S::Error>> {
        const REDONE: &str = "
            UPDATE participant.purpose_commands SET redone_at = $2, answered_at = $2
            WHERE command_id = $1";
        let lost = self.lost_for_purposes().await?;
        for step in [Step::Fence, Step::Delete, Step::Sweep] {
            for command in lost.iter().filter(|it| it.purpose_step == step) {
                let mut connection = self.store.pool().acquire().await?;
                hear_for_purposes(&mut connection, &*self.clock, slice::from_ref(command)).await?;
                drop(connection);
                let request_id = command.request_id;
                let done = self.do_for_purpose(command).await;
                done.map_err(|source| RedoError::Step { request_id, step, source })?;
                sqlx::query(REDONE)
                    .bind(command.command_id)
                    .bind(self.clock.now().to_sqlx())
                    .execute(self.store.pool())
                    .await?;
            }
        }
        Ok(lost.into_iter().map(|it| it.request_id).collect())
    }

    /// Answered steps of single purposes' data that aren't known here, as commands without their barriers.
    async fn lost_for_purposes(&self) -> Result<Vec<PurposeCommand>, RedoError<S::Error>> {
        const KNOWN: &str = "
            SELECT command_id FROM participant.purpose_commands
            WHERE command_id = ANY($1) AND evidence IS NOT NULL";
        let (mut lost, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let after = cursor.as_ref().map(|it| format!("&cursor={it}")).unwrap_or_default();
            let path = format!("/v1/erased-purposes?limit={PAGE}{after}");
            let page: Listing<ErasedPurpose> = match self.saga.get(&path).await {
                Ok(page) => page,
                // A saga of the version before erases whole persons alone.
                Err(error) if is_unknown_path(&error) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let ids = page.items.iter().flat_map(|it| &it.acknowledged).map(|it| it.command_id);
            let known: Vec<Uuid> = sqlx::query_scalar(KNOWN)
                .bind(ids.collect::<Vec<_>>())
                .fetch_all(self.store.pool())
                .await?;
            for erased in page.items {
                let unknown = erased.acknowledged.iter();
                let unknown = unknown.filter(|it| !known.contains(&it.command_id));
                lost.extend(unknown.map(|answered| PurposeCommand {
                    command_id: answered.command_id,
                    request_id: erased.request_id,
                    subject_id: erased.subject_id,
                    purpose: erased.purpose.clone(),
                    purpose_step: answered.step,
                    until: erased.until,
                    participants: vec![S::PARTICIPANT.to_owned()],
                    barrier: Positions::new(),
                    at: answered.at,
                }));
            }
            let Some(next) = page.next else { return Ok(lost) };
            cursor = Some(next);
        }
    }

    /// What is lost, and the end of those pages on which nothing can become lost any more.
    async fn lost(&self) -> Result<(Vec<Lost>, Option<String>), RedoError<S::Error>> {
        const UNTIL: &str = "SELECT cursor FROM participant.erased_until";
        let mut cursor: Option<String> =
            sqlx::query_scalar(UNTIL).fetch_optional(self.store.pool()).await?;
        let (mut lost, mut until, mut all_over) = (Vec::new(), None, true);
        loop {
            let after = cursor.as_ref().map(|it| format!("&cursor={it}")).unwrap_or_default();
            let path = format!("/v1/erased?limit={PAGE}{after}");
            let page: Listing<Erased> = self.saga.get(&path).await?;
            let known = self.known(&page.items).await?;
            all_over &= page.items.iter().all(|it| it.completed);
            for erased in page.items {
                let unknown =
                    erased.acknowledged.iter().filter(|it| !known.contains(&it.command_id));
                let unknown: Vec<AnsweredStep> = unknown.cloned().collect();
                lost.extend(
                    unknown.into_iter().map(|answered| Lost { erased: erased.clone(), answered }),
                );
            }
            let Some(next) = page.next else { return Ok((lost, until)) };
            if all_over {
                until = Some(next.clone());
            }
            cursor = Some(next);
        }
    }

    async fn known(&self, erased: &[Erased]) -> Result<HashSet<Uuid>, sqlx::Error> {
        const KNOWN: &str = "
            SELECT command_id FROM participant.commands
            WHERE command_id = ANY($1) AND evidence IS NOT NULL";
        let ids: Vec<Uuid> =
            erased.iter().flat_map(|it| &it.acknowledged).map(|it| it.command_id).collect();
        let known: Vec<Uuid> =
            sqlx::query_scalar(KNOWN).bind(ids).fetch_all(self.store.pool()).await?;
        Ok(known.into_iter().collect())
    }

    /// Steps of one kind, without their barriers: those bound the first time, and what comes late finds the fence.
    async fn again(&self, lost: &[&Lost]) -> Result<(), RedoError<S::Error>> {
        const REDONE: &str = "
            UPDATE participant.commands SET redone_at = $2, answered_at = $2
            WHERE command_id = ANY($1)";
        let mut commands = Vec::with_capacity(lost.len());
        for Lost { erased, answered } in lost {
            let AnsweredStep { command_id, step, at } = answered.clone();
            let (request_id, subject_id) = (erased.request_id, erased.subject_id);
            let participants = vec![S::PARTICIPANT.to_owned()];
            let barrier = Positions::new();
            let command =
                Command { command_id, request_id, subject_id, step, participants, barrier, at };
            commands.push(command);
        }
        let mut connection = self.store.pool().acquire().await?;
        hear_all(&mut connection, &*self.clock, &commands).await?;
        drop(connection);
        let mut outcomes = self.do_all(commands.clone()).await;
        let (mut done, mut failed) = (Vec::with_capacity(commands.len()), None);
        for Command { command_id, request_id, step, .. } in commands {
            match outcomes.remove(&command_id).unwrap_or(Err(Open::Elsewhere)) {
                Ok(found) if step == Step::Sweep && found.counts.values().any(|n| *n > 0) => {
                    failed.get_or_insert(RedoError::Left(request_id));
                }
                Ok(_) => done.push(command_id),
                Err(source) => {
                    failed.get_or_insert(RedoError::Step { request_id, step, source });
                }
            }
        }
        // The saga has its answer; should it ask all the same, the command is heard and open again.
        sqlx::query(REDONE)
            .bind(done)
            .bind(self.clock.now().to_sqlx())
            .execute(self.store.pool())
            .await?;
        failed.map_or(Ok(()), Err)
    }
}
