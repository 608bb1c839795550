//! What holds for each person, by the rules of `docs/guides/consuming.md`. It guarantees that old records and repeats
//! change nothing, that an event is applied only after all before it, and that a word that was told late is left to
//! the state record that was written with it. Where records come from is left to others.

use std::collections::{BTreeMap, HashMap};

use assent_contracts::SubjectId;
use assent_contracts::consent::{
    ERASED, EXPIRED, GRANTED, REFUSED, REQUESTED, RESTRICTED, RESTRICTION_LIFTED, State, WITHDRAWN,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

/// Stands for every purpose, or every channel.
const ALL: &str = "*";

/// What holds for a purpose and a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// None: a state of a later version, which allows nothing.
    pub state: Option<State>,
    /// When a consent ends by itself.
    pub until: Option<Timestamp>,
}

impl Line {
    /// Its state at a moment: a consent may have ended by itself, whether or not an event has said so.
    #[must_use]
    pub fn at(&self, moment: Timestamp) -> Option<State> {
        let over = self.until.is_some_and(|until| until <= moment);
        if over && self.state == Some(State::Given) { Some(State::Expired) } else { self.state }
    }
}

/// Something changed about a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub subject_id: SubjectId,
    /// The last of her events that the picture reflects.
    pub sequence: i64,
    /// What.
    pub what: What,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A line of hers.
    Line {
        /// The purpose; `*`: every one.
        purpose: String,
        /// The channel; `*`: every one.
        channel: String,
        /// What holds now.
        line: Line,
    },
    /// Her data are not to be used from now on, whatever her lines say (GDPR Article 18), or are again.
    Restricted(bool),
    /// She is being erased, or is. Whoever keeps anything of hers takes part in erasures.
    Forgotten,
}

type Lines = BTreeMap<(String, String), Line>;

#[derive(Debug, Default)]
struct Person {
    sequence: i64,
    lines: Lines,
    restricted: bool,
    forgotten: bool,
    /// Events that go on from what isn't here yet.
    waiting: BTreeMap<i64, (String, Value)>,
}

/// Everybody's consents.
#[derive(Debug, Default)]
pub struct Picture {
    people: HashMap<SubjectId, Person>,
}

/// What the events have in common that change lines.
#[derive(Deserialize)]
struct Word {
    purpose: String,
    channel: String,
    #[serde(default)]
    valid_until: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Told {
    purpose: String,
    channel: String,
    state: Value,
    #[serde(default)]
    valid_until: Option<Timestamp>,
}

#[derive(Deserialize)]
struct States {
    consents: Vec<Told>,
    #[serde(default)]
    restricted: bool,
}

impl Picture {
    /// A record of the state topic: `reflects` is its `ce_eventsequence`; no data: a tombstone.
    ///
    /// # Errors
    /// When the data is none of a state record; then nothing changed.
    pub fn state(
        &mut self,
        subject_id: SubjectId,
        reflects: i64,
        data: Option<&[u8]>,
    ) -> serde_json::Result<Vec<Change>> {
        let States { consents: lines, restricted } = match data {
            Some(data) => serde_json::from_slice(data)?,
            None => States { consents: Vec::new(), restricted: false },
        };
        let person = self.people.entry(subject_id).or_default();
        let mut changes = Vec::new();
        if reflects >= person.sequence {
            let line = |told: Told| {
                let state = serde_json::from_value(told.state).ok();
                let until = told.valid_until.filter(|_| state == Some(State::Given));
                ((told.purpose, told.channel), Line { state, until })
            };
            let lines = lines.into_iter().map(line).collect();
            person.replace(subject_id, reflects, lines, data.is_none(), &mut changes);
            if person.restricted != restricted {
                person.restricted = restricted;
                let what = What::Restricted(restricted);
                changes.push(Change { subject_id, sequence: reflects, what });
            }
            person.go_on(subject_id, &mut changes);
        }
        Ok(changes)
    }

    /// A record of the event topic whose key is a person: its `ce_sequence`, `ce_type` and data.
    ///
    /// # Errors
    /// When the data is no JSON; then nothing changed.
    pub fn event(
        &mut self,
        subject_id: SubjectId,
        sequence: i64,
        kind: &str,
        data: &[u8],
    ) -> serde_json::Result<Vec<Change>> {
        let data = serde_json::from_slice(data)?;
        let person = self.people.entry(subject_id).or_default();
        let mut changes = Vec::new();
        if sequence > person.sequence {
            person.waiting.insert(sequence, (kind.to_owned(), data));
            person.go_on(subject_id, &mut changes);
        }
        Ok(changes)
    }

