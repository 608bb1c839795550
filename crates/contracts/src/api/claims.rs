//! Claims: consents that a list brings evidence of. They grant nothing until a person has looked at them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::SubjectId;
use crate::sealed::Sealed;

/// `POST /v1/claims`: a part of a batch, at most 500 claims. The same part again changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimsRequest {
    /// The batch: the same in every part, and in no other batch; best a UUID of version 7.
    pub batch_id: Uuid,
    /// To what these people are said to have agreed.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// In which of the purpose's languages they were asked; without it: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The claims.
    #[schema(max_items = 500)]
    pub claims: Vec<Claim>,
}

/// One person is said to have agreed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// When she agreed; not in the future.
    #[serde(deserialize_with = "crate::moment::read")]
    pub acted_at: Timestamp,
    /// The evidence, sealed under her key (`POST vault /v1/seal`).
    pub evidence: Sealed,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchState {
    /// Parts may still come.
    Open,
    /// It waits for somebody to look at it.
    Waiting,
    /// It was approved, and its claims are becoming consents.
    Approved,
    /// Each of its claims has become a consent, or is told why not.
    Done,
    /// It was refused: nothing of it counts.
    Refused,
}

/// A batch of claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimBatch {
    /// Its id.
    pub batch_id: Uuid,
    /// To what.
    pub purpose: String,
    /// On which channel.
    pub channel: String,
    /// In which language they were asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// How far it is.
    pub state: BatchState,
    /// The caller that brought it.
    pub submitted_by: String,
    /// When its first part came.
    pub submitted_at: Timestamp,
    /// The caller that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Why: a code of the decider's, such as `double_opt_in_log_checked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many claims there are.
    pub claims: i64,
    /// How many came to what: `granted`, `unconfirmed`, or why not, such as `too_old`.
    pub outcomes: std::collections::BTreeMap<String, i64>,
}

/// One claim of a batch, as who decides looks at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClaimView {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// When she agreed.
    pub acted_at: Timestamp,
    /// The evidence; none once the claim came to something, as one that is too old does at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
    /// What it came to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// `POST /v1/claims/{batch_id}/decide`: approve or refuse a batch. Not by the caller that brought it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    /// Approve or refuse.
    pub decision: ClaimDecision,
    /// Why: a code of yours, 1 to 64 of a-z, 0-9, `_` and `-`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$")]
    pub reason: String,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimDecision {
    /// The evidence proves what is claimed.
    Approve,
    /// It doesn't.
    Refuse,
}
