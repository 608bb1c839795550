//! `assent projection`: the read models, and building one anew beside the live one.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::api::{Api, idempotency_key};
use crate::outcome::{Failure, Output, Status};

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

Exit status: 0 swapped, 1 refused (a rebuild is running, or the two differ), 2 no such projection, 3
the projector didn't answer.")]
    Rebuild {
        /// Its name, as `list` gives it.
        name: String,
    },
}

impl Projection {
    /// Runs it.
    ///
    /// # Errors
    /// When the projector doesn't answer or the name isn't known.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let answer: Value = match self {
            Self::List => api.get("/projector/v1/projections").await?,
            Self::Rebuild { name } => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
                if name.is_empty() || !name.bytes().all(plain) {
                    return Err(Failure::wrong_use(
                        "a projection's name has letters, digits, - and _",
                    ));
                }
                let path = format!("/projector/v1/projections/{name}/rebuild");
                api.post(&path, &json!({}), Some(&idempotency_key())).await?
            }
        };
        output.print(&answer, |answer| serde_json::to_string_pretty(answer).unwrap_or_default());
        Ok(Status::Done)
    }
}
