//! `assent hold`: data that must not be destroyed yet.

use assent_contracts::SubjectId;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::upload::country;
use crate::api::{Api, Found, idempotency_key};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

/// `assent hold …`
#[derive(Debug, Subcommand)]
pub enum Hold {
    /// Keep a person's data from destruction; a stop of sending is not kept from anything.
    #[command(after_help = "\
Examples:
  assent hold place '+33 6 39 98 00 01' --reason litigation --review-on 2027-05-31
  assent hold place - --purpose orders --reason tax_audit --review-on 2027-05-31 --ends-at 2028-01-01T00:00:00Z < number.txt

Exit status: 0 placed, 1 nobody with this number is known, or destruction has begun (it is on record that the hold was wanted), 2 wrong use, 3 a service didn't answer.")]
    Place(Place),
    /// List the holds that stand, the next to be reviewed first.
    #[command(after_help = "\
Examples:
  assent hold list
  assent hold list --json")]
    List,
    /// Record that a hold was looked at and stays.
    #[command(after_help = "\
Examples:
  assent hold review 01a2104b-d59b-74f5-9e99-f55a7729061a --review-on 2027-11-30

Exit status: 0 recorded, 1 the hold is over, 2 wrong use, 3 a service didn't answer.")]
    Review {
        /// The hold.
        hold: Uuid,
        /// By when it is looked at again.
        #[arg(long, value_name = "DATE")]
        review_on: Date,
    },
    /// Release a hold: an erasure that waited for it goes on.
    #[command(after_help = "\
Examples:
  assent hold release 01a2104b-d59b-74f5-9e99-f55a7729061a --reason settled

Exit status: 0 released, 2 wrong use, 3 a service didn't answer.")]
    Release {
        /// The hold.
        hold: Uuid,
        /// Why, as a code of yours.
        #[arg(long, value_name = "CODE")]
        reason: String,
    },
}

/// `assent hold place`
#[derive(Debug, Args)]
pub struct Place {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// Why, as a code of yours.
    #[arg(long, value_name = "CODE")]
    reason: String,
    /// By when it is looked at again.
    #[arg(long, value_name = "DATE")]
    review_on: Date,
    /// When it ends by itself.
    #[arg(long, value_name = "TIME")]
    ends_at: Option<Timestamp>,
    /// The purpose whose data it is about. It keeps the whole erasure waiting all the same.
    #[arg(long, value_name = "NAME")]
    purpose: Option<String>,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

/// A hold as the service shows it.
#[derive(Debug, Serialize, Deserialize)]
struct Shown {
    hold_id: Uuid,
    subject_id: SubjectId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    reason: String,
    placed_by: String,
    placed_at: Timestamp,
    review_on: Date,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    released_at: Option<Timestamp>,
}

impl Hold {
    /// Runs it.
    ///
    /// # Errors
    /// When the service refuses or doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Place(place) => return place.run(api, output).await,
            Self::List => {
                let holds: Vec<Shown> = api.all("/erasure/v1/holds").await?;
                output.print(&holds, |holds| match &holds[..] {
                    [] => "no hold stands".to_owned(),
                    some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
                });
            }
            Self::Review { hold, review_on } => {
                let path = format!("/erasure/v1/holds/{hold}/review");
                let shown: Shown = api.post(&path, &json!({"review_on": review_on}), None).await?;
                output.print(&shown, line);
            }
            Self::Release { hold, reason } => {
                let path = format!("/erasure/v1/holds/{hold}/release");
                let shown: Shown = api.post(&path, &json!({"reason": reason}), None).await?;
                output.print(&shown, |hold| format!("{}  released", hold.hold_id));
            }
        }
        Ok(Status::Done)
    }
}

impl Place {
    async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let found = api.lookup(self.phone.read()?, self.country.clone()).await?.into();
        let Found::Subject(subject) = found else {
            output.print(&json!({"status": "subject_unknown"}), |_| "subject_unknown".to_owned());
            return Ok(Status::Refused);
        };
        let hold = json!({
            "subject_id": subject,
            "purpose": self.purpose,
            "reason": self.reason,
            "review_on": self.review_on,
            "ends_at": self.ends_at,
        });
        let shown: Shown = api.post("/erasure/v1/holds", &hold, Some(&idempotency_key())).await?;
        output.print(&shown, line);
        Ok(Status::Done)
    }
}

fn line(hold: &Shown) -> String {
    let purpose = hold.purpose.as_ref().map(|it| format!(" of {it}")).unwrap_or_default();
    let end = hold.ends_at.map(|it| format!(", ends {it}")).unwrap_or_default();
    format!(
        "{}  {}{purpose}, review on {}{end}, by {}",
        hold.hold_id, hold.reason, hold.review_on, hold.placed_by
    )
}
