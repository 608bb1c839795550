//! `assent participant`: who takes part in erasures, and whether a team's service does it as agreed.

mod check;
mod judge;
mod stand_in;
mod webhook;

use clap::Subcommand;
use serde_json::{Value, json};

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};
use check::Check;

/// `assent participant …`
#[derive(Debug, Subcommand)]
pub enum Participant {
    /// Register a service, or change how it is registered.
    #[command(after_help = "\
Examples:
  assent participant register crm --owner crm-team
  assent participant register crm --owner crm-team --key crm-2026 --json
  assent participant register crm --owner crm-team --webhook https://crm.example.org/assent
  assent participant register crm --no-webhook

From now on every erasure asks it, those that are open included. First it loads the list of the erased
(GET /erasure/v1/erased). The key is the name of an entry of the key file with the scope erasure:ack; only that key
answers for it. With --webhook it is called, at a host that [erasure] webhook_hosts names; the secret that its calls
are signed with is printed this once. With --no-webhook it is called no more and reads Kafka: what waited to be told
stands there.")]
    Register {
        /// Its name: 1 to 64 of a-z, 0-9, `-` and `_`.
        name: String,
        /// A code for the team to turn to when it doesn't answer.
        #[arg(long)]
        owner: Option<String>,
        /// The name of the bearer key that answers for it [default: as it is; a newcomer's own name]
        #[arg(long)]
        key: Option<String>,
        /// It keeps keys of persons, and so is asked to destroy them.
        #[arg(long)]
        keeps_keys: bool,
        /// Where it is called; without one it reads Kafka [default: as it is]
        #[arg(long, value_name = "URL")]
        webhook: Option<String>,
        /// Call it no more: its address and secrets go, and it reads Kafka
        #[arg(long, conflicts_with = "webhook")]
        no_webhook: bool,
    },
    /// Give it another secret for its webhook; the one before signs too until it is ended.
    #[command(after_help = "\
Examples:
  assent participant rotate crm
  assent participant rotate crm --end

The secret is printed this once. Give it to the team, and end the one before when they say that they have it. At most
two stand: a second rotation ends the oldest.")]
    Rotate {
        /// Its name.
        name: String,
        /// End the secret of before instead.
        #[arg(long)]
        end: bool,
    },
    /// List who takes part, those that left included.
    #[command(
        after_help = "Examples:\n  assent participant list\n  assent participant list --json"
    )]
    List,
    /// Take no answers of it until it is resumed, for example while its key is in wrong hands.
    #[command(after_help = "\
Examples:
  assent participant suspend crm

Erasures wait for it all the same, and show who is missing. What it answered before stands: look at that too.")]
    Suspend {
        /// Its name.
        name: String,
    },
    /// Take its answers again after a suspension.
    #[command(after_help = "\
Examples:
  assent participant register crm --key crm-2027
  assent participant resume crm

Give it another key first, where the old one is in wrong hands.")]
    Resume {
        /// Its name.
        name: String,
    },
    /// Record that it left: what it has received is still to be erased, so it must still answer.
    #[command(after_help = "Examples:\n  assent participant retire crm")]
    Retire {
        /// Its name.
        name: String,
    },
    /// Hold a team's own service against the contract, on topics of a rehearsal.
    Check(Check),
}

impl Participant {
    /// The one that asks no deployment.
    #[must_use]
    pub fn check(&self) -> Option<&Check> {
        match self {
            Self::Check(check) => Some(check),
            _ => None,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// When the erasure service doesn't answer or refuses.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::Register { name, owner, key, keeps_keys, webhook, no_webhook } => {
                let mut body = json!({"name": name, "keeps_keys": keeps_keys});
                for (member, value) in [("owner", owner), ("key_name", key), ("webhook", webhook)] {
                    if let Some(value) = value {
                        body[member] = json!(value);
                    }
                }
                if *no_webhook {
                    body["no_webhook"] = json!(true);
                }
                let path = "/erasure/v1/participants";
                let registered: Value = api.post(path, &body, None).await?;
                output.print(&registered, |it| format!("registered\n{}", with_secret(it)));
            }
            Self::Rotate { name, end: false } => {
                let path = format!("/erasure/v1/participants/{}/secret", in_path(name)?);
                let rotated: Value = api.post(&path, &json!({}), None).await?;
                output.print(&rotated, |it| format!("rotated\n{}", with_secret(it)));
            }
            Self::Rotate { name, end: true } => {
                api.delete(&format!("/erasure/v1/participants/{}/secret", in_path(name)?)).await?;
                let ended = json!({"ended": name});
                output.print(&ended, |_| format!("only the newest secret of {name} signs"));
            }
            Self::List => {
                let all: Vec<Value> = api.all("/erasure/v1/participants").await?;
                output.print(&all, |all| all.iter().map(line).collect::<Vec<_>>().join("\n"));
            }
            Self::Suspend { name } => {
                let path = format!("/erasure/v1/participants/{}/suspend", in_path(name)?);
                let suspended: Value = api.post(&path, &json!({}), None).await?;
                output.print(&suspended, |it| format!("suspended\n{}", line(it)));
            }
            Self::Resume { name } => {
                let path = format!("/erasure/v1/participants/{}/resume", in_path(name)?);
                let resumed: Value = api.post(&path, &json!({}), None).await?;
                output.print(&resumed, |it| format!("resumed\n{}", line(it)));
            }
            Self::Retire { name } => {
                api.delete(&format!("/erasure/v1/participants/{}", in_path(name)?)).await?;
                output.print(&json!({"retired": name}), |_| format!("retired {name}"));
            }
            Self::Check(_) => {}
        }
        Ok(Status::Done)
    }
}

/// A name as it may stand in a path.
fn in_path(name: &str) -> Result<&str, Failure> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(Failure::wrong_use("a participant's name is made of a-z, 0-9, - and _"))
    }
}

/// With the secret, where one was made just now.
fn with_secret(participant: &Value) -> String {
    match participant["secret"].as_str() {
        Some(secret) => format!("{}\nsecret  {secret}  (not shown again)", line(participant)),
        None => line(participant),
    }
}

fn line(participant: &Value) -> String {
    let text = |name: &str| participant[name].as_str().unwrap_or_default();
    let rotating = if participant["rotating"] == true { "two secrets" } else { "" };
    let state = if participant["left_at"].is_string() {
        "left"
    } else if participant["suspended_at"].is_string() {
        "suspended"
    } else {
        "takes part"
    };
    let keys = if participant["keeps_keys"] == true { "keeps keys" } else { "" };
    let rest = [keys, text("webhook"), rotating];
    let rest: Vec<_> = rest.into_iter().filter(|it| !it.is_empty()).collect();
    let line = format!(
        "{:<20} {state:<11} {:<20} key {:<20} {}",
        text("name"),
        text("owner"),
        text("key_name"),
        rest.join("  ")
    );
    line.trim_end().to_owned()
}
