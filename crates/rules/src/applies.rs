//! Which jurisdictions apply, and why. It guarantees that each names its reason, and that what rests
//! on a guess says so.

use jiff::civil::Date;
use serde::Serialize;

use crate::file::{Reach, RuleFile};
use crate::place::Place;
use crate::set::RuleSet;

/// What is known of controller and person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The day of the question.
    pub on: Date,
    /// Where the controller has its seat.
    pub seat: Option<Place>,
    /// Where the person says that she is.
    pub stated: Option<Place>,
    /// The country of her number. It counts only where she has said nothing: a number tells where it
    /// was issued, not where its owner lives.
    pub number: Option<Place>,
}

/// A jurisdiction that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Law {
    /// Its id.
    pub jurisdiction: String,
    /// Its name.
    pub name: String,
    /// Why.
    pub because: Vec<Because>,
    /// Whether that is certain; what is not is applied all the same.
    pub certain: bool,
}

/// Why a jurisdiction applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// It always does.
    Always,
    /// The controller has its seat there.
    Seat(Place),
    /// The person says that she is there.
    PersonStated(Place),
    /// The person says that she is in a country of which it is a part.
    PersonMayBeThere(Place),
    /// Her number was issued there.
    Number(Place),
}

impl Because {
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Self::Always | Self::Seat(_) | Self::PersonStated(_))
    }
}

impl RuleSet {
    /// The jurisdictions that apply and have a rule in force on that day, in the order of their ids.
    #[must_use]
    pub fn applicable(&self, facts: &Facts) -> Vec<Law> {
        let in_force = |file: &&RuleFile| file.rules.iter().any(|rule| rule.is_in_force(facts.on));
        self.files().filter(in_force).filter_map(|file| law(file, facts)).collect()
    }
}

fn law(file: &RuleFile, facts: &Facts) -> Option<Law> {
    let because = match &file.reach {
        Reach::Always => vec![Because::Always],
        Reach::SeatOrPerson(places) => {
            let seat = facts.seat.as_ref().filter(|seat| places.iter().any(|it| seat.is_in(it)));
            let seat = seat.map(|seat| Because::Seat(seat.clone()));
            seat.into_iter().chain(person(places, facts)).collect()
        }
        Reach::Person(places) => person(places, facts).into_iter().collect(),
    };
    (!because.is_empty()).then(|| Law {
        jurisdiction: file.id.clone(),
        name: file.name.clone(),
        certain: because.iter().any(Because::is_certain),
        because,
    })
}

fn person<'a>(places: impl IntoIterator<Item = &'a Place>, facts: &Facts) -> Option<Because> {
    let mut places = places.into_iter();
    match (&facts.stated, &facts.number) {
        (Some(stated), _) => places.find_map(|place| {
            if stated.is_in(place) {
                Some(Because::PersonStated(stated.clone()))
            } else {
                stated.may_be_in(place).then(|| Because::PersonMayBeThere(stated.clone()))
            }
        }),
        (None, Some(number)) => {
            places.any(|place| number.may_be_in(place)).then(|| Because::Number(number.clone()))
        }
        (None, None) => None,
    }
}
