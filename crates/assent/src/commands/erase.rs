//! `assent erase`: a request that a person, or one purpose's data of hers, be forgotten, and its progress. Partial is never
//! completed: with `--wait` it returns 0 only when every participant has proved it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use assent_runtime::{Clock, SystemClock};
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::upload::country;
use crate::api::{Api, Found, idempotency_key};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Arguments of `assent erase`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent erase '+33 6 39 98 00 01' --checked called_back
  assent erase '+33 6 39 98 00 01' --checked called_back --purpose newsletter --wait
  assent erase - --country FR --checked called_back --wait --certificate erasure.jws --json < number.txt

Marketing has stopped when it returns; deletion goes on by itself. Exit status: 0 requested (with
--wait: completed), 1 nobody with this number is known, or a legal hold keeps her data, 2 wrong use, 3 a service didn't answer or the
waiting time is over.")]
pub struct Erase {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// What showed that she asks herself, as a code of yours; it is on record
    #[arg(long, value_name = "CODE")]
    checked: String,
    /// Erase the data of this purpose alone, as the policy names it: she stays known, and other purposes go on
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// Where she says that she is (FR, US-CA): whose law counts beside yours. Without it the country of her number does
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// When she asked, where that was before now: the term is counted from there
    #[arg(long, value_name = "TIME")]
    received: Option<Timestamp>,
    /// Return when the erasure is complete.
    #[arg(long)]
    wait: bool,
    /// Write the certificate to this file (implies --wait).
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// How long to wait, in seconds.
    #[arg(long, default_value_t = 300)]
    timeout_s: u64,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Requested {
    request_id: Uuid,
    status: String,
}

#[derive(Debug, Deserialize)]
struct Progress {
    status: String,
    #[serde(default)]
    missing: Vec<String>,
    #[serde(default)]
    participants: Vec<Asked>,
}

/// Somebody who is asked to forget her.
#[derive(Debug, Deserialize)]
struct Asked {
    name: String,
    /// The team to turn to.
    owner: Option<String>,
}

/// Where the request stands.
#[derive(Debug, Serialize)]
struct Erasure {
    request: Option<Uuid>,
    status: String,
    /// Whose data alone are meant; none: all of hers.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// Who has not answered yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    /// The teams to turn to for those, by participant, where they are known.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    owners: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
}

impl Erase {
    /// Runs it.
    ///
    /// # Errors
    /// When a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let phone = self.phone.read()?;
        let found = api.lookup(phone, self.country.clone()).await?;
        let number_country = found.number_country.clone();
        let subject = match found.into() {
            Found::Subject(subject) => subject,
            Found::Nobody { barred } => {
                let erased = barred.as_deref() == Some("erased");
                let status = if erased { "already_erased" } else { "subject_unknown" };
                output.print(&erasure(None, status), text);
                return Ok(if erased { Status::Done } else { Status::Refused });
            }
        };
        let identity = json!({"method": "operator", "reason": self.checked});
        let mut request = json!({
            "subject_id": subject, "actor": "operator", "place": self.place, "identity": identity,
            "received_at": self.received, "number_country": number_country,
        });
        // A service of before refuses the member: it never takes this for the erasure of the whole person.
        if let Some(purpose) = &self.purpose {
            request["purpose"] = json!(purpose);
        }
        let requested: Requested =
            api.post("/erasure/v1/requests", &request, Some(&idempotency_key())).await?;
        let mut erasure = erasure(Some(requested.request_id), &requested.status);
        erasure.purpose.clone_from(&self.purpose);
        let mut status = Status::Done;
        if self.wait || self.certificate.is_some() {
            output.remark(&format!(
                "request {}: waiting for every participant",
                requested.request_id
            ));
            self.follow(api, &mut erasure).await?;
            // One that was asked for beside another is answered with that one.
            if matches!(erasure.status.as_str(), "on_hold" | "refused") {
                status = Status::Refused;
            } else if !matches!(erasure.status.as_str(), "completed" | "answered") {
                status = Status::Unreachable;
            } else if let Some(path) = &self.certificate {
                let source = format!("/erasure/v1/requests/{}/certificate", requested.request_id);
                let certificate = api.get_text(&source).await?;
                std::fs::write(path, certificate).map_err(|error| Failure::file(path, error))?;
                erasure.certificate = Some(path.clone());
            }
        }
        output.print(&erasure, text);
        Ok(status)
    }

    async fn follow(&self, api: &Api, erasure: &mut Erasure) -> Result<(), Failure> {
        let until = SystemClock.boottime() + Duration::from_secs(self.timeout_s);
        let Some(request) = erasure.request else { return Ok(()) };
        loop {
            // A service that is away for a moment doesn't end the waiting.
            match api.get::<Progress>(&format!("/erasure/v1/requests/{request}")).await {
                Ok(progress) => {
                    erasure.status = progress.status;
                    erasure.missing = progress.missing;
                    erasure.owners = progress
                        .participants
                        .into_iter()
                        .filter(|asked| erasure.missing.contains(&asked.name))
                        .filter_map(|asked| Some((asked.name, asked.owner?)))
                        .collect();
                }
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
            let ends = ["completed", "answered", "on_hold", "refused"];
            if ends.contains(&erasure.status.as_str()) || SystemClock.boottime() >= until {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

fn erasure(request: Option<Uuid>, status: &str) -> Erasure {
    let (missing, owners) = (Vec::new(), BTreeMap::new());
    let status = status.to_owned();
    Erasure { request, status, purpose: None, missing, owners, certificate: None }
}

fn text(erasure: &Erasure) -> String {
    let mut text = erasure.status.clone();
    if let Some(request) = erasure.request {
        text.push_str(&format!("\n  request      {request}"));
    }
    if let Some(purpose) = &erasure.purpose {
        text.push_str(&format!("\n  purpose      {purpose}"));
    }
    if !erasure.missing.is_empty() {
        let named = |name: &String| match erasure.owners.get(name) {
            Some(owner) => format!("{name} ({owner})"),
            None => name.clone(),
        };
        let missing: Vec<String> = erasure.missing.iter().map(named).collect();
        text.push_str(&format!("\n  missing      {}", missing.join(", ")));
    }
    if let Some(path) = &erasure.certificate {
        text.push_str(&format!("\n  certificate  {}", path.display()));
    }
    text
}
