//! The erasure service against real Postgres and Kafka, with participants whose lines are written
//! here: G4, erasure is whole or visibly not done.

mod archives;
mod bulk;
mod holds;
mod own;
mod purposes;
mod races;
mod recipients;
mod restrictions;
mod rights;
mod webhooks;
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use assent_contracts::erasure::{REQUESTED, STEP_STARTED, Step};
use assent_contracts::topics::CONSENT_EVENTS;
use assent_erasure::{Pace, certificate};
use assent_tests::cluster::until;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use world::{World, evidence, pace};

#[tokio::test]
async fn an_erasure_stops_marketing_goes_step_by_step_and_ends_in_a_certificate() {
    let world = World::new("consent,vault:keys", pace()).await;
    let (status, request) = world.request("key-1").await;
    assert_eq!(status, StatusCode::CREATED);
    let stops = world.stops();
    assert_eq!(stops.len(), 1, "the stop goes out before the request is accepted");
    assert_eq!(stops[0]["purpose"], "*");
    assert_eq!(stops[0]["channel"], "*");
    assert_eq!(stops[0]["method"], "erasure_request");

    let (status, problem) = world.get(&format!("/v1/requests/{request}/certificate")).await;
    assert_eq!((status, problem.contains("certificate_not_ready")), (StatusCode::CONFLICT, true));
    for (step, participants) in [
        (Step::Fence, vec!["consent", "vault"]),
        (Step::Delete, vec!["consent", "vault"]),
        (Step::DestroyKeys, vec!["vault"]),
        (Step::Sweep, vec!["consent", "vault"]),
    ] {
        let command = world.hears(step, "vault").await;
        assert_eq!(command.participants, participants);
        assert_eq!(command.subject_id, world.subject);
        for name in participants {
            assert_eq!(world.ack(&command, name, evidence(step)).await.0, StatusCode::OK);
        }
    }
    let view = world.until(request, "completed").await;
    assert_eq!(view["missing"], json!([]));

    let (_, file) = world.get(&format!("/v1/requests/{request}/certificate")).await;
    let (_, pem) = world.get("/v1/public-key").await;
    let key = assent_signing::public_key(&pem).unwrap();
    let certified = certificate::verify(file.as_bytes(), &key).unwrap();
    assert_eq!(certified.request_id, request);
    assert_eq!(certified.controller, "Boulangerie Exemple SARL");
    assert_eq!(certified.steps.len(), 4);
    assert!(certified.keys_destroyed_at.is_some());
    let mut changed = file.clone().into_bytes();
    changed[file.len() / 2] ^= 1;
    assert!(certificate::verify(&changed, &key).is_err(), "a changed byte is noticed");
    for part in file.split('.').take(2) {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
        assert!(!text.contains(&world.subject.to_string()), "it never names the subject: {text}");
    }
    let (_, erased) = world.get("/v1/erased").await;
    assert!(erased.contains(&world.subject.to_string()));
    world.stop().await;
}

#[tokio::test]
async fn repeating_a_request_gives_the_same_one_and_each_asks_for_the_stop_anew() {
    let world = World::new("consent", pace()).await;
    let (_, request) = world.request("key-1").await;
    assert_eq!(world.request("key-1").await, (StatusCode::CREATED, request));
    let (status, second) = world.request("key-2").await;
    assert_eq!((status, second == request), (StatusCode::CREATED, false), "one of her own");
    assert_eq!(world.request("key-2").await, (StatusCode::CREATED, second));
    assert_eq!(world.stops().len(), 4);
    assert_eq!(world.events(REQUESTED).await, 1, "and one erasure for both");

    let other = json!({"subject_id": Uuid::from_u128(1), "actor": "operator"});
    let (status, problem) = world.post("operator", "/v1/requests", &other, Some("key-1")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(problem["code"], "idempotency_key_reused");
    world.stop().await;
}

#[tokio::test]
async fn without_the_consent_service_nothing_is_accepted() {
    let world = World::new("consent", pace()).await;
    world.consent_is_down(true);
    let body = json!({"subject_id": world.subject, "actor": "subject"});
    let (status, problem) = world.post("operator", "/v1/requests", &body, None).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["code"], "dependency_unavailable");
    assert_eq!(world.events(REQUESTED).await, 0);
    world.consent_is_down(false);
    assert_eq!(world.request("key").await.0, StatusCode::CREATED);
    world.stop().await;
}

