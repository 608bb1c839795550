//! The judge: looks at what the clients know, at stores, topics, read models, keys, files and the simulator's
//! own ledger, once everything is at rest. It shares no fold with Assent. Each check says how much it
//! looked at: one that looked at nothing has failed.

pub mod calls;
pub mod certificates;
pub mod erasures;
pub mod events;
pub mod models;
mod plaintext;
mod verdicts;
pub mod withdrawals;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use crate::cluster::Cluster;
use serde_json::{Value, json};

use self::calls::Call;
use self::events::Topics;
use crate::soak::history::History;

/// What one check found.
#[derive(Debug, Default)]
pub struct Found {
    /// How many things it looked at.
    pub looked_at: usize,
    /// What was wrong.
    pub violations: Vec<String>,
    /// Late writes of a process that a fault had frozen: what no fence can stop (design, G1).
    pub incidents: Vec<String>,
}

impl Found {
    /// Looks at one thing.
    pub fn look(&mut self, sound: bool, otherwise: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !sound {
            self.violations.push(otherwise());
        }
    }
}

/// What all of them found.
#[derive(Debug)]
pub struct Verdict(Vec<(&'static str, &'static str, Found)>);

impl Verdict {
    /// Whether nothing was wrong and every check looked at something.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        !self.is_blind() && self.violated().is_empty()
    }

    /// Whether a check had nothing to look at.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.0.iter().any(|(.., found)| found.looked_at == 0)
    }

    /// The guarantees that were found broken. The rules without a number, which every run has to keep, are one
    /// without a name.
    #[must_use]
    pub fn violated(&self) -> BTreeSet<&'static str> {
        let broken = self.0.iter().filter(|(.., found)| !found.violations.is_empty());
        broken.map(|(guarantee, ..)| *guarantee).collect()
    }

    /// For a reader.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (guarantee, what, found) in &self.0 {
            let said = match (found.looked_at, found.violations.len()) {
                (0, _) => "NOTHING TO LOOK AT".to_owned(),
                (looked, 0) => format!("{looked} looked at, none wrong"),
                (looked, wrong) => format!("{looked} looked at, {wrong} WRONG"),
            };
            let incidents = match found.incidents.len() {
                0 => String::new(),
                some => format!(", {some} incidents on record"),
            };
            let _ = writeln!(text, "{guarantee:<3} {what:<58} {said}{incidents}");
            for violation in found.violations.iter().take(20) {
                let _ = writeln!(text, "      {violation}");
            }
        }
        text
    }

    /// For a program.
    #[must_use]
    pub fn json(&self) -> Value {
        let found = self.0.iter().map(|(guarantee, what, found)| {
            json!({"guarantee": guarantee, "what": what, "looked_at": found.looked_at,
                "violations": found.violations, "incidents": found.incidents})
        });
        Value::Array(found.collect())
    }
}

/// Judges everything.
pub async fn all(
    cluster: &Cluster,
    history: &History,
    unsettled: Vec<String>,
    postgres: &Path,
    kafka: &Path,
) -> Verdict {
    let ledger = Call::all(cluster).await;
    let topics = Topics::read(cluster).await;
    let mut rest = Found { looked_at: 1, violations: unsettled, ..Found::default() };
    rest.violations.extend(history.strange.iter().cloned());
    let found = vec![
        ("", "everything comes to rest, no undeclared answer", rest),
        (
            "G1",
            "no call after an acknowledged withdrawal",
            withdrawals::check(history, &ledger, &topics),
        ),
        ("G1", "each incident has its cause", withdrawals::incidents(history, &ledger, &topics)),
        ("G2", "acknowledged events are there once", events::acknowledged(history, &topics)),
        ("G2", "no topic has a gap or another event in a place", topics.whole()),
        ("G2", "what is stored is published, in order", events::published(cluster, &topics).await),
        ("", "no message is sent twice", calls::once(&ledger)),
        (
            "",
            "each message's outcome is the provider's",
            calls::agree(cluster, history, &ledger).await,
        ),
        ("", "the platform's rules are kept", calls::rules(cluster).await),
        ("G3", "the same question, the same answer", verdicts::check(cluster, history).await),
        ("G4", "an erasure is whole", erasures::whole(cluster, history).await),
        (
            "G4",
            "everyone's answer is on its certificate",
            certificates::check(cluster, history).await,
        ),
        ("G6", "who was erased stays erased", erasures::stays(cluster, history).await),
        (
            "G7",
            "read models say what was acknowledged",
            models::check(cluster, history, &topics).await,
        ),
        ("G7", "read models equal their rebuild", models::rebuilt(cluster)),
        ("G5", "no number in any file", plaintext::check(cluster, history, postgres, kafka).await),
    ];
    Verdict(found)
}
