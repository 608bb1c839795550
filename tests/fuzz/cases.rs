//! How inputs are made: bodies of every kind that the provider documents, changed in their tree, then in
//! their bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A body, and what is done to it.
#[derive(Debug, Clone)]
pub struct Body {
    /// The values of its changes, changed.
    pub envelope: Value,
    /// What becomes of its bytes.
    pub bytes: Vec<Edit>,
}

/// A signed body with a header, both changed.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The body.
    pub body: Vec<u8>,
    /// What becomes of the body.
    pub body_edits: Vec<Edit>,
    /// What becomes of the header.
    pub header_edits: Vec<Edit>,
}

/// A change of bytes. Places are shares of the length, in 65,536ths.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Another byte there.
    Set(u16, u8),
    /// These bytes put in there.
    Insert(u16, Vec<u8>),
    /// So many bytes taken out there.
    Remove(u16, u8),
    /// Nothing after it.
    Cut(u16),
}

/// Applies changes of bytes.
pub fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    let place = |bytes: &[u8], share: u16| bytes.len() * usize::from(share) / 65_536;
    for edit in edits {
        match edit {
            Edit::Set(at, byte) => {
                let at = place(&bytes, *at);
                if let Some(there) = bytes.get_mut(at) {
                    *there = *byte;
                }
            }
            Edit::Insert(at, more) => {
                // Also behind the last one.
                let at = (bytes.len() + 1) * usize::from(*at) / 65_536;
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Remove(at, count) => {
                let from = place(&bytes, *at);
                let to = (from + usize::from(*count)).min(bytes.len());
                bytes.drain(from..to);
            }
            Edit::Cut(at) => bytes.truncate(place(&bytes, *at)),
        }
    }
    bytes
}

/// A change of the tree: which node, counted through, and what it becomes.
#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Repeat(u8),
    Wrap(u8),
    Rename(String),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        2 => (any::<u16>(), vec(any::<u8>(), 1..8)).prop_map(|(at, more)| Edit::Insert(at, more)),
        2 => (any::<u16>(), 1_u8..32).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => any::<u16>().prop_map(Edit::Cut),
    ]
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!("\u{0}\u{202e}\u{1f468}\u{200d}\u{1f469}")),
        Just(json!("9223372036854775808")),
        Just(json!("-1")),
        "[ -~]{0,12}".prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
        (0..KINDS).prop_map(|kind| kinds()[kind].1.clone()),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => odd_value().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => (2_u8..6).prop_map(Change::Repeat),
        1 => (1_u8..=140).prop_map(Change::Wrap),
        1 => prop_oneof![
            Just("messages"), Just("statuses"), Just("user_preferences"), Just("user_id_update"),
            Just("value"), Just("type"), Just("text"), Just(""),
        ].prop_map(|name| Change::Rename(name.to_owned())),
    ]
}

/// Bodies.
pub fn bodies() -> impl Strategy<Value = Body> {
    let changed = (0..KINDS, vec((any::<u16>(), change()), 0..5)).prop_map(|(kind, changes)| {
        let (field, value) = kinds()[kind].clone();
        let mut entry = json!({"id": "102290129340398", "time": 1_760_000_000,
            "changes": [{"field": field, "value": value}]});
        for (node, change) in changes {
            let nodes = count(&entry);
            let mut at = usize::from(node) % nodes;
            apply(&mut entry, &mut at, &change);
        }
        entry
    });
    (vec(changed, 1..3), vec(edit(), 0..3)).prop_map(|(entries, bytes)| Body {
        envelope: json!({"object": "whatsapp_business_account", "entry": entries}),
        bytes,
    })
}

/// Signed bodies.
pub fn signed() -> impl Strategy<Value = Signed> {
    (vec(any::<u8>(), 0..200), vec(edit(), 0..3), vec(edit(), 0..3))
        .prop_map(|(body, body_edits, header_edits)| Signed { body, body_edits, header_edits })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Walks to the node at which `at` reaches zero and changes it there, in its parent.
fn apply(value: &mut Value, at: &mut usize, change: &Change) -> bool {
    match value {
        Value::Array(items) => {
            for index in 0..items.len() {
                if *at == 0 {
                    match change {
                        Change::Remove => drop(items.remove(index)),
                        Change::Repeat(times) => {
                            let again = vec![items[index].clone(); usize::from(*times)];
                            items.splice(index..index, again);
                        }
                        other => changed(&mut items[index], other),
                    }
                    return true;
                }
                *at -= 1;
                if apply(&mut items[index], at, change) {
                    return true;
                }
            }
        }
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                if *at == 0 {
                    in_object(fields, &name, change);
                    return true;
                }
                *at -= 1;
                if fields.get_mut(&name).is_some_and(|value| apply(value, at, change)) {
                    return true;
                }
            }
        }
        _ => {}
    }
    false
}

