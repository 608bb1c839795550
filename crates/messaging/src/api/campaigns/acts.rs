//! What is done with a campaign: tried dry, approved, started, paused, resumed, cancelled. It guarantees that each is
//! carried out to its end even if the caller goes away, and that a pause and a cancellation are answered once they hold.

use std::collections::BTreeSet;

use assent_contracts::api::campaigns::{ApproveRequest, CampaignState, CampaignView};
use assent_contracts::campaigns::PauseReason;
use assent_http::{Caller, Code, Json, Path, Problem};
use assent_runtime::settle;
use axum::extract::State;
use axum::http::StatusCode;
use uuid::Uuid;

use super::is_code;
use super::read::look;
use crate::api::media;
use crate::api::messages::{check_files, database, store};
use crate::campaigns::{self, CampaignError, dry_run};
use crate::domain::campaign::{Command, Refusal};
use crate::domain::media::of_values;
use crate::state::Messaging;
use crate::stored::Stored;

/// Try a campaign dry.
///
/// The gate is asked about each of its people; nothing is sent. Who may not be written to is excluded. Look at
/// the campaign until `dry_run.done`. A new dry run takes an approval back.
///
/// # Errors
/// `campaign_unknown`, `campaign_state_conflict`.
#[utoipa::path(
    post, path = "/v1/campaigns/{campaign_id}/dry-run", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 202, description = "It is under way", body = CampaignView),
        (status = 404, description = "campaign_unknown"),
        (status = 409, description = "campaign_state_conflict")
    )
)]
pub async fn try_dry(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<(StatusCode, Json<CampaignView>), Problem> {
    caller.require("messages:write")?;
    let service = messaging.clone();
    assent_eventstore::to_the_end(async move { dry_run::begin(&service, id).await })
        .await
        .map_err(refused)?;
    Ok((StatusCode::ACCEPTED, look(&messaging, id).await?))
}

/// Approve a campaign.
///
/// Not by the caller that drafted it, and not before it was tried dry.
///
/// # Errors
/// `campaign_unknown`, `campaign_state_conflict`, `validation_failed`.
#[utoipa::path(
    post, path = "/v1/campaigns/{campaign_id}/approve", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    request_body = ApproveRequest,
    responses(
        (status = 200, description = "Approved", body = CampaignView),
        (status = 404, description = "campaign_unknown"),
        (status = 409, description = "campaign_state_conflict"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn approve(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<ApproveRequest>,
) -> Result<Json<CampaignView>, Problem> {
    caller.require("campaigns:approve")?;
    if !is_code(&request.reason) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("reason: 1 to 64 of a-z, 0-9, _ and -, such as looked_at_dry_run"));
    }
    let by = caller.name().to_owned();
    act(&messaging, id, Command::Approve { by, reason: request.reason }).await?;
    look(&messaging, id).await
}

/// Start a campaign.
///
/// It wants a dry run, and somebody else's approval when it is for more people than `approval_above`. The files of
/// its template's headers are looked for again: WhatsApp keeps them for 30 days.
///
/// # Errors
/// `campaign_unknown`, `campaign_state_conflict`, `template_unavailable`, `media_unknown` (a file has gone since it was
/// drafted), `dependency_unavailable` (WhatsApp doesn't say whether its files are there).
#[utoipa::path(
    post, path = "/v1/campaigns/{campaign_id}/start", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 200, description = "It runs", body = CampaignView),
        (status = 404, description = "campaign_unknown, media_unknown"),
        (status = 409, description = "campaign_state_conflict, template_unavailable"),
        (status = 422, description = "provider_refused")
    )
)]
pub async fn start(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<CampaignView>, Problem> {
    caller.require("messages:write")?;
    let Json(view) = look(&messaging, id).await?;
    if view.dry_run.is_some_and(|run| !run.done) {
        return Err(Problem::new(Code::CampaignStateConflict).detail("a dry run is under way"));
    }
    let template = template(&messaging, id).await?;
    if matches!(view.state, CampaignState::Draft | CampaignState::Approved) {
        files_are_there(&messaging, id).await?;
    }
    let (by, approval_above) =
        (caller.name().to_owned(), messaging.config.campaigns.approval_above);
    act(&messaging, id, Command::Start { by, template, approval_above }).await?;
    look(&messaging, id).await
}

/// Pause a campaign.
///
/// Once this is answered nothing of it goes out any more.
///
/// # Errors
/// `campaign_unknown`, `campaign_state_conflict`.
#[utoipa::path(
    post, path = "/v1/campaigns/{campaign_id}/pause", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 200, description = "It is paused, and settled", body = CampaignView),
        (status = 404, description = "campaign_unknown"),
        (status = 409, description = "campaign_state_conflict")
    )
)]
pub async fn pause(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<CampaignView>, Problem> {
    caller.require("messages:write")?;
    let (by, reason) = (Some(caller.name().to_owned()), PauseReason::Operator);
    act(&messaging, id, Command::Pause { by, reason }).await?;
    // What is being called at this moment may start within its lease. The repeat waits as well.
    settle(&*messaging.clock, &messaging.config.terms).await;
    look(&messaging, id).await
}

/// Resume a campaign.
///
/// Also one that has paused by itself: somebody has looked at why. Its files are looked for as at its start.
///
/// # Errors
/// `campaign_unknown`, `campaign_state_conflict`, `template_unavailable`, `media_unknown`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/campaigns/{campaign_id}/resume", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 200, description = "It goes on", body = CampaignView),
        (status = 404, description = "campaign_unknown, media_unknown"),
        (status = 409, description = "campaign_state_conflict, template_unavailable"),
        (status = 422, description = "provider_refused")
    )
)]
pub async fn resume(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<CampaignView>, Problem> {
    caller.require("messages:write")?;
    let Json(view) = look(&messaging, id).await?;
    let template = template(&messaging, id).await?;
    if view.state == CampaignState::Paused {
        files_are_there(&messaging, id).await?;
    }
    act(&messaging, id, Command::Resume { by: caller.name().to_owned(), template }).await?;
    look(&messaging, id).await
}

/// Cancel a campaign.
///
/// Once this is answered nothing of it goes out any more, ever. What was queued is refused.
///
/// # Errors
/// `campaign_unknown`, `campaign_state_conflict`.
#[utoipa::path(
    post, path = "/v1/campaigns/{campaign_id}/cancel", tag = "campaigns", security(("bearer" = [])),
    params(("campaign_id" = Uuid, Path, description = "The campaign")),
    responses(
        (status = 200, description = "It is cancelled, and settled", body = CampaignView),
        (status = 404, description = "campaign_unknown"),
        (status = 409, description = "campaign_state_conflict")
    )
)]
pub async fn cancel(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<CampaignView>, Problem> {
    caller.require("messages:write")?;
    act(&messaging, id, Command::Cancel { by: caller.name().to_owned() }).await?;
    settle(&*messaging.clock, &messaging.config.terms).await;
    look(&messaging, id).await
}

/// Carries a command out, to its end even if the caller goes away.
async fn act(messaging: &Messaging, id: Uuid, command: Command) -> Result<(), Problem> {
    let service = messaging.clone();
    let acted =
        assent_eventstore::to_the_end(
            async move { campaigns::command(&service, id, command).await },
        )
        .await;
    acted.map(|_| ()).map_err(refused)
}

/// What whoever starts a campaign whose file has gone can do.
const FILE_GONE: &str = "a file above the template has gone since the draft: upload it again and \
    draft the campaign anew";

/// The files of its template's headers may have gone since it was drafted: by what is known here, and by the provider's
/// own word, who alone knows those that were uploaded elsewhere.
async fn files_are_there(messaging: &Messaging, id: Uuid) -> Result<(), Problem> {
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    let values = campaigns::values_of(&mut conn, id).await.map_err(database)?;
    drop(conn);
    let Some(values) = values else { return Ok(()) };
    let files: BTreeSet<&str> =
        of_values(&values).filter_map(|(_, source)| source.id.as_deref()).collect();
    let gone = |problem: Problem| match problem.code {
        Code::MediaUnknown => problem.detail(FILE_GONE),
        _ => problem,
    };
    check_files(messaging, None, &Stored::Values(values.clone())).await.map_err(gone)?;
    for file in files {
        let found = messaging.provider.find_media(file).await;
        found.map_err(|error| gone(media::refused(error)))?;
    }
    Ok(())
}

async fn template(
    messaging: &Messaging,
    id: Uuid,
) -> Result<crate::domain::campaign::Template, Problem> {
    let mut conn = messaging.pool().acquire().await.map_err(database)?;
    let found = campaigns::template_of(&mut conn, id).await.map_err(database)?;
    // No campaign, or no template of it any more.
    found.ok_or_else(|| Code::CampaignUnknown.into())
}

fn refused(error: CampaignError) -> Problem {
    let refusal = match error {
        CampaignError::Refused(refusal) => refusal,
        CampaignError::Store(error) => return store(error),
    };
    match refusal {
        Refusal::Unknown => Code::CampaignUnknown.into(),
        Refusal::TemplateUnavailable(reason) => Problem::new(Code::TemplateUnavailable)
            .detail(refusal.to_string())
            .with("reason", reason),
        _ => Problem::new(Code::CampaignStateConflict).detail(refusal.to_string()),
    }
}
