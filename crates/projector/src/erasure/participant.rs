//! The loop that works off the saga's commands. It guarantees that a command is done and answered
//! until the saga has heard it, by one replica at a time, and not before everything that the
//! command's barrier names has been folded in; what a step does stands in the parent module.

use std::sync::Arc;
use std::time::Duration;

use assent_bus::consumer;
use assent_contracts::erasure::{Ack, Command, Evidence, Positions};
use assent_http::{ClientError, ServiceClient};
use assent_runtime::Clock;
use jiff::SignedDuration;
use jiff_sqlx::ToSqlx as _;
use serde::de::IgnoredAny;
use sqlx::PgPool;
use sqlx::types::Json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{PARTICIPANT, perform};
use crate::error::ProjectorError;
use crate::model::Projection;

/// How often open commands are looked for when nothing announces them.
const PAUSE: Duration = Duration::from_millis(500);
/// For how long a command is one replica's. Longer than any step takes; after a crash another
/// replica goes on then.
const CLAIM: SignedDuration = SignedDuration::from_secs(20);
/// How long a command rests whose barrier is not reached, or that failed.
const REST: Duration = Duration::from_millis(300);
/// Most commands worked on at once.
const TOGETHER: i64 = 32;

/// Works off commands and answers them.
pub struct Participant {
    /// The service's database.
    pub pool: PgPool,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The erasure service.
    pub erasure: ServiceClient,
    /// What topic names begin with.
    pub topic_prefix: String,
    /// Rings when a command was taken over.
    pub heard: Arc<Notify>,
}

/// Why a command is still open.
#[derive(Debug, thiserror::Error)]
enum Open {
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    #[error("not all that the command's barrier names has been folded in")]
    Behind,
    #[error("the erasure service: {0}")]
    Unheard(ClientError),
}

impl Participant {
    /// Works until `stopping`; commands under way are finished.
    ///
    /// # Errors
    /// Never; failures are logged and tried again.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), std::convert::Infallible> {
        let this = Arc::new(self);
        let mut working = JoinSet::new();
        while !stopping.is_cancelled() {
            match this.claim().await {
                Ok(commands) => {
                    for command in commands {
                        let this = Arc::clone(&this);
                        working.spawn(async move { this.work(command).await });
                    }
                }
                Err(error) => tracing::warn!(%error, "erasure commands can't be looked for"),
            }
            while working.try_join_next().is_some() {}
            tokio::select! {
                () = stopping.cancelled() => {}
                () = this.heard.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        while working.join_next().await.is_some() {}
        Ok(())
    }

    async fn claim(&self) -> Result<Vec<Command>, ProjectorError> {
        let now = self.clock.now();
        let commands: Vec<Json<Command>> = sqlx::query_scalar(
            "UPDATE erasure_commands SET claimed_until = $2 WHERE command_id IN (
                 SELECT command_id FROM erasure_commands
                 WHERE answered_at IS NULL AND (claimed_until IS NULL OR claimed_until < $1)
                 ORDER BY received_at LIMIT $3 FOR UPDATE SKIP LOCKED)
             RETURNING command",
        )
        .bind(now.to_sqlx())
        .bind((now + CLAIM).to_sqlx())
        .bind(TOGETHER)
        .fetch_all(&self.pool)
        .await?;
        Ok(commands.into_iter().map(|command| command.0).collect())
    }

    async fn work(&self, command: Command) {
        let outcome = self.step_and_answer(&command).await;
        match &outcome {
            Ok(()) => {}
            // The read models catch up by themselves: nothing to tell anyone.
            Err(Open::Behind) => tokio::time::sleep(REST).await,
            Err(error) => {
                let (request, step) = (command.request_id, command.step);
                tracing::warn!(%request, ?step, %error, "an erasure step stays open");
                tokio::time::sleep(REST).await;
            }
        }
        // Answered, or free for the next try.
        let closed = sqlx::query(
            "UPDATE erasure_commands SET claimed_until = NULL,
                 answered_at = CASE WHEN $2 THEN $3 ELSE answered_at END
             WHERE command_id = $1",
        )
        .bind(command.command_id)
        .bind(outcome.is_ok())
        .bind(self.clock.now().to_sqlx())
        .execute(&self.pool)
        .await;
        if let Err(error) = closed {
            let error = ProjectorError::from(error);
            tracing::warn!(%error, "an erasure command will be answered again");
        } else if outcome.is_err() {
            self.heard.notify_one();
        }
    }

    async fn step_and_answer(&self, command: &Command) -> Result<(), Open> {
        let positions = self.positions().await?;
        if !reached(&positions, &command.barrier) {
            return Err(Open::Behind);
        }
        let evidence = perform(&self.pool, &*self.clock, command).await?;
        let ack = Ack {
            command_id: command.command_id,
            step: command.step,
            participant: PARTICIPANT.to_owned(),
            evidence: Evidence { positions, ..evidence },
        };
        let path = format!("/v1/requests/{}/acks", command.request_id);
        match self.erasure.post::<_, IgnoredAny>(&path, &ack, None).await {
            Ok(_) => Ok(()),
            // It no longer waits for this answer. Should it, it repeats the command.
            Err(error @ ClientError::Problem { status, .. }) if status.is_client_error() => {
                let request = command.request_id;
                tracing::warn!(%request, %error, "an acknowledgement was refused");
                Ok(())
            }
            Err(error) => Err(Open::Unheard(error)),
        }
    }

    /// What has been folded in, over all projections.
    async fn positions(&self) -> Result<Positions, ProjectorError> {
        let mut positions = Positions::new();
        for projection in Projection::ALL {
            for ((topic, partition), next) in
                consumer::positions(&self.pool, projection.consumer()).await?
            {
                let name = format!("{}{topic}", self.topic_prefix);
                positions.entry(name).or_default().insert(partition, next);
            }
        }
        Ok(positions)
    }
}

/// Whether what was folded in reaches the barrier. Topics that no projection reads don't concern
/// the projector.
fn reached(positions: &Positions, barrier: &Positions) -> bool {
    barrier.iter().all(|(topic, partitions)| {
        positions.get(topic).is_none_or(|ours| {
            partitions
                .iter()
                .all(|(partition, next)| ours.get(partition).copied().unwrap_or_default() >= *next)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(topic: &str, partition: i32, next: i64) -> Positions {
        Positions::from([(topic.to_owned(), [(partition, next)].into())])
    }

    #[test]
    fn a_barrier_on_what_we_read_is_waited_for() {
        assert!(reached(&at("consent", 0, 5), &at("consent", 0, 5)));
        assert!(!reached(&at("consent", 0, 4), &at("consent", 0, 5)));
        assert!(!reached(&at("consent", 0, 4), &at("consent", 1, 1)));
        assert!(reached(&at("consent", 0, 4), &at("others", 0, 9)));
    }
}
