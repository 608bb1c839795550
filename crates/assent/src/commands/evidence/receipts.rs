//! The receipts in the folder of a dispute. Their check guarantees that every word among the events has
//! one that tells the same; with the controller's key, that the controller signed it.

use std::collections::BTreeMap;

use assent_consent::domain::event::Event;
use assent_consent::domain::receipt::{self, TYPE};
use assent_contracts::SubjectId;
use assent_contracts::api::consent::ReceiptView;
use assent_signing::{VerifyingKey, canonical};
use uuid::Uuid;

use crate::outcome::Failure;

/// The files, by name: each receipt as it was signed, with its signature beside it.
///
/// # Errors
/// When a receipt has no canonical form.
pub fn files(receipts: &[ReceiptView]) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    for ReceiptView { event_id, receipt, signature, .. } in receipts {
        let document = canonical::to_vec(receipt)
            .map_err(|error| Failure::wrong_use(format!("a receipt: {error}")))?;
        files.insert(document_of(*event_id), document);
        files.insert(signature_of(*event_id), signature.clone().into_bytes());
    }
    Ok(files)
}

/// Checks them against the events; gives how many there are. Who is erased has none.
///
/// # Errors
/// With the first one that is missing or tells something else.
pub fn verify(
    subject: SubjectId,
    events: &[(Uuid, i64, Event)],
    read: impl Fn(&str) -> Result<Option<Vec<u8>>, String>,
    key: Option<&VerifyingKey>,
) -> Result<usize, String> {
    if events.iter().any(|(_, _, event)| matches!(event, Event::Erased { .. })) {
        return Ok(0);
    }
    let words: Vec<_> = events.iter().filter(|(_, _, event)| receipt::is_word(event)).collect();
    for (id, _, event) in &words {
        let (name, signature) = (document_of(*id), signature_of(*id));
        let file = |name: &str| read(name)?.ok_or_else(|| format!("{name} is not in the manifest"));
        let (bytes, jws) = (file(&name)?, file(&signature)?);
        let document = match key {
            Some(key) => assent_signing::verify_detached(&bytes, &jws, TYPE, key)
                .map_err(|invalid| format!("{name}: {invalid}"))?,
            None => serde_json::from_slice(&bytes)
                .map_err(|error| format!("{name}: column {}", error.column()))?,
        };
        if !receipt::tells_of(&document, *id, subject, event) {
            return Err(format!("{name} tells something else than the event"));
        }
    }
    Ok(words.len())
}

fn document_of(event: Uuid) -> String {
    format!("receipts/{event}.jsonld")
}

fn signature_of(event: Uuid) -> String {
    format!("receipts/{event}.jws")
}
