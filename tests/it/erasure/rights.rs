//! Requests of every kind against real Postgres and Kafka: intake, identity, terms, refusal, tracking.

use assent_contracts::erasure::{REQUESTED, Step};
use assent_contracts::rights::{
    IDENTITY_CONFIRMED, REQUEST_EXTENDED, REQUEST_OPENED, REQUEST_REFUSED, RequestKind,
};
use assent_runtime::{Clock as _, SystemClock};
use jiff::SignedDuration;
use reqwest::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::world::{World, pace};

impl World {
    /// Takes a request of this kind in.
    pub async fn open(&self, kind: &str, more: Value) -> (StatusCode, Value) {
        let mut body = json!({"subject_id": self.subject, "kind": kind, "actor": "subject"});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.post("operator", "/v1/requests", &body, None).await
    }

    pub async fn does(&self, request: &Value, what: &str, body: Value) -> (StatusCode, Value) {
        let id = request["request_id"].as_str().unwrap();
        self.post("operator", &format!("/v1/requests/{id}/{what}"), &body, None).await
    }

    pub async fn tracks(&self, reference: &Value, secret: &Value) -> (StatusCode, Value) {
        let guess = json!({"reference": reference, "secret": secret});
        self.post("operator", "/v1/tracking", &guess, None).await
    }

    async fn lists(&self, query: &str) -> Value {
        let (status, text) = self.get(&format!("/v1/requests{query}")).await;
        assert_eq!(status, StatusCode::OK, "{text}");
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn a_request_of_every_kind_is_taken_in_shown_tracked_and_answered() {
    let world = World::new("consent", pace()).await;
    for kind in RequestKind::ALL {
        let stops = world.stops().len();
        let (status, opened) = world.open(kind.name(), json!({"place": "FR"})).await;
        assert_eq!((status, &opened["status"]), (StatusCode::CREATED, &json!("identity_pending")));
        let stopped = world.stops().len() - stops;
        assert_eq!(stopped == 1, kind.stops_marketing(), "{kind:?}: {stopped}");
        let (status, tracked) = world.tracks(&opened["reference"], &opened["secret"]).await;
        assert_eq!((status, &tracked["kind"]), (StatusCode::OK, &json!(kind)));
        assert_eq!(tracked["due"], opened["due"]);
        if kind == RequestKind::Erasure {
            continue;
        }
        if !kind.is_done_at_intake() {
            let (status, problem) = world.does(&opened, "answer", json!({})).await;
            let reason = json!("identity_pending");
            assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &reason));
        }
        let check = json!({"method": "signed_link", "reason": "link_followed"});
        let (status, view) = world.does(&opened, "identity", check).await;
        assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("open")));
        assert_eq!((&view["identity"]["by"], &view["known"]), (&json!("operator"), &json!(true)));
        // What is restricted is so at the gate; the answer to that comes with it.
        let done = if kind == RequestKind::Restriction { "restriction" } else { "answer" };
        for _ in 0..2 {
            let (status, view) = world.does(&opened, done, json!({})).await;
            assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("answered")));
        }
        let (_, tracked) = world.tracks(&opened["reference"], &opened["secret"]).await;
        assert_eq!(tracked["status"], "answered");
    }
    assert_eq!(world.events(REQUESTED).await, 0, "nobody was erased");
    world.stop().await;
}

