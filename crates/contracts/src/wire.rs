//! What a release promised of topics, keys and headers, against what this build does. It guarantees that a change
//! which moves keys, loses order or takes away what readers rely on is told; the data inside is compared by
//! `assent schemas`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::envelope::{self, Promise};
use crate::published;
use crate::topics::{self, Topic};

/// As the last release had it. With a release it becomes what `assent schemas docs` writes to `asyncapi/wire.json`.
const RELEASED: &str = include_str!("../golden/wire.json");

/// Everything about records but their data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wire {
    /// Topics, by name without the deployment's prefix.
    pub topics: BTreeMap<String, TopicPromise>,
    /// Event types, by name.
    pub types: BTreeMap<String, TypePromise>,
}

/// What is promised of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPromise {
    /// How many partitions it has.
    pub partitions: i32,
    /// What `ce_sequence` says.
    pub sequence: String,
    /// The broker's settings that keep or drop records.
    pub settings: BTreeMap<String, String>,
    /// Headers: `sometimes`, `always`, or `always` and what each says.
    pub headers: BTreeMap<String, String>,
}

/// What is promised of an event type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypePromise {
    /// The one topic that it stands in.
    pub topic: String,
    /// What its record key names.
    pub key: String,
}

/// What this build does.
#[must_use]
pub fn today() -> Wire {
    let topics = topics::ALL.iter().map(|topic| (topic.suffix.to_owned(), of_topic(topic)));
    let types = published::ALL.iter().map(|event| {
        let topic = event.topic.suffix.to_owned();
        (event.name.to_owned(), TypePromise { topic, key: event.key.name().to_owned() })
    });
    Wire { topics: topics.collect(), types: types.collect() }
}

fn of_topic(topic: &Topic) -> TopicPromise {
    let settings = topic.settings().iter();
    let settings = settings.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let header = |promise: Promise| {
        let says = match (promise.always, promise.value) {
            (false, _) => SOMETIMES.to_owned(),
            (true, None) => "always".to_owned(),
            (true, Some(value)) => format!("always {value}"),
        };
        (promise.name.to_owned(), says)
    };
    TopicPromise {
        partitions: topic.partitions,
        sequence: topic.sequence.name().to_owned(),
        settings: settings.collect(),
        headers: envelope::headers(topic).into_iter().map(header).collect(),
    }
}

const SOMETIMES: &str = "sometimes";

/// What of the last release this build breaks, each with its place; empty: nothing.
///
/// # Errors
/// When the file of the release is none.
pub fn breaks() -> serde_json::Result<Vec<String>> {
    Ok(breaks_between(&serde_json::from_str(RELEASED)?, &today()))
}

/// What `new` breaks of `old`. New topics, types and headers that may be absent break nothing.
#[must_use]
pub fn breaks_between(old: &Wire, new: &Wire) -> Vec<String> {
    let mut found = Vec::new();
    for (name, was) in &old.topics {
        match new.topics.get(name) {
            Some(is) => compare_topics(name, was, is, &mut found),
            None => found.push(format!("topic {name}: is gone")),
        }
    }
    for (name, was) in &old.types {
        match new.types.get(name) {
            None => found.push(format!("{name}: is gone")),
            Some(is) => {
                changed(name, "topic", &was.topic, &is.topic, &mut found);
                changed(name, "key", &was.key, &is.key, &mut found);
            }
        }
    }
    found
}

fn compare_topics(name: &str, was: &TopicPromise, is: &TopicPromise, found: &mut Vec<String>) {
    let place = format!("topic {name}");
    let of = |map: &BTreeMap<String, String>, key: &str| {
        map.get(key).map_or_else(|| "absent".to_owned(), Clone::clone)
    };
    let (before, after) = (was.partitions.to_string(), is.partitions.to_string());
    changed(&place, "partition count", &before, &after, found);
    changed(&place, "sequence", &was.sequence, &is.sequence, found);
    let settings: BTreeSet<&String> = was.settings.keys().chain(is.settings.keys()).collect();
    for setting in settings {
        let (before, after) = (of(&was.settings, setting), of(&is.settings, setting));
        changed(&place, setting, &before, &after, found);
    }
    for header in was.headers.keys() {
        let (before, after) = (of(&was.headers, header), of(&is.headers, header));
        changed(&place, &format!("header {header}"), &before, &after, found);
    }
    // Older records lack a header that is new.
    for (header, says) in is.headers.iter().filter(|(name, _)| !was.headers.contains_key(*name)) {
        if says != SOMETIMES {
            found.push(format!(
                "{place}: header {header} is new and promised: older records lack it"
            ));
        }
    }
}

