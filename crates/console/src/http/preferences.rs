//! `/p/{link}`: the page of whoever has the link. It opts out at one click, of everything or one purpose,
//! also while the consent service is down; anything more begins with a message from the person's number.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    ConsentAnswer, PreferenceLinkState, Proof, ProofCode, ProofRequest, WithdrawRequest,
};
use assent_contracts::api::messaging::{PageStop, PageStopTaken};
use assent_contracts::code;
use assent_contracts::consent::{Actor, Method};
use assent_http::{ClientError, Code};
use assent_sealing::LinkKind;
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use uuid::Uuid;

use super::{Console, Reader};
use crate::pages::{Preferences, Prove, answer};
use crate::rights_words::rights_words;
use crate::visit::{LASTS, Visit};
use crate::words::sentences;

/// Every purpose, or every channel.
const ALL: &str = "*";

/// What is stopped. RFC 8058's one-click body names nothing, and stops everything.
#[derive(Deserialize)]
pub(super) struct Stopped {
    purpose: Option<String>,
}

/// The code that was shown.
#[derive(Deserialize)]
pub(super) struct Sent {
    code: String,
}

impl Console {
    fn whose(&self, token: &str) -> Option<(SubjectId, Uuid)> {
        self.links.person_of(LinkKind::Preferences, token).ok()
    }

    fn link_unknown(&self, reader: Reader) -> Response {
        self.trouble(reader, StatusCode::NOT_FOUND, reader.words.link_unknown)
    }
}

/// Shows what can be done.
pub(super) async fn show(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
) -> Response {
    let Some((_, link)) = console.whose(&token) else { return console.link_unknown(reader) };
    let path = format!("/v1/preference-links/{link}");
    let state: Result<PreferenceLinkState, ClientError> = console.consent.get(&path).await;
    // Whatever is down or gone: opting out is offered.
    let more = state.is_ok_and(|state| !state.revoked);
    let purposes = console.purposes(reader).await.unwrap_or_default();
    let title = format!("{} {}", reader.words.messages_from, console.controller);
    let page = console.page(reader, title);
    let rights = rights_words(reader.language).there;
    answer(StatusCode::OK, &Preferences { page, token: &token, purposes, more, rights })
}

/// Opts out. The answer comes when it has settled.
pub(super) async fn stop(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
    form: Result<Form<Stopped>, FormRejection>,
) -> Response {
    let Some((subject, _)) = console.whose(&token) else { return console.link_unknown(reader) };
    // Whatever a mailer or a browser makes of the body: less than everything must be asked for.
    let purpose = form.ok().and_then(|form| form.0.purpose).unwrap_or_else(|| ALL.to_owned());
    match record_no(&console, "withdraw", subject, &purpose, ALL).await {
        Ok(()) => {
            let title = reader.words.stopped_title;
            console.say(reader, StatusCode::OK, title, reader.words.stopped)
        }
        Err(error) if error.code() == Some(Code::PurposeUnknown) => {
            console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed)
        }
        // Whatever is in the way there, she opts out.
        Err(error) => {
            tracing::warn!(%error, "an opt-out goes to messaging's door");
            stop_everything(&console, reader, subject).await
        }
    }
}

/// Records a no by the endpoint that is named. Who is erased has nothing left to say no to.
pub(super) async fn record_no(
    console: &Console,
    endpoint: &str,
    subject_id: SubjectId,
    purpose: &str,
    channel: &str,
) -> Result<(), ClientError> {
    let request = WithdrawRequest {
        subject_id,
        purpose: purpose.to_owned(),
        channel: channel.to_owned(),
        actor: Actor::Subject,
        method: Method::PreferencePage,
        evidence: None,
        acted_at: None,
        place: None,
    };
    let answer: Result<ConsentAnswer, ClientError> =
        console.consent.post(&format!("/v1/consents/{endpoint}"), &request, None).await;
    match answer {
        Err(error) if error.code() != Some(Code::SubjectErased) => Err(error),
        _ => Ok(()),
    }
}

/// The consent service is down: messaging's door takes the stop, of everything.
pub(super) async fn stop_everything(
    console: &Console,
    reader: Reader,
    subject_id: SubjectId,
) -> Response {
    let request = PageStop { stop_id: console.ids.v7(), subject_id };
    let taken: Result<PageStopTaken, ClientError> =
        console.messaging.post("/v1/stops", &request, None).await;
    match taken {
        Ok(_) => {
            let words = reader.words;
            console.say(
                reader,
                StatusCode::OK,
                words.stopped_title,
                words.stopped_everything_instead,
            )
        }
        Err(error) => console.unavailable(reader, &error),
    }
}

/// Asks for a message from the person's number.
pub(super) async fn code(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
) -> Response {
    let Some((_, link)) = console.whose(&token) else { return console.link_unknown(reader) };
    let path = format!("/v1/preference-links/{link}/code");
    let made: Result<ProofCode, ClientError> = console.consent.post(&path, &(), None).await;
    match made {
        Ok(made) => prove(&console, reader, &token, made.code, false),
        Err(error) if error.is_transient() => console.unavailable(reader, &error),
        Err(_) => console.trouble(reader, StatusCode::FORBIDDEN, reader.words.only_stop),
    }
}

fn prove(
    console: &Console,
    reader: Reader,
    token: &str,
    code: code::Code,
    not_yet: bool,
) -> Response {
    let page = console.page(reader, reader.words.prove_title);
    let status = if not_yet { StatusCode::CONFLICT } else { StatusCode::OK };
    let sentence = format!("{} {code}", sentences(reader.language).1);
    answer(status, &Prove { page, token, code: code.to_string(), sentence, not_yet })
}

/// Begins a visit, if the message has come.
pub(super) async fn open(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
    form: Result<Form<Sent>, FormRejection>,
) -> Response {
    let Some((_, link)) = console.whose(&token) else { return console.link_unknown(reader) };
    let code = form.ok().and_then(|form| form.0.code.parse().ok());
    let Some(code) = code else {
        return console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed);
    };
    let path = format!("/v1/preference-links/{link}/proof");
    let proof: Result<Proof, ClientError> =
        console.consent.post(&path, &ProofRequest { code }, None).await;
    match proof {
        Ok(Proof { subject_id, addresses }) => {
            let ends_at = console.clock.now().checked_add(LASTS).unwrap_or_default();
            let visit = Visit { subject: subject_id, addresses, ends_at };
            let cookie = console.cookie(&visit.seal(&console.links), LASTS.as_secs());
            let place = format!("/settings?lang={}", reader.language.tag());
            let headers = [(header::SET_COOKIE, cookie), (header::LOCATION, place)];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(error) if error.code() == Some(Code::ConfirmationInvalid) => {
            prove(&console, reader, &token, code, true)
        }
        Err(error) if error.is_transient() => console.unavailable(reader, &error),
        Err(_) => console.trouble(reader, StatusCode::FORBIDDEN, reader.words.only_stop),
    }
}

impl Console {
    /// The cookie of a visit.
    pub(super) fn cookie(&self, value: &str, seconds: i64) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        format!(
            "visit={value}; Path=/settings; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
        )
    }
}
