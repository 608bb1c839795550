//! `assent import`: a contact file into the vault. It never creates consent; run again after an
//! interruption it goes on without doubles, because a number that is known is `existing`. With a column of
//! evidence it also brings a batch of claims, which wait for somebody to look at them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use assent_contracts::api::claims::ClaimBatch;
use assent_contracts::api::vault::{ImportOutcome, ImportRequest, ImportResponse, ImportRow};
use assent_contracts::vault::Origin;
use clap::Args;
use serde::Serialize;

use self::claims::Claims;
use super::upload::{self, Batch, Rejected, Rejects, Source, Upload};
use crate::api::Api;
use crate::contact_file::{Cell, ColumnMap, Contact, Place};
use crate::outcome::{Failure, Output, Status};

mod claims;

/// Arguments of `assent import`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent import contacts.csv --country FR
  assent import export.vcf --country GB --json
  assent import crm.csv --country FR --map phone=Handy --map name=2 --rejects rejected.csv
  zcat contacts.csv.gz | assent import - --country FR
  assent import crm.csv --country FR --map evidence=Proof --map agreed-at=Date --purpose marketing

A file creates no consent. With a column of evidence its rows become claims, which wait in a batch until
somebody with that right has looked at them (`assent review`); dates are 2024-05-31, 31.05.2024 or RFC 3339.

Exit status: 0 all rows are in, 1 some were refused or rejected, 2 wrong use, 3 the vault didn't
answer (run it again: it goes on without doubles).")]
pub struct Import {
    #[command(flatten)]
    source: Source,
    /// Write copies of the rejected rows to this file (mode 0600), to be corrected and read again.
    #[arg(long, value_name = "PATH")]
    rejects: Option<PathBuf>,
    /// With a column of evidence: to which purpose these people are said to have agreed.
    #[arg(long)]
    purpose: Option<String>,
    /// On which channel.
    #[arg(long, default_value = "whatsapp", requires = "purpose")]
    channel: String,
    /// In which of the purpose's languages they were asked; without it: the controller's first.
    #[arg(long, value_name = "TAG", requires = "purpose")]
    language: Option<String>,
}

/// What became of the file.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Rows read.
    rows: u64,
    /// New people.
    created: u64,
    /// People who were known.
    existing: u64,
    /// People who may not come in, by reason.
    refused: BTreeMap<String, u64>,
    /// Rows that are no contacts: at most 1,000 of them.
    rejected: Vec<Rejected>,
    /// How many rows were rejected.
    rejected_total: u64,
    /// Whether the end of the file was reached.
    complete: bool,
    /// The claims that wait to be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<ClaimBatch>,
    /// Rows with evidence that make no claim: at most 1,000 of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    no_claim: Vec<Rejected>,
    /// How many of them there are.
    no_claim_total: u64,
}

impl Import {
    /// Runs it.
    ///
    /// # Errors
    /// When the file can't be read; an interruption is reported with the summary so far.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let mut summary = Summary::default();
        let file = Upload::open(&self.source, self.rejects.is_some())?;
        let mut rejects = Rejects::open(self.rejects.as_deref(), file.reader().header())?;
        let country = self.source.country.as_deref();
        let claims = self.claims()?;
        let bringing = claims.as_ref();
        let mut no_claim = Rejects::open(None, None)?;
        let ran = file
            .run(
                output,
                |batch| async move {
                    let outcomes = send(api, &batch, country).await?;
                    let bad = match bringing {
                        Some(claims) => claims.bring(api, &batch, &outcomes).await?,
                        None => Vec::new(),
                    };
                    Ok((batch.rows(), (batch, outcomes, bad)))
                },
                |(batch, outcomes, bad)| {
                    for (place, reason) in bad {
                        no_claim.add(place, reason, "")?;
                    }
                    settle(&mut summary, &mut rejects, &batch, outcomes)
                },
            )
            .await;
        (summary.rejected, summary.rejected_total) = rejects.into_parts();
        (summary.no_claim, summary.no_claim_total) = no_claim.into_parts();
        summary.complete = ran.is_ok();
        if let (Some(claims), Ok(())) = (&claims, &ran) {
            summary.claims = claims.submit(api).await?;
        }
        if let Err(failure) = ran {
            if summary.rows > 0 {
                output.print(&summary, text);
            }
            return Err(failure);
        }
        output.print(&summary, text);
        Ok(upload::status(
            !summary.refused.is_empty(),
            summary.rejected_total + summary.no_claim_total,
        ))
    }

    /// The batch of claims that this file brings, if it does.
    fn claims(&self) -> Result<Option<Claims>, Failure> {
        let evidence = ColumnMap::all(self.source.map.clone()).names_evidence();
        match (&self.purpose, evidence) {
            (None, false) => Ok(None),
            (Some(purpose), true) => {
                Ok(Some(Claims::new(purpose, &self.channel, self.language.as_deref())))
            }
            (None, true) => {
                Err(Failure::wrong_use("evidence of what? name the purpose: --purpose marketing"))
            }
            (Some(_), false) => Err(Failure::wrong_use(
                "a file grants nothing without evidence: name its column, --map evidence=COLUMN",
            )),
        }
    }
}