fn in_object(fields: &mut Map<String, Value>, name: &str, change: &Change) {
    match change {
        Change::Remove => drop(fields.remove(name)),
        Change::Rename(other) => {
            if let Some(value) = fields.remove(name) {
                fields.insert(other.clone(), value);
            }
        }
        other => {
            if let Some(value) = fields.get_mut(name) {
                changed(value, other);
            }
        }
    }
}

fn changed(value: &mut Value, change: &Change) {
    match change {
        Change::Replace(other) => *value = other.clone(),
        Change::Wrap(deep) => {
            for _ in 0..*deep {
                *value = Value::Array(vec![value.take()]);
            }
        }
        Change::Repeat(times) => *value = Value::Array(vec![value.clone(); usize::from(*times)]),
        Change::Remove | Change::Rename(_) => *value = Value::Null,
    }
}

const KINDS: usize = 12;

/// A change of each kind: its field and its value.
fn kinds() -> &'static [(&'static str, Value); KINDS] {
    use std::sync::LazyLock;
    static ALL: LazyLock<[(&str, Value); KINDS]> = LazyLock::new(|| {
        let text = |more: Value| {
            let mut message = json!({"from": "33612300001", "id": "wamid.A",
                "timestamp": "1760000000"});
            message
                .as_object_mut()
                .expect("made above")
                .extend(more.as_object().cloned().unwrap_or_default());
            json!({"messaging_product": "whatsapp", "metadata": {"phone_number_id": "1"},
                "contacts": [{"profile": {"name": "Ada"}, "wa_id": "33612300001", "user_id": "FR.a1"}],
                "messages": [message]})
        };
        [
            ("messages", text(json!({"type": "text", "text": {"body": "hello"}}))),
            (
                "messages",
                text(json!({"type": "button", "button": {"payload": "p", "text": "Yes"}})),
            ),
            (
                "messages",
                text(json!({"type": "interactive", "interactive": {"type": "button_reply",
                    "button_reply": {"id": "i", "title": "Yes"}}})),
            ),
            (
                "messages",
                text(json!({"type": "system", "system": {"type": "user_changed_number",
                    "wa_id": "33612300002"}})),
            ),
            ("messages", text(json!({"type": "image", "image": {"id": "7", "caption": "c"}}))),
            (
                "messages",
                json!({"statuses": [{"id": "wamid.B", "status": "failed", "timestamp": "1760000000",
                    "recipient_id": "33612300001", "biz_opaque_callback_data": "x",
                    "errors": [{"code": 131_050, "title": "t"}],
                    "pricing": {"billable": true, "category": "marketing"}}]}),
            ),
            (
                "user_preferences",
                json!({"user_preferences": [{"wa_id": "33612300001", "category": "marketing_messages",
                    "value": "stop", "timestamp": 1_760_000_000}]}),
            ),
            (
                "user_id_update",
                json!({"user_id_update": [{"wa_id": "33612300001",
                    "user_id": {"previous": "FR.a1", "current": "FR.a2"}}]}),
            ),
            (
                "message_template_status_update",
                json!({"event": "PAUSED", "message_template_id": 1, "message_template_name": "n",
                    "message_template_language": "en-US", "reason": "NONE"}),
            ),
            (
                "template_category_update",
                json!({"message_template_name": "n", "message_template_language": "en",
                    "new_category": "UTILITY", "correct_category": "MARKETING",
                    "category_update_timestamp": 1_760_086_400}),
            ),
            (
                "account_update",
                json!({"event": "DISABLED_UPDATE", "ban_info": {"waba_ban_state": "DISABLE"}}),
            ),
            ("something_new", json!({"x": [1, {"y": null}]})),
        ]
    });
    &ALL
}
