//! The law as data, as the API tells it: which rule files are in force, and what they come to for a
//! case. No question names a person; it names places.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rights::RequestKind;

/// `GET /v1/rules`: the rule files in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulesInForce {
    /// SHA-256 over the files, hex.
    pub hash: String,
    /// Them, by id.
    pub jurisdictions: Vec<Jurisdiction>,
}

/// A rule file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Jurisdiction {
    /// Its id, such as `fr`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The jurisdiction that it makes specific.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refines: Option<String>,
    /// Its rules, of whatever day.
    pub rules: Vec<RuleText>,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleText {
    /// Its id, unique in the set.
    pub id: String,
    /// Its jurisdiction.
    pub jurisdiction: String,
    /// The question that it answers, such as `consent_age`.
    pub topic: String,
    /// The answer, for people, such as `15 years`.
    pub value: String,
    /// The article or page.
    pub article: String,
    /// What it says, in a sentence.
    pub says: String,
    /// The first day on which it is in force.
    pub from: Date,
    /// The first day on which it isn't any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// Where its text stands.
    pub source: String,
}

/// `POST /v1/rules/answers`: what applies to a case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesQuestion {
    /// The day; none: today (UTC).
    #[serde(default)]
    pub on: Option<Date>,
    /// The controller's seat, such as `FR`; none: that of the policy of that day.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub seat: Option<String>,
    /// Where the person says that she is, such as `DE` or `US-CA`.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub person: Option<String>,
    /// The country of her number; it counts only without `person`.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub number: Option<String>,
}

/// What applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RulesAnswer {
    /// The day.
    pub on: Date,
    /// The controller's seat; none: neither the question nor the policy of that day names it, so no law
    /// of a seat is among the answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seat: Option<String>,
    /// SHA-256 over the rule files, hex.
    pub hash: String,
    /// The jurisdictions that apply, and why.
    pub laws: Vec<ApplyingLaw>,
    /// Per question, sorted.
    pub answers: Vec<TopicAnswer>,
    /// Rules that can't both be obeyed for the same data.
    pub conflicts: Vec<RuleConflict>,
}

/// A jurisdiction that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApplyingLaw {
    /// Its id.
    pub jurisdiction: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub because: Vec<LawReason>,
    /// Whether that is certain. What isn't is applied all the same.
    pub certain: bool,
}

/// Why a jurisdiction applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LawReason {
    /// `always`, `seat`, `person_stated`, `person_may_be_there` or `number`.
    pub kind: String,
    /// Where that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicAnswer {
    /// The question.
    pub topic: String,
    /// The strictest rule: what counts.
    pub strictest: RuleText,
    /// The others, the stricter first.
    pub others: Vec<RuleText>,
}

/// Two rules that can't both be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleConflict {
    /// Their ids: what must be kept, and what must go.
    pub between: [String; 2],
    /// What the conflict is.
    pub says: String,
    /// What is done about it.
    pub way_out: String,
}

/// `POST /v1/rules/terms`: by when a request must be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TermsQuestion {
    /// What is asked for.
    pub kind: RequestKind,
    /// When the request was received; none: now.
    #[serde(default)]
    pub received_at: Option<Timestamp>,
    /// The controller's seat, such as `FR`; none: that of the policy of that day.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub seat: Option<String>,
    /// Where the person says that she is, such as `DE` or `US-CA`.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub person: Option<String>,
    /// The country of her number; it counts only without `person`.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub number: Option<String>,
}
