//! CloudEvents 1.0 in Kafka's binary mode, by hand: thirty lines each way. It guarantees that what
//! one side writes the other reads, and that whatever is not a valid envelope is told apart with a
//! reason instead of failing; the data inside is opaque here.

use std::str::FromStr;

use assent_contracts::envelope as header;
use assent_contracts::topics::Topic;
use jiff::Timestamp;
use rdkafka::Message;
use rdkafka::message::{Header, Headers, OwnedHeaders};
use uuid::Uuid;

/// One event as it came from Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The topic it stood in.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// The record key: a `subject_id`, or the stream's id where no person is meant.
    pub key: Uuid,
    /// Its place among the events of its key, from 1; 0 on topics without a sequence.
    pub sequence: i64,
    /// On the compacted state topic: the last event-topic sequence that the record reflects.
    pub event_sequence: Option<i64>,
    /// The event's id, the same in every redelivery.
    pub id: Uuid,
    /// The type name, such as `assent.consent.granted.v1`.
    pub event_type: String,
    /// When it was recorded.
    pub time: Timestamp,
    /// W3C trace context of whoever caused it.
    pub traceparent: Option<String>,
    /// The data: JSON; empty for a tombstone of a compacted topic.
    pub data: Vec<u8>,
}

/// The attributes of an event that is to be written.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    /// The event's id.
    pub id: Uuid,
    /// Where it comes from: `/assent/<service>`.
    pub source: &'a str,
    /// The type name.
    pub event_type: &'a str,
    /// When it was recorded.
    pub time: Timestamp,
    /// The record key.
    pub key: Uuid,
    /// Its place among the events of its key; `None` on topics without a sequence.
    pub sequence: Option<i64>,
    /// On the compacted state topic: the last event-topic sequence that it reflects.
    pub event_sequence: Option<i64>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

/// The headers of an event: CloudEvents 1.0, Kafka protocol binding, binary content mode.
#[must_use]
pub fn headers(event: &Attributes<'_>) -> OwnedHeaders {
    let mut buffer = Uuid::encode_buffer();
    let mut headers = OwnedHeaders::new_with_capacity(10);
    headers = with(headers, header::CE_SPECVERSION, header::SPEC_VERSION);
    headers = with(headers, header::CE_ID, event.id.hyphenated().encode_lower(&mut buffer));
    headers = with(headers, header::CE_SOURCE, event.source);
    headers = with(headers, header::CE_TYPE, event.event_type);
    headers = with(headers, header::CE_TIME, &format!("{:.6}", event.time));
    headers = with(headers, header::CE_SUBJECT, event.key.hyphenated().encode_lower(&mut buffer));
    if let Some(sequence) = event.sequence {
        headers = with(headers, header::CE_SEQUENCE, &sequence.to_string());
    }
    if let Some(sequence) = event.event_sequence {
        headers = with(headers, header::CE_EVENT_SEQUENCE, &sequence.to_string());
    }
    if let Some(traceparent) = event.traceparent {
        headers = with(headers, header::TRACEPARENT, traceparent);
    }
    with(headers, header::CONTENT_TYPE, header::CONTENT_TYPE_JSON)
}

fn with(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}

/// A message that can't be read as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The topic it stood in.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// Its offset in the partition.
    pub offset: i64,
    /// The record key, if at least that could be read.
    pub key: Option<Uuid>,
    /// Which part of the envelope is missing or unreadable.
    pub defect: &'static str,
}

/// What stood at one offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An event.
    Event(Received),
    /// Something else.
    Malformed(Malformed),
}

impl Delivery {
    /// The offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        match self {
            Self::Event(event) => event.offset,
            Self::Malformed(message) => message.offset,
        }
    }

    /// Reads a message of this topic.
    #[must_use]
    pub fn read(topic: Topic, message: &impl Message) -> Self {
        let key = message.key().and_then(|key| Uuid::try_parse_ascii(key).ok());
        let (partition, offset) = (message.partition(), message.offset());
        match read(topic, key, message) {
            Ok(event) => Self::Event(event),
            Err(defect) => Self::Malformed(Malformed { topic, partition, offset, key, defect }),
        }
    }
}

fn read(topic: Topic, key: Option<Uuid>, message: &impl Message) -> Result<Received, &'static str> {
    let key = key.ok_or("key")?;
    let headers = message.headers().ok_or("headers")?;
    let mut version = None;
    let mut id = None;
    let mut event_type = None;
    let mut time = None;
    let mut sequence = None;
    let mut event_sequence = None;
    let mut traceparent = None;
    for header in headers.iter() {
        let value = header.value.and_then(|value| std::str::from_utf8(value).ok());
        match header.key {
            header::CE_SPECVERSION => version = value,
            header::CE_ID => id = value,
            header::CE_TYPE => event_type = value,
            header::CE_TIME => time = value,
            header::CE_SEQUENCE => sequence = Some(number(value).ok_or(header::CE_SEQUENCE)?),
            header::CE_EVENT_SEQUENCE => {
                event_sequence = Some(number(value).ok_or(header::CE_EVENT_SEQUENCE)?);
            }
            header::TRACEPARENT => traceparent = value.map(str::to_owned),
            _ => {}
        }
    }
    if version != Some(header::SPEC_VERSION) {
        return Err(header::CE_SPECVERSION);
    }
    Ok(Received {
        topic,
        partition: message.partition(),
        offset: message.offset(),
        key,
        sequence: sequence.unwrap_or(0),
        event_sequence,
        id: id.and_then(|id| Uuid::try_parse(id).ok()).ok_or(header::CE_ID)?,
        event_type: event_type.filter(|name| !name.is_empty()).ok_or(header::CE_TYPE)?.to_owned(),
        time: time.and_then(|time| Timestamp::from_str(time).ok()).ok_or(header::CE_TIME)?,
        traceparent,
        data: message.payload().unwrap_or_default().to_vec(),
    })
}

