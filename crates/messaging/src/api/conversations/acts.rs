//! Taking a conversation, handing it over, ending it. Each is done once: asked for again it is so already.

use assent_http::{Caller, Json, Path, Problem};
use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ConversationView, act, check_name};
use crate::domain::conversation::{Command, Reason};
use crate::state::Messaging;

/// Who is to answer.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignRequest {
    /// The name of a human's key, with `conversations:write`; without: the caller's.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    pub assignee: Option<String>,
    /// From whom, where somebody has it already.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 64)]
    pub from: Option<String>,
}

/// Gives a conversation to a human, by default to the caller. The bot is silent from then on.
///
/// # Errors
/// `conversation_unknown`, `conversation_state_conflict` (somebody else has it, or it is closed),
/// `subject_erased`, `validation_failed`.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation_id}/assign", tag = "conversations",
    security(("bearer" = [])),
    params(("conversation_id" = Uuid, Path, description = "The conversation")),
    request_body = AssignRequest,
    responses(
        (status = 200, description = "It is hers or his", body = ConversationView),
        (status = 404, description = "conversation_unknown"),
        (status = 409, description = "conversation_state_conflict"),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn assign(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<AssignRequest>,
) -> Result<Json<ConversationView>, Problem> {
    caller.require("conversations:write")?;
    let to = request.assignee.unwrap_or_else(|| caller.name().to_owned());
    check_name(&messaging, &to)?;
    let command = Command::Assign { to, from: request.from };
    let row = act(&messaging, id, command).await?;
    Ok(Json(ConversationView::of(&messaging, row)))
}

/// To whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The bot, which says again that it is one.
    Bot,
    /// Any human: it waits for one.
    Human,
}

/// Who is to go on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOverRequest {
    /// To whom.
    pub to: To,
}

/// Hands a conversation to the bot, or back to all humans.
///
/// # Errors
/// `conversation_unknown`, `conversation_state_conflict` (closed, or there is no bot), `subject_erased`.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation_id}/handover", tag = "conversations",
    security(("bearer" = [])),
    params(("conversation_id" = Uuid, Path, description = "The conversation")),
    request_body = HandOverRequest,
    responses(
        (status = 200, description = "Handed over", body = ConversationView),
        (status = 404, description = "conversation_unknown"),
        (status = 409, description = "conversation_state_conflict"),
        (status = 410, description = "subject_erased")
    )
)]
pub async fn hand_over(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(request): Json<HandOverRequest>,
) -> Result<Json<ConversationView>, Problem> {
    caller.require("conversations:write")?;
    let command = match request.to {
        To::Bot => Command::CallBot { bot: messaging.config.conversations.bot.is_some() },
        To::Human => Command::CallHuman(Reason::Operator),
    };
    let row = act(&messaging, id, command).await?;
    Ok(Json(ConversationView::of(&messaging, row)))
}

/// Nothing more to say.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {}

/// Ends a conversation. What she writes next opens another.
///
/// # Errors
/// `conversation_unknown`, `conversation_state_conflict` (it is closed already), `subject_erased`.
#[utoipa::path(
    post, path = "/v1/conversations/{conversation_id}/close", tag = "conversations",
    security(("bearer" = [])),
    params(("conversation_id" = Uuid, Path, description = "The conversation")),
    request_body = CloseRequest,
    responses(
        (status = 200, description = "Closed", body = ConversationView),
        (status = 404, description = "conversation_unknown"),
        (status = 409, description = "conversation_state_conflict"),
        (status = 410, description = "subject_erased")
    )
)]
pub async fn close(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(CloseRequest {}): Json<CloseRequest>,
) -> Result<Json<ConversationView>, Problem> {
    caller.require("conversations:write")?;
    let row = act(&messaging, id, Command::Close).await?;
    Ok(Json(ConversationView::of(&messaging, row)))
}
