//! `assent screen`: who of a contact file may be messaged, and why the others may not. It keeps
//! nothing: the file is read as `import` reads it, judged by the gate row by row, and forgotten.

mod report;
mod words;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use assent_contracts::api::consent::Decision;
use assent_contracts::api::vault::{ScreenRequest, ScreenResponse, ScreenRow, ScreenedRow};
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use clap::Args;
use serde::Serialize;
use uuid::Uuid;

use super::upload::{self, Batch, Source, Upload, private_file};
use crate::api::Api;
use crate::contact_file::{Annotator, BadRow, Cell, Contact};
use crate::outcome::{Failure, Output, Status};
use words::Lang;

/// The number stands further up in the file.
const DUPLICATE: &str = "duplicate";

/// Arguments of `assent screen`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent screen contacts.csv --country FR
  assent screen crm.csv --country FR --out screened.csv --report report.html
  assent screen export.vcf --country GB --purpose service --json

Nothing of the file is stored; that you asked, for what and about how many rows is on record.
Exit status: 0 every row has its answer (also where it is no), 2 wrong use, 3 a service didn't
answer.")]
pub struct Screen {
    #[command(flatten)]
    source: Source,
    /// For which purpose.
    #[arg(long, default_value = "marketing")]
    purpose: String,
    /// On which channel.
    #[arg(long, default_value = "whatsapp")]
    channel: String,
    /// Write the rows to this file (mode 0600), each with its verdict and reasons before its own
    /// columns.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Write a page with totals, a chart and what would have to be done; it holds no row.
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
    /// Language of the page.
    #[arg(long, value_enum, default_value_t = Lang::En, value_name = "LANG")]
    lang: Lang,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Summary {
    /// Under which it is on record.
    screening_id: Uuid,
    /// For which purpose.
    purpose: String,
    /// On which channel.
    channel: String,
    /// Rows read.
    rows: u64,
    /// Rows that may be messaged.
    allowed: u64,
    /// Rows that may not.
    denied: u64,
    /// How many rows each reason applies to; a row may have several.
    reasons: BTreeMap<String, u64>,
    /// Whether the end of the file was reached.
    complete: bool,
}

impl Screen {
    /// Runs it.
    ///
    /// # Errors
    /// When a file can't be read or written, or a service doesn't answer; an interruption is
    /// reported with the summary so far.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let file = Upload::open(&self.source, self.out.is_some())?;
        let annotator = Annotator::of(file.reader());
        let out = self.out.as_deref().map(Screened::create).transpose()?;
        let mut screening = Screening {
            summary: Summary {
                screening_id: SystemIds.v7(),
                purpose: self.purpose.clone(),
                channel: self.channel.clone(),
                rows: 0,
                allowed: 0,
                denied: 0,
                reasons: BTreeMap::new(),
                complete: false,
            },
            seen: HashSet::new(),
            annotator,
            out,
        };
        if let (Some(out), Some(header)) = (&mut screening.out, file.reader().header()) {
            out.write(&annotator.header(header))?;
        }
        let screening_id = screening.summary.screening_id;
        let ran = file
            .run(
                output,
                |batch| async move {
                    let answers = self.ask(api, &batch, screening_id).await?;
                    Ok((batch.rows(), (batch, answers)))
                },
                |(batch, answers)| screening.settle(batch.contacts, batch.bad, answers),
            )
            .await;
        let Screening { mut summary, out, .. } = screening;
        if ran.is_ok() {
            out.map_or(Ok(()), Screened::finish)?;
            if let Some(path) = &self.report {
                let page = report::page(&summary, self.lang, SystemClock.now());
                std::fs::write(path, page).map_err(|error| Failure::file(path, error))?;
            }
        }
        summary.complete = ran.is_ok();
        if ran.is_ok() || summary.rows > 0 {
            output.print(&summary, text);
        }
        ran?;
        Ok(Status::Done)
    }

