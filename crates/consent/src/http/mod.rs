//! The HTTP API: one file per endpoint, with its types, its handler and what it can answer. It
//! guarantees a key with the right scope before anything is read; the edge (limits, spans) is
//! `assent_http`'s.

use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::consent::{Actor, Method};
use assent_contracts::sealed::Sealed;
use assent_eventstore::batcher::{Batcher, BatcherConfig};
use assent_eventstore::{EventStore, Session, to_the_end};
use assent_http::{Caller, Code, IdempotencyKey, Keys, Problem, protected};
use assent_participant::Keeping;
use assent_rules::RuleSet;
use assent_runtime::{Clock, Ids, LeaseTerms};
use assent_sealing::LinkKey;
use assent_signing::Issuer;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use sqlx::PgPool;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::claims::Claims;
use crate::commands::LedgerHandler;
use crate::domain::event::Act;
use crate::domain::verdict::GateView;
use crate::permits::Permits;
use crate::policy::Policies;
use crate::stops::Stops;
use crate::views::{self, Question};

mod ages;
mod apply_policy;
mod ask;
mod claims;
mod codes;
mod confirm;
mod consents;
mod grant;
mod history;
mod holdings;
mod links;
mod permits;
mod plan_policy;
mod policy;
mod preference_links;
mod purpose_versions;
mod purposes;
mod receipts;
mod refusals;
mod refuse;
mod restrictions;
mod retention;
mod rules;
mod rules_answers;
mod rules_terms;
mod stops;
mod tokens;
mod verdict;
mod verdict_as_of;
mod verdicts;
mod withdraw;

pub use history::HistoryEvent;
pub use purpose_versions::PurposeVersion;

/// Most addresses of one act or ask: the spellings of all that a person, and who is one with her, is known by.
const ADDRESSES_MAX: usize = 100;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    store: EventStore,
    batcher: Batcher<LedgerHandler>,
    permits: Permits,
    stops: Stops,
    policies: Policies,
    claims: Claims,
    papers: Papers,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    terms: LeaseTerms,
}

/// What the service tells of the law, what it signs with, and what it gives to people.
#[derive(Debug, Clone)]
pub struct Papers {
    /// The rules in force.
    pub rules: Arc<RuleSet>,
    /// Signs receipts.
    pub issuer: Arc<Issuer>,
    /// Makes links and codes.
    pub links: Arc<LinkKey>,
    /// Where preference pages are, without a trailing slash.
    pub page: Option<String>,
    /// How long what keeps people out, and evidence, is kept.
    pub keeping: Keeping,
}

impl App {
    /// An app over a migrated database; starts the batcher's workers.
    #[must_use]
    pub fn new(
        store: EventStore,
        permit_pool: PgPool,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        terms: LeaseTerms,
        batching: BatcherConfig,
        papers: Papers,
    ) -> Self {
        let handler = LedgerHandler {
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            links: Arc::clone(&papers.links),
            rules: Arc::clone(&papers.rules),
        };
        Self(Arc::new(Parts {
            batcher: Batcher::start(store.clone(), handler, batching),
            permits: Permits {
                pool: permit_pool,
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                terms,
                rule_set: papers.rules.hash().into(),
            },
            stops: Stops {
                store: store.clone(),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                terms,
            },
            policies: Policies {
                store: store.clone(),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
            },
            claims: Claims {
                store: store.clone(),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                keeping: papers.keeping,
            },
            papers,
            store,
            clock,
            ids,
            terms,
        }))
    }

    /// The way to the ledgers.
    #[must_use]
    pub fn batcher(&self) -> &Batcher<LedgerHandler> {
        &self.0.batcher
    }

    /// The facts behind verdicts, collected to the end whoever hangs up.
    async fn facts(&self, question: Question) -> Result<GateView, Problem> {
        let pool = self.0.permits.pool.clone();
        let view = to_the_end(async move {
            let mut connection = pool.acquire().await?;
            views::whole(&mut connection, &question).await
        });
        let mut view = view.await.map_err(refusals::database)?;
        view.rule_set = Some(self.0.permits.rule_set.to_string());
        Ok(view)
    }

    /// A transaction in which nothing can be fenced: what is written about this person in it is seen by
    /// her erasure.
    async fn unfenced(&self, subject: SubjectId) -> Result<Session, Problem> {
        let mut session = self.0.store.begin().await.map_err(refusals::store)?;
        session.lock_versions(&[subject]).await.map_err(refusals::store)?;
        let fenced = sqlx::query("SELECT 1 FROM fences WHERE subject_id = $1")
            .bind(subject)
            .fetch_optional(session.conn())
            .await
            .map_err(refusals::database)?;
        if fenced.is_some() {
            session.rollback().await.map_err(refusals::store)?;
            return Err(Code::SubjectErased.into());
        }
        Ok(session)
    }

