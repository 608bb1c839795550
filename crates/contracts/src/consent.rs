//! Published consent events. Key: the `subject_id`; for purposes and notices the purpose's id.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use uuid::Uuid;

use crate::api::claims::ClaimDecision;
use crate::api::consent::StopKind;
use crate::code::Code;
use crate::policy::{Asking, Notice, Quiet};
use crate::sealed::Sealed;

/// `assent.consent.purpose_defined.v1`
pub const PURPOSE_DEFINED: &str = "assent.consent.purpose_defined.v1";
/// `assent.consent.requested.v1`
pub const REQUESTED: &str = "assent.consent.requested.v1";
/// `assent.consent.asked.v1`
pub const ASKED: &str = "assent.consent.asked.v1";
/// `assent.consent.contacted.v1`
pub const CONTACTED: &str = "assent.consent.contacted.v1";
/// `assent.consent.age_stated.v1`
pub const AGE_STATED: &str = "assent.consent.age_stated.v1";
/// `assent.consent.restricted.v1`
pub const RESTRICTED: &str = "assent.consent.restricted.v1";
/// `assent.consent.restriction_lifted.v1`
pub const RESTRICTION_LIFTED: &str = "assent.consent.restriction_lifted.v1";
/// `assent.consent.rules_loaded.v1`
pub const RULES_LOADED: &str = "assent.consent.rules_loaded.v1";
/// `assent.consent.claims_submitted.v1`
pub const CLAIMS_SUBMITTED: &str = "assent.consent.claims_submitted.v1";
/// `assent.consent.claims_decided.v1`
pub const CLAIMS_DECIDED: &str = "assent.consent.claims_decided.v1";
/// `assent.consent.granted.v1`
pub const GRANTED: &str = "assent.consent.granted.v1";
/// `assent.consent.refused.v1`
pub const REFUSED: &str = "assent.consent.refused.v1";
/// `assent.consent.withdrawn.v1`
pub const WITHDRAWN: &str = "assent.consent.withdrawn.v1";
/// `assent.consent.expired.v1`
pub const EXPIRED: &str = "assent.consent.expired.v1";
/// `assent.consent.erased.v1`
pub const ERASED: &str = "assent.consent.erased.v1";
/// `assent.consent.standing_changed.v1`
pub const STANDING_CHANGED: &str = "assent.consent.standing_changed.v1";
/// `assent.consent.state.v1`, on the compacted topic only.
pub const STATE: &str = "assent.consent.state.v1";

/// Who caused an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The person herself, by an act of her own (a message, a page).
    Subject,
    /// A holder of parental responsibility over her (GDPR Article 8(1)).
    Guardian,
    /// An operator on her behalf; the caller's name is in the audit trail, not here.
    Operator,
    /// Assent itself (expiry, erasure).
    System,
}

/// By which road an expression of will arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Over the HTTP API.
    Api,
    /// A form on a website.
    WebForm,
    /// The preference page.
    PreferencePage,
    /// A WhatsApp message or button.
    WhatsappMessage,
    /// A message that a page had prepared for her, and that she sent from her own number.
    ClickToChat,
    /// The link that she was sent to confirm.
    ConfirmationLink,
    /// On paper.
    Paper,
    /// By telephone.
    Phone,
    /// A list that came with evidence, which a person looked at.
    Import,
    /// WhatsApp's own marketing preference (`user_preferences`).
    WhatsappPreference,
    /// A list of opt-outs loaded by an operator.
    List,
    /// A request to be deleted.
    ErasureRequest,
    /// The passing of time.
    Time,
}

/// A purpose exists, with the notice that people are shown for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PurposeDefined {
    /// Stable name, such as `marketing`.
    pub purpose: String,
    /// Channels on which it may be pursued, such as `whatsapp`.
    pub channels: Vec<String>,
    /// The W3C DPV term, such as `dpv:DirectMarketing`.
    pub dpv: String,
    /// The lawful basis (GDPR Article 6): `consent`.
    pub lawful_basis: String,
    /// Version of the notice text, from 1.
    pub notice_version: u32,
    /// SHA-256 of the notice's canonical text, hex.
    pub notice_hash: String,
    /// The notice text that is shown. It speaks of no person.
    pub notice_text: String,
    /// BCP 47 language of the text.
    pub notice_locale: String,
    /// How long a consent stays valid, in days; none: until withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity_days: Option<u32>,
    /// A consent lapses after so many days without an act of the person's; none: it doesn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after_days: Option<u32>,
    /// A yes counts once it is confirmed (double opt-in).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub double_opt_in: bool,
    /// How people are asked for it; none: they aren't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Asking>,
    /// When people are left alone; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Quiet>,
    /// What people are told in each language; the first fields are of the default one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub notices: BTreeMap<String, NoticeText>,
    /// Hashes of the notices on which a consent holds; empty in events from before there were any:
    /// then it holds on every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// Categories of data that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Who gets the data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
}