    /// Whether she has agreed, as far as this picture knows. For filtering: only the gate's permit allows a message.
    #[must_use]
    pub fn agreed(&self, of: SubjectId, purpose: &str, channel: &str, at: Timestamp) -> bool {
        let Some(person) = self.people.get(&of).filter(|person| !person.restricted) else {
            return false;
        };
        let scopes = [(purpose, channel), (purpose, ALL), (ALL, channel), (ALL, ALL)];
        let line = scopes
            .iter()
            .find_map(|(of, on)| person.lines.get(&((*of).to_owned(), (*on).to_owned())));
        line.is_some_and(|line| line.at(at) == Some(State::Given))
    }

    /// Her lines, by purpose and channel.
    pub fn lines(&self, of: SubjectId) -> impl Iterator<Item = (&str, &str, Line)> {
        let person = self.people.get(&of);
        let lines = person.into_iter().flat_map(|person| &person.lines);
        lines.map(|((purpose, channel), line)| (&**purpose, &**channel, *line))
    }

    /// The last of her events that the picture reflects; 0: none.
    #[must_use]
    pub fn sequence(&self, of: SubjectId) -> i64 {
        self.people.get(&of).map_or(0, |person| person.sequence)
    }

    /// How many events wait for what comes before them. It falls to 0 by itself; where it doesn't, records are missing.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.people.values().map(|person| person.waiting.len()).sum()
    }

    /// Everybody of whom something is known.
    pub fn people(&self) -> impl Iterator<Item = SubjectId> {
        self.people.iter().filter(|(_, person)| !person.lines.is_empty()).map(|(id, _)| *id)
    }
}

impl Person {
    fn go_on(&mut self, id: SubjectId, changes: &mut Vec<Change>) {
        self.waiting = self.waiting.split_off(&(self.sequence + 1));
        while let Some(next) = self.waiting.first_entry() {
            // A gap, a word that was told later than it happened, or a restriction, of which there may be several: the
            // state that was written with it says what holds.
            let (kind, data) = next.get();
            let restricts = [RESTRICTED, RESTRICTION_LIFTED].contains(&&**kind);
            if *next.key() != self.sequence + 1 || restricts || !data["acted_at"].is_null() {
                return;
            }
            let (kind, data) = next.remove();
            let (lines, erased) = (self.after(&kind, data), kind == ERASED);
            self.replace(id, self.sequence + 1, lines, erased, changes);
        }
    }

    fn after(&self, kind: &str, data: Value) -> Lines {
        let state = match kind {
            GRANTED => State::Given,
            REQUESTED => State::Requested,
            REFUSED => State::Refused,
            WITHDRAWN => State::Withdrawn,
            EXPIRED => State::Expired,
            ERASED => return Lines::new(),
            _ => return self.lines.clone(),
        };
        let mut lines = self.lines.clone();
        let Ok(Word { purpose, channel, valid_until }) = serde_json::from_value(data) else {
            return lines;
        };
        let covers = |wide: &str, narrow: &str| wide == ALL || wide == narrow;
        // She confirms or doesn't: what she said before, about this or about all, holds until then.
        let said = lines.iter().any(|((of, on), line)| {
            covers(of, &purpose) && covers(on, &channel) && line.state != Some(State::Requested)
        });
        if state == State::Requested && said {
            return lines;
        }
        let until = valid_until.filter(|_| state == State::Given);
        let line = Line { state: Some(state), until };
        for ((of, on), covered) in &mut lines {
            if covers(&purpose, of) && covers(&channel, on) {
                *covered = line;
            }
        }
        lines.insert((purpose, channel), line);
        lines
    }

