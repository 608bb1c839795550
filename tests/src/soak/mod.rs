//! A long run under load and faults, and the judge of what happened: what `cargo xtask soak` and `upgrade` are
//! made of. It is here, and not beside its command line, so that the judge is itself tested (`tests/it/judge.rs`).
#![expect(clippy::disallowed_macros, reason = "a long run speaks to its user")]

pub mod check;
pub mod dice;
pub mod faults;
pub mod history;
pub mod load;
pub mod plan;
pub mod replacing;
pub mod settling;
