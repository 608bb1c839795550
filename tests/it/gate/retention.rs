//! Who is kept no longer: found by the clock, asked for once, and let be when she has come back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_consent::commands::{LedgerCommand, Wish};
use assent_consent::retention::{self, Keeper, Why};
use assent_contracts::SubjectId;
use assent_contracts::policy::Retention;
use assent_http::ServiceClient;
use assent_participant::Keeping;
use assent_rules::RuleSet;
use assent_tests::cluster::until;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, ticking, world_at};

const DAY: Duration = Duration::from_secs(86_400);

/// An erasure service that takes down what it is asked, or is away.
#[derive(Clone, Default)]
struct Erasure {
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    away: Arc<Mutex<bool>>,
    /// While this is held it has heard, and hasn't answered yet.
    busy: Arc<tokio::sync::Mutex<()>>,
}

impl Erasure {
    async fn serve(&self) -> ServiceClient {
        async fn request(
            State(erasure): State<Erasure>,
            headers: HeaderMap,
            body: axum::Json<Value>,
        ) -> Result<(StatusCode, axum::Json<Value>), StatusCode> {
            if *erasure.away.lock().unwrap() {
                return Err(StatusCode::SERVICE_UNAVAILABLE);
            }
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            erasure.asked.lock().unwrap().push((key, body.0));
            drop(erasure.busy.lock().await);
            Ok((
                StatusCode::CREATED,
                axum::Json(json!({"request_id": Uuid::nil(), "status": "requested"})),
            ))
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().route("/v1/requests", post(request)).with_state(self.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        ServiceClient::new(&url, &"consent".into()).unwrap()
    }

    fn asked(&self) -> BTreeSet<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|(_, body)| body["subject_id"].as_str().unwrap().to_owned()).collect()
    }
}

impl World {
    async fn kept_for(&self, idle_days: Option<u32>) {
        self.change_policy(|policy| policy.retention = Retention { idle_days }).await;
    }

    async fn writes(&self, subject: SubjectId) {
        let wish = Wish::Contact { channel: "whatsapp".to_owned(), acted_at: self.clock.now() };
        let command = LedgerCommand::of_ours(subject, wish);
        self.app.batcher().run(command).await.expect("an act");
    }

