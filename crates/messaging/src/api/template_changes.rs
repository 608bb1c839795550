//! `POST /v1/templates/create`, `edit` and `delete`: what becomes of templates at the provider. Name and language
//! are the key: a repeat is answered like the first.

use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use super::messages::database;
use super::templates::{Template, Templates, template};
use crate::domain::template_draft::TemplateDraft;
use crate::state::Messaging;
use crate::template_changes::{self, ChangeError};
use crate::whatsapp::management::ManageError;

/// Which template is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// Its name.
    #[schema(pattern = "^[a-z0-9_]{1,512}$", example = "spring_offer")]
    pub name: String,
    /// In which language; without: in all.
    #[serde(default)]
    #[schema(example = "fr")]
    pub language: Option<String>,
}

/// Gives a template to the provider, who reviews it. Repeating it is harmless.
///
/// # Errors
/// `validation_failed`, `template_exists`, `template_unavailable` (no business account is configured),
/// `provider_refused`, `rate_limited`, `dependency_unavailable` (no answer: repeat it).
#[utoipa::path(
    post, path = "/v1/templates/create", tag = "templates", security(("bearer" = [])),
    request_body = TemplateDraft,
    responses(
        (status = 201, description = "It is there, and reviewed", body = Template),
        (status = 409, description = "template_exists, template_unavailable"),
        (status = 422, description = "validation_failed, provider_refused"),
        (status = 429, description = "rate_limited")
    )
)]
pub async fn create(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(draft): Json<TemplateDraft>,
) -> Result<(StatusCode, Json<Template>), Problem> {
    caller.require("messages:write")?;
    draft.check().map_err(|fault| Problem::new(Code::ValidationFailed).detail(fault))?;
    template_changes::create(&messaging, &draft).await.map_err(problem)?;
    tracing::info!(
        template = draft.name,
        language = draft.language,
        caller = caller.name(),
        "a template is created"
    );
    let template = one(&messaging, &draft.name, &draft.language).await?;
    Ok((StatusCode::CREATED, Json(template)))
}

/// Replaces what a template says. The provider reviews it anew; meanwhile it isn't sent, and its campaigns stop.
///
/// # Errors
/// As [`create`]; `template_unknown`.
#[utoipa::path(
    post, path = "/v1/templates/edit", tag = "templates", security(("bearer" = [])),
    request_body = TemplateDraft,
    responses(
        (status = 200, description = "It says so, and is reviewed", body = Template),
        (status = 404, description = "template_unknown"),
        (status = 409, description = "template_unavailable"),
        (status = 422, description = "validation_failed, provider_refused"),
        (status = 429, description = "rate_limited")
    )
)]
pub async fn edit(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(draft): Json<TemplateDraft>,
) -> Result<Json<Template>, Problem> {
    caller.require("messages:write")?;
    draft.check().map_err(|fault| Problem::new(Code::ValidationFailed).detail(fault))?;
    template_changes::edit(&messaging, &draft).await.map_err(problem)?;
    tracing::info!(
        template = draft.name,
        language = draft.language,
        caller = caller.name(),
        "a template is edited"
    );
    Ok(Json(one(&messaging, &draft.name, &draft.language).await?))
}

/// Deletes a template at the provider. Its campaigns stop at once; the name can't be used for 30 days.
///
/// # Errors
/// `template_unknown`, `template_unavailable`, `provider_refused`, `rate_limited`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/templates/delete", tag = "templates", security(("bearer" = [])),
    request_body = DeleteRequest,
    responses(
        (status = 200, description = "They are gone", body = Templates),
        (status = 404, description = "template_unknown"),
        (status = 409, description = "template_unavailable"),
        (status = 422, description = "provider_refused"),
        (status = 429, description = "rate_limited")
    )
)]
pub async fn delete(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(request): Json<DeleteRequest>,
) -> Result<Json<Templates>, Problem> {
    caller.require("messages:write")?;
    let DeleteRequest { name, language } = request;
    template_changes::delete(&messaging, &name, language.as_deref()).await.map_err(problem)?;
    tracing::info!(template = name, language, caller = caller.name(), "a template is deleted");
    let templates = some(&messaging, &name, language.as_deref()).await?;
    Ok(Json(Templates { templates }))
}

async fn one(messaging: &Messaging, name: &str, language: &str) -> Result<Template, Problem> {
    let found = some(messaging, name, Some(language)).await?;
    found.into_iter().next().ok_or_else(|| Code::TemplateUnknown.into())
}

async fn some(
    messaging: &Messaging,
    name: &str,
    language: Option<&str>,
) -> Result<Vec<Template>, Problem> {
    const SOME: &str = "
        SELECT name, language, category, status, status_since, status_reason, next_category,
               next_category_at, quality, components
        FROM templates WHERE name = $1 AND language = coalesce($2, language) ORDER BY language";
    let rows = sqlx::query(SOME).bind(name).bind(language).fetch_all(messaging.pool()).await;
    rows.and_then(|rows| rows.iter().map(template).collect()).map_err(database)
}

fn problem(error: ChangeError) -> Problem {
    match error {
        ChangeError::NoAccount => Problem::new(Code::TemplateUnavailable)
            .detail("business_account_id is not configured")
            .with("reason", "no_business_account"),
        ChangeError::Unknown => Code::TemplateUnknown.into(),
        ChangeError::Exists => Code::TemplateExists.into(),
        ChangeError::Resting(wait) => Problem::new(Code::RateLimited)
            .retry_after(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).max(1)),
        ChangeError::Provider(ManageError::Refused { code, subcode, title, http_status }) => {
            let mut problem = Problem::new(Code::ProviderRefused)
                .with("provider_status", http_status)
                .with("provider_code", code)
                .with("provider_subcode", subcode);
            problem.detail = title;
            problem
        }
        ChangeError::Provider(error) => Problem::unavailable("provider", error),
        ChangeError::List(error) => Problem::unavailable("provider", error),
        ChangeError::Database(error) => database(error),
    }
}
