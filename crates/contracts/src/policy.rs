//! The policy of a deployment: who its controller is, for which purposes people are asked, and what
//! they are told. The files of `assent policy` and the requests of the API have these shapes; of
//! persons it names only contacts that the notices publish.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// `assent.consent.policy_applied.v1`
pub const POLICY_APPLIED: &str = "assent.consent.policy_applied.v1";
/// `assent.consent.purpose_retired.v1`
pub const PURPOSE_RETIRED: &str = "assent.consent.purpose_retired.v1";

/// The whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The legal entity behind this deployment.
    pub controller: Controller,
    /// Purposes by their stable name.
    pub purposes: BTreeMap<String, Purpose>,
    /// For how long people are kept.
    #[serde(default, skip_serializing_if = "Retention::is_unlimited")]
    pub retention: Retention,
}

/// For how long people are kept (GDPR Article 5(1)(e)). File: `retention.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Who has no consent in force or waiting, and of whom nothing was heard or recorded for so many
    /// days, is erased; none: nobody is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_days: Option<u32>,
}

impl Retention {
    /// Whether it limits nothing.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.idle_days.is_none()
    }
}

/// The controller (GDPR Article 4(7)) and those who work with it. File: `controller.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// Name of the legal entity.
    pub name: String,
    /// Postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Address for questions about data, such as `privacy@acme.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Seat: ISO 3166-1 alpha-2. It is also the country of numbers without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Languages in which people are asked (BCP 47), the default first.
    pub languages: Vec<String>,
    /// How the data protection officer is reached (Article 13(1)(b)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<String>,
    /// The authority that takes complaints (Article 13(2)(d)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Brands by their name, with the business numbers that they send from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub brands: BTreeMap<String, Brand>,
    /// Who decides with it (Article 26).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joint_controllers: Vec<Party>,
    /// Who works for it (Article 28).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processors: Vec<Party>,
}

/// A brand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// Ids of its business numbers at the provider.
    #[serde(default)]
    pub sending_numbers: Vec<String>,
}

/// Another party.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: String,
    /// Where it is: ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// Why a purpose is lawful (GDPR Article 6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LawfulBasis {
    /// The person's consent (Article 6(1)(a)).
    #[default]
    Consent,
    /// A contract with the person, such as an order (Article 6(1)(b)).
    Contract,
    /// A legal obligation (Article 6(1)(c)).
    LegalObligation,
    /// A legitimate interest (Article 6(1)(f)); with it advertising to customers about similar products,
    /// where the law knows that (ePrivacy Directive 13(2)).
    LegitimateInterest,
}

impl LawfulBasis {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Contract => "contract",
            Self::LegalObligation => "legal_obligation",
            Self::LegitimateInterest => "legitimate_interest",
        }
    }
}

/// What a change of texts means for people who agreed to the earlier ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// They agreed to something else, and have to be asked again.
    #[default]
    Material,
    /// A matter of spelling: what they agreed to holds.
    Editorial,
}

/// A purpose. File: `purposes/<name>.toml`, its notices beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Purpose {
    /// The W3C DPV term, such as `dpv:DirectMarketing`.
    pub dpv: String,
    /// Why it is lawful. Whatever it is, messages need the person's opt-in: WhatsApp's own policy wants one,
    /// and the strictest rule wins.
    #[serde(default)]
    pub lawful_basis: LawfulBasis,
    /// Channels on which it may be pursued, such as `whatsapp`.
    pub channels: Vec<String>,
    /// Categories of data that it uses, such as `phone`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Who gets the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// How long a consent stays valid, in days; none: until withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity_days: Option<u32>,
    /// A consent lapses after so many days without an act of the person's own (a message counts, reading
    /// doesn't); none: it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after_days: Option<u32>,
    /// How people are asked for it by a message; none: they aren't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Asking>,
    /// A yes that doesn't come from the person's own number counts once she has confirmed it (double
    /// opt-in).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub double_opt_in: bool,
    /// When people are left alone, by the clock where they are; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// What the newest change of the texts means for those who agreed before.
    #[serde(default)]
    pub change: Change,
    /// Which role decided that, such as `dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// What people are told, by language. Files: `notices/<purpose>/<language>.toml`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notices: BTreeMap<String, Notice>,
}

/// How people are asked by a message, first or before their consent ends. It goes out only within a day
/// of a message of theirs, or while the consent that it would renew is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// The approved template. Its first quick-reply button agrees.
    pub template: String,
    /// How many days before a consent ends its renewal is asked for.
    #[serde(default = "Asking::before_days")]
    pub before_days: u32,
    /// How many days pass before somebody is asked again, who was asked or said no. A longer term of
    /// the law wins.
    #[serde(default = "Asking::again_after_days")]
    pub again_after_days: u32,
}

impl Asking {
    const fn before_days() -> u32 {
        30
    }

    const fn again_after_days() -> u32 {
        365
    }
}

