//! The topics as an AsyncAPI 3.0 document: channels, keys, headers, order, retention. It guarantees
//! that each promise in it is the contract's, and that the document stands alone.

use assent_contracts::envelope as header;
use assent_contracts::published::{ALL, EventType};
use assent_contracts::topics::{self, Cleanup, ERASURE_COMMANDS, Sequence, Topic};
use serde_json::{Map, Value, json};

use super::json_schema;

/// The prefix that topics have unless a deployment is configured otherwise.
pub const PREFIX: &str = "assent.";

const DESCRIPTION: &str = "\
Records are CloudEvents 1.0 in Kafka's binary mode: attributes in headers, JSON as value, the key in the record key. Keys are placed \
as the partitioner of Kafka's Java client places them (murmur2 of the key's text). Delivery is at least once; a record's key and `ce_sequence` tell \
a repeat, and of a command, which has no sequence, its `command_id`. Members and codes are added within a version, never taken away or changed; what changes otherwise is another version, published \
beside the old one. No record holds personal data in the clear. `assent.` is the deployment's prefix.";

/// The document.
pub fn document() -> Value {
    let mut channels = Map::new();
    let mut operations = Map::new();
    for topic in topics::ALL {
        let id = topic.suffix.replace('.', "-");
        let place = format!("#/channels/{id}");
        let messages: Vec<_> = message_ids(topic)
            .map(|id| json!({"$ref": format!("{place}/messages/{id}")}))
            .collect();
        channels.insert(id.clone(), channel(topic));
        let operation = json!({
            "action": "send",
            "channel": {"$ref": place},
            "summary": topic.about,
            "messages": messages,
        });
        operations.insert(format!("publish-{id}"), operation);
    }
    channels.insert(WEBHOOKS.to_owned(), webhooks());
    operations.insert(format!("call-{WEBHOOKS}"), calling());
    let mut messages: Map<_, _> =
        ALL.iter().map(|event| (message_id(event), message(event))).collect();
    messages.extend(ALL.iter().filter_map(tombstone));
    messages.extend(events(ERASURE_COMMANDS).map(call));
    let schemas: Map<_, _> =
        ALL.iter().map(|event| (event.name.to_owned(), payload(event))).collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Assent topics",
            "version": "1",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": header::CONTENT_TYPE_JSON,
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    })
}

fn events(topic: Topic) -> impl Iterator<Item = &'static EventType> {
    ALL.iter().filter(move |event| event.topic == topic)
}

fn message_id(event: &EventType) -> String {
    event.name.replace('.', "-")
}

/// The messages of a topic, those without a value last.
fn message_ids(topic: Topic) -> impl Iterator<Item = String> {
    let tombstones = events(topic).filter_map(tombstone).map(|(id, _)| id);
    events(topic).map(message_id).chain(tombstones)
}

/// On a compacted topic, the record without a value: nothing is held of its key any more.
fn tombstone(event: &EventType) -> Option<(String, Value)> {
    if event.topic.cleanup != Cleanup::Compact {
        return None;
    }
    let mut tombstone = message(event);
    tombstone["name"] = json!(format!("{}.tombstone", event.name));
    tombstone["title"] = json!(format!("{}, without a value", event.name));
    tombstone["summary"] = json!("The key is to be forgotten. The headers are those of the type.");
    tombstone["payload"] = json!({"type": "null"});
    tombstone.as_object_mut()?.remove("examples");
    Some((format!("{}-tombstone", message_id(event)), tombstone))
}

/// The channel of calls to participants: its addresses are theirs.
const WEBHOOKS: &str = "erasure-webhooks";

fn webhooks() -> Value {
    let messages: Map<_, _> = events(ERASURE_COMMANDS)
        .map(call)
        .map(|(id, _)| {
            let place = format!("#/components/messages/{id}");
            (id, json!({"$ref": place}))
        })
        .collect();
    json!({
        "address": null,
        "title": "erasure webhooks",
        "description": "What stands on the command topic, for participants that are called instead: by POST, at the address that each is \
                        registered with, signed as Standard Webhooks says. A call is repeated, the same, until it is answered by 2xx; of one \
                        person they come in order.",
        "messages": messages,
        "bindings": {},
    })
}

