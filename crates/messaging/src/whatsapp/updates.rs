//! What webhooks tell, as it is worked with here. How it is read is [`super::reading`]'s to say.

use assent_contracts::api::vault::ResolvedAddress;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One thing that a webhook told. No `Debug`: it holds numbers and messages.
pub enum Update {
    /// A person wrote or pressed a button.
    Message(Inbound),
    /// Somebody wrote of whom nothing is said. What it declares counts; the rest can't be worked with.
    Nameless(Inbound),
    /// Progress of a message that we sent.
    Status(StatusUpdate),
    /// A person changed WhatsApp's own marketing preference.
    Preference(Preference),
    /// A person has another number or user id than before.
    Moved(Moved),
    /// Something about a template.
    Template(TemplateUpdate),
    /// Something about the account or its number.
    Account(AccountUpdate),
    /// Told for people to read: nothing follows from it here.
    Notice(&'static str),
    /// A kind that this version doesn't know.
    Unknown,
    /// An element of a known kind that can't be read.
    Unreadable,
}

impl Update {
    /// Its kind, for counting.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Message(message) => message.said.kind(),
            Self::Status(_) => "status",
            Self::Preference(_) => "preference",
            Self::Moved(_) => "moved",
            Self::Template(_) => "template",
            Self::Account(_) => "account",
            Self::Notice(field) => field,
            Self::Unknown => "unknown",
            Self::Nameless(_) | Self::Unreadable => "unreadable",
        }
    }
}

/// A person's address before and after.
pub struct Moved {
    /// What she had.
    pub before: Address,
    /// What she has now.
    pub after: Address,
    /// The provider's id of the news, where it has one: personal data.
    pub id: String,
    /// When, seconds since 1970; 0 when the provider didn't say.
    pub at: i64,
}

/// Something about a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateUpdate {
    /// Of which business account, where that is said.
    pub account: Option<String>,
    /// Its name.
    pub name: String,
    /// Its language code, with `_`.
    pub language: String,
    /// What it is about.
    pub news: TemplateNews,
    /// When, seconds since 1970; 0 when the provider didn't say.
    pub at: i64,
}

/// What is new about a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateNews {
    /// Its status, as the provider names it, and why.
    Status {
        /// Such as `PAUSED`.
        status: String,
        /// Such as `INCORRECT_CATEGORY`.
        reason: Option<String>,
    },
    /// Its category changed, or will.
    Category {
        /// What it is now.
        current: String,
        /// What it will be, and from when on (seconds since 1970; 0: at once).
        next: Option<(String, i64)>,
    },
    /// Its quality, such as `RED`.
    Quality(String),
    /// Its text was edited.
    Components,
}

/// Something about the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountUpdate {
    /// Which, where that is said.
    pub account: Option<String>,
    /// Which of its numbers, in digits, where that is said.
    pub number: Option<String>,
    /// Which field of the webhook told it.
    pub field: String,
    /// What happened, such as `DISABLED_UPDATE`.
    pub event: String,
    /// The state of a ban, such as `DISABLE` or `REINSTATE`.
    pub ban: Option<String>,
    /// To how many people in a day the business may speak first, such as `TIER_2K`.
    pub tier: Option<String>,
    /// When, seconds since 1970; 0 when the provider didn't say.
    pub at: i64,
}

/// Who, in the forms in which the provider names people. A phone may be absent, or empty, for people
/// with usernames.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// Phone number in E.164, with its plus sign.
    pub phone: Option<String>,
    /// Business-scoped user id, `CC.` and alphanumerics.
    pub user_id: Option<String>,
    /// The user id that linked portfolios share, `CC.ENT.` and alphanumerics.
    pub parent_user_id: Option<String>,
}

impl Address {
    pub(super) fn new(phone: Option<String>, user_id: Option<String>) -> Self {
        let phone = phone
            .map(|phone| phone.chars().filter(char::is_ascii_digit).collect::<String>())
            .filter(|digits| !digits.is_empty())
            .map(|digits| format!("+{digits}"));
        let user_id = user_id.filter(|id| !id.is_empty());
        Self { phone, user_id, parent_user_id: None }
    }

