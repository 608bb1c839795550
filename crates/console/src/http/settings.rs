//! `/settings`: what holds for the person, since when, what she agreed to, receipts to take away, and a yes
//! and a no for each purpose, neither of them chosen for her. Only within a visit.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    ConsentAnswer, ConsentView, ConsentsResponse, GrantRequest, ReceiptView,
};
use assent_contracts::consent::{Actor, Method, State as ConsentState};
use assent_http::{ClientError, Code};
use assent_signing::canonical;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Form, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use uuid::Uuid;

use super::preferences::{record_no, stop_everything};
use super::{Console, Reader};
use crate::pages::{PurposeView, ReceiptLine, Settings, SettingsLine, answer, day};
use crate::receipt_page;
use crate::rights_words::rights_words;
use crate::visit::Visit;
use crate::words::Words;

/// Every purpose, or every channel.
const ALL: &str = "*";

/// The visit that the cookie tells of; without one there is nothing here.
pub(super) struct Visiting(pub(super) Visit, pub(super) Reader);

impl FromRequestParts<Console> for Visiting {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Console) -> Result<Self, Response> {
        let Ok(reader) = Reader::from_request_parts(parts, console).await;
        let cookies = parts.headers.get_all(header::COOKIE).iter();
        let mut pairs =
            cookies.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split("; "));
        let value = pairs.find_map(|pair| pair.strip_prefix("visit="));
        let visit = value.and_then(|it| Visit::open(&console.links, it, console.clock.now()));
        visit.map(|visit| Self(visit, reader)).ok_or_else(|| {
            console.trouble(reader, StatusCode::UNAUTHORIZED, reader.words.visit_over)
        })
    }
}

/// What a page after a change says.
#[derive(Deserialize)]
pub(super) struct After {
    saved: Option<String>,
}

/// What holds.
pub(super) async fn show(
    State(console): State<Console>,
    Visiting(visit, reader): Visiting,
    after: Result<Query<After>, QueryRejection>,
) -> Response {
    let saved = after.is_ok_and(|after| after.0.saved.is_some());
    match settings(&console, reader, visit.subject, saved).await {
        Ok(page) => answer(StatusCode::OK, &page),
        Err(error) => console.unavailable(reader, &error),
    }
}

async fn settings<'a>(
    console: &'a Console,
    reader: Reader,
    subject: SubjectId,
    saved: bool,
) -> Result<Settings<'a>, ClientError> {
    let path = format!("/v1/subjects/{subject}/consents");
    let (held, purposes, receipts) = tokio::try_join!(
        console.consent.get::<ConsentsResponse>(&path),
        console.purposes(reader),
        receipts(console, subject),
    )?;
    let title = |name: &str| {
        let known = purposes.iter().find(|purpose| purpose.name == name);
        known.map_or(reader.words.everything, |purpose| &purpose.title).to_owned()
    };
    let receipts = receipts
        .iter()
        .rev()
        .map(|it| ReceiptLine {
            id: it.event_id,
            at: it.recorded_at,
            day: day(it.recorded_at),
            what: title(&it.purpose),
        })
        .collect();
    let lines =
        purposes.iter().flat_map(|purpose| lines(purpose, &held.consents, reader.words)).collect();
    let page = console.page(reader, reader.words.settings_title);
    let rights = rights_words(reader.language).title;
    Ok(Settings { page, lines, receipts, rights, saved })
}

/// One line per channel of a purpose.
fn lines(purpose: &PurposeView, held: &[ConsentView], words: &Words) -> Vec<SettingsLine> {
    let line = |channel: &String| SettingsLine {
        state: state(last_word(held, &purpose.name, channel), words),
        purpose: purpose.clone(),
        channel: channel.clone(),
    };
    purpose.channels.iter().map(line).collect()
}

/// The line of this purpose and channel, else the newest of those about more.
fn last_word<'a>(held: &'a [ConsentView], purpose: &str, channel: &str) -> Option<&'a ConsentView> {
    let own = held.iter().find(|it| it.purpose == purpose && it.channel == channel);
    let wide = |it: &&ConsentView| {
        (it.purpose == ALL || it.purpose == purpose) && (it.channel == ALL || it.channel == channel)
    };
    own.or_else(|| held.iter().filter(wide).max_by_key(|it| (it.since, it.event_id)))
}

/// What holds, in words.
fn state(line: Option<&ConsentView>, words: &Words) -> String {
    let Some(line) = line else { return words.never.to_owned() };
    let said = match line.state {
        ConsentState::Given => words.given,
        ConsentState::Requested => words.requested,
        ConsentState::Refused => words.refused,
        ConsentState::Withdrawn => words.withdrawn,
        ConsentState::Expired => words.expired,
    };
    let since = format!("{said} {}.", day(line.since));
    match line.valid_until {
        Some(until) if line.state == ConsentState::Given => {
            format!("{since} {} {}.", words.given_until, day(until))
        }
        _ => since,
    }
}

