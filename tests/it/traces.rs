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
