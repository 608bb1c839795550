//! `assent parked`: messages that a consumer could not apply, with everything later of their key
//! waiting behind them. They are shown by coordinates and reason, never by content.

use assent_contracts::topics;
use assent_http::Code;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};

/// Services whose consumers can park messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consumer {
    /// The consent service.
    Consent,
    /// The vault.
    Vault,
    /// Messaging.
    Messaging,
    /// The projector.
    Projector,
}

impl Consumer {
    const ALL: [Self; 4] = [Self::Consent, Self::Vault, Self::Messaging, Self::Projector];

    fn name(self) -> &'static str {
        match self {
            Self::Consent => "consent",
            Self::Vault => "vault",
            Self::Messaging => "messaging",
            Self::Projector => "projector",
        }
    }
}

/// `assent parked …`
#[derive(Debug, Subcommand)]
pub enum Parked {
    /// List parked messages.
    #[command(
        after_help = "Examples:\n  assent parked list\n  assent parked list --service projector --json"
    )]
    List {
        /// Only those of this service.
        #[arg(long)]
        service: Option<Consumer>,
    },
    /// Show one, read again from Kafka.
    #[command(after_help = "Examples:\n  assent parked show contacts:vault.events.v1:3:1042")]
    Show {
        /// `consumer:topic:partition:offset`, as `list` gives it.
        id: String,
        /// The service, if known: saves asking each.
        #[arg(long)]
        service: Option<Consumer>,
    },
    /// Apply it again, and in order what waits behind it.
    #[command(after_help = "\
Examples:
  assent parked replay contacts:vault.events.v1:3:1042

Exit status: 0 applied, 1 still refused (with the reason), 2 wrong use, 3 a service didn't answer.")]
    Replay {
        /// `consumer:topic:partition:offset`, as `list` gives it.
        id: String,
        /// The service, if known.
        #[arg(long)]
        service: Option<Consumer>,
    },
    /// Give it up, on record: its key goes on after it, and a rebuild passes over it.
    #[command(after_help = "\
Examples:
  assent parked discard contacts:vault.events.v1:3:1042 --reason bad_producer_2026_11")]
    Discard {
        /// `consumer:topic:partition:offset`, as `list` gives it.
        id: String,
        /// Why: a code of lower-case letters, digits and `_`; no free text.
        #[arg(long)]
        reason: String,
        /// The service, if known.
        #[arg(long)]
        service: Option<Consumer>,
    },
}

impl Parked {
    /// Runs it.
    ///
    /// # Errors
    /// When a service doesn't answer or the message isn't known.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::List { service } => list(api, output, *service).await,
            Self::Show { id, service } => {
                let (_, shown) = find(api, id, *service).await?;
                output.print(&shown, pretty);
                Ok(Status::Done)
            }
            Self::Replay { id, service } => {
                let (service, _) = find(api, id, *service).await?;
                let path = format!("/{}/v1/parked/{}/replay", service.name(), path_id(id)?);
                match api.post::<_, Value>(&path, &json!({}), None).await {
                    Ok(answer) => {
                        output.print(&answer, pretty);
                        Ok(Status::Done)
                    }
                    Err(error) if error.code() == Some(Code::ParkedStateConflict) => {
                        let refused = Failure::from(error);
                        Ok(output.fail(&Failure { status: Status::Refused, ..refused }))
                    }
                    Err(error) => Err(error.into()),
                }
            }
            Self::Discard { id, reason, service } => {
                let (service, _) = find(api, id, *service).await?;
                let path = format!("/{}/v1/parked/{}/discard", service.name(), path_id(id)?);
                let _: Value = api.post(&path, &json!({ "reason": reason }), None).await?;
                output.print(&json!({"discarded": id}), |_| format!("discarded {id}"));
                Ok(Status::Done)
            }
        }
    }
}

async fn list(api: &Api, output: Output, only: Option<Consumer>) -> Result<Status, Failure> {
    let mut items = Vec::new();
    for service in Consumer::ALL.into_iter().filter(|service| only.is_none_or(|it| it == *service))
    {
        let mut cursor: Option<String> = None;
        loop {
            let next =
                cursor.as_ref().map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
            let path = format!("/{}/v1/parked?limit=500{next}", service.name());
            let page: Value = match api.get(&path).await {
                Ok(page) => page,
                Err(error) if error.code() == Some(Code::NotFound) => {
                    output.remark(&format!("{} shows no parked messages", service.name()));
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            for item in page["items"].as_array().into_iter().flatten() {
                let mut item = item.clone();
                item["service"] = json!(service.name());
                items.push(item);
            }
            cursor = page["next"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
    }
    output.print(&items, |items| {
        if items.is_empty() {
            return "nothing is parked".to_owned();
        }
        let column = |item: &Value, name: &str| item[name].as_str().unwrap_or("").to_owned();
        let line = |item: &Value| {
            format!(
                "{:<10} {:<40} {:<28} {}",
                column(item, "service"),
                column(item, "event_type"),
                column(item, "reason"),
                column(item, "id")
            )
        };
        items.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(Status::Done)
}

/// The service that parked it, with what it shows.
async fn find(api: &Api, id: &str, only: Option<Consumer>) -> Result<(Consumer, Value), Failure> {
    let id_in_path = path_id(id)?;
    let mut last = None;
    for service in Consumer::ALL.into_iter().filter(|service| only.is_none_or(|it| it == *service))
    {
        match api.get(&format!("/{}/v1/parked/{id_in_path}", service.name())).await {
            Ok(shown) => return Ok((service, shown)),
            Err(error) => match error.code() {
                Some(Code::ParkedUnknown | Code::NotFound) => last = last.or(Some(error)),
                _ => last = Some(error),
            },
        }
    }
    Err(last.map_or_else(|| Failure::wrong_use("no service was asked"), Failure::from))
}

/// The id as it may stand in a path: nothing but what ids are made of.
fn path_id(id: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte);
    let topic = id.split(':').nth(1).and_then(topics::by_suffix);
    if id.bytes().all(plain) && topic.is_some() {
        Ok(id)
    } else {
        Err(Failure::wrong_use(
            "an id is consumer:topic:partition:offset, as `assent parked list` gives it",
        ))
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
