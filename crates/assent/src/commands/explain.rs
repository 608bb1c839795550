//! `assent explain`: may this person be messaged, and why not? Asking records nothing, and a deny
//! is an answer: the exit status is 0.

use assent_contracts::api::consent::{Decision, Verdict, VerdictRequest};
use clap::Args;
use uuid::Uuid;

use super::upload::country;
use crate::api::{Api, Found};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

/// Arguments of `assent explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent explain '+33 6 39 98 00 01' --purpose marketing
  echo '06 39 98 00 01' | assent explain - --country FR --purpose marketing --json

Exit status: 0 answered (allow or deny), 2 wrong use, 3 a service didn't answer.")]
pub struct Explain {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// For which purpose.
    #[arg(long)]
    purpose: String,
    /// On which channel.
    #[arg(long, default_value = "whatsapp")]
    channel: String,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

impl Explain {
    /// Runs it.
    ///
    /// # Errors
    /// When a service doesn't answer or the purpose isn't known.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let phone = self.phone.read()?;
        let found = Found::from(api.lookup(phone, self.country.clone()).await?);
        let verdict = verdict(api, &found, &self.purpose, &self.channel).await?;
        output.print(&verdict, text);
        Ok(Status::Done)
    }
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

fn text(verdict: &Verdict) -> String {
    let decision = match verdict.verdict {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
    };
    let mut text = format!("{decision}: {}", verdict.reasons.join(", "));
    for event in &verdict.evidence {
        text.push_str(&format!("\n  evidence  event {event}"));
    }
    if let Some(hash) = &verdict.notice_hash {
        text.push_str(&format!("\n  notice    sha256 {hash}"));
    }
    text.push_str(&format!("\n  rules     {}\n  as of     {}", verdict.rules, verdict.as_of));
    if let Some(until) = verdict.settling_until {
        text.push_str(&format!("\n  settling  until {until}"));
    }
    text
}
