//! `assent review`: batches of claimed consents, looked at and decided on.

use assent_contracts::api::claims::{
    BatchState, ClaimBatch, ClaimDecision, ClaimView, DecideRequest,
};
use assent_contracts::api::vault::{OpenRequest, OpenResponse};
use assent_http::Listing;
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};

/// `assent review …`
#[derive(Debug, Subcommand)]
pub enum Review {
    /// List the batches, newest first.
    #[command(after_help = "\
Examples:
  assent review list
  assent review list --json")]
    List,
    /// Show a batch, and the evidence of some of its claims.
    #[command(after_help = "\
Examples:
  assent review show 01a2104b-d59b-74f5-9e99-f55a7729061a
  assent review show 01a2104b-d59b-74f5-9e99-f55a7729061a --sample 20

Opening evidence is on record. Exit status: 0 shown, 2 wrong use, 3 a service didn't answer.")]
    Show {
        /// The batch.
        batch: Uuid,
        /// How many claims to open.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(0..=100))]
        sample: u16,
    },
    /// Approve a batch: its claims become consents, each as of when the person agreed.
    #[command(after_help = "\
Examples:
  assent review approve 01a2104b-d59b-74f5-9e99-f55a7729061a --reason form_log_checked

Not by the caller that brought it. Exit status: 0 decided, 2 wrong use, 3 a service didn't answer.")]
    Approve(Decision),
    /// Refuse a batch: nothing of it counts, and its evidence is dropped.
    #[command(after_help = "\
Examples:
  assent review refuse 01a2104b-d59b-74f5-9e99-f55a7729061a --reason no_proof_of_time

Exit status: 0 decided, 2 wrong use, 3 a service didn't answer.")]
    Refuse(Decision),
}

/// A decision.
#[derive(Debug, Args)]
pub struct Decision {
    /// The batch.
    batch: Uuid,
    /// Why, as a code of yours.
    #[arg(long, value_name = "CODE")]
    reason: String,
}

/// A batch with some of its claims.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    batch: ClaimBatch,
    sample: Vec<Opened>,
}

/// A claim with its evidence.
#[derive(Debug, Serialize)]
struct Opened {
    #[serde(flatten)]
    claim: ClaimView,
    /// What the evidence says, where it could be opened.
    text: Option<String>,
}

impl Review {
    /// Runs it.
    ///
    /// # Errors
    /// When the batch isn't known, the decision isn't possible, or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::List => {
                let batches: Vec<ClaimBatch> = api.all("/consent/v1/claims").await?;
                output.print(&batches, |batches| {
                    batches.iter().map(line).collect::<Vec<_>>().join("\n")
                });
            }
            Self::Show { batch, sample } => {
                let shown = show(api, *batch, usize::from(*sample)).await?;
                output.print(&shown, |Shown { batch, sample }| {
                    let opened = sample.iter().map(|Opened { claim, text }| {
                        let text = text.as_deref().unwrap_or("(can't be opened)");
                        format!("  {}  {}  {text}", claim.subject_id, claim.acted_at)
                    });
                    std::iter::once(line(batch)).chain(opened).collect::<Vec<_>>().join("\n")
                });
            }
            Self::Approve(decision) => {
                decide(api, output, decision, ClaimDecision::Approve).await?
            }
            Self::Refuse(decision) => decide(api, output, decision, ClaimDecision::Refuse).await?,
        }
        Ok(Status::Done)
    }
}

async fn show(api: &Api, batch_id: Uuid, sample: usize) -> Result<Shown, Failure> {
    let batch: ClaimBatch = api.get(&format!("/consent/v1/claims/{batch_id}")).await?;
    let mut opened = Vec::new();
    if sample > 0 {
        let path = format!("/consent/v1/claims/{batch_id}/items?limit={sample}");
        let claims: Listing<ClaimView> = api.get(&path).await?;
        for claim in claims.items {
            let text = match claim.evidence.clone() {
                Some(sealed) => {
                    let request = OpenRequest {
                        reason: "review".to_owned(),
                        subject_id: claim.subject_id,
                        field: "consent.evidence".to_owned(),
                        sealed,
                    };
                    let answer: Result<OpenResponse, _> =
                        api.post("/vault/v1/open", &request, None).await;
                    match answer {
                        Ok(answer) => Some(answer.text),
                        Err(error) if error.is_transient() => return Err(error.into()),
                        Err(_) => None,
                    }
                }
                None => None,
            };
            opened.push(Opened { claim, text });
        }
    }
    Ok(Shown { batch, sample: opened })
}

async fn decide(
    api: &Api,
    output: Output,
    decision: &Decision,
    what: ClaimDecision,
) -> Result<(), Failure> {
    let request = DecideRequest { decision: what, reason: decision.reason.clone() };
    let path = format!("/consent/v1/claims/{}/decide", decision.batch);
    let batch: ClaimBatch = api.post(&path, &request, None).await?;
    output.print(&batch, line);
    Ok(())
}

fn line(batch: &ClaimBatch) -> String {
    let ClaimBatch { batch_id, purpose, channel, state, claims, submitted_by, .. } = batch;
    let state = match state {
        BatchState::Open => "open",
        BatchState::Waiting => "waiting",
        BatchState::Approved => "approved",
        BatchState::Done => "done",
        BatchState::Refused => "refused",
    };
    let mut line =
        format!("{batch_id}  {state}: {claims} claims, {purpose} on {channel}, by {submitted_by}");
    for (outcome, count) in &batch.outcomes {
        line.push_str(&format!(", {count} {outcome}"));
    }
    line
}
