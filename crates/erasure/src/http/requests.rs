//! `GET /v1/requests` and `GET /v1/requests/{request_id}`: where requests stand and who is missing. They
//! never say whom a request concerns.

use std::collections::BTreeSet;

use assent_contracts::erasure::Step;
use assent_contracts::rights::{
    ExtensionReason, IdentityMethod, RefusalGround, RequestExtended, RequestKind, RequestOrigin,
    Task, Terms,
};
use assent_http::{Caller, Code, Json, Limit, Listing, Page, Path, Problem, Query};
use axum::extract::State;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::archive::ArchiveView;
use super::{App, store_problem};
use crate::domain::recipients::Asked;
use crate::domain::request::{Identity, SubjectRequest};
use crate::domain::{Issued, Person, Request, Status};
use crate::letter::{self, Letter};
use crate::registry::Names;
use crate::tracking;

/// The columns of a listing. An erasure that is under way stands where its saga stands.
macro_rules! list_columns {
    () => {
        "SELECT s.request_id, s.kind,
                CASE WHEN s.status = 'refused' THEN s.status
                     ELSE coalesce(r.status, p.status, s.status) END,
                s.reference, s.received_at, s.due, s.acknowledge_by, coalesce(s.closed_at, r.completed_at),
                s.place, s.purpose
         FROM subject_requests s LEFT JOIN requests r USING (request_id)
              LEFT JOIN purpose_erasures p USING (request_id)"
    };
}

/// A request with its progress.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestView {
    request_id: Uuid,
    kind: RequestKind,
    /// Of an erasure: whose data alone are meant; none: all of hers.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    status: Status,
    /// By which road of hers it came; none: somebody brought it.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<RequestOrigin>,
    /// What she quotes.
    reference: String,
    /// When it was received: its terms are counted from here.
    requested_at: Timestamp,
    /// When it was recorded.
    recorded_at: Timestamp,
    /// By when it must be done, its extension included: the first moment after.
    due: Timestamp,
    /// Why it takes longer, and what she is told; none: the term wasn't extended.
    #[serde(skip_serializing_if = "Option::is_none")]
    extension: Option<ExtensionView>,
    /// Its dates by law; none: it was taken in before laws set them.
    #[serde(skip_serializing_if = "Option::is_none")]
    terms: Option<Terms>,
    /// When she was told that it has arrived.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Timestamp>,
    /// Whether it is about a person who is known here.
    known: bool,
    /// How it was shown that she asks herself; none: it isn't yet, or need not be.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<IdentityView>,
    /// Whether a legal hold stands on her data.
    held: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    /// Why it was refused, and what she is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<RefusalView>,
    /// What it was answered with; none: it isn't made yet, or the answer is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    archive: Option<ArchiveView>,
    /// What was put right; none: nothing yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    rectification: Option<RectificationView>,
    /// Whether the use of her data is restricted for its sake; none: it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    restriction: Option<RestrictionView>,
    /// What recipients outside were asked for its sake, and who answered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inquiries: Vec<InquiryView>,
    /// Of an erasure: who has not answered a command that was issued.
    missing: BTreeSet<String>,
    /// Of an erasure: who takes part.
    participants: Vec<ParticipantProgress>,
}

/// How it was shown that she asks herself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IdentityView {
    method: IdentityMethod,
    reason: String,
    /// The caller that says so.
    by: String,
    at: Timestamp,
}

/// Why it takes longer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExtensionView {
    reasons: Vec<ExtensionReason>,
    at: Timestamp,
    /// What she is told.
    letter: Letter,
}

/// Why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RefusalView {
    ground: RefusalGround,
    /// What she is told, with where she can complain.
    letter: Letter,
}

/// What was put right.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RectificationView {
    fields: Vec<String>,
    at: Timestamp,
    /// What she is told.
    letter: Letter,
}

/// Where a restriction stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RestrictionView {
    /// Since when.
    since: Timestamp,
    /// When she was told that it ends; none: she wasn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    told_at: Option<Timestamp>,
    /// How, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    told_how: Option<String>,
    /// When it was lifted; none: it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<Timestamp>,
    /// Why, as a code.
    #[serde(skip_serializing_if = "Option::is_none")]
    released_for: Option<String>,
    /// What she is told now.
    letter: Letter,
}

/// What recipients outside were asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct InquiryView {
    inquiry_id: Uuid,
    task: Task,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<String>,
    asked_at: Timestamp,
    /// By when they are waited for.
    answer_by: Timestamp,
    recipients: Vec<RecipientView>,
}

/// Somebody outside who was asked.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecipientView {
    name: String,
    /// The team to turn to.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// When it answered; none: it didn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    answered_at: Option<Timestamp>,
}

