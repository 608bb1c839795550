//! G1: after an acknowledged withdrawal, stop or erasure no call begins until somebody opens the road again. A
//! stop is acknowledged one lease after the webhook's 200, which doesn't wait.

use std::collections::BTreeSet;
use std::time::Duration;

use assent_contracts::messaging::LEASE_OVERRUN;
use assent_contracts::topics::MESSAGING_EVENTS;
use assent_runtime::LeaseTerms;

use super::Found;
use super::calls::Call;
use super::events::Topics;
use crate::history::{Fault, History, Person, What};

/// Looks at every call to everybody who ever said no.
pub fn check(history: &History, ledger: &[Call], topics: &Topics) -> Found {
    let overruns: BTreeSet<String> = topics
        .of(MESSAGING_EVENTS)
        .filter(|event| event.event_type == LEASE_OVERRUN)
        .filter_map(|event| event.data["message_id"].as_str().map(str::to_owned))
        .collect();
    let mut found = Found::default();
    for person in &history.people {
        let closed = closed(person);
        for call in ledger.iter().filter(|call| call.to == person.digits()) {
            let late =
                closed.iter().find(|(from, until)| *from < call.began && call.began < *until);
            let frozen = overruns.contains(&call.message)
                && history.faults.iter().any(|fault| froze(fault, call.began));
            if let Some((from, _)) = late
                && frozen
            {
                found.looked_at += 1;
                found.incidents.push(format!("message {} after {from:?}", call.message));
                continue;
            }
            found.look(late.is_none(), || {
                let after = late.map(|(from, _)| call.began - *from);
                format!("message {} began {after:?} after an acknowledged no", call.message)
            });
        }
    }
    found
}

/// From each acknowledged no until the next yes was asked for.
fn closed(person: &Person) -> Vec<(Duration, Duration)> {
    let (mut closed, mut since) = (Vec::new(), None);
    for act in &person.acts {
        match act.what {
            What::Withdraw(_) | What::Erase(_) => since = earlier(since, act.answered),
            What::Stop => since = earlier(since, act.answered + LeaseTerms::default().length),
            What::Grant(_) | What::Start => {
                if let Some(since) = since.take().filter(|since| *since < act.asked) {
                    closed.push((since, act.asked));
                }
            }
            What::Queue(_) | What::Ask(..) | What::GrantRefused(_) => {}
        }
    }
    closed.extend(since.map(|since| (since, Duration::MAX)));
    closed
}

fn earlier(since: Option<Duration>, other: Duration) -> Option<Duration> {
    Some(since.map_or(other, |since| since.min(other)))
}

/// Whether a dispatcher was frozen shortly before.
fn froze(fault: &Fault, began: Duration) -> bool {
    fault.kind == "freeze"
        && fault.target.starts_with("messaging")
        && fault.from < began
        && began < fault.until + Duration::from_secs(2)
}
