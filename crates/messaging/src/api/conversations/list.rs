//! `GET /v1/conversations` and `GET /v1/conversations/{conversation_id}`: who waits, and who answers. Nothing
//! that was written is told here.

use assent_http::{Caller, Json, Limit, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{ConversationView, find};
use crate::api::messages::database;
use crate::conversations::{Row, select_conversations};
use crate::state::Messaging;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// The bot.
    Bot,
    /// A human is needed.
    Waiting,
    /// A human.
    Human,
    /// Nobody any more.
    Closed,
}

impl Answers {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Waiting => "waiting",
            Self::Human => "human",
            Self::Closed => "closed",
        }
    }
}

/// Which conversations.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// In this state only.
    #[serde(default)]
    #[param(value_type = Option<String>, pattern = "^(bot|waiting|human|closed)$")]
    state: Option<Answers>,
    /// Of this human only, by the name of the key.
    #[serde(default)]
    assignee: Option<String>,
    /// With this person only.
    #[serde(default)]
    subject_id: Option<Uuid>,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Lists conversations, those first that began first.
///
/// # Errors
/// `cursor_invalid`.
#[utoipa::path(
    get, path = "/v1/conversations", tag = "conversations", security(("bearer" = [])), params(Filter),
    responses((status = 200, description = "A page", body = Listing<ConversationView>))
)]
pub async fn list(
    State(messaging): State<Messaging>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<ConversationView>>, Problem> {
    const LIST: &str = select_conversations!(
        "WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR assignee = $2)
           AND ($3::uuid IS NULL OR subject_id = $3)
           AND ($4::timestamptz IS NULL OR (opened_at, id) > ($4, $5))
         ORDER BY opened_at, id LIMIT $6"
    );
    caller.require("conversations:read")?;
    let page = Page { limit: filter.limit, cursor: filter.cursor };
    let after = page.after::<(jiff::Timestamp, Uuid)>()?;
    let rows = sqlx::query(LIST)
        .bind(filter.state.map(Answers::as_str))
        .bind(filter.assignee)
        .bind(filter.subject_id)
        .bind(after.map(|(at, _)| jiff_sqlx::ToSqlx::to_sqlx(at)))
        .bind(after.map_or(Uuid::nil(), |(_, id)| id))
        .bind(page.limit() as i64 + 1)
        .fetch_all(messaging.pool())
        .await
        .map_err(database)?;
    let views: Vec<ConversationView> = rows
        .iter()
        .map(|row| Row::read(row).map(|row| ConversationView::of(&messaging, row)))
        .collect::<Result<_, _>>()
        .map_err(database)?;
    let place = |last: &ConversationView| (last.opened_at, last.conversation_id);
    Ok(Json(Listing::cut(views, page.limit(), place)))
}

/// One conversation.
///
/// # Errors
/// `conversation_unknown`.
#[utoipa::path(
    get, path = "/v1/conversations/{conversation_id}", tag = "conversations", security(("bearer" = [])),
    params(("conversation_id" = Uuid, Path, description = "The conversation")),
    responses(
        (status = 200, description = "The conversation", body = ConversationView),
        (status = 404, description = "conversation_unknown")
    )
)]
pub async fn show(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Json<ConversationView>, Problem> {
    caller.require("conversations:read")?;
    let row = find(&messaging, id).await?;
    Ok(Json(ConversationView::of(&messaging, row)))
}
