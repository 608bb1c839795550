//! `assent projection`: the read models, and building one anew beside the live one. `rebuild`
//! returns when it has been compared and swapped in, or says why not.

use std::time::Duration;

use assent_http::Code;
use assent_runtime::{Clock, SystemClock};
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::Api;
use crate::outcome::{Failure, Output, Status};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// `assent projection …`
#[derive(Debug, Subcommand)]
pub enum Projection {
    /// List the projections and how far they are.
    #[command(after_help = "Examples:\n  assent projection list\n  assent projection list --json")]
    List,
    /// Build one from zero beside the live one, compare, swap.
    #[command(after_help = "\
Examples:
  assent projection rebuild contacts
  assent projection rebuild contacts --accept-differences --json

Exit status: 0 swapped in, 1 refused (a rebuild is running, the two differ, or it failed), 2 no such
projection, 3 the projector didn't answer or the waiting time is over.")]
    Rebuild {
        /// Its name, as `list` gives it.
        name: String,
        /// Swap in although rows differ: the fold has changed on purpose.
        #[arg(long)]
        accept_differences: bool,
        /// How long to wait, in seconds; the rebuild goes on by itself.
        #[arg(long, default_value_t = 3600)]
        timeout_s: u64,
    },
}

/// Where a rebuild stands.
#[derive(Debug, Serialize, Deserialize)]
struct Rebuild {
    projection: String,
    generation: i32,
    /// `running`, `done`, `different` or `failed`.
    state: String,
    reason: Option<String>,
    events: i64,
    differences: Option<i64>,
}

impl Projection {
    /// Runs it.
    ///
    /// # Errors
    /// When the projector doesn't answer or the name isn't known.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::List => {
                let page: Value = api.get("/projector/v1/projections").await?;
                output.print(&page["items"], list);
                Ok(Status::Done)
            }
            Self::Rebuild { name, accept_differences, timeout_s } => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                if name.is_empty() || !name.bytes().all(plain) {
                    return Err(Failure::wrong_use(
                        "a projection's name has letters, digits, - and _",
                    ));
                }
                let until = SystemClock.boottime() + Duration::from_secs(*timeout_s);
                let path = format!("/projector/v1/projections/{name}/rebuild");
                let request = json!({"accept_differences": accept_differences});
                let mut rebuild: Rebuild = match api.post(&path, &request, None).await {
                    Ok(rebuild) => rebuild,
                    Err(error) if error.code() == Some(Code::RebuildRunning) => {
                        return Err(Failure { status: Status::Refused, ..error.into() });
                    }
                    Err(error) => return Err(error.into()),
                };
                while rebuild.state == "running" && SystemClock.boottime() < until {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    match api.get(&path).await {
                        Ok(now) => rebuild = now,
                        Err(error) if error.is_transient() => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                output.print(&rebuild, describe);
                Ok(match rebuild.state.as_str() {
                    "done" => Status::Done,
                    "running" => Status::Unreachable,
                    _ => Status::Refused,
                })
            }
        }
    }
}

fn list(items: &Value) -> String {
    let mut text =
        format!("{:<12} {:<30} {:>10} {:>8} {:>7}", "name", "topic", "generation", "lag", "parked");
    for item in items.as_array().into_iter().flatten() {
        let number = |name: &str| item[name].as_i64().map_or("?".to_owned(), |it| it.to_string());
        let word = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        text.push_str(&format!(
            "\n{:<12} {:<30} {:>10} {:>8} {:>7}",
            word("name"),
            word("topic"),
            number("generation"),
            number("lag"),
            number("parked")
        ));
    }
    text
}

fn describe(rebuild: &Rebuild) -> String {
    let Rebuild { projection, generation, state, reason, events, differences } = rebuild;
    let mut text = format!("{projection}: {state}, generation {generation}, {events} events");
    if let Some(differences) = differences {
        text.push_str(&format!(", {differences} rows differ"));
    }
    if let Some(reason) = reason {
        text.push_str(&format!(" ({reason})"));
    }
    text
}
