//! `GET /v1/templates` and `POST /v1/templates`: which templates exist at the provider. What changes them
//! there is [`super::template_changes`]'s.

use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::ToSchema;

use crate::api::messages::database;
use crate::state::Messaging;

/// A template in one language, as somebody tells of it.
#[derive(Debug, Clone, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTemplate {
    /// Its name at the provider.
    #[schema(pattern = "^[A-Za-z0-9_]{1,512}$")]
    pub name: String,
    /// Its language code at the provider, such as `en` or `pt_BR`.
    #[schema(pattern = "^[A-Za-z0-9_]{1,16}$")]
    pub language: String,
    /// `MARKETING`, `UTILITY` or `AUTHENTICATION`.
    #[schema(pattern = "^(MARKETING|UTILITY|AUTHENTICATION)$")]
    pub category: String,
    /// What it takes, as the provider writes it; without: values are not checked.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Object>>)]
    pub components: Option<Vec<serde_json::Map<String, serde_json::Value>>>,
}

/// A template in one language.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Template {
    /// Its name at the provider.
    pub name: String,
    /// Its language code at the provider.
    pub language: String,
    /// `MARKETING`, `UTILITY` or `AUTHENTICATION`. Marketing needs the person's consent to marketing.
    pub category: String,
    /// The provider's status, such as `APPROVED` or `PAUSED`; `MISSING`: it doesn't know the template.
    pub status: String,
    /// Why, as the provider names it.
    pub status_reason: Option<String>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub status_since: Timestamp,
    /// The category that was announced.
    pub next_category: Option<String>,
    /// From when on.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_category_at: Option<Timestamp>,
    /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`.
    pub quality: Option<String>,
    /// What it takes, as the provider writes it; none: not known, and values are not checked.
    #[schema(value_type = Option<Vec<Object>>)]
    pub components: Option<serde_json::Value>,
}

pub(super) fn template(row: &PgRow) -> Result<Template, sqlx::Error> {
    Ok(Template {
        name: row.try_get(0)?,
        language: row.try_get(1)?,
        category: row.try_get(2)?,
        status: row.try_get(3)?,
        status_since: row.try_get::<SqlTimestamp, _>(4)?.to_jiff(),
        status_reason: row.try_get(5)?,
        next_category: row.try_get(6)?,
        next_category_at: row.try_get::<Option<SqlTimestamp>, _>(7)?.map(SqlTimestamp::to_jiff),
        quality: row.try_get(8)?,
        components: row.try_get(9)?,
    })
}

/// Every template.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
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
    const LIST: &str = "
        SELECT name, language, category, status, status_since, status_reason, next_category,
               next_category_at, quality, components
        FROM templates ORDER BY name, language";
    caller.require("messages:read")?;
    let rows = sqlx::query(LIST).fetch_all(messaging.pool()).await;
    let templates = rows.and_then(|rows| rows.iter().map(template).collect()).map_err(database)?;
    Ok(Json(Templates { templates }))
}

/// Makes a template known as approved, or changes its category.
///
/// # Errors
/// `validation_failed`.
#[utoipa::path(
    post, path = "/v1/templates", tag = "templates", security(("bearer" = [])),
    request_body = NewTemplate,
    responses(
        (status = 201, description = "Known", body = Template),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn put(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(new): Json<NewTemplate>,
) -> Result<(StatusCode, Json<Template>), Problem> {
    const PUT: &str = "
        INSERT INTO templates (name, language, category, status_since, category_since, components)
        VALUES ($1, $2, $3, $4, $4, $5)
        ON CONFLICT (name, language) DO UPDATE
            SET category = EXCLUDED.category, category_since = EXCLUDED.category_since,
                next_category = NULL, next_category_at = NULL,
                status = EXCLUDED.status, status_since = EXCLUDED.status_since, status_reason = NULL,
                components = coalesce(EXCLUDED.components, templates.components)
        RETURNING name, language, category, status, status_since, status_reason, next_category,
                  next_category_at, quality, components";
    caller.require("messages:write")?;
    let name = |text: &str, most: usize| {
        (1..=most).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let category = ["MARKETING", "UTILITY", "AUTHENTICATION"].contains(&new.category.as_str());
    if !name(&new.name, 512) || !name(&new.language, 16) || !category {
        return Err(Problem::new(Code::ValidationFailed).detail(
            "name and language are letters, digits and _; category is MARKETING, UTILITY or AUTHENTICATION",
        ));
    }
    let row = sqlx::query(PUT)
        .bind(&new.name)
        .bind(&new.language)
        .bind(&new.category)
        .bind(messaging.clock.now().to_sqlx())
        .bind(new.components.map(|all| {
            all.into_iter().map(serde_json::Value::Object).collect::<serde_json::Value>()
        }))
        .fetch_one(messaging.pool())
        .await;
    let template = row.and_then(|row| template(&row)).map_err(database)?;
    Ok((StatusCode::CREATED, Json(template)))
}
