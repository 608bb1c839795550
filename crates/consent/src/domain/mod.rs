//! What consent means, without clock, database or network: the ledger of a person, the purposes
//! and the verdict. Everything here is a pure function of its arguments; reading and storing are
//! left to the modules around it.

pub mod as_of;
pub mod decide;
pub mod engine;
pub mod event;
pub mod ledger;
pub mod policy;
pub mod purpose;
pub mod quiet;
pub mod receipt;
pub mod scope;
pub mod statement;
pub mod verdict;

pub use decide::{Command, Refusal};
pub use event::Event;
pub use ledger::{Ledger, Line};
pub use scope::Scope;
