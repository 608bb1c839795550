//! The simulator's ledger: every call that its door saw, with the time of its first byte.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{Cluster, TEMPLATE};
use serde_json::Value;

use super::Found;
use crate::soak::history::History;

/// A marketing message that reached the provider's door.
#[derive(Debug, Clone)]
pub struct Call {
    /// Digits of the number that it is for.
    pub to: String,
    /// Our message.
    pub message: String,
    /// When its body began.
    pub began: Duration,
    /// Whether the provider took it.
    pub taken: bool,
}

impl Call {
    /// All of them.
    pub async fn all(cluster: &Cluster) -> Vec<Call> {
        let (_, answer) = cluster.get("whatsapp-sim", "/_sim/messages").await;
        let calls = answer["messages"].as_array().cloned().unwrap_or_default();
        calls.iter().filter_map(Call::of).collect()
    }

    fn of(call: &Value) -> Option<Call> {
        if call["template"] != TEMPLATE {
            return None;
        }
        let to = call["party"].as_str().or_else(|| call["to"].as_str())?;
        Some(Call {
            to: to.chars().filter(char::is_ascii_digit).collect(),
            message: call["callback_data"].as_str()?.to_owned(),
            began: Duration::from_nanos(call["first_byte_boottime_ns"].as_u64()?),
            taken: call["wamid"].is_string(),
        })
    }
}

/// How often the provider took each message.
fn taken(ledger: &[Call]) -> BTreeMap<&str, usize> {
    let mut taken = BTreeMap::new();
    for call in ledger.iter().filter(|call| call.taken) {
        *taken.entry(call.message.as_str()).or_default() += 1;
    }
    taken
}

/// Nothing is sent twice, whatever was killed between a call and its answer.
pub fn once(ledger: &[Call]) -> Found {
    let mut found = Found::default();
    for (message, times) in taken(ledger) {
        found.look(times == 1, || format!("message {message} was taken {times} times"));
    }
    found
}

/// What messaging says of a message is what the provider saw of it.
pub async fn agree(cluster: &Cluster, history: &History, ledger: &[Call]) -> Found {
    let taken = taken(ledger);
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT id::text, state FROM intents")
        .fetch_all(&cluster.pool("messaging").await)
        .await
        .expect("Postgres answers");
    let states: BTreeMap<_, _> = rows.into_iter().collect();
    let mut found = Found::default();
    for message in history.remaining().flat_map(|person| person.messages()) {
        let state = states.get(message).map_or("unknown", String::as_str);
        let was_taken = taken.contains_key(message);
        let agrees = match state {
            "accepted" => was_taken,
            "refused" | "failed" => !was_taken,
            "uncertain" => true,
            _ => false,
        };
        found.look(agrees, || format!("message {message} is {state}, taken: {was_taken}"));
    }
    found
}

/// The simulator's own count of broken rules of the platform, but for calls after a stop: it knows nothing
/// of the lease within which one may still start, as the check of withdrawals does.
pub async fn rules(cluster: &Cluster) -> Found {
    let (_, answer) = cluster.get("whatsapp-sim", "/_sim/violations").await;
    let mut found = Found::default();
    for (rule, calls) in answer["rules"].as_object().into_iter().flatten() {
        if rule == "after_stop" {
            continue;
        }
        let count = calls["count"].as_u64().unwrap_or(u64::MAX);
        found.look(count == 0, || format!("{rule}: {count}"));
    }
    found
}
