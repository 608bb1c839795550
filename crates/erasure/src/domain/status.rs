//! Where a request stands, as it is told: one word for the request and, while an erasure is under way,
//! for its step.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a request stands; an erasure that is under way, at which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It isn't shown yet that she asks herself.
    IdentityPending,
    /// To be answered.
    Open,
    /// Answered.
    Answered,
    /// Refused.
    Refused,
    /// An erasure that a legal hold keeps from its first step.
    OnHold,
    /// An erasure was accepted; nothing is issued yet.
    Requested,
    /// Participants refuse new data.
    Fencing,
    /// Participants delete.
    Deleting,
    /// Keys are destroyed.
    DestroyingKeys,
    /// Participants prove that nothing is left.
    Sweeping,
    /// Everyone has proved everything.
    Completed,
    /// A step's time ran out with answers missing. It goes on trying.
    Incomplete,
}

impl Status {
    /// Its name on the wire and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IdentityPending => "identity_pending",
            Self::Open => "open",
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::OnHold => "on_hold",
            Self::Requested => "requested",
            Self::Fencing => "fencing",
            Self::Deleting => "deleting",
            Self::DestroyingKeys => "destroying_keys",
            Self::Sweeping => "sweeping",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}
