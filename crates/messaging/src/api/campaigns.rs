//! Campaigns over HTTP: drafted, tried dry, approved, started, paused, resumed, cancelled, looked at.

use std::collections::BTreeSet;

use assent_contracts::api::campaigns::{
    ApproveRequest, Audience, CampaignState, CampaignView, Member, Report,
};
use assent_contracts::api::consent::{VerdictsRequest, VerdictsResponse};
use assent_contracts::campaigns::{CampaignDrafted, PauseReason};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, Code, IdempotencyKey, Json, Limit, Listing, Page, Path, Problem, Query};
use assent_runtime::settle;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::media;
use super::messages::{check_files, database, store, template_language};
use crate::campaigns::{self, CampaignError, Draft, dry_run, read};
use crate::domain::campaign::{Command, Refusal};
use crate::domain::content::{ButtonValue, Card, Header, Parameter, Values};
use crate::domain::media::of_values;
use crate::state::Messaging;
use crate::stored::Stored;

/// A campaign to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DraftRequest {
    /// Its name, a code of yours: 1 to 64 of a-z, 0-9, `_` and `-`.
    #[schema(pattern = "^[a-z][a-z0-9_-]{0,63}$", example = "spring-2027")]
    pub name: String,
    /// For which purpose.
    #[schema(example = "marketing", min_length = 1, max_length = 512)]
    pub purpose: String,
    /// On which channel.
    #[schema(pattern = "^whatsapp$", example = "whatsapp")]
    pub channel: String,
    /// Which template.
    #[schema(example = "spring_offer")]
    pub template: String,
    /// In which of its languages; without: its only one, else `en`.
    #[serde(default)]
    pub language: Option<String>,
    /// Values of the template's body, in order or by name. They are the same for everybody, and stored as
    /// they are: nothing of a person belongs here.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub parameters: Vec<Parameter>,
    /// Value of the template's header.
    #[serde(default)]
    pub header: Option<Header>,
    /// Values of the template's buttons.
    #[serde(default)]
    pub buttons: Vec<ButtonValue>,
    /// Values of a carousel's cards.
    #[serde(default)]
    pub cards: Vec<Card>,
    /// Who it is for.
    #[serde(default)]
    pub audience: Audience,
}

impl DraftRequest {
    fn values(&self) -> Values {
        Values {
            parameters: self.parameters.clone(),
            header: self.header.clone(),
            buttons: self.buttons.clone(),
            cards: self.cards.clone(),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        let invalid = |detail: String| Problem::new(Code::ValidationFailed).detail(detail);
        if !is_code(&self.name) {
            return Err(invalid(
                "name: 1 to 64 of a-z, 0-9, _ and -, such as spring-2027".to_owned(),
            ));
        }
        if self.channel != "whatsapp" {
            return Err(Problem::new(Code::ChannelUnknown).detail("the channel is whatsapp"));
        }
        let region =
            |text: &String| text.len() == 2 && text.bytes().all(|it| it.is_ascii_uppercase());
        if self.audience.regions.len() > 50 || !self.audience.regions.iter().all(region) {
            return Err(invalid(
                "regions: at most 50, of two capital letters, such as FR".to_owned(),
            ));
        }
        self.values().check().map_err(invalid)
    }
}

fn is_code(text: &str) -> bool {
    let rest =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    text.len() <= 64
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && text.bytes().all(rest)
}

/// Draft a campaign.
///
/// Its people are taken from the read models after that: `gathering` until they are. Whoever drafts learns
/// how many they are, and needs `query:read` like whoever asks the read models.
///
/// # Errors
/// `validation_failed`, `purpose_unknown`, `channel_unknown`, `template_unknown`, `template_unavailable`,
/// `template_mismatch`, `media_unknown`, `idempotency_key_reused`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/campaigns", tag = "campaigns", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = DraftRequest,
    responses(
        (status = 201, description = "Drafted", body = CampaignView),
        (status = 404, description = "purpose_unknown, template_unknown, media_unknown"),
        (status = 409, description = "template_unavailable"),
        (status = 422, description = "validation_failed, channel_unknown, template_mismatch")
    )
)]
pub async fn draft(
    State(messaging): State<Messaging>,
    caller: Caller,
    IdempotencyKey(key): IdempotencyKey,
    JsonBytes(request, body): JsonBytes<DraftRequest>,
) -> Result<(StatusCode, Json<CampaignView>), Problem> {
    caller.require("messages:write")?;
    caller.require("query:read")?;
    request.check()?;
    let idempotency = key.map(|key| {
        let scope = format!("{} POST /v1/campaigns", caller.name());
        messaging.store.idempotency(&scope, &key, &body)
    });
    if let Some(key) = idempotency {
        // Templates and purposes change; what was answered doesn't.
        let mut session = messaging.store.begin().await.map_err(store)?;
        let first = session.first_answer(key).await.map_err(store)?;
        session.rollback().await.map_err(store)?;
        if let Some(first) = first {
            return Ok((StatusCode::CREATED, look(&messaging, first.stream).await?));
        }
    }
    let values = request.values();
    let language = request.language.as_deref();
    let language =
        template_language(messaging.pool(), &request.template, language, &values).await?;
    check_files(&messaging, None, &Stored::Values(values.clone())).await?;
    let DraftRequest { name, purpose, channel, template, audience, .. } = request;
    pursued(&messaging, &purpose, &channel).await?;
    let drafted = CampaignDrafted {
        name,
        purpose,
        channel,
        template,
        language,
        drafted_by: caller.name().to_owned(),
        at: messaging.clock.now(),
    };
    let service = messaging.clone();
    let id = assent_eventstore::to_the_end(async move {
        campaigns::draft(&service, Draft { drafted, values, audience }, idempotency).await
    })
    .await
    .map_err(store)?;
    Ok((StatusCode::CREATED, look(&messaging, id).await?))
}

/// Whether the purpose is pursued on the channel: the gate knows.
async fn pursued(messaging: &Messaging, purpose: &str, channel: &str) -> Result<(), Problem> {
    let (purpose, channel) = (purpose.to_owned(), channel.to_owned());
    let nobody = VerdictsRequest { purpose, channel, asks: Vec::new() };
    let answer: Result<VerdictsResponse, _> =
        messaging.consent.post("/v1/verdicts", &nobody, None).await;
    match answer {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.code() {
            Some(code @ (Code::PurposeUnknown | Code::ChannelUnknown)) => code.into(),
            _ => error.into(),
        }),
    }
}

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

async fn look(messaging: &Messaging, id: Uuid) -> Result<Json<CampaignView>, Problem> {
    let found = read::one(messaging, id).await.map_err(database)?;
    found.map(Json).ok_or_else(|| Code::CampaignUnknown.into())
}

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
