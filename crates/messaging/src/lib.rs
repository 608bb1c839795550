//! The messaging service: intents that go out through the gate, the WhatsApp adapter, the webhook
//! that hears stops at the door. It guarantees that no provider call starts outside of a lease
//! under which a permit was given (G1), and that a stop holds from the webhook's 200 on (G9);
//! who agreed to what is the consent service's, who has which number the vault's.

pub mod api;
pub mod bot;
pub mod campaigns;
mod come_back;
pub mod config;
mod consequences;
mod conversations;
mod declarations;
mod dispatcher;
pub mod domain;
mod erasure;
mod forwarder;
mod free_entries;
mod hour_keys;
mod housekeeping;
mod identities;
mod intake;
mod intents;
mod limits;
mod management;
mod media;
mod metrics;
mod moves;
mod opt_ins;
mod outcomes;
mod person_keys;
mod processor;
pub mod questions;
mod rates;
mod requests;
mod restriction;
mod seen;
mod service;
mod state;
mod stored;
mod tasks;
mod template_changes;
mod templates;
pub mod whatsapp;

pub use api::document as openapi;
pub use config::Config;
pub use service::{StartError, access, build, migrators, run, serve};
pub use state::Messaging;