#[tokio::test]
async fn an_unreachable_participant_shows_as_incomplete_until_its_answer_comes() {
    let pace = Pace { step_timeout: Duration::from_millis(400), ..pace() };
    let world = World::new("consent,vault", pace).await;
    let owned = json!({"name": "vault", "owner": "vault-team"});
    assert_eq!(world.post("operator", "/v1/participants", &owned, None).await.0, StatusCode::OK);
    let (_, request) = world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    world.ack(&fence, "consent", evidence(Step::Fence)).await;

    let view = world.until(request, "incomplete").await;
    assert_eq!(view["missing"], json!(["vault"]));
    let vault = &view["participants"][1];
    assert_eq!((&vault["name"], &vault["missing"][0]["overdue"]), (&json!("vault"), &json!(true)));
    assert_eq!(vault["owner"], "vault-team", "whom to turn to");
    // The fault is over when it hears one of the repeats: the same command once more.
    world.hears_again(fence.command_id, 3).await;
    let (status, answer) = world.ack(&fence, "vault", evidence(Step::Fence)).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("fencing")));
    for step in [Step::Delete, Step::Sweep] {
        world.answer_all(step).await;
    }
    world.until(request, "completed").await;
    world.stop().await;
}

#[tokio::test]
async fn stale_duplicate_and_foreign_answers_move_nothing() {
    let world = World::new("consent,vault", pace()).await;
    let (_, request) = world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    world.ack(&fence, "consent", evidence(Step::Fence)).await;
    world.ack(&fence, "vault", evidence(Step::Fence)).await;
    let delete = world.hears(Step::Delete, "vault").await;
    let before = world.view(request).await;

    let duplicate = world.ack(&fence, "vault", evidence(Step::Fence)).await;
    assert_eq!(duplicate.0, StatusCode::OK);
    let mut wrong_step = delete.clone();
    wrong_step.step = Step::Sweep;
    let mut unknown = delete.clone();
    unknown.command_id = Uuid::from_u128(9);
    for (command, reason) in [(wrong_step, "wrong_step"), (unknown, "unknown_command")] {
        let (status, problem) = world.ack(&command, "vault", evidence(Step::Delete)).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(
            (&problem["code"], &problem["reason"]),
            (&json!("ack_mismatch"), &json!(reason))
        );
    }
    let mut elsewhere = delete.clone();
    elsewhere.request_id = Uuid::from_u128(8);
    assert_eq!(
        world.ack(&elsewhere, "vault", evidence(Step::Delete)).await.0,
        StatusCode::NOT_FOUND
    );
    let (status, _) = world.ack_as("consent", &delete, "vault", evidence(Step::Delete)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "only its own key answers for a participant");
    let (status, problem) = world.ack(&delete, "stranger", evidence(Step::Delete)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("participant_unknown")));
    assert_eq!(world.view(request).await, before);

    for name in ["consent", "vault"] {
        world.ack(&delete, name, evidence(Step::Delete)).await;
    }
    let sweep = world.hears(Step::Sweep, "vault").await;
    let (status, problem) = world.ack(&sweep, "vault", evidence(Step::Delete)).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("not_empty")));
    world.stop().await;
}

