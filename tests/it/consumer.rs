//! The consumer against real Kafka and Postgres: rows and position commit together, order per key
//! survives every failure, nothing is applied twice.

mod halting;
mod parking;
mod positions;
pub mod recorder;
