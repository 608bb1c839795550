//! G4 and G6: an erasure is whole or visibly not done, through a participant that doesn't answer, and
//! saga and participants killed at their steps; and nothing that is read again brings the person back.

use std::collections::BTreeMap;

use assent_contracts::erasure::Step;
use assent_erasure::certificate::{self, CertifiedAnswer};
use assent_http::ServiceClient;
use serde_json::{Value, json};

use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, Wishes};

/// Erasures begin for whoever has shown who she is.
fn checked() -> Value {
    json!({"method": "operator", "reason": "test"})
}

async fn request(cluster: &Cluster, subject: &str) -> String {
    let body = json!({"subject_id": subject, "actor": "operator", "identity": checked()});
    let (status, answer) = cluster.post("erasure", "/v1/requests", &body, Some(subject)).await;
    assert!(matches!(status, 200..=202), "{status}: {answer}");
    answer["request_id"].as_str().unwrap().to_owned()
}

async fn look(cluster: &Cluster, request: &str) -> Value {
    cluster.get("erasure", &format!("/v1/requests/{request}")).await.1
}

async fn completed(cluster: &Cluster, request: &str) -> Value {
    let mut view = Value::Null;
    until("the erasure is complete", async || {
        view = look(cluster, request).await;
        view["status"] == "completed"
    })
    .await;
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_an_erasure_with_a_silent_participant_is_visibly_incomplete_until_it_answers() {
    let mut cluster = Cluster::with(Wishes {
        settings: vec![("erasure", "step_timeout_ms = 1500"), ("erasure", "retry_ms = 500")],
        ..Wishes::default()
    })
    .await;
    let (person, subject) = cluster.willing().await;
    cluster.kill("projector");
    let request = request(&cluster, &subject).await;
    until("it shows as incomplete, and who is missing", async || {
        let view = look(&cluster, &request).await;
        view["status"] == "incomplete" && view["missing"] == json!(["projector"])
    })
    .await;
    let (status, _) = cluster.get("erasure", &format!("/v1/requests/{request}/certificate")).await;
    assert_ne!(status, 200, "no certificate for a part");
    // Stopped at once all the same.
    assert_eq!(cluster.send(&person).status, 1);

    cluster.restart("projector").await;
    let view = completed(&cluster, &request).await;
    assert_eq!(view["missing"], json!([]));
    let (status, _) = cluster.get("projector", &format!("/v1/contacts/{subject}")).await;
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_a_saga_killed_at_its_steps_goes_on_to_a_whole_erasure() {
    let mut cluster = Cluster::with(Wishes {
        settings: vec![("erasure", "retry_ms = 500")],
        ..Wishes::default()
    })
    .await;
    let failpoints = cluster.failpoints("erasure");
    for point in ["erasure.step_started", "erasure.ack_recorded", "erasure.before_certificate"] {
        let (_, subject) = cluster.willing().await;
        failpoints.set(&format!("{point}=kill"));
        // The kill may take the answer with it.
        let body = json!({"subject_id": subject, "actor": "operator", "identity": checked()});
        let asked = cluster.try_post("erasure", "/v1/requests", &body, Some(&subject)).await;
        cluster.process("erasure").died_of_sigkill().await;
        // More than once where two answers came at the same moment.
        assert!(!failpoints.struck(point).is_empty(), "{point}");
        failpoints.clear();
        cluster.restart("erasure").await;
        let request = request(&cluster, &subject).await;
        if let Ok((_, answer)) = asked {
            assert_eq!(answer["request_id"], request.as_str(), "a repeat gives the first answer");
        }
        let view = completed(&cluster, &request).await;
        for participant in view["participants"].as_array().unwrap() {
            let answered = participant["acknowledged"].as_array().unwrap();
            let swept = answered.iter().any(|progress| progress["step"] == json!(Step::Sweep));
            assert!(swept && participant["missing"] == json!([]), "{point}: {participant}");
        }
    }
}

/// What the alert on certificates counts: it is tried again, each time that fails is told, and nothing is called completed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn g4_an_erasure_whose_certificate_cannot_be_kept_is_counted_and_not_completed() {
    let cluster = Cluster::with(Wishes {
        settings: vec![("erasure", "retry_ms = 500")],
        ..Wishes::default()
    })
    .await;
    let (_, subject) = cluster.willing().await;
    let erasure = cluster.pool("erasure").await;
    sqlx::query("ALTER TABLE certificates ADD CONSTRAINT broken CHECK (false) NOT VALID")
        .execute(&erasure)
        .await
        .unwrap();
    let request = request(&cluster, &subject).await;
    until("it failed, and again", async || {
        let told = cluster.metrics("erasure").await;
        let line =
            told.lines().find(|it| it.starts_with("assent_erasure_certificate_failures_total{"));
        let failures = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        failures.is_some_and(|failures| failures >= 2.0)
    })
    .await;
    assert_ne!(look(&cluster, &request).await["status"], "completed");
    let path = format!("/v1/requests/{request}/certificate");
    let (status, answer) = cluster.get("erasure", &path).await;
    assert_eq!((status, &answer["code"]), (409, &json!("certificate_not_ready")));

    sqlx::query("ALTER TABLE certificates DROP CONSTRAINT broken").execute(&erasure).await.unwrap();
    completed(&cluster, &request).await;
    assert_eq!(cluster.get("erasure", &path).await.0, 200);
}

/// Every participant killed after the commit of each of its steps, before the saga has heard of it.
/// The saga repeats nothing meanwhile: what it hears comes from who came back.
#[tokio::test(flavor = "multi_thread")]
async fn g4_g6_participants_killed_after_each_of_their_steps_forget_her_all_the_same() {
    // Kafka soon gives the partitions of the dead to who came back.
    let settings = vec![("erasure", "retry_ms = 60000"), ("kafka", "session_timeout_ms = 1500")];
    let mut cluster = Cluster::with(Wishes { settings, ..Wishes::default() }).await;
    let (person, subject) = cluster.willing().await;
    assert_eq!(cluster.send(&person).status, 0);
    let point = |step: Step| format!("participant.{}.before_answer", step.name());
    let kills_from = |n: usize| {
        let points = STEPS.iter().skip(n).map(|(step, _)| format!("{}=kill", point(*step)));
        points.collect::<Vec<_>>().join("\n")
    };
    for participant in STEPS[0].1 {
        cluster.failpoints(participant).set(&kills_from(0));
    }
    // One for each time that her message was asked for.
    let permits: u64 = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM permit_batches, unnest(subjects) AS subject_id WHERE subject_id = $1::text::uuid",
    )
    .bind(&subject)
    .fetch_one(&cluster.pool("consent").await)
    .await
    .unwrap()
    .unsigned_abs();
    assert!(permits > 0);
    let request = request(&cluster, &subject).await;
    for (n, (step, participants)) in STEPS.into_iter().enumerate() {
        for participant in participants {
            cluster.process(participant).died_of_sigkill().await;
            let failpoints = cluster.failpoints(participant);
            assert_eq!(failpoints.struck(&point(step)).len(), 1, "{participant}, {step:?}");
            let view = look(&cluster, &request).await;
            let missing = view["missing"].as_array().unwrap();
            assert!(missing.contains(&json!(participant)), "{participant} told of its {step:?}");
            failpoints.set(&kills_from(n + 1));
            cluster.restart(participant).await;
        }
    }

    completed(&cluster, &request).await;
    // What was done is told as it was done: who came back didn't do it again and find nothing.
    let deleted = certified(&cluster, &request, Step::Delete).await;
    for (participant, kind, count) in [
        ("consent", "permits", permits),
        ("messaging", "intents", 1),
        ("projector", "messages", 1),
        ("vault", "people", 1),
    ] {
        assert_eq!(deleted[participant].evidence.counts[kind], count, "{participant}: {kind}");
    }
    assert_eq!(cluster.subject(&person).await, None);
    let again = cluster.import_file(&format!("phone\n{}\n", person.phone));
    assert_eq!(again.json["refused"], json!({"erased": 1}), "{}", again.text);
}

