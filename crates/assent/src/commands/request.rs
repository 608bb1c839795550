//! `assent request`: what people ask for about their data, from the intake to the answer.

use std::path::PathBuf;

use assent_contracts::rights::{ExtensionReason, IdentityMethod, RefusalGround};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use uuid::Uuid;

use self::collect::collect;
use self::open::Open;
use self::shown::{Listed, line, show};
use super::upload::country;
use crate::api::Api;
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

mod bulk;
mod collect;
mod open;
mod shown;

/// `assent request …`
#[derive(Debug, Subcommand)]
pub enum Request {
    /// Take a request in: what she asks for, and where she is.
    #[command(after_help = "\
Examples:
  assent request open '+33 6 39 98 00 01' --kind access --place FR
  assent request open - --kind opt_out --place US-CA --json < number.txt

Give her the reference and the secret; the secret isn't shown again. It looks the same whether she is known here or not. With the scope gate:write what asks for a stop stops a number that nobody here has, too. Exit status: 0 taken in, 2 wrong use, 3 a service didn't answer.")]
    Open(Open),
    /// Ask for the erasure of everybody in a file.
    Bulk(bulk::Bulk),
    /// Show how far a bulk is.
    #[command(after_help = "\
Examples:
  assent request bulk-progress 01a2104b-d59b-74f5-9e99-f55a7729061a
  assent request bulk-progress 01a2104b-d59b-74f5-9e99-f55a7729061a --wait

Exit status: 0 shown (with --wait: through), 1 somebody could not be taken, 2 wrong use, 3 a service didn't answer.")]
    BulkProgress {
        /// The bulk.
        bulk: Uuid,
        /// Return when it is through.
        #[arg(long)]
        wait: bool,
    },
    /// List requests: those that are not over, the next due first.
    #[command(after_help = "\
Examples:
  assent request list
  assent request list --all --json")]
    List {
        /// All of them, newest first.
        #[arg(long)]
        all: bool,
    },
    /// Show where a request stands, and by when what must be done.
    #[command(after_help = "\
Examples:
  assent request show 01a2104b-d59b-74f5-9e99-f55a7729061a")]
    Show(One),
    /// Record that she was told that it has arrived.
    #[command(after_help = "\
Examples:
  assent request acknowledge 01a2104b-d59b-74f5-9e99-f55a7729061a")]
    Acknowledge(One),
    /// Record how it was shown that she asks herself. An erasure begins.
    #[command(after_help = "\
Examples:
  assent request identity 01a2104b-d59b-74f5-9e99-f55a7729061a --method number_reply --reason code_repeated
  assent request identity 01a2104b-d59b-74f5-9e99-f55a7729061a --reason known_customer

Exit status: 0 recorded, 1 the request is over, 2 wrong use, 3 a service didn't answer.")]
    Identity {
        /// The request.
        request: Uuid,
        /// number_reply, signed_link or operator
        #[arg(long, default_value = "operator", value_parser = named::<IdentityMethod>)]
        method: IdentityMethod,
        /// What was looked at, as a code of yours.
        #[arg(long, value_name = "CODE")]
        reason: String,
    },
    /// Extend its term while it runs, and get what she is to be told.
    #[command(after_help = "\
Examples:
  assent request extend 01a2104b-d59b-74f5-9e99-f55a7729061a --reason complexity

Exit status: 0 extended, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Extend {
        /// The request.
        request: Uuid,
        /// complexity or number_of_requests
        #[arg(long, required = true, value_parser = named::<ExtensionReason>)]
        reason: Vec<ExtensionReason>,
    },
    /// Refuse it, and get what she is to be told.
    #[command(after_help = "\
Examples:
  assent request refuse 01a2104b-d59b-74f5-9e99-f55a7729061a --ground identity_not_shown

Exit status: 0 refused, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Refuse {
        /// The request.
        request: Uuid,
        /// identity_not_shown, manifestly_unfounded, excessive, nothing_held, freedom_of_expression, legal_obligation, public_health, archiving_or_research, legal_claims, rights_of_others or accurate_already
        #[arg(long, value_parser = named::<RefusalGround>)]
        ground: RefusalGround,
    },
    /// Put right what is held of her: the vault holds it since, and recipients outside are told.
    #[command(after_help = "\
Examples:
  assent request rectify 01a2104b-d59b-74f5-9e99-f55a7729061a --name 'Ana Neuf' --email ana@example.org
  assent request rectify 01a2104b-d59b-74f5-9e99-f55a7729061a --phone - < number.txt

All that is wrong goes into one call: it answers the request. What is empty ('') was wrong and goes. Exit status: 0 done, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Rectify {
        /// The request.
        request: Uuid,
        /// Her number in any spelling; `-` reads it from standard input.
        #[arg(long)]
        phone: Option<Phone>,
        /// Country of a number without a country code.
        #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
        country: Option<String>,
        /// Her name.
        #[arg(long)]
        name: Option<String>,
        /// Her e-mail address.
        #[arg(long)]
        email: Option<String>,
    },
    /// Keep her data and don't use them (GDPR Article 18): nothing is sent to her until it is released.
    #[command(after_help = "\
Examples:
  assent request restrict 01a2104b-d59b-74f5-9e99-f55a7729061a

It answers the request. Exit status: 0 it stands, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Restrict(One),
    /// Record that she was told that the restriction will be lifted: before it is (Article 18(3)).
    #[command(after_help = "\
Examples:
  assent request announce-release 01a2104b-d59b-74f5-9e99-f55a7729061a --how letter

The letter is printed, and stands where she tracks her request. Exit status: 0 recorded, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    AnnounceRelease {
        /// The request.
        request: Uuid,
        /// How she was told, as a code of yours.
        #[arg(long, value_name = "CODE")]
        how: String,
    },
    /// Lift the restriction, once she was told.
    #[command(after_help = "\
Examples:
  assent request release 01a2104b-d59b-74f5-9e99-f55a7729061a --reason data_verified

Exit status: 0 it is over, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Release {
        /// The request.
        request: Uuid,
        /// Why, as a code of yours.
        #[arg(long, value_name = "CODE")]
        reason: String,
    },
    /// Record that what she asked for was done. An erasure is answered by its completion.
    #[command(after_help = "\
Examples:
  assent request answer 01a2104b-d59b-74f5-9e99-f55a7729061a

Exit status: 0 recorded, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Answer(One),
    /// Put together what is held on her, anew too: what she can collect by her reference and secret.
    #[command(after_help = "\
Examples:
  assent request archive 01a2104b-d59b-74f5-9e99-f55a7729061a

Once it is shown that she asks herself this happens by itself. Exit status: 0 it can be collected, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Archive(One),
    /// Collect what an access or a portability request is answered with: once.
    #[command(after_help = "\
Examples:
  assent request collect 4K7QX-9B2MT data.zip < secret.txt

People do this on the page /requests. The secret is read from standard input. Exit status: 0 written, 1 there is none (any more), 2 wrong use, 3 a service didn't answer.")]
    Collect {
        /// The reference that she was given.
        reference: String,
        /// The file to write: a zip. One that is there is not written over.
        file: PathBuf,
    },
}

