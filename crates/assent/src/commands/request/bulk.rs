//! `assent request bulk`: everybody in a file is to be erased. It guarantees that nothing is asked for while a line of
//! the file can't be read, and that once it is submitted it goes on without whoever submitted it.

use std::time::Duration;

use assent_contracts::api::vault::LookupResponse;
use assent_http::{ClientError, Code};
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::Api;
use crate::commands::upload::{self, Batch, Rejected, Rejects, Source, Upload};
use crate::contact_file::{Cell, Contact};
use crate::outcome::{Failure, Output, Status};

/// Most people of one piece.
const PIECE: usize = 1_000;
/// How often it is looked how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Arguments of `assent request bulk`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  assent request bulk leavers.csv --country FR --checked paper_forms
  assent request bulk leavers.csv --country FR --checked paper_forms --wait --json

Each row becomes an erasure like any other, a few hundred at a time, so that single requests aren't behind all of
them. If a row can't be read nothing is asked for: its line is named. Rows of numbers that nobody has are named and left
out. Once submitted it goes on by itself (`assent request bulk-progress`).

Exit status: 0 submitted (with --wait: through), 1 rows that can't be read, or nobody to erase, 2 wrong use, 3 a service
didn't answer: run it again, what wasn't submitted never begins.")]
pub struct Bulk {
    #[command(flatten)]
    source: Source,
    /// What showed you that each of them asks herself, as a code of yours; it is on record
    #[arg(long, value_name = "CODE")]
    checked: String,
    /// Where they say that they are (FR, US-CA). Without it the countries of their numbers count
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// When they asked, where that was before now
    #[arg(long, value_name = "TIME")]
    received: Option<Timestamp>,
    /// Return when it is through
    #[arg(long)]
    wait: bool,
}

/// What became of the file.
#[derive(Debug, Default, Serialize)]
struct Summary {
    /// Rows read.
    rows: u64,
    /// Rows of numbers that nobody has.
    unknown: Vec<Rejected>,
    unknown_total: u64,
    /// Rows that can't be read: with one of them nothing was asked for.
    rejected: Vec<Rejected>,
    rejected_total: u64,
    /// How far it is; none: nothing was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    bulk: Option<View>,
}

/// How far a bulk is.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct View {
    bulk_id: Uuid,
    people: u64,
    requested: u64,
    completed: u64,
    failed: u64,
    #[serde(default)]
    problems: Vec<LineProblem>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LineProblem {
    line: u64,
    problem: String,
}

impl View {
    const fn is_over(&self) -> bool {
        self.completed + self.failed >= self.people
    }

    const fn status(&self) -> Status {
        if self.failed > 0 { Status::Refused } else { Status::Done }
    }
}

impl Bulk {
    /// Runs it.
    ///
    /// # Errors
    /// When the file can't be read or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let mut summary = Summary::default();
        let file = Upload::open(&self.source, false)?;
        let (mut rejects, mut unknown) = (Rejects::default(), Rejects::default());
        let mut people: Vec<Value> = Vec::new();
        let country = self.source.country.as_deref();
        file.run(
            output,
            |batch| async move {
                let found = look_up(api, &batch, country).await?;
                Ok((batch.rows(), (batch, found)))
            },
            |(batch, found)| {
                summary.rows += batch.rows();
                for bad in &batch.bad {
                    rejects.add(bad.place, bad.reason.code(), "")?;
                }
                for (contact, found) in batch.contacts.iter().zip(found) {
                    let place = contact.phones.first().map_or(contact.place, |it| it.place);
                    match found {
                        Looked::Known(mut one) => {
                            one["line"] = json!(contact.place.line);
                            people.push(one);
                        }
                        Looked::Nobody => unknown.add(place, "subject_unknown", "")?,
                        Looked::Invalid => rejects.add(place, "phone_invalid", "")?,
                    }
                }
                Ok(())
            },
        )
        .await?;
        (summary.rejected, summary.rejected_total) = rejects.into_parts();
        (summary.unknown, summary.unknown_total) = unknown.into_parts();
        if summary.rejected_total > 0 || people.is_empty() {
            output.print(&summary, text);
            return Ok(Status::Refused);
        }
        let mut view = self.submit(api, &people).await?;
        if self.wait {
            output.remark(&format!("bulk {}: waiting until it is through", view.bulk_id));
            view = watch(api, output, view).await?;
        }
        let status = view.status();
        summary.bulk = Some(view);
        output.print(&summary, text);
        Ok(status)
    }

    /// Sends all of them, then submits: what comes apart before never begins.
    async fn submit(&self, api: &Api, people: &[Value]) -> Result<View, Failure> {
        let new = json!({
            "people": people.len(), "reason": self.checked, "place": self.place,
            "received_at": self.received,
        });
        let opened: View = api.post("/erasure/v1/bulk-erasures", &new, None).await?;
        let path = format!("/erasure/v1/bulk-erasures/{}", opened.bulk_id);
        for piece in people.chunks(PIECE) {
            let (to, piece) = (format!("{path}/people"), json!({"people": piece}));
            let _: View = upload::patiently(|| api.post(&to, &piece, None)).await?;
        }
        let (to, nothing) = (format!("{path}/submit"), json!({}));
        Ok(upload::patiently(|| api.post(&to, &nothing, None)).await?)
    }
}

