//! `/settings/requests`: a person asks for each of her rights, reads what it means and by when she is answered, and is
//! given what she tracks it by. Only within a visit, so that nobody asks in her name; pressing a button again opens
//! nothing again.

use assent_contracts::SubjectId;
use assent_contracts::consent::Actor;
use assent_contracts::rights::{IdentityMethod, RequestKind, RequestOrigin, Terms};
use assent_contracts::rules::TermsQuestion;
use assent_http::{ClientError, Code, Listing};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::requests::kind_of;
use super::settings::Visiting;
use super::{Console, Reader};
use crate::pages::{Asked, AskedLine, Right, Rights, answer, day, moment};
use crate::rights_words::rights_words;
use crate::visit::Visit;

/// What a request is shown by: the link that opened her page, and the message that began her visit.
const SHOWN_BY: &str = "preference_visit";

/// What she presses.
#[derive(Deserialize)]
pub(super) struct Wanted {
    kind: RequestKind,
    #[serde(default)]
    place: Option<String>,
    /// An erasure can't be undone.
    #[serde(default)]
    sure: Option<String>,
}

/// A request as the erasure service takes it in.
#[derive(Serialize)]
struct OwnRequest {
    subject_id: SubjectId,
    kind: RequestKind,
    actor: Actor,
    origin: RequestOrigin,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    identity: Shown,
}

#[derive(Serialize)]
struct Shown {
    method: IdentityMethod,
    reason: &'static str,
}

/// What it answers.
#[derive(Deserialize)]
struct Opened {
    due: Timestamp,
    reference: String,
    #[serde(default)]
    secret: Option<String>,
}

/// What she asked for before.
#[derive(Deserialize)]
struct Before {
    reference: String,
    #[serde(default)]
    secret: Option<String>,
    kind: RequestKind,
    origin: RequestOrigin,
    received_at: Timestamp,
}

/// Shows what she can ask for, and what she has asked for.
pub(super) async fn show(
    State(console): State<Console>,
    Visiting(visit, reader): Visiting,
) -> Response {
    match rights(&console, reader, &visit).await {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(error) => console.unavailable(reader, &error),
    }
}

async fn rights<'a>(
    console: &'a Console,
    reader: Reader,
    visit: &Visit,
) -> Result<Rights<'a>, ClientError> {
    let says = rights_words(reader.language);
    let path = format!("/v1/subjects/{}/requests", visit.subject);
    let before: Listing<Before> = console.erasure.get(&path).await?;
    let mut rights = Vec::with_capacity(RequestKind::ALL.len());
    for (kind, meaning) in RequestKind::ALL.into_iter().zip(says.meanings) {
        let question =
            TermsQuestion { kind, received_at: None, seat: None, person: None, number: None };
        let terms: Terms = console.consent.post("/v1/rules/terms", &question, None).await?;
        rights.push(Right {
            kind: kind.name(),
            title: kind_of(kind, reader.words),
            meaning,
            due: moment(terms.answer.over_at),
            erases: kind == RequestKind::Erasure,
        });
    }
    let line = |it: Before| AskedLine {
        kind: kind_of(it.kind, reader.words),
        received: day(it.received_at),
        reference: it.reference,
        // Of what she asked for here she was given it then; a message isn't answered with it.
        secret: it.secret.filter(|_| it.origin == RequestOrigin::WhatsappMessage),
    };
    let asked = before.items.into_iter().map(line).collect();
    Ok(Rights { page: console.page(reader, says.title), says, asked, rights })
}

/// Asks for it.
pub(super) async fn ask(
    State(console): State<Console>,
    Visiting(visit, reader): Visiting,
    form: Result<Form<Wanted>, FormRejection>,
) -> Response {
    let Ok(Form(Wanted { kind, place, sure })) = form else {
        return console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed);
    };
    let says = rights_words(reader.language);
    if kind == RequestKind::Erasure && sure.is_none_or(|sure| sure.is_empty()) {
        return console.trouble(reader, StatusCode::BAD_REQUEST, says.unsure);
    }
    let place = place.map(|it| it.trim().to_ascii_uppercase()).filter(|it| !it.is_empty());
    let origin = RequestOrigin::Page;
    let request = OwnRequest {
        subject_id: visit.subject,
        kind,
        actor: Actor::Subject,
        origin,
        place,
        identity: Shown { method: origin.proof(), reason: SHOWN_BY },
    };
    // One of a kind in a visit, however often the button is pressed.
    let visited = visit.ends_at.as_second();
    let key = format!("page-{}-{visited}-{}", visit.subject, kind.name());
    let opened: Result<Opened, ClientError> =
        console.erasure.post("/v1/requests", &request, Some(&key)).await;
    match opened {
        Ok(Opened { due, reference, secret }) => {
            let page = Asked {
                page: console.page(reader, says.taken),
                says,
                kind: kind_of(kind, reader.words),
                due: moment(due),
                reference,
                secret,
                address: format!("{}/requests", console.public_url),
                erases: kind == RequestKind::Erasure,
            };
            answer(StatusCode::OK, &page)
        }
        Err(error) if error.code() == Some(Code::IdempotencyKeyReused) => {
            console.trouble(reader, StatusCode::CONFLICT, says.again)
        }
        Err(error) if error.code() == Some(Code::ValidationFailed) => {
            console.trouble(reader, StatusCode::BAD_REQUEST, says.no_place)
        }
        Err(error) => console.unavailable(reader, &error),
    }
}
