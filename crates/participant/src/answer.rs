//! Answers the saga, for one command or for many of a step. It guarantees that a command is closed only when the saga
//! has heard an answer that is younger than its last repeat.

use std::collections::HashMap;

use assent_contracts::erasure::{Ack, AcksAnswer, AcksRequest, RequestAck};
use assent_http::{ClientError, Code};
use jiff_sqlx::ToSqlx as _;
use serde::de::IgnoredAny;
use uuid::Uuid;

use crate::work::{Open, Waiting, pass};
use crate::{Participant, Steps};

impl<S: Steps> Participant<S> {
    /// Tells the saga what was done, and closes what it has heard.
    pub(crate) async fn answer(&self, done: &[Waiting]) -> Result<(), Open<S::Error>> {
        let Some(step) = done.first().map(|it| it.command.step) else { return Ok(()) };
        pass(step, "before_answer").await;
        let heard = match done {
            [one] => vec![self.answer_one(one).await?],
            many => match self.answer_all(many).await {
                Ok(heard) => heard,
                Err(error) if is_unknown_path(&error) => {
                    // A saga of the version before hears them one by one.
                    let mut heard = Vec::with_capacity(many.len());
                    for one in many {
                        heard.push(self.answer_one(one).await?);
                    }
                    heard
                }
                Err(error) => return Err(Open::Unheard(error)),
            },
        };
        pass(step, "after_answer").await;
        // Heard again meanwhile: then another answer is waited for.
        const ANSWERED: &str = "
            UPDATE participant.commands SET answered_at = $3
            FROM unnest($1::uuid[], $2::integer[]) AS t (id, times)
            WHERE command_id = t.id AND times_heard = t.times";
        let closed = || done.iter().zip(&heard).filter(|(_, heard)| **heard).map(|(it, _)| it);
        sqlx::query(ANSWERED)
            .bind(closed().map(|it| it.command.command_id).collect::<Vec<_>>())
            .bind(closed().map(|it| it.times_heard).collect::<Vec<_>>())
            .bind(self.clock.now().to_sqlx())
            .execute(self.store.pool())
            .await?;
        Ok(())
    }

    /// Whether the saga has heard it: yes, or it couldn't be reached.
    async fn answer_one(&self, waiting: &Waiting) -> Result<bool, Open<S::Error>> {
        let request_id = waiting.command.request_id;
        let path = format!("/v1/requests/{request_id}/acks");
        match self.saga.post::<_, IgnoredAny>(&path, &ack::<S>(waiting), None).await {
            Ok(_) => Ok(true),
            Err(error) if error.code().is_some_and(is_heard) => {
                // Should the saga wait for another answer, it repeats the command.
                tracing::warn!(%error, %request_id, "an answer was refused");
                Ok(true)
            }
            Err(error) => Err(Open::Unheard(error)),
        }
    }

    /// Which of these the saga has heard.
    async fn answer_all(&self, waiting: &[Waiting]) -> Result<Vec<bool>, ClientError> {
        let acks = waiting
            .iter()
            .map(|it| RequestAck { request_id: it.command.request_id, ack: ack::<S>(it) })
            .collect();
        let answer: AcksAnswer = self.saga.post("/v1/acks", &AcksRequest { acks }, None).await?;
        let refused: HashMap<Uuid, String> = answer
            .outcomes
            .into_iter()
            .filter_map(|outcome| Some((outcome.command_id, outcome.refused?)))
            .collect();
        let heard = |it: &Waiting| {
            let (command_id, request_id) = (it.command.command_id, it.command.request_id);
            let Some(code) = refused.get(&command_id) else { return true };
            tracing::warn!(%code, %request_id, "an answer was refused");
            Code::by_name(code).is_some_and(is_heard)
        };
        Ok(waiting.iter().map(heard).collect())
    }
}

fn ack<S: Steps>(waiting: &Waiting) -> Ack {
    Ack {
        command_id: waiting.command.command_id,
        step: waiting.command.step,
        participant: S::PARTICIPANT.to_owned(),
        evidence: waiting.evidence.clone().unwrap_or_default(),
    }
}

/// Whether it is the saga itself that doesn't take the answer.
pub(crate) fn is_heard(code: Code) -> bool {
    [Code::AckMismatch, Code::RequestUnknown, Code::ValidationFailed].contains(&code)
}

/// Whether nobody answers at this path.
pub(crate) fn is_unknown_path(error: &ClientError) -> bool {
    matches!(error, ClientError::Problem { status, .. } if [404, 405].contains(&status.as_u16()))
}
