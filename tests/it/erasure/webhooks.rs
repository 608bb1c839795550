//! Participants that are called: signed, in order, until they take it, and only where the operator allows it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_contracts::erasure::{COMMAND, Command, Step};
use assent_erasure::Pace;
use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::until;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::BodyExt as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::Sha256;
use uuid::Uuid;

use super::world::{World, evidence, pace};

/// One call, as it arrived.
#[derive(Debug, Clone)]
struct Heard {
    path: String,
    headers: HeaderMap,
    body: String,
    status: u16,
}

impl Heard {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().unwrap()
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn command(&self) -> Command {
        serde_json::from_value(self.event()["data"].clone()).unwrap()
    }

    /// Which of these secrets it is signed with, one signature each.
    fn signed_with(&self, secrets: &[&str]) -> Vec<bool> {
        let (id, at) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let signatures: Vec<_> = self.header("webhook-signature").split(' ').collect();
        let own = |secret: &&str| {
            let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(format!("{id}.{at}.{}", self.body).as_bytes());
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        secrets.iter().map(|secret| signatures.contains(&own(secret).as_str())).collect()
    }
}

/// A team's service that notes calls, and takes those that it doesn't refuse.
#[derive(Clone, Default)]
struct Team {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Calls whose body has one of these are answered so.
    refused: Arc<Mutex<Vec<(String, u16)>>>,
}

impl Team {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/assent", listener.local_addr().unwrap());
        let team = Self { url, ..Self::default() };
        let router = Router::new().fallback(take).with_state(team.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        team
    }

    fn refuses(&self, part: impl Into<String>, status: u16) {
        self.refused.lock().unwrap().push((part.into(), status));
    }

    fn refuses_nothing(&self) {
        self.refused.lock().unwrap().clear();
    }

    fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Waits until it was called `times` times with a body that has `part`; that call.
    async fn hears(&self, part: &str, times: usize) -> Heard {
        let found = || {
            let heard = self.heard();
            heard.into_iter().filter(|it| it.body.contains(part)).collect::<Vec<_>>()
        };
        until(&format!("{times} calls with {part}"), async || found().len() >= times).await;
        found().swap_remove(times - 1)
    }

