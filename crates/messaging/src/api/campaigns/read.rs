//! Looking at campaigns: which there are, who they are for, what became of them. It guarantees that what the gate says of
//! people is shown only to those who may ask it.

use assent_contracts::api::campaigns::{CampaignView, Member, Report};
use assent_http::{Caller, Code, Json, Limit, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::messages::database;
use crate::campaigns::read;
use crate::state::Messaging;

/// Which campaigns are there?
///
/// # Errors
/// `cursor_invalid`.
#[utoipa::path(
    get, path = "/v1/campaigns", tag = "campaigns", security(("bearer" = [])), params(Page),
    responses((status = 200, description = "Newest first", body = Listing<CampaignView>))
)]
pub async fn list(
    State(messaging): State<Messaging>,
    caller: Caller,
    Query(page): Query<Page>,
) -> Result<Json<Listing<CampaignView>>, Problem> {
    caller.require("messages:read")?;
    let (limit, before) = (page.limit(), page.after::<Uuid>()?);
    let rows = read::list(&messaging, before, limit as i64 + 1).await.map_err(database)?;
    Ok(Json(Listing::cut(rows, limit, |last| last.campaign_id)))
}

/// One campaign.
///
/// # Errors
/// `campaign_unknown`.
#[utoipa::path(
    get, path = "/v1/campaigns/{campaign_id}", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 200, description = "The campaign", body = CampaignView),
        (status = 404, description = "campaign_unknown")
    )
)]
pub async fn show(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<CampaignView>, Problem> {
    caller.require("messages:read")?;
    look(&messaging, id).await
}

pub(super) async fn look(messaging: &Messaging, id: Uuid) -> Result<Json<CampaignView>, Problem> {
    let found = read::one(messaging, id).await.map_err(database)?;
    found.map(Json).ok_or_else(|| Code::CampaignUnknown.into())
}

/// Which of a campaign's people.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MemberFilter {
    /// Only those who are in this state.
    #[serde(default)]
    state: Option<MemberState>,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Where one of a campaign's people stands.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Her message is not queued yet.
    Waiting,
    /// The last dry run found that she may not be written to.
    Excluded,
    /// Her message was queued.
    Started,
}

/// Who is it for, and who is excluded, and why?
///
/// What the gate says of people wants `consent:read`.
///
/// # Errors
/// `campaign_unknown`, `cursor_invalid`.
#[utoipa::path(
    get, path = "/v1/campaigns/{campaign_id}/members", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign"), MemberFilter),
    responses(
        (status = 200, description = "Its people", body = Listing<Member>),
        (status = 404, description = "campaign_unknown")
    )
)]
pub async fn members(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(filter): Query<MemberFilter>,
) -> Result<Json<Listing<Member>>, Problem> {
    caller.require("messages:read")?;
    caller.require("consent:read")?;
    let state = filter.state.map(|state| match state {
        MemberState::Waiting => "waiting",
        MemberState::Excluded => "excluded",
        MemberState::Started => "started",
    });
    let page = Page { limit: filter.limit, cursor: filter.cursor };
    let (limit, after) = (page.limit(), page.after::<Uuid>()?);
    if !read::is_known(&messaging, id).await.map_err(database)? {
        return Err(Code::CampaignUnknown.into());
    }
    let rows =
        read::members(&messaging, id, state, after, limit as i64 + 1).await.map_err(database)?;
    Ok(Json(Listing::cut(rows, limit, |last| last.subject_id)))
}

/// What became of it?
///
/// # Errors
/// `campaign_unknown`.
#[utoipa::path(
    get, path = "/v1/campaigns/{campaign_id}/report", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 200, description = "Counted from its rows at this moment", body = Report),
        (status = 404, description = "campaign_unknown")
    )
)]
pub async fn report(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<Report>, Problem> {
    caller.require("messages:read")?;
    let found = read::report(&messaging, id).await.map_err(database)?;
    found.map(Json).ok_or_else(|| Code::CampaignUnknown.into())
}