#[tokio::test]
async fn trap_19_a_forged_erasure_request_stops_marketing_and_erases_nobody() {
    let world = World::new("vault", pace()).await;
    let (_, forged) = world.open("erasure", json!({})).await;
    assert_eq!(world.stops().len(), 1);
    let (_, again) = world.open("erasure", json!({})).await;
    for mine in ["request_id", "reference", "secret"] {
        assert_ne!(again[mine], forged[mine], "who asks second gets nobody else's {mine}");
    }
    let ground = json!({"ground": "legal_claims"});
    let (status, problem) = world.does(&forged, "refusal", ground).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("ground_tells")));
    let ground = json!({"ground": "identity_not_shown"});
    let (status, view) = world.does(&forged, "refusal", ground).await;
    assert_eq!((status, &view["status"]), (StatusCode::OK, &json!("refused")));
    let letter = view["refusal"]["letter"]["fr"].as_str().unwrap();
    assert!(letter.contains("CNIL") && letter.contains("https://www.cnil.fr/"), "{letter}");

    // Hers comes later and is confirmed: now the saga begins, under its id.
    let (_, hers) = world.open("erasure", json!({})).await;
    assert_ne!(hers["request_id"], forged["request_id"]);
    assert_eq!(world.events(REQUESTED).await, 0);
    let check = json!({"method": "number_reply", "reason": "code_repeated"});
    assert_eq!(world.does(&hers, "identity", check).await.0, StatusCode::OK);
    let fence = world.hears(Step::Fence, "vault").await;
    assert_eq!(json!(fence.request_id), hers["request_id"]);
    assert_eq!(world.events(REQUEST_REFUSED).await, 1);
    assert_eq!(world.events(IDENTITY_CONFIRMED).await, 1);
    world.stop().await;
}

#[tokio::test]
async fn trap_19_a_wrong_guess_says_nothing_about_who_is_known() {
    let world = World::new("consent", pace()).await;
    let names = |it: &Value| it.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let tokens = json!([format!("1.{}", "a".repeat(64))]);
    let (mut known, mut unknown) = (Value::Null, Value::Null);
    // However often, for every kind, with a check and without: it looks the same.
    let check = json!({"method": "operator", "reason": "known_customer"});
    for (kind, identity) in RequestKind::ALL.map(|kind| (kind, Value::Null)).into_iter().chain([
        (RequestKind::Erasure, Value::Null),
        (RequestKind::Erasure, check.clone()),
        (RequestKind::Erasure, check),
        (RequestKind::Access, Value::Null),
    ]) {
        let stops = world.stops().len();
        let told = world.open(kind.name(), json!({"identity": identity})).await;
        let stopped = world.stops().len();
        let nobody = json!({"kind": kind, "actor": "subject", "identity": identity,
            "addresses": tokens});
        let as_if = world.post("operator", "/v1/requests", &nobody, None).await;
        assert_eq!((told.0, names(&told.1)), (as_if.0, names(&as_if.1)), "{kind:?}");
        assert_eq!(told.1["status"], as_if.1["status"], "{kind:?}");
        // Either is told that it has settled, so either waits for the same lease.
        assert_eq!(stopped - stops, world.stops().len() - stopped, "{kind:?}");
        let tracked = world.tracks(&told.1["reference"], &told.1["secret"]).await.1;
        let as_if_tracked = world.tracks(&as_if.1["reference"], &as_if.1["secret"]).await.1;
        assert_eq!(names(&tracked), names(&as_if_tracked), "{kind:?}");
        assert_eq!(tracked["status"], as_if_tracked["status"], "{kind:?}");
        (known, unknown) = (told.1, as_if.1);
    }
    let mut wrong = Vec::new();
    for (reference, secret) in [
        (&known["reference"], &unknown["secret"]),
        (&known["reference"], &json!("")),
        (&json!("00000-00000"), &known["secret"]),
    ] {
        wrong.push(world.tracks(reference, secret).await);
    }
    assert!(wrong.iter().all(|(status, it)| *status == StatusCode::NOT_FOUND && it == &wrong[0].1));

    let ground = json!({"ground": "nothing_held"});
    assert_eq!(world.does(&unknown, "refusal", ground).await.0, StatusCode::CONFLICT);
    world.stop().await;
}

#[tokio::test]
async fn trap_12_neither_the_secret_nor_free_text_of_a_request_is_kept() {
    let world = World::new("consent", pace()).await;
    let (_, opened) = world.open("access", json!({"reason": "curious"})).await;
    for free in ["Ana called", "+33639980001", "ana@example.org", ""] {
        let (status, _) = world.open("access", json!({"reason": free})).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{free}");
        let check = json!({"method": "operator", "reason": free});
        let (status, _) = world.does(&opened, "identity", check).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{free}");
    }
    let kept = world.all_that_is_kept().await;
    assert!(kept.contains("curious"), "this looks at the right rows");
    assert!(!kept.contains(opened["secret"].as_str().unwrap()));
    world.stop().await;
}

