//! `/requests`: where a request stands, and the data that it is answered with, for whoever has its reference and
//! secret. Both travel in forms only: neither stands in an address, in a history or in a log.

use assent_contracts::rights::{ArchiveEnd, RequestKind};
use assent_http::{ClientError, Code};
use axum::extract::rejection::FormRejection;
use axum::extract::{Form, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Console, Reader};
use crate::language::Language;
use crate::pages::{Request, Requests, answer, day, moment};
use crate::words::Words;

/// What she was given.
#[derive(Deserialize, Serialize)]
pub(super) struct Given {
    reference: String,
    secret: String,
}

/// Where a request stands, as far as it matters here.
#[derive(Deserialize)]
struct Tracked {
    reference: String,
    kind: RequestKind,
    /// Of an erasure: whose data alone are meant.
    #[serde(default)]
    purpose: Option<String>,
    status: String,
    received_at: Timestamp,
    due: Timestamp,
    #[serde(default)]
    closed_at: Option<Timestamp>,
    #[serde(default)]
    extension: Option<Told>,
    #[serde(default)]
    refusal: Option<Told>,
    #[serde(default)]
    rectification: Option<Told>,
    #[serde(default)]
    restriction: Option<Told>,
    #[serde(default)]
    archive: Option<Archive>,
    #[serde(default)]
    certificate: bool,
}

/// What she is told, in each language.
#[derive(Deserialize)]
struct Told {
    letter: Letter,
}

#[derive(Deserialize)]
struct Letter {
    en: String,
    fr: String,
    ru: String,
}

impl Letter {
    fn in_language(self, language: Language) -> String {
        match language {
            Language::En => self.en,
            Language::Fr => self.fr,
            Language::Ru => self.ru,
        }
    }
}

#[derive(Deserialize)]
struct Archive {
    expires_at: Timestamp,
    #[serde(default)]
    collected_at: Option<Timestamp>,
    #[serde(default)]
    removed: Option<ArchiveEnd>,
}

/// Asks for what she was given.
pub(super) async fn ask(State(console): State<Console>, reader: Reader) -> Response {
    ask_again(&console, reader, false)
}

fn ask_again(console: &Console, reader: Reader, unknown: bool) -> Response {
    let page = console.page(reader, reader.words.request_title);
    let status = if unknown { StatusCode::NOT_FOUND } else { StatusCode::OK };
    answer(status, &Requests { page, unknown })
}

/// Shows where it stands.
pub(super) async fn show(
    State(console): State<Console>,
    reader: Reader,
    form: Result<Form<Given>, FormRejection>,
) -> Response {
    let Ok(Form(given)) = form else {
        return console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed);
    };
    let tracked: Result<Tracked, ClientError> =
        console.erasure.post("/v1/tracking", &given, None).await;
    match tracked {
        Ok(tracked) => shown(&console, reader, &given, tracked),
        Err(error) if error.code() == Some(Code::RequestUnknown) => {
            ask_again(&console, reader, true)
        }
        Err(error) => console.unavailable(reader, &error),
    }
}

fn shown(console: &Console, reader: Reader, given: &Given, tracked: Tracked) -> Response {
    let words = reader.words;
    let state = match tracked.status.as_str() {
        "identity_pending" => words.request_identity_pending,
        "answered" => words.request_answered,
        "refused" => words.request_refused,
        _ => words.request_open,
    };
    let over = tracked.closed_at.map(day);
    let letters = [tracked.extension, tracked.refusal, tracked.rectification, tracked.restriction];
    let letters = letters.into_iter().flatten();
    let archive = tracked.archive.map(|archive| said_of(&archive, words));
    let (archive, ready) = archive.map_or((None, false), |(text, ready)| (Some(text), ready));
    let request = Request {
        page: console.page(reader, words.request_title),
        reference: tracked.reference,
        secret: &given.secret,
        kind: kind_of(tracked.kind, words),
        purpose: tracked.purpose.unwrap_or_default(),
        received: day(tracked.received_at),
        due: moment(tracked.due),
        state: over.map_or_else(|| state.to_owned(), |over| format!("{state} {over}.")),
        open: tracked.closed_at.is_none(),
        letters: letters.map(|told| told.letter.in_language(reader.language)).collect(),
        archive,
        ready,
        certificate: tracked.certificate,
    };
    answer(StatusCode::OK, &request)
}

/// What is said of the data, and whether they can be taken.
fn said_of(archive: &Archive, words: &Words) -> (String, bool) {
    if let Some(at) = archive.collected_at {
        return (format!("{} {}.", words.archive_collected, day(at)), false);
    }
    if archive.removed.is_some() {
        return (words.archive_gone.to_owned(), false);
    }
    (format!("{} {}.", words.archive_ready, moment(archive.expires_at)), true)
}

/// What was asked for.
pub(super) fn kind_of(kind: RequestKind, words: &Words) -> &'static str {
    let place = RequestKind::ALL.iter().position(|it| *it == kind);
    place.and_then(|place| words.kinds.split('|').nth(place)).unwrap_or_default()
}

/// Hands out the certificate of an erasure, as often as it is asked for.
pub(super) async fn certificate(
    State(console): State<Console>,
    reader: Reader,
    form: Result<Form<Given>, FormRejection>,
) -> Response {
    hand_out(&console, reader, form, "/v1/tracking/certificate", "certificate.zip").await
}

/// Hands out the data: the only time.
pub(super) async fn collect(
    State(console): State<Console>,
    reader: Reader,
    form: Result<Form<Given>, FormRejection>,
) -> Response {
    hand_out(&console, reader, form, "/v1/tracking/archive", "data.zip").await
}

/// Whatever the reference and the secret open.
async fn hand_out(
    console: &Console,
    reader: Reader,
    form: Result<Form<Given>, FormRejection>,
    path: &str,
    name: &str,
) -> Response {
    let Ok(Form(given)) = form else {
        return console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed);
    };
    match console.erasure.post_for_bytes(path, &given).await {
        Ok(content) => zip(name, content),
        Err(error) if error.code() == Some(Code::RequestUnknown) => {
            ask_again(console, reader, true)
        }
        Err(error) if error.code() == Some(Code::RequestStateConflict) => {
            console.trouble(reader, StatusCode::CONFLICT, reader.words.archive_gone)
        }
        Err(error) => console.unavailable(reader, &error),
    }
}

fn zip(name: &str, content: impl Into<axum::body::Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, content.into()).into_response()
}
