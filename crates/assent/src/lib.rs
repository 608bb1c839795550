//! The binary's parts: operator commands and the composition of services.

pub mod contact_file;
