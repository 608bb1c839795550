//! `GET /v1/sender`: whether the provider halted us. `POST /v1/sender/lift` and `POST /v1/sender/trust`
//! take back what only somebody who looked may take back.

use assent_contracts::SubjectId;
use assent_contracts::api::vault::{ForgetRequest, ForgetResponse};
use assent_eventstore::to_the_end;
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::Timestamp as SqlTimestamp;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;

use crate::api::conversations::read::check_reason;
use crate::api::messages::{database, store};
use crate::state::{Messaging, fenced};
use crate::whatsapp::reaction::Reach;
use crate::{consequences, identities, tasks};

/// The number that messages go out from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sender {
    /// Its id at the provider.
    pub phone_number_id: String,
    /// What is halted; nothing: all goes out.
    pub halts: Vec<Halt>,
}

/// A halt.
#[derive(Debug, Serialize, ToSchema)]
pub struct Halt {
    /// `everything`, `campaigns` (marketing templates) or `billable` (templates).
    pub reach: String,
    /// The provider's error code; none: an account update said so.
    pub provider_code: Option<i64>,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// What to lift.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiftReach {
    /// The halt of everything.
    Everything,
    /// The halt of marketing templates.
    Campaigns,
    /// The halt of templates.
    Billable,
}

/// Lifts a halt.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LiftRequest {
    /// Which.
    pub reach: LiftReach,
}

/// Whether something was taken back.
#[derive(Debug, Serialize, ToSchema)]
pub struct Lifted {
    /// False: there was nothing.
    pub lifted: bool,
}

/// A person whose number was verified again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustRequest {
    /// Who.
    #[schema(value_type = uuid::Uuid)]
    pub subject_id: SubjectId,
    /// How you know, a code such as `rang_her`.
    #[schema(max_length = 64, pattern = "^[a-z0-9_.-]+$")]
    pub reason: String,
}

/// Whether the provider halted the number, and why.
///
/// # Errors
/// `dependency_unavailable`.
#[utoipa::path(
    get, path = "/v1/sender", tag = "sender", security(("bearer" = [])),
    responses(
        (status = 200, description = "The number", body = Sender)
    )
)]
pub async fn show(
    State(messaging): State<Messaging>,
    caller: Caller,
) -> Result<Json<Sender>, Problem> {
    const HALTS: &str = "
        SELECT reach, provider_code, since FROM halts
        WHERE phone_number_id = $1 AND lifted_at IS NULL ORDER BY reach";
    caller.require("messages:read")?;
    let phone_number_id = messaging.config.whatsapp.phone_number_id.clone();
    let rows = sqlx::query(HALTS).bind(&phone_number_id).fetch_all(messaging.pool()).await;
    let halt = |row: &sqlx::postgres::PgRow| {
        Ok(Halt {
            reach: row.try_get(0)?,
            provider_code: row.try_get(1)?,
            since: row.try_get::<SqlTimestamp, _>(2)?.to_jiff(),
        })
    };
    let halts = rows.and_then(|rows| rows.iter().map(halt).collect()).map_err(database)?;
    Ok(Json(Sender { phone_number_id, halts }))
}

/// Lifts a halt, after somebody has seen to its cause. What waits for it goes out at once.
///
/// # Errors
/// `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/sender/lift", tag = "sender", security(("bearer" = [])),
    request_body = LiftRequest,
    responses(
        (status = 200, description = "It is lifted, or was not there", body = Lifted)
    )
)]
pub async fn lift(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(request): Json<LiftRequest>,
) -> Result<Json<Lifted>, Problem> {
    caller.require("messages:write")?;
    let reach = match request.reach {
        LiftReach::Everything => Reach::Everything,
        LiftReach::Campaigns => Reach::Campaigns,
        LiftReach::Billable => Reach::Billable,
    };
    let number = &messaging.config.whatsapp.phone_number_id;
    let now = messaging.clock.now();
    let mut transaction = messaging.pool().begin().await.map_err(database)?;
    let lifted =
        consequences::lift(&mut transaction, number, reach, now).await.map_err(database)?;
    transaction.commit().await.map_err(database)?;
    if lifted {
        tracing::info!(reach = reach.as_str(), caller = caller.name(), "a halt is lifted");
        messaging.queued.notify_one();
    }
    Ok(Json(Lifted { lifted }))
}

/// Says that a person's number was verified again, after it had been in doubt that it is still hers. Her user
/// ids, and who is one with her, are learnt anew, and the tasks of those doubts are closed, with who said so and how
/// they know. Where no task was open, one that is closed already puts that on record (`by_hand`).
///
/// # Errors
/// `validation_failed`, `subject_erased`, `dependency_unavailable`.
#[utoipa::path(
    post, path = "/v1/sender/trust", tag = "sender", security(("bearer" = [])),
    request_body = TrustRequest,
    responses(
        (status = 200, description = "She may be written to again, or could all along", body = Lifted),
        (status = 410, description = "subject_erased"),
        (status = 422, description = "validation_failed")
    )
)]
pub async fn trust(
    State(messaging): State<Messaging>,
    caller: Caller,
    Json(request): Json<TrustRequest>,
) -> Result<Json<Lifted>, Problem> {
    caller.require("messages:write")?;
    check_reason(&request.reason)?;
    let forget = ForgetRequest { subject_id: request.subject_id };
    let forgotten = messaging.vault.post("/v1/identities/forget", &forget, None).await;
    let _: ForgetResponse = forgotten.map_err(|error| match error.code() {
        Some(Code::SubjectErased) => Code::SubjectErased.into(),
        _ => Problem::unavailable("vault", error),
    })?;
    let by = caller.name().to_owned();
    let lifted = to_the_end(async move { trusted(&messaging, &request, &by).await }).await?;
    Ok(Json(Lifted { lifted }))
}

/// What messaging itself holds of her doubts is over. Gives whether anything was.
async fn trusted(messaging: &Messaging, request: &TrustRequest, by: &str) -> Result<bool, Problem> {
    let (subject, now) = (request.subject_id, messaging.clock.now());
    let mut session = messaging.store.begin().await.map_err(store)?;
    session.lock_versions(&[subject]).await.map_err(store)?;
    if !fenced(session.conn(), &[subject]).await.map_err(database)?.is_empty() {
        return Err(Code::SubjectErased.into());
    }
    let lifted = consequences::trust_again(session.conn(), subject).await.map_err(database)?;
    identities::verified(session.conn(), subject, now).await.map_err(database)?;
    let settled = tasks::settled(messaging, session.conn(), subject, by, &request.reason);
    settled.await.map_err(database)?;
    session.commit().await.map_err(store)?;
    Ok(lifted)
}
