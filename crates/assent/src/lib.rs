//! The binary's parts: operator commands and the composition of services.

pub mod api;
mod backup;
mod cli;
pub mod commands;
mod completions;
mod configuration;
pub mod contact_file;
mod doctor;
pub mod gateway;
mod kafka_rights;
pub mod migrate;
pub mod openapi;
pub mod outcome;
pub mod phone;
mod schemas;
pub mod serve;

pub use cli::main;
