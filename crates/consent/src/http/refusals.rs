//! How refusals of this service look over HTTP. Every `From` here is total, so that no error
//! reaches a client without a code.

use assent_eventstore::StoreError;
use assent_http::{Code, Problem};

use crate::claims::ClaimError;
use crate::commands::CommandError;
use crate::domain::decide::Refusal;
use crate::policy::PolicyError;

pub(super) fn store(error: StoreError) -> Problem {
    match error {
        StoreError::KeyReused => Problem::new(Code::IdempotencyKeyReused),
        StoreError::Overloaded => Problem::new(Code::Overloaded).retry_after(1),
        StoreError::Conflict { .. } | StoreError::KeyTaken => Problem::new(Code::VersionConflict),
        // It may have been done: whoever repeats with the same key learns what became of it.
        StoreError::Unknown(_) => Problem::new(Code::Timeout),
        StoreError::Stopped => Problem::new(Code::NotReady),
        StoreError::Undecodable { .. } | StoreError::Aborted => Problem::internal(error),
        StoreError::Database(cause) => database(cause),
    }
}

pub(super) fn database(error: sqlx::Error) -> Problem {
    match error {
        sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => {
            Problem::internal(error)
        }
        error => Problem::unavailable("database", error),
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Store(error) => store(error),
            CommandError::PurposeUnknown => Self::new(Code::PurposeUnknown),
            CommandError::ChannelUnknown => Self::new(Code::ChannelUnknown),
            CommandError::NoNoticeThen => Self::new(Code::NoticeUnknown).detail(error.to_string()),
            CommandError::NotAskedFor => Self::new(Code::AskNotAllowed)
                .detail(error.to_string())
                .with("reason", "no_template"),
            CommandError::Refused(refusal) => {
                let (code, reason) = match refusal {
                    Refusal::SubjectErased => return Self::new(Code::SubjectErased),
                    Refusal::NotSpecific => (Code::ValidationFailed, "not_specific"),
                    Refusal::OwnActNeeded => (Code::ConsentNotAllowed, "own_act_needed"),
                    Refusal::EvidenceNeeded => (Code::ConsentNotAllowed, "evidence_needed"),
                    Refusal::NotYet => (Code::ValidationFailed, "acted_at_in_the_future"),
                    Refusal::NotHerWill => (Code::ConsentNotAllowed, "not_her_will"),
                    Refusal::NothingToConfirm => (Code::ConfirmationInvalid, "link_unknown"),
                    Refusal::ConfirmedAlready => (Code::ConfirmationInvalid, "confirmed_already"),
                    Refusal::ConfirmedTooLate => (Code::ConfirmationInvalid, "too_late"),
                    Refusal::NothingToAsk => (Code::AskNotAllowed, "nothing_to_ask"),
                    Refusal::WindowClosed => (Code::AskNotAllowed, "window_closed"),
                    Refusal::AskedLately => (Code::AskNotAllowed, "asked_lately"),
                    Refusal::Barred => (Code::AskNotAllowed, "barred"),
                    Refusal::NoSince => (Code::ConfirmationInvalid, "no_since"),
                };
                Self::new(code).detail(refusal.to_string()).with("reason", reason)
            }
        }
    }
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Store(error) => store(error),
            ClaimError::Unknown => Self::new(Code::RequestUnknown),
            ClaimError::OtherBatch => Self::new(Code::ValidationFailed).detail(error.to_string()),
            ClaimError::State(_) | ClaimError::SameCaller => {
                Self::new(Code::RequestStateConflict).detail(error.to_string())
            }
        }
    }
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::Refused(ref refused) => Self::new(Code::ValidationFailed)
                .detail(error.to_string())
                .with("refused", serde_json::to_value(refused).unwrap_or_default()),
            PolicyError::Outdated(version) => {
                Self::new(Code::VersionConflict).detail(error.to_string()).with("version", version)
            }
            PolicyError::Store(error) => store(error),
        }
    }
}