#[tokio::test]
async fn many_answers_at_once_are_each_decided_as_if_it_had_come_alone() {
    let world = World::new("consent,vault", pace()).await;
    let (_, request) = world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    let ack = |request_id: Uuid, command_id: Uuid, participant: &str| {
        json!({"request_id": request_id, "ack": {"command_id": command_id, "step": "fence",
            "participant": participant, "evidence": evidence(Step::Fence)}})
    };
    let acks = [
        ack(request, fence.command_id, "consent"),
        ack(request, Uuid::from_u128(9), "vault"),
        ack(Uuid::from_u128(8), fence.command_id, "vault"),
        ack(request, fence.command_id, "vault"),
        ack(request, fence.command_id, "vault"),
    ];
    let (status, answer) = world.post("vault", "/v1/acks", &json!({"acks": acks}), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let outcomes = answer["outcomes"].as_array().unwrap();
    let refused: Vec<Option<&str>> = outcomes.iter().map(|it| it["refused"].as_str()).collect();
    let expected = [Some("forbidden"), Some("ack_mismatch"), Some("request_unknown"), None, None];
    assert_eq!(refused, expected, "{answer}");
    assert_eq!(world.view(request).await["missing"], json!(["consent"]));

    let acks = json!({"acks": [ack(request, fence.command_id, "consent")]});
    assert_eq!(world.post("consent", "/v1/acks", &acks, None).await.0, StatusCode::OK);
    world.hears(Step::Delete, "vault").await;
    let (status, problem) = world.post("vault", "/v1/acks", &json!({"acks": []}), None).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("validation_failed"))
    );
    world.stop().await;
}

#[tokio::test]
async fn a_saga_goes_on_after_a_restart_and_two_replicas_start_no_step_twice() {
    let mut world = World::new("consent,vault:keys", pace()).await;
    let (_, request) = world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    world.ack(&fence, "consent", evidence(Step::Fence)).await;
    world.kill().await; // The fault: the only process that knew of the open fence is gone.
    world.start().await;
    world.start().await;
    world.ack(&fence, "vault", evidence(Step::Fence)).await;
    for step in [Step::Delete, Step::DestroyKeys, Step::Sweep] {
        world.answer_all(step).await;
    }
    world.until(request, "completed").await;
    assert_eq!(world.events(STEP_STARTED).await, 4);
    world.stop().await;
}

#[tokio::test]
async fn a_newcomer_is_asked_before_completion_and_who_left_must_still_answer() {
    let world = World::new("consent,vault", pace()).await;
    let (_, request) = world.request("key").await;
    for step in [Step::Fence, Step::Delete] {
        world.answer_all(step).await;
    }
    let sweep = world.hears(Step::Sweep, "vault").await;
    let crm = json!({"name": "crm"});
    assert_eq!(world.post("operator", "/v1/participants", &crm, None).await.0, StatusCode::CREATED);
    assert_eq!(world.post("operator", "/v1/participants", &crm, None).await.0, StatusCode::OK);
    assert_eq!(world.leave("crm").await, StatusCode::NO_CONTENT);
    for name in ["consent", "vault"] {
        world.ack(&sweep, name, evidence(Step::Sweep)).await;
    }
    for step in [Step::Fence, Step::Delete, Step::Sweep] {
        let command = world.hears(step, "crm").await;
        assert_eq!(command.participants, ["crm"]);
        assert_eq!(world.view(request).await["status"], "sweeping");
        world.ack(&command, "crm", evidence(step)).await;
    }
    world.until(request, "completed").await;
    world.stop().await;
}

#[tokio::test]
async fn a_suspended_participants_answers_are_refused_and_it_is_waited_for() {
    let world = World::new("consent,vault", pace()).await;
    let (_, request) = world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    world.ack(&fence, "consent", evidence(Step::Fence)).await;
    let suspend = "/v1/participants/vault/suspend";
    let (status, view) = world.post("operator", suspend, &json!({}), None).await;
    assert_eq!((status, view["suspended_at"].is_string()), (StatusCode::OK, true));
    let (status, _) = world.post("vault", suspend, &json!({}), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "only who runs the deployment suspends");
    let unknown = "/v1/participants/nobody/suspend";
    assert_eq!(world.post("operator", unknown, &json!({}), None).await.0, StatusCode::NOT_FOUND);

    let (status, problem) = world.ack(&fence, "vault", evidence(Step::Fence)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));
    let view = world.view(request).await;
    assert_eq!((&view["status"], &view["missing"]), (&json!("fencing"), &json!(["vault"])));

    assert_eq!(world.get_as("vault", "/v1/erased").await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.get_as("consent", "/v1/erased").await.0, StatusCode::OK);

    // Another registration changes what it says, and lets nobody answer who couldn't.
    let new_key = json!({"name": "vault", "key_name": "crm"});
    let owner = json!({"name": "vault", "owner": "vault-team"});
    for registration in [&new_key, &owner] {
        let (_, view) = world.post("operator", "/v1/participants", registration, None).await;
        assert_eq!((&view["key_name"], view["suspended_at"].is_string()), (&json!("crm"), true));
    }
    let resume = "/v1/participants/vault/resume";
    assert_eq!(world.post("crm", resume, &json!({}), None).await.0, StatusCode::FORBIDDEN);
    let (status, view) = world.post("operator", resume, &json!({}), None).await;
    assert_eq!((status, view.get("suspended_at")), (StatusCode::OK, None), "{view}");
    let (status, _) = world.ack(&fence, "vault", evidence(Step::Fence)).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "the old key answers for nobody");
    let own_key = json!({"name": "vault", "key_name": "vault"});
    assert_eq!(world.post("operator", "/v1/participants", &own_key, None).await.0, StatusCode::OK);
    assert_eq!(world.ack(&fence, "vault", evidence(Step::Fence)).await.0, StatusCode::OK);
    for step in [Step::Delete, Step::Sweep] {
        world.answer_all(step).await;
    }
    world.until(request, "completed").await;
    world.stop().await;
}

