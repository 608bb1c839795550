//! What people do of their own towards us, as messaging tells it. It guarantees that a message of a person's
//! is an act of hers and nothing else is: not that she was sent one, and not that she read one.

use assent_bus::{ApplyError, Reader, Received, Sequencing, Subscriber};
use assent_contracts::messaging::{MESSAGE_RECEIVED, MessageReceived};
use assent_contracts::topics::{MESSAGING_EVENTS, Topic};
use assent_eventstore::batcher::Batcher;
use sqlx::PgConnection;

use crate::commands::{CommandError, LedgerCommand, LedgerHandler, Wish};

/// Its consumer.
pub const READER: Reader = Reader { consumer: "consent.contacts", topic: MESSAGING_EVENTS };

/// Follows messaging.
pub struct Contacts {
    /// The way to the ledgers.
    pub batcher: Batcher<LedgerHandler>,
}

impl Subscriber for Contacts {
    fn name(&self) -> &'static str {
        READER.consumer
    }

    fn topics(&self) -> Vec<Topic> {
        vec![READER.topic]
    }

    fn sequencing(&self) -> Sequencing {
        Sequencing::Tracked
    }

    /// In transactions of their own: an act that is told twice says nothing new.
    async fn apply(&self, _: &mut PgConnection, batch: &[Received]) -> Result<(), ApplyError> {
        let (mut indices, mut commands) = (Vec::new(), Vec::new());
        for (index, event) in batch.iter().enumerate() {
            if event.event_type != MESSAGE_RECEIVED {
                continue;
            }
            let received: MessageReceived = serde_json::from_slice(&event.data)
                .map_err(|_| ApplyError::Poison { index, reason: "malformed_data" })?;
            let acted_at = received.said_at.unwrap_or(received.at);
            let wish = Wish::Contact { channel: "whatsapp".to_owned(), acted_at };
            indices.push(index);
            commands.push(LedgerCommand {
                traceparent: event.traceparent.clone(),
                ..LedgerCommand::of_ours(event.key, wish)
            });
        }
        for (index, outcome) in indices.into_iter().zip(self.batcher.run_each(commands).await) {
            match outcome {
                // Who is erased has no more acts.
                Ok(_) | Err(CommandError::Refused(_)) => {}
                Err(error) if error.lasts() => {
                    return Err(ApplyError::Poison { index, reason: "ledger_unreadable" });
                }
                Err(error) => {
                    tracing::debug!(%error, "an act can't be recorded yet");
                    return Err(ApplyError::Transient("contact_not_recorded".to_owned()));
                }
            }
        }
        Ok(())
    }
}
