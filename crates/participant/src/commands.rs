//! Hears the saga's commands. It guarantees that each becomes a row in the transaction of the
//! consumer's position, and that a repeat makes it open again; the work is another file's.

use std::collections::BTreeMap;
use std::slice;
use std::sync::Arc;

use assent_bus::{ApplyError, Reader, Received, Sequencing, Subscriber};
use assent_contracts::erasure::{COMMAND, Command};
use assent_contracts::purposes::{PURPOSE_COMMAND, PurposeCommand};
use assent_contracts::topics::{ERASURE_COMMANDS, Topic};
use assent_runtime::Clock;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Steps;
use crate::purposes::hear_for_purposes;

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
        let (mut commands, mut for_purposes) = (Vec::new(), Vec::new());
        for (index, message) in batch.iter().enumerate() {
            if message.event_type == PURPOSE_COMMAND {
                let read = PurposeCommand::read(&message.data);
                let read =
                    read.map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })?;
                let asks = |it: &PurposeCommand| {
                    it.participants.iter().any(|name| name == self.participant)
                };
                for_purposes.extend(read.filter(asks));
                continue;
            }
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
                commands.push(command);
            }
        }
        hear_all(conn, &*self.clock, &commands).await?;
        hear_for_purposes(conn, &*self.clock, &for_purposes).await?;
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
    hear_all(conn, clock, slice::from_ref(command)).await
}

/// As [`hear`], for many in one statement.
pub(crate) async fn hear_all(
    conn: &mut PgConnection,
    clock: &dyn Clock,
    commands: &[Command],
) -> Result<(), sqlx::Error> {
    const HEAR: &str = "
        INSERT INTO participant.commands (command_id, command, heard_at, times_heard)
        SELECT id, command::jsonb, $4, times
        FROM unnest($1::uuid[], $2::text[], $3::integer[]) AS t (id, command, times) ORDER BY id
        ON CONFLICT (command_id) DO UPDATE
            SET answered_at = NULL, times_heard = commands.times_heard + excluded.times_heard";
    let mut heard: BTreeMap<Uuid, (String, i32)> = BTreeMap::new();
    for command in commands {
        let text = serde_json::to_string(command);
        let text = text.map_err(|error| sqlx::Error::Encode(error.into()))?;
        // One row is written once by a statement.
        heard.entry(command.command_id).or_insert((text, 0)).1 += 1;
    }
    if heard.is_empty() {
        return Ok(());
    }
    let (ids, rest): (Vec<Uuid>, Vec<(String, i32)>) = heard.into_iter().unzip();
    let (texts, times): (Vec<String>, Vec<i32>) = rest.into_iter().unzip();
    sqlx::query(HEAR)
        .bind(ids)
        .bind(texts)
        .bind(times)
        .bind(clock.now().to_sqlx())
        .execute(conn)
        .await?;
    Ok(())
}
