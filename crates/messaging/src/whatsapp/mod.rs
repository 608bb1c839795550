//! The WhatsApp Cloud API as this service speaks it: strict in what it writes, tolerant in what it
//! reads. It knows the wire and nothing of consent, intents or storage; those are left to its callers.

pub mod answer;
pub mod client;
pub mod last_look;
pub mod listing;
pub mod outbound;
pub mod reaction;
pub mod signature;
pub mod updates;
