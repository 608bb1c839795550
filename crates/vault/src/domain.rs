//! What may become of a person in the vault, as a pure decider. It guarantees that nobody is
//! registered twice or again after an erasure, and that an address is suppressed once; sealing,
//! indexes and keys are left to the shell around it.

pub mod identity;

use assent_contracts::address::AddressToken;
use assent_contracts::vault::{
    AddressSuppressed, IdentifiersAdded, IdentifiersRemoved, Origin, SubjectErased, SubjectLinked,
    SubjectRectified, SubjectRegistered,
};
use jiff::Timestamp;
use uuid::Uuid;

/// Where a person (or, for suppressions, an address) stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Nothing is known.
    #[default]
    Unknown,
    /// Her identifiers are held.
    Registered,
    /// The address may not be used.
    Suppressed,
    /// An erasure has begun: nothing new is taken.
    Fenced,
    /// Nothing is held any more.
    Erased,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Register a person under a new id.
    Register(Registration),
    /// Take note that the platform names her by more identifiers.
    Identify {
        /// Tokens of what is new.
        addresses: Vec<AddressToken>,
        /// Region of her number, where that is new.
        region: Option<String>,
        /// Which fields are held since.
        fields: Vec<String>,
    },
    /// Forget what her number doesn't say: it was verified to be hers.
    Forget {
        /// Tokens of what she is not known by any more.
        addresses: Vec<AddressToken>,
        /// Which fields are held no more.
        fields: Vec<String>,
        /// With whom she is one no more.
        unlinked: Vec<Uuid>,
    },
    /// Take note that she and others are one by the platform's word.
    Link {
        /// The others.
        others: Vec<Uuid>,
        /// Tokens of their addresses.
        addresses: Vec<AddressToken>,
    },
    /// Put right what was wrong.
    Rectify {
        /// The request that asks for it.
        request_id: Uuid,
        /// Which fields have another content.
        fields: Vec<String>,
        /// Which of them are held no more.
        removed: Vec<String>,
    },
    /// Take note of an opt-out by address.
    Suppress {
        /// Tokens of all spellings.
        addresses: Vec<AddressToken>,
    },
    /// Record that everything is gone.
    Erase {
        /// The erasure request.
        request_id: Uuid,
    },
}

/// What is published of a new person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Tokens of all that she is known by.
    pub addresses: Vec<AddressToken>,
    /// Region of her number.
    pub region: Option<String>,
    /// Which fields are held.
    pub fields: Vec<String>,
    /// By which road she came.
    pub origin: Origin,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A person is known.
    Registered(SubjectRegistered),
    /// She is known by more.
    Identified(IdentifiersAdded),
    /// She is known by less.
    Forgotten(IdentifiersRemoved),
    /// She is one with others.
    Linked(SubjectLinked),
    /// What was wrong is right.
    Rectified(SubjectRectified),
    /// An address may not be used.
    Suppressed(AddressSuppressed),
    /// A person was erased.
    Erased(SubjectErased),
}

/// Why it may not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The id is taken.
    AlreadyRegistered,
    /// The person was or is being erased.
    Erased,
    /// Nobody is known under this id.
    Unknown,
}

