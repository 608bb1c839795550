//! What a refusal of the provider leaves behind beyond its own message, and what of that stands in the
//! way of a send. It guarantees that both are rows, written in the transaction that settles the
//! message: a restart forgets none, and every replica sees them. Which code asks for what is
//! [`crate::whatsapp::reaction`]'s to say.

mod bars;
mod halts;
mod refusals;
mod standing;
mod window;

pub use bars::{Doubts, break_trust, hold_templates, opted_in, they_wrote, trust_again};
pub use halts::{account, lift};
pub use refusals::{Consequence, record};
pub use standing::{Obstacle, standing};
pub use window::{WINDOW, windows};
