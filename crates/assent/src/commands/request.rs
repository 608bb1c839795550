//! `assent request`: what people ask for about their data, from the intake to the answer.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use assent_contracts::rights::{ExtensionReason, IdentityMethod, RefusalGround, RequestKind, Term};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::upload::country;
use crate::api::{Api, idempotency_key};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

mod bulk;

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

/// `assent request open`
#[derive(Debug, Args)]
pub struct Open {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// erasure, access, portability, rectification, restriction, objection or opt_out
    #[arg(long, value_parser = named::<RequestKind>)]
    kind: RequestKind,
    /// Of an erasure: the one purpose whose data are meant, as the policy names it. Without it all of hers are
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// Where she says that she is (FR, US-CA): whose law counts beside yours. Without it the country of her number does
    #[arg(long, value_name = "PLACE")]
    place: Option<String>,
    /// When it was received, where that was before now: its terms are counted from there
    #[arg(long, value_name = "TIME")]
    received: Option<Timestamp>,
    /// The ground, as a code of yours
    #[arg(long, value_name = "CODE")]
    reason: Option<String>,
    /// What showed you that she asks herself, as a code of yours; without it that is still to be shown
    #[arg(long, value_name = "CODE")]
    checked: Option<String>,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

/// The answer to an intake.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    request_id: Uuid,
    status: String,
    due: Timestamp,
    reference: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

/// A request in a listing.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    request_id: Uuid,
    kind: RequestKind,
    /// Of an erasure: whose data alone are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    status: String,
    reference: String,
    due: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledge_by: Option<Timestamp>,
}

