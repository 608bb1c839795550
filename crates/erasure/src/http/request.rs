//! `POST /v1/requests`: a person asks for something about her data. An erasure, a restriction, an objection
//! and an opt-out are a stop to all marketing at once, before anything else; that, and the dates by law,
//! need the consent service to answer.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{
    ConsentAnswer, Stop, StopKind, StopsRequest, StopsResponse, WithdrawRequest,
};
use assent_contracts::consent::{Actor, Method};
use assent_contracts::rights::{IdentityMethod, RequestKind, RequestOrigin, Terms};
use assent_contracts::rules::TermsQuestion;
use assent_eventstore::{Idempotency, StoreError, to_the_end};
use assent_http::extract::JsonBytes;
use assent_http::{Caller, ClientError, Code, IdempotencyKey, Json, Problem};
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::decisions::DECIDES;
use super::{App, code, store_problem};
use crate::domain::request::{Check, RequestState};
use crate::domain::{Event, Opening, Person};
use crate::tracking;

/// Who may bring what people ask for by their own page or message, with the proof of that road and no other.
pub(super) const INTAKE: &str = "erasure:intake";

/// Tokens of one number.
const ADDRESSES_MAX: usize = 32;

/// A request of a person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRequest {
    /// Whom it concerns; none: whoever asks is not known here.
    #[serde(default)]
    #[schema(value_type = Option<Uuid>)]
    subject_id: Option<SubjectId>,
    /// What is asked for; an erasure unless it is said.
    #[serde(default)]
    kind: RequestKind,
    /// Of an erasure: the one purpose whose data are meant, as the policy names it; none: the whole person.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    purpose: Option<String>,
    /// Who asked.
    actor: Actor,
    /// By which road of her own, which needs the scope `erasure:intake` and no other; none: somebody brought it.
    #[serde(default)]
    origin: Option<RequestOrigin>,
    /// A code for the ground, such as `consent_withdrawn` (GDPR Article 17(1)); no free text.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: Option<String>,
    /// Where she says that she is, such as `FR` or `US-CA`: whose law counts beside the controller's.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]
    place: Option<String>,
    /// When it was received, where that was before now: its terms are counted from there.
    #[serde(default)]
    received_at: Option<Timestamp>,
    /// The tokens of her number, as the vault tells them: where nobody who is known has it, what asks for a
    /// stop stops them.
    #[serde(default)]
    #[schema(value_type = Vec<String>, max_items = 32)]
    addresses: Vec<AddressToken>,
    /// The country of her number, as the vault tells it: where she may be, unless she says where she is.
    #[serde(default)]
    #[schema(pattern = "^[A-Z]{2}$")]
    number_country: Option<String>,
    /// How it was shown that she asks herself; none: it isn't yet. It needs the scope `erasure:decide`; with an
    /// `origin` it can only be what that road shows: `signed_link` of a page, `number_reply` of a message.
    #[serde(default)]
    identity: Option<IdentityCheck>,
}

impl NewRequest {
    /// One of many erasures that an operator brought together.
    pub(crate) fn of_bulk(
        subject_id: SubjectId,
        place: Option<String>,
        number_country: Option<String>,
    ) -> Self {
        Self {
            subject_id: Some(subject_id),
            kind: RequestKind::Erasure,
            purpose: None,
            actor: Actor::Operator,
            origin: None,
            reason: None,
            place,
            received_at: None,
            addresses: Vec::new(),
            number_country,
            identity: None,
        }
    }
}

/// What comes by a road of hers is hers alone, about herself, and shown by that road or not at all.
fn own(new: &NewRequest, origin: RequestOrigin) -> Result<(), Problem> {
    let refuse = |detail: &str| Err(Problem::new(Code::ValidationFailed).detail(detail.to_owned()));
    if new.actor != Actor::Subject || new.subject_id.is_none() {
        return refuse("origin: by a road of hers a person asks herself, and is known");
    }
    if new.identity.as_ref().is_some_and(|it| it.method != origin.proof()) {
        return refuse(
            "identity.method: a page shows it by signed_link, a message by number_reply",
        );
    }
    Ok(())
}

/// How it was shown that she asks herself.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityCheck {
    /// How.
    method: IdentityMethod,
    /// A code for what was looked at, such as `known_customer`; no free text.
    #[schema(pattern = "^[a-z0-9_]{1,64}$")]
    reason: String,
}

impl IdentityCheck {
    /// The check, by this caller.
    pub(super) fn by(self, caller: &Caller) -> Result<Check, Problem> {
        code("identity.reason", &self.reason)?;
        let Self { method, reason } = self;
        Ok(Check { method, reason, key: caller.key().to_owned() })
    }
}

