//! The consent service: purposes and notices, the ledger of each person, the gate and its permits.
//!
//! It guarantees G1 on its side of the wire: whoever is told that a right was taken away is told
//! one lease after the commit, and no permit read after that commit allows it. That a permit's
//! holder counts its lease from before it asked, and that stops are heard while this service is
//! down, is left to messaging.
//!
//! Locks are taken in one order everywhere: stops, streams, gate rows, ledger lines.

pub mod ages;
pub mod asks;
pub mod claims;
pub mod codes;
mod come_back;
pub mod commands;
pub mod contacts;
pub mod domain;
pub mod erasure;
pub mod expiry;
pub mod facts;
pub mod gate;
pub mod http;
pub mod lines;
pub mod links;
mod metrics;
pub mod permits;
pub mod policy;
pub mod preferences;
pub mod proofs;
pub mod restrictions;
pub mod retention;
pub mod service;
pub mod standing;
pub mod state_keeper;
pub mod stops;
pub mod stored;
pub mod suppression;
pub mod views;

pub use http::openapi;
pub use service::{Config, StartError, access, serve};
