//! HTTP types that one service offers and another calls. A service's other endpoints define
//! their own types beside their handlers.

pub mod campaigns;
pub mod claims;
pub mod consent;
pub mod holdings;
pub mod messaging;
pub mod vault;
