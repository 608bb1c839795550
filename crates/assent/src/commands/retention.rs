//! `assent retention`: who is kept no longer, before she goes.

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};

/// `assent retention …`
#[derive(Debug, Subcommand)]
pub enum Retention {
    /// Show who would be erased because time ran out, and why. Nothing is done.
    #[command(after_help = "\
Examples:
  assent retention plan
  assent retention plan --idle-days 1095 --ids

Without --idle-days by the policy that is in force, which is applied every hour. Exit status: 0 shown, 2 wrong use, 3 a service didn't answer.")]
    Plan(Plan),
}

/// `assent retention plan`
#[derive(Debug, Args)]
pub struct Plan {
    /// As if the policy said so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    idle_days: Option<u32>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    people: Option<Vec<Due>>,
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
        let query = plan.idle_days.map(|days| format!("?idle_days={days}")).unwrap_or_default();
        let mut shown: Shown = api.get(&format!("/consent/v1/retention{query}")).await?;
        if plan.ids {
            shown.people = Some(api.all(&format!("/consent/v1/retention/due{query}")).await?);
        }
        output.print(&shown, text);
        Ok(Status::Done)
    }
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
    text
}
