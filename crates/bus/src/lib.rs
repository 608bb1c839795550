//! Kafka as Assent uses it: the producer behind the relay, the consumer whose positions live in
//! Postgres, parked messages, and a reader for rebuilds. It guarantees that what a handler wrote
//! and how far it has read commit together, and that order per key survives every failure; what an
//! event means is left to the handlers.

pub mod access;
pub mod config;
pub mod consumer;
pub mod envelope;
mod metrics;
pub mod own_log;
pub mod parked;
pub mod producer;
pub mod reach;
pub mod replay;
pub mod security;
mod subscriber;
mod topic_id;
mod topic_plan;
pub mod topics;

pub use access::{Access, Reader};
pub use config::BusConfig;
pub use consumer::ConsumerHandle;
pub use envelope::Received;
pub use producer::Producer;
pub use reach::Unreached;
pub use security::Security;
pub use subscriber::{ApplyError, Sequencing, Skipped, Subscriber};
pub use topic_plan::Change;
pub use topics::{TopicError, apply_topics, end_offsets, ensure_topics, plan_topics};
