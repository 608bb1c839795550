//! The pure part of messaging: what a person's words mean and how an intent may move.
//! It does no input or output; storing and sending are left to the modules around it.

pub mod asks;
pub mod bot;
pub mod campaign;
pub mod confirmation;
pub mod content;
pub mod conversation;
pub mod free_entry;
pub mod identity;
pub mod intent;
pub mod limits;
pub mod media;
pub mod stop;
pub mod template;
pub mod template_draft;
pub mod unclear;