impl InquiryView {
    fn of(asked: &Asked, known_as: &Names) -> Self {
        let recipient = |name: &String| RecipientView {
            name: name.clone(),
            owner: known_as.owners.get(name).cloned(),
            answered_at: asked.answers.get(name).copied(),
        };
        Self {
            inquiry_id: asked.id,
            task: asked.task,
            fields: asked.fields.clone(),
            asked_at: asked.at,
            answer_by: asked.answer_by,
            recipients: asked.recipients.iter().map(recipient).collect(),
        }
    }
}

/// What one participant has and hasn't answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ParticipantProgress {
    name: String,
    /// The team to turn to when it doesn't answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    acknowledged: Vec<Progress>,
    missing: Vec<Progress>,
}

/// A step of one participant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Progress {
    #[schema(value_type = String, example = "fence")]
    step: Step,
    command_id: Uuid,
    /// When the command was issued.
    since: Timestamp,
    /// When the answer was recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged_at: Option<Timestamp>,
    /// Whether the step's time had run out.
    overdue: bool,
}

/// A request in a listing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestSummary {
    request_id: Uuid,
    #[schema(value_type = RequestKind)]
    kind: String,
    /// Of an erasure: whose data alone are meant; none: all of hers.
    #[serde(skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    #[schema(value_type = Status)]
    status: String,
    reference: String,
    requested_at: Timestamp,
    due: Timestamp,
    /// By when she must hear that it has arrived; none: no law asks for it, or it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledge_by: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Timestamp>,
    #[serde(skip)]
    place: i64,
}

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// `newest` (all, unless it is said) or `due` (those that are not over, the next due first).
    #[serde(default)]
    #[param(inline)]
    order: Order,
    /// At most this many items; 50 when not given.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500)]
    limit: Option<Limit>,
    /// Where to go on: `next` of the page before, in the same order.
    #[serde(default)]
    cursor: Option<String>,
}

/// In which order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Newest,
    Due,
}

#[utoipa::path(
    get, path = "/v1/requests/{request_id}", tag = "requests",
    params(("request_id" = Uuid, Path, description = "The request")),
    responses(
        (status = 200, body = RequestView),
        (status = 404, description = "request_unknown"),
    ),
    security(("bearer" = []))
)]
/// Where a request stands; an erasure, participant by participant.
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(request_id): Path<Uuid>,
) -> Result<Json<RequestView>, Problem> {
    caller.require("erasure:read")?;
    let person = load(&app, request_id).await?;
    let names = app.sagas.names().await.map_err(store_problem)?;
    let view = view(&person, request_id, &names, app.sagas.clock.now());
    Ok(Json(view.ok_or(Code::RequestUnknown)?))
}

/// The person whose request has this id.
pub(super) async fn load(app: &App, request_id: Uuid) -> Result<Person, Problem> {
    let subject = app.sagas.subject_of(request_id).await.map_err(store_problem)?;
    app.sagas.load(subject.ok_or(Code::RequestUnknown)?).await.map_err(store_problem)
}

/// The request as it stands.
pub(super) fn view(
    person: &Person,
    request_id: Uuid,
    known_as: &Names,
    now: Timestamp,
) -> Option<RequestView> {
    let request = person.requests.get(request_id)?;
    let erasure = match person.purposes.get(request_id) {
        Some(of_purpose) => of_purpose.request(),
        None => person.saga.request.as_ref().filter(|erasure| erasure.id == request_id),
    };
    let commands = erasure.iter().flat_map(|erasure| &erasure.commands);
    let progress = |erasure: &Request| {
        let names = erasure.participants.iter();
        names
            .map(|name| progress(erasure, name, known_as.owners.get(name).cloned()))
            .collect::<Vec<_>>()
    };
    let identity = match &request.identity {
        Identity::Confirmed(Some(it)) => Some(IdentityView {
            method: it.method,
            reason: it.reason.clone(),
            by: known_as.caller(&it.key),
            at: it.at,
        }),
        _ => None,
    };
    Some(RequestView {
        request_id,
        kind: request.kind,
        purpose: request.purpose.clone(),
        status: person.status(request, now),
        origin: request.origin,
        reference: tracking::reference(request_id),
        requested_at: request.received_at,
        recorded_at: request.opened_at,
        due: request.due,
        extension: extension(request),
        terms: request.terms.clone(),
        acknowledged_at: request.acknowledged_at,
        known: request.known,
        identity,
        held: match &request.purpose {
            Some(purpose) => person.holds.stand_for(purpose, now),
            None => person.holds.stand(now),
        },
        completed_at: request.closed.map(|end| end.at),
        refusal: refusal(request),
        archive: ArchiveView::of(request, now),
        rectification: rectification(request),
        restriction: restriction(request),
        inquiries: request.inquiries.iter().map(|it| InquiryView::of(it, known_as)).collect(),
        missing: commands.flat_map(Issued::missing).cloned().collect(),
        participants: erasure.map(progress).unwrap_or_default(),
    })
}

