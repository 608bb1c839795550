//! Legal holds: what must not be destroyed yet. It guarantees that a hold has a reason, a date of
//! review and an end, and that none is placed once destruction has begun; that the saga waits for it
//! is the saga's, and a stop of sending never does.

use std::collections::BTreeMap;

use assent_contracts::rights::{HoldPlaced, HoldRefused, HoldReleased, HoldReviewed};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use uuid::Uuid;

use super::Event;

/// The holds of a person, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds(BTreeMap<Uuid, Hold>);

/// A hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// As it was placed.
    pub placed: HoldPlaced,
    /// By when it is looked at again.
    pub review_on: Date,
    /// When it was released.
    pub released_at: Option<Timestamp>,
}

/// What is done about holds.
#[derive(Debug, Clone)]
pub enum HoldCommand {
    /// Keep data from destruction.
    Place {
        /// Its id.
        hold_id: Uuid,
        /// The purpose whose data it is about; none: all data of the person.
        purpose: Option<String>,
        /// A code for the reason.
        reason: String,
        /// By when it is looked at again.
        review_on: Date,
        /// When it ends by itself.
        ends_at: Option<Timestamp>,
    },
    /// It was looked at and stays.
    Review {
        /// Which.
        hold_id: Uuid,
        /// By when it is looked at again.
        review_on: Date,
    },
    /// It is over.
    Release {
        /// Which.
        hold_id: Uuid,
        /// A code for the reason.
        reason: String,
    },
}

/// Why a command changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HoldError {
    /// There is no such hold of this person.
    #[error("the hold is not known")]
    Unknown,
    /// It is over.
    #[error("the hold is over")]
    Over,
    /// A day of review or an end that has passed.
    #[error("the day of review and the end must be ahead")]
    Past,
    /// A day of review that is too far away.
    #[error("the next review is within a year")]
    TooFar,
}

impl Holds {
    /// The hold of this id.
    #[must_use]
    pub fn get(&self, hold_id: Uuid) -> Option<&Hold> {
        self.0.get(&hold_id)
    }

    /// From when to when something kept an erasure waiting that was asked for at `from` and began at `until`: the
    /// holds that stood then; with a purpose, those that keep the erasure of its data waiting.
    pub fn delayed(
        &self,
        from: Timestamp,
        until: Timestamp,
        purpose: Option<&str>,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let concerned = move |hold: &&Hold| purpose.is_none_or(|purpose| hold.concerns(purpose));
        self.0.values().filter(concerned).filter_map(move |hold| {
            let ends = [hold.released_at, hold.placed.ends_at].into_iter().flatten().min()?;
            (hold.placed.at < until && ends > from).then_some((hold.placed.at, ends))
        })
    }

    /// Whether something must not be destroyed now.
    #[must_use]
    pub fn stand(&self, now: Timestamp) -> bool {
        self.0.values().any(|hold| hold.stands(now))
    }

    /// Whether data of this purpose must not be destroyed now.
    #[must_use]
    pub fn stand_for(&self, purpose: &str, now: Timestamp) -> bool {
        self.0.values().any(|hold| hold.stands(now) && hold.concerns(purpose))
    }

    /// As [`Holds::end`], of those that are about data of this purpose.
    #[must_use]
    pub fn end_for(&self, purpose: &str, now: Timestamp) -> Option<Timestamp> {
        let standing = self.0.values().filter(|hold| hold.stands(now) && hold.concerns(purpose));
        let ends: Option<Vec<Timestamp>> = standing.map(|hold| hold.placed.ends_at).collect();
        ends?.into_iter().max()
    }

    /// When the last of those that stand ends by itself; none: one of them is without an end.
    #[must_use]
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        let standing = self.0.values().filter(|hold| hold.stands(now));
        let ends: Option<Vec<Timestamp>> = standing.map(|hold| hold.placed.ends_at).collect();
        ends?.into_iter().max()
    }

    /// Those that stand.
    pub fn standing(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.0.values().filter(move |hold| hold.stands(now))
    }

    /// Takes one event in.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::HoldPlaced(event) => {
                let hold =
                    Hold { placed: event.clone(), review_on: event.review_on, released_at: None };
                self.0.insert(event.hold_id, hold);
            }
            Event::HoldReviewed(event) => {
                if let Some(hold) = self.0.get_mut(&event.hold_id) {
                    hold.review_on = event.review_on;
                }
            }
            Event::HoldReleased(event) => {
                if let Some(hold) = self.0.get_mut(&event.hold_id) {
                    hold.released_at = Some(event.at);
                }
            }
            _ => {}
        }
    }

    /// Decides; no events: nothing has to change. With `fenced`, destruction has begun: then a hold is
    /// refused, and the refusal is the event.
    ///
    /// # Errors
    /// [`HoldError`]; nothing changes then either.
    pub fn decide(
        &self,
        command: HoldCommand,
        fenced: bool,
        key: String,
        now: Timestamp,
    ) -> Result<Vec<Event>, HoldError> {
        let today = now.to_zoned(TimeZone::UTC).date();
        let reviewed = |day: Date| match day {
            day if day <= today => Err(HoldError::Past),
            // A review that never comes is none.
            day if day > today.saturating_add(1.year()) => Err(HoldError::TooFar),
            _ => Ok(()),
        };
        match command {
            HoldCommand::Place { hold_id, reason, .. } if fenced => {
                Ok(vec![Event::HoldRefused(HoldRefused { hold_id, reason, key, at: now })])
            }
            HoldCommand::Place { hold_id, purpose, reason, review_on, ends_at } => {
                reviewed(review_on)?;
                if ends_at.is_some_and(|ends_at| ends_at <= now) {
                    return Err(HoldError::Past);
                }
                let placed =
                    HoldPlaced { hold_id, purpose, reason, review_on, ends_at, key, at: now };
                Ok(vec![Event::HoldPlaced(placed)])
            }
            HoldCommand::Review { hold_id, review_on } => {
                let hold = self.get(hold_id).ok_or(HoldError::Unknown)?;
                if !hold.stands(now) {
                    return Err(HoldError::Over);
                }
                reviewed(review_on)?;
                Ok(vec![Event::HoldReviewed(HoldReviewed { hold_id, review_on, key, at: now })])
            }
            HoldCommand::Release { hold_id, reason } => {
                let hold = self.get(hold_id).ok_or(HoldError::Unknown)?;
                if hold.released_at.is_some() {
                    return Ok(Vec::new());
                }
                Ok(vec![Event::HoldReleased(HoldReleased { hold_id, reason, key, at: now })])
            }
        }
    }
}

impl Hold {
    /// Whether it is about data of this purpose: about all data, or just those.
    fn concerns(&self, purpose: &str) -> bool {
        self.placed.purpose.as_deref().is_none_or(|held| held == purpose)
    }

    /// Whether it stands at this moment.
    #[must_use]
    pub fn stands(&self, now: Timestamp) -> bool {
        self.released_at.is_none() && self.placed.ends_at.is_none_or(|ends_at| now < ends_at)
    }
}
