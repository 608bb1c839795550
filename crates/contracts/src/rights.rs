//! Published events of the requests of persons and of legal holds, on the topic of erasure events,
//! and what they are made of. Key: the `subject_id`; a request about nobody that is known here has a
//! random key of its own. Reasons are codes, and callers are named by their keys: no text of a person's
//! or about one travels.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::consent::Actor;

/// `assent.erasure.request_opened.v1`
pub const REQUEST_OPENED: &str = "assent.erasure.request_opened.v1";
/// `assent.erasure.request_acknowledged.v1`
pub const REQUEST_ACKNOWLEDGED: &str = "assent.erasure.request_acknowledged.v1";
/// `assent.erasure.identity_confirmed.v1`
pub const IDENTITY_CONFIRMED: &str = "assent.erasure.identity_confirmed.v1";
/// `assent.erasure.request_extended.v1`
pub const REQUEST_EXTENDED: &str = "assent.erasure.request_extended.v1";
/// `assent.erasure.request_refused.v1`
pub const REQUEST_REFUSED: &str = "assent.erasure.request_refused.v1";
/// `assent.erasure.request_answered.v1`
pub const REQUEST_ANSWERED: &str = "assent.erasure.request_answered.v1";
/// `assent.erasure.request_rectified.v1`
pub const REQUEST_RECTIFIED: &str = "assent.erasure.request_rectified.v1";
/// `assent.erasure.restriction_placed.v1`
pub const RESTRICTION_PLACED: &str = "assent.erasure.restriction_placed.v1";
/// `assent.erasure.restriction_end_told.v1`
pub const RESTRICTION_END_TOLD: &str = "assent.erasure.restriction_end_told.v1";
/// `assent.erasure.restriction_released.v1`
pub const RESTRICTION_RELEASED: &str = "assent.erasure.restriction_released.v1";
/// `assent.erasure.recipients_asked.v1`
pub const RECIPIENTS_ASKED: &str = "assent.erasure.recipients_asked.v1";
/// `assent.erasure.recipient_answered.v1`
pub const RECIPIENT_ANSWERED: &str = "assent.erasure.recipient_answered.v1";
/// `assent.erasure.archive_prepared.v1`
pub const ARCHIVE_PREPARED: &str = "assent.erasure.archive_prepared.v1";
/// `assent.erasure.archive_collected.v1`
pub const ARCHIVE_COLLECTED: &str = "assent.erasure.archive_collected.v1";
/// `assent.erasure.archive_removed.v1`
pub const ARCHIVE_REMOVED: &str = "assent.erasure.archive_removed.v1";
/// `assent.erasure.hold_placed.v1`
pub const HOLD_PLACED: &str = "assent.erasure.hold_placed.v1";
/// `assent.erasure.hold_reviewed.v1`
pub const HOLD_REVIEWED: &str = "assent.erasure.hold_reviewed.v1";
/// `assent.erasure.hold_released.v1`
pub const HOLD_RELEASED: &str = "assent.erasure.hold_released.v1";
/// `assent.erasure.hold_refused.v1`
pub const HOLD_REFUSED: &str = "assent.erasure.hold_refused.v1";

/// What a person asks for.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// To be erased (GDPR Article 17).
    #[default]
    Erasure,
    /// To see what is held (Article 15).
    Access,
    /// To take along what she provided (Article 20).
    Portability,
    /// To have it corrected (Article 16).
    Rectification,
    /// To have it kept and not used (Article 18).
    Restriction,
    /// That it be used no more, for marketing above all (Article 21).
    Objection,
    /// That it be neither sold nor shared (CCPA § 1798.120).
    OptOut,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Erasure,
        Self::Access,
        Self::Portability,
        Self::Rectification,
        Self::Restriction,
        Self::Objection,
        Self::OptOut,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Erasure => "erasure",
            Self::Access => "access",
            Self::Portability => "portability",
            Self::Rectification => "rectification",
            Self::Restriction => "restriction",
            Self::Objection => "objection",
            Self::OptOut => "opt_out",
        }
    }

    /// Whether what it asks for is done when it is taken in: its answer needs no proof of who asks,
    /// since it hands nothing out and destroys nothing (GDPR Article 21(3), CCPA § 1798.135).
    #[must_use]
    pub const fn is_done_at_intake(self) -> bool {
        matches!(self, Self::Objection | Self::OptOut)
    }

    /// Whether it is answered by handing out what is held.
    #[must_use]
    pub const fn hands_out(self) -> bool {
        matches!(self, Self::Access | Self::Portability)
    }

    /// Whether taking it in is a stop to all marketing, before anything else is looked at.
    #[must_use]
    pub const fn stops_marketing(self) -> bool {
        matches!(self, Self::Erasure | Self::Restriction | Self::Objection | Self::OptOut)
    }
}

/// A date that a law sets, with the rule that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Term {
    /// The jurisdiction, such as `eu`.
    pub jurisdiction: String,
    /// The rule's id.
    pub rule: String,
    /// Its article.
    pub article: String,
    /// How long it is, such as `1 month`.
    pub period: String,
    /// The last day, there.
    pub last_day: Date,
    /// The first moment after it.
    pub over_at: Timestamp,
}

