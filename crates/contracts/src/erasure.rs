//! Published erasure events, the saga's commands and the participants' acknowledgements.
//! Key: the `subject_id`. To take part: consume the command topic, do the step, answer by
//! `POST /v1/requests/{request_id}/acks`, or many by `POST /v1/acks`; repeating is harmless.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::SubjectId;

/// `assent.erasure.requested.v1`
pub const REQUESTED: &str = "assent.erasure.requested.v1";
/// `assent.erasure.step_started.v1`
pub const STEP_STARTED: &str = "assent.erasure.step_started.v1";
/// `assent.erasure.acknowledged.v1`
pub const ACKNOWLEDGED: &str = "assent.erasure.acknowledged.v1";
/// `assent.erasure.overdue.v1`
pub const OVERDUE: &str = "assent.erasure.overdue.v1";
/// `assent.erasure.completed.v1`
pub const COMPLETED: &str = "assent.erasure.completed.v1";
/// `assent.erasure.command.v1`, on the command topic.
pub const COMMAND: &str = "assent.erasure.command.v1";

/// The saga's steps, in order. Nothing goes back.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Refuse new data for the person; after one lease send nothing more.
    Fence,
    /// Delete or anonymise what is held.
    Delete,
    /// Destroy her keys (only who keeps keys).
    DestroyKeys,
    /// Prove that nothing is left.
    Sweep,
}

impl Step {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fence => "fence",
            Self::Delete => "delete",
            Self::DestroyKeys => "destroy_keys",
            Self::Sweep => "sweep",
        }
    }
}

/// A request was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Requested {
    /// The request.
    pub request_id: Uuid,
    /// Who must answer: the participants registered at that moment.
    pub participants: Vec<String>,
    /// By when it must be done, by the strictest of the laws that apply.
    pub due: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A step began: its command is on the command topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepStarted {
    /// The request.
    pub request_id: Uuid,
    /// The step.
    pub step: Step,
    /// The command that participants answer.
    pub command_id: Uuid,
    /// Who must answer it.
    pub participants: Vec<String>,
    /// What a participant must at least have consumed before it answers.
    #[serde(default, skip_serializing_if = "Positions::is_empty")]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, i64>>)]
    pub barrier: Positions,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A participant answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Acknowledged {
    /// The request.
    pub request_id: Uuid,
    /// The step.
    pub step: Step,
    /// The command it answers.
    pub command_id: Uuid,
    /// Who answered.
    pub participant: String,
    /// What it did.
    pub evidence: Evidence,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Its time ran out with answers missing; it goes on trying.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Overdue {
    /// The request.
    pub request_id: Uuid,
    /// The step that hangs.
    pub step: Step,
    /// Who has not answered.
    pub missing: Vec<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Every participant proved it: the certificate exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Completed {
    /// The request.
    pub request_id: Uuid,
    /// SHA-256 of the certificate's canonical payload, hex.
    pub certificate_sha256: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Log positions: topic (with prefix) → partition → next offset.
pub type Positions = BTreeMap<String, BTreeMap<i32, i64>>;

/// A command of the saga, on the command topic. A repeat carries the same `command_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Command {
    /// The command; an answer names it.
    pub command_id: Uuid,
    /// The request.
    pub request_id: Uuid,
    /// Whom it concerns.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// What to do.
    pub step: Step,
    /// Who must do it.
    pub participants: Vec<String>,
    /// What a participant must at least have consumed before it answers.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, i64>>)]
    pub barrier: Positions,
    /// When it was issued.
    pub at: Timestamp,
}

impl Command {
    /// Reads a command from its data. None: its step is one of a later version, and is passed over.
    ///
    /// # Errors
    /// When it is no command.
    pub fn read(data: &[u8]) -> serde_json::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Asked {
            step: String,
        }
        let known = [Step::Fence, Step::Delete, Step::DestroyKeys, Step::Sweep].map(Step::name);
        let asked: Asked = serde_json::from_slice(data)?;
        if !known.contains(&asked.step.as_str()) {
            return Ok(None);
        }
        serde_json::from_slice(data).map(Some)
    }
}

/// What a participant did for a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Evidence {
    /// Rows touched (or, for a sweep, found: all must be 0), by kind.
    pub counts: BTreeMap<String, u64>,
    /// SHA-256 over the canonical list of what was touched, hex.
    pub digest: String,
    /// What it had consumed when it answered, at least the command's barrier.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, i64>>)]
    pub positions: Positions,
    /// What stays with the participant, and until when; the certificate says it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<Kept>,
}

/// Something that a participant keeps after it has forgotten a person, because a law allows or asks for it, or
/// because she couldn't be kept out without it.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct Kept {
    /// What, as a code such as `suppression` or `invoices`: 1 to 64 of a-z, `_` and `.`.
    pub what: String,
    /// Why, as a code such as `stays_erased` or `tax_law`.
    pub ground: String,
    /// When it is destroyed; none: it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Evidence {
    /// Of the names of what was touched, by kind: how many of each, and the digest over the sorted lines
    /// `kind name`. Names are ids and keyed hashes, never personal data.
    #[must_use]
    pub fn of<K: AsRef<str> + Ord>(
        touched: &BTreeMap<K, BTreeSet<String>>,
        positions: Positions,
    ) -> Self {
        let mut digest = Sha256::new();
        for (kind, names) in touched {
            for name in names {
                digest.update(format!("{} {name}\n", kind.as_ref()));
            }
        }
        let count =
            |(kind, names): (&K, &BTreeSet<String>)| (kind.as_ref().to_owned(), names.len() as u64);
        Self {
            counts: touched.iter().map(count).collect(),
            digest: digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            positions,
            kept: Vec::new(),
        }
    }
}