/// Decides. `Ok(None)`: it is so already.
///
/// # Errors
/// [`Refusal`].
pub fn decide(state: State, command: Command, now: Timestamp) -> Result<Option<Event>, Refusal> {
    match (command, state) {
        (Command::Register(_), State::Fenced | State::Erased) => Err(Refusal::Erased),
        (Command::Register(_), State::Registered | State::Suppressed) => {
            Err(Refusal::AlreadyRegistered)
        }
        (Command::Register(it), State::Unknown) => Ok(Some(Event::Registered(SubjectRegistered {
            addresses: it.addresses,
            region: it.region,
            fields: it.fields,
            origin: it.origin,
            at: now,
        }))),
        (Command::Identify { addresses, region, fields }, State::Registered) => {
            Ok(Some(Event::Identified(IdentifiersAdded { addresses, region, fields, at: now })))
        }
        (Command::Forget { addresses, fields, unlinked }, State::Registered) => {
            let at = now;
            Ok(Some(Event::Forgotten(IdentifiersRemoved { addresses, fields, unlinked, at })))
        }
        (Command::Link { others, addresses }, State::Registered) => {
            Ok(Some(Event::Linked(SubjectLinked { others, addresses, at: now })))
        }
        (Command::Rectify { request_id, fields, removed }, State::Registered) => {
            Ok(Some(Event::Rectified(SubjectRectified { request_id, fields, removed, at: now })))
        }
        (
            Command::Identify { .. }
            | Command::Forget { .. }
            | Command::Link { .. }
            | Command::Rectify { .. },
            State::Fenced | State::Erased,
        ) => Err(Refusal::Erased),
        (
            Command::Identify { .. }
            | Command::Forget { .. }
            | Command::Link { .. }
            | Command::Rectify { .. },
            State::Unknown | State::Suppressed,
        ) => Err(Refusal::Unknown),
        (Command::Suppress { .. }, State::Suppressed) => Ok(None),
        (Command::Suppress { addresses }, _) => {
            Ok(Some(Event::Suppressed(AddressSuppressed { addresses, at: now })))
        }
        // Somebody who never was here leaves a tombstone, but no event: others learn of people
        // by the event that registers them.
        (Command::Erase { .. }, State::Unknown | State::Suppressed | State::Erased) => Ok(None),
        (Command::Erase { request_id }, State::Registered | State::Fenced) => {
            Ok(Some(Event::Erased(SubjectErased { request_id, at: now })))
        }
    }
}

/// The state after an event.
#[must_use]
pub fn evolve(_: State, event: &Event) -> State {
    match event {
        Event::Registered(_)
        | Event::Identified(_)
        | Event::Forgotten(_)
        | Event::Linked(_)
        | Event::Rectified(_) => State::Registered,
        Event::Suppressed(_) => State::Suppressed,
        Event::Erased(_) => State::Erased,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn register() -> Command {
        Command::Register(Registration {
            addresses: vec![AddressToken { key_id: 1, mac: [1; 32] }],
            region: Some("FR".into()),
            fields: vec!["phone".into()],
            origin: Origin::Import,
        })
    }

    fn erase() -> Command {
        Command::Erase { request_id: Uuid::from_u128(7) }
    }

    fn after(commands: Vec<Command>) -> State {
        commands.into_iter().fold(State::Unknown, |state, command| {
            let event = decide(state, command, NOW).expect("given").expect("given");
            evolve(state, &event)
        })
    }

    #[test]
    fn a_new_id_is_registered_once() {
        assert_eq!(after(vec![register()]), State::Registered);
        assert_eq!(decide(State::Registered, register(), NOW), Err(Refusal::AlreadyRegistered));
    }

    #[test]
    fn erased_stays_erased() {
        let state = after(vec![register(), erase()]);
        assert_eq!(state, State::Erased);
        assert_eq!(decide(state, register(), NOW), Err(Refusal::Erased));
        assert_eq!(decide(State::Fenced, register(), NOW), Err(Refusal::Erased));
        assert_eq!(decide(state, erase(), NOW), Ok(None), "repeating is harmless");
    }

    #[test]
    fn only_who_is_known_gets_more_identifiers_and_links() {
        let identify = || Command::Identify {
            addresses: vec![],
            region: None,
            fields: vec!["user_id".into()],
        };
        let link = || Command::Link { others: vec![Uuid::from_u128(2)], addresses: vec![] };
        let forget = || Command::Forget { addresses: vec![], fields: vec![], unlinked: Vec::new() };
        assert_eq!(after(vec![register(), identify(), link(), forget()]), State::Registered);
        for command in [identify(), link(), forget()] {
            for (state, refusal) in [
                (State::Unknown, Refusal::Unknown),
                (State::Fenced, Refusal::Erased),
                (State::Erased, Refusal::Erased),
            ] {
                assert_eq!(decide(state, command.clone(), NOW), Err(refusal));
            }
        }
    }

    #[test]
    fn whoever_never_was_here_leaves_no_event() {
        assert_eq!(decide(State::Unknown, erase(), NOW), Ok(None));
    }

    #[test]
    fn an_address_is_suppressed_once() {
        let suppress = || Command::Suppress { addresses: vec![] };
        assert_eq!(after(vec![suppress()]), State::Suppressed);
        assert_eq!(decide(State::Suppressed, suppress(), NOW), Ok(None));
    }
}
