//! Messages: who wrote, and what. It guarantees that a number is hers by the provider's word alone, and that a message
//! which names nobody is kept apart.

use serde_json::Value;

use super::fields::{contact, list, seconds, text};
use super::people::system;
use crate::whatsapp::updates::{Address, Inbound, Said, Update};

/// What else people send.
const KINDS: [&str; 10] = [
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contacts",
    "reaction",
    "order",
    "unsupported",
];

pub(super) fn message(item: &Value, contacts: &[Value], number: Option<&str>) -> Update {
    let mut from = Address::new(text(item, "from"), text(item, "from_user_id"))
        .with_parent(text(item, "from_parent_user_id"));
    let mut identity_hash = None;
    // With one contact beside one or more messages it is their sender; it may know the other form.
    if let [contact] = contacts {
        from = from.completed(self::contact(contact));
        identity_hash = text(contact, "identity_key_hash").filter(|hash| !hash.is_empty());
    }
    if from.user_id.is_some() && from.phone.is_none() {
        let shared = Address::new(shared_number(item), from.user_id.clone());
        from = from.completed(shared);
    }
    if !item.is_object() || (from.is_empty() && item.get("type").is_none()) {
        return Update::Unreadable;
    }
    if item.get("type").and_then(Value::as_str) == Some("system") {
        return if from.is_empty() { Update::Unreadable } else { system(item, from) };
    }
    let answers = item.get("context").and_then(|it| text(it, "id"));
    let nameless = from.is_empty();
    let message = Inbound {
        from,
        answers: answers.filter(|id| !id.is_empty()),
        identity_hash,
        number: number.map(str::to_owned),
        id: text(item, "id").unwrap_or_default(),
        said_at: seconds(item),
        by_advertisement: item.get("referral").is_some_and(is_advertisement),
        said: said(item),
        raw: item.clone(),
    };
    if nameless { Update::Nameless(message) } else { Update::Message(message) }
}

/// A post leads people here too; messages after that cost.
fn is_advertisement(referral: &Value) -> bool {
    let is_ad = text(referral, "source_type").is_some_and(|it| it.eq_ignore_ascii_case("ad"));
    is_ad || text(referral, "ctwa_clid").is_some_and(|it| !it.is_empty())
}

/// The number of a card that she sent because she was asked for her number: that it is hers is the provider's word. A
/// card of any other origin may be anybody's.
fn shared_number(message: &Value) -> Option<String> {
    let [card] = list(message, "contacts") else { return None };
    let [phone] = list(card, "phones") else { return None };
    let is_hers = text(card, "origin").is_some_and(|origin| origin == "contact_request");
    is_hers.then(|| text(phone, "wa_id").or_else(|| text(phone, "phone"))).flatten()
}

