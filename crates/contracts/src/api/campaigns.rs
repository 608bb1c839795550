//! Campaigns as messaging tells of them and the command line reads them; and the audience that messaging
//! asks the read models for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::campaigns::PauseReason;

/// `GET /v1/audience` of the projector: one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AudienceMember {
    /// Who.
    pub subject_id: Uuid,
}

/// From whom a campaign's people are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Consents {
    /// Whose consent to the purpose on the channel is in force.
    #[default]
    Given,
    /// Everybody who is known: the dry run says why most of them may not be written to.
    Any,
}

impl Consents {
    /// As the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Any => "any",
        }
    }
}

/// Who a campaign is for, by what the read models know: whether consent is given, and the region of her
/// number.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Audience {
    /// From whom they are taken.
    #[serde(default)]
    pub consents: Consents,
    /// Only people with numbers of these regions; none named: of every region.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 50, example = json!(["FR", "BE"]))]
    pub regions: Vec<String>,
}

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CampaignState {
    /// Its people are being taken from the read models.
    Gathering,
    /// It can be tried dry, approved and started.
    Draft,
    /// Somebody else has looked at it.
    Approved,
    /// Its messages go out.
    Running,
    /// Nothing of it goes out until somebody resumes it.
    Paused,
    /// Nothing of it goes out any more.
    Cancelled,
    /// Each of its messages has its outcome.
    Completed,
}

impl CampaignState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Gathering,
        Self::Draft,
        Self::Approved,
        Self::Running,
        Self::Paused,
        Self::Cancelled,
        Self::Completed,
    ];

    /// As the API names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gathering => "gathering",
            Self::Draft => "draft",
            Self::Approved => "approved",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Completed => "completed",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CampaignView {
    /// Its id.
    pub campaign_id: Uuid,
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
    /// Who it is for.
    pub audience: Audience,
    /// Where it stands.
    pub state: CampaignState,
    /// Why it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_reason: Option<PauseReason>,
    /// The caller that drafted it.
    pub drafted_by: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub drafted_at: Timestamp,
    /// The caller that approved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// How many people it is for; while it is gathering: how many so far.
    pub members: i64,
    /// Above so many people it wants somebody else's approval.
    pub approval_above: i64,
    /// What the last dry run found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<DryRun>,
}

/// What a dry run finds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DryRun {
    /// Whether the gate has been asked about everybody.
    pub done: bool,
    /// About how many it has been asked.
    pub asked: i64,
    /// How many may be written to.
    pub allowed: i64,
    /// How many may not, by the first reason.
    pub excluded: BTreeMap<String, i64>,
    /// How long it would take.
    pub duration: Duration,
    /// What it would cost, where prices are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// How long a campaign would take at least, with nothing else going out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Duration {
    /// Seconds. Quiet hours come on top: her message waits for the end of hers.
    pub seconds: u64,
    /// What takes longest: `rate`, `daily_ceiling` or `recipient_tier`.
    pub limited_by: String,
}

/// What a campaign would cost at most: what isn't delivered isn't charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// The template's category.
    pub category: String,
    /// How many messages.
    pub messages: i64,
    /// How many of them cost nothing, as far as is known now: their people came by an advertisement, and were answered.
    #[serde(default)]
    pub free: i64,
    /// The configured price of one.
    #[schema(example = "0.0859")]
    pub price: String,
    /// Of all that aren't free.
    #[schema(example = "85.9")]
    pub total: String,
    /// The configured currency: a label.
    pub currency: String,
}

/// `POST /v1/campaigns/{campaign_id}/approve`. Not by the caller that drafted it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// Why: a code of yours, 1 to 64 of a-z, 0-9, `_` and `-`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$")]
    pub reason: String,
}

/// One of a campaign's people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Who.
    pub subject_id: Uuid,
    /// `waiting`, `excluded` by the last dry run, or `started`: her message was queued.
    pub state: String,
    /// Why she is excluded: stable codes.
    pub reasons: Vec<String>,
    /// Her message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
}

/// Messages of one category that were delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Billed {
    /// The provider's category, such as `marketing`; `unknown` where it names none.
    pub category: String,
    /// How many it charges for.
    pub billable: i64,
    /// How many it does not.
    pub free: i64,
    /// What those that it charges for cost by the configured prices; none: none is configured for the category. The
    /// provider's bill is what counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "85.9")]
    pub total: Option<String>,
    /// The configured currency: a label.
    pub currency: String,
}

/// What became of a campaign, counted from its rows. People who were erased since aren't in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// The campaign.
    pub campaign_id: Uuid,
    /// Where it stands.
    pub state: CampaignState,
    /// Its people.
    pub members: i64,
    /// Whose message is not queued yet.
    pub waiting: i64,
    /// Who was excluded by the dry run, by the first reason.
    pub excluded: BTreeMap<String, i64>,
    /// Messages by their state: `queued`, `claimed`, `calling`, `accepted`, `refused`, `failed`, `uncertain`.
    pub messages: BTreeMap<String, i64>,
    /// Messages by the last word of the provider: `sent`, `delivered`, `read`, `failed`.
    pub statuses: BTreeMap<String, i64>,
    /// Why messages were refused, failed or wait, by the first reason.
    pub reasons: BTreeMap<String, i64>,
    /// What it was to cost at most, by its last dry run and the prices of now, where prices are configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Cost>,
    /// Messages that were delivered, by what the provider says that they cost. Where it says nothing, they aren't in it.
    #[serde(default)]
    pub billed: Vec<Billed>,
    /// How many of those it wrote to said stop after that.
    pub stops: i64,
}
