//! Published events and commands of the erasure of one purpose's data. They have types and a shape of their own: whoever
//! knows the erasure of whole persons alone must not take one for the other. Key: the `subject_id`.
//! To take part: consume the command topic, do the step for that purpose, answer as any command is answered.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::SubjectId;
use crate::erasure::{AnsweredStep, Step};
use crate::rights::RequestOpened;

/// `assent.erasure.purpose_request_opened.v1`
pub const PURPOSE_REQUEST_OPENED: &str = "assent.erasure.purpose_request_opened.v1";
/// `assent.erasure.purpose_requested.v1`
pub const PURPOSE_REQUESTED: &str = "assent.erasure.purpose_requested.v1";
/// `assent.erasure.purpose_step_started.v1`
pub const PURPOSE_STEP_STARTED: &str = "assent.erasure.purpose_step_started.v1";
/// `assent.erasure.purpose_acknowledged.v1`
pub const PURPOSE_ACKNOWLEDGED: &str = "assent.erasure.purpose_acknowledged.v1";
/// `assent.erasure.purpose_overdue.v1`
pub const PURPOSE_OVERDUE: &str = "assent.erasure.purpose_overdue.v1";
/// `assent.erasure.purpose_completed.v1`
pub const PURPOSE_COMPLETED: &str = "assent.erasure.purpose_completed.v1";
/// `assent.erasure.purpose_command.v1`, on the command topic.
pub const PURPOSE_COMMAND: &str = "assent.erasure.purpose_command.v1";

/// A request to erase one purpose's data was taken in. What follows of it as a request has the types of every request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposeRequestOpened {
    /// Whose data are meant: those of this purpose, and no others.
    pub purpose: String,
    /// The request, of kind `erasure`.
    pub request: RequestOpened,
}

/// An erasure of one purpose's data may begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposeRequested {
    /// The request.
    pub request_id: Uuid,
    /// The purpose.
    pub purpose: String,
    /// Who must answer: the participants registered at that moment.
    pub participants: Vec<String>,
    /// By when it must be done, by the strictest of the laws that apply.
    pub due: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A command of the erasure of one purpose's data, on the command topic. A repeat carries the same `command_id`. It has no
/// member `step`, so that nobody who looks at the shape alone can read it as the erasure of a whole person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposeCommand {
    /// The command; an answer names it.
    pub command_id: Uuid,
    /// The request.
    pub request_id: Uuid,
    /// Whom it concerns.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// Whose data are meant: those of this purpose, and no others.
    pub purpose: String,
    /// What to do with them: `fence`, `delete` or `sweep`; no key is destroyed.
    pub purpose_step: Step,
    /// What was recorded up to this moment is meant. She may agree to the purpose again later: that is new.
    pub until: Timestamp,
    /// Who must do it.
    pub participants: Vec<String>,
    /// What a participant must at least have consumed before it answers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, BTreeMap<String, i64>>)]
    pub barrier: BTreeMap<String, BTreeMap<i32, i64>>,
    /// When it was issued.
    pub at: Timestamp,
}

/// An erasure of one purpose's data that has begun: an item of `GET /v1/erased-purposes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErasedPurpose {
    /// Whose.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The request.
    pub request_id: Uuid,
    /// The purpose.
    pub purpose: String,
    /// What was recorded up to this moment is meant.
    pub until: Timestamp,
    /// What the caller has answered for it, in that order. Whoever restores a database of before does these again.
    pub acknowledged: Vec<AnsweredStep>,
}

impl PurposeCommand {
    /// Reads a command from its data. None: its step is one of a later version, and is passed over.
    ///
    /// # Errors
    /// When it is no command.
    pub fn read(data: &[u8]) -> serde_json::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Asked {
            purpose_step: String,
        }
        let known = [Step::Fence, Step::Delete, Step::Sweep].map(Step::name);
        let asked: Asked = serde_json::from_slice(data)?;
        if !known.contains(&asked.purpose_step.as_str()) {
            return Ok(None);
        }
        serde_json::from_slice(data).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erasure::Command;

    /// A participant of before, or one that looks at the shape alone, must never destroy a whole person for it.
    #[test]
    fn a_command_for_one_purpose_can_not_be_read_as_one_for_a_whole_person() {
        let golden = include_str!("../golden/assent.erasure.purpose_command.v1.json");
        let golden: Vec<serde_json::Value> = serde_json::from_str(golden).unwrap();
        for command in &golden {
            let data = command.to_string();
            assert!(PurposeCommand::read(data.as_bytes()).unwrap().is_some());
            assert!(Command::read(data.as_bytes()).is_err(), "{data}");
            assert!(serde_json::from_str::<Command>(&data).is_err(), "{data}");
        }
        let mut later = golden[0].clone();
        later["purpose_step"] = serde_json::json!("destroy_keys");
        assert!(PurposeCommand::read(later.to_string().as_bytes()).unwrap().is_none());
    }
}
