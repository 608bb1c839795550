//! Webhook bodies, read tolerantly: each update is read on its own, so that an unknown field, type
//! or id never loses the others. It guarantees that a stop is found wherever the rest can't be read;
//! verifying and storing bodies is left to the webhook.

use serde::Deserialize;
use serde_json::{Map, Value};

/// One thing that a webhook told. No `Debug`: it holds numbers and messages.
pub enum Update {
    /// A person wrote or pressed a button.
    Message(Inbound),
    /// Progress of a message that we sent.
    Status(StatusUpdate),
    /// A person changed WhatsApp's own marketing preference.
    Preference(Preference),
    /// A person has another number or user id than before.
    Moved(Moved),
    /// Something about a template.
    Template(TemplateUpdate),
    /// Something about the account or its number.
    Account(AccountUpdate),
    /// Told for people to read: nothing follows from it here.
    Notice(&'static str),
    /// A kind that this version doesn't know.
    Unknown,
    /// An element of a known kind that can't be read.
    Unreadable,
}

impl Update {
    /// Its kind, for counting.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Message(message) => message.said.kind(),
            Self::Status(_) => "status",
            Self::Preference(_) => "preference",
            Self::Moved(_) => "moved",
            Self::Template(_) => "template",
            Self::Account(_) => "account",
            Self::Notice(field) => field,
            Self::Unknown => "unknown",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A person's address before and after.
pub struct Moved {
    /// What she had.
    pub before: Address,
    /// What she has now.
    pub after: Address,
    /// The provider's id of the news, where it has one: personal data.
    pub id: String,
    /// When, seconds since 1970; 0 when the provider didn't say.
    pub at: i64,
}

/// Something about a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateUpdate {
    /// Of which business account, where that is said.
    pub account: Option<String>,
    /// Its name.
    pub name: String,
    /// Its language code, with `_`.
    pub language: String,
    /// What it is about.
    pub news: TemplateNews,
    /// When, seconds since 1970; 0 when the provider didn't say.
    pub at: i64,
}

/// What is new about a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateNews {
    /// Its status, as the provider names it, and why.
    Status {
        /// Such as `PAUSED`.
        status: String,
        /// Such as `INCORRECT_CATEGORY`.
        reason: Option<String>,
    },
    /// Its category changed, or will.
    Category {
        /// What it is now.
        current: String,
        /// What it will be, and from when on (seconds since 1970; 0: at once).
        next: Option<(String, i64)>,
    },
    /// Its quality, such as `RED`.
    Quality(String),
    /// Its text was edited.
    Components,
}

/// Something about the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountUpdate {
    /// Which, where that is said.
    pub account: Option<String>,
    /// Which field of the webhook told it.
    pub field: String,
    /// What happened, such as `DISABLED_UPDATE`.
    pub event: String,
    /// The state of a ban, such as `DISABLE` or `REINSTATE`.
    pub ban: Option<String>,
    /// To how many people in a day the business may speak first, such as `TIER_2K`.
    pub tier: Option<String>,
    /// When, seconds since 1970; 0 when the provider didn't say.
    pub at: i64,
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
    /// To which number of the business, by the provider's id of it, where that is said.
    pub number: Option<String>,
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
    /// Anything else that she can send, by the provider's name for it.
    Other(&'static str),
}

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

impl Said {
    /// The published kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Button { .. } => "button",
            Self::Other(kind) => kind,
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

/// A body that was read.
pub struct Webhook {
    envelope: Value,
    updates: Vec<(Place, Update)>,
}

/// Where an update stands in its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    entry: usize,
    change: usize,
    /// List and index, for those that stand in one.
    item: Option<(&'static str, usize)>,
}

/// The lists whose elements are updates of their own.
const LISTS: [&str; 4] = ["messages", "statuses", "user_preferences", "user_id_update"];

impl Webhook {
    /// Reads a body.
    ///
    /// # Errors
    /// [`NotAnEnvelope`] when there is nothing to look into.
    pub fn read(body: &[u8]) -> Result<Self, NotAnEnvelope> {
        let envelope: Value = serde_json::from_slice(body).map_err(|_| NotAnEnvelope)?;
        let entries = envelope.get("entry").and_then(Value::as_array).ok_or(NotAnEnvelope)?;
        let mut updates = Vec::new();
        for (entry, of_entry) in entries.iter().enumerate() {
            for (change, of_change) in list(of_entry, "changes").iter().enumerate() {
                let place = |item| Place { entry, change, item };
                read_change(of_entry, of_change, |item, update| {
                    updates.push((place(item), update));
                });
            }
        }
        Ok(Self { envelope, updates })
    }

    /// Every update, in its order.
    #[must_use]
    pub fn updates(&self) -> &[(Place, Update)] {
        &self.updates
    }

    /// The updates themselves.
    #[must_use]
    pub fn into_updates(self) -> Vec<Update> {
        self.updates.into_iter().map(|(_, update)| update).collect()
    }

