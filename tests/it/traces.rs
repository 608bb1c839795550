//! One trace: from the HTTP request of whoever asked, through outbox and Kafka, into the read models
//! and the call of the provider.

use std::time::Duration;

use assent_runtime::{Ids as _, SystemIds};
use serde_json::{Value, json};

use assent_tests::cluster::{Cluster, TEMPLATE, Wishes, until};
use assent_tests::collector::{Collector, Span};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_one_trace_from_its_request_to_the_provider_and_the_read_model() {
    let collector = Collector::start().await;
    let cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "vault", "messaging", "projector"],
        traces: Some(collector.url.clone()),
        ..Wishes::default()
    })
    .await;
    let (person, subject) = cluster.willing().await;

    let grant = json!({"subject_id": subject, "purpose": "service", "channel": "whatsapp",
        "actor": "operator", "method": "api"});
    let granting = ask(&cluster, "/consent/v1/consents/grant", &grant).await;
    let message = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
        "template": TEMPLATE, "parameters": ["Ada"]});
    let sending = ask(&cluster, "/messaging/v1/messages", &message).await;
    until("it is with the provider", async || !cluster.delivered_to(&person).await.is_empty())
        .await;

    for (trace, expected) in [
        (
            &granting,
            &[
                ("gateway", "POST /{*path}", 1),
                ("consent", "POST /v1/consents/grant", 1),
                ("projector", "process consent.events.v1", 1),
            ][..],
        ),
        (
            &sending,
            &[
                ("gateway", "POST /{*path}", 1),
                ("messaging", "POST /v1/messages", 1),
                ("messaging", "dispatch", 1),
                ("vault", "POST /v1/addresses/resolve", 1),
                ("consent", "POST /v1/permits", 1),
                ("messaging", "provider call", 1),
                ("messaging", "process webhooks", 1),
                // Asked for, accepted and what WhatsApp told since: events that may be in one batch.
                ("projector", "process messaging.events.v1", 1),
            ],
        ),
    ] {
        let mut spans = Vec::new();
        until(&format!("the whole trace is exported: {expected:?}"), async || {
            spans = collector.spans();
            spans.retain(|span| span.belongs_to(trace));
            // Of one piece: what names a parent names one that is there, up to the caller's own
            // span. A parent ends after its child, and may be exported later.
            let of_one_piece = spans.iter().filter(|span| span.trace == *trace).all(|span| {
                span.parent == CALLER || spans.iter().any(|other| other.id == span.parent)
            });
            of_one_piece
                && expected.iter().all(|(service, name, n)| named(&spans, service, name) >= *n)
        })
        .await;
    }

    // Every event of the message carries its trace, also what a webhook told, and so does the call that the provider got.
    let messaging = cluster.pool("messaging").await;
    until("it was accepted, and delivered", async || {
        let told: Vec<(String, Option<String>)> = sqlx::query_as(
            "SELECT DISTINCT event_type, substr(traceparent, 4, 32) FROM eventstore.events
             WHERE stream = $1::uuid AND
             event_type IN ('assent.messaging.message_requested.v1',
                            'assent.messaging.message_accepted.v1',
                            'assent.messaging.status_changed.v1')",
        )
        .bind(&subject)
        .fetch_all(&messaging)
        .await
        .unwrap();
        assert!(told.iter().all(|(_, trace)| trace.as_ref() == Some(&sending)), "{told:?}");
        told.len() == 3
    })
    .await;
    let call = &cluster.delivered_to(&person).await[0];
    assert_eq!(&call["traceparent"].as_str().expect("it carries a trace")[3..35], sending);
}

