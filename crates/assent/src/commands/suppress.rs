//! `assent suppress`: a list of opt-outs, loaded before any import. Every number of a row counts,
//! not the mobile one alone.

use std::path::PathBuf;

use assent_contracts::api::vault::{SuppressRequest, SuppressResponse, SuppressRow};
use clap::Args;
use serde::Serialize;

use super::upload::{self, Batch, Rejected, Rejects, Source, Upload};
use crate::api::Api;
use crate::contact_file::Place;
use crate::outcome::{Failure, Output, Status};

/// Most rows of one request.
const REQUEST_ROWS: usize = 2_000;

/// Arguments of `assent suppress`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent suppress optouts.txt --country FR
  assent suppress optouts.csv --map phone=Rufnummer --country DE --json

The list may be any contact file; one number per line is enough. Exit status: 0 all are suppressed,
1 some rows were rejected, 2 wrong use, 3 the vault didn't answer (run it again).")]
pub struct Suppress {
    #[command(flatten)]
    source: Source,
    /// Write copies of the rejected rows to this file (mode 0600), to be corrected and read again.
    #[arg(long, value_name = "PATH")]
    rejects: Option<PathBuf>,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    rows: u64,
    suppressed: u64,
    already_suppressed: u64,
    rejected: Vec<Rejected>,
    rejected_total: u64,
    complete: bool,
}

impl Suppress {
    /// Runs it.
    ///
    /// # Errors
    /// When the file can't be read or the vault doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let mut summary = Summary::default();
        let file = Upload::open(&self.source, self.rejects.is_some())?;
        let mut rejects = Rejects::open(self.rejects.as_deref(), file.reader().header())?;
        let country = self.source.country.as_deref();
        let ran = file
            .run(
                output,
                |batch| async move {
                    let outcomes = send(api, &batch, country).await?;
                    Ok((batch.rows(), (batch, outcomes)))
                },
                |(batch, outcomes)| settle(&mut summary, &mut rejects, &batch, &outcomes),
            )
            .await;
        (summary.rejected, summary.rejected_total) = rejects.into_parts();
        summary.complete = ran.is_ok();
        if ran.is_ok() || summary.rows > 0 {
            output.print(&summary, text);
        }
        ran?;
        Ok(upload::status(false, summary.rejected_total))
    }
}

async fn send(api: &Api, batch: &Batch, country: Option<&str>) -> Result<Vec<String>, Failure> {
    let rows: Vec<SuppressRow> = batch
        .contacts
        .iter()
        .flat_map(|contact| {
            let own = contact.country.as_ref().map(|cell| cell.text.as_str());
            contact.phones.iter().map(move |phone| SuppressRow {
                phone: phone.text.clone(),
                country: own.or(country).map(str::to_owned),
                ..SuppressRow::default()
            })
        })
        .collect();
    let mut outcomes = Vec::with_capacity(rows.len());
    for part in rows.chunks(REQUEST_ROWS) {
        let request = SuppressRequest { rows: part.to_vec() };
        let answer: SuppressResponse =
            upload::patiently(|| api.post("/vault/v1/suppressions", &request, None)).await?;
        outcomes.extend(answer.outcomes);
    }
    Ok(outcomes)
}

fn settle(
    summary: &mut Summary,
    rejects: &mut Rejects,
    batch: &Batch,
    outcomes: &[String],
) -> Result<(), Failure> {
    summary.rows += batch.rows();
    for bad in &batch.bad {
        rejects.add(bad.place, bad.reason.code(), &bad.raw)?;
    }
    let phones = batch
        .contacts
        .iter()
        .flat_map(|contact| contact.phones.iter().map(move |phone| (contact, phone)));
    for ((contact, phone), outcome) in phones.zip(outcomes) {
        match outcome.as_str() {
            "suppressed" => summary.suppressed += 1,
            "already_suppressed" => summary.already_suppressed += 1,
            reason => {
                let Place { line, column } = phone.place;
                rejects.add(Place { line, column }, reason, &contact.raw)?;
            }
        }
    }
    Ok(())
}

fn text(summary: &Summary) -> String {
    let Summary { rows, suppressed, already_suppressed, rejected, rejected_total, .. } = summary;
    let mut text = format!("{rows} rows: {suppressed} suppressed, {already_suppressed} already");
    if *rejected_total > 0 {
        text.push_str(&format!(", {rejected_total} rejected"));
        text.push_str(&upload::describe(rejected, *rejected_total));
    }
    text
}
