//! Webhook bodies, read tolerantly: each update is read on its own, so that an unknown field, type
//! or id never loses the others. It guarantees that a stop is found wherever the rest can't be read;
//! verifying and storing bodies is left to the webhook.

use serde::Deserialize;
use serde_json::Value;

/// One thing that a webhook told. No `Debug`: it holds numbers and messages.
pub enum Update {
    /// A person wrote or pressed a button.
    Message(Inbound),
    /// Progress of a message that we sent.
    Status(StatusUpdate),
    /// A person changed WhatsApp's own marketing preference.
    Preference(Preference),
    /// Nothing that this version knows, or an element that can't be read.
    Unknown,
}

/// Who, in the forms in which the provider names people. A phone may be absent, or empty, for people
/// with usernames.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Phone number in E.164, with its plus sign.
    pub phone: Option<String>,
    /// Business-scoped user id, `CC.` and alphanumerics.
    pub user_id: Option<String>,
}

impl Address {
    fn new(phone: Option<String>, user_id: Option<String>) -> Self {
        let phone = phone
            .map(|phone| phone.chars().filter(char::is_ascii_digit).collect::<String>())
            .filter(|digits| !digits.is_empty())
            .map(|digits| format!("+{digits}"));
        Self { phone, user_id: user_id.filter(|id| !id.is_empty()) }
    }

    /// Whether it names nobody.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.phone.is_none() && self.user_id.is_none()
    }
}

/// A message from a person.
pub struct Inbound {
    /// From whom.
    pub from: Address,
    /// The provider's id: personal data.
    pub id: String,
    /// When she sent it, seconds since 1970; 0 when the provider didn't say.
    pub said_at: i64,
    /// What she sent.
    pub said: Said,
    /// The element as it came, for the conversation.
    pub raw: Value,
}

/// What a person sent.
pub enum Said {
    /// A text message.
    Text(String),
    /// A button: its payload or id, and its text.
    Button {
        /// What the sender had attached to it.
        payload: Option<String>,
        /// What the person saw.
        text: Option<String>,
    },
    /// Anything else.
    Other,
}

impl Said {
    /// The published kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Button { .. } => "button",
            Self::Other => "other",
        }
    }
}

/// Progress of a message that we sent.
pub struct StatusUpdate {
    /// The provider's id: personal data.
    pub id: String,
    /// `sent`, `delivered`, `read`, `failed`, `played`, or something newer.
    pub status: String,
    /// To whom.
    pub recipient: Address,
    /// Our message id, as we gave it.
    pub callback_data: Option<String>,
    /// Error codes.
    pub codes: Vec<i64>,
    /// When, seconds since 1970.
    pub at: i64,
}

/// WhatsApp's own marketing preference.
pub struct Preference {
    /// Whose.
    pub from: Address,
    /// Whether she wants no more; otherwise she resumed.
    pub stop: bool,
    /// When, seconds since 1970.
    pub said_at: i64,
}

/// The body is no JSON object with entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body is no webhook envelope")]
pub struct NotAnEnvelope;