#[tokio::test]
async fn repeating_an_intake_gives_the_first_answer_with_its_secret() {
    let world = World::new("vault", pace()).await;
    let body = json!({"subject_id": world.subject, "kind": "erasure", "actor": "subject"});
    let first = world.post("operator", "/v1/requests", &body, Some("one")).await;
    assert_eq!(world.post("operator", "/v1/requests", &body, Some("one")).await, first);
    // One that comes with a check begins the erasure; its repeat says what was said then.
    let mut checked = body.clone();
    checked["identity"] = json!({"method": "operator", "reason": "called_back"});
    let second = world.post("operator", "/v1/requests", &checked, Some("two")).await;
    assert_eq!((second.0, &second.1["status"]), (StatusCode::CREATED, &json!("open")));
    world.hears(Step::Fence, "vault").await;
    assert_eq!(world.post("operator", "/v1/requests", &checked, Some("two")).await, second);
    assert_eq!(world.post("operator", "/v1/requests", &body, Some("one")).await, first);
    let nobody = json!({"kind": "access", "actor": "subject"});
    let third = world.post("operator", "/v1/requests", &nobody, Some("three")).await;
    assert_eq!(world.post("operator", "/v1/requests", &nobody, Some("three")).await, third);
    assert_eq!(world.events(REQUEST_OPENED).await, 3);
    world.stop().await;
}

#[tokio::test]
async fn trap_14_a_term_comes_from_the_rules_and_is_extended_only_while_it_runs() {
    let world = World::new("consent", pace()).await;
    let (_, running) = world.open("access", json!({"place": "FR"})).await;
    let extend = json!({"reasons": ["complexity"]});
    let (status, view) = world.does(&running, "extension", extend.clone()).await;
    assert_eq!((status, &view["extension"]["reasons"]), (StatusCode::OK, &json!(["complexity"])));
    let letter = view["extension"]["letter"]["fr"].as_str().unwrap();
    assert!(letter.contains("complexe"), "{letter}");
    let repeated = world.does(&running, "extension", extend.clone()).await;
    assert_eq!(repeated, (StatusCode::OK, view.clone()));
    assert_eq!(view["terms"]["answer"]["rule"], "gdpr-answer");
    assert_eq!(view["due"], view["terms"]["extended"]["over_at"]);
    let none = world.does(&running, "extension", json!({"reasons": []})).await;
    assert_eq!((none.0, &none.1["reason"]), (StatusCode::CONFLICT, &json!("extended_already")));

    world.came_days_ago(60);
    let (_, late) = world.open("access", json!({"place": "FR"})).await;
    let (status, problem) = world.does(&late, "extension", extend).await;
    assert_eq!((status, &problem["reason"]), (StatusCode::CONFLICT, &json!("term_over")));
    assert_eq!(world.events(REQUEST_EXTENDED).await, 1);
    world.stop().await;
}

#[tokio::test]
async fn an_opt_out_of_sale_in_california_needs_no_proof_and_other_requests_are_acknowledged() {
    let world = World::new("consent", pace()).await;
    let (_, opened) = world.open("opt_out", json!({"place": "US-CA"})).await;
    assert_eq!(opened["status"], "open");
    assert_eq!(world.stops().len(), 1, "it has stopped before the answer");
    let (_, access) = world.open("access", json!({"place": "US-CA"})).await;
    let waits = |listed: &Value| {
        let items = listed["items"].as_array().unwrap().iter();
        let waits = items.filter(|it| it["acknowledge_by"].is_string());
        waits.map(|it| it["request_id"].clone()).collect::<Vec<_>>()
    };
    let access_alone = [access["request_id"].clone()];
    assert_eq!(waits(&world.lists("?order=due").await), access_alone, "an opt-out is followed");
    for request in [&opened, &access] {
        let (status, view) = world.does(request, "acknowledgement", json!({})).await;
        assert_eq!((status, view["acknowledged_at"].is_string()), (StatusCode::OK, true));
    }
    assert_eq!(waits(&world.lists("?order=due").await), Vec::<Value>::new());
    world.stop().await;
}

