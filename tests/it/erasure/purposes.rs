//! An erasure of one purpose's data: asked for by commands that nobody can take for the erasure of a whole person,
//! proved like one, and beside one.

use assent_contracts::erasure::{REQUESTED, Step};
use assent_contracts::purposes::{PURPOSE_COMPLETED, PURPOSE_REQUESTED, PURPOSE_STEP_STARTED};
use assent_erasure::certificate;
use assent_runtime::{Clock as _, SystemClock};
use jiff::ToSpan as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, evidence, pace};

impl World {
    async fn erases_purpose(&self, purpose: &str) -> Uuid {
        let body = json!({"subject_id": self.subject, "actor": "subject", "purpose": purpose,
            "identity": {"method": "number_reply", "reason": "code_repeated"}});
        let (status, answer) = self.post("operator", "/v1/requests", &body, None).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        serde_json::from_value(answer["request_id"].clone()).unwrap()
    }

    async fn holds(&self, purpose: &str) -> Value {
        let review_on = SystemClock.now().to_zoned(jiff::tz::TimeZone::UTC).date() + 180.days();
        let body = json!({"subject_id": self.subject, "reason": "litigation",
            "review_on": review_on, "purpose": purpose});
        let (status, hold) = self.post("counsel", "/v1/holds", &body, None).await;
        assert_eq!(status, StatusCode::CREATED, "{hold}");
        hold
    }
}

#[tokio::test]
async fn one_purpose_is_stopped_erased_and_certified_and_nobody_is_told_to_forget_the_person() {
    let mut world = World::new("consent,vault:keys", pace()).await;
    let request = world.erases_purpose("newsletter").await;
    let stops = world.stops();
    assert_eq!((stops.len(), &stops[0]["purpose"]), (1, &json!("newsletter")));
    assert_eq!(stops[0]["channel"], "*");

    let fence = world.hears_for_purpose(Step::Fence, "vault").await;
    assert_eq!((&*fence.purpose, fence.subject_id), ("newsletter", world.subject));
    assert_eq!(fence.participants, ["consent", "vault"]);
    let (status, answer) = world.ack_for_purpose(&fence, "vault", evidence(Step::Fence)).await;
    assert_eq!((status, &answer["status"]), (StatusCode::OK, &json!("fencing")));
    // It goes on after a crash, from what is on record.
    world.kill().await;
    world.start().await;
    world.ack_for_purpose(&fence, "consent", evidence(Step::Fence)).await;
    for step in [Step::Delete, Step::Sweep] {
        let command = world.hears_for_purpose(step, "vault").await;
        assert_eq!(command.until, fence.until, "what was recorded up to the first command");
        // One of them answers among others, in a batch.
        world.ack_for_purpose(&command, "consent", evidence(step)).await;
        let unknown = json!({"request_id": Uuid::from_u128(8), "ack": {"step": step,
            "command_id": command.command_id, "participant": "vault", "evidence": evidence(step)}});
        let mut known = unknown.clone();
        known["request_id"] = json!(request);
        let acks = json!({"acks": [unknown, known]});
        let (status, answer) = world.post("vault", "/v1/acks", &acks, None).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["outcomes"][0]["refused"], "request_unknown");
        assert_eq!(answer["outcomes"][1]["refused"], Value::Null, "{answer}");
    }
    let view = world.until(request, "completed").await;
    assert_eq!((&view["purpose"], &view["missing"]), (&json!("newsletter"), &json!([])));

    let (_, file) = world.get(&format!("/v1/requests/{request}/certificate")).await;
    let (_, pem) = world.get("/v1/public-key").await;
    let key = assent_signing::public_key(&pem).unwrap();
    let certified = certificate::verify(file.as_bytes(), &key).unwrap();
    assert_eq!(certified.purpose.as_deref(), Some("newsletter"));
    assert_eq!(certified.keys_destroyed_at, None, "her key stays");
    let steps: Vec<Step> = certified.steps.iter().map(|step| step.step).collect();
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Sweep]);
    for language in ["en", "fr", "ru"] {
        let page = certificate::page(&certified, language).unwrap().unwrap();
        assert!(page.contains("newsletter"), "{page}");
    }

    // She is not erased: for nobody.
    assert_eq!(world.heard().len(), 0, "no command about the whole person: {:?}", world.heard());
    assert_eq!(world.events(REQUESTED).await, 0);
    let (_, erased) = world.get_as("vault", "/v1/erased").await;
    assert!(!erased.contains(&world.subject.to_string()), "{erased}");
    let (_, listed) = world.get("/v1/requests").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let first = &listed["items"][0];
    assert_eq!((&first["purpose"], &first["status"]), (&json!("newsletter"), &json!("completed")));
    assert_eq!(world.events(PURPOSE_COMPLETED).await, 1);

    // The whole person's erasure comes later, and has a certificate of its own.
    let (_, whole) = world.request("whole").await;
    for (step, names) in [
        (Step::Fence, vec!["consent", "vault"]),
        (Step::Delete, vec!["consent", "vault"]),
        (Step::DestroyKeys, vec!["vault"]),
        (Step::Sweep, vec!["consent", "vault"]),
    ] {
        let command = world.hears(step, "vault").await;
        for name in names {
            world.ack(&command, name, evidence(step)).await;
        }
    }
    world.until(whole, "completed").await;
    let (_, again) = world.get(&format!("/v1/requests/{request}/certificate")).await;
    assert_eq!(again, file, "what was certified stays");
    let (_, other) = world.get(&format!("/v1/requests/{whole}/certificate")).await;
    let other = certificate::verify(other.as_bytes(), &key).unwrap();
    assert_eq!((other.request_id, other.purpose), (whole, None));
    world.stop().await;
}