    /// A body that holds these updates only, each as it came with what stands beside it.
    #[must_use]
    pub fn only(&self, places: &[Place]) -> Vec<u8> {
        let mut entries: Vec<(usize, Value)> = Vec::new();
        for place in places {
            let Some((of_entry, of_change)) = self.at(*place) else { continue };
            let change = match place.item {
                // Whole lists are not copied: there may be a thousand places in one.
                Some((key, index)) => with(of_change, "value", |value| {
                    let beside = value.as_object().into_iter().flatten();
                    let beside = beside.filter(|(name, _)| !LISTS.contains(&name.as_str()));
                    let mut alone: Map<String, Value> =
                        beside.map(|(name, value)| (name.clone(), value.clone())).collect();
                    let item = list(value, key).get(index);
                    alone.insert(key.to_owned(), Value::from_iter(item.cloned()));
                    Value::Object(alone)
                }),
                None => of_change.clone(),
            };
            if entries.last().is_none_or(|(entry, _)| *entry != place.entry) {
                let entry = with(of_entry, "changes", |_| Value::Array(Vec::new()));
                entries.push((place.entry, entry));
            }
            if let Some(Value::Array(changes)) =
                entries.last_mut().and_then(|(_, entry)| entry.get_mut("changes"))
            {
                changes.push(change);
            }
        }
        let envelope = with(&self.envelope, "entry", |_| {
            entries.into_iter().map(|(_, entry)| entry).collect()
        });
        envelope.to_string().into_bytes()
    }

