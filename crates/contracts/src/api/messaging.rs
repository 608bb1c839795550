//! Messaging as the console and other teams call it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::SubjectId;

/// `POST /v1/stops`: a person opts out of everything on a page, while the consent service is down.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PageStop {
    /// Its id: repeating it changes nothing.
    pub stop_id: Uuid,
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
}

/// It holds.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PageStopTaken {
    /// The stop.
    pub stop_id: Uuid,
}

/// It is queued; the gate is asked when it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageQueued {
    /// The message.
    pub message_id: Uuid,
    /// Its state; a repeat with the same key tells the state of now.
    pub state: String,
}

/// What the provider says that a message costs; where it says no more, less of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pricing {
    /// Such as `marketing`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Such as `PMP`: by message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Such as `regular`, `free_customer_service` or `free_entry_point`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it is charged once it is delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billable: Option<bool>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MessageView {
    /// The message.
    pub message_id: Uuid,
    /// To whom.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// For which purpose.
    pub purpose: String,
    /// On which channel.
    pub channel: String,
    /// `template`, or the kind of its content, such as `text`.
    pub kind: String,
    /// Which template; none: free-form content.
    pub template: Option<String>,
    /// `queued`, `claimed`, `calling`, `accepted`, `refused`, `failed` or `uncertain`.
    pub state: String,
    /// Stable codes: why it was refused, failed, or has not been sent yet.
    pub reasons: Vec<String>,
    /// The provider's error code.
    pub provider_code: Option<i64>,
    /// `sent`, `delivered`, `read` or `failed`, as the provider reported.
    pub status: Option<String>,
    /// What the provider says that it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub requested_at: Timestamp,
    /// When it last moved.
    #[schema(value_type = String, format = DateTime)]
    pub changed_at: Timestamp,
}
