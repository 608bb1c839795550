//! Between the ledger's events and the published shapes of `assent-contracts`. It guarantees that
//! what was stored in any version is read today; the shapes themselves and their golden files are
//! the contract's.

use assent_contracts::consent::{
    self as wire, AGE_STATED, ASKED, CONTACTED, ConsentLine, ConsentState, EXPIRED, GRANTED,
    REFUSED, REQUESTED, STANDING_CHANGED, WITHDRAWN,
};
use assent_contracts::upcast::upcast;
use serde::Serialize;

use crate::domain::event::{Act, Age, Event, Notice, Question, Standing};
use crate::domain::ledger::Ledger;
use crate::domain::scope::Scope;

/// A stored event can't be read: the store holds something this version doesn't know.
#[derive(Debug, thiserror::Error)]
#[error("stored event of type {event_type} can't be read: {problem}")]
pub struct Unreadable {
    /// Its type.
    pub event_type: String,
    /// Why. Never its content.
    pub problem: String,
}

/// Type name and JSON data of an event.
#[must_use]
pub fn encode(event: &Event) -> (&'static str, String) {
    match event.clone() {
        Event::Requested { scope, notice, act, at, expires_at } => (
            REQUESTED,
            json(&wire::Requested {
                purpose: scope.purpose,
                channel: scope.channel,
                notice_hash: notice.hash,
                notice_version: notice.version,
                validity_days: notice.validity_days,
                lapses_after_days: notice.lapses_after_days,
                actor: act.actor,
                method: act.method,
                place: act.place,
                at,
                acted_at: act.acted_at,
                expires_at,
                evidence: act.evidence,
            }),
        ),
        Event::Asked { question, at, expires_at } => {
            let Question { request_id, scope, notice, kind, template, language, code } = question;
            let asked = wire::Asked {
                request_id,
                purpose: scope.purpose,
                channel: scope.channel,
                notice_hash: notice.hash,
                notice_version: notice.version,
                validity_days: notice.validity_days,
                lapses_after_days: notice.lapses_after_days,
                kind,
                template,
                language,
                code,
                at,
                expires_at,
            };
            (ASKED, json(&asked))
        }
        Event::AgeStated { age, required, actor, evidence, at } => {
            let Age { basis, of_age, may_be_targeted } = age;
            let stated =
                wire::AgeStated { basis, of_age, required, may_be_targeted, actor, at, evidence };
            (AGE_STATED, json(&stated))
        }
        Event::Restricted { request_id, at } => {
            (wire::RESTRICTED, json(&wire::Restricted { request_id, at }))
        }
        Event::RestrictionLifted { request_id, at } => {
            (wire::RESTRICTION_LIFTED, json(&wire::RestrictionLifted { request_id, at }))
        }
        Event::Contacted { channel, acted_at, at } => {
            (CONTACTED, json(&wire::Contacted { channel, at, acted_at }))
        }
        Event::Granted {
            scope,
            notice: (version, hash),
            act,
            at,
            valid_until,
            lapses_after_days,
            confirms,
        } => (
            GRANTED,
            json(&wire::Granted {
                purpose: scope.purpose,
                channel: scope.channel,
                notice_hash: hash,
                notice_version: version,
                actor: act.actor,
                method: act.method,
                place: act.place,
                confirms,
                at,
                acted_at: act.acted_at,
                valid_until,
                lapses_after_days,
                evidence: act.evidence,
            }),
        ),
        Event::Refused { scope, act, at } => (
            REFUSED,
            json(&wire::Refused {
                purpose: scope.purpose,
                channel: scope.channel,
                actor: act.actor,
                method: act.method,
                place: act.place,
                at,
                acted_at: act.acted_at,
                evidence: act.evidence,
            }),
        ),
        Event::Withdrawn { scope, act, at } => (
            WITHDRAWN,
            json(&wire::Withdrawn {
                purpose: scope.purpose,
                channel: scope.channel,
                actor: act.actor,
                method: act.method,
                place: act.place,
                at,
                acted_at: act.acted_at,
                evidence: act.evidence,
            }),
        ),
        Event::Expired { scope, valid_until, at } => (
            EXPIRED,
            json(&wire::Expired {
                purpose: scope.purpose,
                channel: scope.channel,
                valid_until,
                at,
            }),
        ),
        Event::StandingChanged { standing, effective_at, at } => {
            let Standing { bars, others, regions } = standing;
            let changed = wire::StandingChanged { bars, others, regions, effective_at, at };
            (STANDING_CHANGED, json(&changed))
        }
        Event::Erased { request_id, at } => (wire::ERASED, json(&wire::Erased { request_id, at })),
    }
}