fn changed(place: &str, what: &str, was: &str, is: &str, found: &mut Vec<String>) {
    if was != is {
        found.push(format!("{place}: {what} was {was} and is {is}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last release against this build. What it says is a topic or a type of the next version.
    #[test]
    fn nothing_that_was_released_of_topics_keys_and_headers_is_broken() {
        let broken = breaks().unwrap();
        assert!(broken.is_empty(), "publish a new version beside it instead: {broken:#?}");
        let released: Wire = serde_json::from_str(RELEASED).unwrap();
        assert_eq!(released.topics.len(), 6);
        assert!(released.types.len() > 40, "it isn't empty");
    }

    type Change = fn(&mut Wire);

    fn topic<'a>(wire: &'a mut Wire, name: &str) -> &'a mut TopicPromise {
        wire.topics.get_mut(name).unwrap()
    }

    #[test]
    fn what_readers_rely_on_breaks_and_its_place_is_said() {
        let cases: [(Change, &str); 10] = [
            (
                |it| topic(it, "vault.events.v1").partitions = 12,
                "topic vault.events.v1: partition count was 6 and is 12",
            ),
            (
                |it| topic(it, "vault.events.v1").sequence = "rising".to_owned(),
                "topic vault.events.v1: sequence was gapless and is rising",
            ),
            (
                |it| drop(topic(it, "vault.events.v1").settings.remove("retention.ms")),
                "topic vault.events.v1: retention.ms was -1 and is absent",
            ),
            (
                |it| drop(topic(it, "consent.state.v1").headers.remove("ce_eventsequence")),
                "topic consent.state.v1: header ce_eventsequence was always and is absent",
            ),
            (
                |it| {
                    let headers = &mut topic(it, "vault.events.v1").headers;
                    headers.insert("ce_id".to_owned(), "sometimes".to_owned());
                },
                "topic vault.events.v1: header ce_id was always and is sometimes",
            ),
            (
                |it| {
                    let headers = &mut topic(it, "vault.events.v1").headers;
                    headers.insert("content-type".to_owned(), "always text/json".to_owned());
                },
                "topic vault.events.v1: header content-type was always application/json and is always text/json",
            ),
            (
                |it| {
                    let headers = &mut topic(it, "vault.events.v1").headers;
                    headers.insert("ce_region".to_owned(), "always".to_owned());
                },
                "topic vault.events.v1: header ce_region is new and promised: older records lack it",
            ),
            (
                |it| {
                    it.types.get_mut("assent.vault.address_suppressed.v1").unwrap().key =
                        "subject".to_owned()
                },
                "assent.vault.address_suppressed.v1: key was address and is subject",
            ),
            (
                |it| {
                    it.types.get_mut("assent.vault.subject_erased.v1").unwrap().topic =
                        "vault.events.v2".to_owned()
                },
                "assent.vault.subject_erased.v1: topic was vault.events.v1 and is vault.events.v2",
            ),
            (
                |it| drop(it.topics.remove("erasure.commands.v1")),
                "topic erasure.commands.v1: is gone",
            ),
        ];
        for (change, broken) in cases {
            let mut new = today();
            change(&mut new);
            assert_eq!(breaks_between(&today(), &new), [broken]);
        }
    }

    #[test]
    fn what_is_new_beside_it_breaks_nothing() {
        let mut new = today();
        let more = new.topics["vault.events.v1"].clone();
        new.topics.insert("vault.events.v2".to_owned(), more);
        topic(&mut new, "vault.events.v1")
            .headers
            .insert("tracestate".to_owned(), SOMETIMES.to_owned());
        let more = new.types["assent.vault.subject_erased.v1"].clone();
        new.types.insert("assent.vault.subject_erased.v2".to_owned(), more);
        assert!(breaks_between(&today(), &new).is_empty());
    }
}
