//! Files: taken to the provider in pieces, checked before anything of them goes on, sent to whom they are about, gone
//! with her erasure; and hers, fetched on record only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_contracts::erasure::Step;
use assent_http::client::http_client;
use assent_runtime::{Ids as _, SystemIds};
use assent_tests::cluster::{Cluster, Wishes};
use assent_tests::harness;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::forgetting::command;
use super::stand_ins::{Home, Neighbours, Replica, Setup, until};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nnot much of a picture";

/// A provider that keeps files.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// Bodies of uploads, whole.
    uploads: Vec<Bytes>,
    deleted: Vec<String>,
    fetched: Vec<String>,
    /// Whether deletions and questions are answered with an error of the server's.
    ails: bool,
    /// How many were.
    tries: usize,
    base: String,
}

impl Shelf {
    async fn serve() -> (Self, std::net::SocketAddr) {
        let shelf = Self::default();
        let node = get(Self::find).delete(Self::delete);
        let router = Router::new()
            .route("/v26.0/{number}/media", post(Self::upload))
            .route("/v26.0/{number}/messages", post(Self::message))
            .route("/v26.0/{id}", node)
            .route("/files/{id}", get(Self::fetch))
            .with_state(shelf.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        shelf.kept().base = format!("http://{address}");
        tokio::spawn(axum::serve(listener, router).into_future());
        (shelf, address)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }

    async fn upload(State(shelf): State<Self>, headers: HeaderMap, body: Bytes) -> Response {
        assert_eq!(headers["content-length"], body.len().to_string());
        let mut kept = shelf.kept();
        kept.uploads.push(body);
        axum::Json(json!({"id": format!("77{}", kept.uploads.len())})).into_response()
    }

    async fn message(State(_): State<Self>, body: Bytes) -> Response {
        let body: Value = serde_json::from_slice(&body).unwrap();
        let id = format!("wamid.{}", body["biz_opaque_callback_data"].as_str().unwrap());
        axum::Json(json!({"messages": [{"id": id}]})).into_response()
    }

    async fn find(State(shelf): State<Self>, Path(id): Path<String>) -> Response {
        if shelf.kept().ails {
            return StatusCode::BAD_GATEWAY.into_response();
        }
        if id == "nothing" || shelf.kept().deleted.contains(&id) {
            let gone = json!({"error": {"code": 100, "error_subcode": 33}});
            return (StatusCode::BAD_REQUEST, axum::Json(gone)).into_response();
        }
        let url = match id.as_str() {
            "elsewhere" => {
                let base = shelf.kept().base.replace("127.0.0.1", "localhost");
                format!("{base}/files/elsewhere")
            }
            _ => format!("{}/files/{id}", shelf.kept().base),
        };
        axum::Json(json!({"url": url, "mime_type": "image/png", "file_size": PNG.len()}))
            .into_response()
    }

    async fn fetch(
        State(shelf): State<Self>,
        Path(id): Path<String>,
        headers: HeaderMap,
    ) -> Response {
        assert_eq!(headers["authorization"], "Bearer access");
        shelf.kept().fetched.push(id);
        PNG.into_response()
    }

    async fn delete(State(shelf): State<Self>, Path(id): Path<String>) -> Response {
        if shelf.kept().ails {
            shelf.kept().tries += 1;
            return StatusCode::BAD_GATEWAY.into_response();
        }
        shelf.kept().deleted.push(id);
        axum::Json(json!({"success": true})).into_response()
    }
}

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

async fn upload(replica: &Replica, query: &str, kind: &str, body: &[u8]) -> (u16, Value) {
    replica.post_bytes(&format!("/v1/media{query}"), kind, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_checked_before_it_goes_on_and_goes_to_nobody_but_whom_it_is_about() {
    let home = Home::new().await;
    let (neighbours, (shelf, address)) = (neighbours(&home).await, Shelf::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, address)).await;
    let (subject, other) = (neighbours.person(1), neighbours.person(2));
    let long = vec![0; 500 * 1024 + 1];
    let files: [(&str, &[u8], u16, &str); 4] = [
        ("application/x-sh", b"#!/bin/sh -e\n: a script", 422, "validation_failed"),
        ("image/png", b"\xff\xd8\xff\xe0 no such picture", 422, "validation_failed"),
        ("image/png", b"", 422, "validation_failed"),
        ("image/webp", &long, 413, "body_too_large"),
    ];
    for (kind, body, status, code) in files {
        let (found, problem) = upload(&replica, "", kind, body).await;
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{kind}: {problem}");
    }
    assert!(shelf.kept().uploads.is_empty(), "nothing of a refused file goes on");

    let (status, everybodys) = upload(&replica, "", "image/png", PNG).await;
    assert_eq!((status, &everybodys["kind"]), (201, &json!("image")), "{everybodys}");
    let (_, hers) = upload(&replica, &format!("?subject_id={subject}"), "image/png", PNG).await;
    let whole = shelf.kept().uploads[0].clone();
    assert!(whole.windows(PNG.len()).any(|part| part == PNG), "all of it arrived");

    replica.hears(1, "a picture?").await;
    replica.hears(2, "a picture?").await;
    replica.processed().await;
    let send = async |to: uuid::Uuid, kind: &str, id: &Value| {
        let body = json!({"subject_id": to, "purpose": "service", "channel": "whatsapp",
            "content": {"type": kind, "id": id}});
        let (status, answer) = replica.post("/v1/messages", body).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let (all, hers) = (&everybodys["media_id"], &hers["media_id"]);
    assert_eq!(send(other, "image", all).await.0, 202);
    assert_eq!(send(subject, "image", hers).await.0, 202);
    assert_eq!(send(other, "image", hers).await, (404, "media_unknown".to_owned()));
    assert_eq!(send(other, "video", all).await, (422, "validation_failed".to_owned()));
    assert_eq!(send(other, "document", all).await.0, 202, "anything may be a document");
    let path = format!("/v1/media/{}", all.as_str().unwrap());
    assert_eq!(replica.delete(&path).await, 204);
    assert_eq!(send(other, "image", all).await, (404, "media_unknown".to_owned()));
    assert_eq!(shelf.kept().deleted, [all.as_str().unwrap()]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g4_an_erasure_waits_until_files_about_her_are_gone_at_the_provider() {
    let home = Home::new().await;
    let (neighbours, (shelf, address)) = (neighbours(&home).await, Shelf::serve().await);
    let bus = assent_bus::BusConfig::new(harness::kafka(), harness::topic_prefix());
    let mut setup = Setup::new(neighbours.address, address);
    setup.bus = Some(bus.clone());
    setup.lease = Duration::from_secs(1);
    let replica = home.start(&setup).await;
    let subject = neighbours.person(1);
    let about = format!("?subject_id={subject}");
    assert_eq!(upload(&replica, &about, "image/png", PNG).await.0, 201);
    let request = SystemIds.v7();
    command(&bus, subject, request, Step::Fence).await;
    until("the fence is answered", async || neighbours.acks("fence").len() == 1).await;
    assert_eq!(upload(&replica, &about, "image/png", PNG).await.0, 410, "nothing new of her");
    shelf.kept().ails = true;
    command(&bus, subject, request, Step::Delete).await;
    until("it was tried, twice", async || shelf.kept().tries >= 2).await;
    assert!(neighbours.acks("delete").is_empty(), "the provider still has her file");
    assert_eq!(replica.count("SELECT count(*) FROM media").await, 1);
    shelf.kept().ails = false;
    until("the deletion is answered", async || neighbours.acks("delete").len() == 1).await;
    assert_eq!(neighbours.acks("delete")[0]["evidence"]["counts"]["media"], 1);
    assert_eq!(shelf.kept().deleted, ["771"]);
    assert_eq!(replica.count("SELECT count(*) FROM media").await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn g10_a_file_of_hers_is_fetched_by_whoever_may_once_that_is_on_record() {
    let home = Home::new().await;
    let (neighbours, (shelf, address)) = (neighbours(&home).await, Shelf::serve().await);
    let replica = home.start(&Setup::new(neighbours.address, address)).await;
    neighbours.person(1);
    let sends = async |wamid: &str, file: &str| {
        let message = json!({"from": "33612300001", "id": wamid, "type": "image",
            "image": {"id": file, "mime_type": "image/png"}});
        assert_eq!(replica.webhook(json!({"messages": [message]})).await, 200);
        replica.processed().await;
        let newest = "SELECT id FROM inbound_messages ORDER BY received_at DESC LIMIT 1";
        let pool = replica.messaging.store.pool();
        let id: uuid::Uuid = sqlx::query_scalar(newest).fetch_one(pool).await.unwrap();
        format!("/v1/inbound/{id}/media")
    };
    let path = sends("wamid.A", "55").await;
    let reads = "SELECT count(*) FROM eventstore.events
        WHERE event_type = 'assent.messaging.conversation_read.v1'";
    let why = json!({"reason": "answering"});
    assert_eq!(replica.post_as_colleague(&path, why.clone()).await.0, 403);
    assert_eq!(replica.post(&path, json!({"reason": "She asked!"})).await.0, 422);
    assert_eq!((replica.count(reads).await, shelf.kept().fetched.len()), (0, 0));
    let (status, headers, body) = replica.fetch(&path, &why).await;
    assert_eq!((status, &body[..]), (200, PNG));
    assert_eq!(headers["content-type"], "image/png");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!((replica.count(reads).await, shelf.kept().fetched.len()), (1, 1));

    let path = sends("wamid.B", "nothing").await;
    let (status, problem) = replica.post(&path, why.clone()).await;
    assert_eq!((status, &problem["code"]), (404, &json!("media_unknown")));
    // The token goes nowhere but over TLS or to the configured address.
    let path = sends("wamid.C", "elsewhere").await;
    let (status, problem) = replica.post(&path, why).await;
    assert_eq!((status, &problem["code"]), (503, &json!("dependency_unavailable")));
    assert_eq!(shelf.kept().fetched.len(), 1);
    replica.stop().await;
}

/// Between the draft and the start lie days: a file that has gone meanwhile is told before anybody gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_whose_file_has_gone_since_the_draft_does_not_start() {
    let home = Home::new().await;
    let (neighbours, (shelf, address)) = (neighbours(&home).await, Shelf::serve().await);
    let mut setup = Setup::new(neighbours.address, address);
    // A pause is answered after one.
    setup.lease = Duration::from_secs(1);
    let replica = home.start(&setup).await;
    neighbours.person(1);
    let draft = async |name: &str, file: &Value| {
        let request = json!({"name": name, "purpose": "marketing", "channel": "whatsapp",
            "template": "hello", "header": {"type": "image", "id": file}});
        let (status, drafted) = replica.post("/v1/campaigns", request).await;
        assert_eq!(status, 201, "{drafted}");
        let path = format!("/v1/campaigns/{}", drafted["campaign_id"].as_str().unwrap());
        until("its people are taken", async || replica.get(&path).await["state"] == "draft").await;
        replica.post(&format!("{path}/dry-run"), json!({})).await;
        until("tried dry", async || replica.get(&path).await["dry_run"]["done"] == true).await;
        path
    };
    let act = async |path: &str, act: &str| {
        let (status, answer) = replica.post(&format!("{path}/{act}"), json!({})).await;
        (status, answer["code"].as_str().unwrap_or_default().to_owned())
    };
    let gone = (404, "media_unknown".to_owned());

    let (_, file) = upload(&replica, "", "image/png", PNG).await;
    let deleted = draft("deleted", &file["media_id"]).await;
    // The provider has it no more, and nobody here knows.
    let elsewhere = draft("elsewhere", &json!("nothing")).await;
    shelf.kept().deleted.push(file["media_id"].as_str().unwrap().to_owned());
    for path in [&deleted, &elsewhere] {
        assert_eq!(act(path, "start").await, gone);
        assert_eq!(replica.get(path).await["state"], "draft");
    }
    // What is known here needs no word of the provider's.
    let (_, file) = upload(&replica, "", "image/png", PNG).await;
    let expired = draft("expired", &file["media_id"]).await;
    replica.sql("UPDATE media SET gone_at = now() - interval '1 second'").await;
    assert_eq!(act(&expired, "start").await, gone);

    let (_, file) = upload(&replica, "", "image/png", PNG).await;
    let good = draft("good", &file["media_id"]).await;
    shelf.kept().ails = true;
    assert_eq!(act(&good, "start").await, (503, "dependency_unavailable".to_owned()));
    shelf.kept().ails = false;
    replica.hold_number().await;
    assert_eq!(act(&good, "start").await.0, 200);
    assert_eq!(act(&good, "pause").await.0, 200);
    shelf.kept().deleted.push(file["media_id"].as_str().unwrap().to_owned());
    assert_eq!(act(&good, "resume").await, gone);
    shelf.kept().deleted.clear();
    assert_eq!(act(&good, "resume").await.0, 200);
    assert_eq!(act(&good, "resume").await.0, 200, "it runs already");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_examples_reach_the_simulator_through_the_gateway() {
    let cluster = Cluster::with(Wishes {
        only: vec!["messaging", "gateway"],
        settings: vec![(
            "messaging",
            "app_id = \"670843887433847\"\nbusiness_account_id = \"102290129340398\"",
        )],
        ..Wishes::default()
    })
    .await;
    let http = http_client(Duration::from_secs(2), Duration::from_secs(60)).unwrap();
    let takes = async |path: &str, kind: &str, body: Vec<u8>| {
        let url = format!("{}/messaging/v1/{path}", cluster.url("gateway"));
        let request = http.post(url).bearer_auth(cluster.token()).header("content-type", kind);
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    // More than any body that is read into memory may have.
    let mut film = b"\0\0\0\x18ftypmp42".to_vec();
    film.resize(8 << 20, 7);
    let (status, uploaded) = takes("media", "video/mp4", film.clone()).await;
    assert_eq!(status, 201, "{uploaded}");
    let path = format!("/v26.0/{}", uploaded["media_id"].as_str().unwrap());
    let (_, found) = cluster.get("whatsapp-sim", &path).await;
    assert_eq!(
        (&found["file_size"], &found["mime_type"]),
        (&json!(8 << 20), &json!("video/mp4")),
        "{found}"
    );
    let (status, example) = takes("templates/examples", "image/png", PNG.to_vec()).await;
    assert_eq!(status, 201, "{example}");
    assert!(example["example"].as_str().unwrap().starts_with("4::"));
    // By the command line, from a file beside the template's.
    let folder = std::env::temp_dir().join(harness::unique("assent_examples"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("bread.png"), PNG).unwrap();
    let template = folder.join("bread.toml");
    let text =
        "name = \"bread\"\nlanguage = \"fr\"\ncategory = \"MARKETING\"\n[header]\ntype = \"image\"
example_file = \"bread.png\"\n[body]\ntext = \"Du pain frais.\"\n";
    std::fs::write(&template, text).unwrap();
    let created = cluster.assent(&["template", "create", template.to_str().unwrap()]);
    assert_eq!(created.status, 0, "{}", created.text);
    let (_, all) = cluster.get("whatsapp-sim", "/_sim/templates").await;
    assert!(all.to_string().contains("header_handle\":[\"4::"), "{all}");
    std::fs::remove_dir_all(&folder).unwrap();
    let (status, problem) = takes("templates/examples", "text/plain", b"Bonjour".to_vec()).await;
    assert_eq!((status, &problem["code"]), (422, &json!("validation_failed")));
}
