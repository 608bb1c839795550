//! `assent conversation`: who waits for an answer, what was written, and answering. Opening what was written
//! is on record, with a reason, before it is shown.

use assent_http::{ClientError, Code, Listing};
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{Api, idempotency_key};
use crate::outcome::{Failure, Output, Status};

/// `assent conversation …`
#[derive(Debug, Subcommand)]
pub enum Conversation {
    /// List conversations, those first that began first.
    #[command(after_help = "\
Examples:
  assent conversation list --state waiting
  assent conversation list --assignee lea --json

Needs conversations:read. Exit status: 0 listed, 2 wrong use, 3 a service didn't answer.")]
    List(List),
    /// Show what was written, and put on record who read it and why.
    #[command(after_help = "\
Examples:
  assent conversation read 5b1f…-… --reason answering

Needs conversations:open. Exit status: 0 shown, 2 wrong use, 3 a service didn't answer.")]
    Read {
        /// The conversation.
        conversation: Uuid,
        /// Why, as a code of yours.
        #[arg(long, value_name = "CODE")]
        reason: String,
    },
    /// Answer, and take the conversation where nobody has it.
    #[command(after_help = "\
Examples:
  assent conversation reply 5b1f…-… 'It is on its way.'

Needs conversations:write. The answer passes the gate when it is sent. Outside of the 24 hours after her last
message it is refused, and the templates that her consent covers are listed.
Exit status: 0 queued, 1 refused, 2 wrong use, 3 a service didn't answer.")]
    Reply {
        /// The conversation.
        conversation: Uuid,
        /// What to say.
        text: String,
    },
    /// Take a conversation, or give it to a colleague.
    #[command(after_help = "\
Examples:
  assent conversation assign 5b1f…-…
  assent conversation assign 5b1f…-… --to max --from lea

Needs conversations:write. Exit status: 0 done, 1 somebody else has it, 2 wrong use, 3 a service didn't answer.")]
    Assign {
        /// The conversation.
        conversation: Uuid,
        /// To whom, by the name of the key [default: to you]
        #[arg(long, value_name = "NAME")]
        to: Option<String>,
        /// Who has it now, where somebody has.
        #[arg(long, value_name = "NAME")]
        from: Option<String>,
    },
    /// Write a note for colleagues; it is sealed, and read like what she wrote.
    #[command(after_help = "\
Examples:
  assent conversation note 5b1f…-… 'promised a call on Monday'

Needs conversations:write. Exit status: 0 written, 2 wrong use, 3 a service didn't answer.")]
    Note {
        /// The conversation.
        conversation: Uuid,
        /// The note.
        text: String,
    },
    /// Hand a conversation to the bot, or back to all humans.
    #[command(after_help = "\
Examples:
  assent conversation handover 5b1f…-… --to bot

Needs conversations:write. Exit status: 0 done, 1 not possible, 2 wrong use, 3 a service didn't answer.")]
    Handover {
        /// The conversation.
        conversation: Uuid,
        /// To whom.
        #[arg(long)]
        to: To,
    },
    /// End a conversation; what she writes next opens another.
    #[command(after_help = "\
Examples:
  assent conversation close 5b1f…-…

Needs conversations:write. Exit status: 0 done, 1 closed already, 2 wrong use, 3 a service didn't answer.")]
    Close {
        /// The conversation.
        conversation: Uuid,
    },
}

/// Which conversations.
#[derive(Debug, Args)]
pub struct List {
    /// In this state only.
    #[arg(long)]
    state: Option<State>,
    /// Of this human only, by the name of the key.
    #[arg(long, value_name = "NAME")]
    assignee: Option<String>,
}

/// Who answers.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum State {
    /// The bot.
    Bot,
    /// A human is needed.
    Waiting,
    /// A human.
    Human,
    /// Nobody any more.
    Closed,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Waiting => "waiting",
            Self::Human => "human",
            Self::Closed => "closed",
        }
    }
}

/// Who is to go on.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum To {
    /// The bot.
    Bot,
    /// Any human.
    Human,
}

/// A conversation as messaging tells it.
#[derive(Debug, Serialize, Deserialize)]
struct View {
    conversation_id: Uuid,
    subject_id: Uuid,
    channel: String,
    state: String,
    assignee: Option<String>,
    reason: Option<String>,
    language: Option<String>,
    opened_at: String,
    heard_at: String,
    window_until: String,
    #[serde(default)]
    free_until: Option<String>,
    changed_at: String,
}

/// Something that was written.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: Uuid,
    by: String,
    author: Option<String>,
    at: String,
    kind: String,
    text: Option<String>,
    state: Option<String>,
    reasons: Vec<String>,
    template: Option<String>,
    gone: bool,
}

