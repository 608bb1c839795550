//! `assent verify`: checks an erasure certificate offline. The key comes from whoever verifies,
//! never from the file.

use std::path::PathBuf;

use assent_erasure::certificate::{self, Payload};
use clap::Args;
use serde::Serialize;

use crate::outcome::{Failure, Output, Status};

/// Arguments of `assent verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent verify erasure.jws --key certificates.pub.pem
  assent verify erasure.jws --key certificates.pub.pem --json

It asks no service. Exit status: 0 valid, 1 not valid (with the reason), 2 wrong use.")]
pub struct Verify {
    /// The certificate.
    file: PathBuf,
    /// The issuer's public key (Ed25519, PEM), got by a road of its own.
    #[arg(long, value_name = "PUB")]
    key: PathBuf,
}

#[derive(Debug, Serialize)]
struct Verified {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Payload>,
}

impl Verify {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be read or the key is none.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let pem =
            std::fs::read_to_string(&self.key).map_err(|error| Failure::file(&self.key, error))?;
        let key = certificate::public_key(&pem).map_err(|error| Failure::file(&self.key, error))?;
        let file = std::fs::read(&self.file).map_err(|error| Failure::file(&self.file, error))?;
        let (verified, status) = match certificate::verify(&file, &key) {
            Ok(payload) => {
                (Verified { valid: true, reason: None, certificate: Some(payload) }, Status::Done)
            }
            Err(invalid) => {
                let reason = Some(invalid.to_string());
                (Verified { valid: false, reason, certificate: None }, Status::Refused)
            }
        };
        output.print(&verified, text);
        Ok(status)
    }
}

fn text(verified: &Verified) -> String {
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
