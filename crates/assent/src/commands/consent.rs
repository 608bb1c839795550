//! `assent consent grant`, `ask`, `refuse` and `withdraw`: what a person said, recorded by an operator, and
//! the question to her. Evidence is
//! sealed by the vault before it travels on; a withdrawal returns when it is settled.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    AgeRequest, AskRequest, ConsentAnswer, GrantRequest, Unconfirmed, WithdrawRequest,
};
use assent_contracts::api::vault::{
    ImportOutcome, ImportRequest, ImportResponse, ImportRow, SealRequest, SealResponse,
};
use assent_contracts::consent::{Actor, AgeBasis, Method};
use assent_contracts::sealed::Sealed;
use assent_contracts::vault::Origin;
use assent_http::ClientError;
use assent_runtime::{Ids, SystemIds};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::upload::country;
use crate::api::{Api, Found, idempotency_key};
use crate::outcome::{Failure, Output, Status};
use crate::phone::Phone;

/// `assent consent …`
#[derive(Debug, Subcommand)]
pub enum Consent {
    /// Record that a person agreed.
    #[command(after_help = "\
Examples:
  assent consent grant '+33 6 39 98 00 01' --purpose marketing --channel whatsapp \\
      --evidence 'paper form of 3 May, folder 12'
  echo '06 39 98 00 01' | assent consent grant - --country FR --purpose marketing \\
      --channel whatsapp --evidence 'counter, shop Lyon' --method paper --place shop-lyon --json

To a purpose with double opt-in it counts once she has confirmed it; the answer says how. Exit status:
0 recorded, 1 refused (erased, suppressed), 2 wrong use, 3 a service didn't answer.")]
    Grant {
        /// Whose consent, to what.
        #[command(flatten)]
        what: What,
        /// How she agreed; sealed under her key.
        #[arg(long)]
        evidence: String,
        /// In which language she was asked; without it: the controller's first one.
        #[arg(long, value_name = "TAG")]
        language: Option<String>,
        /// A holder of parental responsibility agreed for her; the evidence shows it.
        #[arg(long)]
        guardian: bool,
    },
    /// Record how old a person is; what is kept is whether that is old enough.
    #[command(after_help = "\
Examples:
  assent consent age '+33 6 39 98 00 01' --years 14 --lives-in FR
  assent consent age - --years 17 --verified --evidence 'school card seen 3 May' --json

Below the age of consent of the strictest law that may apply a parent agrees for her (`assent consent grant
--guardian`); some laws let nobody advertise to children at all. Exit status: 0 recorded, 1 the person
is not known, 2 wrong use, 3 a service didn't answer.")]
    Age {
        /// Phone number in any spelling; `-` reads it from standard input.
        phone: Phone,
        /// How many years she has completed.
        #[arg(long)]
        years: u8,
        /// It was looked at, and the evidence says how; otherwise somebody said so.
        #[arg(long, requires = "evidence")]
        verified: bool,
        /// What was looked at; sealed under her key.
        #[arg(long)]
        evidence: Option<String>,
        /// Where she says that she lives, such as FR or US-CA; without it her number's country counts.
        #[arg(long, value_name = "PLACE")]
        lives_in: Option<String>,
        /// Country of a number without a country code.
        #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
        country: Option<String>,
    },
    /// Have a person asked for her consent, by one message.
    #[command(after_help = "\
Examples:
  assent consent ask '+33 6 39 98 00 01' --purpose marketing --channel whatsapp
  assent consent ask - --purpose marketing --channel whatsapp --language fr --json

Only within a day of a message of hers, or while a consent in force ends soon; not again before the policy
and the law allow it. Renewals are asked for by themselves. Exit status: 0 she is asked, 1 she may not be
(with the reason), 2 wrong use, 3 a service didn't answer.")]
    Ask {
        /// Phone number in any spelling; `-` reads it from standard input.
        phone: Phone,
        /// For which purpose.
        #[arg(long)]
        purpose: String,
        /// On which channel.
        #[arg(long)]
        channel: String,
        /// In which language; without it: the one in which she agreed before, else the controller's first.
        #[arg(long, value_name = "TAG")]
        language: Option<String>,
        /// Country of a number without a country code.
        #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
        country: Option<String>,
    },
    /// Record that a person said no when she was asked.
    #[command(after_help = "\
Examples:
  assent consent refuse '+33 6 39 98 00 01' --purpose marketing --channel whatsapp
  assent consent refuse - --purpose marketing --channel whatsapp --evidence 'call of 4 May'

A refusal is kept: she isn't asked as if she had never been. Where it ends a consent it returns when
that is settled. Exit status: 0 recorded, 1 the person is not known, 2 wrong use, 3 a service didn't
answer (run it again).")]
    Refuse {
        /// What she refused.
        #[command(flatten)]
        what: What,
        /// How she said it; sealed under her key.
        #[arg(long)]
        evidence: Option<String>,
    },
    /// Record that a person withdrew; returns when it is settled.
    #[command(after_help = "\
Examples:
  assent consent withdraw '+33 6 39 98 00 01' --purpose marketing --channel whatsapp
  assent consent withdraw - --purpose '*' --channel '*' --evidence 'call of 4 May'
  assent consent withdraw '+33 6 39 98 00 01' --purpose marketing --channel whatsapp \\
      --evidence 'letter of 3 May' --acted-at 2026-05-03T12:00:00Z

After it returned, no send starts that rests on what was withdrawn. Exit status: 0 settled, 1 the
person is not known, 2 wrong use, 3 a service didn't answer (run it again).")]
    Withdraw {
        /// Whose consent, to what.
        #[command(flatten)]
        what: What,
        /// How she said it; sealed under her key.
        #[arg(long)]
        evidence: Option<String>,
    },
}

