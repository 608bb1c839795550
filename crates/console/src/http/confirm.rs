//! `/confirm/{link}`: the person confirms what was said for her. Looking at the page confirms nothing: links
//! are looked at by machines too.

use assent_contracts::api::consent::{ConfirmRequest, ConsentAnswer};
use assent_http::ClientError;
use assent_sealing::LinkKind;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Console, Reader};
use crate::pages::{Confirm, answer};

/// Asks.
pub(super) async fn ask(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
) -> Response {
    if console.links.person_of(LinkKind::Confirmation, &token).is_err() {
        return console.trouble(reader, StatusCode::NOT_FOUND, reader.words.link_unknown);
    }
    let page = console.page(reader, reader.words.confirm_title);
    answer(StatusCode::OK, &Confirm { page, token: &token })
}

/// Confirms.
pub(super) async fn confirm(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
) -> Response {
    let request = ConfirmRequest { link: token };
    let answer: Result<ConsentAnswer, ClientError> =
        console.consent.post("/v1/consents/confirm", &request, None).await;
    match answer {
        Ok(_) => {
            console.say(reader, StatusCode::OK, reader.words.confirm_title, reader.words.confirmed)
        }
        Err(error) if error.is_transient() || error.code().is_none() => {
            console.unavailable(reader, &error)
        }
        Err(_) => console.trouble(reader, StatusCode::CONFLICT, reader.words.confirm_over),
    }
}