/// What a message says: the element as it came.
#[must_use]
pub fn said(item: &Value) -> Said {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    let button = |value: &Value, payload, label| Said::Button {
        payload: text(value, payload),
        text: text(value, label),
    };
    let said = match kind {
        "text" => item.get("text").and_then(|it| text(it, "body")).map(Said::Text),
        "button" => item.get("button").map(|it| button(it, "payload", "text")),
        "interactive" => item
            .get("interactive")
            .and_then(|it| it.get("button_reply").or_else(|| it.get("list_reply")))
            .map(|it| button(it, "id", "title")),
        _ => None,
    };
    said.unwrap_or_else(|| {
        Said::Other(KINDS.into_iter().find(|known| *known == kind).unwrap_or("other"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::reading::tests::updates;

    #[test]
    fn buttons_come_in_three_forms() {
        let all = updates(
            r#"{"messages":[
            {"from":"1","type":"button","button":{"payload":"p","text":"Stop promotions"}},
            {"from":"1","type":"interactive","interactive":{"type":"button_reply","button_reply":{"id":"i","title":"t"}}},
            {"from":"1","type":"interactive","interactive":{"type":"list_reply","list_reply":{"id":"i","title":"t"}}}]}"#,
        );
        for update in &all {
            let Update::Message(message) = update else { panic!("a message") };
            assert!(matches!(&message.said, Said::Button { payload: Some(_), text: Some(_) }));
        }
    }

    #[test]
    fn a_person_known_by_user_id_only_has_an_address() {
        let all = updates(
            r#"{"contacts":[{"profile":{"name":"A"},"wa_id":"","user_id":"FR.abc"}],
            "messages":[{"from":"","from_user_id":"FR.abc","id":"w","timestamp":"1","type":"text","text":{"body":"stop"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert!(message.from == Address::new(None, Some("FR.abc".into())));
    }

    #[test]
    fn a_card_tells_a_number_only_where_the_provider_says_that_it_is_hers() {
        let phone_of = |from: &str, card: &str| {
            let all = updates(&format!(
                r#"{{"messages":[{{{from},"id":"w","type":"contacts","contacts":{card}}}]}}"#
            ));
            let (Update::Message(it) | Update::Nameless(it)) = &all[0] else { panic!("a message") };
            it.from.phone.clone()
        };
        let hers = r#"{"origin":"contact_request","phones":[{"phone":"+33612345678","wa_id":"33612345678"}]}"#;
        let by_id = r#""from_user_id":"FR.abc""#;
        let asked = format!("[{hers}]");
        assert_eq!(phone_of(by_id, &asked).as_deref(), Some("+33612345678"));
        let by_number = r#""from":"33600000001","from_user_id":"FR.abc""#;
        assert_eq!(phone_of(by_number, &asked).as_deref(), Some("+33600000001"), "it is known");
        assert_eq!(phone_of(r#""from":"""#, &asked), None, "nobody says whose it is");
        let others = [
            hers.replace("contact_request", "other"),
            r#"{"phones":[{"wa_id":"33612345678"}]}"#.to_owned(),
            format!("{hers},{hers}"),
            r#"{"origin":"contact_request","phones":[{"wa_id":"1"},{"wa_id":"2"}]}"#.to_owned(),
            r#"{"origin":"contact_request"}"#.to_owned(),
            "7".to_owned(),
        ];
        for cards in others {
            assert_eq!(phone_of(by_id, &format!("[{cards}]")), None, "{cards}");
        }
    }

    #[test]
    fn the_contact_beside_a_message_gives_the_other_form_of_its_address() {
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc"}],
            "messages":[{"from":"33612345678","id":"w","type":"text","text":{"body":"stop"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.from.user_id.as_deref(), Some("FR.abc"));
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc","parent_user_id":"FR.ENT.p","identity_key_hash":"h"}],
            "messages":[{"from":"33612345678","id":"w","type":"text","text":{"body":"hi"},"context":{"id":"wamid.ours"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.from.parent_user_id.as_deref(), Some("FR.ENT.p"));
        assert_eq!(message.identity_hash.as_deref(), Some("h"));
        assert_eq!(message.answers.as_deref(), Some("wamid.ours"));
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc"}],
            "statuses":[{"id":"w","status":"sent","recipient_id":"33612345678"},
                {"id":"w","status":"sent","recipient_id":"33600000000"}]}"#,
        );
        let Update::Status(status) = &all[0] else { panic!("a status") };
        assert_eq!(status.recipient.user_id.as_deref(), Some("FR.abc"));
        let Update::Status(anothers) = &all[1] else { panic!("a status") };
        assert_eq!(anothers.recipient.user_id, None, "the contact is somebody else");
    }

    #[test]
    fn a_message_that_names_nobody_is_kept_apart() {
        let all = updates(
            r#"{"messages":[{"id":"w","type":"text","text":{"body":"STOP"},"context":{"id":"wamid.ours"}}]}"#,
        );
        let Update::Nameless(message) = &all[0] else { panic!("nameless") };
        assert_eq!(message.answers.as_deref(), Some("wamid.ours"));
        assert_eq!(all[0].kind(), "unreadable");
    }

    #[test]
    fn every_kind_of_message_is_named_and_new_ones_are_other() {
        for kind in KINDS {
            let all = updates(&format!(r#"{{"messages":[{{"from":"1","type":"{kind}"}}]}}"#));
            assert_eq!(all[0].kind(), kind);
        }
        let all = updates(r#"{"messages":[{"from":"1","type":"hologram"}]}"#);
        assert_eq!(all[0].kind(), "other");
        // A click on an advertisement stands beside a text; the raw element keeps it.
        let all = updates(
            r#"{"messages":[{"from":"1","type":"text","text":{"body":"hi"},"referral":{"ctwa_clid":"c"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.raw["referral"]["ctwa_clid"], "c");
    }
}
