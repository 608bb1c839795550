//! How an intent to send one message may move, and how far a delivery status may.
//! It guarantees that what may have been sent is never queued again and that statuses never step
//! back; the transactions that apply a move are left to the store.
//!
//! ```text
//! queued ──▶ claimed ──▶ calling ──▶ accepted (also from the queue: a webhook knows better)
//!   ▲           │           │ ├────▶ failed ◀─────┐
//!   └───────────┴───────────┘ └────▶ uncertain ───┴─▶ accepted
//!    put off, claim expired,         (reconciled by webhooks only)
//!    certainly not sent
//! ```
//! `refused` is reached from `claimed` (the gate said no) and from `queued` (fenced or cancelled).

use assent_contracts::messaging::Status;

/// Where an intent stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Waiting for a dispatcher.
    Queued,
    /// A dispatcher has it, up to its claim's deadline; the provider has not been called.
    Claimed,
    /// The provider is being called, or was when the dispatcher died.
    Calling,
    /// The provider accepted it. Accepted is not delivered.
    Accepted,
    /// The gate, a stop or a fence said no; the provider was not called.
    Refused,
    /// The provider refused it, or it could not be tried.
    Failed,
    /// It may have been sent. Never claimed again; only webhooks settle it.
    Uncertain,
}

impl State {
    /// As the database and the API name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Claimed => "claimed",
            Self::Calling => "calling",
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Uncertain => "uncertain",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::Queued,
            Self::Claimed,
            Self::Calling,
            Self::Accepted,
            Self::Refused,
            Self::Failed,
            Self::Uncertain,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
    }

    /// Nothing that a dispatcher does moves it any more.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Queued | Self::Claimed | Self::Calling)
    }
}

/// What happened to an intent, as its dispatcher, the reaper or a webhook learned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// The provider said yes, or a later status proves that it had.
    Accepted,
    /// The provider said no.
    Rejected,
    /// The gate, a stop or a fence said no.
    Denied,
    /// Certainly no byte of the message left: it may be tried again.
    NotSent,
    /// It could not be tried in time, and certainly was not sent.
    GivenUp,
    /// The body had begun and no answer came, or its dispatcher died while calling.
    Lost,
}

/// Where an intent stands after `happening`; none when that changes nothing, because it is settled
/// otherwise already.
#[must_use]
pub const fn after(state: State, happening: Happening) -> Option<State> {
    use Happening as H;
    use State as S;
    match (state, happening) {
        (S::Claimed | S::Calling, H::NotSent) => Some(S::Queued),
        (S::Queued | S::Claimed, H::Denied) => Some(S::Refused),
        (S::Queued | S::Claimed | S::Calling, H::GivenUp) => Some(S::Failed),
        (S::Calling, H::Rejected) => Some(S::Failed),
        (S::Calling, H::Lost) => Some(S::Uncertain),
        (S::Calling, H::Accepted) => Some(S::Accepted),
        // It was refused, or so it seemed, and put off: what went out after all isn't sent again.
        (S::Queued | S::Claimed, H::Accepted) => Some(S::Accepted),
        // Its dispatcher was taken for dead and came back: what it knows for certain is believed,
        // but "certainly not sent" ends it. An uncertain intent never returns to the queue.
        (S::Uncertain, H::Accepted) => Some(S::Accepted),
        (S::Uncertain, H::Rejected | H::NotSent | H::GivenUp) => Some(S::Failed),
        _ => None,
    }
}

/// The status after the provider reported one; none when it is not news. Webhooks come in any order
/// and more than once; `delivered` may never come before `read`.
#[must_use]
pub fn advance(current: Option<Status>, reported: Status) -> Option<Status> {
    match current {
        None => Some(reported),
        // What reached her has not failed, whatever arrives late.
        Some(Status::Delivered | Status::Read) if reported == Status::Failed => None,
        Some(current) if reported > current => Some(reported),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 7] = [
        State::Queued,
        State::Claimed,
        State::Calling,
        State::Accepted,
        State::Refused,
        State::Failed,
        State::Uncertain,
    ];
    const HAPPENINGS: [Happening; 6] = [
        Happening::Accepted,
        Happening::Rejected,
        Happening::Denied,
        Happening::NotSent,
        Happening::GivenUp,
        Happening::Lost,
    ];

    #[test]
    fn names_round_trip() {
        for state in STATES {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("sent"), None);
    }

    #[test]
    fn what_may_have_been_sent_is_never_queued_again() {
        for state in [State::Uncertain, State::Accepted, State::Failed, State::Refused] {
            for happening in HAPPENINGS {
                let next = after(state, happening);
                assert!(
                    !matches!(next, Some(State::Queued | State::Claimed | State::Calling)),
                    "{state:?} {happening:?} {next:?}"
                );
            }
        }
    }

    #[test]
    fn a_lost_call_is_uncertain_and_only_certainty_settles_it() {
        assert_eq!(after(State::Calling, Happening::Lost), Some(State::Uncertain));
        assert_eq!(after(State::Uncertain, Happening::Lost), None);
        assert_eq!(after(State::Uncertain, Happening::Accepted), Some(State::Accepted));
        assert_eq!(after(State::Uncertain, Happening::NotSent), Some(State::Failed));
    }

    #[test]
    fn a_withheld_call_is_tried_again() {
        assert_eq!(after(State::Calling, Happening::NotSent), Some(State::Queued));
        assert_eq!(after(State::Claimed, Happening::NotSent), Some(State::Queued));
    }

    #[test]
    fn accepted_is_final() {
        for happening in HAPPENINGS {
            assert_eq!(after(State::Accepted, happening), None);
        }
    }

    #[test]
    fn statuses_never_step_back() {
        use Status::{Delivered, Failed, Read, Sent};
        assert_eq!(advance(None, Delivered), Some(Delivered));
        assert_eq!(advance(Some(Sent), Read), Some(Read));
        assert_eq!(advance(Some(Read), Delivered), None);
        assert_eq!(advance(Some(Delivered), Sent), None);
        assert_eq!(advance(Some(Sent), Sent), None);
        assert_eq!(advance(Some(Sent), Failed), Some(Failed));
        assert_eq!(advance(Some(Delivered), Failed), None);
        assert_eq!(advance(Some(Failed), Read), None);
        // Any sequence: each accepted step is strictly later than the one before.
        let all = [Sent, Delivered, Read, Failed];
        for first in all {
            for second in all {
                if let Some(next) = advance(Some(first), second) {
                    assert!(next > first);
                }
            }
        }
    }
}