#[tokio::test]
async fn what_is_due_next_is_listed_first_page_by_page_and_counted() {
    let world = World::new("consent", pace()).await;
    let mut expected = Vec::new();
    for (days, kind) in [(0, "access"), (60, "portability"), (25, "rectification"), (90, "access")]
    {
        world.came_days_ago(days);
        let (_, opened) = world.open(kind, json!({})).await;
        expected.push((std::cmp::Reverse(days), opened["request_id"].clone()));
    }
    world.came_days_ago(120);
    let (_, over) = world.open("restriction", json!({})).await;
    world.does(&over, "refusal", json!({"ground": "excessive"})).await;
    expected.sort_by_key(|(days, _)| *days);
    let mut found = Vec::new();
    let mut query = "?order=due&limit=2".to_owned();
    loop {
        let page = world.lists(&query).await;
        found.extend(page["items"].as_array().unwrap().iter().map(|it| it["request_id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?order=due&limit=2&cursor={next}");
    }
    assert_eq!(found, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    let newest = world.lists("").await;
    assert_eq!(newest["items"][0]["request_id"], over["request_id"]);
    assert_eq!(newest["items"].as_array().unwrap().len(), 5);

    let due = world.due().await;
    let count = |kind: &str| {
        let it = due.requests[kind];
        (it.open, it.due_soon, it.overdue)
    };
    assert_eq!(count("access"), (2, 0, 1));
    assert_eq!(count("portability"), (1, 0, 1));
    assert_eq!(count("rectification"), (1, 1, 0));
    assert_eq!(count("restriction"), (0, 0, 0));
    world.stop().await;
}

#[tokio::test]
async fn without_the_rules_nothing_is_taken_in_and_a_place_that_is_none_is_refused() {
    let world = World::new("consent", pace()).await;
    world.consent_is_down(true);
    let (status, problem) = world.open("access", json!({})).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["code"], "dependency_unavailable");
    world.consent_is_down(false);
    let unknown = json!({"request_id": Uuid::from_u128(5)});
    let (status, problem) = world.does(&unknown, "answer", json!({})).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("request_unknown")));
    assert_eq!(world.events(REQUEST_OPENED).await, 0);
    world.stop().await;
}

#[tokio::test]
async fn that_nobody_asked_is_the_word_of_the_ledger_alone_and_a_forged_request_does_not_hinder_it()
{
    let world = World::new("vault", pace()).await;
    let (_, forged) = world.open("erasure", json!({})).await;
    let unasked = json!({"subject_id": world.subject, "actor": "system", "reason": "retention"});
    let (status, _) = world.post("operator", "/v1/requests", &unasked, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "erasure:write doesn't say so");
    let asked = json!({"subject_id": world.subject, "actor": "subject"});
    let (status, _) = world.post("ledger", "/v1/requests", &asked, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "nor does the ledger ask for anybody");
    let mut access = unasked.clone();
    access["kind"] = json!("access");
    let (status, _) = world.post("ledger", "/v1/requests", &access, None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(world.events(REQUESTED).await, 0);
    let (status, begun) = world.post("ledger", "/v1/requests", &unasked, Some("one")).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_ne!(begun["request_id"], forged["request_id"]);
    let fence = world.hears(Step::Fence, "vault").await;
    assert_eq!(json!(fence.request_id), begun["request_id"]);
    world.stop().await;
}

#[tokio::test]
async fn a_key_or_a_service_of_before_is_an_absent_dependency_and_nothing_is_stopped() {
    let world = World::new("consent", pace()).await;
    for refuses in [403, 404] {
        world.terms_are_refused(refuses);
        let (status, problem) = world.open("erasure", json!({})).await;
        let code = json!("dependency_unavailable");
        assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &code));
    }
    assert_eq!((world.stops().len(), world.events(REQUEST_OPENED).await), (0, 0));
    world.terms_are_refused(0);
    assert_eq!(world.open("erasure", json!({})).await.0, StatusCode::CREATED);
    world.stop().await;
}