/// Whose consent, to what.
#[derive(Debug, Args)]
pub struct What {
    /// Phone number in any spelling; `-` reads it from standard input.
    phone: Phone,
    /// Which purpose.
    #[arg(long)]
    purpose: String,
    /// On which channel.
    #[arg(long)]
    channel: String,
    /// By which road it came.
    #[arg(long, value_enum, default_value_t = Road::Operator)]
    method: Road,
    /// Where it happened, as a code of yours, such as shop-lyon.
    #[arg(long, value_name = "CODE")]
    place: Option<String>,
    /// When she acted, where that is told later than it happened: a letter of Monday.
    #[arg(long, value_name = "TIME")]
    acted_at: Option<Timestamp>,
    /// Country of a number without a country code.
    #[arg(long, value_name = "CC", env = "ASSENT_COUNTRY", value_parser = country)]
    country: Option<String>,
}

/// By which road an operator hears what a person says.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Road {
    /// Not said.
    Operator,
    /// A paper form or a letter.
    Paper,
    /// A telephone call.
    Phone,
    /// A form on a website.
    WebForm,
}

impl From<Road> for Method {
    fn from(road: Road) -> Self {
        match road {
            Road::Operator => Self::Api,
            Road::Paper => Self::Paper,
            Road::Phone => Self::Phone,
            Road::WebForm => Self::WebForm,
        }
    }
}

#[derive(Debug, Serialize)]
struct Recorded {
    status: &'static str,
    subject_id: Option<SubjectId>,
    events: Vec<Uuid>,
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unconfirmed: Option<Unconfirmed>,
}

impl Consent {
    /// Runs it.
    ///
    /// # Errors
    /// When it is refused or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Grant { what, evidence, language, guardian } => {
                let subject_id = match who_grants(api, what).await? {
                    Ok(subject) => subject,
                    Err(reason) => return Ok(refuse(output, reason)),
                };
                let request = GrantRequest {
                    subject_id,
                    purpose: what.purpose.clone(),
                    channel: what.channel.clone(),
                    actor: if *guardian { Actor::Guardian } else { Actor::Operator },
                    method: what.method.into(),
                    evidence: Some(seal(api, subject_id, evidence).await?),
                    acted_at: what.acted_at,
                    locale: language.clone(),
                    notice_hash: None,
                    place: what.place.clone(),
                    addresses: Vec::new(),
                };
                let answer: ConsentAnswer = api
                    .post("/consent/v1/consents/grant", &request, Some(&idempotency_key()))
                    .await?;
                let status = if answer.unconfirmed.is_some() { "unconfirmed" } else { "granted" };
                Ok(done(output, status, answer))
            }
            Self::Age { phone, years, verified, evidence, lives_in, country } => {
                let found = api.lookup(phone.read()?, country.clone()).await?;
                let number_country = found.number_country.clone();
                let subject_id = match found.into() {
                    Found::Subject(subject) => subject,
                    Found::Nobody { barred } => {
                        let reason = barred.unwrap_or_else(|| "subject_unknown".to_owned());
                        return Ok(refuse(output, reason));
                    }
                };
                let evidence = match evidence {
                    Some(text) => Some(seal(api, subject_id, text).await?),
                    None => None,
                };
                let request = AgeRequest {
                    subject_id,
                    basis: if *verified { AgeBasis::Verified } else { AgeBasis::Stated },
                    years: *years,
                    lives_in: lives_in.clone(),
                    number_country,
                    actor: Actor::Operator,
                    evidence,
                };
                let key = idempotency_key();
                let answer = api.post("/consent/v1/ages", &request, Some(&key)).await?;
                Ok(done(output, "age recorded", answer))
            }
            Self::Ask { phone, purpose, channel, language, country } => {
                let subject_id = match api.lookup(phone.read()?, country.clone()).await?.into() {
                    Found::Subject(subject) => subject,
                    Found::Nobody { barred } => {
                        let reason = barred.unwrap_or_else(|| "subject_unknown".to_owned());
                        return Ok(refuse(output, reason));
                    }
                };
                let request = AskRequest {
                    subject_id,
                    purpose: purpose.clone(),
                    channel: channel.clone(),
                    locale: language.clone(),
                };
                let asked: Result<ConsentAnswer, ClientError> =
                    api.post("/consent/v1/consents/ask", &request, Some(&idempotency_key())).await;
                match asked {
                    Ok(answer) => Ok(done(output, "asked", answer)),
                    Err(ClientError::Problem { code: Some(code), body, .. })
                        if code == "ask_not_allowed" =>
                    {
                        let reason = body["reason"].as_str().unwrap_or(&code).to_owned();
                        Ok(refuse(output, reason))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Self::Refuse { what, evidence } => {
                say_no(api, output, what, evidence.as_deref(), ("refuse", "refusal recorded")).await
            }
            Self::Withdraw { what, evidence } => {
                say_no(api, output, what, evidence.as_deref(), ("withdraw", "withdrawn")).await
            }
        }
    }
}

