//! What the tests and the benchmarks stand on: the real servers, and whole clusters of Assent's own
//! processes on them. It guarantees a corner of its own to every user; what is true of Assent is
//! for the tests to say, and how fast it is for the benchmarks.

pub mod cluster;
pub mod collector;
pub mod harness;
pub mod plaintext;
pub mod servers;
pub mod soak;
pub mod topics;
pub mod whatsapp;