/// The event that was stored under this type.
///
/// # Errors
/// [`Unreadable`] for an unknown type or broken data.
pub fn decode(event_type: &str, data: &str) -> Result<Event, Unreadable> {
    let (event_type, data) = upcast(event_type, data);
    let unreadable = |error: serde_json::Error| Unreadable {
        event_type: event_type.to_string(),
        problem: format!("{:?} at column {}", error.classify(), error.column()),
    };
    let act =
        |actor, method, place, evidence, acted_at| Act { actor, method, place, evidence, acted_at };
    Ok(match event_type.as_ref() {
        GRANTED => {
            let e: wire::Granted = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Granted {
                scope: Scope { purpose: e.purpose, channel: e.channel },
                notice: (e.notice_version, e.notice_hash),
                act: act(e.actor, e.method, e.place, e.evidence, e.acted_at),
                at: e.at,
                valid_until: e.valid_until,
                lapses_after_days: e.lapses_after_days,
                confirms: e.confirms,
            }
        }
        ASKED => {
            let e: wire::Asked = serde_json::from_str(&data).map_err(unreadable)?;
            let question = Question {
                request_id: e.request_id,
                scope: Scope { purpose: e.purpose, channel: e.channel },
                notice: Notice {
                    version: e.notice_version,
                    hash: e.notice_hash,
                    validity_days: e.validity_days,
                    lapses_after_days: e.lapses_after_days,
                },
                kind: e.kind,
                template: e.template,
                language: e.language,
                code: e.code,
            };
            Event::Asked { question, at: e.at, expires_at: e.expires_at }
        }
        AGE_STATED => {
            let e: wire::AgeStated = serde_json::from_str(&data).map_err(unreadable)?;
            let wire::AgeStated { basis, of_age, required, may_be_targeted, actor, at, evidence } =
                e;
            let age = Age { basis, of_age, may_be_targeted };
            Event::AgeStated { age, required, actor, evidence, at }
        }
        wire::RESTRICTED => {
            let e: wire::Restricted = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Restricted { request_id: e.request_id, at: e.at }
        }
        wire::RESTRICTION_LIFTED => {
            let e: wire::RestrictionLifted = serde_json::from_str(&data).map_err(unreadable)?;
            Event::RestrictionLifted { request_id: e.request_id, at: e.at }
        }
        CONTACTED => {
            let e: wire::Contacted = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Contacted { channel: e.channel, acted_at: e.acted_at, at: e.at }
        }
        REQUESTED => {
            let e: wire::Requested = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Requested {
                scope: Scope { purpose: e.purpose, channel: e.channel },
                notice: Notice {
                    version: e.notice_version,
                    hash: e.notice_hash,
                    validity_days: e.validity_days,
                    lapses_after_days: e.lapses_after_days,
                },
                act: act(e.actor, e.method, e.place, e.evidence, e.acted_at),
                at: e.at,
                expires_at: e.expires_at,
            }
        }
        REFUSED => {
            let e: wire::Refused = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Refused {
                scope: Scope { purpose: e.purpose, channel: e.channel },
                act: act(e.actor, e.method, e.place, e.evidence, e.acted_at),
                at: e.at,
            }
        }
        WITHDRAWN => {
            let e: wire::Withdrawn = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Withdrawn {
                scope: Scope { purpose: e.purpose, channel: e.channel },
                act: act(e.actor, e.method, e.place, e.evidence, e.acted_at),
                at: e.at,
            }
        }
        EXPIRED => {
            let e: wire::Expired = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Expired {
                scope: Scope { purpose: e.purpose, channel: e.channel },
                valid_until: e.valid_until,
                at: e.at,
            }
        }
        STANDING_CHANGED => {
            let e: wire::StandingChanged = serde_json::from_str(&data).map_err(unreadable)?;
            Event::StandingChanged {
                standing: Standing { bars: e.bars, others: e.others, regions: e.regions },
                effective_at: e.effective_at,
                at: e.at,
            }
        }
        wire::ERASED => {
            let e: wire::Erased = serde_json::from_str(&data).map_err(unreadable)?;
            Event::Erased { request_id: e.request_id, at: e.at }
        }
        other => {
            return Err(Unreadable {
                event_type: other.to_owned(),
                problem: "unknown type".to_owned(),
            });
        }
    })
}

