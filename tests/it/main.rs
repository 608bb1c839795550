//! Tests of Assent against real Postgres, real Kafka and real processes: one binary, a module per
//! area. `cargo xtask test` brings the servers up and names them in the environment.

mod harness;

mod event_store;
mod relay;
mod consumer;
mod gate;
mod vault;
mod erasure;
mod messaging;
