//! Read models and the query API over them. It guarantees that a read model equals a fold of its
//! topic, the discards and the fences, that rows and position commit together, and that an erased
//! person is not brought back by late events or rebuilds; what may be sent is never decided here.
//!
//! `model` holds the folds, `apply` brings batches into a schema, `rebuild` builds a second one
//! beside the live one, `erasure` is all that concerns erasure, `api` answers queries.

mod api;
mod apply;
pub mod erasure;
mod error;
pub mod model;
pub mod rebuild;
mod service;
mod subscriber;

pub use api::openapi;
pub use error::ProjectorError;
pub use model::Projection;
pub use service::{Config, StartError, access, migrators, serve};
pub use subscriber::Follower;
