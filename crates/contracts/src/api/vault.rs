//! The vault as the command line, messaging and erasure call it. Identifiers travel in bodies
//! only, never in URLs.

use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::SubjectId;
use crate::address::AddressToken;
use crate::api::consent::Decision;
use crate::sealed::Sealed;
use crate::vault::Origin;

/// `POST /v1/subjects/import`: register people in bulk, at most 2,000 rows at once. Idempotent by
/// nature: a known number is `existing`.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// By which road these people come to be known.
    pub origin: Origin,
    /// Of the origin `subject`: when she acted. An erasure or a suppression since then stands.
    #[serde(
        default,
        deserialize_with = "crate::moment::read_option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub acted_at: Option<Timestamp>,
    /// The rows.
    #[schema(max_items = 2000)]
    pub rows: Vec<ImportRow>,
}

/// One person of a contact file. No `Debug`: it holds plaintext.
#[derive(Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportRow {
    /// The phone number in any spelling. It may be missing beside a user id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phone: String,
    /// ISO 3166-1 alpha-2 country for numbers without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Business-scoped user id; only with the origin `subject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user id that linked portfolios share; only beside a user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_user_id: Option<String>,
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What became of each row, in order.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ImportResponse {
    /// One outcome per row.
    pub outcomes: Vec<ImportOutcome>,
}

/// What became of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ImportOutcome {
    /// A new person.
    Created {
        /// Her id.
        #[schema(value_type = Uuid)]
        subject_id: SubjectId,
    },
    /// The number is known already.
    Existing {
        /// Her id.
        #[schema(value_type = Uuid)]
        subject_id: SubjectId,
    },
    /// She may not come in: `erased` or `suppressed` for callers with `suppression:read`, else
    /// `refused`.
    Refused {
        /// Stable reason code.
        reason: String,
    },
    /// The row is no contact: `phone_invalid`, `phone_missing`, `country_unknown`, `user_id_invalid`, …
    Rejected {
        /// Stable reason code.
        reason: String,
        /// Which field is wrong: `phone`, `country`, `user_id`, `parent_user_id`, `name`, `email`.
        field: String,
    },
}

/// `POST /v1/subjects/lookup`: who has this address? A phone number, a user id, or tokens are given.
#[derive(Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LookupRequest {
    /// A phone number in any spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Country for numbers without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// A business-scoped user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Tokens of one address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub addresses: Vec<AddressToken>,
}

/// The answer to a lookup.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LookupResponse {
    /// The person, if known.
    #[schema(value_type = Option<Uuid>)]
    pub subject_id: Option<SubjectId>,
    /// `erased` or `suppressed` where it applies and the caller has `suppression:read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barred: Option<String>,
    /// Tokens of the address (only for callers with `subjects:resolve` or `gate:write`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<AddressToken>,
    /// The country that issued the number, where the question was a number: ISO 3166-1 alpha-2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number_country: Option<String>,
}

/// `POST /v1/identities/who`: who is it whom the platform calls so? At most 100 at once; nothing is written.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhoRequest {
    /// The questions, one for each person.
    #[schema(max_items = 100)]
    pub asked: Vec<Asked>,
}

/// All the names that the platform gave one person in one breath, as tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Of the phone number, in all its spellings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub phones: Vec<AddressToken>,
    /// Of the business-scoped user id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub user_ids: Vec<AddressToken>,
    /// Of the user id that linked portfolios share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub parent_user_ids: Vec<AddressToken>,
    /// Who got the message that she answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub answers: Option<SubjectId>,
}

/// The answers, in order.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WhoResponse {
    /// One per question.
    pub answers: Vec<Who>,
}

/// Who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Who {
    /// How sure that is.
    pub standing: Standing,
    /// Who has one of the names, whoever has the user id first. Empty: nobody, or she is being erased.
    #[serde(default)]
    #[schema(value_type = Vec<Uuid>)]
    pub named: Vec<SubjectId>,
    /// Who else is one with them by the platform's word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Uuid>)]
    pub linked: Vec<SubjectId>,
    /// Tokens of all that those who are named are known by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hers: Vec<AddressToken>,
    /// Since when the first of them is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub registered_at: Option<jiff::Timestamp>,
}

impl Who {
    /// The person, where it isn't in doubt that it is she.
    #[must_use]
    pub fn subject(&self) -> Option<SubjectId> {
        self.named.first().copied().filter(|_| self.standing != Standing::InDoubt)
    }

    /// Everybody whom it concerns.
    pub fn everybody(&self) -> impl Iterator<Item = SubjectId> {
        self.named.iter().chain(&self.linked).copied()
    }
}

/// How sure it is who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nobody has any of the names.
    Nobody,
    /// It is she, by all that is known.
    Known,
    /// They are several people here, one at the platform, and not linked yet.
    ToBeLinked,
    /// Those who have the names are known by another name of the same kind: whoever it is may be somebody else.
    InDoubt,
}