/// Who answers which steps.
const STEPS: [(Step, &[&str]); 4] = [
    (Step::Fence, &["consent", "messaging", "projector", "vault"]),
    (Step::Delete, &["consent", "messaging", "projector", "vault"]),
    (Step::DestroyKeys, &["vault"]),
    (Step::Sweep, &["consent", "messaging", "projector", "vault"]),
];

/// What each participant did for a step, as the certificate says.
async fn certified(
    cluster: &Cluster,
    request: &str,
    step: Step,
) -> BTreeMap<String, CertifiedAnswer> {
    let jws: String =
        sqlx::query_scalar("SELECT jws FROM certificates WHERE request_id = $1::text::uuid")
            .bind(request)
            .fetch_one(&cluster.pool("erasure").await)
            .await
            .unwrap();
    let pem = std::fs::read_to_string(cluster.public_key()).unwrap();
    let key = assent_signing::public_key(&pem).unwrap();
    let certified = certificate::verify(jws.as_bytes(), &key).unwrap();
    certified.steps.into_iter().find(|certified| certified.step == step).unwrap().participants
}

/// Every topic from zero into fresh read models, beside the live ones.
#[tokio::test(flavor = "multi_thread")]
async fn g6_g7_trap_13_a_replay_of_every_topic_after_an_erasure_brings_nobody_back() {
    let cluster = Cluster::start().await;
    let (kept, kept_subject) = cluster.willing().await;
    let (person, subject) = cluster.willing().await;
    for person in [&kept, &person] {
        assert_eq!(cluster.send(person).status, 0);
        assert_eq!(cluster.hears(person, "when do you open?").await, 200);
    }
    until("her messages are in the read model", async || {
        let messages =
            cluster.get("projector", &format!("/v1/messages?subject_id={subject}")).await;
        messages.1["items"].as_array().is_some_and(|items| items.len() == 2)
    })
    .await;
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(erased.json["status"], "completed", "{}", erased.text);

    for projection in ["contacts", "consents", "messages"] {
        cluster.rebuilt_the_same(projection);
        let held = async |subject: &str| {
            let path = format!("/v1/{projection}?subject_id={subject}");
            let (status, answer) = cluster.get("projector", &path).await;
            assert_eq!(status, 200, "{answer}");
            answer["items"].as_array().unwrap().len()
        };
        assert_eq!(held(&subject).await, 0, "{projection}");
        assert!(held(&kept_subject).await > 0, "{projection}: others are still there");
    }
    assert_eq!(cluster.subject(&person).await, None);
    assert!(cluster.subject(&kept).await.is_some());
}

