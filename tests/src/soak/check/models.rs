//! G7: the read models, by a fold of this judge's own: of the topic for messages, of what was acknowledged for
//! consents.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use assent_contracts::messaging::{
    MESSAGE_ACCEPTED, MESSAGE_FAILED, MESSAGE_REFUSED, MESSAGE_REQUESTED, MESSAGE_UNCERTAIN,
    STATUS_CHANGED,
};
use assent_contracts::topics::MESSAGING_EVENTS;
use serde_json::Value;

use super::Found;
use super::events::{Event, Topics};
use crate::soak::history::{History, Person, What};

/// In the order in which a message gets on; what comes late never takes it back.
const STATUSES: [&str; 8] =
    ["requested", "uncertain", "accepted", "sent", "delivered", "read", "refused", "failed"];

/// The read models of everybody who wasn't erased.
pub async fn check(cluster: &Cluster, history: &History, topics: &Topics) -> Found {
    let pool = cluster.pool("projector").await;
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT message_id::text, status FROM live.messages")
            .fetch_all(&pool)
            .await
            .expect("Postgres answers");
    let shown: BTreeMap<_, _> = rows.into_iter().collect();
    let folded = statuses(topics);
    let mut found = Found::default();
    for message in history.remaining().flat_map(Person::messages) {
        let (shown, folded) = (shown.get(message), folded.get(message).copied());
        found.look(shown.map(String::as_str) == folded, || {
            format!("message {message} is shown as {shown:?}, its events say {folded:?}")
        });
    }
    let rows: Vec<(String, Value)> =
        sqlx::query_as("SELECT subject_id::text, consents::jsonb FROM live.consents")
            .fetch_all(&pool)
            .await
            .expect("Postgres answers");
    let shown: BTreeMap<_, _> = rows.into_iter().collect();
    for person in history.remaining() {
        let Some(said) = last_said(person) else { continue };
        let lines = shown.get(&person.subject).and_then(Value::as_array);
        let state = lines
            .into_iter()
            .flatten()
            .find(|line| line["purpose"] == "marketing" && line["channel"] == "whatsapp")
            .map(|line| line["state"].clone());
        found.look(state == Some(said.into()), || {
            format!("{}: shown as {state:?}, acknowledged was {said}", person.subject)
        });
    }
    found
}

/// Every read model built again from zero, without a difference.
pub fn rebuilt(cluster: &Cluster) -> Found {
    let mut found = Found::default();
    for projection in ["contacts", "consents", "messages"] {
        let ended = cluster.assent(&["projection", "rebuild", projection]);
        let sound = ended.json["state"] == "done" && ended.json["differences"] == 0;
        found.look(sound, || format!("{projection}: {}", ended.json));
    }
    found
}

fn statuses(topics: &Topics) -> BTreeMap<&str, &str> {
    let rank = |status: &str| STATUSES.iter().position(|other| *other == status);
    let mut folded: BTreeMap<&str, &str> = BTreeMap::new();
    for event in topics.of(MESSAGING_EVENTS) {
        let Some((message, status)) = told(event) else { continue };
        let known = folded.entry(message).or_insert(status);
        if rank(status) > rank(known) {
            *known = status;
        }
    }
    folded
}

fn told(event: &Event) -> Option<(&str, &str)> {
    let status = match event.event_type.as_str() {
        MESSAGE_REQUESTED => "requested",
        MESSAGE_REFUSED => "refused",
        MESSAGE_ACCEPTED => "accepted",
        MESSAGE_FAILED => "failed",
        MESSAGE_UNCERTAIN => "uncertain",
        STATUS_CHANGED => event.data["status"].as_str()?,
        _ => return None,
    };
    Some((event.data["message_id"].as_str()?, status))
}

/// What an operator recorded last, where she herself said nothing on her phone.
fn last_said(person: &Person) -> Option<&'static str> {
    if person.acts.iter().any(|act| matches!(act.what, What::Stop | What::Start)) {
        return None;
    }
    person.acts.iter().rev().find_map(|act| match &act.what {
        What::Grant(_) => Some("given"),
        What::Withdraw(_) => Some("withdrawn"),
        _ => None,
    })
}
