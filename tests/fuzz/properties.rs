//! What must hold for every input.

use assent_messaging::whatsapp::envelope::Webhook;
use assent_messaging::whatsapp::signature;
use assent_messaging::whatsapp::updates::{Said, Update};
use assent_tests::whatsapp;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::json;

use crate::cases::{Body, Signed, edited};

const SECRET: &[u8] = b"app secret";
const OTHER: &[u8] = b"the secret before";

/// Bytes of any kind are read or refused. A stop beside whatever else is found, in an entry of its own and in
/// the list of a damaged one. Each update alone is the same update.
pub fn of_a_body(case: Body) -> Result<(), TestCaseError> {
    let Body { mut envelope, bytes } = case;
    drop(Webhook::read(&edited(envelope.to_string().into_bytes(), &bytes)));

    let stop = json!({"from": "33612399999", "id": "wamid.S", "timestamp": "1760000000",
        "type": "text", "text": {"body": "STOP"}});
    let mut sent = 1;
    for entry in envelope["entry"].as_array_mut().into_iter().flatten() {
        let lists = entry.get_mut("changes").and_then(|it| it.as_array_mut());
        for change in lists.into_iter().flatten() {
            let value = change.get_mut("value").and_then(|it| it.get_mut("messages"));
            if let Some(list) = value.and_then(|it| it.as_array_mut()) {
                list.push(stop.clone());
                sent += 1;
            }
        }
    }
    if let Some(entries) = envelope["entry"].as_array_mut() {
        entries.push(json!({"changes": [{"value": {"messages": [stop]}}]}));
    }
    let text = envelope.to_string();
    // Deeper than any JSON parser of ours goes: refused as a whole, and kept.
    let Ok(webhook) = Webhook::read(text.as_bytes()) else {
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_err());
        return Ok(());
    };
    let stops = webhook.updates().iter().filter(|(_, update)| is_stop(update)).count();
    prop_assert_eq!(stops, sent, "stops are missing");

    let kinds: Vec<_> = webhook.updates().iter().map(|(_, update)| update.kind()).collect();
    let places: Vec<_> = webhook.updates().iter().map(|(place, _)| *place).collect();
    for (place, kind) in places.iter().zip(&kinds) {
        let alone = Webhook::read(&webhook.only(&[*place]));
        let alone: Vec<_> =
            alone.iter().flat_map(Webhook::updates).map(|(_, update)| update.kind()).collect();
        prop_assert_eq!(alone, vec![*kind], "an update alone is another one");
    }
    let all = Webhook::read(&webhook.only(&places));
    let all: Vec<_> = all.iter().flat_map(Webhook::updates).map(|(_, it)| it.kind()).collect();
    prop_assert_eq!(all, kinds, "all of them are others");
    Ok(())
}

fn is_stop(update: &Update) -> bool {
    let Update::Message(message) = update else { return false };
    message.from.phone.as_deref() == Some("+33612399999")
        && matches!(&message.said, Said::Text(text) if text == "STOP")
}

/// A signature is that of these very bytes under one of the secrets, or none.
pub fn of_a_signature(case: Signed) -> Result<(), TestCaseError> {
    let Signed { body, body_edits, header_edits } = case;
    let header = whatsapp::signature(SECRET, &body);
    prop_assert!(signature::verify([SECRET], &body, &header));
    prop_assert!(signature::verify([OTHER, SECRET], &body, &header));
    prop_assert!(!signature::verify([OTHER], &body, &header));
    prop_assert!(!signature::verify([], &body, &header));
    let other = edited(body.clone(), &body_edits);
    prop_assert_eq!(signature::verify([SECRET], &other, &header), other == body);
    let edits = edited(header.clone().into_bytes(), &header_edits);
    let edits = String::from_utf8_lossy(&edits);
    // Hex digits may be written either way, with blanks around the whole.
    let same = edits
        .trim()
        .strip_prefix("sha256=")
        .is_some_and(|digits| digits.eq_ignore_ascii_case(header.trim_start_matches("sha256=")));
    prop_assert_eq!(signature::verify([SECRET], &body, &edits), same);
    Ok(())
}