    pub(super) fn with_parent(mut self, parent_user_id: Option<String>) -> Self {
        self.parent_user_id = parent_user_id.filter(|id| !id.is_empty());
        self
    }

    /// With what a contact tells that names the same person.
    pub(super) fn completed(mut self, contact: Self) -> Self {
        let same = self.is_empty()
            || (self.phone.is_some() && self.phone == contact.phone)
            || (self.user_id.is_some() && self.user_id == contact.user_id);
        if same {
            self.phone = self.phone.or(contact.phone);
            self.user_id = self.user_id.or(contact.user_id);
            self.parent_user_id = self.parent_user_id.or(contact.parent_user_id);
        }
        self
    }

    /// With the name that a message was sent to, where the provider's answer doesn't say it.
    #[must_use]
    pub fn or_sent_to(mut self, address: &ResolvedAddress) -> Self {
        if self.phone.is_none() && !address.phone.is_empty() {
            self.phone = Some(address.phone.clone());
        } else if self.user_id.is_none() && address.phone.is_empty() {
            self.user_id.clone_from(&address.user_id);
        }
        self
    }

    /// By how many names.
    #[must_use]
    pub fn names(&self) -> usize {
        [&self.phone, &self.user_id, &self.parent_user_id].into_iter().flatten().count()
    }

    /// Whether it names nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.phone.is_none() && self.user_id.is_none() && self.parent_user_id.is_none()
    }
}

/// A message from a person.
pub struct Inbound {
    /// From whom.
    pub from: Address,
    /// To which number of the business, by the provider's id of it, where that is said.
    pub number: Option<String>,
    /// The provider's id: personal data.
    pub id: String,
    /// The provider's id of the message that it answers: personal data.
    pub answers: Option<String>,
    /// The provider's own hash of her identity, which changes when somebody else may have her number.
    pub identity_hash: Option<String>,
    /// When she sent it, seconds since 1970; 0 when the provider didn't say.
    pub said_at: i64,
    /// Whether an advertisement led her here.
    pub by_advertisement: bool,
    /// What she sent.
    pub said: Said,
    /// The element as it came, for the conversation.
    pub raw: Value,
}

/// What a person sent.
pub enum Said {
    /// A text message.
    Text(String),
    /// A button: its payload or id, and its text.
    Button {
        /// What the sender had attached to it.
        payload: Option<String>,
        /// What the person saw.
        text: Option<String>,
    },
    /// Anything else that she can send, by the provider's name for it.
    Other(&'static str),
}

impl Said {
    /// The published kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Button { .. } => "button",
            Self::Other(kind) => kind,
        }
    }
}

/// Progress of a message that we sent.
pub struct StatusUpdate {
    /// The provider's id: personal data.
    pub id: String,
    /// `sent`, `delivered`, `read`, `failed`, `played`, or something newer.
    pub status: String,
    /// To whom.
    pub recipient: Address,
    /// Our message id, as we gave it.
    pub callback_data: Option<String>,
    /// Error codes.
    pub codes: Vec<i64>,
    /// What it costs, where that is said.
    pub pricing: Option<Pricing>,
    /// When, seconds since 1970.
    pub at: i64,
}

/// What the provider says that a message costs. All of it are codes of the provider's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pricing {
    /// Such as `marketing`, in lower case.
    pub category: Option<String>,
    /// Such as `PMP`.
    pub model: Option<String>,
    /// Such as `regular` or `free_entry_point`.
    pub kind: Option<String>,
    /// Whether it is charged once it is delivered.
    pub billable: Option<bool>,
}

/// WhatsApp's own marketing preference.
pub struct Preference {
    /// Whose.
    pub from: Address,
    /// Whether she wants no more; otherwise she resumed.
    pub stop: bool,
    /// When, seconds since 1970.
    pub said_at: i64,
}