/// Who hears complaints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Authority {
    /// Its name; none: there are several, and the address lists them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where a complaint begins.
    pub address: String,
}

/// The dates of a request, as its rules stood when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terms {
    /// SHA-256 over the rule files, hex.
    pub rules: String,
    /// By when she is told that it has arrived; none: no law that applies asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<Term>,
    /// By when it is answered: the strictest of all laws that apply.
    pub answer: Term,
    /// By when it is answered once it is extended; none: that isn't possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended: Option<Term>,
    /// The terms of the other laws, the stricter first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Term>,
    /// Whether her identity must be shown before anything is handed out or destroyed.
    pub identity: bool,
    /// Where she can complain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<Authority>,
}

/// How it was shown that she asks herself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMethod {
    /// A reply came from the number itself.
    NumberReply,
    /// She followed a signed link that only she was given.
    SignedLink,
    /// An operator checked it.
    Operator,
}

/// By which road of her own a person asked; what an operator, an interface or a file brings has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestOrigin {
    /// Her page, behind her signed link and a message from her number.
    Page,
    /// A WhatsApp message from her number.
    WhatsappMessage,
}

impl RequestOrigin {
    /// The only way in which this road shows that she asks herself.
    #[must_use]
    pub const fn proof(self) -> IdentityMethod {
        match self {
            Self::Page => IdentityMethod::SignedLink,
            Self::WhatsappMessage => IdentityMethod::NumberReply,
        }
    }
}

/// Why a term is extended (GDPR Article 12(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExtensionReason {
    /// The request is complex.
    Complexity,
    /// There are many requests of hers.
    NumberOfRequests,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalGround {
    /// It wasn't shown that she asks herself (GDPR Article 12(2) and (6)).
    IdentityNotShown,
    /// Manifestly unfounded (Article 12(5)).
    ManifestlyUnfounded,
    /// Excessive, above all because it is repeated (Article 12(5)).
    Excessive,
    /// Nothing about her is held.
    NothingHeld,
    /// Freedom of expression and information (Article 17(3)(a)).
    FreedomOfExpression,
    /// A law obliges to keep it (Article 17(3)(b)).
    LegalObligation,
    /// Public health (Article 17(3)(c)).
    PublicHealth,
    /// Archiving and research (Article 17(3)(d)).
    ArchivingOrResearch,
    /// Legal claims (Articles 17(3)(e), 18(2) and 21(1)).
    LegalClaims,
    /// The rights of others (Articles 15(4) and 20(4)).
    RightsOfOthers,
    /// The data are right as they are (Article 16).
    AccurateAlready,
}

impl RefusalGround {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::IdentityNotShown,
        Self::ManifestlyUnfounded,
        Self::Excessive,
        Self::NothingHeld,
        Self::FreedomOfExpression,
        Self::LegalObligation,
        Self::PublicHealth,
        Self::ArchivingOrResearch,
        Self::LegalClaims,
        Self::RightsOfOthers,
        Self::AccurateAlready,
    ];

    /// Whether it may be said to whoever hasn't shown who she is: it tells nothing about what is held.
    #[must_use]
    pub const fn tells_nothing(self) -> bool {
        matches!(self, Self::IdentityNotShown | Self::ManifestlyUnfounded | Self::Excessive)
    }
}

/// A request was taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestOpened {
    /// The request.
    pub request_id: Uuid,
    /// What is asked for.
    pub kind: RequestKind,
    /// Who asked.
    pub actor: Actor,
    /// By which road of her own; none: somebody brought it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<RequestOrigin>,
    /// A code for the ground, such as `consent_withdrawn` (GDPR Article 17(1)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where she says that she is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// Whether the key is a person who is known here.
    pub known: bool,
    /// Whether her identity is to be shown first.
    pub identity: bool,
    /// When it was received: its terms are counted from here.
    pub received_at: Timestamp,
    /// Its dates.
    pub terms: Terms,
    /// When it was recorded.
    pub at: Timestamp,
}

/// She was told that it has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestAcknowledged {
    /// The request.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}

/// It was shown that she asks herself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IdentityConfirmed {
    /// The request.
    pub request_id: Uuid,
    /// How.
    pub method: IdentityMethod,
    /// A code for what was looked at, such as `known_customer`.
    pub reason: String,
    /// The key of the caller that says so: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The term was extended, and she was told why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestExtended {
    /// The request.
    pub request_id: Uuid,
    /// Why.
    pub reasons: Vec<ExtensionReason>,
    /// The new end.
    pub over_at: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
}

/// It was refused, and she was told why and where to complain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestRefused {
    /// The request.
    pub request_id: Uuid,
    /// Why.
    pub ground: RefusalGround,
    /// When it was recorded.
    pub at: Timestamp,
}

/// It was answered. An erasure is answered by `assent.erasure.completed.v1` instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestAnswered {
    /// The request.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What was held of her was put right (GDPR Article 16): the vault holds the new content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestRectified {
    /// The request.
    pub request_id: Uuid,
    /// Which fields have another content (`phone`, `name`, `email`), never their content.
    pub fields: Vec<String>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Her data are kept and not used (GDPR Article 18): the gate denies everything since before this was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestrictionPlaced {
    /// The request that asks for it.
    pub request_id: Uuid,
    /// When it was recorded.
    pub at: Timestamp,
}

