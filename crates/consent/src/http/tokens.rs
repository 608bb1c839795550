//! `POST /v1/gate/tokens`: more tokens of addresses that the gate knows, when the vault has one more key to make them
//! with. It guarantees that an answer means: by each of its tokens an address is barred as it is by the others.

use std::collections::HashSet;

use assent_contracts::api::consent::{SameAddress, TokensRequest, TokensResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;

use super::refusals::database;
use super::{ADDRESSES_MAX, App};
use crate::links;

/// Most addresses in one request.
const SAME_MAX: usize = 500;

/// Give addresses more tokens.
///
/// Whoever has an address has it by its further tokens too, and what stands against it stands by these. With `instead`
/// the known tokens go, but of whoever is being erased. Nobody becomes freer by it; repeating it is harmless.
#[utoipa::path(
    post, path = "/v1/gate/tokens", tag = "gate",
    request_body = TokensRequest,
    responses(
        (status = 200, description = "They hold", body = TokensResponse),
        (status = 422, description = "validation_failed: more than 500 addresses, or 100 tokens of one, or a token that is both"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn retell(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<TokensRequest>,
) -> Result<Json<TokensResponse>, Problem> {
    caller.require("gate:write")?;
    let fits = |it: &SameAddress| {
        [&it.known, &it.more].iter().all(|tokens| (1..=ADDRESSES_MAX).contains(&tokens.len()))
    };
    if request.addresses.len() > SAME_MAX || !request.addresses.iter().all(fits) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("at most 500 addresses, of 1 to 100 known and 1 to 100 further tokens each"));
    }
    let more: HashSet<_> = request.addresses.iter().flat_map(|it| &it.more).collect();
    if request.addresses.iter().flat_map(|it| &it.known).any(|token| more.contains(token)) {
        // What is moved away from it would be lost.
        return Err(Problem::new(Code::ValidationFailed)
            .detail("a token is a known one or a further one, not both"));
    }
    let parts = app.0.clone();
    let retold = to_the_end(async move {
        links::retell(parts.store.pool(), &request.addresses, request.instead).await
    });
    let links::Retold { linked, barred } = retold.await.map_err(database)?;
    Ok(Json(TokensResponse { linked, barred }))
}
