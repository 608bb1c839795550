//! Published messaging events. Key: the `subject_id`; a stop from an address that belongs to
//! nobody we know is keyed by an id derived from its token.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::AddressToken;
use crate::sealed::Sealed;

/// `assent.messaging.message_requested.v1`
pub const MESSAGE_REQUESTED: &str = "assent.messaging.message_requested.v1";
/// `assent.messaging.message_refused.v1`
pub const MESSAGE_REFUSED: &str = "assent.messaging.message_refused.v1";
/// `assent.messaging.message_accepted.v1`
pub const MESSAGE_ACCEPTED: &str = "assent.messaging.message_accepted.v1";
/// `assent.messaging.message_failed.v1`
pub const MESSAGE_FAILED: &str = "assent.messaging.message_failed.v1";
/// `assent.messaging.message_uncertain.v1`
pub const MESSAGE_UNCERTAIN: &str = "assent.messaging.message_uncertain.v1";
/// `assent.messaging.status_changed.v1`
pub const STATUS_CHANGED: &str = "assent.messaging.status_changed.v1";
/// `assent.messaging.message_received.v1`
pub const MESSAGE_RECEIVED: &str = "assent.messaging.message_received.v1";
/// `assent.messaging.stop_heard.v1`
pub const STOP_HEARD: &str = "assent.messaging.stop_heard.v1";
/// `assent.messaging.lease_overrun.v1`
pub const LEASE_OVERRUN: &str = "assent.messaging.lease_overrun.v1";
/// `assent.messaging.subject_erased.v1`
pub const SUBJECT_ERASED: &str = "assent.messaging.subject_erased.v1";

/// Someone asked for a message to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageRequested {
    /// The message.
    pub message_id: Uuid,
    /// The purpose it serves.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// The template's name; the kind of content where there is none, such as `text`.
    pub template: String,
    /// The campaign that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<Uuid>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The gate refused it; the provider was not called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageRefused {
    /// The message.
    pub message_id: Uuid,
    /// The gate's reasons, stable codes.
    pub reasons: Vec<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The provider accepted it. Accepted is not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageAccepted {
    /// The message.
    pub message_id: Uuid,
    /// The permit it rested on.
    pub permit_id: Uuid,
    /// The provider's message id, which embeds the number: sealed.
    pub provider_id: Sealed,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The provider refused it, or it could not be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageFailed {
    /// The message.
    pub message_id: Uuid,
    /// Provider error code, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<i64>,
    /// Stable reason code.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// It may have been sent: the answer never came. It is never tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageUncertain {
    /// The message.
    pub message_id: Uuid,
    /// Stable reason code.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// How far the provider says it got. Monotonic: it never steps back.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Left the provider.
    Sent,
    /// Reached the device.
    Delivered,
    /// Opened.
    Read,
    /// Failed at the provider after acceptance.
    Failed,
}

/// The provider reported progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StatusChanged {
    /// The message.
    pub message_id: Uuid,
    /// The new status.
    pub status: Status,
    /// Provider error code with `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_code: Option<i64>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A person wrote to us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageReceived {
    /// Our id of it.
    pub message_id: Uuid,
    /// Kind: `text`, `button`, the provider's name of another kind (`image`, `location`, …), or `other`.
    pub kind: String,
    /// Its content, sealed under the person's key: in events of earlier versions only. Today it is kept by
    /// messaging alone, and ends with the retention of conversations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Sealed>,
    /// When it was recorded.
    pub at: Timestamp,
    /// When she sent it, by the provider's clock; without it: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said_at: Option<Timestamp>,
}

/// A stop was heard at the webhook's door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StopHeard {
    /// The stop.
    pub stop_id: Uuid,
    /// Tokens of all spellings of the address it came from.
    pub addresses: Vec<AddressToken>,
    /// How it was said: `word`, `erasure` (she asked to be erased), `button`, `preference`, `provider_refusal`, `page`, or
    /// `moved` where it followed her from another address.
    pub form: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// An incident: a provider call's last byte was written after its lease had run out. Where the person is being erased
/// its key is the message's id, not hers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseOverrun {
    /// The message.
    pub message_id: Uuid,
    /// By how much, in milliseconds.
    pub overrun_ms: u64,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Everything that messaging held of a person is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubjectErased {
    /// The erasure request.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}
