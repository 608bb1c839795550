//! `assent preferences`: links to a person's preference page.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{PreferenceLink, Revoked};
use clap::{Args, Subcommand};
use serde_json::json;

use super::upload::country;
use crate::api::{Api, Found};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

/// `assent preferences …`
#[derive(Debug, Subcommand)]
pub enum Preferences {
    /// Make a link to a person's preference page.
    #[command(after_help = "\
Examples:
  assent preferences link '+33 6 39 98 00 01'
  echo '06 39 98 00 01' | assent preferences link - --country FR --json

Whoever has the link can opt her out, and nothing else: to see or change more, a message from her number
is asked for. Exit status: 0 made, 1 the person is not known, 2 wrong use, 3 a service didn't answer.")]
    Link(Whose),
    /// Revoke all links to a person's preference page; they stay good for opting out.
    #[command(after_help = "\
Examples:
  assent preferences revoke '+33 6 39 98 00 01'

Exit status: 0 revoked, 1 the person is not known, 2 wrong use, 3 a service didn't answer.")]
    Revoke(Whose),
}

/// Whose page.
#[derive(Debug, Args)]
pub struct Whose {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

impl Whose {
    async fn find(&self, api: &Api) -> Result<SubjectId, Failure> {
        match api.lookup(self.phone.read()?, self.country.clone()).await?.into() {
            Found::Subject(subject) => Ok(subject),
            Found::Nobody { .. } => Err(Failure {
                status: Status::Refused,
                code: "subject_unknown".to_owned(),
                message: "nobody with this number is known".to_owned(),
            }),
        }
    }
}

impl Preferences {
    /// Runs it.
    ///
    /// # Errors
    /// When the person isn't known or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Link(whose) => {
                let subject = whose.find(api).await?;
                let path = format!("/consent/v1/subjects/{subject}/preference-links");
                let link: PreferenceLink = api.post(&path, &json!({}), None).await?;
                output.print(&link, |link| {
                    link.url.clone().unwrap_or_else(|| {
                        format!("/p/{} ([services] public_url is not configured)", link.token)
                    })
                });
            }
            Self::Revoke(whose) => {
                let subject = whose.find(api).await?;
                let path = format!("/consent/v1/subjects/{subject}/preference-links/revoke");
                let revoked: Revoked = api.post(&path, &json!({}), None).await?;
                output.print(&revoked, |Revoked { revoked }| {
                    format!("revoked: {revoked} links are good for opting out only from now on")
                });
            }
        }
        Ok(Status::Done)
    }
}
