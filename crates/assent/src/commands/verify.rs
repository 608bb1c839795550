//! `assent verify`: checks an erasure certificate, a receipt or the folder of a dispute, offline. The key
//! of what is signed comes from whoever verifies, never from the file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use assent_consent::domain::receipt;
use assent_erasure::certificate::{self, Payload};
use assent_signing::VerifyingKey;
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::evidence::bundle::{self, Checked};
use crate::outcome::{Failure, Output, Status};
use assent_console::receipt_page as page;

/// A secret is shorter.
const SECRET_MAX: u64 = 1024;

/// Arguments of `assent verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent verify erasure.jws --key certificates.pub.pem
  assent verify erasure.jws --key certificates.pub.pem --json
  assent verify erasure.jws --key certificates.pub.pem --secret - < secret.txt
  assent verify erasure.jws --key certificates.pub.pem --page erasure.html --language fr
  assent verify receipt/receipt.jsonld --key receipts.pub.pem
  assent verify dispute/
  assent verify dispute/ --key receipts.pub.pem

It asks no service. Exit status: 0 valid, 1 not valid (with the reason), 2 wrong use.")]
pub struct Verify {
    /// The certificate, the receipt (receipt.jsonld, its signature beside it as receipt.jws), or the folder
    /// that `assent evidence` wrote.
    file: PathBuf,
    /// The issuer's public key (Ed25519, PEM), got by a road of its own. A certificate and a receipt need
    /// it; with it the receipts in a folder are checked too.
    #[arg(long, value_name = "PUB")]
    key: Option<PathBuf>,
    /// A file with the secret that was given with a request (`-`: standard input): is the certificate that
    /// request's?
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// Write what a valid certificate says as a page to read.
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// The page's language.
    #[arg(long, value_name = "TAG", default_value = "en", value_parser = ["en", "fr", "ru"])]
    language: String,
}

#[derive(Debug, Serialize)]
struct Verified {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<Payload>,
    /// Whether the secret that was shown belongs to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Checked>,
}

/// A receipt whose signature fits.
#[derive(Debug, Serialize)]
struct Receipt {
    /// What she did, such as `dpv:ConsentGiven`.
    status: String,
    identifier: String,
    /// What the profile of ISO/IEC TS 27560 requires and the receipt leaves out.
    missing: Vec<String>,
}

impl Verify {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be read or the key is none.
    pub fn run(&self, output: Output) -> Result<Status, Failure> {
        let mut verified = Verified {
            valid: true,
            reason: None,
            certificate: None,
            hers: None,
            receipt: None,
            evidence: None,
        };
        let checked = if self.file.is_dir() {
            let key = self.key.as_ref().map(|_| self.key()).transpose()?;
            bundle::verify(&self.file, key.as_ref())
                .map(|checked| verified.evidence = Some(checked))
        } else if self.file.extension().is_some_and(|extension| extension == "jsonld") {
            self.receipt()?.map(|receipt| verified.receipt = Some(receipt))
        } else {
            self.certificate()?.map(|payload| verified.certificate = Some(payload))
        };
        if let Some(certificate) = &verified.certificate {
            verified.hers = self.secret()?.map(|secret| certificate.is_of(&secret));
            self.write_page(certificate)?;
        } else if checked.is_ok() && (self.secret.is_some() || self.page.is_some()) {
            return Err(Failure::wrong_use("--secret and --page are for certificates of erasures"));
        }
        if let Err(reason) = checked {
            (verified.valid, verified.reason) = (false, Some(reason));
        }
        output.print(&verified, text);
        let good = verified.valid && verified.hers != Some(false);
        Ok(if good { Status::Done } else { Status::Refused })
    }

    fn secret(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let Some(path) = &self.secret else { return Ok(None) };
        let read = if path.as_os_str() == "-" {
            std::io::read_to_string(std::io::stdin().take(SECRET_MAX))
        } else {
            std::fs::read_to_string(path)
        };
        let read = read.map_err(|error| Failure::file(path, error))?;
        Ok(Some(Zeroizing::new(read.trim().to_owned())))
    }