    async fn hears_step(&self, step: Step) -> Heard {
        self.hears(&format!("\"step\":\"{}\"", step.name()), 1).await
    }
}

async fn take(State(team): State<Team>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let refusal = {
        let refused = team.refused.lock().unwrap();
        refused.iter().find(|(part, _)| body.contains(part)).map(|(_, status)| *status)
    };
    let status = refusal.unwrap_or(204);
    let (path, headers) = (parts.uri.path().to_owned(), parts.headers);
    team.heard.lock().unwrap().push(Heard { path, headers, body, status });
    match status {
        307 => Redirect::temporary("/elsewhere").into_response(),
        status => StatusCode::from_u16(status).unwrap().into_response(),
    }
}

impl World {
    /// Registers `crm` at this address.
    async fn calls(&self, team: &Team) -> Value {
        let crm = json!({"name": "crm", "owner": "crm-team", "webhook": team.url});
        let (status, view) = self.post("operator", "/v1/participants", &crm, None).await;
        assert!(status.is_success(), "{status}: {view}");
        view
    }
}

#[tokio::test]
async fn a_participant_that_is_called_takes_part_and_every_call_is_signed() {
    let (world, team) = (World::new("vault", pace()).await, Team::start().await);
    let first = world.calls(&team).await["secret"].as_str().unwrap().to_owned();
    assert_eq!(world.calls(&team).await.get("secret"), None, "it is shown once");
    let (_, list) = world.get("/v1/participants").await;
    assert!(list.contains(&team.url) && !list.contains("whsec_"), "{list}");
    let (_, request) = world.request("key").await;

    let fence = team.hears_step(Step::Fence).await;
    assert_eq!(fence.header("content-type"), "application/cloudevents+json");
    assert_eq!(fence.signed_with(&[&first]), [true]);
    let sent: i64 = fence.header("webhook-timestamp").parse().unwrap();
    assert!((SystemClock.now().as_second() - sent).abs() < 60, "{sent}");
    let (event, command) = (fence.event(), fence.command());
    assert_eq!(event["id"], fence.header("webhook-id"));
    assert_eq!((&event["specversion"], &event["type"]), (&json!("1.0"), &json!(COMMAND)));
    assert_eq!(event["subject"], json!(world.subject));
    assert_eq!((command.request_id, command.subject_id), (request, world.subject));

    // Secrets are rotated: until that is ended each call is signed with both.
    let secret = "/v1/participants/crm/secret";
    assert_eq!(world.post("crm", secret, &json!({}), None).await.0, StatusCode::FORBIDDEN);
    let (_, rotated) = world.post("operator", secret, &json!({}), None).await;
    let second = rotated["secret"].as_str().unwrap();
    assert_eq!(rotated["rotating"], json!(true));
    for name in ["crm", "vault"] {
        world.ack(&command, name, evidence(Step::Fence)).await;
    }
    let delete = team.hears_step(Step::Delete).await;
    assert_eq!(delete.signed_with(&[&first, second]), [true, true]);
    assert_eq!(world.delete(secret).await, StatusCode::NO_CONTENT);
    for name in ["crm", "vault"] {
        world.ack(&delete.command(), name, evidence(Step::Delete)).await;
    }
    let sweep = team.hears_step(Step::Sweep).await;
    assert_eq!(sweep.signed_with(&[&first, second]), [false, true]);
    for name in ["crm", "vault"] {
        world.ack(&sweep.command(), name, evidence(Step::Sweep)).await;
    }
    world.until(request, "completed").await;
    assert_eq!(waiting(&world).await, 0, "nothing is left to be told");
    let (_, certificate) = world.get(&format!("/v1/requests/{request}/certificate")).await;
    let payload = certificate.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    assert!(String::from_utf8(payload).unwrap().contains("\"crm\""));
    world.stop().await;
}

#[tokio::test]
async fn a_call_that_is_not_taken_comes_again_after_a_restart_too_and_follows_no_redirect() {
    let (mut world, team) = (World::new("vault", pace()).await, Team::start().await);
    world.calls(&team).await;
    team.refuses("", 307);
    world.request("key").await;
    let refused = team.hears("fence", 2).await;
    assert_eq!(refused.status, 307, "the fault");
    world.kill().await;
    // What the dead one had under way is its own for half a minute: as if that were over.
    sqlx::query("UPDATE webhooks SET look_at = now()").execute(&world.pool).await.unwrap();
    team.refuses_nothing();
    let before = team.heard().len();
    world.start().await;
    let taken = team.hears("fence", before + 1).await;
    assert_eq!(taken.status, 204);
    assert_eq!(taken.header("webhook-id"), refused.header("webhook-id"), "the same call");
    assert!(team.heard().iter().all(|it| it.path == "/assent"), "nobody was called elsewhere");
    let (status, _) = world.ack(&taken.command(), "crm", evidence(Step::Fence)).await;
    assert_eq!(status, StatusCode::OK);
    world.stop().await;
}

#[tokio::test]
async fn who_takes_calls_and_does_not_answer_is_told_again_and_shown_with_its_owner() {
    let pace = Pace { step_timeout: Duration::from_millis(400), ..pace() };
    let (world, team) = (World::new("vault", pace).await, Team::start().await);
    world.calls(&team).await;
    let (_, request) = world.request("key").await;
    let first = team.hears_step(Step::Fence).await;
    world.ack(&first.command(), "vault", evidence(Step::Fence)).await;
    let view = world.until(request, "incomplete").await;
    assert_eq!(view["missing"], json!(["crm"]));
    let crm = view["participants"].as_array().unwrap().iter().find(|it| it["name"] == "crm");
    assert_eq!(crm.unwrap()["owner"], "crm-team");
    let again = team.hears("fence", 2).await;
    assert_eq!(again.command().command_id, first.command().command_id, "the same command");
    assert_ne!(again.header("webhook-id"), first.header("webhook-id"), "in another call");
    // Who answers while its door is shut was heard: it is called about this no more.
    team.refuses("", 500);
    until("a call waits", async || waiting(&world).await == 1).await;
    let (status, _) = world.ack(&first.command(), "crm", evidence(Step::Fence)).await;
    assert_eq!(status, StatusCode::OK);
    let left = "SELECT count(*) FROM webhooks WHERE message_id = $1";
    let left: i64 = sqlx::query_scalar(left)
        .bind(first.command().command_id)
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(left, 0);
    world.stop().await;
}

#[tokio::test]
async fn calls_about_one_person_come_in_order_and_hold_up_nobody_else() {
    let (world, team) = (World::new("vault", pace()).await, Team::start().await);
    world.calls(&team).await;
    team.refuses("first", 500);
    let (ada, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for (id, person, body) in [(11, ada, "first"), (12, ada, "second"), (13, bob, "other")] {
        queue(&world, Uuid::from_u128(id), person, body).await;
    }
    team.hears("other", 1).await;
    team.hears("first", 3).await;
    assert!(team.heard().iter().all(|it| it.body != "second"), "it overtook what came before");
    team.refuses_nothing();
    team.hears("second", 1).await;
    let taken: Vec<_> = team.heard().into_iter().filter(|it| it.status == 204).collect();
    let taken: Vec<_> = taken.iter().map(|it| it.body.as_str()).collect();
    assert_eq!(taken, ["other", "first", "second"]);
    until("all are settled", async || waiting(&world).await == 0).await;
    world.stop().await;
}

#[tokio::test]
async fn who_is_suspended_is_not_called_until_it_is_resumed() {
    let (world, team) = (World::new("vault", pace()).await, Team::start().await);
    world.calls(&team).await;
    let suspend = "/v1/participants/crm/suspend";
    assert_eq!(world.post("operator", suspend, &json!({}), None).await.0, StatusCode::OK);
    world.request("key").await;
    // A second participant, to see that calls are made meanwhile.
    let other = Team::start().await;
    let consent = json!({"name": "consent", "webhook": other.url});
    assert_eq!(
        world.post("operator", "/v1/participants", &consent, None).await.0,
        StatusCode::CREATED
    );
    other.hears_step(Step::Fence).await;
    world.hears_again(world.hears(Step::Fence, "crm").await.command_id, 3).await;
    assert_eq!(team.heard().len(), 0);
    assert!(waiting(&world).await > 0, "it waits");
    let resume = "/v1/participants/crm/resume";
    assert_eq!(world.post("operator", resume, &json!({}), None).await.0, StatusCode::OK);
    team.hears_step(Step::Fence).await;
    world.stop().await;
}

#[tokio::test]
async fn a_webhook_is_taken_off_again_and_what_waited_is_heard_on_kafka_alone() {
    let (world, team) = (World::new("vault", pace()).await, Team::start().await);
    let first = world.calls(&team).await["secret"].clone();
    team.refuses("", 500);
    world.request("key").await;
    team.hears_step(Step::Fence).await;
    assert_eq!(waiting(&world).await, 1, "it was not taken");
    let path = "/v1/participants";
    let both = json!({"name": "crm", "webhook": team.url, "no_webhook": true});
    let (status, problem) = world.post("operator", path, &both, None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");
    let off = json!({"name": "crm", "no_webhook": true});
    let (status, view) = world.post("operator", path, &off, None).await;
    assert_eq!(status, StatusCode::OK, "{view}");
    assert_eq!((view.get("webhook"), view.get("secret")), (None, None), "{view}");
    assert_eq!(view["owner"], "crm-team", "the rest stays");
    assert_eq!(waiting(&world).await, 0);

    // It takes part as before, and no call is queued for it.
    let fence = world.hears(Step::Fence, "crm").await;
    for name in ["crm", "vault"] {
        world.ack(&fence, name, evidence(Step::Fence)).await;
    }
    world.hears(Step::Delete, "crm").await;
    assert_eq!(waiting(&world).await, 0);
    assert!(team.heard().iter().all(|it| !it.body.contains("\"step\":\"delete\"")));
    // Where it is called again, its secret is another: nobody knows who has the one of before.
    let second = world.calls(&team).await["secret"].clone();
    assert!(second.is_string() && second != first, "{second}");
    world.stop().await;
}

#[tokio::test]
async fn an_address_that_the_operator_did_not_allow_is_refused() {
    let world = World::new("vault", pace()).await;
    for (address, reason) in [
        ("http://crm.example.org/assent", "address_in_the_clear"),
        ("https://169.254.169.254/latest", "host_not_allowed"),
        ("https://localhost/assent", "host_not_allowed"),
        ("https://10.0.0.7/assent", "private_network"),
        ("https://ada:secret@crm.example.org/", "address_malformed"),
        ("crm.example.org", "address_malformed"),
        ("", "address_malformed"),
    ] {
        let crm = json!({"name": "crm", "webhook": address});
        let (status, problem) = world.post("operator", "/v1/participants", &crm, None).await;
        let refused = (status, &problem["code"], &problem["reason"]);
        let expected =
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("validation_failed"), &json!(reason));
        assert_eq!(refused, expected, "{address}");
    }
    let (_, list) = world.get("/v1/participants").await;
    assert!(!list.contains("crm"), "{list}");
    let unknown = "/v1/participants/nobody/secret";
    assert_eq!(world.post("operator", unknown, &json!({}), None).await.0, StatusCode::NOT_FOUND);
    let reads_kafka = "/v1/participants/vault/secret";
    let (status, problem) = world.post("operator", reads_kafka, &json!({}), None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{problem}");

    // Nor is one called that got in when more was allowed.
    let crm = json!({"name": "crm", "webhook": "https://crm.example.org/assent"});
    assert_eq!(world.post("operator", "/v1/participants", &crm, None).await.0, StatusCode::CREATED);
    let team = Team::start().await;
    let elsewhere = team.url.replace("127.0.0.1", "localhost");
    sqlx::query("UPDATE participants SET webhook_url = $1 WHERE name = 'crm'")
        .bind(&elsewhere)
        .execute(&world.pool)
        .await
        .unwrap();
    queue(&world, Uuid::from_u128(11), Uuid::from_u128(1), "first").await;
    until("it was tried", async || {
        let tries = "SELECT coalesce(max(tries), 0) FROM webhooks";
        sqlx::query_scalar::<_, i32>(tries).fetch_one(&world.pool).await.unwrap() >= 2
    })
    .await;
    assert_eq!(team.heard().len(), 0);
    world.stop().await;
}

/// Who knows the erasure of whole persons alone may not take what it doesn't know.
#[tokio::test]
async fn a_call_about_one_purpose_that_is_not_taken_holds_up_no_call_about_the_person() {
    let (world, team) = (World::new("vault", pace()).await, Team::start().await);
    world.calls(&team).await;
    team.refuses("of a purpose", 400);
    let ada = Uuid::from_u128(1);
    queue(&world, Uuid::from_u128(11), ada, "of a purpose").await;
    sqlx::query("UPDATE webhooks SET of_purpose = true").execute(&world.pool).await.unwrap();
    team.hears("of a purpose", 1).await;
    queue(&world, Uuid::from_u128(12), ada, "of all of her").await;
    team.hears("of all of her", 1).await;
    until("the other alone comes again", async || waiting(&world).await == 1).await;
    world.stop().await;
}

/// Queues a call to `crm` as the saga does.
async fn queue(world: &World, message: Uuid, person: Uuid, body: &str) {
    let sql = "INSERT INTO webhooks (participant, message_id, event_id, subject_id, body, look_at)
               VALUES ('crm', $1, $1, $2, $3, now())";
    sqlx::query(sql).bind(message).bind(person).bind(body).execute(&world.pool).await.unwrap();
}

/// How many calls weren't taken yet.
async fn waiting(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM webhooks").fetch_one(&world.pool).await.unwrap()
}