    async fn ask(
        &self,
        api: &Api,
        batch: &Batch,
        screening_id: Uuid,
    ) -> Result<Vec<ScreenedRow>, Failure> {
        let row = |contact: &Contact, phone: &Cell| ScreenRow {
            phone: phone.text.clone(),
            country: contact
                .country
                .as_ref()
                .map(|cell| cell.text.clone())
                .or_else(|| self.source.country.clone()),
        };
        let ask = |rows| async move {
            let (purpose, channel) = (self.purpose.clone(), self.channel.clone());
            let request = ScreenRequest { screening_id, purpose, channel, rows };
            let answer: ScreenResponse =
                upload::patiently(|| api.post("/vault/v1/screenings", &request, None)).await?;
            Ok(answer.rows)
        };
        let is_rejected = |row: &ScreenedRow| row.field.as_deref() == Some("phone");
        upload::by_number(batch, row, ask, is_rejected).await
    }
}

/// The state of a screening: results come in the order of the file.
struct Screening {
    summary: Summary,
    /// The numbers that were met, by their aliases: 8 bytes for each, whatever the file holds.
    seen: HashSet<u64>,
    annotator: Annotator,
    out: Option<Screened>,
}

impl Screening {
    fn settle(
        &mut self,
        contacts: Vec<Contact>,
        bad: Vec<BadRow>,
        answers: Vec<ScreenedRow>,
    ) -> Result<(), Failure> {
        let mut bad = bad.into_iter().peekable();
        for (contact, answer) in contacts.into_iter().zip(answers) {
            while let Some(row) = bad.next_if(|row| row.place.line < contact.place.line) {
                self.row(&row.raw, Decision::Deny, vec![row.reason.code().to_owned()])?;
            }
            let (verdict, reasons) = self.first_or_duplicate(answer);
            self.row(&contact.raw, verdict, reasons)?;
        }
        for row in bad {
            self.row(&row.raw, Decision::Deny, vec![row.reason.code().to_owned()])?;
        }
        Ok(())
    }

    fn first_or_duplicate(&mut self, answer: ScreenedRow) -> (Decision, Vec<String>) {
        let ScreenedRow { verdict, mut reasons, number, .. } = answer;
        let number = number.and_then(|number| u64::from_str_radix(&number, 16).ok());
        if number.is_none_or(|number| self.seen.insert(number)) {
            return (verdict, reasons);
        }
        if verdict == Decision::Allow {
            reasons.clear();
        }
        reasons.push(DUPLICATE.to_owned());
        reasons.sort_unstable();
        (Decision::Deny, reasons)
    }

    fn row(&mut self, raw: &str, verdict: Decision, reasons: Vec<String>) -> Result<(), Failure> {
        let name = match verdict {
            Decision::Allow => "allow",
            Decision::Deny => "deny",
        };
        if let Some(out) = &mut self.out {
            out.write(&self.annotator.row(raw, name, &reasons))?;
        }
        self.summary.rows += 1;
        match verdict {
            Decision::Allow => self.summary.allowed += 1,
            Decision::Deny => self.summary.denied += 1,
        }
        for reason in reasons {
            *self.summary.reasons.entry(reason).or_default() += 1;
        }
        Ok(())
    }
}

/// The file of screened rows: it has its name only when it is whole.
struct Screened {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
}

