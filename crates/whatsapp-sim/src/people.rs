//! What the simulator knows of each person: when she last wrote, what she stopped or blocked, what
//! reached her lately. She has a number and a BSUID, or a BSUID alone where nobody knows her number; whoever
//! has a number after her is another person, under another BSUID.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::message::is_bsuid;

/// How long free-form messages are allowed after a person's message.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(24);

/// How long messages cost nothing after an advertisement led her here and she was answered.
const FREE_HOURS: i64 = 72;

/// A person, as far as the platform is concerned.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// Her number's digits, where known.
    pub digits: Option<String>,
    /// Her BSUID.
    pub user_id: String,
    /// Her profile name.
    pub name: Option<String>,
    /// When she last wrote.
    pub wrote_at: Option<Timestamp>,
    /// When an advertisement last led her here.
    pub entered_at: Option<Timestamp>,
    /// Since when messages to her cost nothing for that.
    pub free_since: Option<Timestamp>,
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
    /// How often she has set up WhatsApp anew.
    pub installs: u32,
    /// Whether her phone is off: what is sent to her waits.
    pub off: bool,
    /// What waits for the phone, by wamid.
    pub waiting: Vec<String>,
}

impl Person {
    /// Whether a message at `now` costs nothing, since an advertisement led her here. The first within a day begins that.
    pub fn is_free(&mut self, now: Timestamp) -> bool {
        let within = |at: Option<Timestamp>, hours| {
            at.is_some_and(|at| now.duration_since(at) < SignedDuration::from_hours(hours))
        };
        if !within(self.free_since, FREE_HOURS) && within(self.entered_at.take(), 24) {
            self.free_since = Some(now);
        }
        within(self.free_since, FREE_HOURS)
    }

    /// Whether free-form messages are allowed at `now`.
    pub fn window_open(&self, now: Timestamp) -> bool {
        self.wrote_at.is_some_and(|at| now.duration_since(at) < WINDOW)
    }
}

/// Everybody, by digits or else BSUID.
#[derive(Debug, Default)]
pub struct People {
    people: BTreeMap<String, Person>,
    digits_of: BTreeMap<String, String>,
    /// How many people had a number and have it no more.
    had: BTreeMap<String, u32>,
    /// The BSUIDs of accounts that are no more.
    gone: BTreeSet<String>,
}

impl People {
    /// The person behind digits or a BSUID, known from now on.
    pub fn person(&mut self, party: &str) -> &mut Person {
        let key = self.key(party).to_owned();
        let person = self.people.entry(key).or_default();
        if person.user_id.is_empty() {
            if is_bsuid(party) {
                party.clone_into(&mut person.user_id);
            } else {
                person.digits = Some(party.to_owned());
                person.user_id = user_id(party, self.had.get(party).copied().unwrap_or(0));
                self.digits_of.insert(person.user_id.clone(), party.to_owned());
            }
        }
        person
    }

    /// The person who wrote, with what Meta told of her: her number, her BSUID, or both.
    pub fn writer(&mut self, digits: Option<&str>, user_id: Option<&str>) -> &mut Person {
        let (Some(digits), Some(user_id)) = (digits, user_id) else {
            return self.person(digits.or(user_id).unwrap_or_default());
        };
        self.gone.remove(user_id);
        self.digits_of.insert(user_id.to_owned(), digits.to_owned());
        let person = self.person(digits);
        user_id.clone_into(&mut person.user_id);
        person
    }

    /// The person, where known.
    pub fn get(&self, party: &str) -> Option<&Person> {
        self.people.get(self.key(party))
    }

    /// What identifies a person, whichever of her names is given.
    pub fn key<'a>(&'a self, party: &'a str) -> &'a str {
        self.digits_of.get(party).map_or(party, String::as_str)
    }

    /// The digits or BSUIDs of everybody known.
    pub fn parties(&self) -> impl Iterator<Item = &str> {
        self.people.keys().map(String::as_str)
    }

    /// Whether free-form messages to `party` are allowed at `now`.
    pub fn window_open(&self, party: &str, now: Timestamp) -> bool {
        self.get(party).is_some_and(|person| person.window_open(now))
    }

    /// She has another number now, and another BSUID with it; what she chose goes with her. What waits for a
    /// phone stays with the number.
    pub fn moves(&mut self, from: &str, to: &str) {
        let from = self.key(from).to_owned();
        let mut person = self.leaves(&from);
        if person.off {
            let waiting = std::mem::take(&mut person.waiting);
            let next = self.person(&from);
            next.off = true;
            next.waiting = waiting;
            person.off = false;
        }
        person.digits = Some(to.to_owned());
        person.user_id = user_id(to, self.had.get(to).copied().unwrap_or(0));
        self.digits_of.insert(person.user_id.clone(), to.to_owned());
        self.people.insert(to.to_owned(), person);
    }

