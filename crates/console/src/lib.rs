//! The pages for people: what they are asked, what they agreed to, and how to stop it, in English, French
//! and Russian, without scripts. It holds no data. It guarantees that opting out takes one step and
//! works while the consent service is down, and that whoever has a link of somebody else's can do no
//! more with it than opt that person out; what may be recorded is decided by the consent service.

mod config;
mod http;
mod language;
mod pages;
pub mod receipt_page;
mod rights_words;
mod service;
mod visit;
mod words;

pub use config::Config;
pub use service::{StartError, serve};
