//! A messaging service in this process, and stand-ins for the consent service, the vault and the
//! provider that record what they are asked.

mod neighbours;
mod provider;
mod service;

use serde_json::Value;
use uuid::Uuid;

pub use assent_tests::cluster::until;

pub use self::neighbours::{BAD_USER_ID, Neighbours};
pub use self::provider::{Manner, Provider};
pub use self::service::{Home, Replica, Setup};

/// The phone number of the `n`th person.
pub fn phone(n: usize) -> String {
    format!("+336123{n:05}")
}

/// An id as JSON has it.
fn id(value: &Value) -> Uuid {
    value.as_str().unwrap().parse().unwrap()
}

/// The elements of a list in a body; none where there is none.
fn list<'a>(body: &'a Value, key: &str) -> &'a [Value] {
    body[key].as_array().map_or(&[], Vec::as_slice)
}
