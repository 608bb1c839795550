//! Links that people are given: what a link is for and whose it is, sealed, so that its address tells
//! nothing and can't be made up. It guarantees that the same content gives the same link, and that
//! a link of one kind is none of another; whether a link is still worth something is the business of
//! who made it.

use std::path::Path;

use assent_contracts::SubjectId;
use assent_contracts::code::Code;
use assent_runtime::Ids;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::DataKey;
use crate::envelope::{SealError, open_bytes, seal_with};
use crate::key_file::{self, KeyFileError};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// To confirm a yes (double opt-in).
    Confirmation,
    /// To see a preference page.
    Preferences,
    /// A visit of such a page by the person herself.
    Visit,
}

impl LinkKind {
    const fn name(self) -> &'static [u8] {
        match self {
            Self::Confirmation => b"confirmation",
            Self::Preferences => b"preferences",
            Self::Visit => b"visit",
        }
    }
}

/// The key of a deployment's links.
pub struct LinkKey {
    sealing: DataKey,
    nonces: DataKey,
    codes: DataKey,
}

impl std::fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkKey(..)")
    }
}

impl LinkKey {
    /// Reads the key from its file: 64 hex digits.
    ///
    /// # Errors
    /// [`KeyFileError`] when it can't be read, is no key or is open to others.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let text = key_file::read(path)?;
        let bytes = key_file::from_hex(text.trim()).ok_or_else(|| KeyFileError::Malformed {
            path: path.to_owned(),
            expected: "64 hex digits",
        })?;
        Ok(Self::new(&DataKey::from_bytes(*bytes)))
    }

    /// Makes a new key and writes it to `path`, which must not exist.
    ///
    /// # Errors
    /// [`KeyFileError`] when the file exists or can't be written.
    pub fn generate(path: &Path, ids: &dyn Ids) -> Result<(), KeyFileError> {
        let key = DataKey::generate(ids);
        let text = Zeroizing::new(format!("{}\n", key_file::to_hex(key.expose()).as_str()));
        key_file::create(path, &text)
    }

    /// A key that is already in memory.
    #[must_use]
    pub fn new(key: &DataKey) -> Self {
        Self {
            sealing: key.derive("assent link seal"),
            nonces: key.derive("assent link nonce"),
            codes: key.derive("assent link code"),
        }
    }

    /// The link of this kind with this content, for an address (base64url). The nonce is a keyed hash
    /// of both, so that repeating gives the same.
    #[must_use]
    pub fn seal(&self, kind: LinkKind, content: &[u8]) -> String {
        let mut mac = self.nonces.hmac();
        mac.update(kind.name());
        mac.update(&[0]);
        mac.update(content);
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&hash[..12]);
        URL_SAFE_NO_PAD.encode(seal_with(&self.sealing, nonce, kind.name(), content))
    }

    /// The content of a link of this kind.
    ///
    /// # Errors
    /// [`SealError`] when it is none.
    pub fn open(&self, kind: LinkKind, link: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let sealed = URL_SAFE_NO_PAD.decode(link).map_err(|_| SealError)?;
        open_bytes(&self.sealing, kind.name(), &sealed)
    }

    /// The link of this kind about one thing of one person's.
    #[must_use]
    pub fn of_person(&self, kind: LinkKind, subject: SubjectId, about: Uuid) -> String {
        self.seal(kind, &[*subject.as_bytes(), *about.as_bytes()].concat())
    }

    /// Whose a link of this kind is, and what it is about.
    ///
    /// # Errors
    /// [`SealError`] when it is no such link.
    pub fn person_of(&self, kind: LinkKind, link: &str) -> Result<(SubjectId, Uuid), SealError> {
        let content = self.open(kind, link)?;
        let (subject, about) = content.split_first_chunk::<16>().ok_or(SealError)?;
        let about = Uuid::from_slice(about).map_err(|_| SealError)?;
        Ok((Uuid::from_bytes(*subject), about))
    }

    /// The code of this kind for something: nobody can guess it who doesn't have this key.
    #[must_use]
    pub fn code(&self, kind: &str, of: &[u8]) -> Code {
        let mut mac = self.codes.hmac();
        mac.update(kind.as_bytes());
        mac.update(&[0]);
        mac.update(of);
        let hash: [u8; 32] = mac.finalize().into_bytes().into();
        Code::from_hash(&hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> LinkKey {
        LinkKey::new(&DataKey::from_bytes([byte; 32]))
    }

    #[test]
    fn a_link_opens_as_what_it_is_and_as_nothing_else() {
        let page = LinkKind::Preferences;
        let (subject, about) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let link = key(1).of_person(page, subject, about);
        assert_eq!(link, key(1).of_person(page, subject, about));
        assert_eq!(key(1).person_of(page, &link), Ok((subject, about)));
        assert_eq!(key(1).person_of(LinkKind::Confirmation, &link), Err(SealError));
        assert_eq!(key(2).person_of(page, &link), Err(SealError));
        for place in 0..link.len() {
            let mut forged = link.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            // The last letter holds fewer bits than it could.
            if place + 1 < link.len() {
                assert!(key(1).person_of(page, &forged).is_err(), "byte {place}");
            }
        }
        assert_eq!(key(1).person_of(page, "?"), Err(SealError));
        let short = key(1).seal(page, b"short");
        assert_eq!(key(1).person_of(page, &short), Err(SealError));
    }

    #[test]
    fn codes_differ_by_kind_by_what_they_are_of_and_by_key() {
        let code = key(1).code("confirm", b"a");
        assert_eq!(code, key(1).code("confirm", b"a"));
        for other in
            [key(1).code("confirm", b"b"), key(1).code("prove", b"a"), key(2).code("confirm", b"a")]
        {
            assert_ne!(code, other);
        }
    }
}