/// Her START is held up on its way, her erasure begins, and it arrives: she said it before. What she says
/// afterwards makes her somebody new.
#[tokio::test(flavor = "multi_thread")]
async fn g6_a_start_from_before_an_erasure_that_arrives_after_it_brings_nobody_back() {
    const HELD: &str = "messaging.before_opt_in";
    let cluster = Cluster::start().await;
    let (person, subject) = cluster.willing().await;
    let failpoints = cluster.failpoints("messaging");
    failpoints.set(&format!("{HELD}=hold"));
    assert_eq!(cluster.hears(&person, "START").await, 200);
    failpoints.strikes(HELD).await;
    let request = request(&cluster, &subject).await;
    let messaging = cluster.pool("messaging").await;
    until("she is fenced", async || {
        let fences = "SELECT count(*) FROM fences WHERE subject_id = $1::text::uuid";
        let fences = sqlx::query_scalar::<_, i64>(fences).bind(&subject);
        fences.fetch_one(&messaging).await.unwrap() == 1
    })
    .await;
    // What she said before is heard to its end before anything is called deleted.
    assert_ne!(look(&cluster, &request).await["status"], "completed");
    failpoints.clear();
    cluster.declared().await;
    completed(&cluster, &request).await;
    assert_eq!(cluster.subject(&person).await, None);
    assert_eq!(cluster.hears(&person, "START").await, 200);
    cluster.declared().await;
    let somebody = cluster.subject(&person).await;
    assert!(somebody.is_some_and(|new| new != subject));
}

