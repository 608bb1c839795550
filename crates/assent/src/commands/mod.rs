//! The operator commands, one file each, with their arguments, their output and their tests.

mod asked;
pub mod bot;
mod callers;
pub mod campaign;
pub mod consent;
pub mod conversation;
pub mod erase;
pub mod evidence;
pub mod explain;
pub mod health;
pub mod hold;
pub mod import;
pub mod keys;
pub mod parked;
pub mod policy;
pub mod preferences;
pub mod projection;
pub mod receipt;
pub mod request;
pub mod review;
pub mod rules;
pub mod screen;
pub mod send;
pub mod suppress;
pub mod upload;
pub mod verify;
