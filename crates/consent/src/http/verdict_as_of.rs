//! `POST /v1/verdict/as-of`: was it allowed at a moment, by what was known at another? The number
//! of whom it is about is in no URL; what it rests on is the person's stream alone.
//! `POST /v1/verdict/as-of/statement` is the same answer with the controller's signature.

use assent_contracts::api::consent::{AsOfRequest, AsOfVerdict, KnownAt, SignedVerdict};
use assent_eventstore::{StoredEvent, Stream, to_the_end};
use assent_http::{Caller, Code, Json, Problem};
use axum::extract::State;
use jiff::Timestamp;
use uuid::Uuid;

use super::App;
use super::history::HistoryEvent;
use super::purpose_versions::PurposeVersion;
use super::refusals::store;
use crate::domain::as_of::{self, Policy, Question};
use crate::domain::event::Event;
use crate::domain::policy::RULES_STREAM;
use crate::domain::purpose;
use crate::domain::statement::{Statement, TYPE};
use crate::policy::{self, Version};
use crate::stored;

/// Was it allowed then, by what was known?
///
/// The same question gives the same bytes for ever; the answer names `known_at`, so that it can be
/// asked again. After an erasure it is one fixed answer. Without `suppression:read` an
/// erased or suppressed person can't be told from one who never agreed.
#[utoipa::path(
    post, path = "/v1/verdict/as-of", tag = "gate",
    request_body = AsOfRequest,
    responses(
        (status = 200, body = AsOfVerdict),
        (status = 422, description = "validation_failed: a moment in the future, or more events than there are"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn verdict_as_of(
    State(app): State<App>,
    caller: Caller,
    Json(request): Json<AsOfRequest>,
) -> Result<Json<AsOfVerdict>, Problem> {
    caller.require("consent:read")?;
    let sees_bars = caller.has("suppression:read");
    let answered = to_the_end(async move { answer(&app, &request, sees_bars).await }).await?;
    Ok(Json(answered.verdict))
}

/// Was it allowed then? With the controller's signature.
///
/// Signs the verdict with digests of all that it rests on, so that whoever gets the events can tell that
/// none is missing. The same question gives the same bytes for ever. Needs `suppression:read`: it speaks
/// of everything.
#[utoipa::path(
    post, path = "/v1/verdict/as-of/statement", tag = "gate",
    request_body = AsOfRequest,
    responses(
        (status = 200, body = SignedVerdict),
        (status = 422, description = "validation_failed: a moment in the future, or more events than there are"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn statement(
    State(app): State<App>,
    caller: Caller,
    Json(mut request): Json<AsOfRequest>,
) -> Result<Json<SignedVerdict>, Problem> {
    caller.require("consent:read")?;
    caller.require("suppression:read")?;
    to_the_end(async move {
        let Answered { verdict, known, versions } = answer(&app, &request, true).await?;
        request.known_at = Some(KnownAt::Position(verdict.known_at.unwrap_or(0)));
        let known: Vec<HistoryEvent> =
            known.into_iter().map(HistoryEvent::of).collect::<Result<_, _>>()?;
        let versions: Vec<PurposeVersion> = versions.into_iter().map(Into::into).collect();
        let statement = Statement::new(request, verdict, &known, &versions);
        let statement = statement.map_err(Problem::internal)?;
        let issuer = &app.0.papers.issuer;
        let statement = issuer.sign(TYPE, &statement).map_err(Problem::internal)?;
        Ok(Json(SignedVerdict { statement }))
    })
    .await
}

/// A verdict and what it rests on.
struct Answered {
    verdict: AsOfVerdict,
    /// The events that were known.
    known: Vec<StoredEvent>,
    /// The versions of the purpose by the moment that is asked about.
    versions: Vec<Version>,
}

async fn answer(app: &App, request: &AsOfRequest, sees_bars: bool) -> Result<Answered, Problem> {
    let (subject, definition) = (request.subject_id, purpose::stream_id(&request.purpose));
    let mut session = app.0.store.begin().await.map_err(store)?;
    // Under both locks nothing can be recorded that lies before the clock's next reading.
    let person = session.lock(&[subject]).await.map_err(store)?.remove(&subject);
    session.lock_versions(&[definition, RULES_STREAM]).await.map_err(store)?;
    let now = app.0.clock.now();
    let versions = policy::history(session.conn(), &request.purpose).await;
    let rules = policy::rules_at(session.conn(), request.at).await;
    session.rollback().await.map_err(store)?;
    let (rule_set, engine) = rules.map_err(super::refusals::database)?;
    let mut versions = versions.map_err(super::refusals::database)?;

    let mut person = person.unwrap_or_default();
    let mut events = decoded(&person).map_err(Problem::internal)?;
    if !sees_bars && events.iter().any(|(_, _, event)| matches!(event, Event::Erased { .. })) {
        // Like somebody of whom nothing is known, also in which positions there are.
        (person, events) = Default::default();
    }
    if request.at > now {
        return Err(refused("at", "the moment that is asked about lies in the future"));
    }
    let known_at = position(&person, request.known_at, now)?;
    versions.retain(|(_, recorded_at, _)| *recorded_at <= request.at);
    let in_force = versions.iter().map(|(id, at, defined)| (*id, *at, defined.as_ref()));
    let policy = Policy::in_force(in_force, request.at);
    let events = events.iter().map(|(id, version, event)| (*id, *version, event));
    let question = Question {
        purpose: &request.purpose,
        channel: &request.channel,
        at: request.at,
        known_at,
        sees_bars,
        rule_set: rule_set.as_deref(),
        engine,
    };
    let verdict = as_of::verdict(events, policy, question);
    let mut known = person.events;
    known.retain(|event| event.version <= known_at);
    Ok(Answered { verdict, known, versions })
}

fn decoded(person: &Stream) -> Result<Vec<(Uuid, i64, Event)>, stored::Unreadable> {
    person
        .events
        .iter()
        .map(|event| Ok((event.id, event.version, stored::decode(&event.event_type, &event.data)?)))
        .collect()
}

/// How many of her events were known.
fn position(person: &Stream, known_at: Option<KnownAt>, now: Timestamp) -> Result<i64, Problem> {
    match known_at {
        None => Ok(person.version),
        Some(KnownAt::Position(position)) if (0..=person.version).contains(&position) => {
            Ok(position)
        }
        Some(KnownAt::Position(_)) => Err(refused("known_at", "she has fewer events than that")),
        Some(KnownAt::Time(time)) if time > now => {
            Err(refused("known_at", "what will be known then is not known yet"))
        }
        Some(KnownAt::Time(time)) => {
            let known = person.events.iter().rev().find(|event| event.recorded_at <= time);
            Ok(known.map_or(0, |event| event.version))
        }
    }
}

fn refused(field: &str, problem: &str) -> Problem {
    Problem::new(Code::ValidationFailed).detail(problem).with("field", field)
}
