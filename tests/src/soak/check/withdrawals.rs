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
use crate::soak::history::{Fault, History, Person, What};

/// Looks at every call to everybody who ever said no. One that began too late is allowed only where a dispatcher
/// was frozen between its last look and its write, and has itself put that on record: no fence can stop that.
#[must_use]
pub fn check(history: &History, ledger: &[Call], topics: &Topics) -> Found {
    let overruns = overruns(topics);
    let mut found = Found::default();
    for person in &history.people {
        let closed = closed(person);
        for call in ledger.iter().filter(|call| call.to == person.digits()) {
            let late =
                closed.iter().find(|(from, until)| *from < call.began && call.began < *until);
            let froze = |fault: &Fault| fault.from < call.began && explains(fault, call.began);
            let frozen =
                overruns.contains(call.message.as_str()) && history.faults.iter().any(froze);
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

/// An incident that is on record has a cause: a SIGSTOP of a dispatcher overlaps the write. A dispatcher that
/// overstays its lease by itself is broken, whoever it wrote to.
#[must_use]
pub fn incidents(history: &History, ledger: &[Call], topics: &Topics) -> Found {
    let mut found = Found { looked_at: ledger.len(), ..Found::default() };
    for message in overruns(topics) {
        let began = ledger.iter().find(|call| call.message == message).map(|call| call.began);
        let explained = history.faults.iter().any(|fault| match began {
            Some(began) => explains(fault, began),
            // It never came to the provider's door, or was no marketing.
            None => is_freeze_of_a_dispatcher(fault),
        });
        found.look(explained, || format!("message {message} overran its lease unfrozen"));
    }
    found
}

fn overruns(topics: &Topics) -> BTreeSet<&str> {
    topics
        .of(MESSAGING_EVENTS)
        .filter(|event| event.event_type == LEASE_OVERRUN)
        .filter_map(|event| event.data["message_id"].as_str())
        .collect()
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

/// Whether this is why a write that began then ended after its lease.
fn explains(fault: &Fault, began: Duration) -> bool {
    let (lease, a_moment) = (LeaseTerms::default().length, Duration::from_secs(2));
    is_freeze_of_a_dispatcher(fault) && fault.from < began + lease && began < fault.until + a_moment
}

fn is_freeze_of_a_dispatcher(fault: &Fault) -> bool {
    fault.kind == "freeze" && fault.target.starts_with("messaging")
}