/// A participant's answer to a command: the body of `POST /v1/requests/{request_id}/acks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Ack {
    /// The command it answers.
    pub command_id: Uuid,
    /// The step it answers.
    pub step: Step,
    /// Who answers; must be the name the caller is registered under.
    pub participant: String,
    /// What it did.
    pub evidence: Evidence,
}

/// An answer, and the request that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RequestAck {
    /// The request.
    pub request_id: Uuid,
    /// The answer.
    pub ack: Ack,
}

/// Many answers at once: the body of `POST /v1/acks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AcksRequest {
    /// The answers, 1 to 500.
    pub acks: Vec<RequestAck>,
}

/// What became of them, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AcksAnswer {
    /// One for each.
    pub outcomes: Vec<AckOutcome>,
}

/// What became of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AckOutcome {
    /// The command that it answers.
    pub command_id: Uuid,
    /// The code of the problem with which it alone would have been refused; none: it is recorded, now or before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// A person whose erasure was requested: an item of `GET /v1/erased`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Erased {
    /// Of whom nothing may be held.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The request.
    pub request_id: Uuid,
    /// When it was received.
    pub requested_at: Timestamp,
    /// Whether every participant has answered every step.
    #[serde(default)]
    pub completed: bool,
    /// What the caller has answered for it, in that order. Whoever restores a database of before does these again.
    #[serde(default)]
    pub acknowledged: Vec<AnsweredStep>,
}

/// A step that a participant has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AnsweredStep {
    /// The command that was answered.
    pub command_id: Uuid,
    /// Its step.
    pub step: Step,
    /// When it was issued.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The golden command, and the same with a step that nobody knows yet.
    #[test]
    fn a_step_of_a_later_version_is_passed_over() {
        let golden = include_str!("../golden/assent.erasure.command.v1.json");
        let golden: Vec<serde_json::Value> = serde_json::from_str(golden).unwrap();
        let mut command = golden[0].clone();
        let read = |command: &serde_json::Value| Command::read(command.to_string().as_bytes());
        assert!(read(&command).unwrap().is_some());
        command["step"] = serde_json::json!("audit");
        assert!(read(&command).unwrap().is_none());
        command["step"] = serde_json::json!(7);
        assert!(read(&command).is_err());
        assert!(Command::read(b"no command").is_err());
    }
}
