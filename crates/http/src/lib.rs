//! The HTTP edge of every service: problem+json with a closed set of codes, bearer keys with
//! scopes, idempotency keys, cursors, the layers around a router, and the only client that
//! services call each other with. It guarantees that nothing behind [`protected`] answers
//! without a key and that no call is ever repeated by itself; what an endpoint means is left to
//! the services.

pub mod auth;
pub mod client;
pub mod extract;
pub mod layers;
pub mod openapi;
pub mod outbound;
pub mod page;
pub mod problem;
mod server;

pub use auth::{Caller, Keys, protected};
pub use client::{ClientError, ServiceClient};
pub use extract::{IdempotencyKey, Json, Path, Query};
pub use layers::{Limits, edge_layers, router_layers};
pub use outbound::{Allowed, NotAllowed, Outbound, OutboundError};
pub use page::{Limit, Listing, Page};
pub use problem::{Code, Problem};
pub use server::serve;
