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
                // Asked for and accepted: two events, perhaps in one batch.
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

    // Both events of the message carry its trace, and so does the call that the provider got.
    let messaging = cluster.pool("messaging").await;
    until("it was accepted", async || {
        let traces: Vec<String> = sqlx::query_scalar(
            "SELECT traceparent FROM eventstore.events WHERE stream = $1::uuid AND
             event_type IN ('assent.messaging.message_requested.v1',
                            'assent.messaging.message_accepted.v1')",
        )
        .bind(&subject)
        .fetch_all(&messaging)
        .await
        .unwrap();
        assert!(traces.iter().all(|traceparent| traceparent[3..35] == sending), "{traces:?}");
        traces.len() == 2
    })
    .await;
    let call = &cluster.delivered_to(&person).await[0];
    assert_eq!(&call["traceparent"].as_str().expect("it carries a trace")[3..35], sending);
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
