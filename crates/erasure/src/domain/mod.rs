//! The rules of requests, erasures and holds, pure: no clock, no I/O, no randomness. It guarantees
//! that a saga only goes forward and that nothing is destroyed for whoever hasn't shown who she is;
//! storing and sending are left to the store and the driver.

pub mod archive;
mod event;
mod ground;
pub mod hold;
mod person;
pub mod purposes;
pub mod recipients;
pub mod request;
pub mod restriction;
mod saga;
mod status;

pub use event::Event;
pub use person::{Opening, Person};
pub use saga::{Command, Issued, Participant, Refusal, Registry, Request, STEPS, Saga, Summary};
pub use status::Status;

#[cfg(test)]
mod tests;