/// A request.
#[derive(Debug, Args)]
pub struct One {
    /// The request.
    request: Uuid,
}

impl Request {
    /// Runs it.
    ///
    /// # Errors
    /// When the service refuses or doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Open(open) => open.run(api, output).await?,
            Self::Bulk(bulk) => return bulk.run(api, output).await,
            Self::BulkProgress { bulk, wait } => {
                return bulk::follow(api, output, *bulk, *wait).await;
            }
            Self::List { all } => {
                let order = if *all { "newest" } else { "due" };
                let path = format!("/erasure/v1/requests?order={order}");
                let listed: Vec<Listed> = api.all(&path).await?;
                output.print(&listed, |listed| match &listed[..] {
                    [] => "no request".to_owned(),
                    some => some.iter().map(line).collect::<Vec<_>>().join("\n"),
                });
            }
            Self::Show(One { request }) => {
                let shown: Value = api.get(&format!("/erasure/v1/requests/{request}")).await?;
                show(output, &shown)?;
            }
            Self::Acknowledge(One { request }) => {
                act(api, output, *request, "acknowledgement", &json!({})).await?;
            }
            Self::Identity { request, method, reason } => {
                let check = json!({"method": method, "reason": reason});
                act(api, output, *request, "identity", &check).await?;
            }
            Self::Extend { request, reason } => {
                act(api, output, *request, "extension", &json!({"reasons": reason})).await?;
            }
            Self::Refuse { request, ground } => {
                act(api, output, *request, "refusal", &json!({"ground": ground})).await?;
            }
            Self::Rectify { request, phone, country, name, email } => {
                let phone = phone.as_ref().map(Phone::read).transpose()?;
                let right =
                    json!({"phone": phone, "country": country, "name": name, "email": email});
                act(api, output, *request, "rectification", &right).await?;
            }
            Self::Restrict(One { request }) => {
                act(api, output, *request, "restriction", &json!({})).await?;
            }
            Self::AnnounceRelease { request, how } => {
                act(api, output, *request, "restriction/notice", &json!({"how": how})).await?;
            }
            Self::Release { request, reason } => {
                let over = json!({"reason": reason});
                act(api, output, *request, "restriction/release", &over).await?;
            }
            Self::Answer(One { request }) => {
                act(api, output, *request, "answer", &json!({})).await?;
            }
            Self::Archive(One { request }) => {
                act(api, output, *request, "archive", &json!({})).await?;
            }
            Self::Collect { reference, file } => collect(api, output, reference, file).await?,
        }
        Ok(Status::Done)
    }
}

async fn act(
    api: &Api,
    output: Output,
    request: Uuid,
    what: &str,
    body: &Value,
) -> Result<(), Failure> {
    let path = format!("/erasure/v1/requests/{request}/{what}");
    let shown: Value = api.post(&path, body, None).await?;
    show(output, &shown)
}

/// A value by its name in JSON.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())
}