/// A notice in one language, with the hash that a consent points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeText {
    /// SHA-256 of its canonical text, hex.
    pub hash: String,
    /// What people are told.
    #[serde(flatten)]
    pub notice: Notice,
}

impl utoipa::PartialSchema for NoticeText {
    fn schema() -> RefOr<Schema> {
        let mut schema = Notice::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            let hash = String::schema();
            object.properties.insert("hash".to_owned(), hash);
            object.required.push("hash".to_owned());
        }
        schema
    }
}

impl utoipa::ToSchema for NoticeText {}

/// Somebody said yes for a person, and that it was she is still to be confirmed (double opt-in). The
/// event's id is the request's. It allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Requested {
    /// The purpose's name.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// Hash of the notice that was shown.
    pub notice_hash: String,
    /// Version of the notice.
    pub notice_version: u32,
    /// How long the consent stays valid once confirmed, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity_days: Option<u32>,
    /// After how many days without an act of hers it lapses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after_days: Option<u32>,
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Where: a code of the caller's, such as `shop-lyon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
    /// When the person acted, where that was told later than it happened; without it: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Timestamp>,
    /// From when on it can't be confirmed any more.
    pub expires_at: Timestamp,
    /// Evidence, sealed under the person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// What a confirmed consent was asked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Confirms {
    /// The [`Requested`] event.
    pub request_id: Uuid,
    /// When she had said yes: a no after that wins, also over the confirmation.
    pub requested_at: Timestamp,
}

/// Why a person is asked for her consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// She has written to us, and has no consent in force.
    First,
    /// Her consent is in force, and ends soon.
    Renewal,
}

/// A person is going to be asked for her consent, by one message. It allows that message and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Asked {
    /// The request, and the message that asks.
    pub request_id: Uuid,
    /// The purpose's name.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// Hash of the notice on which she would agree.
    pub notice_hash: String,
    /// Version of the notice.
    pub notice_version: u32,
    /// How long the consent would stay valid, in days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity_days: Option<u32>,
    /// After how many days without an act of hers it would lapse.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after_days: Option<u32>,
    /// Why.
    pub kind: AskKind,
    /// By which template.
    pub template: String,
    /// In which language.
    pub language: String,
    /// What she sends, or the button sends for her, if she agrees.
    pub code: Code,
    /// When it was recorded.
    pub at: Timestamp,
    /// From when on the code is worth nothing.
    pub expires_at: Timestamp,
}

/// The person did something of her own towards us. Reading a message is no such act. Not each is recorded:
/// one that follows another within twelve hours isn't.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Contacted {
    /// The channel.
    pub channel: String,
    /// When it was recorded.
    pub at: Timestamp,
    /// When she did it.
    pub acted_at: Timestamp,
}

/// A person agreed to a purpose on a channel (GDPR Article 7(1): the controller can prove it).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Granted {
    /// The purpose's name.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// Hash of the notice that was shown.
    pub notice_hash: String,
    /// Version of the notice.
    pub notice_version: u32,
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Where: a code of the caller's, such as `shop-lyon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Which request it confirms (double opt-in).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirms: Option<Confirms>,
    /// When it was recorded; it never steps back within a person's events.
    pub at: Timestamp,
    /// When the person acted, where that was told later than it happened; without it: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Timestamp>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// After how many days without an act of hers it lapses, if that is sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lapses_after_days: Option<u32>,
    /// Evidence, sealed under the person's key by the vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// A person said no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refused {
    /// The purpose's name.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Where: a code of the caller's, such as `shop-lyon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
    /// When the person acted, where that was told later than it happened; without it: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Timestamp>,
    /// Evidence, sealed under the person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// A person withdrew (GDPR Article 7(3)). It is not retroactive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Withdrawn {
    /// The purpose; `*` for every purpose.
    pub purpose: String,
    /// The channel; `*` for every channel.
    pub channel: String,
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Where: a code of the caller's, such as `shop-lyon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
    /// When the person acted, where that was told later than it happened; without it: `at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acted_at: Option<Timestamp>,
    /// Evidence, sealed under the person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// A consent ended because its validity did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Expired {
    /// The purpose.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// When its validity ended.
    pub valid_until: Timestamp,
    /// When that was recorded.
    pub at: Timestamp,
}