fn calling() -> Value {
    let place = format!("#/channels/{WEBHOOKS}");
    let messages: Vec<_> = events(ERASURE_COMMANDS)
        .map(call)
        .map(|(id, _)| json!({"$ref": format!("{place}/messages/{id}")}))
        .collect();
    json!({
        "action": "send",
        "channel": {"$ref": place},
        "summary": "Commands and inquiries for a participant that has a webhook.",
        "messages": messages,
        "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
    })
}

/// An event as a call carries it: CloudEvents in structured mode.
fn call(event: &EventType) -> (String, Value) {
    let text = |about: &str| json!({"type": "string", "description": about});
    let fixed = |value: &str| json!({"type": "string", "const": value});
    let attributes = json!({
        "specversion": fixed(header::SPEC_VERSION),
        "id": text("The call's id, as in `webhook-id`: the same in each try."),
        "source": fixed(&header::source(event.topic.suffix)),
        "type": fixed(event.name),
        "time": text("When it was recorded: RFC 3339, UTC, microseconds."),
        "subject": text(event.key.meaning()),
        "datacontenttype": fixed(header::CONTENT_TYPE_JSON),
        "traceparent": text("W3C trace context of what caused it, where that is known."),
        "data": {"$ref": format!("#/components/schemas/{}", event.name)},
    });
    let headers = json!({
        "content-type": fixed(header::CONTENT_TYPE_STRUCTURED),
        "webhook-id": text("The call's id."),
        "webhook-timestamp": text("When it was signed, in seconds since 1970: refuse what is older than five minutes."),
        "webhook-signature": text("`v1,` and the HMAC-SHA-256, in base64, of id, timestamp and body with dots between; two of them, a space \
                                   between, while secrets are rotated."),
    });
    let signed = ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"];
    let required =
        ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"];
    let message = json!({
        "name": format!("{}.call", event.name),
        "title": format!("{}, as a call", event.name),
        "contentType": header::CONTENT_TYPE_STRUCTURED,
        "headers": {"type": "object", "properties": headers, "required": signed},
        "payload": {"type": "object", "properties": attributes, "required": required},
    });
    (format!("{}-call", message_id(event)), message)
}

fn channel(topic: Topic) -> Value {
    let messages: Map<_, _> = message_ids(topic)
        .map(|id| {
            let place = format!("#/components/messages/{id}");
            (id, json!({"$ref": place}))
        })
        .collect();
    let mut configuration = Map::new();
    for (name, value) in topic.settings() {
        let value = match value.parse::<i64>() {
            Ok(number) => json!(number),
            Err(_) => json!([value]),
        };
        configuration.insert((*name).to_owned(), value);
    }
    json!({
        "address": topic.name(PREFIX),
        "title": topic.suffix,
        "description": format!("{} {} {}", topic.about, ordering(topic), retention(topic)),
        "messages": messages,
        "bindings": {"kafka": {
            "topic": topic.name(PREFIX),
            "partitions": topic.partitions,
            "topicConfiguration": configuration,
            "bindingVersion": "0.5.0",
        }},
    })
}

/// What is promised about order.
pub fn ordering(topic: Topic) -> &'static str {
    match topic.sequence {
        Sequence::Gapless => {
            "Records of one key stand in one partition, in the order in which they were recorded; `ce_sequence` counts them from 1 \
             without a gap. The partition count never changes."
        }
        Sequence::Rising => {
            "`ce_sequence` of a key only rises; a record whose `ce_eventsequence` is lower than one that was seen is old. The \
             partition count never changes."
        }
        Sequence::None => {
            "Records of one key stand in one partition; there is no sequence, since a repeat carries the same `command_id`. The \
             partition count never changes."
        }
    }
}

/// What is promised about how long records stay.
pub fn retention(topic: Topic) -> &'static str {
    match topic.cleanup {
        Cleanup::Keep => "Every record is kept for good.",
        Cleanup::Compact => {
            "Compacted: the newest record of each key is kept; a record without a value stays for at least a day."
        }
    }
}

fn message(event: &EventType) -> Value {
    let examples: Vec<Value> = json_schema::examples(event)
        .as_array()
        .into_iter()
        .flatten()
        .map(|example| json!({"payload": example}))
        .collect();
    json!({
        "name": event.name,
        "title": event.name,
        "contentType": header::CONTENT_TYPE_JSON,
        "headers": headers(event),
        "payload": {"$ref": format!("#/components/schemas/{}", event.name)},
        "bindings": {"kafka": {
            "key": {"type": "string", "format": "uuid", "description": event.key.meaning()},
            "bindingVersion": "0.5.0",
        }},
        "examples": examples,
    })
}

