//! `GET /v1/tasks` and `POST /v1/tasks/{task_id}/close`: what a human is to look at. It guarantees that what a
//! task holds back is held until it is closed; what its reasons mean is the guide's to say.

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Limit, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::api::conversations::read::check_reason;
use crate::api::messages::{database, store};
use crate::declarations::{self, Declared};
use crate::domain::stop::{Form, Will};
use crate::outcomes::{self, OUTCOME_UNKNOWN, Outcome};
use crate::state::Messaging;
use crate::tasks::{self, STOP_UNATTRIBUTED, STOP_UNCLEAR};

/// What a human is to look at.
#[derive(Debug, Serialize, ToSchema)]
pub struct Task {
    /// Its id.
    pub task_id: Uuid,
    /// `stop_unattributed`, `stop_unclear`, `identity_in_doubt`, `request_in_doubt` or `outcome_unknown`.
    pub kind: String,
    /// Of a doubt: about whom; of a request in doubt: whose it may be; of words that may be a stop: whose; of a message: to whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub subject_id: Option<SubjectId>,
    /// Why, a stable code.
    pub reason: String,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<Timestamp>,
    /// The name of the key of who closed it; none: it turned out by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    /// Of an unknown outcome: of which message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// What whoever closed it found out of the message: `sent`, `not_sent` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// How whoever closed it knew, a code: of an unknown outcome, and of a doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_reason: Option<String>,
}

/// Selects tasks as [`Task::read`] reads them.
macro_rules! select_tasks {
    ($which:literal) => {
        concat!(
            "SELECT id, kind, coalesce(subject_id, (SELECT i.subject_id FROM intents i
                                            WHERE i.id = tasks.message_id)),
                    reason, opened_at, closed_at, closed_by, message_id, outcome, closed_reason
             FROM tasks WHERE ",
            $which
        )
    };
}

const FIND: &str = select_tasks!("id = $1");

impl Task {
    fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            task_id: row.try_get(0)?,
            kind: row.try_get(1)?,
            subject_id: row.try_get(2)?,
            reason: row.try_get(3)?,
            opened_at: row.try_get::<SqlTimestamp, _>(4)?.to_jiff(),
            closed_at: row.try_get::<Option<SqlTimestamp>, _>(5)?.map(SqlTimestamp::to_jiff),
            closed_by: row.try_get(6)?,
            message_id: row.try_get(7)?,
            outcome: row.try_get(8)?,
            closed_reason: row.try_get(9)?,
        })
    }
}

/// Which tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// The closed ones too.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    closed: bool,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Lists what a human is to look at, the oldest first.
///
/// # Errors
/// `cursor_invalid`, `dependency_unavailable`.
#[utoipa::path(
    get, path = "/v1/tasks", tag = "tasks", security(("bearer" = [])), params(Filter),
    responses((status = 200, description = "The tasks", body = Listing<Task>))
)]
pub async fn list(
    State(messaging): State<Messaging>,
    caller: Caller,
    Query(filter): Query<Filter>,
) -> Result<Json<Listing<Task>>, Problem> {
    const LIST: &str = select_tasks!("(closed_at IS NULL OR $1) AND id > $2 ORDER BY id LIMIT $3");
    caller.require("messages:read")?;
    let page = Page { limit: filter.limit, cursor: filter.cursor };
    let after = page.after::<Uuid>()?.unwrap_or(Uuid::nil());
    let rows = sqlx::query(LIST)
        .bind(filter.closed)
        .bind(after)
        .bind(page.limit() as i64 + 1)
        .fetch_all(messaging.pool())
        .await
        .map_err(database)?;
    let tasks = rows.iter().map(Task::read).collect::<Result<Vec<_>, _>>().map_err(database)?;
    Ok(Json(Listing::cut(tasks, page.limit(), |last| last.task_id)))
}

/// What came out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    /// Of an unattributed stop: whose it was; of words that may be one: who wrote them, where they are one. It is
    /// stopped for her. None: nobody's who is known here, or no stop.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    pub subject_id: Option<SubjectId>,
    /// Of an unknown outcome, and required there: what happened to the message.
    #[serde(default)]
    pub outcome: Option<Outcome>,
    /// Of an unknown outcome, and required there: how you know, a code such as `asked_her`.
    #[serde(default)]
    #[schema(max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub reason: Option<String>,
}

