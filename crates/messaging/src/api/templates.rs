//! `GET /v1/templates` and `POST /v1/templates`: which templates exist at the provider.

use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::messages::database;
use crate::state::Messaging;

/// A template in one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name at the provider.
    #[schema(pattern = "^[A-Za-z0-9_]{1,512}$")]
    pub name: String,
    /// Its language code at the provider, such as `en` or `pt_BR`.
    #[schema(pattern = "^[A-Za-z0-9_]{1,16}$")]
    pub language: String,
    /// `MARKETING`, `UTILITY` or `AUTHENTICATION`.
    #[schema(pattern = "^(MARKETING|UTILITY|AUTHENTICATION)$")]
    pub category: String,
}

/// Every template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Templates {
    /// Sorted by name and language.
    pub templates: Vec<Template>,
}

/// Every template.
///
/// # Errors
/// `dependency_unavailable`.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates", security(("bearer" = [])),
    responses(
        (status = 200, description = "The templates", body = Templates)
    )
)]
pub async fn list(
    State(messaging): State<Messaging>,
    caller: Caller,
) -> Result<Json<Templates>, Problem> {
    const LIST: &str = "SELECT name, language, category FROM templates ORDER BY name, language";
    caller.require("messages:read")?;
    let templates = sqlx::query_as(LIST).fetch_all(messaging.pool()).await.map_err(database)?;
    Ok(Json(Templates { templates }))
}

/// Makes a template known, or changes its category.
///
/// # Errors
/// `validation_failed`.
#[utoipa::path(
    post, path = "/v1/templates", tag = "templates", security(("bearer" = [])),
    request_body = Template,
    responses(
        (status = 201, description = "Known", body = Template),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn put(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(template): Json<Template>,
) -> Result<(StatusCode, Json<Template>), Problem> {
    const PUT: &str = "
        INSERT INTO templates (name, language, category) VALUES ($1, $2, $3)
        ON CONFLICT (name, language) DO UPDATE SET category = EXCLUDED.category";
    caller.require("messages:write")?;
    let name = |text: &str, most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let category = ["MARKETING", "UTILITY", "AUTHENTICATION"].contains(&template.category.as_str());
    if !name(&template.name, 512) || !name(&template.language, 16) || !category {
        return Err(Problem::new(Code::ValidationFailed).detail(
            "name and language are letters, digits and _; category is MARKETING, UTILITY or AUTHENTICATION",
        ));
    }
    sqlx::query(PUT)
        .bind(&template.name)
        .bind(&template.language)
        .bind(&template.category)
        .execute(messaging.pool())
        .await
        .map_err(database)?;
    Ok((StatusCode::CREATED, Json(template)))
}
