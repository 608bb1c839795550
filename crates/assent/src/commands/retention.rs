//! `assent retention`: who is kept no longer, before she goes.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};

/// `assent retention …`
#[derive(Debug, Subcommand)]
pub enum Retention {
    /// Show who would be erased, and what would go, because time ran out, and why. Nothing is done.
    #[command(after_help = "\
Examples:
  assent retention plan
  assent retention plan --idle-days 1095 --ids
  assent retention plan --conversation-days 180 --access-record-days 730
  assent retention plan --suppression-days 1096 --evidence-days 1096

Without --idle-days by the policy that is in force, without the others by the configuration; all are applied at least every hour. Exit status: 0 shown, 2 wrong use, 3 a service didn't answer.")]
    Plan(Plan),
}

/// `assent retention plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// As if the policy said so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    idle_days: Option<u32>,
    /// As if what was written were kept for so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    conversation_days: Option<u32>,
    /// As if records of who opened what were kept for so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    access_record_days: Option<u32>,
    /// As if what keeps people out after they have gone were kept for so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    suppression_days: Option<u32>,
    /// As if verdicts and claims of consents were kept for so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    evidence_days: Option<u32>,
    /// Each person by her id, with the reason
    #[arg(long)]
    ids: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idle_days: Option<u32>,
    due: i64,
    waiting: i64,
    overdue: i64,
    suppression_days: u32,
    suppressions_kept: i64,
    suppressions_due: i64,
    evidence_days: u32,
    verdicts_due: i64,
    claims_due: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    people: Option<Vec<Due>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversations: Option<Conversations>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    records: Option<Records>,
}

/// What messaging would forget.
#[derive(Debug, Serialize, Deserialize)]
struct Conversations {
    conversation_days: u32,
    due: Texts,
}

#[derive(Debug, Serialize, Deserialize)]
struct Texts {
    from_people: i64,
    to_people: i64,
    notes: i64,
}

/// What the vault would forget.
#[derive(Debug, Serialize, Deserialize)]
struct Records {
    access_record_days: u32,
    access_records_due: i64,
    suppression_days: u32,
    suppressions_kept: i64,
    suppressions_due: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Due {
    subject_id: Uuid,
    why: String,
}

impl Retention {
    /// Runs it.
    ///
    /// # Errors
    /// When the service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let Self::Plan(plan) = self;
        let idle = ("idle_days", plan.idle_days);
        let suppression = ("suppression_days", plan.suppression_days);
        let consent = query(&[idle, suppression, ("evidence_days", plan.evidence_days)]);
        let mut shown: Shown = api.get(&format!("/consent/v1/retention{consent}")).await?;
        if plan.ids {
            let people = query(&[idle]);
            shown.people = Some(api.all(&format!("/consent/v1/retention/due{people}")).await?);
        }
        let conversations = query(&[("conversation_days", plan.conversation_days)]);
        shown.conversations = api.get(&format!("/messaging/v1/retention{conversations}")).await?;
        let records = query(&[("access_record_days", plan.access_record_days), suppression]);
        shown.records = api.get(&format!("/vault/v1/retention{records}")).await?;
        output.print(&shown, text);
        Ok(Status::Done)
    }
}

/// What was given, as a query.
fn query(days: &[(&str, Option<u32>)]) -> String {
    let mut query = String::new();
    for (name, days) in days {
        if let Some(days) = days {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(&format!("{name}={days}"));
        }
    }
    query
}

fn text(shown: &Shown) -> String {
    let mut text = match shown.idle_days {
        None => "the policy says nothing: nobody goes".to_owned(),
        Some(days) => format!("{} would go, after {days} days without a word", shown.due),
    };
    if shown.waiting > 0 {
        let Shown { waiting, overdue, .. } = shown;
        text.push_str(&format!(
            "\n  waiting      {waiting}, {overdue} of them for more than a day"
        ));
    }
    for Due { subject_id, why } in shown.people.iter().flatten() {
        text.push_str(&format!("\n  {subject_id}  {why}"));
    }
    if let Some(Conversations { conversation_days, due }) = &shown.conversations {
        let Texts { from_people, to_people, notes } = due;
        text.push_str(&format!(
            "\n  texts        {} would go, after {conversation_days} days: {from_people} of people, {to_people} to them, {notes} notes",
            from_people + to_people + notes
        ));
    }
    if let Some(records) = &shown.records {
        let Records { access_record_days, access_records_due, .. } = records;
        text.push_str(&format!(
            "\n  records      {access_records_due} of who opened what would go, after {access_record_days} days"
        ));
        text.push_str(&format!(
            "\n  suppressed   {} of {} fingerprints would go, after {} days without a reason",
            records.suppressions_due, records.suppressions_kept, records.suppression_days
        ));
    }
    text.push_str(&format!(
        "\n  closed       {} of {} addresses that nobody here has would be forgotten, after {} days",
        shown.suppressions_due, shown.suppressions_kept, shown.suppression_days
    ));
    text.push_str(&format!(
        "\n  evidence     {} verdicts and {} claims would go, after {} days",
        shown.verdicts_due, shown.claims_due, shown.evidence_days
    ));
    text
}