impl Conversation {
    /// Runs it.
    ///
    /// # Errors
    /// When it isn't known, isn't possible, or a service doesn't answer.
    pub async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        match self {
            Self::List(list) => list.run(api, output).await,
            Self::Read { conversation, reason } => {
                let entries = read(api, *conversation, reason).await?;
                output.print(&entries, |entries| {
                    entries.iter().map(entry).collect::<Vec<_>>().join("\n")
                });
                Ok(Status::Done)
            }
            Self::Reply { conversation, text } => {
                let body = json!({"content": {"type": "text", "body": text}});
                let key = idempotency_key();
                let path = path(*conversation, "reply");
                let queued: Value =
                    api.post(&path, &body, Some(&key)).await.map_err(or_templates)?;
                output.print(&queued, |it| {
                    let id = it["message_id"].as_str().unwrap_or_default();
                    format!("queued\n  message  {id}")
                });
                Ok(Status::Done)
            }
            Self::Assign { conversation, to, from } => {
                let body = json!({"assignee": to, "from": from});
                act(api, output, *conversation, "assign", &body).await
            }
            Self::Note { conversation, text } => {
                let key = idempotency_key();
                let body = json!({"text": text});
                let noted: Value =
                    api.post(&path(*conversation, "notes"), &body, Some(&key)).await?;
                output.print(&noted, |it| {
                    format!("noted\n  note     {}", it["note_id"].as_str().unwrap_or_default())
                });
                Ok(Status::Done)
            }
            Self::Handover { conversation, to } => {
                let to = match to {
                    To::Bot => "bot",
                    To::Human => "human",
                };
                act(api, output, *conversation, "handover", &json!({"to": to})).await
            }
            Self::Close { conversation } => {
                act(api, output, *conversation, "close", &json!({})).await
            }
        }
    }
}

impl List {
    async fn run(&self, api: &Api, output: Output) -> Result<Status, Failure> {
        let state = self.state.map_or_else(String::new, |it| format!("&state={}", it.as_str()));
        let (mut listed, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/messaging/v1/conversations?limit=500{state}{cursor}");
            let page: Listing<View> = api.get(&path).await?;
            let hers = |view: &View| {
                self.assignee.as_ref().is_none_or(|it| view.assignee.as_ref() == Some(it))
            };
            listed.extend(page.items.into_iter().filter(hers));
            match page.next {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        output.print(&listed, |listed| listed.iter().map(line).collect::<Vec<_>>().join("\n"));
        Ok(Status::Done)
    }
}

/// Why an answer was refused; outside the window with the templates that may go out.
fn or_templates(error: ClientError) -> Failure {
    let templates: Vec<String> = match (&error, error.code()) {
        (ClientError::Problem { body, .. }, Some(Code::WindowClosed)) => body["templates"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| {
                let (name, language) = (it["name"].as_str()?, it["language"].as_str()?);
                Some(format!("{name} ({language}, {})", it["purpose"].as_str()?))
            })
            .collect(),
        _ => return error.into(),
    };
    let mut failure = Failure::from(error);
    failure.message.push_str(&match &templates[..] {
        [] => "; no template is covered by her consent".to_owned(),
        some => format!("; her consent covers these templates: {}", some.join(", ")),
    });
    failure
}

fn path(conversation: Uuid, act: &str) -> String {
    format!("/messaging/v1/conversations/{conversation}/{act}")
}

async fn act(
    api: &Api,
    output: Output,
    conversation: Uuid,
    act: &str,
    body: &Value,
) -> Result<Status, Failure> {
    let view: View = api.post(&path(conversation, act), body, None).await?;
    output.print(&view, line);
    Ok(Status::Done)
}

/// Every page; each is on record.
async fn read(api: &Api, conversation: Uuid, reason: &str) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    let mut body = json!({"reason": reason, "limit": 500});
    loop {
        let page: Listing<Entry> = api.post(&path(conversation, "read"), &body, None).await?;
        entries.extend(page.items);
        match page.next {
            Some(next) => body["cursor"] = json!(next),
            None => return Ok(entries),
        }
    }
}

fn line(view: &View) -> String {
    let View { conversation_id, state, assignee, reason, heard_at, window_until, .. } = view;
    let mut line = format!("{conversation_id}  {state}");
    if let Some(assignee) = assignee {
        line.push_str(&format!(" ({assignee})"));
    }
    // Why a human was needed says nothing once one has it.
    if let Some(reason) = reason.as_ref().filter(|_| assignee.is_none()) {
        line.push_str(&format!(": {reason}"));
    }
    line.push_str(&format!("\n  she wrote {heard_at}, answers reach her until {window_until}"));
    if let Some(free_until) = &view.free_until {
        line.push_str(&format!(", all is free until {free_until}"));
    }
    line
}

fn entry(entry: &Entry) -> String {
    let who = match &entry.author {
        Some(author) => format!("{} ({author})", entry.by),
        None => entry.by.clone(),
    };
    let what = match (&entry.text, entry.gone) {
        (Some(text), _) => text.clone(),
        (None, true) => "(kept no longer)".to_owned(),
        (None, false) => format!("({})", entry.template.as_ref().unwrap_or(&entry.kind)),
    };
    let refused = match entry.state.as_deref() {
        Some(state @ ("refused" | "failed" | "uncertain")) => {
            format!("  [{state}: {}]", entry.reasons.join(", "))
        }
        _ => String::new(),
    };
    format!("{}  {who}: {what}{refused}", entry.at)
}
