//! `assent evidence`: a folder that answers a dispute. It guarantees that whoever gets it can check
//! without us that the verdict follows from the events and that the texts are those of the hashes;
//! evidence is opened by the vault, on record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assent_consent::http::{HistoryEvent, PurposeVersion};
use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    AsOfRequest, AsOfVerdict, Decision, KnownAt, ReceiptView, SignedVerdict,
};
use assent_contracts::api::vault::{OpenRequest, OpenResponse};
use assent_contracts::rules::{RulesAnswer, RulesQuestion};
use assent_contracts::sealed::Sealed;
use assent_http::{ClientError, Code, Listing};
use assent_rules::Place;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use uuid::Uuid;

use super::asked::Asked;
use super::explain::known_at;
use crate::api::{Api, Found};
use crate::outcome::{Failure, Output, Status};

pub mod bundle;
mod receipts;

use bundle::Bundle;

/// Arguments of `assent evidence`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent evidence '+33 6 39 98 00 01' --purpose marketing --at 2026-05-03T12:00:00Z --out dispute/
  assent evidence - --purpose marketing --at 2026-05-03T12:00:00Z --known-at 4 --out dispute/
  assent verify dispute/ --key receipts.pub.pem

The folder holds the question, the verdict, the events it rests on, a signed receipt of each of her words,
the notices that were shown, the laws that applied and the evidence in plain text: its files are for you
alone (0600). Opening the evidence is on record.

Exit status: 0 written, 1 the person isn't known, 2 wrong use, 3 a service didn't answer.")]
pub struct Evidence {
    /// About whom and what.
    #[command(flatten)]
    asked: Asked,
    /// The moment that is asked about.
    #[arg(long, value_name = "TIME")]
    at: Timestamp,
    /// What was known: her first N events, or what was recorded until a moment; without it: all.
    #[arg(long, value_name = "N|TIME", value_parser = known_at)]
    known_at: Option<KnownAt>,
    /// Where she says that she is, such as DE or US-CA; without it the country of her number is a guess
    #[arg(long, value_name = "PLACE")]
    person: Option<Place>,
    /// Where to write it: a new or empty folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Written {
    verdict: Decision,
    reasons: Vec<String>,
    events: usize,
    signed: bool,
    receipts: usize,
    evidence: usize,
    sealed: usize,
    files: usize,
}

impl Evidence {
    /// Runs it.
    ///
    /// # Errors
    /// When the person isn't known, the folder can't be written, or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        bundle::require_empty(&self.out)?;
        let owner = self.asked.find(api).await?;
        let subject_id = match owner.found {
            Found::Subject(subject) => subject,
            Found::Nobody { barred } => {
                let code = barred.unwrap_or_else(|| "subject_unknown".to_owned());
                let message = format!("there is nothing to show of nobody ({code})");
                return Err(Failure { status: Status::Refused, code, message });
            }
        };
        let collected = self.collect(api, subject_id, owner.number_country).await?;
        if !collected.is_conclusive() {
            return Err(Failure::wrong_use(
                "this token may not see all that the verdict rests on (it needs suppression:read)",
            ));
        }
        let files = collected.write(&self.out)?;
        let written = Written {
            verdict: collected.verdict.verdict,
            reasons: collected.verdict.reasons.clone(),
            events: collected.events.len(),
            signed: collected.statement.is_some(),
            receipts: collected.receipts.len(),
            evidence: collected.evidence.len(),
            sealed: collected.sealed.len(),
            files,
        };
        if !written.signed {
            output.remark("the verdict isn't signed: this token lacks suppression:read");
        }
        if written.sealed > 0 {
            output.remark(
                "some evidence stays sealed: this token may not open it (subjects:resolve)",
            );
        }
        output.print(&written, |it| {
            format!(
                "{} files: {} events, {} receipts, {} pieces of evidence",
                it.files, it.events, it.receipts, it.evidence
            )
        });
        Ok(Status::Done)
    }

    async fn collect(
        &self,
        api: &Api,
        subject_id: SubjectId,
        number: Option<String>,
    ) -> Result<Bundle, Failure> {
        let on = Some(self.at.to_zoned(TimeZone::UTC).date());
        let person = self.person.as_ref().map(ToString::to_string);
        let case = RulesQuestion { on, seat: None, person, number };
        let laws: RulesAnswer = api.post("/consent/v1/rules/answers", &case, None).await?;
        let mut question = AsOfRequest {
            subject_id,
            purpose: self.asked.purpose.clone(),
            channel: self.asked.channel.clone(),
            at: self.at,
            known_at: self.known_at,
        };
        let verdict: AsOfVerdict = api.post("/consent/v1/verdict/as-of", &question, None).await?;
        let known = verdict.known_at.unwrap_or(0);
        question.known_at = Some(KnownAt::Position(known));
        let statement = statement(api, &question).await?;
        let path = format!("/consent/v1/subjects/{subject_id}/history");
        let mut events: Vec<HistoryEvent> = api.all(&path).await?;
        events.retain(|event| event.sequence <= known);
        let path = format!("/consent/v1/subjects/{subject_id}/receipts");
        let mut receipts: Vec<ReceiptView> = api.all(&path).await?;
        receipts.retain(|receipt| receipt.sequence <= known);
        let versions = versions(api, &self.asked.purpose).await?;
        let (mut evidence, mut sealed) = (BTreeMap::new(), Vec::new());
        for event in &events {
            let Some(text) = event.data["evidence"].as_str() else { continue };
            match open(api, subject_id, text).await? {
                Some(text) => drop(evidence.insert(event.id, text)),
                None => sealed.push(event.id),
            }
        }
        Ok(Bundle {
            question,
            verdict,
            statement,
            events,
            receipts,
            versions,
            evidence,
            sealed,
            laws,
        })
    }
}

/// The verdict, signed; none where this token may not see all that it rests on.
async fn statement(api: &Api, question: &AsOfRequest) -> Result<Option<String>, Failure> {
    match api.post("/consent/v1/verdict/as-of/statement", question, None).await {
        Ok(SignedVerdict { statement }) => Ok(Some(statement)),
        Err(error) if error.code() == Some(Code::Forbidden) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn versions(api: &Api, purpose: &str) -> Result<Vec<PurposeVersion>, Failure> {
    // What can't be a name would be another path.
    if !purpose.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Ok(Vec::new());
    }
    match api.get(&format!("/consent/v1/purposes/{purpose}/versions")).await {
        Ok(Listing { items, .. }) => Ok(items),
        Err(error) if error.code() == Some(Code::PurposeUnknown) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// The text; none where this token may not open it.
async fn open(api: &Api, subject_id: SubjectId, sealed: &str) -> Result<Option<String>, Failure> {
    let request = OpenRequest {
        reason: "dispute".to_owned(),
        subject_id,
        field: "consent.evidence".to_owned(),
        sealed: Sealed(sealed.to_owned()),
    };
    let answer: Result<OpenResponse, ClientError> =
        api.post("/vault/v1/open", &request, None).await;
    match answer {
        Ok(answer) => Ok(Some(answer.text)),
        // The right to read isn't there, or it was sealed before it could be opened again.
        Err(error) if matches!(error.code(), Some(Code::Forbidden | Code::ValidationFailed)) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The id of an event as a file name.
fn name(id: Uuid) -> String {
    format!("evidence/{id}.txt")
}