#[tokio::test]
async fn a_hold_on_a_purpose_keeps_that_purposes_erasure_waiting_and_no_others() {
    let world = World::new("vault", pace()).await;
    let hold = world.holds("orders").await;
    let orders = world.erases_purpose("orders").await;
    world.until(orders, "on_hold").await;
    let newsletter = world.erases_purpose("newsletter").await;
    let view = world.until(newsletter, "fencing").await;
    assert_eq!(view["held"], false, "the hold is about another purpose");
    let fence = world.hears_for_purpose(Step::Fence, "vault").await;
    assert_eq!(fence.request_id, newsletter);
    assert_eq!(world.events(PURPOSE_STEP_STARTED).await, 1, "the one on hold has not begun");

    let release = format!("/v1/holds/{}/release", hold["hold_id"].as_str().unwrap());
    let (status, _) = world.post("counsel", &release, &json!({"reason": "settled"}), None).await;
    assert_eq!(status, StatusCode::OK);
    world.until(orders, "fencing").await;
    world.stop().await;
}

#[tokio::test]
async fn only_an_erasure_that_a_person_asks_for_is_of_one_purpose() {
    let world = World::new("vault", pace()).await;
    let wrong = [
        ("operator", json!({"actor": "subject", "kind": "access", "purpose": "newsletter"})),
        ("operator", json!({"actor": "subject", "purpose": "Ada, +33612345678"})),
        ("ledger", json!({"actor": "system", "purpose": "newsletter"})),
    ];
    for (caller, mut body) in wrong {
        body["subject_id"] = json!(world.subject);
        let (status, problem) = world.post(caller, "/v1/requests", &body, None).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(problem["code"], "validation_failed");
    }
    assert_eq!((world.events(PURPOSE_REQUESTED).await, world.stops().len()), (0, 0));
    // Nobody is fenced for a request that nobody has proved.
    let body = json!({"subject_id": world.subject, "actor": "subject", "purpose": "newsletter"});
    let (status, answer) = world.post("operator", "/v1/requests", &body, None).await;
    assert_eq!((status, &answer["status"]), (StatusCode::CREATED, &json!("identity_pending")));
    assert_eq!(world.events(PURPOSE_REQUESTED).await, 0);
    world.stop().await;
}