/// `POST /v1/index/renew`: hashes the next people by every index key in use, and by no other.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Behind whom to go on: `last` of the answer before. Not given: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub after: Option<SubjectId>,
}

/// How far it is.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RenewResponse {
    /// The last person who was looked at. None: there was nobody any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub last: Option<SubjectId>,
    /// How many people were looked at.
    pub looked_at: u64,
    /// How many of them lacked a hash, or had one of a key that looks only.
    pub renewed: u64,
}

/// `POST /v1/addresses/resolve`: the numbers to send to, at most 100 at once. An access record is
/// written before anything is decrypted.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// Why: a stable reason code such as `send`.
    #[schema(pattern = "^[a-z0-9_.-]{1,64}$")]
    pub reason: String,
    /// Whom.
    #[schema(value_type = Vec<Uuid>, max_items = 100)]
    pub subjects: Vec<SubjectId>,
}

/// Addresses in the order of the request. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResolveResponse {
    /// One per subject; none when there is no such person (any more).
    pub addresses: Vec<Option<ResolvedAddress>>,
}

/// Where to send. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResolvedAddress {
    /// E.164 with its plus sign; empty for somebody who is known by her user id only.
    pub phone: String,
    /// Business-scoped user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Tokens of the address that is to be used, in all its spellings: the number, where there is one.
    pub tokens: Vec<AddressToken>,
    /// Tokens of what else she is known by: a stop there counts here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<AddressToken>,
    /// Tokens of all that those are known by who are one with her: a stop there counts here too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub linked_addresses: Vec<AddressToken>,
    /// Who is one with her by the platform's word: what stands against them stands against her.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Uuid>)]
    pub linked: Vec<SubjectId>,
}

impl ResolvedAddress {
    /// Tokens of everything that she, and who is one with her, is known by.
    #[must_use]
    pub fn all(&self) -> Vec<AddressToken> {
        let hers = self.tokens.iter().chain(&self.others);
        hers.chain(&self.linked_addresses).copied().collect()
    }

    /// Tokens of everything that she is known by herself: what she says is said of these.
    #[must_use]
    pub fn hers(&self) -> Vec<AddressToken> {
        self.tokens.iter().chain(&self.others).copied().collect()
    }
}

/// `POST /v1/identities`: what the platform says of people, at most 100 at once. Nothing is made known by it
/// but what belongs to somebody who is known.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentitiesRequest {
    /// The people.
    #[serde(deserialize_with = "objects")]
    #[schema(max_items = 100)]
    pub told: Vec<ToldIdentity>,
}

/// Serde takes an array for a struct as well: where every field may be absent, any array.
fn objects<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let objects = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    let read = |object| T::deserialize(Value::Object(object)).map_err(D::Error::custom);
    objects.into_iter().map(read).collect()
}

/// One person, by all the names that the platform gave her in one breath. No `Debug`: it holds plaintext.
#[derive(Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToldIdentity {
    /// Who got the message that she answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub answers: Option<SubjectId>,
    /// Phone number in E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Business-scoped user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user id that linked portfolios share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_user_id: Option<String>,
}

/// What became of each, in order.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IdentitiesResponse {
    /// One per person that was told of.
    pub outcomes: Vec<IdentityOutcome>,
}

/// What became of what was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum IdentityOutcome {
    /// Nobody is known by any of it, or she is being erased: nothing is kept.
    Nobody,
    /// It is all hers, by now or before.
    Known {
        /// Her id.
        #[schema(value_type = Uuid)]
        subject_id: SubjectId,
    },
    /// These people are one, and stay apart: whatever one of them stopped is stopped for all.
    Linked {
        /// Their ids.
        #[schema(value_type = Vec<Uuid>)]
        subjects: Vec<SubjectId>,
    },
    /// These people are known by another identifier of the same kind: whether it is they is in doubt.
    InDoubt {
        /// Their ids.
        #[schema(value_type = Vec<Uuid>)]
        subjects: Vec<SubjectId>,
    },
    /// It is no identifier: `phone_invalid`, `user_id_invalid`.
    Rejected {
        /// Stable reason code.
        reason: String,
    },
}

/// `POST /v1/identities/forget`: a person's number was verified to be hers; her user ids, and who is one with her,
/// are learnt anew.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// Whose.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
}

/// Whether there were any.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ForgetResponse {
    /// False: there was nothing to forget, or she has no number.
    pub forgotten: bool,
}

/// `POST /v1/subjects/{subject_id}/rectify`: what is to be held of a person instead. A field that is left out stays
/// as it is. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RectifyRequest {
    /// The request that asks for it; its repeat changes nothing.
    pub request_id: Uuid,
    /// Her number, in any spelling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Country of a number without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Her name; empty: what is held is wrong and goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Her e-mail address; empty: what is held is wrong and goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// What has another content by this request, now or before.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RectifyResponse {
    /// `phone`, `name` or `email`; none: all was as it should be.
    pub fields: Vec<String>,
}

