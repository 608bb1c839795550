//! The consent service's gate as messaging, vault and erasure call it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::SubjectId;
use crate::address::AddressToken;
use crate::code::{Code, Sentence};
use crate::consent::{Actor, AgeBasis, Method, State};
use crate::sealed::Sealed;

/// The purpose under which the one confirmation after a stop is sent. It is no purpose of the ledger, and
/// can't be consented to.
pub const STOP_CONFIRMATION: &str = "stop_confirmation";

/// The purpose under which people are asked for their consent. It is no purpose of the ledger, and can't be
/// consented to.
pub const CONSENT_REQUEST: &str = "consent_request";

/// `POST /v1/permits`: ask for fresh verdicts, at most 500 at once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PermitsRequest {
    /// One ask per message.
    #[schema(max_items = 500)]
    pub asks: Vec<PermitAsk>,
}

/// One ask.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PermitAsk {
    /// The message (intent) that would be sent.
    pub message_id: Uuid,
    /// To whom.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// Tokens of all spellings of the address that would be used.
    #[schema(max_items = 32)]
    pub addresses: Vec<AddressToken>,
    /// For which purpose. `stop_confirmation` is the one confirmation after a stop.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// With which template.
    #[schema(example = "hello")]
    pub template: String,
}

/// The answer: one permit or denial per ask, in the same order.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PermitsResponse {
    /// Verdicts in the order of the asks.
    pub permits: Vec<Permit>,
}

/// A recorded verdict. It is worth one send, within one lease, counted from before the ask.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Permit {
    /// Its id: each ask makes a new one.
    pub permit_id: Uuid,
    /// The message it is for.
    pub message_id: Uuid,
    /// Allowed or denied, and why.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Allow or deny.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may be sent.
    Allow,
    /// It may not.
    Deny,
}

/// A verdict that explains itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Allow or deny.
    pub verdict: Decision,
    /// Every reason that applies, stable codes, sorted. On allow: why it is allowed.
    pub reasons: Vec<String>,
    /// Ids of the events it rests on.
    pub evidence: Vec<Uuid>,
    /// Hash of the notice that was agreed to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_hash: Option<String>,
    /// The engine: `hours-2`, or `spine-1` before it.
    pub rules: String,
    /// SHA-256 of the rule set that was in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<String>,
    /// The moment it speaks of.
    pub as_of: Timestamp,
    /// Until when a change that is on record may still be settling (reads don't wait).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settling_until: Option<Timestamp>,
    /// Until when she is left alone, where that is a reason (`quiet_hours`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_until: Option<Timestamp>,
}

/// `POST /v1/consents/grant` (Idempotency-Key).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// Who agrees.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// To what.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// Who acted; operators may not lift what only the person may (suppression, erasure).
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Sealed evidence (`POST vault /v1/seal`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
    /// When the person acted, where that is told later than it happened: a letter of Monday that is
    /// recorded on Wednesday. Never in the future.
    #[serde(
        default,
        deserialize_with = "crate::moment::read_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub acted_at: Option<Timestamp>,
    /// In which language she was asked; without it: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Hash of the very notice that she was shown, where the caller kept it; it must be one of this
    /// purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_hash: Option<String>,
    /// Where it happened, as a code of the caller's: `shop-lyon`. Lower-case letters, digits, `_`, `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$")]
    pub place: Option<String>,
    /// Tokens of the address from which the person herself acted; stops on them are lifted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 32)]
    pub addresses: Vec<AddressToken>,
}

/// `POST /v1/consents/refuse` and `POST /v1/consents/withdraw` (Idempotency-Key).
/// A withdrawal answers when it is settled: no send that rests on what was withdrawn starts after.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawRequest {
    /// Who withdraws.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// From what; `*` is everything.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel; `*` is every one.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Sealed evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
    /// When the person acted, where that is told later than it happened: a letter of Monday that is
    /// recorded on Wednesday. Never in the future.
    #[serde(
        default,
        deserialize_with = "crate::moment::read_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub acted_at: Option<Timestamp>,
    /// Where it happened, as a code of the caller's: `shop-lyon`. Lower-case letters, digits, `_`, `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$")]
    pub place: Option<String>,
}

