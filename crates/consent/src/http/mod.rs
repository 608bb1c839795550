//! The HTTP API: one file per endpoint, with its types, its handler and what it can answer. It
//! guarantees a key with the right scope before anything is read; the edge (limits, spans) is
//! `assent_http`'s.

use std::sync::Arc;

use assent_contracts::consent::{Actor, Method};
use assent_contracts::sealed::Sealed;
use assent_eventstore::batcher::{Batcher, BatcherConfig};
use assent_eventstore::{EventStore, to_the_end};
use assent_http::{Caller, IdempotencyKey, Keys, Problem, protected};
use assent_rules::RuleSet;
use assent_runtime::{Clock, Ids, LeaseTerms};
use assent_signing::Issuer;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use sqlx::PgPool;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::commands::LedgerHandler;
use crate::domain::ledger::Act;
use crate::domain::verdict::GateView;
use crate::gate::{Question, facts};
use crate::permits::Permits;
use crate::policy::Policies;
use crate::stops::Stops;

mod apply_policy;
mod consents;
mod grant;
mod history;
mod permits;
mod plan_policy;
mod policy;
mod purpose_versions;
mod purposes;
mod receipts;
mod refusals;
mod refuse;
mod rules;
mod rules_answers;
mod stops;
mod verdict;
mod verdict_as_of;
mod verdicts;
mod withdraw;

pub use consents::{ConsentView, ConsentsResponse};
pub use history::HistoryEvent;
pub use purpose_versions::PurposeVersion;
pub use receipts::ReceiptView;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

struct Parts {
    store: EventStore,
    batcher: Batcher<LedgerHandler>,
    permits: Permits,
    stops: Stops,
    policies: Policies,
    papers: Papers,
    clock: Arc<dyn Clock>,
    terms: LeaseTerms,
}

/// What the service tells of the law, and what it signs with.
#[derive(Debug, Clone)]
pub struct Papers {
    /// The rules in force.
    pub rules: Arc<RuleSet>,
    /// Signs receipts.
    pub issuer: Arc<Issuer>,
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
        let handler = LedgerHandler { clock: Arc::clone(&clock), ids: Arc::clone(&ids) };
        Self(Arc::new(Parts {
            batcher: Batcher::start(store.clone(), handler, batching),
            permits: Permits {
                pool: permit_pool,
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                terms,
            },
            stops: Stops {
                store: store.clone(),
                clock: Arc::clone(&clock),
                ids: Arc::clone(&ids),
                terms,
            },
            policies: Policies { store: store.clone(), clock: Arc::clone(&clock), ids },
            papers,
            store,
            clock,
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
        to_the_end(async move {
            let mut connection = pool.acquire().await?;
            facts(&mut connection, &question).await
        })
        .await
        .map_err(refusals::database)
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

/// An act as a request tells it. Times are kept in microseconds, as the store keeps them, and never
/// later than they were told.
fn act(actor: Actor, method: Method, evidence: Option<Sealed>, acted_at: Option<Timestamp>) -> Act {
    let to_microseconds = TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Floor);
    let acted_at = acted_at.and_then(|at| at.round(to_microseconds).ok());
    Act { actor, method, evidence, acted_at }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Assent consent",
        description = "Purposes and notices, the consent ledger per person, the gate and its permits."
    ),
    components(schemas(assent_http::openapi::ProblemBody)),
    security(("bearer" = []))
)]
struct Document;

fn documented() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(grant::grant))
        .routes(routes!(refuse::refuse))
        .routes(routes!(withdraw::withdraw))
        .routes(routes!(permits::give_permits))
        .routes(routes!(stops::hear_stops))
        .routes(routes!(verdict::verdict))
        .routes(routes!(verdict_as_of::verdict_as_of))
        .routes(routes!(verdicts::verdicts))
        .routes(routes!(consents::consents))
        .routes(routes!(history::history))
        .routes(routes!(purposes::purposes))
        .routes(routes!(purpose_versions::purpose_versions))
        .routes(routes!(policy::policy, apply_policy::apply_policy))
        .routes(routes!(plan_policy::plan_policy))
        .routes(routes!(rules::rules))
        .routes(routes!(receipts::receipts))
        .routes(routes!(receipts::public_key))
        .routes(routes!(rules_answers::rules_answers))
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
    assent_http::openapi::add_bearer(&mut document);
    document
}
