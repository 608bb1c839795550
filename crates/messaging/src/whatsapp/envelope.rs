//! The envelope that webhooks come in, and parts of it: an update alone keeps what stands beside it. Verifying
//! and storing bodies is left to the webhook.

use serde_json::{Map, Value};

use super::reading::{LISTS, list, read_change};
use super::updates::Update;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_envelope_is_told() {
        for body in [&b""[..], b"[]", b"{}", b"{\"entry\":1}", b"\xff"] {
            assert_eq!(Webhook::read(body).err(), Some(NotAnEnvelope));
        }
        assert!(Webhook::read(b"{\"entry\":[]}").unwrap().updates().is_empty());
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
