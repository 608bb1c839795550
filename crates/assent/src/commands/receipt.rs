//! `assent receipt`: what a person said, on paper: a receipt that she can keep, its signature, and a
//! page in the language of her notice.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use assent_console::receipt_page as page;
use assent_contracts::api::consent::ReceiptView;
use assent_signing::canonical;
use clap::Args;
use serde::Serialize;

use super::asked::Asked;
use super::evidence::bundle::require_empty;
use super::upload::private_file;
use crate::api::{Api, Found};
use crate::outcome::{Failure, Output, Status};

/// The receipt.
pub const RECEIPT: &str = "receipt.jsonld";
/// Its signature.
pub const SIGNATURE: &str = "receipt.jws";
const PAGE: &str = "receipt.html";

/// Arguments of `assent receipt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent receipt '+33 6 39 98 00 01' --purpose marketing --out receipt/
  assent verify receipt/receipt.jsonld --key receipts.pub.pem

Writes receipt.jsonld (ISO/IEC TS 27560 in DPV terms), receipt.jws (its signature) and receipt.html (for
her, in English, French or Russian, as the notice was) of the last thing she said about the purpose;
the files are for you alone (0600).

Exit status: 0 written, 1 she isn't known or said nothing about it, 2 wrong use, 3 a service didn't
answer.")]
pub struct Receipt {
    /// About whom and what.
    #[command(flatten)]
    asked: Asked,
    /// Where to write it: a new or empty folder.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Written {
    receipt: PathBuf,
    status: String,
    missing: Vec<String>,
}

impl Receipt {
    /// Runs it.
    ///
    /// # Errors
    /// When she isn't known, the folder can't be written, or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        require_empty(&self.out)?;
        let nothing = |code: &str| Failure {
            status: Status::Refused,
            code: code.to_owned(),
            message: "there is no receipt: nothing she said about it is known".to_owned(),
        };
        let Found::Subject(subject) = self.asked.find(api).await?.found else {
            return Err(nothing("subject_unknown"));
        };
        let (purpose, channel) = (&self.asked.purpose, &self.asked.channel);
        let covers = |it: &ReceiptView| {
            (it.purpose == *purpose || it.purpose == "*")
                && (it.channel == *channel || it.channel == "*")
        };
        let path = format!("/consent/v1/subjects/{subject}/receipts");
        let all: Vec<ReceiptView> = api.all(&path).await?;
        let Some(view) = all.into_iter().rev().find(covers) else {
            return Err(nothing("no_consent"));
        };
        let receipt = canonical::to_vec(&view.receipt)
            .map_err(|error| Failure::wrong_use(format!("the receipt: {error}")))?;
        let files = BTreeMap::from([
            (RECEIPT, receipt),
            (SIGNATURE, view.signature.into_bytes()),
            (PAGE, page::html(&view.receipt).into_bytes()),
        ]);
        write(&self.out, &files)?;
        if !view.missing.is_empty() {
            output.remark(
                "the policy leaves out what ISO/IEC TS 27560 requires; see `missing` in --json",
            );
        }
        let status = page::status(&view.receipt).to_owned();
        let written = Written { receipt: self.out.join(RECEIPT), status, missing: view.missing };
        output.print(&written, |it| format!("{}: {}", it.receipt.display(), it.status));
        Ok(Status::Done)
    }
}

fn write(dir: &Path, files: &BTreeMap<&str, Vec<u8>>) -> Result<(), Failure> {
    std::fs::create_dir_all(dir).map_err(|error| Failure::file(dir, error))?;
    for (name, bytes) in files {
        let path = dir.join(name);
        let written = private_file(&path).and_then(|mut file| file.write_all(bytes));
        written.map_err(|error| Failure::file(&path, error))?;
    }
    Ok(())
}