impl Screened {
    fn create(path: &Path) -> Result<Self, Failure> {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = private_file(&part).map_err(|error| Failure::file(&part, error))?;
        Ok(Self { path: path.to_owned(), part, file: BufWriter::new(file) })
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).map_err(|error| Failure::file(&self.part, error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        let written = self.file.flush();
        written
            .and_then(|()| std::fs::rename(&self.part, &self.path))
            .map_err(|error| Failure::file(&self.path, error))
    }
}

impl Drop for Screened {
    fn drop(&mut self) {
        // Gone already where the file is whole.
        let _ = std::fs::remove_file(&self.part);
    }
}

fn text(summary: &Summary) -> String {
    let Summary { rows, allowed, denied, purpose, reasons, complete, .. } = summary;
    let mut text =
        format!("{rows} rows: {allowed} may be messaged for {purpose}, {denied} may not");
    let width = reasons.keys().map(String::len).max().unwrap_or(0);
    let mut counted: Vec<_> = reasons.iter().collect();
    counted.sort_by_key(|(reason, count)| (std::cmp::Reverse(**count), *reason));
    for (reason, count) in counted {
        let meaning = words::reason(reason, Lang::En).meaning;
        text.push_str(&format!("\n  {count:>9}  {reason:width$}  {meaning}"));
    }
    if !complete {
        text.push_str("\n  the rest of the file was not read");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact_file::{Place, Reason};

    fn screening() -> Screening {
        Screening {
            summary: Summary {
                screening_id: Uuid::nil(),
                purpose: "marketing".to_owned(),
                channel: "whatsapp".to_owned(),
                rows: 0,
                allowed: 0,
                denied: 0,
                reasons: BTreeMap::new(),
                complete: true,
            },
            seen: HashSet::new(),
            annotator: Annotator::Delimited(','),
            out: None,
        }
    }

    fn contact(line: u64) -> Contact {
        let place = Place { line, column: 1 };
        let phones = vec![Cell { text: "x".to_owned(), place }];
        Contact {
            claim: None,
            place,
            phones,
            country: None,
            name: None,
            email: None,
            raw: format!("row {line}"),
        }
    }

    fn answer(verdict: Decision, reason: &str, number: &str) -> ScreenedRow {
        ScreenedRow {
            verdict,
            reasons: vec![reason.to_owned()],
            field: None,
            number: Some(number.to_owned()),
        }
    }

    #[test]
    fn the_second_row_of_a_number_is_a_duplicate() {
        let mut screening = screening();
        let answers = vec![
            answer(Decision::Allow, "consent_given", "00000000000000aa"),
            answer(Decision::Allow, "consent_given", "00000000000000aa"),
            answer(Decision::Deny, "no_consent", "00000000000000bb"),
            answer(Decision::Deny, "no_consent", "00000000000000bb"),
        ];
        screening.settle((1..=4).map(contact).collect(), Vec::new(), answers).unwrap();
        let Summary { rows, allowed, denied, reasons, .. } = screening.summary;
        assert_eq!((rows, allowed, denied), (4, 1, 3));
        let counted: Vec<_> = reasons.iter().map(|(reason, count)| (&**reason, *count)).collect();
        assert_eq!(counted, [("consent_given", 1), ("duplicate", 2), ("no_consent", 2)]);
    }

    #[test]
    fn rows_are_written_in_the_order_of_the_file_and_only_whole_files_have_their_name() {
        let dir = std::env::temp_dir().join(format!("assent-screen-{}", SystemIds.v4()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("out.csv");
        let mut screening = screening();
        screening.out = Some(Screened::create(&path).unwrap());
        let bad = |line, raw: &str| BadRow {
            place: Place { line, column: 1 },
            reason: Reason::PhoneMissing,
            raw: raw.to_owned(),
        };
        let bad_rows = vec![bad(1, "one"), bad(3, "three"), bad(5, "five")];
        let answers = vec![answer(Decision::Allow, "consent_given", "1"); 2];
        screening.settle(vec![contact(2), contact(4)], bad_rows, answers).unwrap();
        assert!(!path.exists());
        screening.out.take().unwrap().finish().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "deny,phone_missing,one\nallow,consent_given,row 2\ndeny,phone_missing,three\n\
             deny,duplicate,row 4\ndeny,phone_missing,five\n"
        );
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no part is left");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_interrupted_file_leaves_nothing_behind() {
        let path = std::env::temp_dir().join(format!("assent-screen-{}", SystemIds.v4()));
        drop(Screened::create(&path).unwrap());
        assert!(!path.exists() && !path.with_extension("part").exists());
    }
}
