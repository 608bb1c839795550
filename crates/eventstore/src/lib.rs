//! The event store of a service, in that service's Postgres: events, their outbox rows and the
//! first answers of commands become durable in one transaction, and the [`relay`] brings the
//! outbox to a [`relay::Publisher`] in order per key. What an event means, and Kafka itself, are
//! left to others.
//!
//! A stream is a key: the stream's id is the Kafka key, the stream's version is the `sequence` on
//! the wire. A service writes through a [`Session`] (one transaction), usually inside a
//! [`batcher::Batcher`], which lets commands that arrive together share one commit.

pub mod batcher;
pub mod checkpoint;
mod error;
mod event;
mod idempotency;
pub mod inbox;
pub mod incarnation;
pub mod own_log;
pub mod parked;
mod pool;
pub mod relay;
mod rows;
pub mod schema;
mod session;
mod store;

pub use error::StoreError;
pub use event::{Append, Appended, Expected, Message, NewEvent, StateRecord, StoredEvent, Stream};
pub use idempotency::{FirstAnswer, Idempotency, RETENTION as IDEMPOTENCY_RETENTION};
pub use incarnation::Incarnation;
pub use own_log::Regained;
pub use pool::{connect, connect_options, migrator};
pub use session::Session;
pub use store::{EventStore, to_the_end};