/// What text shows of a request; machines get all of it.
#[derive(Debug, Deserialize)]
struct Shown {
    kind: RequestKind,
    #[serde(default)]
    purpose: Option<String>,
    status: String,
    #[serde(default)]
    origin: Option<String>,
    reference: String,
    requested_at: Timestamp,
    due: Timestamp,
    #[serde(default)]
    extension: Option<ShownExtension>,
    #[serde(default)]
    terms: Option<ShownTerms>,
    #[serde(default)]
    acknowledged_at: Option<Timestamp>,
    #[serde(default)]
    identity: Option<ShownIdentity>,
    held: bool,
    #[serde(default)]
    completed_at: Option<Timestamp>,
    #[serde(default)]
    refusal: Option<ShownRefusal>,
    #[serde(default)]
    archive: Option<ShownArchive>,
    #[serde(default)]
    rectification: Option<ShownRectification>,
    #[serde(default)]
    restriction: Option<ShownRestriction>,
    #[serde(default)]
    inquiries: Vec<ShownInquiry>,
    #[serde(default)]
    missing: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ShownRectification {
    fields: Vec<String>,
    letter: ShownLetter,
}

#[derive(Debug, Deserialize)]
struct ShownRestriction {
    since: Timestamp,
    #[serde(default)]
    told_how: Option<String>,
    #[serde(default)]
    released_for: Option<String>,
    letter: ShownLetter,
}

#[derive(Debug, Deserialize)]
struct ShownInquiry {
    task: String,
    answer_by: Timestamp,
    recipients: Vec<ShownRecipient>,
}

#[derive(Debug, Deserialize)]
struct ShownRecipient {
    name: String,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    answered_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct ShownTerms {
    #[serde(default)]
    acknowledge: Option<Term>,
    answer: Term,
    #[serde(default)]
    extended: Option<Term>,
}

#[derive(Debug, Deserialize)]
struct ShownIdentity {
    method: String,
    reason: String,
    by: String,
}

#[derive(Debug, Deserialize)]
struct ShownExtension {
    reasons: Vec<String>,
    letter: ShownLetter,
}

#[derive(Debug, Deserialize)]
struct ShownArchive {
    expires_at: Timestamp,
    #[serde(default)]
    collected_at: Option<Timestamp>,
    #[serde(default)]
    removed: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ShownRefusal {
    ground: String,
    letter: ShownLetter,
}

#[derive(Debug, Deserialize)]
struct ShownLetter {
    en: String,
    fr: String,
    ru: String,
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

impl Open {
    async fn run(&self, api: &Api, output: Output) -> Result<(), Failure> {
        let found = api.lookup(self.phone.read()?, self.country.clone()).await?;
        let identity = self.checked.as_ref().map(|it| json!({"method": "operator", "reason": it}));
        let mut request = json!({
            "subject_id": found.subject_id,
            "kind": self.kind,
            "actor": "subject",
            "reason": self.reason,
            "place": self.place,
            "received_at": self.received,
            "addresses": found.addresses,
            "number_country": found.number_country,
            "identity": identity,
        });
        // A service of before refuses the member: it never takes this for the erasure of the whole person.
        if let Some(purpose) = &self.purpose {
            request["purpose"] = json!(purpose);
        }
        let opened: Opened =
            api.post("/erasure/v1/requests", &request, Some(&idempotency_key())).await?;
        output.print(&opened, |it| {
            let mut text = format!("{}\n  request    {}", it.status, it.request_id);
            text.push_str(&format!("\n  due        {}", it.due));
            text.push_str(&format!("\n  reference  {}", it.reference));
            if let Some(secret) = &it.secret {
                text.push_str(&format!("\n  secret     {secret}"));
            }
            text
        });
        Ok(())
    }
}

/// The file is made before anything is asked for: what is handed out once must have its place.
async fn collect(api: &Api, output: Output, reference: &str, file: &Path) -> Result<(), Failure> {
    let mut secret = String::new();
    std::io::stdin()
        .read_line(&mut secret)
        .map_err(|error| Failure::wrong_use(format!("the secret can't be read: {error}")))?;
    let mut written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Failure::file(file, error))?;
    let guess = json!({"reference": reference, "secret": secret.trim()});
    let archive = match api.post_for_bytes("/erasure/v1/tracking/archive", &guess).await {
        Ok(archive) => archive,
        Err(error) => {
            // Nothing was written into it.
            let _ = std::fs::remove_file(file);
            return Err(error.into());
        }
    };
    written.write_all(&archive).map_err(|error| Failure::file(file, error))?;
    written.sync_all().map_err(|error| Failure::file(file, error))?;
    let bytes = archive.len();
    output.print(&json!({"file": file, "bytes": bytes}), |_| {
        format!("{} written, {bytes} bytes", file.display())
    });
    Ok(())
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

fn show(output: Output, shown: &Value) -> Result<(), Failure> {
    let request = Shown::deserialize(shown)
        .map_err(|error| Failure::wrong_use(format!("the answer isn't understood: {error}")))?;
    output.print(shown, |_| text(&request));
    Ok(())
}

fn text(request: &Shown) -> String {
    let mut text = format!("{} {}", request.kind.name(), request.status);
    let mut add = |name: &str, value: String| text.push_str(&format!("\n  {name:<13}{value}"));
    if let Some(purpose) = &request.purpose {
        add("purpose", format!("{purpose}: its data alone"));
    }
    add("reference", request.reference.clone());
    add("requested", request.requested_at.to_string());
    if let Some(origin) = &request.origin {
        add("came by", format!("her own {origin}"));
    }
    add("due", request.due.to_string());
    if let Some(ShownExtension { reasons, letter }) = &request.extension {
        add("extended", reasons.join(", "));
        for letter in [&letter.en, &letter.fr, &letter.ru] {
            add("letter", letter.clone());
        }
    }
    if let Some(terms) = &request.terms {
        let told = request.acknowledged_at.map(|at| format!(", done {at}")).unwrap_or_default();
        let term = |term: &Term| format!("{}, {} ({})", term.last_day, term.article, term.rule);
        if let Some(acknowledge) = &terms.acknowledge {
            add("acknowledge", format!("by {}{told}", term(acknowledge)));
        }
        add("answer", format!("by {}", term(&terms.answer)));
        if let Some(longest) = &terms.extended {
            add("extendable", format!("to {}", term(longest)));
        }
    }
    if let Some(identity) = &request.identity {
        add("identity", format!("{}: {}, by {}", identity.method, identity.reason, identity.by));
    }
    if request.held {
        add("on hold", "a legal hold keeps her data".to_owned());
    }
    if !request.missing.is_empty() {
        add("missing", request.missing.join(", "));
    }
    if let Some(at) = request.completed_at {
        add("over", at.to_string());
    }
    if let Some(archive) = &request.archive {
        let ShownArchive { expires_at, collected_at, removed } = archive;
        let waits = || format!("can be collected until {expires_at}");
        let gone = || removed.as_ref().map(|why| format!("destroyed uncollected: {why}"));
        let text = collected_at.map(|at| format!("collected {at}")).or_else(gone);
        add("archive", text.unwrap_or_else(waits));
    }
    if let Some(ShownRefusal { ground, letter }) = &request.refusal {
        add("refused", ground.clone());
        for letter in [&letter.en, &letter.fr, &letter.ru] {
            add("letter", letter.clone());
        }
    }
    if let Some(ShownRectification { fields, letter }) = &request.rectification {
        add("rectified", fields.join(", "));
        for letter in [&letter.en, &letter.fr, &letter.ru] {
            add("letter", letter.clone());
        }
    }
    if let Some(ShownRestriction { since, told_how, released_for, letter }) = &request.restriction {
        let how = told_how.as_ref().map(|how| format!(", end announced: {how}"));
        let over = released_for.as_ref().map(|why| format!(", released: {why}"));
        let (how, over) = (how.unwrap_or_default(), over.unwrap_or_default());
        add("restricted", format!("since {since}{how}{over}"));
        for letter in [&letter.en, &letter.fr, &letter.ru] {
            add("letter", letter.clone());
        }
    }
    for ShownInquiry { task, answer_by, recipients } in &request.inquiries {
        for ShownRecipient { name, owner, answered_at } in recipients {
            let owner = owner.as_ref().map(|owner| format!(" ({owner})")).unwrap_or_default();
            let answer = match answered_at {
                Some(at) => format!("answered {at}"),
                None => format!("not answered, waited for until {answer_by}"),
            };
            add("recipient", format!("{name}{owner}: {task}, {answer}"));
        }
    }
    text
}

fn line(request: &Listed) -> String {
    let Listed { request_id, kind, purpose, status, reference, due, acknowledge_by } = request;
    let acknowledge = acknowledge_by.map(|by| format!("  acknowledge by {by}")).unwrap_or_default();
    let purpose = purpose.as_ref().map(|it| format!("  of {it} alone")).unwrap_or_default();
    let kind = kind.name();
    format!("{due}  {kind:<13} {status:<16} {reference}  {request_id}{purpose}{acknowledge}")
}

/// A value by its name in JSON.
fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())
}
