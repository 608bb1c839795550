//! The time in which messages to a person cost nothing, because she came by an advertisement and was answered
//! within a day. It says what messages cost, never what may be sent: free-form content goes out for 24 hours after her
//! last message, whether they cost or not. It does no input or output.

use jiff::{SignedDuration, Timestamp};

/// Who answers later pays.
const ANSWERED_WITHIN: SignedDuration = SignedDuration::from_hours(24);

/// How a person came, the last time that she came by an advertisement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// When she wrote.
    pub entered_at: Timestamp,
    /// When she was first answered, if that was in time.
    pub answered_at: Option<Timestamp>,
}

impl Entry {
    /// She comes (again). None: nothing changes, since messages are free already, or the news is old.
    #[must_use]
    pub fn comes(before: Option<Self>, at: Timestamp, length: SignedDuration) -> Option<Self> {
        let is_news = before.is_none_or(|it| at > it.entered_at && !it.is_free(at, length));
        is_news.then_some(Self { entered_at: at, answered_at: None })
    }

    /// A message to her is taken. None: nothing changes.
    #[must_use]
    pub fn answered(self, at: Timestamp) -> Option<Self> {
        let in_time = at.duration_since(self.entered_at) <= ANSWERED_WITHIN;
        let first = self.answered_at.is_none();
        (first && in_time).then_some(Self { answered_at: Some(at), ..self })
    }

    /// Whether messages to her cost nothing.
    #[must_use]
    pub fn is_free(self, at: Timestamp, length: SignedDuration) -> bool {
        self.answered_at.is_some_and(|it| at < free_until(it, length))
    }
}

/// Until when messages cost nothing to somebody who was answered in time.
#[must_use]
pub fn free_until(answered_at: Timestamp, length: SignedDuration) -> Timestamp {
    answered_at.checked_add(length).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: SignedDuration = SignedDuration::from_hours(72);

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    #[test]
    fn messages_are_free_for_three_days_from_an_answer_within_one() {
        let entry = Entry::comes(None, at(0), LENGTH).unwrap();
        assert!(!entry.is_free(at(1), LENGTH), "nobody has answered");
        assert_eq!(entry.answered(at(25)), None, "too late");
        let answered = entry.answered(at(24)).unwrap();
        assert!(answered.is_free(at(24), LENGTH) && answered.is_free(at(95), LENGTH));
        assert!(!answered.is_free(at(96), LENGTH));
        assert_eq!(answered.answered(at(30)), None, "only the first answer counts");
        assert_eq!(Entry::comes(Some(answered), at(40), LENGTH), None, "it isn't prolonged");
        assert_eq!(Entry::comes(Some(entry), at(-1), LENGTH), None, "old news");
        let again = Entry::comes(Some(answered), at(96), LENGTH).unwrap();
        assert_eq!(again, Entry { entered_at: at(96), answered_at: None });
    }
}