/// What is sent together is one batch in a trace of its own, and each of its messages' traces leads to it; the call of each
/// stays with its message. So it is with the webhooks that tell of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_linked_to_the_trace_of_each_message_in_it() {
    const HELD: &str = "messaging.after_permit";
    let collector = Collector::start().await;
    let cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "vault", "messaging"],
        settings: vec![("messaging", "send_batches = 1")],
        traces: Some(collector.url.clone()),
        ..Wishes::default()
    })
    .await;
    let mut people = Vec::new();
    for _ in 0..4 {
        people.push(cluster.willing().await.1);
    }
    let message = |subject: &String| {
        json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
            "template": TEMPLATE, "parameters": ["Ada"]})
    };
    // The one batch that may be under way is held; what is asked for meanwhile is the next.
    let failpoints = cluster.failpoints("messaging");
    failpoints.set(&format!("{HELD}=hold"));
    ask(&cluster, "/messaging/v1/messages", &message(&people[0])).await;
    failpoints.strikes(HELD).await;
    let mut traces = Vec::new();
    for subject in &people[1..] {
        traces.push(ask(&cluster, "/messaging/v1/messages", &message(subject)).await);
    }
    failpoints.clear();

    let mut batch = None;
    until("the batch is exported, its parts, and what became of each message", async || {
        let spans = collector.spans();
        let is_batch = |span: &&Span| {
            span.name == "dispatch" && traces.iter().all(|trace| span.links.contains(trace))
        };
        batch = spans.iter().find(is_batch).cloned();
        let Some(batch) = &batch else { return false };
        let within: Vec<Span> =
            spans.iter().filter(|it| it.trace == batch.trace).cloned().collect();
        named(&within, "vault", "POST /v1/addresses/resolve") > 0
            && named(&within, "consent", "POST /v1/permits") > 0
            && traces.iter().all(|trace| {
                let hers = |it: &&Span| it.belongs_to(trace);
                let hers: Vec<Span> = spans.iter().filter(hers).cloned().collect();
                named(&hers, "messaging", "provider call") > 0
                    && named(&hers, "messaging", "process webhooks") > 0
            })
    })
    .await;
    let batch = batch.unwrap();
    assert!(!traces.contains(&batch.trace), "it is nobody's own");
}

/// A person's stream holds many requests; what follows from one isn't shown in the trace of another.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_from_a_request_belongs_to_its_trace() {
    let collector = Collector::start().await;
    let cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "erasure"],
        traces: Some(collector.url.clone()),
        ..Wishes::default()
    })
    .await;
    let subject = SystemIds.v4().to_string();
    let erase = json!({"subject_id": subject, "actor": "subject", "kind": "erasure"});
    let first = ask(&cluster, "/erasure/v1/requests", &erase).await;
    let mut checked = erase.clone();
    checked["identity"] = json!({"method": "operator", "reason": "called_back"});
    let second = ask(&cluster, "/erasure/v1/requests", &checked).await;
    let erasure = cluster.pool("erasure").await;
    let mut found: Vec<(String, String)> = Vec::new();
    until("the erasure has begun", async || {
        found = sqlx::query_as(
            "SELECT event_type, traceparent FROM eventstore.events
             WHERE stream = $1::uuid ORDER BY version",
        )
        .bind(&subject)
        .fetch_all(&erasure)
        .await
        .unwrap();
        found.len() >= 5
    })
    .await;
    let told = |(event, trace): &(String, String)| {
        (event.strip_prefix("assent.erasure.").unwrap().to_owned(), trace[3..35].to_owned())
    };
    let of = |event: &str, trace: &String| (event.to_owned(), trace.clone());
    assert_eq!(
        found.iter().take(5).map(told).collect::<Vec<_>>(),
        [
            of("request_opened.v1", &first),
            of("request_opened.v1", &second),
            of("identity_confirmed.v1", &second),
            of("requested.v1", &second),
            // The driver, in no trace of its own.
            of("step_started.v1", &second),
        ]
    );
}

/// The span of a caller outside.
const CALLER: &str = "00f067aa0ba902b7";

/// Posts through the gateway as a part of a new trace, and gives its id.
async fn ask(cluster: &Cluster, path: &str, body: &Value) -> String {
    let trace = SystemIds.v4().simple().to_string();
    let limit = Duration::from_secs(30);
    let http = assent_http::client::http_client(limit, limit).unwrap();
    let answer = http
        .post(format!("{}{path}", cluster.url("gateway")))
        .bearer_auth(cluster.token())
        .header("traceparent", format!("00-{trace}-{CALLER}-01"))
        .json(body)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {}", answer.text().await.unwrap());
    trace
}

fn named(spans: &[Span], service: &str, name: &str) -> usize {
    spans.iter().filter(|span| span.service == service && span.name == name).count()
}
