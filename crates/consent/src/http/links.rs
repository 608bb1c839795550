//! `POST /v1/gate/links`: addresses that people have as well, as the vault knows them. It guarantees that an
//! answer means settled.

use assent_contracts::api::consent::{LinksRequest, LinksResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;

use super::refusals::database;
use super::{ADDRESSES_MAX, App};
use crate::links;

/// Most links in one request.
const LINKS_MAX: usize = 500;

/// Link people with addresses.
///
/// A link can take a right away: what stands against one address of a person stands against all, and so
/// does the no of somebody who shares one. Where it does, also by a repeat, the answer waits one lease.
#[utoipa::path(
    post, path = "/v1/gate/links", tag = "gate",
    request_body = LinksRequest,
    responses(
        (status = 200, description = "They hold", body = LinksResponse),
        (status = 422, description = "validation_failed: more than 500 links, or 100 addresses"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn link(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<LinksRequest>,
) -> Result<Json<LinksResponse>, Problem> {
    caller.require("gate:write")?;
    let fits = request.links.iter().all(|it| (1..=ADDRESSES_MAX).contains(&it.addresses.len()));
    if request.links.len() > LINKS_MAX || !fits {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("at most 500 links, of 1 to 100 addresses each"));
    }
    let parts = app.0.clone();
    let linked = to_the_end(async move {
        let clock = &*parts.clock;
        links::link_settled(parts.store.pool(), clock, &parts.terms, &request.links).await
    });
    Ok(Json(LinksResponse { linked: linked.await.map_err(database)? }))
}