/// The incident must not be lost because she is erased meanwhile, and nothing of hers is written for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_ends_after_its_lease_is_on_record_though_she_is_fenced() {
    const ENDS: &str = "messaging.before_body_ends";
    let cluster = Cluster::start().await;
    let (_, subject) = cluster.willing().await;
    let failpoints = cluster.failpoints("messaging");
    failpoints.set(&format!("{ENDS}=hold"));
    let message = cluster.queue(&subject).await;
    failpoints.strikes(ENDS).await;
    let request = request(&cluster, &subject).await;
    until("everybody has fenced her", async || {
        let status = look(&cluster, &request).await["status"].clone();
        status != "requested" && status != "fencing"
    })
    .await;
    failpoints.clear();

    let messaging = cluster.pool("messaging").await;
    let mut incidents: Vec<(String, String)> = Vec::new();
    until("the incident is on record", async || {
        const INCIDENTS: &str = "
            SELECT stream::text, data->>'message_id' FROM eventstore.events
            WHERE event_type = 'assent.messaging.lease_overrun.v1'";
        incidents = sqlx::query_as(INCIDENTS).fetch_all(&messaging).await.unwrap();
        !incidents.is_empty()
    })
    .await;
    assert_eq!(incidents, [(message.clone(), message.clone())], "under no id of hers");
    completed(&cluster, &request).await;
    cluster.rebuilt_the_same("messages");
    let (shown,): (i64,) = sqlx::query_as("SELECT count(*) FROM live.messages")
        .fetch_one(&cluster.pool("projector").await)
        .await
        .unwrap();
    assert_eq!(shown, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn erasures_of_many_are_answered_together_and_each_has_its_certificate() {
    const PEOPLE: i64 = 30;
    let cluster = Cluster::start().await;
    let rows = (0..PEOPLE).map(|n| format!("+336{};Ada {n}\n", 40_000_000 + n * 7));
    let file = format!("phone;name\n{}", rows.collect::<String>());
    let imported = cluster.import_file(&file);
    assert_eq!(imported.json["created"], json!(PEOPLE), "{}", imported.text);
    let people: Vec<(String,)> = sqlx::query_as("SELECT subject_id::text FROM people")
        .fetch_all(&cluster.pool("vault").await)
        .await
        .unwrap();
    let saga = ServiceClient::new(&cluster.url("erasure"), &cluster.token().into()).unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for (subject,) in people {
        let saga = saga.clone();
        asking.spawn(async move {
            let body = json!({"subject_id": subject, "actor": "operator", "identity": checked()});
            saga.post::<_, Value>("/v1/requests", &body, Some(&subject)).await.map(|_| ())
        });
    }
    for asked in asking.join_all().await {
        asked.unwrap();
    }
    let pool = cluster.pool("erasure").await;
    until("everybody has a certificate", async || {
        let certificates = "SELECT count(*) FROM certificates";
        sqlx::query_scalar::<_, i64>(certificates).fetch_one(&pool).await.unwrap() == PEOPLE
    })
    .await;
    for service in ["consent", "vault", "messaging", "projector"] {
        // The transaction that wrote a row last is the one that closed it.
        const ANSWERED: &str = "
            SELECT count(*), count(DISTINCT xmin::text) FROM participant.commands
            WHERE answered_at IS NOT NULL";
        let (commands, answers): (i64, i64) =
            sqlx::query_as(ANSWERED).fetch_one(&cluster.pool(service).await).await.unwrap();
        assert!(answers < commands, "{service}: {commands} commands, each answered alone");
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM people")
        .fetch_one(&cluster.pool("vault").await)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
