//! Faults in a running Assent: processes frozen, killed and cut off at named places, and what must
//! hold all the same. Each test proves that its fault happened.

mod answering;
mod closed;
mod durability;
mod erasing;
mod hearing;
mod importing;
mod overload;
mod replicas;
mod restarts;
mod standing;
mod withdrawal;

/// What it takes to send to somebody.
const SENDING: [&str; 4] = ["gateway", "consent", "vault", "messaging"];
