//! The rules of an erasure, pure: no clock, no I/O, no randomness. It guarantees that a saga only
//! goes forward; storing and sending are left to the store and the driver.

pub mod deadline;
mod event;
mod saga;

pub use event::Event;
pub use saga::{
    Command, Issued, Participant, Refusal, Registry, Request, STEPS, Saga, Status, Summary,
};

#[cfg(test)]
mod tests;
