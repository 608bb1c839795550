//! `assent explain`: may this person be messaged, and why not? Or: might she have been, at a
//! moment, by what was known? Asking records nothing, and a deny is an answer: the exit status is 0.

use std::str::FromStr;

use assent_contracts::api::consent::{
    AsOfRequest, AsOfVerdict, Decision, KnownAt, Verdict, VerdictRequest,
};
use clap::Args;
use jiff::Timestamp;
use uuid::Uuid;

use super::asked::Asked;
use crate::api::{Api, Found};
use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent explain '+33 6 39 98 00 01' --purpose marketing
  echo '06 39 98 00 01' | assent explain - --country FR --purpose marketing --json
  assent explain '+33 6 39 98 00 01' --purpose marketing --at 2026-05-03T12:00:00Z
  assent explain '+33 6 39 98 00 01' --purpose marketing --at 2026-05-03T12:00:00Z --known-at 4

With --at the answer names how much was known (`known_at`); asked again with it, it is the same,
byte by byte, for as long as she isn't erased.

Exit status: 0 answered (allow or deny), 2 wrong use, 3 a service didn't answer.")]
pub struct Explain {
    /// About whom and what.
    #[command(flatten)]
    asked: Asked,
    /// The moment that is asked about; without it: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// What was known: her first N events, or what was recorded until a moment; without it: all.
    #[arg(long, value_name = "N|TIME", requires = "at", value_parser = known_at)]
    known_at: Option<KnownAt>,
}

impl Explain {
    /// Runs it.
    ///
    /// # Errors
    /// When a service doesn't answer or the purpose isn't known.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let found = self.asked.find(api).await?.found;
        if let Some(at) = self.at {
            let verdict = self.as_of(api, &found, at).await?;
            output.print(&verdict, as_of_text);
        } else {
            let verdict = verdict(api, &found, &self.asked.purpose, &self.asked.channel).await?;
            output.print(&verdict, text);
        }
        Ok(Status::Done)
    }

    async fn as_of(&self, api: &Api, found: &Found, at: Timestamp) -> Result<AsOfVerdict, Failure> {
        let (subject_id, barred) = match found {
            Found::Subject(subject) => (*subject, None),
            Found::Nobody { barred } => (Uuid::nil(), barred.clone()),
        };
        let request = AsOfRequest {
            subject_id,
            purpose: self.asked.purpose.clone(),
            channel: self.asked.channel.clone(),
            at,
            // Of nobody there are no events to count.
            known_at: self.known_at.filter(|_| matches!(found, Found::Subject(_))),
        };
        let mut verdict: AsOfVerdict =
            api.post("/consent/v1/verdict/as-of", &request, None).await?;
        if let Some(barred) = barred {
            // What an address is barred for is not dated by a person's events: it is one answer.
            verdict.reasons = vec![barred];
            (verdict.policy, verdict.known_at) = (None, None);
        }
        Ok(verdict)
    }
}

/// Reads `N` or a time.
///
/// # Errors
/// When it is neither.
pub fn known_at(text: &str) -> Result<KnownAt, String> {
    if let Ok(position) = text.parse::<u32>() {
        return Ok(KnownAt::Position(position.into()));
    }
    Timestamp::from_str(text)
        .map(KnownAt::Time)
        .map_err(|_| "a number of events, or a time such as 2026-05-03T12:00:00Z".to_owned())
}

/// What the gate says about whoever was found. Of nobody it knows nothing, so asking about the nil
/// id gives the answer for a person without a history, with the rules that are in force.
///
/// # Errors
/// When the consent service doesn't answer.
pub async fn verdict(
    api: &Api,
    found: &Found,
    purpose: &str,
    channel: &str,
) -> Result<Verdict, Failure> {
    let (subject_id, barred) = match found {
        Found::Subject(subject) => (*subject, None),
        Found::Nobody { barred } => (Uuid::nil(), barred.clone()),
    };
    let (purpose, channel) = (purpose.to_owned(), channel.to_owned());
    let request = VerdictRequest { subject_id, purpose, channel };
    let mut verdict: Verdict = api.post("/consent/v1/verdict", &request, None).await?;
    if matches!(found, Found::Nobody { .. }) {
        // Of an address the gate knows nothing here; the number itself was understood.
        verdict.reasons.retain(|reason| reason != "address_missing");
    }
    if let Some(barred) = barred {
        verdict.verdict = Decision::Deny;
        verdict.reasons.push(barred);
        verdict.reasons.sort();
        verdict.reasons.dedup();
    }
    Ok(verdict)
}

fn as_of_text(verdict: &AsOfVerdict) -> String {
    let AsOfVerdict { reasons, evidence, notice_hash, .. } = verdict;
    let mut text = basis(verdict.verdict, reasons, evidence, notice_hash.as_deref());
    text.push_str(&format!("\n  rules     {}", verdict.rules));
    if let Some(policy) = verdict.policy {
        text.push_str(&format!("\n  purpose   as defined by event {policy}"));
    }
    text.push_str(&format!("\n  at        {}", verdict.at));
    if let Some(known_at) = verdict.known_at {
        text.push_str(&format!("\n  known     {known_at} of her events"));
    }
    text
}

fn basis(
    decision: Decision,
    reasons: &[String],
    evidence: &[Uuid],
    notice_hash: Option<&str>,
) -> String {
    let decision = match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
    };
    let mut text = format!("{decision}: {}", reasons.join(", "));
    for event in evidence {
        text.push_str(&format!("\n  evidence  event {event}"));
    }
    if let Some(hash) = notice_hash {
        text.push_str(&format!("\n  notice    sha256 {hash}"));
    }
    text
}

fn text(verdict: &Verdict) -> String {
    let Verdict { reasons, evidence, notice_hash, .. } = verdict;
    let mut text = basis(verdict.verdict, reasons, evidence, notice_hash.as_deref());
    text.push_str(&format!("\n  rules     {}\n  as of     {}", verdict.rules, verdict.as_of));
    if let Some(until) = verdict.settling_until {
        text.push_str(&format!("\n  settling  until {until}"));
    }
    if let Some(until) = verdict.quiet_until {
        text.push_str(&format!("\n  quiet     until {until}"));
    }
    text
}
