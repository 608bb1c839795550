//! What a person is handed when she asks to see (GDPR Article 15), or to take along (Article 20), what is held on
//! her: a page to read in each language, the same as JSON, and her contact data as a vCard, in one zip. It
//! guarantees that addresses of others are struck out of what was written, and that what goes along to
//! somebody else is only what she provided or what was observed of her. Pure: gathering and sealing are left to
//! the archivist.

mod page;
mod redact;
mod vcard;
mod words;

use std::collections::BTreeMap;
use std::io::{Cursor, Write as _};

use assent_contracts::api::holdings::Holding;
use assent_contracts::rights::{Authority, RequestKind};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;
use zip::ZipWriter;
use zip::result::ZipError;
use zip::write::SimpleFileOptions;

use redact::Redactor;

/// Fields that somebody wrote freely: others may be named in them.
const WRITTEN: [&str; 2] = ["text", "evidence"];
/// What she is known by: these stay wherever they stand.
const NAMES: [&str; 4] = ["phone", "user_id", "parent_user_id", "email"];

/// What goes into an archive. No `Debug`: it holds plaintext.
#[derive(Serialize)]
pub struct Contents {
    /// The form of this document.
    pub format: &'static str,
    /// Whose data it is: the legal entity.
    pub controller: String,
    /// What she asked for.
    pub kind: RequestKind,
    /// The reference of her request.
    pub reference: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// When this was put together.
    pub prepared_at: Timestamp,
    /// Where she can complain (Article 15(1)(f)).
    pub authorities: Vec<Authority>,
    /// Who else gets data about her (Article 15(1)(c)).
    pub recipients: Vec<Recipient>,
    /// What is held.
    pub holdings: Vec<Held>,
}

/// The form of an archive's document.
pub const FORMAT: &str = "assent.archive.v1";

/// Somebody outside who gets data about her, and is to be asked for what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipient {
    /// Its name.
    pub name: String,
    /// The team to turn to.
    pub contact: String,
    /// Whether what it holds is in the archive.
    pub answer: Told,
}

/// What somebody outside said when it was asked what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is in the archive.
    Included,
    /// That it holds nothing.
    Nothing,
    /// It didn't answer, or wasn't asked.
    Missing,
}

/// Something that is held, and by which service. No `Debug`: it holds plaintext.
#[derive(Serialize)]
pub struct Held {
    /// The service.
    pub service: String,
    /// Whether it is a recipient outside.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub outside: bool,
    /// What it holds.
    #[serde(flatten)]
    pub holding: Holding,
}

impl Held {
    /// What a service of the deployment holds.
    #[must_use]
    pub fn ours(service: &str, holding: Holding) -> Self {
        Self { service: service.to_owned(), outside: false, holding }
    }

    /// What a recipient outside holds.
    #[must_use]
    pub fn others(recipient: &str, holding: Holding) -> Self {
        Self { service: recipient.to_owned(), outside: true, holding }
    }
}

/// The archive can't be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The zip.
    #[error("the archive can't be written: {0}")]
    Zip(#[from] ZipError),
    /// A file of it.
    #[error("a file of the archive can't be written: {0}")]
    Write(#[from] std::io::Error),
    /// The document.
    #[error("the archive's document can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The page.
    #[error("the archive's page can't be written: {0}")]
    Page(#[from] askama::Error),
}

impl Contents {
    /// Strikes out what is others', and what she can't take along where she asked for that.
    pub fn reduce(&mut self) {
        if self.kind == RequestKind::Portability {
            self.holdings.retain(|held| held.holding.provenance.is_portable());
            self.recipients.clear();
        }
        let redactor = Redactor::new(&self.hers());
        for held in &mut self.holdings {
            for field in WRITTEN {
                if let Some(Value::String(text)) = held.holding.data.get_mut(field) {
                    *text = redactor.redact(text);
                }
            }
        }
    }

    /// How many pieces of what.
    #[must_use]
    pub fn records(&self) -> BTreeMap<String, u64> {
        let mut records = BTreeMap::new();
        for held in &self.holdings {
            *records.entry(held.holding.kind.clone()).or_default() += 1;
        }
        records
    }

    /// What she is known by.
    fn hers(&self) -> Vec<String> {
        let fields = self.contacts().flat_map(|contact| NAMES.map(|name| contact.data.get(name)));
        fields.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn contacts(&self) -> impl Iterator<Item = &Holding> {
        // What others say she is known by is not taken for hers: it would keep what is somebody else's.
        let ours = self.holdings.iter().filter(|held| !held.outside);
        ours.map(|held| &held.holding).filter(|holding| holding.kind == "contact")
    }

    /// All of it in one zip. Times of its files are left out: the same contents give the same bytes.
    ///
    /// # Errors
    /// [`PackError`]; in memory that doesn't happen.
    pub fn pack(&self) -> Result<Zeroizing<Vec<u8>>, PackError> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let mut add = |name: &str, content: &[u8]| -> Result<(), PackError> {
            let options = SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored)
                .unix_permissions(0o600);
            zip.start_file(name, options)?;
            Ok(zip.write_all(content)?)
        };
        for words in words::ALL {
            let page = Zeroizing::new(page::page(self, words)?);
            add(&format!("{}.html", words.tag), page.as_bytes())?;
        }
        let document = Zeroizing::new(serde_json::to_vec_pretty(self)?);
        add("data.json", &document)?;
        for (index, contact) in self.contacts().enumerate() {
            let name = if index == 0 {
                "contact.vcf".to_owned()
            } else {
                format!("contact-{}.vcf", index + 1)
            };
            add(&name, Zeroizing::new(vcard::card(contact)).as_bytes())?;
        }
        Ok(Zeroizing::new(zip.finish()?.into_inner()))
    }
}

#[cfg(test)]
mod tests;
