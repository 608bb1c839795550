//! Links to preference pages: made and revoked for a person, and what the page asks about them.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    PreferenceLink, PreferenceLinkState, Proof, ProofCode, ProofRequest, Revoked,
};
use assent_http::{Caller, Code, Json, Path, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use super::App;
use super::refusals::{database, store};
use crate::{codes, preferences};

/// Make a link to a person's preference page.
///
/// Bring it to her by a road that is hers. Whoever has it can opt her out, and do nothing else: to see
/// or change more, she proves by a message that the number is hers.
#[utoipa::path(
    post, path = "/v1/subjects/{subject_id}/preference-links", tag = "preferences",
    params(("subject_id" = Uuid, Path, description = "The person")),
    responses(
        (status = 201, description = "The link", body = PreferenceLink),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(subject): Path<SubjectId>,
) -> Result<(StatusCode, Json<PreferenceLink>), Problem> {
    caller.require("consent:write")?;
    let (link_id, links) = (app.0.ids.v4(), &app.0.papers.links);
    let now = app.0.clock.now();
    let mut session = app.unfenced(subject).await?;
    let token = preferences::create(session.conn(), links, subject, link_id, now).await;
    let token = token.map_err(database)?;
    session.commit().await.map_err(store)?;
    let url = app.0.papers.page.as_ref().map(|page| format!("{page}/p/{token}"));
    Ok((StatusCode::CREATED, Json(PreferenceLink { link_id, token, url })))
}

/// Revoke all links to a person's preference page.
///
/// They stay good for opting out.
#[utoipa::path(
    post, path = "/v1/subjects/{subject_id}/preference-links/revoke", tag = "preferences",
    params(("subject_id" = Uuid, Path, description = "The person")),
    responses((status = 200, description = "Revoked", body = Revoked)),
    security(("bearer" = []))
)]
pub(super) async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(subject): Path<SubjectId>,
) -> Result<Json<Revoked>, Problem> {
    caller.require("consent:write")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let now = app.0.clock.now();
    let revoked = preferences::revoke(&mut conn, subject, now).await.map_err(database)?;
    Ok(Json(Revoked { revoked }))
}

/// What is this link worth?
#[utoipa::path(
    get, path = "/v1/preference-links/{link_id}", tag = "preferences",
    params(("link_id" = Uuid, Path, description = "The link")),
    responses(
        (status = 200, body = PreferenceLinkState),
        (status = 404, description = "not_found"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn state(
    State(app): State<App>,
    caller: Caller,
    Path(link_id): Path<Uuid>,
) -> Result<Json<PreferenceLinkState>, Problem> {
    caller.require("consent:read")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let state = preferences::state(&mut conn, link_id).await.map_err(database)?;
    state.map(Json).ok_or_else(|| Code::NotFound.into())
}

/// Ask for a code that proves whose page it is.
///
/// A new code takes the place of the one before.
#[utoipa::path(
    post, path = "/v1/preference-links/{link_id}/code", tag = "preferences",
    params(("link_id" = Uuid, Path, description = "The link")),
    responses(
        (status = 200, body = ProofCode),
        (status = 404, description = "not_found"),
        (status = 409, description = "confirmation_invalid: the link was revoked"),
        (status = 410, description = "subject_erased"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn code(
    State(app): State<App>,
    caller: Caller,
    Path(link_id): Path<Uuid>,
) -> Result<Json<ProofCode>, Problem> {
    caller.require("consent:write")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let state = preferences::state(&mut conn, link_id).await.map_err(database)?;
    drop(conn);
    let PreferenceLinkState { subject_id, revoked } = state.ok_or(Code::NotFound)?;
    if revoked {
        return Err(invalid("the link was revoked", "link_revoked"));
    }
    let mut session = app.unfenced(subject_id).await?;
    let (links, fresh, now) = (&app.0.papers.links, app.0.ids.v4(), app.0.clock.now());
    let page = (subject_id, link_id);
    let code = codes::for_page(session.conn(), links, page, fresh, now).await.map_err(database)?;
    session.commit().await.map_err(store)?;
    Ok(Json(code))
}

/// Use up the proof that a code was sent from the person's number.
#[utoipa::path(
    post, path = "/v1/preference-links/{link_id}/proof", tag = "preferences",
    params(("link_id" = Uuid, Path, description = "The link")),
    request_body = ProofRequest,
    responses(
        (status = 200, description = "It was; it works once", body = Proof),
        (status = 404, description = "not_found"),
        (status = 409, description = "confirmation_invalid: the code hasn't come, or is over"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn proof(
    State(app): State<App>,
    caller: Caller,
    Path(link_id): Path<Uuid>,
    Json(request): Json<ProofRequest>,
) -> Result<Json<Proof>, Problem> {
    caller.require("consent:write")?;
    // Whoever holds these addresses acts as their owner.
    caller.require("gate:write")?;
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let state = preferences::state(&mut conn, link_id).await.map_err(database)?;
    let PreferenceLinkState { subject_id, revoked } = state.ok_or(Code::NotFound)?;
    if revoked {
        return Err(invalid("the link was revoked", "link_revoked"));
    }
    let now = app.0.clock.now();
    let proof = codes::take_proof(&mut conn, link_id, request.code, now).await.map_err(database)?;
    let addresses =
        proof.ok_or_else(|| invalid("the code has not come from the number", "not_proved"))?;
    Ok(Json(Proof { subject_id, addresses }))
}

fn invalid(detail: &str, reason: &str) -> Problem {
    Problem::new(Code::ConfirmationInvalid).detail(detail).with("reason", reason)
}
