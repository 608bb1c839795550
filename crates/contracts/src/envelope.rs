//! The envelope: CloudEvents 1.0 in Kafka binary mode. Attributes ride in headers named
//! `ce_<attribute>`, the data is JSON, the record key is the subject. Webhooks carry the structured mode: all of
//! it in the body, which is what their signature covers.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::topics::{Sequence, Topic};

/// CloudEvents specification version.
pub const SPEC_VERSION: &str = "1.0";
/// Header: CloudEvents `specversion`.
pub const CE_SPECVERSION: &str = "ce_specversion";
/// Header: the event's id (UUID v7), the same in every redelivery.
pub const CE_ID: &str = "ce_id";
/// Header: where the event comes from, `/assent/<service>`.
pub const CE_SOURCE: &str = "ce_source";
/// Header: the type name, such as `assent.consent.granted.v1`.
pub const CE_TYPE: &str = "ce_type";
/// Header: when it was recorded, RFC 3339, UTC, microseconds.
pub const CE_TIME: &str = "ce_time";
/// Header: the key once more (a `subject_id`, or the stream's id where no person is meant).
pub const CE_SUBJECT: &str = "ce_subject";
/// Header: gapless per key from 1 on event topics; only rising on the compacted state topic.
pub const CE_SEQUENCE: &str = "ce_sequence";
/// Header on the compacted state topic: the last event-topic sequence that the record reflects.
pub const CE_EVENT_SEQUENCE: &str = "ce_eventsequence";
/// Header: media type of the data.
pub const CONTENT_TYPE: &str = "content-type";
/// Media type of the data of every Assent event.
pub const CONTENT_TYPE_JSON: &str = "application/json";
/// Header: W3C trace context.
pub const TRACEPARENT: &str = "traceparent";

/// The CloudEvents source of a topic's owner: `/assent/consent` for `consent.events.v1`.
#[must_use]
pub fn source(topic_suffix: &str) -> String {
    let service = topic_suffix.split('.').next().unwrap_or(topic_suffix);
    format!("/assent/{service}")
}

/// What readers may expect of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Its name.
    pub name: &'static str,
    /// Whether every record has it.
    pub always: bool,
    /// What it says on every record of the topic, where that is one thing.
    pub value: Option<String>,
}

/// The headers of records on this topic.
#[must_use]
pub fn headers(topic: &Topic) -> Vec<Promise> {
    let always = |name| Promise { name, always: true, value: None };
    let fixed = |name, value| Promise { name, always: true, value: Some(value) };
    let mut headers = vec![
        fixed(CE_SPECVERSION, SPEC_VERSION.to_owned()),
        always(CE_ID),
        fixed(CE_SOURCE, source(topic.suffix)),
        always(CE_TYPE),
        always(CE_TIME),
        always(CE_SUBJECT),
        fixed(CONTENT_TYPE, CONTENT_TYPE_JSON.to_owned()),
    ];
    if topic.sequence != Sequence::None {
        headers.push(always(CE_SEQUENCE));
    }
    if topic.sequence == Sequence::Rising {
        headers.push(always(CE_EVENT_SEQUENCE));
    }
    headers.push(Promise { name: TRACEPARENT, always: false, value: None });
    headers
}

/// Media type of an event in structured mode.
pub const CONTENT_TYPE_STRUCTURED: &str = "application/cloudevents+json";

/// An event in structured mode: the body of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct Structured<'a> {
    /// The event's id.
    pub id: Uuid,
    /// Where it comes from: `/assent/<service>`.
    pub source: &'a str,
    /// The type name.
    pub event_type: &'a str,
    /// When it was recorded.
    pub time: Timestamp,
    /// Whom it concerns: what would be the record key.
    pub subject: Uuid,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The data.
    pub data: &'a RawValue,
}

impl Structured<'_> {
    /// The body.
    ///
    /// # Errors
    /// When the data can't be written.
    pub fn body(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Body<'a> {
            specversion: &'static str,
            id: Uuid,
            source: &'a str,
            r#type: &'a str,
            time: String,
            subject: Uuid,
            datacontenttype: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            traceparent: Option<&'a str>,
            data: &'a RawValue,
        }
        serde_json::to_string(&Body {
            specversion: SPEC_VERSION,
            id: self.id,
            source: self.source,
            r#type: self.event_type,
            time: format!("{:.6}", self.time),
            subject: self.subject,
            datacontenttype: CONTENT_TYPE_JSON,
            traceparent: self.traceparent,
            data: self.data,
        })
    }
}