/// The state record of a ledger, for the compacted topic.
#[must_use]
pub fn state(ledger: &Ledger) -> String {
    let consents = ledger
        .lines()
        .map(|(scope, line)| ConsentLine {
            purpose: scope.purpose.clone(),
            channel: scope.channel.clone(),
            state: line.state,
            since: line.since,
            valid_until: line.valid_until,
        })
        .collect();
    json(&ConsentState { consents, restricted: ledger.restricted().is_some() })
}

/// JSON of a contract type.
#[must_use]
pub fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("contract types have string keys and no fallible fields")
}

#[cfg(test)]
mod tests {
    use assent_contracts::api::consent::StopKind;
    use assent_contracts::consent::{Actor, Method};
    use assent_contracts::sealed::Sealed;
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let scope = Scope::new("marketing", "whatsapp");
        let act = Act {
            actor: Actor::Subject,
            method: Method::WhatsappMessage,
            place: Some("shop-lyon".to_owned()),
            evidence: Some(Sealed("bm9pc2U".to_owned())),
            acted_at: Some(at),
        };
        let notice = Notice {
            version: 3,
            hash: "ab".to_owned(),
            validity_days: Some(9),
            lapses_after_days: Some(5),
        };
        let standing = Standing {
            bars: vec![wire::Bar { kind: StopKind::Stopped, cause: Uuid::from_u128(2) }],
            others: vec![vec![wire::OthersWord {
                purpose: "*".to_owned(),
                channel: "*".to_owned(),
                state: wire::State::Withdrawn,
                event_id: Uuid::from_u128(3),
                since: at,
            }]],
            regions: vec!["FR".to_owned()],
        };
        for event in [
            Event::Granted {
                scope: scope.clone(),
                notice: (3, "ab".to_owned()),
                act: act.clone(),
                at,
                valid_until: Some(at),
                lapses_after_days: Some(5),
                confirms: Some(wire::Confirms { request_id: Uuid::from_u128(7), requested_at: at }),
            },
            Event::Requested {
                scope: scope.clone(),
                notice: notice.clone(),
                act: act.clone(),
                at,
                expires_at: at,
            },
            Event::Asked {
                question: Question {
                    request_id: Uuid::from_u128(8),
                    scope: scope.clone(),
                    notice,
                    kind: wire::AskKind::Renewal,
                    template: "renew".to_owned(),
                    language: "fr".to_owned(),
                    code: "7F3K2-9QMXA".parse().unwrap(),
                },
                at,
                expires_at: at,
            },
            Event::Contacted { channel: "whatsapp".to_owned(), acted_at: at, at },
            Event::AgeStated {
                age: Age { basis: wire::AgeBasis::Verified, of_age: false, may_be_targeted: true },
                required: 15,
                actor: Actor::Guardian,
                evidence: Some(Sealed("bm9pc2U".to_owned())),
                at,
            },
            Event::Restricted { request_id: Uuid::from_u128(9), at },
            Event::RestrictionLifted { request_id: Uuid::from_u128(9), at },
            Event::Refused { scope: scope.clone(), act: act.clone(), at },
            Event::Withdrawn { scope: Scope::everything(), act, at },
            Event::Expired { scope, valid_until: at, at },
            Event::StandingChanged { standing, effective_at: at, at },
            Event::Erased { request_id: Uuid::from_u128(1), at },
        ] {
            let (event_type, data) = encode(&event);
            assert_eq!(decode(event_type, &data).unwrap(), event);
        }
    }

    #[test]
    fn an_error_never_quotes_what_it_could_not_read() {
        let error = decode(GRANTED, r#"{"purpose":"secret"}"#).unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
