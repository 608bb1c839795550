//! A rule file: one jurisdiction, its rules, each with article, dates in force, source and value. It
//! guarantees that what is read makes sense by itself; how files fit together is left to the set.

use std::collections::BTreeSet;
use std::fmt;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::period::Period;
use crate::place::Place;

/// The rules of one jurisdiction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFile {
    /// Its id, which is also the file's name: `eu`, `us-ca`, `whatsapp`.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Whom it concerns.
    pub reach: Reach,
    /// The jurisdiction whose general rules it makes specific: where both answer the same question,
    /// its own rule replaces the general one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refines: Option<String>,
    /// How it counts days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<Calendar>,
    /// Where people complain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// The rules.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
}

/// Who hears complaints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Its name; none: there are several, and the address lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where a complaint begins: an https address.
    pub address: String,
    /// When somebody looked whether it does; none: nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_on: Option<Date>,
}

/// Whom a jurisdiction concerns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Everybody who uses the platform.
    Always,
    /// Controllers with their seat, and persons, in one of these places.
    SeatOrPerson(BTreeSet<Place>),
    /// Persons in one of these places, wherever the controller is.
    Person(BTreeSet<Place>),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique in the whole set: `fr-consent-age`.
    pub id: String,
    /// The article or page that it comes from.
    pub article: String,
    /// What it says, in a sentence.
    pub says: String,
    /// The first day on which it is in force.
    pub from: Date,
    /// The first day on which it isn't any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// Where its text stands: an https address.
    pub source: String,
    /// What follows from it.
    pub value: Value,
}

/// What follows from a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Younger people need a parent's consent; years.
    ConsentAge(u8),
    /// No targeted advertising to younger people; years.
    NoTargetingBelow(u8),
    /// What a marketing message needs.
    Marketing(Marketing),
    /// How soon a stop must be honoured.
    StopWithin(Period),
    /// After so long without an act of the person, a consent or a prospect's data is over.
    LapsesAfterSilence(Period),
    /// Who refused may not be asked again sooner.
    AskAgainAfter(Period),
    /// How soon a request must be acknowledged.
    AcknowledgeWithin(Period),
    /// How soon a request must be answered.
    AnswerWithin(Period),
    /// By how much that may be extended.
    ExtendBy(Period),
    /// How soon data that are wrong must be corrected, where that has a term of its own.
    CorrectWithin(Period),
    /// How soon data must be gone once they must go.
    EraseWithin(Period),
    /// How long before that the person is told.
    NoticeBeforeErasure(Period),
    /// How soon the authority hears of a breach.
    NotifyAuthorityWithin(Period),
    /// How long free-form messages are allowed after the person's own.
    FreeFormWindow(Period),
    /// What must be kept, at least so long.
    KeepAtLeast {
        /// What.
        what: Kept,
        /// How long.
        period: Period,
    },
    /// What must be done.
    Duty(Duty),
}

/// What a marketing message needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marketing {
    /// To customers about similar products, unless they object; the rule says under which
    /// conditions. To others: consent.
    SoftOptIn,
    /// Consent, before the first message.
    Consent,
}

/// What must be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// Logs of processing.
    Logs,
    /// Records of requests and their answers.
    RequestRecords,
    /// The list of those who objected.
    OppositionList,
    /// The proof that data were destroyed.
    DestructionRecords,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Logs => "logs",
            Self::RequestRecords => "records of requests",
            Self::OppositionList => "the list of those who objected",
            Self::DestructionRecords => "the proof of destruction",
        })
    }
}

/// What must be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duty {
    /// Be able to prove each consent.
    ProveConsent,
    /// Ask for consent separably from other matters.
    SeparateRequest,
    /// Ask for consent in a document of its own.
    SeparateDocument,
    /// Make withdrawing as easy as giving.
    WithdrawAsEasily,
    /// Make no service depend on a consent that it doesn't need.
    NoBundling,
    /// Tell recipients of erasure, rectification and restriction.
    TellRecipients,
    /// Leave no significant decision to a machine alone.
    HumanDecides,
    /// Keep the data of citizens in the country.
    Localise,
    /// Say that it is a machine, by the first interaction.
    SayBot,
    /// Name the business when asking for opt-in.
    NameBusiness,
    /// Let a person reach a human from an automated conversation.
    ReachHuman,
    /// Take an opt-out of sale or sharing without proof of identity.
    OptOutUnproved,
}

/// The question that a value answers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Topic(String);

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Topic {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Value {
    /// The question: the value's kind, and for what it is about where a kind has several.
    #[must_use]
    pub fn topic(&self) -> Topic {
        let json = serde_json::to_value(self).unwrap_or_default();
        let (kind, content) = json
            .as_object()
            .and_then(|object| object.iter().next())
            .map_or(("", None), |(kind, content)| (kind.as_str(), Some(content)));
        let detail = match self {
            Self::KeepAtLeast { .. } => content.and_then(|it| it["what"].as_str()),
            Self::Duty(_) => content.and_then(serde_json::Value::as_str),
            _ => None,
        };
        Topic(detail.map_or_else(|| kind.to_owned(), |detail| format!("{kind}.{detail}")))
    }

    /// How strict it is among values of the same topic, on a day: the higher the stricter.
    #[must_use]
    pub fn strictness(&self, on: Date) -> i64 {
        match self {
            Self::ConsentAge(years) | Self::NoTargetingBelow(years) => i64::from(*years),
            Self::Marketing(marketing) => i64::from(*marketing == Marketing::Consent),
            Self::StopWithin(period)
            | Self::LapsesAfterSilence(period)
            | Self::AcknowledgeWithin(period)
            | Self::AnswerWithin(period)
            | Self::ExtendBy(period)
            | Self::CorrectWithin(period)
            | Self::EraseWithin(period)
            | Self::NotifyAuthorityWithin(period)
            | Self::FreeFormWindow(period) => -period.hours_from(on),
            Self::AskAgainAfter(period)
            | Self::NoticeBeforeErasure(period)
            | Self::KeepAtLeast { period, .. } => period.hours_from(on),
            Self::Duty(_) => 0,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsentAge(years) | Self::NoTargetingBelow(years) => write!(f, "{years} years"),
            Self::Marketing(Marketing::Consent) => f.write_str("consent"),
            Self::Marketing(Marketing::SoftOptIn) => f.write_str("soft opt-in"),
            Self::StopWithin(period)
            | Self::LapsesAfterSilence(period)
            | Self::AskAgainAfter(period)
            | Self::AcknowledgeWithin(period)
            | Self::AnswerWithin(period)
            | Self::ExtendBy(period)
            | Self::CorrectWithin(period)
            | Self::EraseWithin(period)
            | Self::NoticeBeforeErasure(period)
            | Self::NotifyAuthorityWithin(period)
            | Self::FreeFormWindow(period)
            | Self::KeepAtLeast { period, .. } => period.fmt(f),
            Self::Duty(_) => f.write_str("yes"),
        }
    }
}

impl Rule {
    /// Whether it is in force on this day.
    #[must_use]
    pub fn is_in_force(&self, on: Date) -> bool {
        self.from <= on && self.until.is_none_or(|until| on < until)
    }
}