/// Why it takes longer, and what she is told.
pub(super) fn extension(request: &SubjectRequest) -> Option<ExtensionView> {
    let RequestExtended { reasons, at, .. } = request.extended.as_ref()?;
    let last_day = request.terms.as_ref()?.extended.as_ref()?.last_day;
    let letter = letter::extension(reasons, last_day);
    Some(ExtensionView { reasons: reasons.clone(), at: *at, letter })
}

/// What was put right, and what she is told.
pub(super) fn rectification(request: &SubjectRequest) -> Option<RectificationView> {
    let rectified = request.rectified.as_ref()?;
    let others = request.inquiries.iter().any(|it| it.task == Task::Rectify);
    let letter = letter::rectification(&rectified.fields, others);
    Some(RectificationView { fields: rectified.fields.clone(), at: rectified.at, letter })
}

/// Where a restriction stands, and what she is told of it.
pub(super) fn restriction(request: &SubjectRequest) -> Option<RestrictionView> {
    let it = request.restriction.as_ref()?;
    let (told, released) = (it.told.as_ref(), it.released.as_ref());
    Some(RestrictionView {
        since: it.since,
        told_at: told.map(|told| told.at),
        told_how: told.map(|told| told.how.clone()),
        released_at: released.map(|released| released.at),
        released_for: released.map(|released| released.reason.clone()),
        letter: letter::restriction(told.is_some(), released.is_some()),
    })
}

/// Why it was refused, and what she is told.
pub(super) fn refusal(request: &SubjectRequest) -> Option<RefusalView> {
    let ground = request.closed?.refused?;
    let terms = request.terms.as_ref();
    let authorities = terms.map_or(&[][..], |terms| &terms.authorities);
    Some(RefusalView { ground, letter: letter::refusal(ground, authorities) })
}

fn progress(request: &Request, name: &str, owner: Option<String>) -> ParticipantProgress {
    let (acknowledged, missing) = request
        .commands
        .iter()
        .filter(|command| command.participants.contains(name))
        .map(|command| Progress {
            step: command.step,
            command_id: command.command_id,
            since: command.at,
            acknowledged_at: command.answers.get(name).map(|(_, at)| *at),
            overdue: command.overdue.contains(name),
        })
        .partition(|progress| progress.acknowledged_at.is_some());
    ParticipantProgress { name: name.to_owned(), owner, acknowledged, missing }
}

#[utoipa::path(
    get, path = "/v1/requests", tag = "requests",
    params(Filter),
    responses(
        (status = 200, body = Listing<RequestSummary>),
    ),
    security(("bearer" = []))
)]
/// Requests: all, newest first, or those that are not over, the next due first.
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(Filter { order, limit, cursor }): Query<Filter>,
) -> Result<Json<Listing<RequestSummary>>, Problem> {
    const NEWEST: &str =
        concat!(list_columns!(), " WHERE s.place < $1 ORDER BY s.place DESC LIMIT $2");
    const DUE: &str = concat!(
        list_columns!(),
        " WHERE s.closed_at IS NULL AND r.completed_at IS NULL AND (s.due, s.place) > ($1, $2) ORDER BY s.due, s.place LIMIT $3"
    );
    caller.require("erasure:read")?;
    let page = Page { limit, cursor };
    let rows = i64::try_from(page.limit() + 1).unwrap_or(i64::MAX);
    let query = match order {
        Order::Newest => {
            let before: i64 = page.after()?.unwrap_or(i64::MAX);
            sqlx::query(NEWEST).bind(before).bind(rows)
        }
        Order::Due => {
            let (due, place) = page.after()?.unwrap_or((Timestamp::UNIX_EPOCH, 0_i64));
            sqlx::query(DUE).bind(due.to_sqlx()).bind(place).bind(rows)
        }
    };
    let rows = query
        .fetch_all(app.sagas.store.pool())
        .await
        .and_then(|rows| rows.iter().map(summary).collect::<Result<Vec<_>, _>>())
        .map_err(|error| store_problem(error.into()))?;
    Ok(Json(match order {
        Order::Newest => Listing::cut(rows, page.limit(), |last| last.place),
        Order::Due => Listing::cut(rows, page.limit(), |last| (last.due, last.place)),
    }))
}

fn summary(row: &PgRow) -> Result<RequestSummary, sqlx::Error> {
    let timestamp = |column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<SqlTimestamp>, _>(column)?.map(|at| at.to_jiff()))
    };
    Ok(RequestSummary {
        request_id: row.try_get(0)?,
        kind: row.try_get(1)?,
        status: row.try_get(2)?,
        reference: row.try_get(3)?,
        requested_at: row.try_get::<SqlTimestamp, _>(4)?.to_jiff(),
        due: row.try_get::<SqlTimestamp, _>(5)?.to_jiff(),
        acknowledge_by: timestamp(6)?,
        completed_at: timestamp(7)?,
        place: row.try_get(8)?,
        purpose: row.try_get(9)?,
    })
}
