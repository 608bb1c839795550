//! The WhatsApp Cloud API as this service speaks it: strict in what it writes, tolerant in what it
//! reads. It knows the wire and nothing of consent, intents or storage; those are left to its callers.

pub mod answer;
pub mod client;
pub mod envelope;
pub mod last_look;
pub mod listing;
pub mod management;
pub mod media;
pub mod outbound;
pub mod reaction;
pub mod reading;
pub mod signature;
pub mod template_form;
pub mod updates;

/// How long the provider keeps messages: nothing can be said of an older one.
pub const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);