/// The answer: the request that stands. How far an erasure is it doesn't say: that would say who is known.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RequestAnswer {
    /// The request.
    request_id: Uuid,
    /// Where it stands.
    status: RequestState,
    /// By when it is answered.
    due: Timestamp,
    /// What she quotes when she asks about it.
    reference: String,
    /// With the reference it opens the tracking. Given to whoever made the request, never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

#[utoipa::path(
    post, path = "/v1/requests", tag = "requests",
    params(("Idempotency-Key" = Option<String>, Header, description = "Repeating it gives the first answer.")),
    request_body = NewRequest,
    responses(
        (status = 201, description = "Accepted; where it is a stop, marketing has stopped", body = RequestAnswer),
        (status = 200, description = "Time ran out for a person whose erasure had begun already", body = RequestAnswer),
        (status = 404, description = "purpose_unknown"),
        (status = 422, description = "validation_failed"),
        (status = 503, description = "dependency_unavailable: the stop could not be settled, or the dates are not known; nothing was accepted"),
    ),
    security(("bearer" = []))
)]
/// Takes a request of a person in.
///
/// Nothing is handed out or destroyed before it is shown that she asks herself. The answer looks the
/// same whether she is known here or not.
pub(super) async fn request(
    State(app): State<App>,
    caller: Caller,
    key: IdempotencyKey,
    JsonBytes(new, body): JsonBytes<NewRequest>,
) -> Result<(StatusCode, Json<RequestAnswer>), Problem> {
    // That time ran out, so that nobody has to show who asks, is the word of the ledger alone.
    let unasked = new.actor == Actor::System;
    caller.require(match (unasked, new.origin) {
        (true, _) => "erasure:retention",
        (false, Some(_)) => INTAKE,
        (false, None) => "erasure:write",
    })?;
    if unasked && new.kind != RequestKind::Erasure {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("actor: nobody but a person asks for anything else than an erasure"));
    }
    if let Some(origin) = new.origin {
        own(&new, origin)?;
    }
    if let Some(reason) = &new.reason {
        code("reason", reason)?;
    }
    if let Some(purpose) = &new.purpose {
        code("purpose", purpose)?;
        if unasked || new.kind != RequestKind::Erasure {
            return Err(Problem::new(Code::ValidationFailed).detail(
                "purpose: only an erasure that a person asks for is of one purpose's data",
            ));
        }
    }
    let check = new.identity.clone().map(|check| check.by(&caller)).transpose()?;
    if check.is_some() && new.origin.is_none() {
        caller.require(DECIDES)?;
    }
    let now = app.sagas.clock.now();
    let received_at = new.received_at.unwrap_or(now);
    if received_at > now {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("received_at: no request was received in the future"));
    }
    if new.addresses.len() > ADDRESSES_MAX {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("addresses: a number has at most 32 tokens"));
    }
    let terms = terms(&app, &new, received_at).await?;
    if new.kind.stops_marketing() {
        match new.subject_id {
            Some(subject_id) => stop_marketing(&app, &new, subject_id).await?,
            // A number is stopped for everything or not at all: nobody asked for that.
            None if new.purpose.is_some() => {}
            // It takes as long: how long says nothing about who is known.
            None if !new.addresses.is_empty() => stop_number(&app, &new, now).await?,
            None => {}
        }
    }
    let idempotency = key.0.map(|key| app.sagas.store.idempotency(caller.name(), &key, &body));
    let opening = Opening {
        request_id: app.sagas.ids.v7(),
        kind: new.kind,
        purpose: new.purpose,
        actor: new.actor,
        origin: new.origin,
        reason: new.reason,
        place: new.place,
        known: new.subject_id.is_some(),
        received_at,
        terms,
        check,
    };
    // Nobody's request has a stream of its own.
    let stream = new.subject_id.unwrap_or_else(|| app.sagas.ids.v4());
    let accepting = app.clone();
    let accepted = to_the_end(async move {
        loop {
            let opening = opening.clone();
            match accept(&accepting, stream, opening, &caller, idempotency).await {
                // Whoever took the key has committed: the next look finds the first answer.
                Err(StoreError::KeyTaken) => {}
                accepted => return accepted,
            }
        }
    })
    .await
    .map_err(store_problem)?;
    app.wake.notify_one();
    Ok((accepted.0, Json(accepted.1)))
}

/// A stop on every purpose (or the one that is meant) and channel, settled before this returns. Each asks anew: the answer to
/// an earlier one would not speak of what was granted since.
pub(crate) async fn stop_marketing(
    app: &App,
    new: &NewRequest,
    subject_id: SubjectId,
) -> Result<(), Problem> {
    let method =
        if new.kind == RequestKind::Erasure { Method::ErasureRequest } else { Method::Api };
    let withdrawal = WithdrawRequest {
        subject_id,
        purpose: new.purpose.clone().unwrap_or_else(|| "*".to_owned()),
        channel: "*".to_owned(),
        actor: new.actor,
        method,
        evidence: None,
        acted_at: None,
        place: None,
    };
    let key = format!("erasure-{}", app.sagas.ids.v7());
    let stopped: Result<ConsentAnswer, ClientError> =
        app.consent.post("/v1/consents/withdraw", &withdrawal, Some(&key)).await;
    match stopped {
        Ok(_) => Ok(()),
        Err(error) => match error.code() {
            // Fenced: nothing is granted there any more, and nothing is sent.
            Some(Code::SubjectErased | Code::SubjectUnknown) => Ok(()),
            Some(Code::PurposeUnknown) => Err(Code::PurposeUnknown.into()),
            _ => Err(failed(error)),
        },
    }
}