/// `POST /v1/consents/ask` (Idempotency-Key): ask a person for her consent, by one message.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AskRequest {
    /// Whom.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// For what.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// In which language; without it: that of the notice that she agreed to, else the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

/// `POST /v1/ages` (Idempotency-Key): how old a person is. What is kept is whether that is old enough.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgeRequest {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// On what it rests.
    pub basis: AgeBasis,
    /// How many years she has completed.
    #[schema(maximum = 255)]
    pub years: u8,
    /// Where she says that she lives: `FR`, or a part such as `US-CA`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub lives_in: Option<String>,
    /// The country of her number; it counts where she has said nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    pub number_country: Option<String>,
    /// Who says so.
    pub actor: Actor,
    /// Sealed evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Sealed>,
}

/// `POST /v1/restrictions` and `POST /v1/restrictions/lift`: her data are kept and not used (GDPR Article 18), or
/// are used again. Repeating either changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestrictionRequest {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The request that asks for it.
    pub request_id: Uuid,
}

/// `POST /v1/consents/confirm` (Idempotency-Key): a yes is confirmed by its link.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmRequest {
    /// The link's token, from [`Unconfirmed`].
    pub link: String,
}

/// `POST /v1/consents/unconfirmed` (the body of [`ConfirmRequest`]): what a link would confirm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unconfirmable {
    /// The purpose.
    pub purpose: String,
    /// The channel.
    pub channel: String,
    /// Hash of the notice that was shown.
    pub notice_hash: String,
    /// Until when it can be confirmed.
    pub expires_at: Timestamp,
}

/// The answer to a consent command; a repeat with the same key gets the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentAnswer {
    /// Whom it concerns.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The events it made; empty when nothing had to change.
    pub events: Vec<Uuid>,
    /// The version of her ledger after it.
    pub version: i64,
    /// It counts once she has confirmed it (double opt-in): how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Unconfirmed>,
}

/// How a yes is confirmed: by a message with the code from her own number, or by the link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unconfirmed {
    /// The request: the id of its event.
    pub request_id: Uuid,
    /// What she sends by WhatsApp, alone or within a short message.
    pub code: Code,
    /// The link's token. Bring it to her by a road that is hers; it works once.
    pub link: String,
    /// From when on neither works.
    pub expires_at: Timestamp,
}

/// `POST /v1/gate/codes`: a message with a code came from an address.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CodeRequest {
    /// Id of the message: repeating it gives the same answer.
    pub message_id: Uuid,
    /// The code.
    pub code: Code,
    /// With which of the prepared sentences it came.
    pub sentence: Sentence,
    /// Tokens of all spellings of the address it came from.
    #[schema(max_items = 32)]
    pub addresses: Vec<AddressToken>,
    /// When she sent it; without it: now.
    #[serde(
        default,
        deserialize_with = "crate::moment::read_option",
        skip_serializing_if = "Option::is_none"
    )]
    pub said_at: Option<Timestamp>,
}

/// What a code meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "meaning", rename_all = "snake_case")]
pub enum CodeAnswer {
    /// Nothing: it is no code, it is over, or it belongs to somebody else's number.
    Nothing,
    /// It is somebody's; that this address is hers isn't known, or not yet.
    NotHers,
    /// It confirmed what she had said.
    Confirmed {
        /// Who.
        #[schema(value_type = Uuid)]
        subject_id: SubjectId,
    },
    /// It proved that whoever has the preference page before them has the number.
    Proved {
        /// Who.
        #[schema(value_type = Uuid)]
        subject_id: SubjectId,
    },
    /// It stands for a notice: whoever sends it agrees.
    Join {
        /// To what.
        purpose: String,
        /// On which channel.
        channel: String,
        /// The notice that was shown.
        notice_hash: String,
    },
}

