//! `/confirm/{link}`: the person confirms what was said for her. Looking at the page confirms nothing: links
//! are looked at by machines too.

use assent_contracts::api::consent::{ConfirmRequest, ConsentAnswer, Unconfirmable};
use assent_contracts::consent::PurposeDefined;
use assent_http::{ClientError, Code, Listing};
use assent_sealing::LinkKind;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::{Console, Reader};
use crate::pages::{Confirm, PurposeView, answer};

/// Asks, with the text that was shown when it was said.
pub(super) async fn ask(
    State(console): State<Console>,
    reader: Reader,
    Path(token): Path<String>,
) -> Response {
    if console.links.person_of(LinkKind::Confirmation, &token).is_err() {
        return console.trouble(reader, StatusCode::NOT_FOUND, reader.words.link_unknown);
    }
    match said(&console, reader, &token).await {
        Ok(Some(purpose)) => {
            let page = console.page(reader, reader.words.confirm_title);
            answer(StatusCode::OK, &Confirm { page, token: &token, purpose })
        }
        Ok(None) => console.trouble(reader, StatusCode::CONFLICT, reader.words.confirm_over),
        Err(error) => console.unavailable(reader, &error),
    }
}

/// What was said for her; none where it can't be confirmed any more.
async fn said(
    console: &Console,
    reader: Reader,
    token: &str,
) -> Result<Option<PurposeView>, ClientError> {
    let request = ConfirmRequest { link: token.to_owned() };
    let waits: Result<Unconfirmable, ClientError> =
        console.consent.post("/v1/consents/unconfirmed", &request, None).await;
    let waits = match waits {
        Err(error) if error.code() == Some(Code::ConfirmationInvalid) => return Ok(None),
        waits => waits?,
    };
    let Unconfirmable { purpose, notice_hash, .. } = waits;
    let versions: Listing<PurposeVersion> =
        console.consent.get(&format!("/v1/purposes/{purpose}/versions")).await?;
    let shown = versions.items.into_iter().rev().filter_map(|version| version.definition);
    Ok(shown
        .filter_map(|defined| PurposeView::of_notice(&defined, &notice_hash, reader.words))
        .next())
}

/// A version of a purpose, as far as it matters here.
#[derive(Deserialize)]
struct PurposeVersion {
    definition: Option<PurposeDefined>,
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