async fn send(
    api: &Api,
    batch: &Batch,
    country: Option<&str>,
) -> Result<Vec<ImportOutcome>, Failure> {
    let text = |cell: &Option<Cell>| cell.as_ref().map(|cell| cell.text.clone());
    let row = |contact: &Contact, phone: &Cell| ImportRow {
        phone: phone.text.clone(),
        country: text(&contact.country).or_else(|| country.map(str::to_owned)),
        name: text(&contact.name),
        email: text(&contact.email),
        ..ImportRow::default()
    };
    let ask = |rows| async move {
        let request = ImportRequest { origin: Origin::Import, acted_at: None, rows };
        let answer: ImportResponse =
            upload::patiently(|| api.post("/vault/v1/subjects/import", &request, None)).await?;
        Ok(answer.outcomes)
    };
    let is_rejected = |outcome: &ImportOutcome| matches!(outcome, ImportOutcome::Rejected { field, .. } if field == "phone");
    upload::by_number(batch, row, ask, is_rejected).await
}

fn settle(
    summary: &mut Summary,
    rejects: &mut Rejects,
    batch: &Batch,
    outcomes: Vec<ImportOutcome>,
) -> Result<(), Failure> {
    summary.rows += batch.rows();
    for bad in &batch.bad {
        rejects.add(bad.place, bad.reason.code(), &bad.raw)?;
    }
    for (contact, outcome) in batch.contacts.iter().zip(outcomes) {
        match outcome {
            ImportOutcome::Created { .. } => summary.created += 1,
            ImportOutcome::Existing { .. } => summary.existing += 1,
            ImportOutcome::Refused { reason } => *summary.refused.entry(reason).or_default() += 1,
            ImportOutcome::Rejected { reason, field } => {
                rejects.add(place(contact, &field), &reason, &contact.raw)?;
            }
        }
    }
    Ok(())
}

/// Where the field stands that the vault rejected.
fn place(contact: &Contact, field: &str) -> Place {
    let cell = match field {
        "country" => contact.country.as_ref(),
        "name" => contact.name.as_ref(),
        "email" => contact.email.as_ref(),
        _ => None,
    };
    cell.or(contact.phones.first()).map_or(contact.place, |cell| cell.place)
}

fn text(summary: &Summary) -> String {
    let Summary { rows, created, existing, refused, rejected, rejected_total, .. } = summary;
    let mut text = format!("{rows} rows: {created} created, {existing} existing");
    for (reason, count) in refused {
        text.push_str(&format!(", {count} refused ({reason})"));
    }
    if *rejected_total > 0 {
        text.push_str(&format!(", {rejected_total} rejected"));
        text.push_str(&upload::describe(rejected, *rejected_total));
    }
    if let Some(ClaimBatch { batch_id, claims, .. }) = &summary.claims {
        text.push_str(&format!(
            "\n{claims} claims wait to be looked at: assent review show {batch_id}"
        ));
    }
    if !summary.no_claim.is_empty() {
        text.push_str("\nno claim:");
        text.push_str(&upload::describe(&summary.no_claim, summary.no_claim_total));
    }
    text
}