/// `POST /v1/subjects/{subject_id}/preference-links`: a link for a person to her preference page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreferenceLink {
    /// Its id.
    pub link_id: Uuid,
    /// Its token: the last part of the page's address.
    pub token: String,
    /// The page's address, where `[services] public_url` is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// `POST /v1/subjects/{subject_id}/preference-links/revoke`: what became of her links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// How many were good for more than opting out until then.
    pub revoked: u64,
}

/// `GET /v1/preference-links/{link_id}`: what a link is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreferenceLinkState {
    /// Whose it is.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// It was revoked: it is good for opting out only.
    pub revoked: bool,
}

/// `POST /v1/preference-links/{link_id}/code`: how the person proves that it is she who has the page
/// before her.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofCode {
    /// What she sends by WhatsApp, from her own number.
    pub code: Code,
    /// From when on it is worth nothing.
    pub expires_at: Timestamp,
}

/// `POST /v1/preference-links/{link_id}/proof`: the code was sent. It works once.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProofRequest {
    /// The code.
    pub code: Code,
}

/// The number is hers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// Tokens of the address from which the code came.
    pub addresses: Vec<AddressToken>,
}

/// `POST /v1/gate/stops`: stops heard elsewhere, at most 500 at once. Answers when settled.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopsRequest {
    /// The stops.
    #[schema(max_items = 500)]
    pub stops: Vec<Stop>,
}

/// One stop, for an address, whoever it belongs to.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Its id: repeating it changes nothing.
    pub stop_id: Uuid,
    /// Tokens of all spellings of the address.
    #[schema(min_items = 1, max_items = 32)]
    pub addresses: Vec<AddressToken>,
    /// What kind of stop.
    pub kind: StopKind,
    /// By which road she said it; not given: by a WhatsApp message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// When it was heard.
    #[serde(deserialize_with = "crate::moment::read")]
    pub heard_at: Timestamp,
}

/// Why an address may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// The person said stop; her own later opt-in lifts it.
    Stopped,
    /// It stood on a list of opt-outs; only the person's own act lifts it.
    Suppressed,
    /// The person was erased; only her own act opens a new relation, under a new id.
    Erased,
}

/// `POST /v1/gate/links`: addresses that people have as well, at most 500 at once. Answers when settled.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinksRequest {
    /// The links.
    #[schema(max_items = 500)]
    pub links: Vec<Link>,
}

/// A person and addresses of hers, or of somebody who is one with her.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Who.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The addresses' tokens.
    #[schema(min_items = 1, max_items = 100)]
    pub addresses: Vec<AddressToken>,
}

/// The links hold.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LinksResponse {
    /// How many were new.
    pub linked: u64,
}

/// `POST /v1/gate/tokens`: more tokens of addresses that the gate knows, at most 500 addresses at once, when the vault
/// has one more key to make them with. Nothing is taken away or given by it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensRequest {
    /// The addresses.
    #[schema(max_items = 500)]
    pub addresses: Vec<SameAddress>,
    /// Nobody gets the known tokens any more: what stands against them and whose they are moves to the further ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instead: bool,
}

/// One address by the tokens that are known and by those that are new.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SameAddress {
    /// Its tokens so far.
    #[schema(min_items = 1, max_items = 100)]
    pub known: Vec<AddressToken>,
    /// Its further tokens.
    #[schema(min_items = 1, max_items = 100)]
    pub more: Vec<AddressToken>,
}

/// What stood against the known tokens, and whose they are, holds for the further ones too.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct TokensResponse {
    /// How many links are new.
    pub linked: u64,
    /// Against how many tokens something stands since.
    pub barred: u64,
}

/// The answer to stops: settled.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct StopsResponse {
    /// How many were new.
    pub recorded: u64,
    /// Whom they concern, per stop in order, as far as consent knows.
    #[schema(value_type = Vec<Vec<Uuid>>)]
    pub subjects: Vec<Vec<SubjectId>>,
}

/// `POST /v1/verdict`: what the gate would say (nothing is recorded, nothing may be sent on it).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictRequest {
    /// About whom.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// For which purpose.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
}

