//! Intents in the database: queueing, claiming, marking, settling. It guarantees that each move is
//! one that [`crate::domain::intent`] allows, is made by whoever holds the claim, and commits together
//! with its event; what to do with an intent is left to the dispatcher.

mod claims;
mod rows;
mod settlements;

pub use claims::{Claimed, claim, mark_calling, reap, sent_to};
pub use settlements::{Settlement, apply, lease_keys, settle};