/// She was told that the restriction will be lifted, before it is (Article 18(3)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestrictionEndTold {
    /// The request that had asked for it.
    pub request_id: Uuid,
    /// A code for how she was told, such as `letter`.
    pub how: String,
    /// The key of the caller that says so: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// The restriction is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestrictionReleased {
    /// The request that had asked for it.
    pub request_id: Uuid,
    /// A code for the reason, such as `data_verified`.
    pub reason: String,
    /// The key of the caller that released it: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// What recipients outside are asked to do about a person.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Tell what they hold on her (GDPR Article 15).
    Disclose,
    /// Put right what they hold on her (Articles 16 and 19).
    Rectify,
    /// Keep what they hold on her and use it no more (Articles 18 and 19).
    Restrict,
    /// Use it again: the restriction is over.
    Release,
}

impl Task {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disclose => "disclose",
            Self::Rectify => "rectify",
            Self::Restrict => "restrict",
            Self::Release => "release",
        }
    }
}

/// Recipients outside were asked to do something about a person: the inquiry is on the command topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecipientsAsked {
    /// The request that it is for.
    pub request_id: Uuid,
    /// What they answer.
    pub inquiry_id: Uuid,
    /// What they are to do.
    pub task: Task,
    /// To put right: which fields have another content, never their content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Who is asked.
    pub recipients: Vec<String>,
    /// By when they are waited for.
    pub answer_by: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A recipient outside answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecipientAnswered {
    /// The request that it is for.
    pub request_id: Uuid,
    /// The inquiry that it answers.
    pub inquiry_id: Uuid,
    /// Who answered.
    pub recipient: String,
    /// How many pieces of what it told, by kind; empty where it told nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub records: BTreeMap<String, u64>,
    /// When it was recorded.
    pub at: Timestamp,
}

/// `assent.erasure.inquiry.v1`, on the command topic.
pub const INQUIRY: &str = "assent.erasure.inquiry.v1";

/// What recipients outside are to do about a person, on the command topic. It holds nothing of her but her id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Inquiry {
    /// The inquiry; an answer names it.
    pub inquiry_id: Uuid,
    /// The request that it is for.
    pub request_id: Uuid,
    /// Whom it concerns.
    pub subject_id: Uuid,
    /// What to do.
    pub task: Task,
    /// To put right: which fields have another content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Who must do it. The name is that of commands, so that one filter does for both.
    pub participants: Vec<String>,
    /// By when it is to be answered.
    pub answer_by: Timestamp,
    /// When it was issued.
    pub at: Timestamp,
}

/// What is held was put together for her, and waits sealed until she collects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchivePrepared {
    /// The request that it answers.
    pub request_id: Uuid,
    /// The archive.
    pub archive_id: Uuid,
    /// How many pieces of what it holds, by kind.
    pub records: BTreeMap<String, u64>,
    /// Until when it can be collected.
    pub expires_at: Timestamp,
    /// When it was recorded.
    pub at: Timestamp,
}

/// She was handed it; it can't be collected again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveCollected {
    /// The request that it answers.
    pub request_id: Uuid,
    /// The archive.
    pub archive_id: Uuid,
    /// When it was recorded, before it was handed out.
    pub at: Timestamp,
}

/// It was destroyed before she collected it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveRemoved {
    /// The request that it answered.
    pub request_id: Uuid,
    /// The archive.
    pub archive_id: Uuid,
    /// Why.
    pub reason: ArchiveEnd,
    /// When it was recorded.
    pub at: Timestamp,
}

/// Why an archive that nobody collected is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveEnd {
    /// Its time ran out.
    Expired,
    /// Her erasure began.
    Erased,
    /// A newer one took its place.
    Replaced,
}

/// Data are kept from destruction, for a reason of law.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldPlaced {
    /// The hold.
    pub hold_id: Uuid,
    /// The purpose whose data it is about; none: all data of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
    /// A code for the reason, such as `litigation`.
    pub reason: String,
    /// By when it is looked at again.
    pub review_on: Date,
    /// When it ends by itself; none: when it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// The key of the caller that placed it: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A hold was looked at and stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldReviewed {
    /// The hold.
    pub hold_id: Uuid,
    /// By when it is looked at again.
    pub review_on: Date,
    /// The key of the caller that looked: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A hold is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldReleased {
    /// The hold.
    pub hold_id: Uuid,
    /// A code for the reason.
    pub reason: String,
    /// The key of the caller that released it: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}

/// A hold came too late: the erasure was past the fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldRefused {
    /// The hold that there isn't.
    pub hold_id: Uuid,
    /// A code for the reason for which it was wanted.
    pub reason: String,
    /// The key of the caller that wanted it: the first 16 hex digits of its SHA-256 in the key file.
    pub key: String,
    /// When it was recorded.
    pub at: Timestamp,
}