/// `POST /v1/verdict/as-of`: was it allowed at a moment, by what was known at another?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AsOfRequest {
    /// About whom.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// For which purpose.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// The moment that is asked about; not in the future.
    #[serde(deserialize_with = "crate::moment::read")]
    pub at: Timestamp,
    /// What was known: the person's first so many events, or those that were recorded until a
    /// moment. Without it: all that is known now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<KnownAt>,
}

/// Response of `POST /v1/verdict/as-of/statement`: the verdict, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedVerdict {
    /// A compact JWS (RFC 7515), EdDSA, by the key of receipts: the question with its position, the
    /// verdict, and the digests of all events and versions of the purpose that it rests on.
    pub statement: String,
}

/// A point in what is known of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum KnownAt {
    /// The first so many events of hers: what an [`AsOfVerdict`] names.
    Position(i64),
    /// What was recorded until then; it is turned into a position once.
    Time(#[serde(deserialize_with = "crate::moment::read")] Timestamp),
}

/// The verdict at a moment by what was known: the same bytes for ever, until the person is erased;
/// then it is one fixed answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AsOfVerdict {
    /// Allow or deny.
    pub verdict: Decision,
    /// Every reason that applies, stable codes, sorted.
    pub reasons: Vec<String>,
    /// Ids of the events it rests on, sorted.
    pub evidence: Vec<Uuid>,
    /// Hash of the notice that was agreed to, where a consent is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_hash: Option<String>,
    /// Version of the engine.
    pub rules: String,
    /// SHA-256 of the rule set that was in force at that moment; none from before rules were on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<String>,
    /// The definition of the purpose that was in force: the id of its event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Uuid>,
    /// The moment it speaks of.
    pub at: Timestamp,
    /// How many of her events were known. Ask with it again, and the answer is the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<i64>,
}

/// `POST /v1/verdicts`: the same about many at once, at most 2,000.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictsRequest {
    /// For which purpose.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// About whom.
    #[schema(max_items = 2000)]
    pub asks: Vec<VerdictAsk>,
}

/// A person, or an address that nobody is known to have.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerdictAsk {
    /// The person, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub subject_id: Option<SubjectId>,
    /// Where she isn't: tokens of all spellings of the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressToken>,
}

/// Verdicts of one moment, in the order of the asks.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct VerdictsResponse {
    /// One per ask.
    pub verdicts: Vec<Verdict>,
}

/// `GET /v1/subjects/{subject_id}/consents`: what holds for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentsResponse {
    /// Who.
    pub subject_id: Uuid,
    /// Whether she is, or is being, erased; then there are no lines. Told with `suppression:read` only.
    pub erased: bool,
    /// One line per purpose and channel that she spoke about, sorted by both.
    pub consents: Vec<ConsentView>,
}

/// The last word about one purpose and channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsentView {
    /// The purpose; `*` is every one.
    pub purpose: String,
    /// The channel; `*` is every one.
    pub channel: String,
    /// `given`, `refused`, `withdrawn` or `expired`; `requested` while a yes waits to be confirmed.
    #[schema(value_type = String)]
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// The event that made it so.
    pub event_id: Uuid,
    /// Hash of the notice that was agreed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_hash: Option<String>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// Until when a send that began before the change may still be under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settling_until: Option<Timestamp>,
}

/// A receipt (`GET /v1/subjects/{subject_id}/receipts`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReceiptView {
    /// The event that it is the receipt of.
    pub event_id: Uuid,
    /// Its place in the ledger.
    pub sequence: i64,
    /// The purpose; `*` is every one.
    pub purpose: String,
    /// The channel; `*` is every one.
    pub channel: String,
    /// When the event was recorded.
    pub recorded_at: Timestamp,
    /// The receipt: JSON-LD in DPV terms. What is signed are its canonical bytes (RFC 8785).
    #[schema(value_type = Object)]
    pub receipt: serde_json::Value,
    /// A JWS with detached content (RFC 7515, appendix F), EdDSA.
    pub signature: String,
    /// What the profile requires and the policy doesn't say: paths in the receipt.
    pub missing: Vec<String>,
}