    fn replace(
        &mut self,
        subject_id: SubjectId,
        sequence: i64,
        lines: Lines,
        forgotten: bool,
        changes: &mut Vec<Change>,
    ) {
        let change = |what| Change { subject_id, sequence, what };
        if forgotten && !self.forgotten {
            changes.push(change(What::Forgotten));
        }
        for ((purpose, channel), line) in &lines {
            if self.lines.get(&(purpose.clone(), channel.clone())) != Some(line) {
                let (purpose, channel) = (purpose.clone(), channel.clone());
                changes.push(change(What::Line { purpose, channel, line: *line }));
            }
        }
        (self.sequence, self.lines) = (sequence, lines);
        self.forgotten = forgotten || (self.forgotten && self.lines.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHE: SubjectId = SubjectId::from_u128(7);

    fn word(purpose: &str) -> Vec<u8> {
        format!(r#"{{"purpose":"{purpose}","channel":"whatsapp"}}"#).into_bytes()
    }

    fn agreed(picture: &Picture) -> bool {
        picture.agreed(SHE, "marketing", "whatsapp", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_next_event_is_applied_a_repeat_dropped_and_what_is_ahead_waits() {
        let mut picture = Picture::default();
        assert_eq!(picture.event(SHE, 1, GRANTED, &word("marketing")).unwrap().len(), 1);
        assert!(agreed(&picture));
        assert!(picture.event(SHE, 1, WITHDRAWN, &word("marketing")).unwrap().is_empty());
        assert!(picture.event(SHE, 3, WITHDRAWN, &word("marketing")).unwrap().is_empty());
        assert!(agreed(&picture), "a gap");
        assert_eq!((picture.sequence(SHE), picture.waiting()), (1, 1));
        picture.event(SHE, 2, "assent.consent.of_a_later_version.v1", b"{}").unwrap();
        assert!(!agreed(&picture));
        assert_eq!((picture.sequence(SHE), picture.waiting()), (3, 0));
    }

    #[test]
    fn an_old_state_is_ignored_also_after_a_tombstone() {
        let given =
            br#"{"consents":[{"purpose":"marketing","channel":"whatsapp","state":"given"}]}"#;
        let mut picture = Picture::default();
        picture.state(SHE, 4, Some(given)).unwrap();
        assert!(agreed(&picture));
        let gone = picture.state(SHE, 5, None).unwrap();
        assert_eq!(gone.iter().map(|it| &it.what).collect::<Vec<_>>(), [&What::Forgotten]);
        assert!(picture.state(SHE, 4, Some(given)).unwrap().is_empty());
        assert!(!agreed(&picture));
        assert!(picture.event(SHE, 6, ERASED, b"{}").unwrap().is_empty(), "it was told before");
        assert_eq!(picture.people().count(), 0);
    }

    #[test]
    fn who_is_restricted_has_agreed_to_nothing_until_the_state_says_otherwise() {
        let mut picture = Picture::default();
        let state = |restricted: &str| {
            let line = r#"{"purpose":"marketing","channel":"whatsapp","state":"given"}"#;
            format!(r#"{{"consents":[{line}]{restricted}}}"#).into_bytes()
        };
        picture.state(SHE, 1, Some(&state(""))).unwrap();
        assert!(agreed(&picture));
        assert!(picture.event(SHE, 2, RESTRICTED, b"{}").unwrap().is_empty(), "left to the state");
        let changes = picture.state(SHE, 2, Some(&state(r#","restricted":true"#))).unwrap();
        assert_eq!(
            changes.iter().map(|it| &it.what).collect::<Vec<_>>(),
            [&What::Restricted(true)]
        );
        assert_eq!((picture.waiting(), agreed(&picture)), (0, false));
        picture.event(SHE, 3, GRANTED, &word("marketing")).unwrap();
        assert!(!agreed(&picture), "whatever she agrees to meanwhile");
        picture.state(SHE, 4, Some(&state(""))).unwrap();
        assert!(agreed(&picture));
    }

    #[test]
    fn a_word_that_was_told_late_is_left_to_the_state() {
        let mut picture = Picture::default();
        let late =
            br#"{"purpose":"marketing","channel":"whatsapp","acted_at":"2026-01-01T00:00:00Z"}"#;
        assert!(picture.event(SHE, 1, GRANTED, late).unwrap().is_empty());
        let none =
            br#"{"consents":[{"purpose":"marketing","channel":"whatsapp","state":"withdrawn"}]}"#;
        picture.state(SHE, 1, Some(none)).unwrap();
        assert_eq!((picture.sequence(SHE), picture.waiting(), agreed(&picture)), (1, 0, false));
    }

    #[test]
    fn a_no_to_everything_covers_what_is_there_and_what_isnt_known_allows_nothing() {
        let mut picture = Picture::default();
        picture.event(SHE, 1, GRANTED, &word("marketing")).unwrap();
        picture.event(SHE, 2, WITHDRAWN, &word("*")).unwrap();
        assert!(!agreed(&picture));
        assert!(!picture.agreed(SHE, "service", "whatsapp", Timestamp::UNIX_EPOCH));
        picture.event(SHE, 3, GRANTED, &word("marketing")).unwrap();
        assert!(agreed(&picture), "a narrower word after it");
        picture.event(SHE, 4, REQUESTED, &word("marketing")).unwrap();
        assert!(agreed(&picture), "not confirmed: what she said before holds");
        let new =
            br#"{"consents":[{"purpose":"marketing","channel":"whatsapp","state":"paused"}]}"#;
        picture.state(SHE, 5, Some(new)).unwrap();
        assert!(!agreed(&picture));
    }

    #[test]
    fn a_consent_ends_by_itself() {
        let mut picture = Picture::default();
        let until =
            br#"{"purpose":"marketing","channel":"whatsapp","valid_until":"1970-01-01T00:00:00Z"}"#;
        picture.event(SHE, 1, GRANTED, until).unwrap();
        assert!(!agreed(&picture));
    }
}
