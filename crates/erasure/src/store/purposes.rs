//! What a held person's erasures of single purposes' data need of the store: their rows, and their commands. It guarantees
//! that no such command is published in the shape of one for a whole person.

use assent_contracts::purposes::{PURPOSE_COMMAND, PurposeCommand};
use assent_contracts::topics::ERASURE_COMMANDS;
use assent_eventstore::{Message, StoreError};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use super::Held;
use crate::domain::Issued;

impl Held {
    /// Queues a command about one purpose's data for its participants, for the first time or again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn issue_for_purpose(
        &mut self,
        request_id: Uuid,
        issued: &Issued,
    ) -> Result<(), StoreError> {
        let Some(erasure) = self.person.purposes.get(request_id) else { return Ok(()) };
        let command = PurposeCommand {
            command_id: issued.command_id,
            request_id,
            subject_id: self.subject,
            purpose: erasure.purpose.clone(),
            purpose_step: issued.step,
            until: erasure.until().unwrap_or(issued.at),
            participants: issued.participants.iter().cloned().collect(),
            barrier: issued.barrier.clone(),
            at: issued.at,
        };
        let data = to_raw_value(&command).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let message = Message {
            id: self.ids.v7(),
            topic: ERASURE_COMMANDS,
            key: self.subject,
            event_type: PURPOSE_COMMAND,
            data,
            at: self.now,
            traceparent: self.trace(Some(request_id)),
        };
        // Who has answered is called no more.
        let missing: Vec<String> = issued.missing().cloned().collect();
        self.publish(message, &missing, issued.command_id).await
    }

    /// How often the open commands of this request were sent again, if the driver is to look at it now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_for_purpose(&mut self, request_id: Uuid) -> Result<Option<i32>, StoreError> {
        const DUE: &str = "
            SELECT tries FROM purpose_erasures WHERE request_id = $1 AND look_at <= $2 FOR UPDATE";
        Ok(sqlx::query_scalar(DUE)
            .bind(request_id)
            .bind(self.now.to_sqlx())
            .fetch_optional(self.session.conn())
            .await?)
    }

    /// Sets when the driver looks at this request again; `None`: never.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look_again_for_purpose(
        &mut self,
        request_id: Uuid,
        at: Option<Timestamp>,
        tries: i32,
    ) -> Result<(), StoreError> {
        const LOOK: &str =
            "UPDATE purpose_erasures SET look_at = $2, tries = $3 WHERE request_id = $1";
        sqlx::query(LOOK)
            .bind(request_id)
            .bind(at.map(|at| at.to_sqlx()))
            .bind(tries)
            .execute(self.session.conn())
            .await?;
        Ok(())
    }

    /// Keeps the certificate of this request.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_purpose_certificate(
        &mut self,
        request_id: Uuid,
        jws: &str,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE purpose_erasures SET certificate = $2 WHERE request_id = $1")
            .bind(request_id)
            .bind(jws)
            .execute(self.session.conn())
            .await?;
        Ok(())
    }
}
