//! Tests of Assent against real Postgres, real Kafka and real processes: one binary, a module per
//! area. `cargo xtask test` brings the servers up and names them in the environment.

mod archives;
mod backup;
mod campaigns;
mod canary;
mod claims;
mod cli;
mod client;
mod console;
mod consumer;
mod contact_files;
mod doctor;
mod erasure;
mod event_store;
mod evidence;
mod faults;
mod gate;
mod identities;
mod interleavings;
mod judge;
mod kafka_security;
mod messaging;
mod module_keys;
mod policy;
mod projector;
mod receipts;
mod relay;
mod road;
mod scenarios;
mod screening;
mod servers;
mod state_topic;
mod support;
mod topic_settings;
mod traces;
mod vault;
