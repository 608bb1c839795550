//! What people change at WhatsApp: their number, their user id, their preference for marketing. It guarantees that a
//! change names whom it is about.

use serde_json::Value;

use super::fields::{contact, seconds, text};
use crate::whatsapp::updates::{Address, Moved, Preference, Update};

/// `user_id_update`: a new user id for the same person.
pub(super) fn moved(item: &Value) -> Update {
    let ids = item.get("user_id").filter(|it| it.is_object()).unwrap_or(item);
    let (before, after) = (text(ids, "previous"), text(ids, "current"));
    let phone = text(item, "wa_id");
    let before = Address::new(None, before);
    let after = Address::new(phone, after);
    if before.is_empty() || after.user_id.is_none() {
        return Update::Unreadable;
    }
    Update::Moved(Moved { before, after, id: String::new(), at: seconds(item) })
}

/// A `system` message: she has another number, or another user id.
pub(super) fn system(item: &Value, from: Address) -> Update {
    let Some(system) = item.get("system") else { return Update::Unreadable };
    let kind = text(system, "type").unwrap_or_default();
    let after = Address::new(
        text(system, "wa_id").or_else(|| text(system, "new_wa_id")),
        text(system, "user_id"),
    );
    let known = ["user_changed_number", "user_changed_user_id"].contains(&kind.as_str());
    if !known || after.is_empty() {
        return Update::Unknown;
    }
    let id = text(item, "id").unwrap_or_default();
    Update::Moved(Moved { before: from, after, id, at: seconds(item) })
}

pub(super) fn preference(item: &Value) -> Update {
    let from = contact(item);
    let marketing = text(item, "category").is_none_or(|it| it == "marketing_messages");
    match item.get("value").and_then(Value::as_str) {
        _ if from.is_empty() => Update::Unreadable,
        Some(value @ ("stop" | "resume")) if marketing => {
            Update::Preference(Preference { from, stop: value == "stop", said_at: seconds(item) })
        }
        _ => Update::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::whatsapp::reading::tests::updates;

    #[test]
    fn preferences_and_their_other_categories() {
        let all = updates(
            r#"{"user_preferences":[
            {"wa_id":"33612345678","detail":"d","category":"marketing_messages","value":"stop","timestamp":1},
            {"wa_id":"33612345678","category":"marketing_messages","value":"resume","timestamp":1},
            {"wa_id":"33612345678","category":"other","value":"stop","timestamp":1}]}"#,
        );
        assert!(matches!(&all[0], Update::Preference(it) if it.stop));
        assert!(matches!(&all[1], Update::Preference(it) if !it.stop));
        assert!(matches!(&all[2], Update::Unknown));
    }

    #[test]
    fn a_person_who_moved_is_no_message_of_hers() {
        let all = updates(
            r#"{"messages":[
            {"from":"16505551234","id":"w","timestamp":"7","type":"system","system":{"body":"b","wa_id":"12195555358","type":"user_changed_number"}},
            {"from":"","from_user_id":"US.1","id":"v","type":"system","system":{"user_id":"US.2","type":"user_changed_user_id"}},
            {"from":"16505551234","type":"system","system":{"type":"something_new","wa_id":"1"}}],
            "user_id_update":[{"wa_id":"16505551234","user_id":{"previous":"US.1","current":"US.2"}}, {"previous":"US.3","current":"US.4"}]}"#,
        );
        let Update::Moved(number) = &all[0] else { panic!("moved") };
        assert_eq!(number.before.phone.as_deref(), Some("+16505551234"));
        assert_eq!(number.after.phone.as_deref(), Some("+12195555358"));
        assert_eq!(number.at, 7);
        let Update::Moved(user) = &all[1] else { panic!("moved") };
        assert_eq!(user.after.user_id.as_deref(), Some("US.2"));
        assert!(matches!(&all[2], Update::Unknown));
        assert!(matches!(&all[3], Update::Moved(it) if it.after.phone.is_some()));
        assert!(
            matches!(&all[4], Update::Moved(it) if it.before.user_id.as_deref() == Some("US.3"))
        );
    }
}