    /// Somebody else has her number now, who wrote, chose and blocked nothing yet. Gives what waited for its phone,
    /// which is on.
    pub fn recycle(&mut self, digits: &str) -> Vec<String> {
        let before = self.leaves(digits);
        self.person(digits);
        before.waiting
    }

    /// Her number is hers no more, nor anybody's.
    fn leaves(&mut self, number: &str) -> Person {
        let person = self.people.remove(number).unwrap_or_default();
        self.digits_of.retain(|_, digits| digits.as_str() != number);
        self.gone.insert(person.user_id.clone());
        *self.had.entry(number.to_owned()).or_default() += 1;
        person
    }

    /// Whether this is the BSUID of an account that is no more.
    pub fn is_gone(&self, party: &str) -> bool {
        self.gone.contains(party)
    }

    /// Whether a message to `party` waits for her phone from now on.
    pub fn waits(&mut self, party: &str, wamid: &str) -> bool {
        let person = self.person(party);
        if person.off && !person.waiting.iter().any(|it| it == wamid) {
            person.waiting.push(wamid.to_owned());
        }
        person.off
    }
}

impl Person {
    /// Her entry among a webhook's `contacts`, without her number where Meta hides it.
    pub fn contact(&self, hidden: bool) -> Value {
        let name = self.name.as_deref().unwrap_or("Simulated person");
        let mut contact = json!({"profile": {"name": name}, "user_id": self.user_id});
        if let Some(digits) = self.digits.as_ref().filter(|_| !hidden) {
            contact["wa_id"] = json!(digits);
        }
        contact
    }

    /// What Meta shows of her keys where the number checks identities: another once she has set up WhatsApp anew.
    pub fn identity_hash(&self) -> String {
        let hash = Sha256::digest(format!("identity {} {}", self.user_id, self.installs));
        STANDARD.encode(&hash[..12])
    }
}

/// The BSUID of an account with this number, which so many had before: its country and twenty digits.
fn user_id(digits: &str, had: u32) -> String {
    const COUNTRIES: [(&str, &str); 16] = [
        ("351", "PT"),
        ("31", "NL"),
        ("32", "BE"),
        ("33", "FR"),
        ("34", "ES"),
        ("39", "IT"),
        ("41", "CH"),
        ("43", "AT"),
        ("44", "GB"),
        ("49", "DE"),
        ("52", "MX"),
        ("55", "BR"),
        ("62", "ID"),
        ("91", "IN"),
        ("1", "US"),
        ("7", "RU"),
    ];
    let country = COUNTRIES.iter().find(|(code, _)| digits.starts_with(code));
    let country = country.map_or("ZZ", |(_, country)| country);
    let before = if had == 0 { String::new() } else { format!(" {had}") };
    let hash = Sha256::digest(format!("bsuid {digits}{before}"));
    let serial: String = hash[..20].iter().map(|byte| char::from(b'0' + byte % 10)).collect();
    format!("{country}.{serial}")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_one_under_her_number_and_her_bsuid() {
        let mut people = People::default();
        people.writer(Some("33612345678"), Some("FR.abc")).stopped = true;
        assert!(people.person("FR.abc").stopped && people.person("33612345678").stopped);
        people.moves("33612345678", "33687654321");
        assert!(people.get("33612345678").is_none() && people.get("FR.abc").is_none());
        let moved = people.get("33687654321").unwrap();
        assert!(moved.stopped && is_bsuid(&moved.user_id) && moved.user_id.starts_with("FR."));
        assert_eq!(people.person("US.1").digits, None);
    }

    #[test]
    fn whoever_has_her_number_next_is_somebody_else() {
        let mut people = People::default();
        let number = "33612345678";
        let (first, hash) = {
            let person = people.person(number);
            (person.stopped, person.said_stop, person.off) = (true, true, true);
            (person.user_id.clone(), person.identity_hash())
        };
        assert!(people.waits(number, "wamid.1") && people.waits(&first, "wamid.1"));
        assert_eq!(people.recycle(number), ["wamid.1"]);
        let next = people.get(number).unwrap().clone();
        assert!(!next.stopped && !next.said_stop && !next.off && next.waiting.is_empty());
        assert!(next.user_id != first && next.identity_hash() != hash);
        assert!(people.is_gone(&first) && !people.is_gone(&next.user_id));
        assert_eq!(people.key(&first), first, "her account has no number any more");

        // She moves while her phone is off: what waits is for whoever has the number next.
        people.person(number).off = true;
        assert!(people.waits(number, "wamid.2"));
        people.moves(number, "33687654321");
        assert!(people.is_gone(&next.user_id) && !people.person("33687654321").off);
        assert_eq!(people.recycle(number), ["wamid.2"]);
        assert!(!people.waits(number, "wamid.3"));
    }
}