/// Shows how far a bulk is.
///
/// # Errors
/// When the service doesn't answer.
pub async fn follow(api: &Api, output: Output, bulk: Uuid, wait: bool) -> Result<Status, Failure> {
    let mut view: View = api.get(&format!("/erasure/v1/bulk-erasures/{bulk}")).await?;
    if wait {
        view = watch(api, output, view).await?;
    }
    output.print(&view, far);
    Ok(view.status())
}

/// Waits until it is through, with a bar for whoever watches.
async fn watch(api: &Api, output: Output, mut view: View) -> Result<View, Failure> {
    let bar = upload::progress(output, Some(view.people.max(1)));
    while !view.is_over() {
        bar.set_position(view.completed + view.failed);
        bar.set_message(format!("{} of {} erased", view.completed, view.people));
        tokio::time::sleep(LOOK_AGAIN).await;
        // A service that is away for a moment doesn't end the waiting.
        match api.get::<View>(&format!("/erasure/v1/bulk-erasures/{}", view.bulk_id)).await {
            Ok(newer) => view = newer,
            Err(error) if error.is_transient() => {}
            Err(error) => {
                bar.abandon();
                return Err(error.into());
            }
        }
    }
    bar.finish_and_clear();
    Ok(view)
}

/// Who has a number of the file.
enum Looked {
    /// Somebody, as the service takes her.
    Known(Value),
    Nobody,
    Invalid,
}

async fn look_up(api: &Api, batch: &Batch, country: Option<&str>) -> Result<Vec<Looked>, Failure> {
    let mut found = Vec::with_capacity(batch.contacts.len());
    for contact in &batch.contacts {
        let mut looked = Looked::Invalid;
        // Phone books hold short codes and extensions too: the first number that somebody has counts.
        for phone in &contact.phones {
            match one(api, contact, phone, country).await {
                Ok(LookupResponse { subject_id: Some(subject), number_country, .. }) => {
                    let known = json!({"subject_id": subject, "number_country": number_country});
                    looked = Looked::Known(known);
                    break;
                }
                Ok(_) => looked = Looked::Nobody,
                Err(error) if error.code() == Some(Code::PhoneInvalid) => {}
                Err(error) => return Err(error.into()),
            }
        }
        found.push(looked);
    }
    Ok(found)
}

async fn one(
    api: &Api,
    contact: &Contact,
    phone: &Cell,
    country: Option<&str>,
) -> Result<LookupResponse, ClientError> {
    let own = contact.country.as_ref().map(|cell| cell.text.as_str());
    let country = own.or(country).map(str::to_owned);
    upload::patiently(|| api.lookup(phone.text.clone(), country.clone())).await
}

fn text(summary: &Summary) -> String {
    let Summary { rows, unknown, unknown_total, rejected, rejected_total, bulk } = summary;
    let mut text = format!("{rows} rows");
    if *unknown_total > 0 {
        text.push_str(&format!(", {unknown_total} of numbers that nobody has"));
        text.push_str(&upload::describe(unknown, *unknown_total));
    }
    if *rejected_total > 0 {
        text.push_str(&format!("\n{rejected_total} can't be read: nothing was asked for"));
        text.push_str(&upload::describe(rejected, *rejected_total));
    }
    if let Some(view) = bulk {
        text.push_str(&format!("\n{}", far(view)));
    }
    text
}

fn far(view: &View) -> String {
    let View { bulk_id, people, requested, completed, failed, problems } = view;
    let mut text = format!(
        "bulk {bulk_id}\n  people       {people}\n  requested    {requested}\n  completed    {completed}"
    );
    if *failed > 0 {
        text.push_str(&format!("\n  failed       {failed}"));
    }
    for LineProblem { line, problem } in problems {
        text.push_str(&format!("\n  line {line}: {problem}"));
    }
    text
}