fn number(text: Option<&str>) -> Option<i64> {
    text?.parse().ok().filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use assent_contracts::topics::{self, CONSENT_EVENTS, Sequence};
    use rdkafka::message::OwnedMessage;

    use super::*;

    fn event() -> Attributes<'static> {
        Attributes {
            id: Uuid::from_u128(0x0197_8a4e_7c1d_7000_8000_0000_0000_0001),
            source: "/assent/consent",
            event_type: "assent.consent.granted.v1",
            time: "2026-05-03T10:00:00.000120Z".parse().unwrap(),
            key: Uuid::from_u128(0x6f1d_3c54_5d7e_4b52_9a3b_11aa_22bb_33cc),
            sequence: Some(7),
            event_sequence: None,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        }
    }

    fn message(key: Option<&[u8]>, headers: Option<OwnedHeaders>) -> OwnedMessage {
        OwnedMessage::new(
            Some(b"{}".to_vec()),
            key.map(<[u8]>::to_vec),
            "assent.consent.events.v1".to_owned(),
            rdkafka::Timestamp::NotAvailable,
            3,
            42,
            headers,
        )
    }

    fn key() -> String {
        event().key.to_string()
    }

    #[test]
    fn the_headers_are_those_of_cloudevents_1_0_in_binary_mode() {
        let headers = headers(&event());
        let written: Vec<_> = headers
            .iter()
            .map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap()))
            .collect();
        assert_eq!(
            written,
            [
                ("ce_specversion", "1.0"),
                ("ce_id", "01978a4e-7c1d-7000-8000-000000000001"),
                ("ce_source", "/assent/consent"),
                ("ce_type", "assent.consent.granted.v1"),
                ("ce_time", "2026-05-03T10:00:00.000120Z"),
                ("ce_subject", "6f1d3c54-5d7e-4b52-9a3b-11aa22bb33cc"),
                ("ce_sequence", "7"),
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("content-type", "application/json"),
            ]
        );
    }

    #[test]
    fn on_each_topic_they_are_those_that_are_promised() {
        for topic in topics::ALL {
            let source = header::source(topic.suffix);
            let event = Attributes {
                source: &source,
                sequence: (topic.sequence != Sequence::None).then_some(7),
                event_sequence: (topic.sequence == Sequence::Rising).then_some(9),
                ..event()
            };
            let written = headers(&event);
            let value = |name: &str| {
                let found = written.iter().find(|header| header.key == name)?;
                std::str::from_utf8(found.value?).ok()
            };
            let promised = header::headers(&topic);
            for promise in &promised {
                let value = value(promise.name);
                assert!(value.is_some(), "{}: {} is missing", topic.suffix, promise.name);
                let fixed = promise.value.as_deref();
                assert!(fixed.is_none_or(|it| Some(it) == value), "{}", promise.name);
            }
            assert_eq!(written.count(), promised.len(), "{}", topic.suffix);
            let untraced = headers(&Attributes { traceparent: None, ..event });
            let always = promised.iter().filter(|promise| promise.always).count();
            assert_eq!(untraced.count(), always, "{}", topic.suffix);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let event = Attributes { event_sequence: Some(9), ..event() };
        let message = message(Some(key().as_bytes()), Some(headers(&event)));
        let Delivery::Event(read) = Delivery::read(CONSENT_EVENTS, &message) else {
            panic!("a valid envelope was not recognised")
        };
        assert_eq!(
            read,
            Received {
                topic: CONSENT_EVENTS,
                partition: 3,
                offset: 42,
                key: event.key,
                sequence: 7,
                event_sequence: Some(9),
                id: event.id,
                event_type: event.event_type.to_owned(),
                time: event.time,
                traceparent: event.traceparent.map(str::to_owned),
                data: b"{}".to_vec(),
            }
        );
    }

    #[test]
    fn whatever_is_not_an_envelope_is_told_apart_with_its_defect() {
        let good = key();
        let broken = |name: &str, value: &str| {
            let kept = headers(&event());
            let kept = kept.iter().filter(|header| header.key != name);
            let mut headers = OwnedHeaders::new();
            for header in kept {
                headers = headers.insert(header);
            }
            Some(headers.insert(Header { key: name, value: Some(value) }))
        };
        for (key, headers, defect) in [
            (None, Some(headers(&event())), "key"),
            (Some("not a uuid"), Some(headers(&event())), "key"),
            (Some(&*good), None, "headers"),
            (Some(&*good), Some(OwnedHeaders::new()), "ce_specversion"),
            (Some(&*good), broken("ce_specversion", "0.3"), "ce_specversion"),
            (Some(&*good), broken("ce_id", "1"), "ce_id"),
            (Some(&*good), broken("ce_type", ""), "ce_type"),
            (Some(&*good), broken("ce_time", "yesterday"), "ce_time"),
            (Some(&*good), broken("ce_sequence", "-1"), "ce_sequence"),
            (Some(&*good), broken("ce_eventsequence", "many"), "ce_eventsequence"),
        ] {
            let message = message(key.map(str::as_bytes), headers);
            let Delivery::Malformed(read) = Delivery::read(CONSENT_EVENTS, &message) else {
                panic!("{defect}: was taken for an event")
            };
            assert_eq!((read.defect, read.partition, read.offset), (defect, 3, 42));
            assert_eq!(read.key.is_some(), defect != "key");
        }
    }
}