    fn at(&self, place: Place) -> Option<(&Value, &Value)> {
        let entry = list(&self.envelope, "entry").get(place.entry)?;
        Some((entry, list(entry, "changes").get(place.change)?))
    }
}

/// An object with another value under one of its names.
fn with(object: &Value, name: &str, other: impl FnOnce(&Value) -> Value) -> Value {
    let fields = object.as_object().into_iter().flatten();
    let mut copy: Map<String, Value> = fields
        .filter(|(field, _)| *field != name)
        .map(|(field, value)| (field.clone(), value.clone()))
        .collect();
    copy.insert(name.to_owned(), other(object.get(name).unwrap_or(&Value::Null)));
    Value::Object(copy)
}

/// What an element is follows from where it stands; `field` may be of a newer version.
fn read_change(
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
                "statuses" => status(item),
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

/// A change that is no list of updates.
fn other(entry: &Value, change: &Value, value: &Value) -> Update {
    let field = change.get("field").and_then(Value::as_str).unwrap_or_default();
    let at = entry.get("time").and_then(number).unwrap_or_default();
    let account = text(entry, "id");
    match field {
        "message_template_status_update"
        | "template_category_update"
        | "message_template_quality_update"
        | "message_template_components_update" => {
            template(field, value, account, at).map_or(Update::Unreadable, Update::Template)
        }
        "account_update" | "phone_number_quality_update" | "account_review_update" => {
            let event = text(value, "event").or_else(|| text(value, "decision"));
            event.map_or(Update::Unreadable, |event| {
                let ban = value.get("ban_info").and_then(|it| text(it, "waba_ban_state"));
                let tier = text(value, "max_daily_conversations_per_business")
                    .or_else(|| text(value, "current_limit"));
                let field = field.to_owned();
                Update::Account(AccountUpdate { account, field, event, ban, tier, at })
            })
        }
        "user_id_update" => moved(value),
        // Errors of the account itself, and lists that are empty.
        "messages" => Update::Notice("messages"),
        "account_alerts" => Update::Notice("account_alerts"),
        "account_settings_update" => Update::Notice("account_settings_update"),
        "business_capability_update" => Update::Notice("business_capability_update"),
        "business_status_update" => Update::Notice("business_status_update"),
        "phone_number_name_update" => Update::Notice("phone_number_name_update"),
        "phone_number_username_update" => Update::Notice("phone_number_username_update"),
        "payment_configuration_update" => Update::Notice("payment_configuration_update"),
        "security" => Update::Notice("security"),
        _ => Update::Unknown,
    }
}

fn template(
    field: &str,
    value: &Value,
    account: Option<String>,
    at: i64,
) -> Option<TemplateUpdate> {
    let news = match field {
        "message_template_status_update" => TemplateNews::Status {
            status: text(value, "event")?,
            reason: text(value, "reason").filter(|reason| reason != "NONE"),
        },
        "template_category_update" => TemplateNews::Category {
            current: text(value, "new_category")?,
            next: text(value, "correct_category").map(|next| {
                let from = value.get("category_update_timestamp").and_then(number);
                (next, from.unwrap_or_default())
            }),
        },
        "message_template_quality_update" => {
            TemplateNews::Quality(text(value, "new_quality_score")?)
        }
        _ => TemplateNews::Components,
    };
    Some(TemplateUpdate {
        account,
        name: text(value, "message_template_name")?,
        // `en-US` in webhooks, `en_US` everywhere else.
        language: text(value, "message_template_language")?.replace('-', "_"),
        news,
        at,
    })
}

/// `user_id_update`: a new user id for the same person.
fn moved(item: &Value) -> Update {
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
fn system(item: &Value, from: Address) -> Update {
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

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// A number, which the provider may write as a string.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Seconds since 1970.
fn seconds(value: &Value) -> i64 {
    value.get("timestamp").and_then(number).unwrap_or_default()
}

fn message(item: &Value, contacts: &[Value], number: Option<&str>) -> Update {
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
        return Update::Unreadable;
    }
    if item.get("type").and_then(Value::as_str) == Some("system") {
        return system(item, from);
    }
    Update::Message(Inbound {
        from,
        number: number.map(str::to_owned),
        id: text(item, "id").unwrap_or_default(),
        said_at: seconds(item),
        said: said(item),
        raw: item.clone(),
    })
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
    let Some(status) = text(item, "status") else { return Update::Unreadable };
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

    fn updates(value: &str) -> Vec<Update> {
        let body = format!(
            r#"{{"object":"whatsapp_business_account","new":[],"entry":[{{"id":"1","changes":[{{"field":"messages","value":{value}}}]}}]}}"#
        );
        Webhook::read(body.as_bytes()).unwrap().into_updates()
    }

    fn change(field: &str, value: &str) -> Update {
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
        assert_eq!(all.iter().filter(|it| matches!(it, Update::Unreadable)).count(), 4);
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
            assert_eq!(Webhook::read(body).err(), Some(NotAnEnvelope));
        }
        assert!(Webhook::read(b"{\"entry\":[]}").unwrap().updates().is_empty());
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

    #[test]
    fn templates_and_the_account_tell_of_themselves() {
        let template = |field, more: &str| {
            let value = format!(
                r#"{{"message_template_id":1,"message_template_name":"n","message_template_language":"en-US"{more}}}"#
            );
            match change(field, &value) {
                Update::Template(it) => {
                    assert_eq!((&*it.name, &*it.language, it.at), ("n", "en_US", 1_760_000_000));
                    it.news
                }
                _ => panic!("a template"),
            }
        };
        assert_eq!(
            template("message_template_status_update", r#","event":"PAUSED","reason":"NONE""#),
            TemplateNews::Status { status: "PAUSED".into(), reason: None }
        );
        assert_eq!(
            template(
                "template_category_update",
                r#","new_category":"UTILITY","correct_category":"MARKETING","category_update_timestamp":1760086400"#
            ),
            TemplateNews::Category {
                current: "UTILITY".into(),
                next: Some(("MARKETING".into(), 1_760_086_400))
            }
        );
        assert_eq!(
            template("message_template_quality_update", r#","new_quality_score":"RED""#),
            TemplateNews::Quality("RED".into())
        );
        assert_eq!(template("message_template_components_update", ""), TemplateNews::Components);
        let value = r#"{"event":"DISABLED_UPDATE","ban_info":{"waba_ban_state":"DISABLE"}}"#;
        let Update::Account(account) = change("account_update", value) else { panic!("account") };
        assert_eq!(account.ban.as_deref(), Some("DISABLE"));
        let value = r#"{"display_phone_number":"1","event":"FLAGGED","current_limit":"TIER_10K"}"#;
        assert!(matches!(change("phone_number_quality_update", value), Update::Account(_)));
        assert!(matches!(change("security", r#"{"event":"PIN_CHANGED"}"#), Update::Notice(_)));
        assert!(matches!(change("something_new", "{}"), Update::Unknown));
        assert!(matches!(change("account_update", "{}"), Update::Unreadable));
        assert!(matches!(change("message_template_status_update", "7"), Update::Unreadable));
    }

    #[test]
    fn an_update_alone_keeps_what_stands_beside_it() {
        let body = br#"{"object":"o","new":1,"entry":[{"id":"1","time":5,"changes":[
            {"field":"messages","value":{"metadata":{"m":1},"contacts":[{"wa_id":"1"}],
                "messages":[{"from":"1","id":"a"},{"from":"1","id":"b"}],"statuses":[{"status":"read"}]}},
            {"field":"something_new","value":{"x":1}}]}]}"#;
        let webhook = Webhook::read(body).unwrap();
        let places: Vec<_> = webhook.updates().iter().map(|(place, _)| *place).collect();
        assert_eq!(places.len(), 4);
        let alone = |at: &[usize]| -> Value {
            let wanted: Vec<_> = at.iter().map(|at| places[*at]).collect();
            serde_json::from_slice(&webhook.only(&wanted)).unwrap()
        };
        assert_eq!(
            alone(&[1]),
            serde_json::json!({"object": "o", "new": 1, "entry": [{"id": "1", "time": 5, "changes": [
                {"field": "messages", "value": {"metadata": {"m": 1}, "contacts": [{"wa_id": "1"}],
                    "messages": [{"from": "1", "id": "b"}]}}]}]})
        );
        assert_eq!(alone(&[3])["entry"][0]["changes"][0]["value"]["x"], 1);
        let both = serde_json::to_vec(&alone(&[0, 2])).unwrap();
        let kinds: Vec<_> =
            Webhook::read(&both).unwrap().into_updates().iter().map(Update::kind).collect();
        assert_eq!(kinds, ["other", "status"]);
    }
}
