//! `assent send`: one message through the gate. It waits for the outcome; a refusal by the gate is
//! an answer with reasons and exit status 1.

use std::time::Duration;

use assent_runtime::{Clock, SystemClock};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::explain;
use super::upload::country;
use crate::api::{Api, Found, idempotency_key};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

/// How long one look waits on the service's side.
const WAIT_MS: u64 = 10_000;

/// Arguments of `assent send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent send '+33 6 39 98 00 01' --purpose marketing --template spring_offer
  echo '06 39 98 00 01' | assent send - --country FR --purpose marketing --template spring_offer --json

Exit status: 0 accepted by the provider, or waiting for the end of quiet hours; 1 refused or failed (with
reasons), 2 wrong use, 3 a service didn't answer or the outcome isn't known yet.")]
pub struct Send {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// For which purpose.
    #[arg(long)]
    purpose: String,
    /// On which channel.
    #[arg(long, default_value = "whatsapp")]
    channel: String,
    /// Which approved template.
    #[arg(long)]
    template: String,
    /// Language of the template.
    #[arg(long)]
    language: Option<String>,
    /// Values of the template's parameters, in order.
    #[arg(long = "parameter", value_name = "TEXT")]
    parameters: Vec<String>,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
    /// How long to wait for the outcome, in seconds.
    #[arg(long, default_value_t = 60)]
    timeout_s: u64,
}

#[derive(Debug, Deserialize)]
struct Queued {
    message_id: Uuid,
}

/// What became of the message, as messaging tells it.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    message_id: Option<Uuid>,
    /// `accepted`, `refused`, `failed`, `uncertain`; on the way `queued`, `claimed`, `calling`.
    state: String,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    provider_code: Option<i64>,
    #[serde(default)]
    status: Option<String>,
}

impl Send {
    /// Runs it.
    ///
    /// # Errors
    /// When a service doesn't answer or the template isn't known.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let phone = self.phone.read()?;
        let found = Found::from(api.lookup(phone, self.country.clone()).await?);
        let Found::Subject(subject_id) = found else {
            let verdict = explain::verdict(api, &found, &self.purpose, &self.channel).await?;
            return Ok(finish(output, &refused(verdict.reasons)));
        };
        let mut request = json!({
            "subject_id": subject_id,
            "purpose": self.purpose,
            "channel": self.channel,
            "template": self.template,
            "parameters": self.parameters,
        });
        if let Some(language) = &self.language {
            request["language"] = json!(language);
        }
        let key = idempotency_key();
        let queued: Result<Queued, _> =
            api.post("/messaging/v1/messages", &request, Some(&key)).await;
        let message_id = match queued {
            Ok(queued) => queued.message_id,
            Err(error) if error.code() == Some(assent_http::Code::SubjectErased) => {
                return Ok(finish(output, &refused(vec!["erased".to_owned()])));
            }
            Err(error) => return Err(error.into()),
        };
        let until = SystemClock.boottime() + Duration::from_secs(self.timeout_s);
        loop {
            let left = until.saturating_sub(SystemClock.boottime());
            let wait = WAIT_MS.min(left.as_millis() as u64);
            let path = format!("/messaging/v1/messages/{message_id}?wait_ms={wait}");
            let message: Message = api.get(&path).await?;
            let under_way = matches!(message.state.as_str(), "queued" | "claimed" | "calling");
            // It waits until people may be written to again; nobody else should.
            let waits = message.reasons == ["quiet_hours"];
            if !under_way || waits || left.is_zero() {
                return Ok(finish(output, &message));
            }
        }
    }
}

fn refused(reasons: Vec<String>) -> Message {
    Message {
        message_id: None,
        state: "refused".to_owned(),
        reasons,
        provider_code: None,
        status: None,
    }
}

fn finish(output: Output, message: &Message) -> Status {
    output.print(message, |message| {
        let mut text = message.state.clone();
        if !message.reasons.is_empty() {
            text.push_str(&format!(": {}", message.reasons.join(", ")));
        }
        if let Some(code) = message.provider_code {
            text.push_str(&format!(" (provider code {code})"));
        }
        if let Some(id) = message.message_id {
            text.push_str(&format!("\n  message  {id}"));
        }
        text
    });
    match message.state.as_str() {
        "accepted" => Status::Done,
        // It goes out by itself; sending it again would send it twice.
        "queued" if message.reasons == ["quiet_hours"] => Status::Done,
        "refused" | "failed" => Status::Refused,
        _ => Status::Unreachable,
    }
}