/// A stop on a number that nobody who is known has, settled before this returns: whoever imports it later
/// finds it.
async fn stop_number(app: &App, new: &NewRequest, heard_at: Timestamp) -> Result<(), Problem> {
    let stop = Stop {
        stop_id: app.sagas.ids.v7(),
        addresses: new.addresses.clone(),
        kind: StopKind::Stopped,
        method: None,
        heard_at,
    };
    let stops = StopsRequest { stops: vec![stop] };
    let stopped: Result<StopsResponse, ClientError> =
        app.consent.post("/v1/gate/stops", &stops, None).await;
    stopped.map(|_| ()).map_err(failed)
}

/// A consent service that is away or of before, or whose word of us is.
fn failed(error: ClientError) -> Problem {
    if error.is_transient() || is_older(&error) {
        return Problem::unavailable("consent", error);
    }
    Problem::internal(error)
}

/// The dates by law, from the service that knows the rules.
pub(crate) async fn terms(
    app: &App,
    new: &NewRequest,
    received_at: Timestamp,
) -> Result<Terms, Problem> {
    let question = TermsQuestion {
        kind: new.kind,
        received_at: Some(received_at),
        seat: None,
        person: new.place.clone(),
        number: new.number_country.clone(),
    };
    let told: Result<Terms, ClientError> =
        app.consent.post("/v1/rules/terms", &question, None).await;
    told.map_err(|error| match error.code() {
        Some(Code::MalformedBody) => Problem::new(Code::ValidationFailed).detail(
            "place, number_country: write a country such as FR, or a part of one such as US-CA",
        ),
        Some(Code::ValidationFailed) => Problem::new(Code::ValidationFailed)
            .detail("received_at: no law that names a term for this was in force then"),
        _ => failed(error),
    })
}

/// A consent service of before doesn't know the question, and a key of before may not ask it.
fn is_older(error: &ClientError) -> bool {
    let older = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND];
    matches!(error, ClientError::Problem { status, .. } if older.contains(status))
}

async fn accept(
    app: &App,
    stream: SubjectId,
    opening: Opening,
    caller: &Caller,
    idempotency: Option<Idempotency>,
) -> Result<(StatusCode, RequestAnswer), StoreError> {
    let mut held = app.sagas.hold(stream).await?;
    if let Some(key) = idempotency
        && let Some(first) = held.first_answer(key).await?
    {
        held.rollback().await?;
        let (person, event) =
            app.sagas.as_of(first.stream, first.version, &first.event_ids).await?;
        let opened =
            matches!(event, Some(Event::RequestOpened(_) | Event::PurposeRequestOpened(_)));
        let standing = || Some(person.saga.request.as_ref()?.id);
        let request_id = event.and_then(|event| event.request_id()).or_else(standing);
        let request_id = request_id.ok_or(StoreError::Aborted)?;
        let mut first = answer(app, &person, request_id, opened).ok_or(StoreError::Aborted)?;
        // Another key than it was given under makes another one.
        if let Some(secret) = &first.1.secret
            && !app.sagas.is_secret_of(request_id, secret).await?
        {
            first.1.secret = None;
        }
        return Ok(first);
    }
    let new_id = opening.request_id;
    if opening.check.is_some() {
        held.keep_caller(caller).await?;
    }
    let (request_id, events) = held.person.open(opening, &held.registry, held.now);
    match (events.is_empty(), idempotency) {
        (false, key) => held.record(events, key).await?,
        (true, Some(key)) => held.keep_answer(key).await?,
        (true, None) => {}
    }
    let answer = answer(app, &held.person, request_id, request_id == new_id);
    held.commit().await?;
    answer.ok_or(StoreError::Aborted)
}

fn answer(
    app: &App,
    person: &Person,
    request_id: Uuid,
    created: bool,
) -> Option<(StatusCode, RequestAnswer)> {
    let request = person.requests.get(request_id)?;
    let answer = RequestAnswer {
        request_id: request.id,
        status: request.state(),
        due: request.due,
        reference: tracking::reference(request.id),
        secret: created.then(|| app.sagas.tracking.secret(request.id)),
    };
    Some((if created { StatusCode::CREATED } else { StatusCode::OK }, answer))
}
