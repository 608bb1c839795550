//! What goes wrong on purpose: errors, delays, duplicates, disorder, lost answers, for the next,
//! the n-th or every k-th send, or a share of them, to everybody or one number. From the inspection
//! API one at a time, or as a scenario file.

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::random::Random;
use crate::world::{GivenTemplate, StatusPlan};

/// A scenario file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Which statuses follow an accepted message.
    pub statuses: Option<StatusPlan>,
    /// Which limits are enforced.
    pub limits: Option<Limits>,
    /// The account's templates; given, only these exist.
    pub templates: Vec<GivenTemplate>,
    /// What goes wrong.
    #[serde(rename = "fault")]
    pub faults: Vec<Fault>,
}

impl Scenario {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        match scenario.faults.iter().find_map(Fault::nonsense) {
            Some(what) => Err(what.to_owned()),
            None => Ok(scenario),
        }
    }
}

/// Something that goes wrong. Of `nth`, `every` and `share` at most one is given; none: with every
/// send that it is meant for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// How many sends it strikes in all: one, unless `every` or `share` is given, which go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Only the n-th send that it is meant for, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Every k-th send that it is meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<u64>,
    /// This share of them (0 to 1), drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Only sends to this number (any spelling with its digits) or BSUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_to: Option<String>,
    /// Sends that it was meant for so far.
    #[serde(skip)]
    seen: u64,
}

/// What a fault does, once the body has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// Refuses with Meta's error of this code.
    Error {
        /// The code.
        code: i64,
    },
    /// Accepts, then reports failure by a status webhook with this code.
    FailedStatus {
        /// The code.
        code: i64,
    },
    /// Answers with this HTTP status and a body that isn't Meta's.
    HttpStatus {
        /// The status.
        status: u16,
    },
    /// Answers later.
    Delay {
        /// How much later.
        delay_ms: u64,
    },
    /// Accepts the message, then drops the connection without an answer.
    DropConnection,
    /// Accepts the message, then never answers.
    NoAnswer,
    /// The statuses that follow come later.
    DelayStatuses {
        /// How much later each.
        delay_ms: u64,
    },
    /// Each status that follows comes twice.
    DuplicateStatuses,
    /// The statuses that follow come in another order.
    DisorderStatuses,
    /// No status follows.
    LoseStatuses,
}

impl Fault {
    /// Why it could never strike as it is meant.
    pub fn nonsense(&self) -> Option<&'static str> {
        let given = [self.nth.is_some(), self.every.is_some(), self.share.is_some()];
        if given.into_iter().filter(|given| *given).count() > 1 {
            return Some("a fault has at most one of nth, every, share");
        }
        if self.nth == Some(0) || self.every == Some(0) {
            return Some("nth and every count from 1");
        }
        self.share
            .is_some_and(|share| !(0.0..=1.0).contains(&share))
            .then_some("share is between 0 and 1")
    }

    /// Whether it is used up.
    pub fn spent(&self) -> bool {
        self.next == Some(0)
    }

    /// Makes explicit how often it strikes.
    #[must_use]
    pub fn begun(mut self) -> Self {
        if self.nth.is_some() || (self.every.is_none() && self.share.is_none()) {
            self.next = self.next.or(Some(1));
        }
        self
    }

    /// Counts a send to `party`, and says whether it is struck.
    pub fn strikes(&mut self, party: &str, random: &Random) -> bool {
        if let Some(to) = &self.for_to {
            let digits: String = to.chars().filter(char::is_ascii_digit).collect();
            if to != party && (digits.is_empty() || digits != party) {
                return false;
            }
        }
        self.seen += 1;
        match (self.nth, self.every, self.share) {
            (Some(nth), ..) => self.seen == nth,
            (_, Some(every), _) => self.seen.is_multiple_of(every),
            (.., Some(share)) => random.happens(share),
            _ => true,
        }
    }

    /// One strike less.
    pub fn struck(&mut self) {
        self.next = self.next.map(|next| next.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(fault: &str, sends: usize) -> Vec<usize> {
        let random = Random::new(Some(3));
        let mut fault = toml::from_str::<Fault>(fault).unwrap().begun();
        (1..=sends)
            .filter(|_| {
                let strikes = !fault.spent() && fault.strikes("33612345678", &random);
                if strikes {
                    fault.struck();
                }
                strikes
            })
            .collect()
    }

    #[test]
    fn a_fault_strikes_whom_and_when_it_says() {
        let error = "kind = \"error\"\ncode = 131056\n";
        assert_eq!(struck(error, 3), [1]);
        assert_eq!(struck(&format!("{error}next = 2"), 4), [1, 2]);
        assert_eq!(struck(&format!("{error}nth = 3"), 6), [3]);
        assert_eq!(struck(&format!("{error}every = 2"), 6), [2, 4, 6]);
        assert_eq!(struck(&format!("{error}every = 2\nnext = 1"), 6), [2]);
        assert_eq!(struck(&format!("{error}for_to = '+33 6 99 99 99 99'"), 3), [0; 0]);
        let drawn = struck(&format!("{error}share = 0.5"), 200).len();
        assert!((70..130).contains(&drawn), "{drawn}");
    }

    #[test]
    fn the_guides_scenario_is_one() {
        let guide = include_str!("../../../docs/guides/simulator.md");
        let scenario = guide.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let scenario = Scenario::parse(scenario).unwrap();
        assert_eq!((scenario.faults.len(), scenario.templates.len()), (4, 1));
    }

    #[test]
    fn a_scenario_that_makes_no_sense_is_refused() {
        let faulty = |text: &str| Scenario::parse(text).unwrap_err();
        let error = "[[fault]]\nkind = \"error\"\ncode = 1\n";
        assert!(faulty(&format!("{error}nth = 1\nevery = 2")).contains("at most one"));
        assert!(faulty(&format!("{error}nth = 0")).contains("from 1"));
        assert!(faulty("[[fault]]\nkind = \"earthquake\"").contains("earthquake"));
        assert!(faulty("colour = \"red\"").contains("colour"));
        assert_eq!(Scenario::parse(error).unwrap().faults.len(), 1);
    }
}