/// `POST /v1/keys/lease`: keys of people for the caller's own sealing, at most 100 at once. They
/// are derived for the caller's service and held for at most one lease, counted from before the ask.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyLeaseRequest {
    /// Why: a stable reason code.
    #[schema(pattern = "^[a-z0-9_.-]{1,64}$")]
    pub reason: String,
    /// Whose.
    #[schema(value_type = Vec<Uuid>, max_items = 100)]
    pub subjects: Vec<SubjectId>,
}

/// Keys in the order of the request. No `Debug`: it holds keys.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct KeyLeaseResponse {
    /// 32 bytes each, base64 without padding; none when destroyed or never made.
    pub keys: Vec<Option<String>>,
}

/// `POST /v1/seal`: seal free text under a person's key. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealRequest {
    /// Whose key.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The record it belongs to (part of the authenticated data).
    pub record: Uuid,
    /// The field, such as `consent.evidence`.
    #[schema(min_length = 1, max_length = 64)]
    pub field: String,
    /// The text, at most 64 KiB.
    #[schema(max_length = 65536)]
    pub text: String,
}

/// The ciphertext. It carries the record that it is bound to, so that it can be opened again.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SealResponse {
    /// Sealed under the person's key.
    pub sealed: Sealed,
}

/// `POST /v1/seals`: seal one text each under the keys of many people, at most 500 at once. No `Debug`: it
/// holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealsRequest {
    /// The field, such as `consent.evidence`.
    #[schema(min_length = 1, max_length = 64)]
    pub field: String,
    /// The texts.
    #[schema(max_items = 500)]
    pub texts: Vec<SealText>,
}

/// A text for one person. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SealText {
    /// Whose key.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The record it belongs to (part of the authenticated data).
    pub record: Uuid,
    /// The text, at most 64 KiB.
    #[schema(max_length = 65536)]
    pub text: String,
}

/// The ciphertexts, in order; none where there is no such person (any more).
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SealsResponse {
    /// One per text.
    pub sealed: Vec<Option<Sealed>>,
}

/// `POST /v1/open`: open what `POST /v1/seal` sealed; on record before it is opened.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// Why: a stable reason code such as `dispute`.
    #[schema(pattern = "^[a-z0-9_.-]{1,64}$")]
    pub reason: String,
    /// Whose.
    #[schema(value_type = Uuid)]
    pub subject_id: SubjectId,
    /// The field under which it was sealed: `consent.evidence`.
    #[schema(example = "consent.evidence")]
    pub field: String,
    /// The ciphertext.
    pub sealed: Sealed,
}

/// The text. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OpenResponse {
    /// What was sealed.
    pub text: String,
}

/// `POST /v1/suppressions`: a list of opt-outs, at most 2,000 at once. Answers when settled.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuppressRequest {
    /// Phone numbers in any spelling.
    #[schema(max_items = 2000)]
    pub rows: Vec<SuppressRow>,
}

/// One opt-out: a phone number or a user id. No `Debug`: it holds plaintext.
#[derive(Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuppressRow {
    /// The phone number.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phone: String,
    /// A business-scoped user id, or one that linked portfolios share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Country for numbers without a country code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// What became of each row, in order: `suppressed`, `already_suppressed`, or a rejection code.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SuppressResponse {
    /// One outcome per row.
    pub outcomes: Vec<String>,
}

/// `POST /v1/screenings`: may the people of a list be messaged? At most 2,000 rows at once; nothing
/// of them is kept.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScreenRequest {
    /// The same in every request about one list, and in no other: best a UUID of version 7.
    pub screening_id: Uuid,
    /// For which purpose.
    #[schema(example = "marketing")]
    pub purpose: String,
    /// On which channel.
    #[schema(example = "whatsapp")]
    pub channel: String,
    /// The rows.
    #[schema(max_items = 2000)]
    pub rows: Vec<ScreenRow>,
}

/// One row of a list. No `Debug`: it holds plaintext.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScreenRow {
    /// The phone number in any spelling.
    pub phone: String,
    /// ISO 3166-1 alpha-2 country: for numbers without a country code, and where the number is
    /// expected to be from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
}

/// What may be done with each row, in order.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScreenResponse {
    /// One per row.
    pub rows: Vec<ScreenedRow>,
}

/// May this row be messaged?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ScreenedRow {
    /// Allow or deny.
    pub verdict: Decision,
    /// Every reason that applies, stable codes, sorted: those of the gate, `wrong_country`,
    /// `not_mobile`, or why the row is no contact.
    pub reasons: Vec<String>,
    /// Which field is wrong where the row is no contact: `phone` or `country`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Stands for the number: the same for the same number within one screening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_nobody_that_was_told_of() {
        let read = |text: &str| serde_json::from_str::<IdentitiesRequest>(text);
        assert!(read(r#"{"told": [{"phone": "+33612345678"}]}"#).is_ok());
        assert!(read(r#"{"told": [[null, null]]}"#).is_err());
        assert!(read(r#"{"told": [{"telephone": "+33612345678"}]}"#).is_err());
    }
}
