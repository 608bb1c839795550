//! The erasure service: what people ask for about their data and by when it is answered, the saga that
//! carries an erasure out, participants, legal holds, certificates.
//!
//! It guarantees G4: an erasure is completed only when every participant has proved every step;
//! otherwise it goes on trying and shows who is missing. What a step means in a service's own data
//! is left to that service.

mod archive;
mod archivist;
mod barrier;
mod bulk;

pub mod certificate;
mod come_back;
mod crowd;
pub mod domain;
mod driver;
pub mod due;
mod http;
mod letter;
mod metrics;
mod registry;
mod rows;
mod service;
mod store;
pub mod tracking;
mod turns;
pub mod webhooks;

pub use driver::Pace;
pub use http::openapi;
pub use service::{Config, HolderUrls, StartError, Webhooks, access, migrators, serve, serve_by};