    fn write_page(&self, certificate: &Payload) -> Result<(), Failure> {
        let Some(path) = &self.page else { return Ok(()) };
        let page = certificate::page(certificate, &self.language)
            .ok_or_else(|| Failure::wrong_use("--language is en, fr or ru"))?
            .map_err(|error| Failure::file(path, std::io::Error::other(error)))?;
        std::fs::write(path, page).map_err(|error| Failure::file(path, error))
    }

    fn key(&self) -> Result<VerifyingKey, Failure> {
        let Some(key) = &self.key else {
            return Err(Failure::wrong_use("what is signed is checked with --key PUB"));
        };
        let pem = std::fs::read_to_string(key).map_err(|error| Failure::file(key, error))?;
        assent_signing::public_key(&pem).map_err(|error| Failure::file(key, error))
    }

    fn receipt(&self) -> Result<Result<Receipt, String>, Failure> {
        let public = self.key()?;
        let read = |path: &Path| std::fs::read(path).map_err(|error| Failure::file(path, error));
        let (document, jws) = (read(&self.file)?, read(&self.file.with_extension("jws"))?);
        let checked = assent_signing::verify_detached(&document, &jws, receipt::TYPE, &public);
        Ok(checked.map_err(|invalid| invalid.to_string()).map(|document| Receipt {
            status: page::status(&document).to_owned(),
            identifier: document["dpv:hasIdentifier"].as_str().unwrap_or_default().to_owned(),
            missing: receipt::missing(&document),
        }))
    }

    fn certificate(&self) -> Result<Result<Payload, String>, Failure> {
        let public = self.key()?;
        let file = std::fs::read(&self.file).map_err(|error| Failure::file(&self.file, error))?;
        Ok(certificate::verify(&file, &public).map_err(|invalid| invalid.to_string()))
    }
}

fn text(verified: &Verified) -> String {
    if let Some(Receipt { status, identifier, missing }) = &verified.receipt {
        let complete = if missing.is_empty() {
            "yes".to_owned()
        } else {
            format!("no: {}", missing.join(", "))
        };
        return format!(
            "valid\n  receipt    {identifier}\n  status     {status}\n  complete   {complete}"
        );
    }
    if let Some(checked) = &verified.evidence {
        return evidence(checked);
    }
    let Some(payload) = &verified.certificate else {
        return format!("not valid: {}", verified.reason.as_deref().unwrap_or_default());
    };
    let mut text = format!(
        "valid\n  request    {}\n  controller {}\n  requested  {}\n  completed  {}",
        payload.request_id, payload.controller, payload.requested_at, payload.completed_at
    );
    if let Some(purpose) = &payload.purpose {
        text.push_str(&format!(
            "\n  purpose    {purpose}: its data alone, deleted; no key was destroyed"
        ));
    }
    if let Some(at) = payload.keys_destroyed_at {
        text.push_str(&format!("\n  keys gone  {at}"));
    }
    if let Some(at) = payload.last_key_backup_expires_at {
        text.push_str(&format!("\n  last backup of the keys expires {at}"));
    }
    for kept in &payload.kept {
        let until = kept.until.map_or_else(String::new, |until| format!(" until {until}"));
        text.push_str(&format!(
            "\n  kept       {} by {} ({}){until}",
            kept.what, kept.participant, kept.ground
        ));
    }
    if !payload.exceptions.is_empty() {
        text.push_str(&format!("\n  exceptions {} (see --json)", payload.exceptions.len()));
    }
    match verified.hers {
        Some(true) => text.push_str("\n  secret     its request was given this secret"),
        Some(false) => text.push_str("\n  secret     not of this certificate"),
        None => {}
    }
    text
}

fn evidence(checked: &Checked) -> String {
    let Checked { verdict, events, notices, receipts, key_given, complete } = checked;
    let signed = if *key_given { "signed" } else { "signatures not checked (--key)" };
    let complete = match (key_given, complete) {
        (_, true) => "signed: the verdict, and that these are all the events",
        (true, false) => {
            "the folder has no signed statement: that these are all the events is the word of who made it"
        }
        (false, false) => "without --key: that these are all the events is the word of who made it",
    };
    format!(
        "valid\n  the verdict follows from {events} events: {}\n  at         {}\n  notices    {notices}, each with its hash\n  receipts   {receipts}, each of its event; {signed}\n  {complete}",
        verdict.reasons.join(", "),
        verdict.at,
    )
}
