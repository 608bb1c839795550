//! A country (`FR`) or a part of one that has law of its own (`US-CA`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// ISO 3166-1 alpha-2, or ISO 3166-2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place(String);

/// What was no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no place: write a country such as FR, or a part of one such as US-CA (ISO 3166)")]
pub struct PlaceError(String);

impl Place {
    /// The country.
    #[must_use]
    pub fn country(&self) -> &str {
        &self.0[..2]
    }

    /// Whether whoever is here is surely there too.
    #[must_use]
    pub fn is_in(&self, other: &Self) -> bool {
        self == other || self.country() == other.0
    }

    /// Whether whoever is here may be there.
    #[must_use]
    pub fn may_be_in(&self, other: &Self) -> bool {
        self.is_in(other) || self.0 == other.country()
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let (country, part) = text.split_once('-').map_or((text, None), |(a, b)| (a, Some(b)));
        let is_country = country.len() == 2 && country.bytes().all(|b| b.is_ascii_uppercase());
        let is_part = |part: &str| {
            let alphanumeric = part.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
            (1..=3).contains(&part.len()) && alphanumeric
        };
        if is_country && part.is_none_or(is_part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PlaceError(text.to_owned()))
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Place {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Self, PlaceError> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_in_its_country_and_not_the_other_way_round() {
        let place = |text: &str| text.parse::<Place>().unwrap();
        assert!(place("US-CA").is_in(&place("US")));
        assert!(!place("US").is_in(&place("US-CA")));
        assert!(place("US").may_be_in(&place("US-CA")));
        assert!(!place("US-NY").may_be_in(&place("US-CA")));
        for text in ["", "F", "fr", "FRA", "US-", "US-CALI", "US_CA", "ÀÀ"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