/// All receipts, oldest first.
async fn receipts(console: &Console, subject: SubjectId) -> Result<Vec<ReceiptView>, ClientError> {
    let path = format!("/v1/subjects/{subject}/receipts");
    console.consent.all(&path).await
}

/// A yes or a no.
#[derive(Deserialize)]
pub(super) struct Answered {
    purpose: String,
    channel: String,
    answer: Answer,
    notice: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Yes,
    No,
}

/// Records what she answered.
pub(super) async fn change(
    State(console): State<Console>,
    Visiting(visit, reader): Visiting,
    form: Result<Form<Answered>, FormRejection>,
) -> Response {
    let Ok(Form(Answered { purpose, channel, answer, notice })) = form else {
        return console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed);
    };
    let done = match answer {
        Answer::No => say_no(&console, visit.subject, &purpose, &channel).await,
        Answer::Yes => {
            let request = GrantRequest {
                subject_id: visit.subject,
                purpose,
                channel,
                actor: Actor::Subject,
                method: Method::PreferencePage,
                evidence: None,
                acted_at: None,
                locale: None,
                notice_hash: notice,
                place: None,
                addresses: visit.addresses,
            };
            let granted: Result<ConsentAnswer, ClientError> =
                console.consent.post("/v1/consents/grant", &request, None).await;
            granted.map(|_| ())
        }
    };
    match done {
        Ok(()) => {
            let place = format!("/settings?saved=1&lang={}", reader.language.tag());
            (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
        }
        Err(error)
            if matches!(answer, Answer::No)
                && error.code().is_none_or(|it| it != Code::PurposeUnknown) =>
        {
            tracing::warn!(%error, "a no goes to messaging's door");
            stop_everything(&console, reader, visit.subject).await
        }
        Err(error) if error.is_transient() => console.unavailable(reader, &error),
        Err(error) if error.code() == Some(Code::NoticeUnknown) => {
            console.trouble(reader, StatusCode::CONFLICT, reader.words.notice_changed)
        }
        Err(error) => {
            tracing::info!(%error, "an answer on the preference page is refused");
            console.trouble(reader, StatusCode::BAD_REQUEST, reader.words.malformed)
        }
    }
}

/// A no to what she had agreed to takes it back; any other is a refusal.
async fn say_no(
    console: &Console,
    subject: SubjectId,
    purpose: &str,
    channel: &str,
) -> Result<(), ClientError> {
    let path = format!("/v1/subjects/{subject}/consents");
    let held: ConsentsResponse = console.consent.get(&path).await?;
    let given = held.consents.iter().any(|it| {
        it.state == ConsentState::Given
            && (purpose == ALL || it.purpose == purpose)
            && (channel == ALL || it.channel == channel)
    });
    let no = if given || purpose == ALL { "withdraw" } else { "refuse" };
    record_no(console, no, subject, purpose, channel).await
}

/// Ends the visit.
pub(super) async fn end(State(console): State<Console>, reader: Reader) -> Response {
    let gone = console.cookie("", 0);
    let page = console.say(reader, StatusCode::OK, reader.words.settings_title, reader.words.ended);
    ([(header::SET_COOKIE, gone)], page).into_response()
}

/// One receipt, in one of its three forms.
pub(super) async fn receipt(
    State(console): State<Console>,
    Visiting(visit, reader): Visiting,
    Path((event, file)): Path<(Uuid, String)>,
) -> Response {
    let all = match receipts(&console, visit.subject).await {
        Ok(all) => all,
        Err(error) => return console.unavailable(reader, &error),
    };
    let found = all.into_iter().find(|it| it.event_id == event);
    let Some(ReceiptView { receipt, signature, .. }) = found else {
        return console.trouble(reader, StatusCode::NOT_FOUND, reader.words.not_found);
    };
    let (kind, content) = match &*file {
        "receipt.html" => ("text/html; charset=utf-8", receipt_page::html(&receipt).into_bytes()),
        "receipt.jws" => ("application/jose", signature.into_bytes()),
        "receipt.jsonld" => match canonical::to_vec(&receipt) {
            Ok(content) => ("application/ld+json", content),
            Err(error) => return assent_http::Problem::internal(error).into_response(),
        },
        _ => return console.trouble(reader, StatusCode::NOT_FOUND, reader.words.not_found),
    };
    ([(header::CONTENT_TYPE, kind)], content).into_response()
}
