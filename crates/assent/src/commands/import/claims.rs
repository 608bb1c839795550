//! The claims of a file: rows with evidence, sealed by the vault, brought to the consent service in one
//! batch, where they wait to be looked at.

use std::sync::atomic::{AtomicU64, Ordering};

use assent_contracts::SubjectId;
use assent_contracts::api::claims::{Claim, ClaimBatch, ClaimsRequest};
use assent_contracts::api::vault::{ImportOutcome, SealText, SealsRequest, SealsResponse};
use assent_runtime::{Clock, Ids, SystemClock, SystemIds};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::json;
use uuid::Uuid;

use crate::api::Api;
use crate::commands::upload::{Batch, patiently};
use crate::contact_file::{Cell, ClaimCells, Contact, Place};
use crate::outcome::Failure;

/// Most claims in one request.
const PART: usize = 500;
/// Most bytes of evidence in one request, unless one text alone has more.
const PART_BYTES: usize = 512 * 1024;
/// Longest evidence, in bytes.
const EVIDENCE_MAX: usize = 64 * 1024;

/// A batch of claims that is being brought.
pub struct Claims {
    batch_id: Uuid,
    purpose: String,
    channel: String,
    locale: Option<String>,
    brought: AtomicU64,
}

/// A row that makes no claim, and why.
pub type NoClaim = (Place, &'static str);

impl Claims {
    /// An empty batch.
    #[must_use]
    pub fn new(purpose: &str, channel: &str, locale: Option<&str>) -> Self {
        Self {
            batch_id: SystemIds.v7(),
            purpose: purpose.to_owned(),
            channel: channel.to_owned(),
            locale: locale.map(str::to_owned),
            brought: AtomicU64::new(0),
        }
    }

    /// Brings the claims of those rows whose people are in. Rows without evidence claim nothing.
    ///
    /// # Errors
    /// When a service doesn't answer.
    pub async fn bring(
        &self,
        api: &Api,
        batch: &Batch,
        outcomes: &[ImportOutcome],
    ) -> Result<Vec<NoClaim>, Failure> {
        let mut bad = Vec::new();
        let mut claimed = Vec::new();
        for (contact, outcome) in batch.contacts.iter().zip(outcomes) {
            let (ImportOutcome::Created { subject_id } | ImportOutcome::Existing { subject_id }) =
                outcome
            else {
                continue;
            };
            match claim(contact) {
                Ok(Some((evidence, acted_at))) => {
                    claimed.push((*subject_id, evidence.to_owned(), acted_at));
                }
                Ok(None) => {}
                Err(no_claim) => bad.push(no_claim),
            }
        }
        // Bodies have a bound; what is sealed grows by a third on its way.
        while !claimed.is_empty() {
            let mut bytes = 0;
            let fits = |(_, text, _): &&(SubjectId, String, Timestamp)| {
                bytes += text.len();
                bytes <= PART_BYTES
            };
            let part = claimed.iter().take(PART).take_while(fits).count().max(1);
            let rest = claimed.split_off(part);
            self.send(api, &claimed).await?;
            claimed = rest;
        }
        Ok(bad)
    }

    async fn send(
        &self,
        api: &Api,
        part: &[(SubjectId, String, Timestamp)],
    ) -> Result<(), Failure> {
        let texts = part
            .iter()
            .map(|(subject_id, text, _)| SealText {
                subject_id: *subject_id,
                record: SystemIds.v7(),
                text: text.clone(),
            })
            .collect();
        let seals = SealsRequest { field: "consent.evidence".to_owned(), texts };
        let sealed: SealsResponse = patiently(|| api.post("/vault/v1/seals", &seals, None)).await?;
        let claims: Vec<Claim> = part
            .iter()
            .zip(sealed.sealed)
            .filter_map(|((subject_id, _, acted_at), evidence)| {
                Some(Claim { subject_id: *subject_id, acted_at: *acted_at, evidence: evidence? })
            })
            .collect();
        self.brought.fetch_add(claims.len() as u64, Ordering::Relaxed);
        let request = ClaimsRequest {
            batch_id: self.batch_id,
            purpose: self.purpose.clone(),
            channel: self.channel.clone(),
            locale: self.locale.clone(),
            claims,
        };
        Ok(patiently(|| api.post("/consent/v1/claims", &request, None)).await?)
    }

    /// The batch is whole; none where there was nothing to claim.
    ///
    /// # Errors
    /// When the service doesn't answer.
    pub async fn submit(&self, api: &Api) -> Result<Option<ClaimBatch>, Failure> {
        if self.brought.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let path = format!("/consent/v1/claims/{}/submit", self.batch_id);
        let nothing = json!({});
        Ok(Some(patiently(|| api.post(&path, &nothing, None)).await?))
    }
}

/// What a row claims: its evidence and the time of it.
fn claim(contact: &Contact) -> Result<Option<(&str, Timestamp)>, NoClaim> {
    let Some(claim) = &contact.claim else { return Ok(None) };
    let ClaimCells { evidence, agreed_at } = &**claim;
    let Some(Cell { text, place }) = agreed_at else {
        return Err((evidence.place, "agreed_at_missing"));
    };
    if evidence.text.len() > EVIDENCE_MAX {
        return Err((evidence.place, "evidence_too_long"));
    }
    let acted_at = when(text).ok_or((*place, "agreed_at_invalid"))?;
    if acted_at > SystemClock.now() {
        return Err((*place, "agreed_at_in_the_future"));
    }
    Ok(Some((&evidence.text, acted_at)))
}

/// A moment, or the first one of a day: a no of that day is newer, as far as anybody knows.
fn when(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    let day: Option<Date> = text.parse().ok().or_else(|| Date::strptime("%d.%m.%Y", text).ok());
    Some(day?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_they_are_meant_or_not_at_all() {
        let day: Timestamp = "2024-05-31T00:00:00Z".parse().unwrap();
        for text in ["2024-05-31", "31.05.2024", "2024-05-31T02:00:00+02:00"] {
            assert_eq!(when(text), Some(day), "{text}");
        }
        for text in ["", "05/31/2024", "31/05/2024", "2024-13-01", "yesterday", "45443"] {
            assert_eq!(when(text), None, "{text}");
        }
    }
}
