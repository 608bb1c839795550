//! `/join`: what people are asked, in their language, and how to agree: by a message from their own number
//! that names the very text they have read. Nothing is stored before.

use assent_contracts::code::Code;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Console, Reader};
use crate::pages::{Join, Joins, answer};
use crate::words::sentences;

/// Everything that is asked.
pub(super) async fn list(State(console): State<Console>, reader: Reader) -> Response {
    match console.purposes(reader).await {
        Ok(purposes) => {
            let page = console.page(reader, reader.words.join_title);
            answer(StatusCode::OK, &Joins { page, purposes })
        }
        Err(error) => console.unavailable(reader, &error),
    }
}

/// One thing that is asked.
pub(super) async fn one(
    State(console): State<Console>,
    reader: Reader,
    Path(name): Path<String>,
) -> Response {
    let purposes = match console.purposes(reader).await {
        Ok(purposes) => purposes,
        Err(error) => return console.unavailable(reader, &error),
    };
    let asked = purposes.into_iter().find(|it| it.name == name);
    let asked = asked.and_then(|purpose| {
        let by_whatsapp = purpose.channels.iter().any(|channel| channel == "whatsapp");
        let code = Code::of_hex(&purpose.notice.hash).filter(|_| by_whatsapp)?;
        Some((purpose, code))
    });
    let Some((purpose, code)) = asked else {
        return console.trouble(reader, StatusCode::NOT_FOUND, reader.words.no_notice);
    };
    let sentence = format!("{} {code}", sentences(reader.language).0);
    let page = console.page(reader, purpose.title.clone());
    answer(StatusCode::OK, &Join { page, purpose, sentence })
}
