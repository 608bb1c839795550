//! Which engine gives a verdict. It guarantees that a name stands for one meaning for ever: what a verdict
//! means is changed by a new engine beside the old ones, adopted at a moment that is on record
//! ([`super::policy::RULES_STREAM`]), and a corpus of recorded answers for each fails before anybody
//! forgets that.

/// An engine, in the order in which they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// The first: words, notices, ages, bars, links. It knows no clock but the end of validities.
    Spine1,
    /// With quiet hours, by the time zones of the tz database's release 2026f.
    #[default]
    Hours2,
}

impl Engine {
    /// Its stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Spine1 => "spine-1",
            Self::Hours2 => "hours-2",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Spine1, Self::Hours2].into_iter().find(|engine| engine.name() == name)
    }
}
