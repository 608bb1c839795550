//! What the clients know: who asked for what, when, and what was answered. Times are those of
//! `CLOCK_BOOTTIME`, the same clock that the simulator reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::soak::check::Verdict;

/// Everything that happened.
#[derive(Debug, Default)]
pub struct History {
    /// The people and what they and others did.
    pub people: Vec<Person>,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Calls that had to be repeated, by what came instead of an answer.
    pub repeats: BTreeMap<String, usize>,
    /// Answers that no description allows.
    pub strange: Vec<String>,
}

/// Somebody invented.
#[derive(Debug, Clone)]
pub struct Person {
    /// Her number in E.164.
    pub phone: String,
    /// Her id.
    pub subject: String,
    /// What was done, in order: each began after the last was answered.
    pub acts: Vec<Act>,
}

/// Something that was asked for and acknowledged.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    /// What.
    pub what: What,
    /// When it was asked for, first.
    pub asked: Duration,
    /// When the answer had come.
    pub answered: Duration,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Consent was recorded; the events that the answer names.
    Grant(Vec<String>),
    /// Consent was not recorded: she had stopped, and only she may lift that.
    GrantRefused(Value),
    /// Consent was taken back.
    Withdraw(Vec<String>),
    /// She wrote STOP.
    Stop,
    /// She wrote START.
    Start,
    /// A message was queued.
    Queue(String),
    /// A question about a moment, with its position, and the answer.
    Ask(Value, Value),
    /// Her erasure was asked for.
    Erase(String),
}

/// A fault that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Fault {
    /// What: `kill`, `freeze`, `cut`, `restart`, `replace`.
    pub kind: &'static str,
    /// To whom.
    pub target: String,
    /// From when.
    pub from: Duration,
    /// Until when; after it the target was ready again, or the signal to go on was given.
    pub until: Duration,
}

impl Person {
    /// Her number as the provider writes it.
    pub fn digits(&self) -> &str {
        self.phone.trim_start_matches('+')
    }

    /// The request by which she is erased.
    pub fn erased(&self) -> Option<&str> {
        self.acts.iter().find_map(|act| match &act.what {
            What::Erase(request) => Some(request.as_str()),
            _ => None,
        })
    }

    /// Whether she wrote STOP, and not START since.
    pub fn stopped(&self) -> bool {
        let said = self.acts.iter().rev().find(|act| matches!(act.what, What::Stop | What::Start));
        said.is_some_and(|act| matches!(act.what, What::Stop))
    }

    /// Whether she ever wrote STOP: her START may still be on its way to the gate.
    pub fn ever_stopped(&self) -> bool {
        self.acts.iter().any(|act| matches!(act.what, What::Stop))
    }

    /// The messages that were queued for her.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.acts.iter().filter_map(|act| match &act.what {
            What::Queue(message) => Some(message.as_str()),
            _ => None,
        })
    }
}

impl History {
    /// Those whose erasure was asked for.
    pub fn erased(&self) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(|person| person.erased().is_some())
    }

    /// Those whose wasn't.
    pub fn remaining(&self) -> impl Iterator<Item = &Person> {
        self.people.iter().filter(|person| person.erased().is_none())
    }

    /// A few lines for a reader.
    pub fn summary(&self) -> String {
        let mut acts: BTreeMap<&str, usize> = BTreeMap::new();
        for act in self.people.iter().flat_map(|person| &person.acts) {
            let name = match act.what {
                What::Grant(_) => "grants",
                What::GrantRefused(_) => "refused grants",
                What::Withdraw(_) => "withdrawals",
                What::Stop => "stops",
                What::Start => "starts",
                What::Queue(_) => "messages",
                What::Ask(..) => "questions",
                What::Erase(_) => "erasures",
            };
            *acts.entry(name).or_default() += 1;
        }
        let mut text = format!("{} people", self.people.len());
        for (name, count) in acts {
            let _ = write!(text, ", {count} {name}");
        }
        let mut faults: BTreeMap<&str, usize> = BTreeMap::new();
        for fault in &self.faults {
            *faults.entry(fault.kind).or_default() += 1;
        }
        let _ = write!(text, "\nfaults: {faults:?}\nrepeated calls: {:?}", self.repeats);
        text
    }

    /// All of it but the numbers, with the verdict, as JSON.
    pub fn report(&self, verdict: &Verdict) -> String {
        let people = self.people.iter().map(|it| json!({"subject": it.subject, "acts": it.acts}));
        let report = json!({
            "people": people.collect::<Vec<_>>(),
            "faults": self.faults,
            "repeats": self.repeats,
            "verdict": verdict.json(),
        });
        serde_json::to_string_pretty(&report).expect("plain data serialises")
    }
}
