//! Fields as the provider writes them. It guarantees that what is missing or of another type is nothing, and no error.

use serde_json::Value;

use crate::whatsapp::updates::Address;

pub(in crate::whatsapp) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(super) fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

/// A number, which the provider may write as a string.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Seconds since 1970.
pub(super) fn seconds(value: &Value) -> i64 {
    value.get("timestamp").and_then(number).unwrap_or_default()
}

/// An entry of `contacts`.
pub(super) fn contact(contact: &Value) -> Address {
    Address::new(text(contact, "wa_id"), text(contact, "user_id"))
        .with_parent(text(contact, "parent_user_id"))
}
