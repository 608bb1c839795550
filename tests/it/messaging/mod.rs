//! The messaging service against real Postgres, with stand-ins for its neighbours: what it guarantees
//! on its own, with each fault injected and shown to have happened.

mod asks;
mod bot;
mod campaigns;
mod contents;
mod conversations;
mod forgetting;
mod identities;
mod limits;
mod media;
mod outcomes;
mod pricing;
mod rates;
mod refusals;
mod sending;
mod stand_ins;
mod stops;
mod template_changes;
mod templates;
mod webhooks;
