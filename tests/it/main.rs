//! Tests of Assent against real Postgres, real Kafka and real processes: one binary, a module per
//! area. `cargo xtask test` brings the servers up and names them in the environment.

mod harness;

mod consumer;
mod erasure;
mod event_store;
mod gate;
mod messaging;
mod projector;
mod relay;
mod vault;
