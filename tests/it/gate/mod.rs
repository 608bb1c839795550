//! The gate against real Postgres: what withdrawals, stops, fences and links do to permits that
//! are being asked for at the same time. Sending itself, and Kafka, are other areas' business.

mod ages;
mod as_of;
mod asks;
mod claims;
mod erasure;
mod hours;
mod links;
mod permits;
mod policy;
mod proofs;
mod restrictions;
mod retention;
mod rules;
mod stops;
mod suppression;
mod ways;
mod withdrawal;
mod world;
