//! Read marks and typing indicators: calls of the send endpoint that send nothing.

use jiff::SignedDuration;
use serde_json::Value;

use crate::clock::later;
use crate::graph_error::GraphError;
use crate::message::{invalid, missing, string};
use crate::world::World;

/// How long a typing indicator shows, unless a message comes first.
const TYPING: SignedDuration = SignedDuration::from_secs(25);

/// Whether a body is a mark and no message.
pub fn is_mark(body: &Value) -> bool {
    string(body, "status").is_some() && body.get("message_id").is_some()
}

/// Marks a person's message, and all her earlier ones, as read.
pub fn mark(world: &World, body: &Value) -> Result<(), GraphError> {
    if string(body, "messaging_product") != Some("whatsapp") {
        return Err(missing("messaging_product"));
    }
    if string(body, "status") != Some("read") {
        return Err(invalid("status", "must be read"));
    }
    let typing = &body["typing_indicator"];
    if !typing.is_null() && string(typing, "type") != Some("text") {
        return Err(invalid("typing_indicator.type", "must be text"));
    }
    let id = string(body, "message_id").ok_or_else(|| missing("message_id"))?;
    let mut state = world.state();
    let at = state.inbound.iter().position(|it| it.id == id);
    let at =
        at.ok_or_else(|| GraphError::new(100, "message_id is not that of a message received"))?;
    let party = state.inbound[at].party.clone();
    for message in state.inbound[..=at].iter_mut().filter(|it| it.party == party) {
        message.read = true;
    }
    if !typing.is_null() {
        state.inbound[at].typing_until = Some(later(world.now(), TYPING));
    }
    Ok(())
}
