//! Published events of conversations, in `assent.messaging.events.v1`. Key: the `subject_id`. No event
//! holds what was written: bodies and notes are messaging's, and end with their retention.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// `assent.messaging.conversation_opened.v1`
pub const CONVERSATION_OPENED: &str = "assent.messaging.conversation_opened.v1";
/// `assent.messaging.conversation_handed_over.v1`
pub const CONVERSATION_HANDED_OVER: &str = "assent.messaging.conversation_handed_over.v1";
/// `assent.messaging.conversation_assigned.v1`
pub const CONVERSATION_ASSIGNED: &str = "assent.messaging.conversation_assigned.v1";
/// `assent.messaging.conversation_closed.v1`
pub const CONVERSATION_CLOSED: &str = "assent.messaging.conversation_closed.v1";
/// `assent.messaging.conversation_noted.v1`
pub const CONVERSATION_NOTED: &str = "assent.messaging.conversation_noted.v1";
/// `assent.messaging.conversation_read.v1`
pub const CONVERSATION_READ: &str = "assent.messaging.conversation_read.v1";
/// `assent.messaging.bot_disclosed.v1`
pub const BOT_DISCLOSED: &str = "assent.messaging.bot_disclosed.v1";

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answering {
    /// The bot.
    Bot,
    /// A human.
    Human,
}

/// A person wrote, and no conversation with her was open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConversationOpened {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Who answers.
    pub answering: Answering,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Somebody else answers from now on; a human who does is named by [`ConversationAssigned`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConversationHandedOver {
    /// The conversation.
    pub conversation_id: Uuid,
    /// To whom.
    pub to: Answering,
    /// Why, a stable code.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A human took it, or was given it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConversationAssigned {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The name of the human's key.
    pub assignee: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// It is over; what she writes next opens another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConversationClosed {
    /// The conversation.
    pub conversation_id: Uuid,
    /// Why, a stable code.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A human wrote a note for colleagues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConversationNoted {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The note.
    pub note_id: Uuid,
    /// The name of the writer's key.
    pub author: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What she and others wrote is about to be opened for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConversationRead {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The name of the reader's key.
    pub reader: String,
    /// Why, a stable code.
    pub reason: String,
    /// When it was recorded: before anything was opened.
    pub at: Timestamp,
}

/// The bot tells that it is one, and that data is collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BotDisclosed {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The message that tells it.
    pub message_id: Uuid,
    /// In which languages.
    pub languages: Vec<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: Uuid = Uuid::from_u128(1);
    const MESSAGE: Uuid = Uuid::from_u128(2);

    fn round_trip<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(
        event: &T,
        golden: &Value,
    ) {
        assert_eq!(&serde_json::to_value(event).unwrap(), golden);
        assert_eq!(&serde_json::from_value::<T>(golden.clone()).unwrap(), event);
    }

    /// What is published today is read for ever.
    #[test]
    fn the_published_shapes_are_these() {
        let at: Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
        let id = "00000000-0000-0000-0000-000000000001";
        let message = "00000000-0000-0000-0000-000000000002";
        let told = "2026-11-26T12:00:00Z";
        round_trip(
            &ConversationOpened { conversation_id: ID, answering: Answering::Bot, at },
            &json!({"conversation_id": id, "answering": "bot", "at": told}),
        );
        round_trip(
            &ConversationHandedOver {
                conversation_id: ID,
                to: Answering::Human,
                reason: "human_asked".to_owned(),
                at,
            },
            &json!({"conversation_id": id, "to": "human", "reason": "human_asked", "at": told}),
        );
        round_trip(
            &ConversationAssigned { conversation_id: ID, assignee: "lea".to_owned(), at },
            &json!({"conversation_id": id, "assignee": "lea", "at": told}),
        );
        round_trip(
            &ConversationClosed { conversation_id: ID, reason: "idle".to_owned(), at },
            &json!({"conversation_id": id, "reason": "idle", "at": told}),
        );
        let author = "lea".to_owned();
        round_trip(
            &ConversationNoted { conversation_id: ID, note_id: MESSAGE, author, at },
            &json!({"conversation_id": id, "note_id": message, "author": "lea", "at": told}),
        );
        round_trip(
            &ConversationRead {
                conversation_id: ID,
                reader: "lea".to_owned(),
                reason: "answering".to_owned(),
                at,
            },
            &json!({"conversation_id": id, "reader": "lea", "reason": "answering", "at": told}),
        );
        let languages = vec!["fr".to_owned()];
        round_trip(
            &BotDisclosed { conversation_id: ID, message_id: MESSAGE, languages, at },
            &json!({"conversation_id": id, "message_id": message, "languages": ["fr"], "at": told}),
        );
    }
}