/// The person was fenced for erasure: nothing about her is recorded after this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Erased {
    /// The erasure request.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What stands against a person beside her own words has changed: a stop from an address that is
/// hers now, an opt-out list, someone who shares an address with her. It is the whole of it, so
/// the newest one counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StandingChanged {
    /// What stands against her addresses, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<Bar>,
    /// The words of those who share an address with her and said no to something, sorted; who they
    /// are is not told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Vec<OthersWord>>,
    /// The countries in which her numbers were issued (ISO 3166-1 alpha-2), as far as known, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<String>,
    /// Since when it is so.
    pub effective_at: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Something that stands against one of a person's addresses.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct Bar {
    /// In which way.
    pub kind: StopKind,
    /// The stop, suppression or erasure request.
    pub cause: Uuid,
}

/// The last word of someone who shares an address, about one purpose on one channel.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
pub struct OthersWord {
    /// The purpose; `*` is every one.
    pub purpose: String,
    /// The channel; `*` is every one.
    pub channel: String,
    /// Its state.
    pub state: State,
    /// The event that made it so.
    pub event_id: Uuid,
    /// Since when.
    pub since: Timestamp,
}

/// On what an age rests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgeBasis {
    /// Somebody said so.
    Stated,
    /// It was looked at: what was only stated doesn't change it.
    Verified,
}

/// Whether a person is old enough, as far as anybody knows. How old she is is not recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AgeStated {
    /// On what it rests.
    pub basis: AgeBasis,
    /// Whether she has the age from which people consent by themselves (GDPR Article 8(1)).
    pub of_age: bool,
    /// Which age that is, in years, by the strictest law that may apply.
    pub required: u8,
    /// Whether the law lets people of her age be advertised to.
    pub may_be_targeted: bool,
    /// Who acted.
    pub actor: Actor,
    /// When it was recorded.
    pub at: Timestamp,
    /// Evidence, sealed under the person's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// Her data are kept and used no more (GDPR Article 18). Nothing is sent to her while this stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Restricted {
    /// The request that asks for it.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The restriction of a request is over; that of another may stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RestrictionLifted {
    /// The request that had asked for it.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Other rules are in force from now on. Key: the stream of the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RulesLoaded {
    /// SHA-256 of the rule set.
    pub rule_set: String,
    /// The engine that gives verdicts; none in events from before there were two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A batch of claimed consents waits for somebody to look at it. Key: the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClaimsSubmitted {
    /// The purpose.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// How many claims there are.
    pub claims: i64,
    /// The caller that brought it: a service or a role, no person.
    pub submitted_by: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Somebody looked at a batch of claimed consents, and decided. Key: the batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClaimsDecided {
    /// The decision.
    pub decision: ClaimDecision,
    /// Why: a code.
    pub reason: String,
    /// The caller that decided: a service or a role, no person.
    pub decided_by: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The state of one consent.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Given and in force (DPV `ConsentGiven`).
    Given,
    /// Said, and not confirmed yet (`ConsentRequested`); nothing older holds.
    Requested,
    /// Refused (`ConsentRefused`).
    Refused,
    /// Withdrawn (`ConsentWithdrawn`).
    Withdrawn,
    /// Expired (`ConsentExpired`).
    Expired,
}

/// One line of [`ConsentState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConsentLine {
    /// The purpose.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// Its state.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
}

/// Everything that holds for a person, on the compacted topic. A tombstone (no value) in its place
/// says that she is fenced for erasure: forget her.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConsentState {
    /// One line per purpose and channel that she ever spoke about, sorted by both.
    pub consents: Vec<ConsentLine>,
    /// Her data are not to be used at present, whatever she agreed to (GDPR Article 18).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restricted: bool,
}
