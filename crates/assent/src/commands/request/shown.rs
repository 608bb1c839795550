//! What text shows of requests, one or many; machines get the answer as it came. It guarantees that members which a
//! service of before doesn't tell are left out.

use assent_contracts::rights::{RequestKind, Term};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::outcome::{Failure, Output};

/// A request in a listing.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listed {
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

pub(super) fn show(output: Output, shown: &Value) -> Result<(), Failure> {
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

pub(super) fn line(request: &Listed) -> String {
    let Listed { request_id, kind, purpose, status, reference, due, acknowledge_by } = request;
    let acknowledge = acknowledge_by.map(|by| format!("  acknowledge by {by}")).unwrap_or_default();
    let purpose = purpose.as_ref().map(|it| format!("  of {it} alone")).unwrap_or_default();
    let kind = kind.name();
    format!("{due}  {kind:<13} {status:<16} {reference}  {request_id}{purpose}{acknowledge}")
}
