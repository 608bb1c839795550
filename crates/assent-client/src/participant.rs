//! Takes part in erasures (`docs/guides/participants.md`). It guarantees that the position in the command topic moves
//! only past what was answered and heard, or refused for good; that a command is done once is the holder's to keep.

use std::fmt::Display;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::envelope::CE_TYPE;
use assent_contracts::erasure::{Ack, COMMAND, Command, Evidence};
use assent_contracts::topics::ERASURE_COMMANDS;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Headers as _};
use rdkafka::{ClientConfig, Message as _, Offset};
use tokio::runtime::Runtime;

use crate::http::{Client, Error};

/// The first pause before a command is tried again, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// Whoever holds data about people.
pub trait Holder {
    /// Why something can't be done now.
    type Error: Display;

    /// Forgets somebody who was erased before it was registered, and refuses her from then on.
    ///
    /// # Errors
    /// It can't now: the start fails.
    fn forget(&mut self, subject_id: SubjectId) -> Result<(), Self::Error>;

    /// Does what a command asks, once: its evidence is kept in the transaction of the work, and given again when the
    /// same `command_id` comes again. A sweep looks anew each time.
    ///
    /// # Errors
    /// It can't now: it is asked again.
    fn carry_out(&mut self, command: &Command) -> Result<Evidence, Self::Error>;
}

/// What [`Participant::poll`] came to.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// Nothing to do came within the wait.
    Idle,
    /// A command was done and its answer heard.
    Answered(Box<Command>),
    /// A command was refused for good: it belongs to nothing that is open. The reason, or the code.
    Refused(Box<Command>, String),
    /// A command couldn't be done, or not be answered; it comes again. Why.
    Later(Box<Command>, String),
}

/// A participant under the name that it is registered with.
pub struct Participant<H> {
    name: String,
    holder: H,
    client: Client,
    consumer: BaseConsumer,
    calls: Runtime,
    pause: Duration,
}

impl<H: Holder> Participant<H> {
    /// Loads everybody who is erased and has them forgotten, then listens, in the group `PREFIX` + `name`. Blocks, here
    /// and in [`Self::poll`]: call it from a thread of its own, outside of a runtime.
    ///
    /// # Errors
    /// What is missing, in a sentence. Nothing was taken in: try again.
    pub fn start(
        kafka: &ClientConfig,
        prefix: &str,
        client: Client,
        name: &str,
        mut holder: H,
    ) -> Result<Self, String> {
        let calls = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let calls = calls.map_err(|error| format!("no runtime: {error}"))?;
        let erased = calls.block_on(client.erased());
        for erased in erased.map_err(|error| format!("the erased can't be loaded: {error}"))? {
            holder.forget(erased.subject_id).map_err(|error| error.to_string())?;
        }
        let mut config = kafka.clone();
        config
            .set("group.id", format!("{prefix}{name}"))
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        let listening = || -> KafkaResult<BaseConsumer> {
            let consumer: BaseConsumer = config.create()?;
            consumer.subscribe(&[&ERASURE_COMMANDS.name(prefix)])?;
            Ok(consumer)
        };
        let consumer = listening().map_err(|error| format!("Kafka: {error}"))?;
        let name = name.to_owned();
        Ok(Self { name, holder, client, consumer, calls, pause: PAUSES[0] })
    }

    /// Takes the next record, if one comes within `wait`: does what it asks and answers it. After
    /// [`Progress::Later`] it has paused, and the same record is read again by the next call.
    ///
    /// # Errors
    /// Kafka's.
    pub fn poll(&mut self, wait: Duration) -> KafkaResult<Progress> {
        let Some(record) = self.consumer.poll(wait) else { return Ok(Progress::Idle) };
        let record = record?;
        let Some(command) = asked(&self.name, &record) else {
            self.consumer.commit_message(&record, CommitMode::Sync)?;
            return Ok(Progress::Idle);
        };
        let progress = match self.holder.carry_out(&command) {
            Ok(evidence) => {
                self.calls.block_on(answer(&self.client, &self.name, command, evidence))
            }
            Err(error) => Progress::Later(Box::new(command), error.to_string()),
        };
        if matches!(progress, Progress::Later(..)) {
            let (topic, partition) = (record.topic(), record.partition());
            self.consumer.seek(topic, partition, Offset::Offset(record.offset()), wait)?;
            std::thread::sleep(self.pause);
            self.pause = (2 * self.pause).min(PAUSES[1]);
        } else {
            self.pause = PAUSES[0];
            self.consumer.commit_message(&record, CommitMode::Sync)?;
        }
        Ok(progress)
    }

    /// What was given to it.
    pub fn holder(&mut self) -> &mut H {
        &mut self.holder
    }
}

async fn answer(client: &Client, name: &str, command: Command, evidence: Evidence) -> Progress {
    let (command_id, step) = (command.command_id, command.step);
    let ack = Ack { command_id, step, participant: name.to_owned(), evidence };
    let answered = client.acknowledge(command.request_id, &ack).await;
    let command = Box::new(command);
    match answered {
        Ok(()) => Progress::Answered(command),
        Err(Error::Refused(refusal)) => {
            let reason = refusal.problem["reason"].as_str().unwrap_or(&refusal.code).to_owned();
            // A sweep that found something looks again, who is behind reads on; without a right somebody has to give it.
            let passes = matches!(reason.as_str(), "not_empty" | "behind_barrier");
            if matches!(refusal.status, 404 | 409 | 422) && !passes {
                Progress::Refused(command, reason)
            } else {
                Progress::Later(command, reason)
            }
        }
        Err(error) => Progress::Later(command, error.to_string()),
    }
}

/// The command, if it is one that this participant is asked; other types and steps of later versions are passed over.
fn asked(name: &str, record: &BorrowedMessage<'_>) -> Option<Command> {
    let kind = record.headers()?.iter().find(|header| header.key == CE_TYPE)?.value?;
    if kind != COMMAND.as_bytes() {
        return None;
    }
    let command = Command::read(record.payload()?).ok()??;
    command.participants.iter().any(|asked| asked == name).then_some(command)
}
