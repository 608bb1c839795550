//! `assent verify`: checks an erasure certificate or the folder of a dispute, offline. The key of a
//! certificate comes from whoever verifies, never from the file.

use std::path::PathBuf;

use assent_erasure::certificate::{self, Payload};
use clap::Args;
use serde::Serialize;

use super::evidence::bundle::{self, Checked};
use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent verify erasure.jws --key certificates.pub.pem
  assent verify erasure.jws --key certificates.pub.pem --json
  assent verify dispute/

It asks no service. Exit status: 0 valid, 1 not valid (with the reason), 2 wrong use.")]
pub struct Verify {
    /// The certificate, or the folder that `assent evidence` wrote.
    file: PathBuf,
    /// The issuer's public key (Ed25519, PEM), got by a road of its own; a certificate needs it.
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Verified {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Checked>,
}

impl Verify {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be read or the key is none.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let mut verified =
            Verified { valid: true, reason: None, certificate: None, evidence: None };
        let checked = if self.file.is_dir() {
            bundle::verify(&self.file).map(|checked| verified.evidence = Some(checked))
        } else {
            self.certificate()?.map(|payload| verified.certificate = Some(payload))
        };
        if let Err(reason) = checked {
            (verified.valid, verified.reason) = (false, Some(reason));
        }
        output.print(&verified, text);
        Ok(if verified.valid { Status::Done } else { Status::Refused })
    }

    fn certificate(&self) -> Result<Result<Payload, String>, Failure> {
        let Some(key) = &self.key else {
            return Err(Failure::wrong_use("a certificate is checked with --key PUB"));
        };
        let pem = std::fs::read_to_string(key).map_err(|error| Failure::file(key, error))?;
        let public = assent_signing::public_key(&pem).map_err(|error| Failure::file(key, error))?;
        let file = std::fs::read(&self.file).map_err(|error| Failure::file(&self.file, error))?;
        Ok(certificate::verify(&file, &public).map_err(|invalid| invalid.to_string()))
    }
}

fn text(verified: &Verified) -> String {
    if let Some(Checked { verdict, events, notices }) = &verified.evidence {
        return format!(
            "valid\n  the verdict follows from {events} events: {}\n  at         {}\n  notices    {notices}, each with its hash\n  not signed: that these are all the events is the word of who made the folder",
            verdict.reasons.join(", "),
            verdict.at,
        );
    }
    let Some(payload) = &verified.certificate else {
        return format!("not valid: {}", verified.reason.as_deref().unwrap_or_default());
    };
    let mut text = format!(
        "valid\n  request    {}\n  controller {}\n  requested  {}\n  completed  {}",
        payload.request_id, payload.controller, payload.requested_at, payload.completed_at
    );
    if let Some(at) = payload.keys_destroyed_at {
        text.push_str(&format!("\n  keys gone  {at}"));
    }
    if let Some(at) = payload.last_key_backup_expires_at {
        text.push_str(&format!("\n  last backup of the keys expires {at}"));
    }
    text
}