/// When people are left alone. It counts by the clock of every time zone of the country in which their number
/// was issued: where one of them is quiet, nothing is sent yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// From this time of day, such as `21:00`.
    #[serde(with = "time_of_day")]
    #[schema(value_type = String, example = "21:00")]
    pub from: Time,
    /// Until this one; of the next day, where it is not later.
    #[serde(with = "time_of_day")]
    #[schema(value_type = String, example = "08:00")]
    pub until: Time,
    /// Days of the week that are quiet as a whole, such as `sunday`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "days_of_week")]
    #[schema(value_type = Vec<String>, example = json!(["sunday"]))]
    pub days: Vec<Weekday>,
    /// Dates that are quiet as a whole, by country (ISO 3166-1 alpha-2); `*` is every country.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, Vec<String>>)]
    pub holidays: BTreeMap<String, Vec<Date>>,
    /// The time zone that counts where a person's country isn't known, such as `Europe/Paris` (IANA).
    pub otherwise: String,
}

/// Times of day without seconds: nobody is left alone from 21:00:17 on.
mod time_of_day {
    use jiff::civil::Time;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.strftime("%H:%M"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::custom("a time of day is written like 21:00");
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let two = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
            two.then(|| digits.parse::<i8>().ok()).flatten().ok_or_else(wrong)
        };
        Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| wrong())
    }
}

/// Days of the week by their English names.
mod days_of_week {
    use jiff::civil::Weekday;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    const NAMES: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];

    pub fn serialize<S: Serializer>(days: &[Weekday], serializer: S) -> Result<S::Ok, S::Error> {
        let name = |day: &Weekday| NAMES.iter().find(|(_, it)| it == day).map(|(name, _)| *name);
        days.iter().filter_map(name).collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Weekday>, D::Error> {
        let day = |name: String| {
            let known = NAMES.iter().find(|(it, _)| *it == name).map(|(_, day)| *day);
            known.ok_or_else(|| de::Error::custom("a day is one of monday to sunday"))
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(day).collect()
    }
}

/// What people are told in one language before they agree: the request, and what GDPR Articles 13
/// and 14 want beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// What it is called, such as "News and offers": where there is room for no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What they agree to; it speaks of no person.
    pub text: String,
    /// Who gets the data (Article 13(1)(e)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<String>,
    /// Transfers to other countries, or that there are none (Article 13(1)(f)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfers: Option<String>,
    /// For how long (Article 13(2)(a)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Their rights (Article 13(2)(b)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<String>,
    /// That they may withdraw, and how (Article 13(2)(c)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawal: Option<String>,
    /// Where to complain (Article 13(2)(d)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
    /// Profiling, or that there is none (Article 13(2)(f)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profiling: Option<String>,
    /// Categories of data that did not come from them (Article 14(1)(d)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<String>,
    /// Where such data came from (Article 14(2)(f)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The policy changed, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyApplied {
    /// Its version, from 1.
    pub version: i64,
    /// SHA-256 over its JSON with sorted keys, hex.
    pub hash: String,
    /// The caller that applied it: a service or a role, no person.
    pub applied_by: String,
    /// The policy.
    pub policy: Policy,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A purpose is pursued no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PurposeRetired {
    /// The purpose's name.
    pub purpose: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What applying a policy would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyPlan {
    /// Version of the policy that is in force: name it when you apply.
    pub version: i64,
    /// What would change, in the order of the files.
    pub changes: Vec<PlannedChange>,
    /// What the notices leave out. It may be applied all the same; the controller answers for it.
    pub missing: Vec<MissingItem>,
    /// What is laxer than the law. It may be applied all the same; the controller answers for it.
    #[serde(default)]
    pub against: Vec<AgainstLaw>,
    /// Why it can't be applied.
    pub refused: Vec<PolicyRefusal>,
}

/// One thing that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedChange {
    /// What: `controller`, `purposes/<name>` or `retention`.
    pub what: String,
    /// In which way.
    pub action: Action,
    /// Its fields.
    pub fields: Vec<FieldChange>,
    /// How many people hold a consent that would be worth nothing any more: they would have to be
    /// asked again.
    pub asked_again: i64,
    /// How many people would be erased at once.
    #[serde(default)]
    pub erased: i64,
}

/// In which way something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Create,
    /// It is another.
    Update,
    /// It is gone.
    Delete,
}

/// One field that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Its path, such as `notices.fr.text`.
    pub field: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Something that the law wants people to be told and that isn't there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct MissingItem {
    /// Where it is missing, such as `notices/marketing/fr`.
    pub at: String,
    /// The item.
    pub item: String,
    /// The rule, such as `GDPR 13(2)(c)`.
    pub rule: String,
}

/// Something that is laxer than a rule that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgainstLaw {
    /// Where, such as `purposes/marketing`.
    pub at: String,
    /// What the policy says and the rule wants.
    pub reason: String,
    /// The rule's id.
    pub rule: String,
    /// Its article.
    pub article: String,
    /// Where its text stands.
    pub source: String,
}

/// Why a policy can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyRefusal {
    /// Where, such as `purposes/marketing`.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// `POST /v1/policy` (Idempotency-Key): apply a policy.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyPolicy {
    /// The version that the plan was made on.
    pub version: i64,
    /// The policy.
    pub policy: Policy,
}

/// The policy in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicyInForce {
    /// Its version.
    pub version: i64,
    /// SHA-256 over its JSON with sorted keys, hex.
    pub hash: String,
    /// The event.
    pub event_id: Uuid,
    /// The policy.
    pub policy: Policy,
}
