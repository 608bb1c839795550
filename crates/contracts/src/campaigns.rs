//! Published events of campaigns, on the messaging topic. Key: the campaign's id. None of them names a
//! person: who was written to is told by the events of her own stream.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `assent.messaging.campaign_drafted.v1`
pub const CAMPAIGN_DRAFTED: &str = "assent.messaging.campaign_drafted.v1";
/// `assent.messaging.campaign_audience_taken.v1`
pub const CAMPAIGN_AUDIENCE_TAKEN: &str = "assent.messaging.campaign_audience_taken.v1";
/// `assent.messaging.campaign_dry_run_done.v1`
pub const CAMPAIGN_DRY_RUN_DONE: &str = "assent.messaging.campaign_dry_run_done.v1";
/// `assent.messaging.campaign_approved.v1`
pub const CAMPAIGN_APPROVED: &str = "assent.messaging.campaign_approved.v1";
/// `assent.messaging.campaign_started.v1`
pub const CAMPAIGN_STARTED: &str = "assent.messaging.campaign_started.v1";
/// `assent.messaging.campaign_paused.v1`
pub const CAMPAIGN_PAUSED: &str = "assent.messaging.campaign_paused.v1";
/// `assent.messaging.campaign_resumed.v1`
pub const CAMPAIGN_RESUMED: &str = "assent.messaging.campaign_resumed.v1";
/// `assent.messaging.campaign_cancelled.v1`
pub const CAMPAIGN_CANCELLED: &str = "assent.messaging.campaign_cancelled.v1";
/// `assent.messaging.campaign_completed.v1`
pub const CAMPAIGN_COMPLETED: &str = "assent.messaging.campaign_completed.v1";

/// Somebody wrote down what is to be sent to whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignDrafted {
    /// Its name, a code of the drafter's.
    pub name: String,
    /// The purpose it serves.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// The template's name.
    pub template: String,
    /// The template's language.
    pub language: String,
    /// The caller that drafted it.
    pub drafted_by: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Its people were taken from the read model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignAudienceTaken {
    /// How many they are.
    pub members: u64,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The gate was asked about each of its people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignDryRunDone {
    /// How many may be written to.
    pub allowed: u64,
    /// How many may not, by the first reason.
    pub excluded: BTreeMap<String, u64>,
    /// The template's category by then: under another one it doesn't start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// SHA-256 of the template's components by then, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Somebody else than who drafted it has looked at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignApproved {
    /// The caller that approved it.
    pub approved_by: String,
    /// Why, a code of the approver's.
    pub reason: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Its messages go out from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignStarted {
    /// The caller that started it.
    pub started_by: String,
    /// The template's category by then: under another one it stops.
    pub category: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Why a campaign was paused.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// Somebody said so.
    Operator,
    /// The provider doesn't send its template now.
    TemplateUnavailable,
    /// The provider calls its template something else than at the start.
    TemplateRecategorised,
    /// The quality of its template or of the number is low.
    Quality,
    /// Too many of its messages failed.
    Failures,
    /// Too many of its people stopped or blocked the number.
    Blocks,
}

impl PauseReason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Operator,
        Self::TemplateUnavailable,
        Self::TemplateRecategorised,
        Self::Quality,
        Self::Failures,
        Self::Blocks,
    ];

    /// Its code on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::TemplateUnavailable => "template_unavailable",
            Self::TemplateRecategorised => "template_recategorised",
            Self::Quality => "quality",
            Self::Failures => "failures",
            Self::Blocks => "blocks",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Nothing of it goes out until somebody resumes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignPaused {
    /// Why.
    pub reason: PauseReason,
    /// The caller that paused it; none: it paused by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_by: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// It goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignResumed {
    /// The caller that resumed it.
    pub resumed_by: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Nothing of it goes out any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignCancelled {
    /// The caller that cancelled it.
    pub cancelled_by: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Each of its messages has its outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignCompleted {
    /// When it was recorded.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &impl Serialize) -> String {
        serde_json::to_string(event).unwrap()
    }

    /// The shapes of version 1, byte by byte: a change here is a change for everybody who reads the topic.
    #[test]
    fn the_published_shapes_stay() {
        let at = Timestamp::UNIX_EPOCH;
        assert_eq!(
            text(&CampaignDrafted {
                name: "spring".to_owned(),
                purpose: "marketing".to_owned(),
                channel: "whatsapp".to_owned(),
                template: "spring_offer".to_owned(),
                language: "en".to_owned(),
                drafted_by: "crm".to_owned(),
                at,
            }),
            r#"{"name":"spring","purpose":"marketing","channel":"whatsapp","template":"spring_offer","language":"en","drafted_by":"crm","at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(
            text(&CampaignAudienceTaken { members: 3, at }),
            r#"{"members":3,"at":"1970-01-01T00:00:00Z"}"#
        );
        let excluded = BTreeMap::from([("stopped".to_owned(), 1)]);
        assert_eq!(
            text(&CampaignDryRunDone { allowed: 2, excluded, category: None, content: None, at }),
            r#"{"allowed":2,"excluded":{"stopped":1},"at":"1970-01-01T00:00:00Z"}"#
        );
        let (category, content) = (Some("MARKETING".to_owned()), Some("00".to_owned()));
        assert_eq!(
            text(&CampaignDryRunDone {
                allowed: 2,
                excluded: BTreeMap::new(),
                category,
                content,
                at
            }),
            r#"{"allowed":2,"excluded":{},"category":"MARKETING","content":"00","at":"1970-01-01T00:00:00Z"}"#
        );
        let (approved_by, reason) = ("dpo".to_owned(), "checked".to_owned());
        assert_eq!(
            text(&CampaignApproved { approved_by, reason, at }),
            r#"{"approved_by":"dpo","reason":"checked","at":"1970-01-01T00:00:00Z"}"#
        );
        let (started_by, category) = ("crm".to_owned(), "MARKETING".to_owned());
        assert_eq!(
            text(&CampaignStarted { started_by, category, at }),
            r#"{"started_by":"crm","category":"MARKETING","at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(
            text(&CampaignPaused { reason: PauseReason::Blocks, paused_by: None, at }),
            r#"{"reason":"blocks","at":"1970-01-01T00:00:00Z"}"#
        );
        let paused_by = Some("crm".to_owned());
        assert_eq!(
            text(&CampaignPaused { reason: PauseReason::Operator, paused_by, at }),
            r#"{"reason":"operator","paused_by":"crm","at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(
            text(&CampaignResumed { resumed_by: "crm".to_owned(), at }),
            r#"{"resumed_by":"crm","at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(
            text(&CampaignCancelled { cancelled_by: "crm".to_owned(), at }),
            r#"{"cancelled_by":"crm","at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(text(&CampaignCompleted { at }), r#"{"at":"1970-01-01T00:00:00Z"}"#);
    }

    #[test]
    fn reasons_have_their_codes() {
        for reason in PauseReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
            assert_eq!(PauseReason::parse(reason.as_str()), Some(reason));
        }
    }
}