/// The headers of a record, all of them text.
fn headers(event: &EventType) -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let fixed = |value: &str| json!({"type": "string", "const": value});
    let number =
        |about: &str| json!({"type": "string", "pattern": "^[0-9]+$", "description": about});
    let mut properties = json!({
        header::CE_SPECVERSION: fixed(header::SPEC_VERSION),
        header::CE_ID: text("The event's id, a UUID of version 7: the same in every redelivery."),
        header::CE_SOURCE: fixed(&header::source(event.topic.suffix)),
        header::CE_TYPE: fixed(event.name),
        header::CE_TIME: text("When it was recorded: RFC 3339, UTC, microseconds."),
        header::CE_SUBJECT: text("The key once more."),
        header::CONTENT_TYPE: fixed(header::CONTENT_TYPE_JSON),
        header::TRACEPARENT: text("W3C trace context of what caused it, where that is known."),
    });
    let promised = header::headers(&event.topic);
    let required: Vec<&str> = promised.iter().filter(|it| it.always).map(|it| it.name).collect();
    if event.topic.sequence != Sequence::None {
        properties[header::CE_SEQUENCE] = number(match event.topic.sequence {
            Sequence::Gapless => "Its place among the events of its key: from 1, without a gap.",
            _ => "Only rises within a key.",
        });
    }
    if event.topic.sequence == Sequence::Rising {
        properties[header::CE_EVENT_SEQUENCE] =
            number("The `ce_sequence` of the last event of the event topic that it reflects.");
    }
    json!({"type": "object", "properties": properties, "required": required})
}

/// The schema of the data. AsyncAPI's own schemas are of draft 7, where parts are `definitions`.
fn payload(event: &EventType) -> Value {
    let place = format!("#/components/schemas/{}/definitions/", event.name);
    let (mut schema, parts) = json_schema::parts(event, &place);
    if !parts.is_empty() {
        schema["definitions"] = Value::Object(parts);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_and_type_is_told_with_its_promises() {
        let document = document();
        let at = |place: &str| document.pointer(place).unwrap_or_else(|| panic!("{place}"));
        for topic in topics::ALL {
            let channel = &document["channels"][topic.suffix.replace('.', "-")];
            assert_eq!(channel["address"], topic.name("assent."));
            assert_eq!(channel["bindings"]["kafka"]["partitions"], topic.partitions);
        }
        let state = at("/channels/consent-state-v1/bindings/kafka/topicConfiguration");
        assert_eq!(
            *state,
            json!({"cleanup.policy": ["compact"], "delete.retention.ms": 86_400_000})
        );
        for event in ALL {
            let message = at(&format!("/components/messages/{}", message_id(event)));
            let schema = message["payload"]["$ref"].as_str().unwrap();
            assert_eq!(at(&schema[1..])["type"], "object", "{}", event.name);
            assert_eq!(message["headers"]["properties"]["ce_type"]["const"], event.name);
        }
        let forgotten = at("/components/messages/assent-consent-state-v1-tombstone");
        assert_eq!(forgotten["payload"], json!({"type": "null"}));
        let place = "/channels/consent-state-v1/messages/assent-consent-state-v1-tombstone/$ref";
        let place = at(place).as_str().unwrap();
        assert_eq!(
            at(&place[1..])["headers"]["properties"]["ce_type"]["const"],
            "assent.consent.state.v1"
        );
        let commands = document["channels"]["erasure-commands-v1"]["messages"].as_object().unwrap();
        let tombstones = commands.keys().filter(|id| id.ends_with("-tombstone"));
        assert_eq!(tombstones.count(), 0, "only compacted topics have records without a value");
        let calls = document["channels"][WEBHOOKS]["messages"].as_object().unwrap();
        assert_eq!(calls.len(), commands.len(), "what is on the topic is called too");
        let call = at("/components/messages/assent-erasure-command-v1-call/payload/properties");
        assert_eq!(call["type"]["const"], "assent.erasure.command.v1");
        let command = at("/components/messages/assent-erasure-command-v1/headers/properties");
        assert!(command.get("ce_sequence").is_none(), "commands have no sequence");
    }
}