#[tokio::test]
async fn an_erasure_that_a_replica_of_before_completed_is_not_due() {
    let world = World::new("vault", pace()).await;
    let (_, request) = world.request("key").await;
    assert_eq!(world.due().await.requests["erasure"].open, 1);
    world.complete_as_before(request).await;
    assert_eq!(world.due().await.requests["erasure"].open, 0);
    assert_eq!(world.lists("?order=due").await["items"], json!([]));
    let newest = world.lists("").await;
    assert_eq!(newest["items"][0]["status"], "completed");
    assert!(newest["items"][0]["completed_at"].is_string());
    world.stop().await;
}

#[tokio::test]
async fn what_must_be_acknowledged_and_was_not_is_counted() {
    let world = World::new("consent", pace()).await;
    let (_, access) = world.open("access", json!({"place": "US-CA"})).await;
    let later = SystemClock.now() + SignedDuration::from_hours(24 * 20);
    let unacknowledged = async |at| world.due_at(at).await.requests["access"].unacknowledged;
    assert_eq!(unacknowledged(SystemClock.now()).await, 0);
    assert_eq!(unacknowledged(later).await, 1);
    world.does(&access, "acknowledgement", json!({})).await;
    assert_eq!(unacknowledged(later).await, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_repeat_answers_for_the_request_that_stood_when_the_first_was_given() {
    let world = World::new("vault", pace()).await;
    let unasked = json!({"subject_id": world.subject, "actor": "system", "reason": "retention"});
    let begun = world.post("ledger", "/v1/requests", &unasked, Some("one")).await;
    // It finds the one that stands, and changes nothing.
    let again = world.post("ledger", "/v1/requests", &unasked, Some("two")).await;
    assert_eq!((again.0, &again.1["request_id"]), (StatusCode::OK, &begun.1["request_id"]));
    assert_eq!(again.1["secret"], Value::Null);
    let (_, request) = world.request("key").await;
    for step in [Step::Fence, Step::Delete, Step::Sweep] {
        world.answer_all(step).await;
    }
    world.until(request, "answered").await;
    assert_eq!(world.post("ledger", "/v1/requests", &unasked, Some("one")).await, begun);
    assert_eq!(world.post("ledger", "/v1/requests", &unasked, Some("two")).await, again);
    // Both were answered by the one erasure, and so by its certificate.
    let certificate =
        async |request: &str| world.get(&format!("/v1/requests/{request}/certificate")).await;
    let begun = certificate(begun.1["request_id"].as_str().unwrap()).await;
    assert_eq!((begun.0, certificate(&request.to_string()).await), (StatusCode::OK, begun));
    world.stop().await;
}

#[tokio::test]
async fn a_request_that_stops_stops_a_number_that_nobody_here_has() {
    let world = World::new("consent", pace()).await;
    let token = format!("1.{}", "b".repeat(64));
    for kind in RequestKind::ALL {
        let stops = world.stops().len();
        let nobody = json!({"kind": kind, "actor": "subject", "addresses": [token]});
        let (status, _) = world.post("operator", "/v1/requests", &nobody, None).await;
        assert_eq!(status, StatusCode::CREATED);
        let heard = world.stops().split_off(stops);
        assert_eq!(heard.len() == 1, kind.stops_marketing(), "{kind:?}");
        if let Some(heard) = heard.first() {
            let stop = &heard["stops"][0];
            assert_eq!((&stop["addresses"], &stop["kind"]), (&json!([token]), &json!("stopped")));
        }
    }
    assert!(!world.all_that_is_kept().await.contains(&token), "no token is kept here");
    let many = json!({"kind": "erasure", "actor": "subject", "addresses": vec![token; 33]});
    let (status, _) = world.post("operator", "/v1/requests", &many, None).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    world.stop().await;
}

#[tokio::test]
async fn the_clock_of_the_law_runs_from_the_receipt_on() {
    let world = World::new("vault", pace()).await;
    let received = SystemClock.now() - SignedDuration::from_hours(24 * 10);
    let (_, now) = world.open("access", json!({})).await;
    let (_, earlier) = world.open("access", json!({"received_at": received})).await;
    assert!(earlier["due"].as_str() < now["due"].as_str(), "{earlier} {now}");
    let future = SystemClock.now() + SignedDuration::from_hours(1);
    let (status, _) = world.open("access", json!({"received_at": future})).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);

    let check = json!({"method": "operator", "reason": "letter_of_hers"});
    let (_, erasure) =
        world.open("erasure", json!({"received_at": received, "identity": check})).await;
    let request: Uuid = serde_json::from_value(erasure["request_id"].clone()).unwrap();
    for step in [Step::Fence, Step::Delete, Step::Sweep] {
        world.answer_all(step).await;
    }
    let view = world.until(request, "completed").await;
    let at = |it: &Value| it.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(at(&view["requested_at"]), received);
    assert!(at(&view["recorded_at"]) > received);
    let (_, file) = world.get(&format!("/v1/requests/{request}/certificate")).await;
    let (_, pem) = world.get("/v1/public-key").await;
    let key = assent_signing::public_key(&pem).unwrap();
    let certified = assent_erasure::certificate::verify(file.as_bytes(), &key).unwrap();
    assert_eq!(certified.requested_at, received);
    let (_, erased) = world.get("/v1/erased").await;
    let erased: Value = serde_json::from_str(&erased).unwrap();
    assert_eq!(at(&erased["items"][0]["requested_at"]), received);
    let (_, listed) = world.get("/v1/requests").await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(at(&listed["items"][0]["requested_at"]), received);
    world.stop().await;
}

#[tokio::test]
async fn the_law_of_her_numbers_country_counts_unless_she_says_where_she_is() {
    let world = World::new("consent", pace()).await;
    let of_law = async |more: Value| {
        let (_, opened) = world.open("access", more).await;
        let id: Uuid = serde_json::from_value(opened["request_id"].clone()).unwrap();
        world.view(id).await["terms"]["answer"]["rule"].clone()
    };
    assert_eq!(of_law(json!({})).await, "gdpr-answer");
    assert_eq!(of_law(json!({"number_country": "BR"})).await, "lgpd-answer");
    let stated = json!({"number_country": "BR", "place": "FR"});
    assert_eq!(of_law(stated).await, "gdpr-answer");
    world.stop().await;
}

#[tokio::test]
async fn who_takes_requests_in_neither_vouches_nor_decides() {
    let world = World::new("vault", pace()).await;
    let check = json!({"method": "operator", "reason": "known_customer"});
    let mut body = json!({"subject_id": world.subject, "kind": "erasure", "actor": "subject"});
    let (status, opened) = world.post("intake", "/v1/requests", &body, None).await;
    assert_eq!(status, StatusCode::CREATED);
    body["identity"] = check.clone();
    let (status, _) = world.post("intake", "/v1/requests", &body, None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let id = opened["request_id"].as_str().unwrap();
    for (what, body) in [
        ("identity", check),
        ("extension", json!({"reasons": ["complexity"]})),
        ("refusal", json!({"ground": "identity_not_shown"})),
        ("answer", json!({})),
    ] {
        let path = format!("/v1/requests/{id}/{what}");
        let (status, _) = world.post("intake", &path, &body, None).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{what}");
    }
    let path = format!("/v1/requests/{id}/acknowledgement");
    assert_eq!(world.post("intake", &path, &json!({}), None).await.0, StatusCode::OK);
    assert_eq!((world.events(REQUESTED).await, world.events(REQUEST_REFUSED).await), (0, 0));
    world.stop().await;
}

#[tokio::test]
async fn events_name_a_caller_by_her_key_and_views_by_her_name() {
    let world = World::new("vault", pace()).await;
    let (_, opened) = world.open("access", json!({})).await;
    let check = json!({"method": "signed_link", "reason": "link_followed"});
    let (_, view) = world.does(&opened, "identity", check).await;
    assert_eq!(view["identity"]["by"], "operator");
    let confirmed = world.data_of(IDENTITY_CONFIRMED).await;
    assert_eq!(confirmed["key"].as_str().unwrap().len(), 16);
    assert!(!confirmed.to_string().contains("operator"), "{confirmed}");
    world.stop().await;
}
