//! Reads what stands in a webhook, tolerantly: each update on its own, so that an unknown field, type or id
//! never loses the others. It guarantees that a stop is found wherever the rest can't be read.

mod account;
mod fields;
mod messages;
mod people;
mod statuses;

use serde_json::Value;

use super::updates::Update;
use account::other;
use fields::text;
use messages::message;
use people::{moved, preference};
use statuses::status;

pub(super) use fields::list;
pub use messages::said;

/// The lists whose elements are updates of their own.
pub(super) const LISTS: [&str; 4] = ["messages", "statuses", "user_preferences", "user_id_update"];

/// What an element is follows from where it stands; `field` may be of a newer version.
pub(super) fn read_change(
    entry: &Value,
    change: &Value,
    mut found: impl FnMut(Option<(&'static str, usize)>, Update),
) {
    let Some(value) = change.get("value").filter(|value| value.is_object()) else {
        return found(None, Update::Unreadable);
    };
    let contacts = list(value, "contacts");
    let number = value.get("metadata").and_then(|it| text(it, "phone_number_id"));
    let mut listed = false;
    for key in LISTS {
        for (index, item) in list(value, key).iter().enumerate() {
            listed = true;
            let update = match key {
                "messages" => message(item, contacts, number.as_deref()),
                "statuses" => status(item, contacts),
                "user_preferences" => preference(item),
                _ => moved(item),
            };
            found(Some((key, index)), update);
        }
    }
    if !listed {
        found(None, other(entry, change, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::envelope::Webhook;
    use crate::whatsapp::updates::Said;

    pub(super) fn updates(value: &str) -> Vec<Update> {
        let body = format!(
            r#"{{"object":"whatsapp_business_account","new":[],"entry":[{{"id":"1","changes":[{{"field":"messages","value":{value}}}]}}]}}"#
        );
        Webhook::read(body.as_bytes()).unwrap().into_updates()
    }

    pub(super) fn change(field: &str, value: &str) -> Update {
        let body = format!(
            r#"{{"entry":[{{"id":"1","time":1760000000,"changes":[{{"field":"{field}","value":{value}}}]}}]}}"#
        );
        let updates = Webhook::read(body.as_bytes()).unwrap().into_updates();
        assert_eq!(updates.len(), 1);
        updates.into_iter().next().unwrap()
    }

    #[test]
    fn one_element_that_cannot_be_read_does_not_lose_the_others() {
        let all = updates(
            r#"{"messaging_product":"whatsapp","metadata":{"phone_number_id":"7"},
            "messages":[null,7,{"type":"text"},{"from":"33612345678","id":"wamid.A","timestamp":"1760000000","type":"hologram","hologram":{}},
                {"from":"33612345678","id":"wamid.B","timestamp":1760000001,"type":"text","text":{"body":"STOP","more":1}}],
            "statuses":[{},{"id":"wamid.C","status":"delivered","timestamp":"x","errors":[{"code":"no"},{"code":131050}]}]}"#,
        );
        assert_eq!(all.len(), 7);
        let bad = |it: &&Update| matches!(it, Update::Unreadable | Update::Nameless(_));
        assert_eq!(all.iter().filter(bad).count(), 4);
        let Update::Message(stop) = &all[4] else { panic!("a message") };
        assert!(matches!(&stop.said, Said::Text(text) if text == "STOP"));
        assert_eq!(stop.said_at, 1_760_000_001);
        assert_eq!(stop.from.phone.as_deref(), Some("+33612345678"));
        let Update::Status(status) = &all[6] else { panic!("a status") };
        assert_eq!(status.codes, [131_050]);
    }
}
