//! The erasure service: requests to be forgotten, the saga that carries them out, participants,
//! certificates.
//!
//! It guarantees G4: a request is completed only when every participant has proved every step;
//! otherwise it goes on trying and shows who is missing. What a step means in a service's own data
//! is left to that service.

mod barrier;

pub mod certificate;
pub mod domain;
mod driver;
mod http;
mod metrics;
mod service;
mod store;

pub use driver::Pace;
pub use http::openapi;
pub use service::{Config, StartError, migrators, serve};
