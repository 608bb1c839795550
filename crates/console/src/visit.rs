//! A visit of her preference page by the person herself, after a message from her number has shown that it
//! is she. It is a sealed cookie and nowhere kept; it guarantees that nobody makes one up, and that
//! it ends.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_sealing::{LinkKey, LinkKind};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// How long a visit lasts.
pub const LASTS: SignedDuration = SignedDuration::from_mins(30);

/// Tokens are this long.
const TOKEN: usize = 33;

/// A visit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Whose.
    pub subject: SubjectId,
    /// The address that the message came from.
    pub addresses: Vec<AddressToken>,
    /// When it ends.
    pub ends_at: Timestamp,
}

impl Visit {
    /// The cookie's value.
    #[must_use]
    pub fn seal(&self, links: &LinkKey) -> String {
        let mut content = self.subject.as_bytes().to_vec();
        content.extend(self.ends_at.as_second().to_be_bytes());
        for token in &self.addresses {
            content.extend(token.to_bytes());
        }
        links.seal(LinkKind::Visit, &content)
    }

    /// The visit of a cookie's value, unless it is over.
    #[must_use]
    pub fn open(links: &LinkKey, value: &str, now: Timestamp) -> Option<Self> {
        let content = links.open(LinkKind::Visit, value).ok()?;
        let (subject, rest) = content.split_first_chunk::<16>()?;
        let (ends_at, tokens) = rest.split_first_chunk::<8>()?;
        let ends_at = Timestamp::from_second(i64::from_be_bytes(*ends_at)).ok()?;
        let addresses =
            tokens.chunks(TOKEN).map(AddressToken::from_bytes).collect::<Result<_, _>>();
        let visit =
            Self { subject: Uuid::from_bytes(*subject), addresses: addresses.ok()?, ends_at };
        (now < ends_at).then_some(visit)
    }
}

#[cfg(test)]
mod tests {
    use assent_sealing::DataKey;

    use super::*;

    #[test]
    fn a_visit_ends_and_is_not_made_up() {
        let links = LinkKey::new(&DataKey::from_bytes([3; 32]));
        let visit = Visit {
            subject: Uuid::from_u128(7),
            addresses: vec![AddressToken { key_id: 1, mac: [2; 32] }],
            ends_at: Timestamp::from_second(1_000).unwrap(),
        };
        let value = visit.seal(&links);
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(Visit::open(&links, &value, at(999)), Some(visit));
        assert_eq!(Visit::open(&links, &value, at(1_000)), None);
        assert_eq!(Visit::open(&links, "made-up", at(1)), None);
        // A link that somebody was given is no visit.
        let link = links.of_person(LinkKind::Preferences, Uuid::from_u128(7), Uuid::nil());
        assert_eq!(Visit::open(&links, &link, at(1)), None);
    }
}
