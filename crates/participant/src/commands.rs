//! Hears the saga's commands. It guarantees that each becomes a row in the transaction of the
//! consumer's position, and that a repeat makes it open again; the work is another file's.

use std::sync::Arc;

use assent_bus::{ApplyError, Reader, Received, Sequencing, Subscriber};
use assent_contracts::erasure::{COMMAND, Command};
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_runtime::Clock;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use sqlx::types::Json;
use tokio::sync::Notify;

use crate::Steps;

/// A service's consumer of commands.
#[must_use]
pub fn reader<S: Steps>() -> Reader {
    Reader { consumer: S::CONSUMER, topic: ERASURE_COMMANDS }
}

/// The subscriber of the command topic.
pub struct Commands {
    pub(crate) participant: &'static str,
    pub(crate) consumer: &'static str,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) heard: Arc<Notify>,
}

impl Subscriber for Commands {
    fn name(&self) -> &'static str {
        self.consumer
    }

    fn topics(&self) -> Vec<Topic> {
        vec![ERASURE_COMMANDS]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::None
    }

    async fn apply(&self, conn: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        for (index, message) in batch.iter().enumerate() {
            if message.event_type != COMMAND {
                continue;
            }
            let read = Command::read(&message.data);
            let read = read.map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })?;
            // The saga of a later version asks a later participant; whom it asks in vain it shows as missing.
            let Some(command) = read else {
                tracing::warn!(event_id = %message.id, "an erasure command with an unknown step");
                continue;
            };
            if command.participants.iter().any(|name| name == self.participant) {
                hear(conn, &*self.clock, &command).await?;
            }
        }
        // Early by a commit at most: then the next look finds it.
        self.heard.notify_one();
        Ok(())
    }
}

/// Takes a command over. A repeat is answered again, with what was done the first time.
///
/// # Errors
/// When the database fails.
pub async fn hear(
    conn: &mut PgConnection,
    clock: &dyn Clock,
    command: &Command,
) -> Result<(), sqlx::Error> {
    const HEAR: &str = "
        INSERT INTO participant.commands (command_id, command, heard_at) VALUES ($1, $2, $3)
        ON CONFLICT (command_id) DO UPDATE
            SET answered_at = NULL, times_heard = commands.times_heard + 1";
    sqlx::query(HEAR)
        .bind(command.command_id)
        .bind(Json(command))
        .bind(clock.now().to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}