/// Every update of a body, in its order.
///
/// # Errors
/// [`NotAnEnvelope`] when there is nothing to look into.
pub fn read(body: &[u8]) -> Result<Vec<Update>, NotAnEnvelope> {
    let envelope: Value = serde_json::from_slice(body).map_err(|_| NotAnEnvelope)?;
    let entries = envelope.get("entry").and_then(Value::as_array).ok_or(NotAnEnvelope)?;
    let mut updates = Vec::new();
    let changes = entries.iter().flat_map(|entry| list(entry, "changes"));
    for value in changes.filter_map(|change| change.get("value")) {
        // What an element is follows from where it stands; `field` may be of a newer version.
        let contacts = list(value, "contacts");
        updates.extend(list(value, "messages").iter().map(|item| message(item, contacts)));
        updates.extend(list(value, "statuses").iter().map(status));
        updates.extend(list(value, "user_preferences").iter().map(preference));
    }
    Ok(updates)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// Seconds since 1970, which the provider writes as a string and might write as a number.
fn seconds(value: &Value) -> i64 {
    let stamp = value.get("timestamp");
    stamp
        .and_then(|stamp| stamp.as_i64().or_else(|| stamp.as_str()?.parse().ok()))
        .unwrap_or_default()
}

fn message(item: &Value, contacts: &[Value]) -> Update {
    let mut from = Address::new(text(item, "from"), text(item, "from_user_id"));
    // With one contact beside one or more messages it is their sender; it may know the other form.
    if let [contact] = contacts {
        let contact = Address::new(text(contact, "wa_id"), text(contact, "user_id"));
        let same = from.is_empty()
            || (from.phone.is_some() && from.phone == contact.phone)
            || (from.user_id.is_some() && from.user_id == contact.user_id);
        if same {
            from.phone = from.phone.or(contact.phone);
            from.user_id = from.user_id.or(contact.user_id);
        }
    }
    if from.is_empty() {
        return Update::Unknown;
    }
    let button = |value: &Value, payload, label| Said::Button {
        payload: text(value, payload),
        text: text(value, label),
    };
    let said = match item.get("type").and_then(Value::as_str) {
        Some("text") => item.get("text").and_then(|it| text(it, "body")).map(Said::Text),
        Some("button") => item.get("button").map(|it| button(it, "payload", "text")),
        Some("interactive") => item
            .get("interactive")
            .and_then(|it| it.get("button_reply").or_else(|| it.get("list_reply")))
            .map(|it| button(it, "id", "title")),
        _ => None,
    };
    Update::Message(Inbound {
        from,
        id: text(item, "id").unwrap_or_default(),
        said_at: seconds(item),
        said: said.unwrap_or(Said::Other),
        raw: item.clone(),
    })
}

#[derive(Deserialize)]
struct ErrorCode {
    code: i64,
}

fn status(item: &Value) -> Update {
    let codes = list(item, "errors")
        .iter()
        .filter_map(|error| ErrorCode::deserialize(error).ok())
        .map(|error| error.code)
        .collect();
    let Some(status) = text(item, "status") else { return Update::Unknown };
    Update::Status(StatusUpdate {
        id: text(item, "id").unwrap_or_default(),
        status,
        recipient: Address::new(text(item, "recipient_id"), text(item, "recipient_user_id")),
        callback_data: text(item, "biz_opaque_callback_data"),
        codes,
        at: seconds(item),
    })
}

fn preference(item: &Value) -> Update {
    let from = Address::new(text(item, "wa_id"), text(item, "user_id"));
    let marketing = text(item, "category").is_none_or(|it| it == "marketing_messages");
    match item.get("value").and_then(Value::as_str) {
        Some(value @ ("stop" | "resume")) if marketing && !from.is_empty() => {
            Update::Preference(Preference { from, stop: value == "stop", said_at: seconds(item) })
        }
        _ => Update::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(value: &str) -> Vec<Update> {
        let body = format!(
            r#"{{"object":"whatsapp_business_account","new":[],"entry":[{{"id":"1","changes":[{{"field":"messages","value":{value}}}]}}]}}"#
        );
        read(body.as_bytes()).unwrap()
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
        assert_eq!(all.iter().filter(|it| matches!(it, Update::Unknown)).count(), 4);
        let Update::Message(stop) = &all[4] else { panic!("a message") };
        assert!(matches!(&stop.said, Said::Text(text) if text == "STOP"));
        assert_eq!(stop.said_at, 1_760_000_001);
        assert_eq!(stop.from.phone.as_deref(), Some("+33612345678"));
        let Update::Status(status) = &all[6] else { panic!("a status") };
        assert_eq!(status.codes, [131_050]);
    }

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
        assert!(message.from == Address { phone: None, user_id: Some("FR.abc".into()) });
    }

    #[test]
    fn the_contact_beside_a_message_gives_the_other_form_of_its_address() {
        let all = updates(
            r#"{"contacts":[{"wa_id":"33612345678","user_id":"FR.abc"}],
            "messages":[{"from":"33612345678","id":"w","type":"text","text":{"body":"stop"}}]}"#,
        );
        let Update::Message(message) = &all[0] else { panic!("a message") };
        assert_eq!(message.from.user_id.as_deref(), Some("FR.abc"));
    }

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
    fn what_is_no_envelope_is_told() {
        for body in [&b""[..], b"[]", b"{}", b"{\"entry\":1}", b"\xff"] {
            assert_eq!(read(body).err(), Some(NotAnEnvelope));
        }
        assert!(read(b"{\"entry\":[]}").unwrap().is_empty());
    }
}
