//! Purposes and the notices that people are shown for them. It guarantees that a notice is never
//! edited in place: another text or locale is another version with another hash; whether a text
//! tells people what the law wants is left to the controller.

use assent_contracts::consent::PurposeDefined;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::scope::ANY;
use super::verdict::STOP_CONFIRMATION;

/// What someone wants a purpose to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Stable name.
    pub purpose: String,
    /// Channels on which it may be pursued.
    pub channels: Vec<String>,
    /// The W3C DPV term.
    pub dpv: String,
    /// The notice text.
    pub notice_text: String,
    /// BCP 47 language of the text.
    pub notice_locale: String,
    /// How long a consent stays valid, in days.
    pub validity_days: Option<u32>,
}

/// A definition is no definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// The stream of a purpose: an id derived from its name, so that the name is unique by nature.
#[must_use]
pub fn stream_id(purpose: &str) -> Uuid {
    const NAMESPACE: Uuid = Uuid::from_u128(0x8c1f_5d0a_7a0e_4b53_9f2b_61c0_35c7_2d11);
    Uuid::new_v5(&NAMESPACE, purpose.as_bytes())
}

/// SHA-256 over the canonical notice, hex: its locale, a line feed, and the text with line ends
/// made `\n` and outer white space taken away. The locale is part of it: the same words in
/// another language setting are another notice.
#[must_use]
pub fn notice_hash(locale: &str, text: &str) -> String {
    let text = text.replace("\r\n", "\n");
    let digest = Sha256::new()
        .chain_update(locale.as_bytes())
        .chain_update(b"\n")
        .chain_update(text.trim().as_bytes())
        .finalize();
    hex(&digest)
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The event that a definition leads to, given the newest version there is; none when it says
/// nothing new.
///
/// # Errors
/// [`Invalid`] when a name can't stand in the ledger or a text is missing.
pub fn define(
    newest: Option<&PurposeDefined>,
    definition: Definition,
) -> Result<Option<PurposeDefined>, Invalid> {
    let Definition { purpose, mut channels, dpv, notice_text, notice_locale, validity_days } =
        definition;
    name(&purpose)?;
    if purpose == STOP_CONFIRMATION {
        return Err(Invalid("the name stop_confirmation is reserved"));
    }
    channels.sort_unstable();
    channels.dedup();
    if channels.is_empty() {
        return Err(Invalid("a purpose needs at least one channel"));
    }
    channels.iter().try_for_each(|channel| name(channel))?;
    if notice_text.trim().is_empty() || notice_text.len() > 65_536 {
        return Err(Invalid("the notice text must have 1 to 65536 bytes"));
    }
    let locale_ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if notice_locale.is_empty() || notice_locale.len() > 35 || !notice_locale.bytes().all(locale_ok)
    {
        return Err(Invalid("the notice locale must be a BCP 47 tag"));
    }
    if dpv.is_empty() || dpv.len() > 200 {
        return Err(Invalid("the DPV term must have 1 to 200 bytes"));
    }
    if validity_days == Some(0) {
        return Err(Invalid("a validity must be at least one day"));
    }
    let defined = PurposeDefined {
        notice_hash: notice_hash(&notice_locale, &notice_text),
        purpose,
        channels,
        dpv,
        lawful_basis: "consent".to_owned(),
        notice_version: newest.map_or(1, |newest| newest.notice_version + 1),
        notice_text,
        notice_locale,
        validity_days,
    };
    let same = newest.is_some_and(|newest| {
        PurposeDefined { notice_version: newest.notice_version, ..defined.clone() } == *newest
    });
    Ok((!same).then_some(defined))
}

fn name(name: &str) -> Result<(), Invalid> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || name == ANY || name.len() > 64 || !name.bytes().all(fits) {
        return Err(Invalid("a name has 1 to 64 characters of a-z, 0-9 and _"));
    }
    Ok(())
}

/// The purposes that a deployment has from its first day, in the name of its controller.
#[must_use]
pub fn defaults(controller: &str) -> [Definition; 2] {
    let definition = |purpose: &str, dpv: &str, notice_text: String| Definition {
        purpose: purpose.to_owned(),
        channels: vec!["whatsapp".to_owned()],
        dpv: dpv.to_owned(),
        notice_text,
        notice_locale: "en".to_owned(),
        validity_days: None,
    };
    [
        definition(
            "marketing",
            "dpv:DirectMarketing",
            format!(
                "{controller} would like to send you news and offers by WhatsApp. You can say \
                 stop at any time by answering STOP; that is as easy as agreeing, and costs you \
                 nothing."
            ),
        ),
        definition(
            "service",
            "dpv:CommunicationForCustomerCare",
            format!(
                "{controller} would like to write to you by WhatsApp about your orders and \
                 questions. You can say stop at any time by answering STOP."
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marketing() -> Definition {
        let [marketing, _] = defaults("Acme");
        marketing
    }

    #[test]
    fn a_notice_is_never_edited_in_place_another_text_is_another_version() {
        let first = define(None, marketing()).unwrap().unwrap();
        let edited = Definition { notice_text: "Other words.".to_owned(), ..marketing() };
        let second = define(Some(&first), edited).unwrap().unwrap();
        assert_eq!((first.notice_version, second.notice_version), (1, 2));
        assert_ne!(first.notice_hash, second.notice_hash);
    }

    #[test]
    fn the_hash_of_the_wrong_locale_is_another_hash() {
        assert_ne!(notice_hash("en", "Hello"), notice_hash("fr", "Hello"));
        assert_eq!(notice_hash("en", "a\r\nb\n"), notice_hash("en", "a\nb"));
    }

    #[test]
    fn defining_the_same_again_says_nothing_new() {
        let first = define(None, marketing()).unwrap().unwrap();
        assert_eq!(define(Some(&first), marketing()), Ok(None));
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for purpose in ["*", "", "Marketing", STOP_CONFIRMATION, "a b"] {
            let definition = Definition { purpose: purpose.to_owned(), ..marketing() };
            assert!(define(None, definition).is_err(), "{purpose}");
        }
    }
}