/// Closes a task. Closing it again changes nothing.
///
/// A message of which you say what happened is settled by that: `sent` is accepted, `not_sent` is failed. It is never
/// sent again; whoever wants her to have it asks for a new one.
///
/// A doubt about who somebody is stays until `POST /v1/sender/trust` says that her number was verified: that
/// closes its tasks too.
///
/// # Errors
/// `task_unknown`, `subject_unknown`, `validation_failed`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/tasks/{task_id}/close", tag = "tasks", security(("bearer" = [])),
    params(("task_id" = Uuid, Path, description = "The task.")),
    request_body = CloseRequest,
    responses(
        (status = 200, description = "It is closed", body = Task),
        (status = 404, description = "task_unknown, subject_unknown"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn close(
    State(messaging): State<Messaging>,
    caller: Caller,
    Path(task_id): Path<Uuid>,
    Json(request): Json<CloseRequest>,
) -> Result<Json<Task>, Problem> {
    const LOCK: &str = select_tasks!("id = $1 FOR UPDATE");
    const CLOSE: &str = "UPDATE tasks SET closed_at = $2, closed_by = $3 WHERE id = $1";
    caller.require("messages:write")?;
    let now = messaging.clock.now();
    let found = sqlx::query(FIND).bind(task_id).fetch_optional(messaging.pool()).await;
    let row = found.map_err(database)?.ok_or(Code::TaskUnknown)?;
    let found = Task::read(&row).map_err(database)?;
    if found.kind == OUTCOME_UNKNOWN {
        return what_happened(&messaging, &caller, found, request).await.map(Json);
    }
    if request.outcome.is_some() || request.reason.is_some() {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("outcome, reason: only of a message whose outcome is unknown"));
    }
    let may_be = |subject| match found.kind.as_str() {
        STOP_UNATTRIBUTED => true,
        STOP_UNCLEAR => found.subject_id == Some(subject),
        _ => false,
    };
    if request.subject_id.is_some_and(|it| !may_be(it)) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("subject_id: only an unattributed stop can be anybody's, and words only hers who wrote them"));
    }
    let declared = match request.subject_id {
        Some(subject) => Some(stop_of(&messaging, subject, task_id, now).await?),
        None => None,
    };
    let mut transaction = messaging.pool().begin().await.map_err(database)?;
    let row = sqlx::query(LOCK)
        .bind(task_id)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(database)?
        .ok_or(Code::TaskUnknown)?;
    let mut task = Task::read(&row).map_err(database)?;
    // Also where the task is closed: a stop is taken, whoever was faster.
    if let Some(declared) = declared {
        declarations::insert(&mut transaction, &[declared]).await.map_err(database)?;
    }
    if task.closed_at.is_some() {
        transaction.commit().await.map_err(database)?;
        messaging.declared.notify_one();
        return Ok(Json(task));
    }
    sqlx::query(CLOSE)
        .bind(task_id)
        .bind(now.to_sqlx())
        .bind(caller.name())
        .execute(&mut *transaction)
        .await
        .map_err(database)?;
    transaction.commit().await.map_err(database)?;
    messaging.declared.notify_one();
    tasks::wake(&messaging).await;
    (task.closed_at, task.closed_by) = (Some(now), Some(caller.name().to_owned()));
    Ok(Json(task))
}

/// Somebody found out what happened to a message. Gives the task as it stands then.
async fn what_happened(
    messaging: &Messaging,
    caller: &Caller,
    task: Task,
    request: CloseRequest,
) -> Result<Task, Problem> {
    let (None, Some(outcome), Some(reason)) = (request.subject_id, request.outcome, request.reason)
    else {
        return Err(Problem::new(Code::ValidationFailed).detail(
            "outcome, reason: say what happened to the message, and how you know, and nothing else",
        ));
    };
    check_reason(&reason)?;
    // Her erasure takes messages and their tasks along.
    let (Some(message_id), Some(subject)) = (task.message_id, task.subject_id) else {
        return Err(Code::TaskUnknown.into());
    };
    let by = caller.name().to_owned();
    let said = outcomes::Said { task_id: task.task_id, message_id, subject, outcome, by, reason };
    let service = messaging.clone();
    to_the_end(async move { outcomes::said(&service, &said).await }).await.map_err(store)?;
    let row = sqlx::query(FIND).bind(task.task_id).fetch_optional(messaging.pool()).await;
    let row = row.map_err(database)?.ok_or(Code::TaskUnknown)?;
    Task::read(&row).map_err(database)
}

/// The stop of who is found to have said it. Its id is the task's.
async fn stop_of(
    messaging: &Messaging,
    subject: SubjectId,
    task_id: Uuid,
    now: Timestamp,
) -> Result<Declared, Problem> {
    let ask = ResolveRequest { reason: "stop".to_owned(), subjects: vec![subject] };
    let answer = messaging.vault.post("/v1/addresses/resolve", &ask, None).await;
    let answer: ResolveResponse = answer.map_err(|error| Problem::unavailable("vault", error))?;
    let address = answer.addresses.into_iter().flatten().next().ok_or(Code::SubjectUnknown)?;
    Ok(Declared {
        tokens: address.hers(),
        subjects: vec![subject],
        said_at: now,
        heard_at: now,
        ..Declared::new(task_id, Will::Stop, Form::Attributed)
    })
}
