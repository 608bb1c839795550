//! She sends a picture and gets files: what is hers is fetched on record, with a reason, and by nobody without;
//! what is sent to her goes out once, whatever is lost.

use std::time::Duration;

use assent_http::client::http_client;
use assent_tests::cluster::{Cluster, Wishes, until};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::support::{conversation, customer};
use super::world::{self, acts, calls, ends_well};

const PICTURE: &[u8] = b"\x89PNG\r\n\x1a\na parcel with a dent";
const INVOICE: &[u8] = b"%PDF-1.7\nan invoice";

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_hers_is_fetched_on_record_and_files_reach_her_once() {
    let cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "vault", "messaging"],
        ..world::wishes()
    })
    .await;
    let (ada, subject) = customer(&cluster).await;
    let (bea, other) = customer(&cluster).await;
    world::play(&cluster, include_str!("media.toml"), &[&ada]).await;
    // WhatsApp tells the same message twice.
    let file = json!({"type": "image", "mime_type": "image/png",
        "base64": STANDARD.encode(PICTURE), "caption": "It came like this"});
    let picture = json!({"media": file, "id": "wamid.scenario-picture"});
    acts(&cluster, &ada, picture.clone()).await;
    acts(&cluster, &ada, picture).await;
    let hers = conversation(&cluster, &subject).await;

    let pool = cluster.pool("messaging").await;
    let reads = async || {
        let on_record = "SELECT count(*) FROM eventstore.events
            WHERE event_type = 'assent.messaging.conversation_read.v1'";
        sqlx::query_scalar::<_, i64>(on_record).fetch_one(&pool).await.unwrap()
    };
    let read = cluster.assent(&["conversation", "read", &hers, "--reason", "answering"]);
    let said = read.json.as_array().cloned().unwrap_or_default();
    assert_eq!(said.len(), 1, "told twice, and there once: {}", read.text);
    assert_eq!((&said[0]["kind"], reads().await), (&json!("image"), 1), "{}", read.text);
    let path = format!("/v1/inbound/{}/media", said[0]["id"].as_str().unwrap());
    let (status, problem) = cluster.post("messaging", &path, &json!({"reason": ""}), None).await;
    assert_eq!((status, reads().await), (422, 1), "not without a reason: {problem}");
    let http = http_client(Duration::from_secs(2), Duration::from_secs(30)).unwrap();
    let url = |path: &str| format!("{}{path}", cluster.url("messaging"));
    let why = json!({"reason": "answering"});
    let fetched =
        http.post(url(&path)).bearer_auth(cluster.token()).json(&why).send().await.unwrap();
    assert_eq!((fetched.status().as_u16(), reads().await), (200, 2), "on record");
    assert_eq!(fetched.bytes().await.unwrap(), PICTURE);

    let upload = async |kind: &str, bytes: &'static [u8]| -> Value {
        let url = url(&format!("/v1/media?subject_id={subject}"));
        let request = http.post(url).bearer_auth(cluster.token()).header("content-type", kind);
        let answer = request.body(bytes).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["media_id"].clone()
    };
    let (new_one, invoice) =
        (upload("image/png", PICTURE).await, upload("application/pdf", INVOICE).await);
    let reply = format!("/v1/conversations/{hers}/reply");
    for content in [
        json!({"type": "image", "id": new_one, "caption": "This one is on its way."}),
        json!({"type": "document", "id": invoice, "filename": "invoice.pdf"}),
        json!({"type": "text", "body": "Sorry for that."}),
    ] {
        let content = json!({"content": content});
        let (status, queued) = cluster.post("messaging", &reply, &content, None).await;
        assert_eq!(status, 202, "{queued}");
        let message = queued["message_id"].as_str().unwrap().to_owned();
        until("it is accepted", async || cluster.settled(&message).await["state"] == "accepted")
            .await;
    }
    // A file about her goes to nobody else, who waits for an answer too.
    acts(&cluster, &bea, json!({"text": "hello?"})).await;
    conversation(&cluster, &other).await;
    let astray = json!({"subject_id": other, "purpose": "service", "channel": "whatsapp",
        "content": {"type": "document", "id": invoice}});
    let (status, problem) = cluster.post("messaging", "/v1/messages", &astray, None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("media_unknown")), "{problem}");

    ends_well(&cluster).await;
    assert_eq!(calls(&cluster, &ada, "image").await, (1, 0), "though the answer was lost");
    assert_eq!(calls(&cluster, &ada, "document").await, (1, 1), "though it was asked to wait");
    assert_eq!(calls(&cluster, &ada, "text").await, (1, 0));
}