    async fn would_be_erased(&self, idle_days: u32) -> i64 {
        let mut conn = self.pool.acquire().await.unwrap();
        let current = assent_consent::policy::in_force(&mut conn).await.unwrap().unwrap();
        let mut wanted = current.policy;
        wanted.retention = Retention { idle_days: Some(idle_days) };
        let plan = self.policies.plan(&wanted, &RuleSet::default()).await.unwrap();
        plan.changes.iter().map(|change| change.erased).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_never_agreed_nor_wrote_is_erased_when_her_time_is_over() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let erasure = Erasure::default();
    let (pool, by) = (world.pool.clone(), world.clock.clone());
    let keeping = Keeping::default();
    let keeper = Keeper { pool, erasure: erasure.serve().await, clock: by, keeping };
    let silent = world.person(&[1, 2]).await;
    let agreed = world.consenting(3).await;
    let wrote = world.person(&[4]).await;
    let left = world.consenting(5).await;
    let refused = world.consenting(6).await;
    world.withdraw(left, None).await.unwrap();
    clock.advance(DAY * 20);
    world.writes(wrote).await;
    world.withdraw(refused, None).await.unwrap();
    let newcomer = world.person(&[7]).await;

    assert_eq!(keeper.round().await, Ok(0), "the policy says nothing");
    assert_eq!((world.would_be_erased(10).await, world.would_be_erased(30).await), (2, 0));
    // Before anybody goes: who would, and why. Looking does nothing.
    let mut conn = world.pool.acquire().await.unwrap();
    let due = retention::due(&mut conn, 10, world.clock.now(), Uuid::nil(), 10).await.unwrap();
    let mut due: Vec<_> = due.into_iter().map(|it| (it.subject_id, it.why)).collect();
    due.sort_by_key(|(subject, _)| *subject == left);
    assert_eq!(due, [(silent, Why::NeverConsented), (left, Why::ConsentLapsed)]);
    let first = silent.min(left);
    let rest = retention::due(&mut conn, 10, world.clock.now(), first, 10).await.unwrap();
    assert_eq!(rest.len(), 1, "page by page");
    assert!(erasure.asked().is_empty());
    drop(conn);
    world.kept_for(Some(30)).await;
    assert_eq!(keeper.round().await, Ok(0), "not yet");
    clock.advance(DAY * 10);
    assert_eq!(keeper.round().await, Ok(2));
    assert_eq!(erasure.asked(), BTreeSet::from([silent.to_string(), left.to_string()]));
    let (key, body) = erasure.asked.lock().unwrap()[0].clone();
    assert_eq!(key, format!("retention-{}", body["subject_id"].as_str().unwrap()));
    assert_eq!((&body["actor"], &body["reason"]), (&json!("system"), &json!("retention")));
    assert_eq!(keeper.round().await, Ok(0), "each once");
    assert_eq!(erasure.asked.lock().unwrap().len(), 2);

    clock.advance(DAY * 20);
    assert_eq!(keeper.round().await, Ok(3), "from their last word, act and link on");
    let all = [silent, left, wrote, refused, newcomer].map(|subject| subject.to_string());
    assert_eq!(erasure.asked(), BTreeSet::from(all));
    assert!(!erasure.asked().contains(&agreed.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_an_erasure_service_that_is_away_is_asked_for_later_unless_she_has_come_back()
{
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let erasure = Erasure::default();
    let (pool, by) = (world.pool.clone(), world.clock.clone());
    let keeping = Keeping::default();
    let keeper = Keeper { pool, erasure: erasure.serve().await, clock: by, keeping };
    let [silent, back, wrote] =
        [world.person(&[1]).await, world.person(&[2]).await, world.person(&[3]).await];
    world.kept_for(Some(30)).await;
    clock.advance(DAY * 31);
    *erasure.away.lock().unwrap() = true;
    assert!(keeper.round().await.is_err());
    let mut conn = world.pool.acquire().await.unwrap();
    let now = world.clock.now();
    assert_eq!(retention::waiting(&mut conn, now).await.unwrap(), (3, 0), "found, not late");
    let later = now + jiff::SignedDuration::from_hours(25);
    assert_eq!(retention::waiting(&mut conn, later).await.unwrap(), (3, 3), "late, and alerted");
    drop(conn);
    world.grant(back).await.unwrap();
    world.writes(wrote).await;
    *erasure.away.lock().unwrap() = false;
    assert_eq!(keeper.round().await, Ok(0), "found before");
    assert_eq!(erasure.asked(), BTreeSet::from([silent.to_string()]));

    // A policy that keeps people again lets go of those who wait.
    *erasure.away.lock().unwrap() = true;
    clock.advance(DAY * 31);
    assert!(keeper.round().await.is_err());
    world.kept_for(None).await;
    *erasure.away.lock().unwrap() = false;
    assert_eq!(keeper.round().await, Ok(0));
    assert_eq!(erasure.asked().len(), 1);
}

/// A round asks for one after the other, and each answer takes a lease.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_while_others_are_asked_for_is_kept() {
    let clock = ticking("2026-01-01T12:00:00Z");
    let world = world_at(clock.clone()).await;
    let erasure = Erasure::default();
    let (pool, by) = (world.pool.clone(), world.clock.clone());
    let keeping = Keeping::default();
    let keeper = Keeper { pool, erasure: erasure.serve().await, clock: by, keeping };
    let both = [world.person(&[1]).await, world.person(&[2]).await];
    world.kept_for(Some(30)).await;
    clock.advance(DAY * 31);
    let busy = Arc::clone(&erasure.busy).lock_owned().await;
    let round = tokio::spawn(async move { keeper.round().await });
    until("the first is asked for", async || erasure.asked().len() == 1).await;
    let first = erasure.asked();
    let second = both.into_iter().find(|it| !first.contains(&it.to_string())).unwrap();
    world.grant(second).await.unwrap();
    drop(busy);
    assert_eq!(round.await.unwrap(), Ok(2), "both were found");
    assert_eq!(erasure.asked(), first);
}
