//! The vault: people and their identifiers, sealed under a key each, in a database that holds no
//! key. It guarantees that a number, or a user id, is one person, that nothing identifying is stored or handed
//! out in plain without a record of the access, and that an erased person's data can't be read by
//! anyone, nor come in again by an import; who may be messaged is the consent service's business.

mod access;
mod app;
mod contact;
pub mod domain;
pub mod erasure;
mod error;
mod forget;
mod holdings;
mod identities;
mod import;
mod lookup;
mod people;
pub mod phone;
mod rectify;
mod renew;
mod resolve;
pub mod retention;
mod router;
mod screen;
mod service;
mod suppress;
mod texts;
mod user_id;
mod who;

pub use access::AccessRecord;
pub use app::App;
pub use error::VaultError;
pub use renew::TurnedTooEarly;
pub use router::{openapi, router};
pub use screen::Screening;
pub use service::{Config, StartError, access, migrators, pool, serve};
