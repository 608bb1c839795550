//! Rows of a contact file, read and sealed. It guarantees that nothing identifying leaves this
//! module but sealed or hashed; both functions compute and never wait, so callers run them on a
//! thread that may be busy.

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::SameAddress;
use assent_contracts::api::vault::ImportRow;
use assent_contracts::vault::Origin;
use assent_runtime::Ids;
use assent_sealing::{Fingerprint, StoredKey, seal};
use jiff::Timestamp;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::{App, EMAIL, NAME, PARENT_USER_ID, PHONE, USER_ID, binding};
use crate::people::{SealedPerson, marks};
use crate::user_id::UserId;
use crate::{phone, user_id};

/// Longest name, in bytes.
const NAME_MAX: usize = 1024;
/// Longest address: local part, `@` and domain (RFC 5321 §4.5.3.1).
const EMAIL_MAX: usize = 320;

/// A row that is a contact. No `Debug`: it holds plaintext.
pub(crate) struct Contact {
    phone: Option<Zeroizing<String>>,
    user_id: Option<Zeroizing<String>>,
    parent_user_id: Option<Zeroizing<String>>,
    name: Option<Zeroizing<String>>,
    email: Option<Zeroizing<String>>,
    pub(crate) region: Option<String>,
    /// Tokens of all that she is known by, in all spellings; never empty.
    pub(crate) tokens: Vec<AddressToken>,
    /// The same by all keys, also by those that look only: by what she may be known already.
    pub(crate) looked_for: Vec<AddressToken>,
    /// What the gate knows of her addresses by tokens that nobody gets any more.
    pub(crate) former: Vec<SameAddress>,
    /// What would bar her.
    pub(crate) marks: Vec<Fingerprint>,
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
        let held = [
            (self.phone.is_some(), PHONE),
            (self.user_id.is_some(), USER_ID),
            (self.parent_user_id.is_some(), PARENT_USER_ID),
            (self.name.is_some(), NAME),
            (self.email.is_some(), EMAIL),
        ];
        held.iter().filter(|(held, _)| *held).map(|(_, field)| (*field).to_owned()).collect()
    }
}

/// Reads a row.
pub(crate) fn read(app: &App, row: ImportRow) -> Result<Contact, Rejected> {
    let rejected = |reason, field| Rejected { reason, field };
    let user_id = read_user_id(row.user_id, USER_ID)?;
    let parent = read_user_id(row.parent_user_id, PARENT_USER_ID)?;
    if parent.is_some() && user_id.is_none() {
        return Err(rejected(user_id::INVALID, USER_ID));
    }
    let phone = Zeroizing::new(row.phone);
    let phone = if phone.is_empty() && user_id.is_some() {
        None
    } else {
        let phone = phone::parse(&phone, row.country.as_deref())
            .map_err(|invalid| rejected(invalid.reason(), invalid.field()))?;
        Some(phone)
    };
    let (name, email) = (read_name(row.name)?, read_email(row.email)?);
    // A user id begins with the country of its account's number.
    let region = match &phone {
        Some(phone) => phone.region.clone(),
        None => user_id.as_ref().map(|user_id| user_id.region.clone()),
    };
    let (phone, user_id) = (phone.map(|it| it.e164), user_id.map(|it| it.text));
    let parent_user_id = parent.map(|it| it.text);
    let names = || [&phone, &user_id, &parent_user_id].into_iter().flatten();
    let tokens: Vec<_> = names().flat_map(|name| app.addresses.tokens(name)).collect();
    let looked_for: Vec<_> = names().flat_map(|name| app.addresses.all(name)).collect();
    let fingerprints = names().flat_map(|name| app.fingerprints.all(name)).collect();
    let former = names().filter_map(|name| app.former(name)).collect();
    Ok(Contact {
        marks: marks(fingerprints, &looked_for),
        tokens,
        looked_for,
        former,
        phone,
        user_id,
        parent_user_id,
        region,
        name,
        email,
    })
}

/// A name; none: there is nothing in it.
pub(crate) fn read_name(text: Option<String>) -> Result<Option<Zeroizing<String>>, Rejected> {
    let name = trimmed(text);
    if name.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
        return Err(Rejected { reason: "name_too_long", field: NAME });
    }
    Ok(name)
}

/// An e-mail address; none: there is nothing in it.
pub(crate) fn read_email(text: Option<String>) -> Result<Option<Zeroizing<String>>, Rejected> {
    let email = trimmed(text);
    if email.as_ref().is_some_and(|email| email.len() > EMAIL_MAX || !email.contains('@')) {
        return Err(Rejected { reason: "email_invalid", field: EMAIL });
    }
    Ok(email)
}

fn read_user_id(text: Option<String>, field: &'static str) -> Result<Option<UserId>, Rejected> {
    let invalid = Rejected { reason: user_id::INVALID, field };
    text.map(|text| user_id::parse(&Zeroizing::new(text)).ok_or(invalid)).transpose()
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
        phone: contact.phone.as_ref().map(|phone| sealed(PHONE, phone)),
        user_id: contact.user_id.as_ref().map(|it| sealed(USER_ID, it)),
        parent_user_id: contact.parent_user_id.as_ref().map(|it| sealed(PARENT_USER_ID, it)),
        name: contact.name.as_ref().map(|name| sealed(NAME, name)),
        email: contact.email.as_ref().map(|email| sealed(EMAIL, email)),
        tokens: contact.tokens.clone(),
        region: contact.region.clone(),
        origin,
        registered_at,
    }
}