    /// The idempotency key of a request, bound to who sent it, for what, and with which body.
    fn idempotency(
        &self,
        caller: &Caller,
        operation: &str,
        key: IdempotencyKey,
        body: &[u8],
    ) -> Option<assent_eventstore::Idempotency> {
        let scope = format!("{} {operation}", caller.name());
        key.0.map(|key| self.0.store.idempotency(&scope, &key, body))
    }
}

/// An act as a request tells it.
struct Told {
    actor: Actor,
    method: Method,
    place: Option<String>,
    evidence: Option<Sealed>,
    acted_at: Option<Timestamp>,
}

impl Told {
    /// An act of this moment, without evidence.
    const fn now(actor: Actor, method: Method) -> Self {
        Self { actor, method, place: None, evidence: None, acted_at: None }
    }
}

/// Whether a text is a code of somebody's: free text could say who.
fn is_code(text: &str) -> bool {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    // So many digits in a row could be a number of somebody's.
    let mut runs = text.split(|c: char| !c.is_ascii_digit());
    (1..=64).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(fits)
        && runs.all(|digits| digits.len() < 7)
}

/// The act. Times are kept in microseconds, as the store keeps them, and never later than they were
/// told.
fn act(told: Told) -> Result<Act, Problem> {
    let to_microseconds = TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Floor);
    let Told { actor, method, place, evidence, acted_at } = told;
    if place.as_deref().is_some_and(|place| !is_code(place)) {
        return Err(Problem::new(Code::ValidationFailed)
            .detail("place: 1 to 64 of a-z, 0-9, _ and -, a letter first, such as shop-lyon"));
    }
    let acted_at = acted_at.and_then(|at| at.round(to_microseconds).ok());
    Ok(Act { actor, method, place, evidence, acted_at })
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Assent consent",
        description = "Purposes and notices, the consent ledger per person, the gate and its permits."
    ),
    security(("bearer" = []))
)]
struct Document;

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(grant::grant))
        .routes(routes!(confirm::confirm))
        .routes(routes!(confirm::unconfirmed))
        .routes(routes!(ask::ask))
        .routes(routes!(ages::state_age))
        .routes(routes!(claims::list, claims::bring))
        .routes(routes!(claims::show))
        .routes(routes!(claims::items))
        .routes(routes!(claims::submit))
        .routes(routes!(claims::decide))
        .routes(routes!(refuse::refuse))
        .routes(routes!(withdraw::withdraw))
        .routes(routes!(restrictions::restrict))
        .routes(routes!(restrictions::lift))
        .routes(routes!(permits::give_permits))
        .routes(routes!(links::link))
        .routes(routes!(tokens::retell))
        .routes(routes!(stops::hear_stops))
        .routes(routes!(codes::hear_code))
        .routes(routes!(preference_links::create))
        .routes(routes!(preference_links::revoke))
        .routes(routes!(preference_links::state))
        .routes(routes!(preference_links::code))
        .routes(routes!(preference_links::proof))
        .routes(routes!(verdict::verdict))
        .routes(routes!(verdict_as_of::verdict_as_of))
        .routes(routes!(verdict_as_of::statement))
        .routes(routes!(verdicts::verdicts))
        .routes(routes!(consents::consents))
        .routes(routes!(history::history))
        .routes(routes!(holdings::holdings))
        .routes(routes!(purposes::purposes))
        .routes(routes!(purpose_versions::purpose_versions))
        .routes(routes!(policy::policy, apply_policy::apply_policy))
        .routes(routes!(plan_policy::plan_policy))
        .routes(routes!(rules::rules))
        .routes(routes!(receipts::receipts))
        .routes(routes!(receipts::public_key))
        .routes(routes!(retention::retention))
        .routes(routes!(retention::due))
        .routes(routes!(rules_answers::rules_answers))
        .routes(routes!(rules_terms::rules_terms))
}

/// The routes, each behind a key; `operations` are those that don't need the app.
pub fn router(app: App, operations: Router, keys: Arc<Keys>) -> Router {
    let (router, _) = documented().split_for_parts();
    let router = router.with_state(app).merge(operations);
    protected(router, keys).layer(DefaultBodyLimit::max(1 << 20))
}

/// The OpenAPI document of this service.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    let (_, mut document) = documented().split_for_parts();
    document.merge(assent_bus::parked::openapi());
    assent_http::openapi::complete(&mut document);
    document
}
