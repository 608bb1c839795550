//! What the simulator knows of each person: when she last wrote, what she stopped or blocked, what
//! reached her lately. A person is known by her digits, her BSUID, or both.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

/// How long free-form messages are allowed after a person's message.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// A person, as far as the platform is concerned.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// Her profile name.
    pub name: Option<String>,
    /// When she last wrote.
    pub wrote_at: Option<Timestamp>,
    /// Whether she stopped marketing messages in WhatsApp itself.
    pub stopped: bool,
    /// Whether the last thing she said about it in a message was a plain stop.
    pub said_stop: bool,
    /// Whether she blocked the business.
    pub blocked: bool,
    /// When each marketing message of the last day was delivered outside the window.
    pub marketing: VecDeque<Timestamp>,
    /// When marketing was last held back by the cap per person (131049).
    pub capped_at: Option<Timestamp>,
}

impl Person {
    /// Whether free-form messages are allowed at `now`.
    pub fn window_open(&self, now: Timestamp) -> bool {
        self.wrote_at.is_some_and(|at| now.duration_since(at) < WINDOW)
    }
}

/// Everybody.
#[derive(Debug, Default)]
pub struct People(BTreeMap<String, Person>);

impl People {
    /// The person behind digits or a BSUID, known from now on.
    pub fn person(&mut self, party: &str) -> &mut Person {
        self.0.entry(party.to_owned()).or_default()
    }

    /// The person, where known.
    pub fn get(&self, party: &str) -> Option<&Person> {
        self.0.get(party)
    }

    /// The digits or BSUIDs of everybody known.
    pub fn parties(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether free-form messages to `party` are allowed at `now`.
    pub fn window_open(&self, party: &str, now: Timestamp) -> bool {
        self.get(party).is_some_and(|person| person.window_open(now))
    }

    /// She has another number now; what she chose goes with her.
    pub fn moves(&mut self, from: &str, to: &str) {
        let person = self.0.remove(from).unwrap_or_default();
        self.0.insert(to.to_owned(), person);
    }
}

/// Whole messages that say stop, of those that Meta's own guidance and the field know; a longer
/// sentence may mean anything, so it doesn't count.
const STOP_WORDS: &[&str] = &[
    "stop",
    "unsubscribe",
    "stopall",
    "revoke",
    "optout",
    "opt-out",
    "arret",
    "arrêt",
    "desabonner",
    "désabonner",
    "desinscrire",
    "désinscrire",
    "stopper",
    "stopp",
    "abmelden",
    "abbestellen",
    "parar",
    "sair",
    "descadastrar",
    "detener",
    "baja",
    "стоп",
    "отписаться",
    "stop promotions",
];
/// Whole messages that take a stop back.
const START_WORDS: &[&str] = &["start", "unstop", "subscribe", "оформить подписку"];

/// What a message says about being messaged: true a stop, false a start, none neither.
pub fn says_stop(text: &str) -> Option<bool> {
    let said = text.trim().trim_end_matches(['.', '!']).to_lowercase();
    if STOP_WORDS.contains(&said.as_str()) {
        Some(true)
    } else {
        START_WORDS.contains(&said.as_str()).then_some(false)
    }
}