#[tokio::test]
async fn no_answer_is_recorded_after_a_suspension_though_it_came_before() {
    // The saga itself doesn't look again: who waits for the registry is who answers.
    let never = Duration::from_secs(60);
    let world =
        World::new("consent,vault", Pace { retry: never, retry_max: never, ..pace() }).await;
    world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    // A suspension that isn't committed yet, as `suspend` makes it; the answer comes meanwhile.
    let mut suspending = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(0x4153_5345_4e54_0001_i64)
        .execute(&mut *suspending)
        .await
        .unwrap();
    sqlx::query("UPDATE participants SET suspended_at = now() WHERE name = 'vault'")
        .execute(&mut *suspending)
        .await
        .unwrap();
    let let_go = async {
        until("the answer waits", async || {
            let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'
                           AND mode = 'ShareLock' AND NOT granted AND database =
                           (SELECT oid FROM pg_database WHERE datname = current_database()))";
            sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap()
        })
        .await;
        suspending.commit().await.unwrap();
    };
    let ((status, problem), ()) =
        tokio::join!(world.ack(&fence, "vault", evidence(Step::Fence)), let_go);
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("forbidden")));

    // And `suspend` waits for whoever is recording.
    let mut recording = world.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock_shared($1)")
        .bind(0x4153_5345_4e54_0001_i64)
        .execute(&mut *recording)
        .await
        .unwrap();
    let let_go = async {
        until("the suspension waits", async || {
            let waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory'
                           AND mode = 'ExclusiveLock' AND NOT granted AND database =
                           (SELECT oid FROM pg_database WHERE datname = current_database()))";
            sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap()
        })
        .await;
        recording.commit().await.unwrap();
    };
    let suspend = "/v1/participants/consent/suspend";
    let body = json!({});
    let ((status, _), ()) = tokio::join!(world.post("operator", suspend, &body, None), let_go);
    assert_eq!(status, StatusCode::OK);
    world.stop().await;
}

#[tokio::test]
async fn a_deletion_names_how_far_the_log_reached_once_everyone_had_fenced() {
    let world = World::new("vault", pace()).await;
    world.request("key").await;
    let fence = world.hears(Step::Fence, "vault").await;
    let (partition, offset) = world.publish(CONSENT_EVENTS).await;
    world.ack(&fence, "vault", evidence(Step::Fence)).await;
    let delete = world.hears(Step::Delete, "vault").await;
    let topic = world.topic(CONSENT_EVENTS);
    assert_eq!(delete.barrier[&topic], BTreeMap::from([(partition, offset + 1)]));

    let mut behind = evidence(Step::Delete);
    behind.positions = BTreeMap::from([(topic.clone(), BTreeMap::from([(partition, offset)]))]);
    let (status, problem) = world.ack(&delete, "vault", behind).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("behind_barrier")));
    let mut reached = evidence(Step::Delete);
    reached.positions = BTreeMap::from([(topic, BTreeMap::from([(partition, offset + 1)]))]);
    assert_eq!(world.ack(&delete, "vault", reached).await.0, StatusCode::OK);
    world.stop().await;
}