/// Records a no, by the endpoint and under the status that are named.
async fn say_no(
    api: &Api,
    output: Output,
    what: &What,
    evidence: Option<&str>,
    (endpoint, status): (&str, &'static str),
) -> Result<Status, Failure> {
    let phone = what.phone.read()?;
    let subject_id = match api.lookup(phone, what.country.clone()).await?.into() {
        Found::Subject(subject) => subject,
        Found::Nobody { barred } => {
            let reason = barred.unwrap_or_else(|| "subject_unknown".to_owned());
            output.remark("nobody with this number is known; `assent suppress` keeps a number out");
            return Ok(refuse(output, reason));
        }
    };
    let evidence = match evidence {
        Some(text) => Some(seal(api, subject_id, text).await?),
        None => None,
    };
    let request = WithdrawRequest {
        subject_id,
        purpose: what.purpose.clone(),
        channel: what.channel.clone(),
        actor: Actor::Operator,
        method: what.method.into(),
        evidence,
        acted_at: what.acted_at,
        place: what.place.clone(),
    };
    let path = format!("/consent/v1/consents/{endpoint}");
    let answer = api.post(&path, &request, Some(&idempotency_key())).await?;
    Ok(done(output, status, answer))
}

/// Who grants. Somebody new comes in first, by the operator's hand, which an erasure or a
/// suppression forbids; then the answer is the reason.
async fn who_grants(api: &Api, what: &What) -> Result<Result<SubjectId, String>, Failure> {
    let phone = what.phone.read()?;
    if let Found::Subject(subject) = api.lookup(phone.clone(), what.country.clone()).await?.into() {
        return Ok(Ok(subject));
    }
    let row = ImportRow { phone, country: what.country.clone(), ..ImportRow::default() };
    let request = ImportRequest { origin: Origin::Operator, acted_at: None, rows: vec![row] };
    let answer: ImportResponse = api.post("/vault/v1/subjects/import", &request, None).await?;
    match answer.outcomes.into_iter().next() {
        Some(ImportOutcome::Created { subject_id } | ImportOutcome::Existing { subject_id }) => {
            Ok(Ok(subject_id))
        }
        Some(ImportOutcome::Refused { reason }) => Ok(Err(reason)),
        Some(ImportOutcome::Rejected { reason, .. }) => {
            Err(Failure::wrong_use(format!("the number was rejected: {reason}")))
        }
        None => Err(Failure::wrong_use("the vault gave no outcome")),
    }
}

async fn seal(api: &Api, subject_id: SubjectId, text: &str) -> Result<Sealed, Failure> {
    let request = SealRequest {
        subject_id,
        record: SystemIds.v7(),
        field: "consent.evidence".to_owned(),
        text: text.to_owned(),
    };
    let answer: SealResponse = api.post("/vault/v1/seal", &request, None).await?;
    Ok(answer.sealed)
}

fn done(output: Output, status: &'static str, answer: ConsentAnswer) -> Status {
    let subject_id = Some(answer.subject_id);
    let ConsentAnswer { events, unconfirmed, .. } = answer;
    let recorded = Recorded { status, subject_id, events, reasons: Vec::new(), unconfirmed };
    output.print(&recorded, |recorded| {
        if let Some(Unconfirmed { code, link, expires_at, .. }) = &recorded.unconfirmed {
            format!(
                "unconfirmed: it counts once she has sent {code} by WhatsApp from this number, or \
                 opened the link\nlink: {link}\nuntil: {expires_at}"
            )
        } else if recorded.events.is_empty() {
            format!("{status} already: nothing had to change")
        } else {
            let events: Vec<String> = recorded.events.iter().map(Uuid::to_string).collect();
            format!("{status}: event {}", events.join(", "))
        }
    });
    Status::Done
}

fn refuse(output: Output, reason: String) -> Status {
    let refused = Recorded {
        status: "refused",
        subject_id: None,
        events: Vec::new(),
        reasons: vec![reason],
        unconfirmed: None,
    };
    output.print(&refused, |refused| format!("refused: {}", refused.reasons.join(", ")));
    Status::Refused
}
