//! What happened in the ledger of a person, and what it says. Stored and published shapes are the
//! contract's.

use assent_contracts::code::Code;
use assent_contracts::consent::{
    Actor, AgeBasis, AskKind, Bar, Confirms, Method, OthersWord, PurposeDefined,
};
use assent_contracts::sealed::Sealed;
use jiff::Timestamp;
use uuid::Uuid;

use super::scope::Scope;

/// How an expression of will came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who acted.
    pub actor: Actor,
    /// By which road.
    pub method: Method,
    /// Where: a code of the caller's.
    pub place: Option<String>,
    /// Evidence, sealed under the person's key.
    pub evidence: Option<Sealed>,
    /// When the person acted, where that was told later.
    pub acted_at: Option<Timestamp>,
}

/// What holds for a person beside her own words: what stands against her, and where her numbers are from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What stands against her addresses, sorted.
    pub bars: Vec<Bar>,
    /// The words of those who share an address with her and said no to something, sorted.
    pub others: Vec<Vec<OthersWord>>,
    /// The countries in which her numbers were issued, as far as known, sorted.
    pub regions: Vec<String>,
}

/// The notice that was shown, as far as the ledger keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notice {
    /// Its version, from 1.
    pub version: u32,
    /// SHA-256 of its canonical text, hex.
    pub hash: String,
    /// How long a consent given on it stays valid, in days.
    pub validity_days: Option<u32>,
    /// After how many days without an act of the person's it lapses.
    pub lapses_after_days: Option<u32>,
}

impl Notice {
    /// The notice of a definition, in the language that was named or the default one; none where
    /// there is none in that language.
    #[must_use]
    pub fn of(defined: &PurposeDefined, locale: Option<&str>) -> Option<Self> {
        let hash = match locale {
            Some(locale) if locale != defined.notice_locale => &defined.notices.get(locale)?.hash,
            _ => &defined.notice_hash,
        };
        Some(Self {
            version: defined.notice_version,
            hash: hash.clone(),
            validity_days: defined.validity_days,
            lapses_after_days: defined.lapses_after_days,
        })
    }

    /// The notice of a definition with this hash; none where it has none such.
    #[must_use]
    pub fn with_hash(defined: &PurposeDefined, hash: &str) -> Option<Self> {
        let shown = defined.notice_hash == hash
            || defined.notices.values().any(|notice| notice.hash == hash);
        shown.then(|| Self { hash: hash.to_owned(), ..Self::of(defined, None).unwrap_or_default() })
    }
}

/// How she is asked for her consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The request, and the message that asks.
    pub request_id: Uuid,
    /// For what; never wide.
    pub scope: Scope,
    /// On which notice she would agree.
    pub notice: Notice,
    /// Why.
    pub kind: AskKind,
    /// By which template.
    pub template: String,
    /// In which language.
    pub language: String,
    /// What she sends if she agrees.
    pub code: Code,
}

/// Whether she is old enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// On what that rests.
    pub basis: AgeBasis,
    /// Whether she consents by herself.
    pub of_age: bool,
    /// Whether she may be advertised to.
    pub may_be_targeted: bool,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Somebody said yes for her; that it was she is to be confirmed. The event's id is the request's.
    Requested {
        /// To what.
        scope: Scope,
        /// On which notice.
        notice: Notice,
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
        /// From when on it can't be confirmed.
        expires_at: Timestamp,
    },
    /// She is asked by a message.
    Asked {
        /// For what, and how.
        question: Question,
        /// When it was recorded.
        at: Timestamp,
        /// From when on her answer counts no more.
        expires_at: Timestamp,
    },
    /// She did something of her own towards us.
    Contacted {
        /// On which channel.
        channel: String,
        /// When she did.
        acted_at: Timestamp,
        /// When it was recorded.
        at: Timestamp,
    },
    /// Somebody said, or looked at, how old she is.
    AgeStated {
        /// Whether that is old enough.
        age: Age,
        /// Which age that would be, in years.
        required: u8,
        /// Who said so.
        actor: Actor,
        /// Evidence, sealed under the person's key.
        evidence: Option<Sealed>,
        /// When it was recorded.
        at: Timestamp,
    },
    /// Her data are kept and not used.
    Restricted {
        /// The request that asks for it.
        request_id: Uuid,
        /// When it was recorded.
        at: Timestamp,
    },
    /// The restriction of a request is over.
    RestrictionLifted {
        /// The request that had asked for it.
        request_id: Uuid,
        /// When it was recorded.
        at: Timestamp,
    },
    /// She agreed.
    Granted {
        /// To what.
        scope: Scope,
        /// On which notice: version and hash.
        notice: (u32, String),
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
        /// When it ends by itself.
        valid_until: Option<Timestamp>,
        /// After how many days without an act of hers it lapses.
        lapses_after_days: Option<u32>,
        /// The request that it confirms.
        confirms: Option<Confirms>,
    },
    /// She said no.
    Refused {
        /// To what.
        scope: Scope,
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
    },
    /// She took it back.
    Withdrawn {
        /// What.
        scope: Scope,
        /// How it came in.
        act: Act,
        /// When it was recorded.
        at: Timestamp,
    },
    /// Its validity ended.
    Expired {
        /// Which consent.
        scope: Scope,
        /// When its validity ended.
        valid_until: Timestamp,
        /// When it was recorded.
        at: Timestamp,
    },
    /// What stands against her changed.
    StandingChanged {
        /// The whole of it.
        standing: Standing,
        /// Since when.
        effective_at: Timestamp,
        /// When it was recorded.
        at: Timestamp,
    },
    /// She was fenced: nothing is recorded after this.
    Erased {
        /// The request.
        request_id: Uuid,
        /// When it was recorded.
        at: Timestamp,
    },
}

impl Event {
    /// When it was recorded.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        match self {
            Self::Requested { at, .. }
            | Self::Asked { at, .. }
            | Self::Contacted { at, .. }
            | Self::AgeStated { at, .. }
            | Self::Restricted { at, .. }
            | Self::RestrictionLifted { at, .. }
            | Self::Granted { at, .. }
            | Self::Refused { at, .. }
            | Self::Withdrawn { at, .. }
            | Self::Expired { at, .. }
            | Self::StandingChanged { at, .. }
            | Self::Erased { at, .. } => *at,
        }
    }

    /// From when on it holds.
    #[must_use]
    pub fn effective_at(&self) -> Timestamp {
        match self {
            Self::Requested { act, at, .. }
            | Self::Granted { act, at, .. }
            | Self::Refused { act, at, .. }
            | Self::Withdrawn { act, at, .. } => act.acted_at.unwrap_or(*at),
            Self::Asked { at, .. }
            | Self::AgeStated { at, .. }
            | Self::Restricted { at, .. }
            | Self::RestrictionLifted { at, .. } => *at,
            Self::Contacted { acted_at, .. } => *acted_at,
            Self::Expired { valid_until, .. } => *valid_until,
            Self::StandingChanged { effective_at, .. } => *effective_at,
            Self::Erased { at, .. } => *at,
        }
    }
}
