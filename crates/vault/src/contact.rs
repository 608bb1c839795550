//! Rows of a contact file, read and sealed. It guarantees that nothing identifying leaves this
//! module but sealed or hashed; both functions compute and never wait, so callers run them on a
//! thread that may be busy.

use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::ImportRow;
use assent_contracts::vault::Origin;
use assent_runtime::Ids;
use assent_sealing::{Fingerprint, StoredKey, seal};
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, EMAIL, NAME, PHONE, binding};
use crate::people::SealedPerson;
use crate::phone;

/// Longest name, in bytes.
const NAME_MAX: usize = 1024;
/// Longest address: local part, `@` and domain (RFC 5321 §4.5.3.1).
const EMAIL_MAX: usize = 320;

/// A row that is a contact. No `Debug`: it holds plaintext.
pub(crate) struct Contact {
    phone: Zeroizing<String>,
    name: Option<Zeroizing<String>>,
    email: Option<Zeroizing<String>>,
    pub(crate) region: Option<String>,
    /// Tokens of all spellings; never empty.
    pub(crate) tokens: Vec<AddressToken>,
    pub(crate) fingerprints: Vec<Fingerprint>,
}

/// A row that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rejected {
    pub(crate) reason: &'static str,
    pub(crate) field: &'static str,
}

impl Contact {
    /// Which fields are held.
    pub(crate) fn fields(&self) -> Vec<String> {
        let held = [(true, PHONE), (self.name.is_some(), NAME), (self.email.is_some(), EMAIL)];
        held.iter().filter(|(held, _)| *held).map(|(_, field)| (*field).to_owned()).collect()
    }
}

/// Reads a row.
pub(crate) fn read(app: &App, row: ImportRow) -> Result<Contact, Rejected> {
    let rejected = |reason, field| Rejected { reason, field };
    let phone = Zeroizing::new(row.phone);
    let phone = phone::parse(&phone, row.country.as_deref())
        .map_err(|invalid| rejected(invalid.reason(), invalid.field()))?;
    let name = trimmed(row.name);
    if name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
        return Err(rejected("name_too_long", NAME));
    }
    let email = trimmed(row.email);
    if email.as_ref().is_some_and(|email| email.len() > EMAIL_MAX || !email.contains('@')) {
        return Err(rejected("email_invalid", EMAIL));
    }
    Ok(Contact {
        tokens: app.addresses.tokens(&phone.e164),
        fingerprints: app.fingerprints.fingerprints(&phone.e164),
        phone: phone.e164,
        region: phone.region,
        name,
        email,
    })
}

fn trimmed(text: Option<String>) -> Option<Zeroizing<String>> {
    let text = Zeroizing::new(text?);
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| Zeroizing::new(trimmed.to_owned()))
}

/// Seals a contact under the key of the person it becomes.
pub(crate) fn seal_contact(
    ids: &dyn Ids,
    contact: &Contact,
    subject: Uuid,
    key: &StoredKey,
    origin: Origin,
    registered_at: Timestamp,
) -> SealedPerson {
    let sealed = |field, text: &Zeroizing<String>| {
        seal(&key.key, ids, binding(subject, field, key.version), text.as_bytes())
    };
    SealedPerson {
        subject,
        key_version: key.version,
        phone: sealed(PHONE, &contact.phone),
        name: contact.name.as_ref().map(|name| sealed(NAME, name)),
        email: contact.email.as_ref().map(|email| sealed(EMAIL, email)),
        tokens: contact.tokens.clone(),
        region: contact.region.clone(),
        origin,
        registered_at,
    }
}
