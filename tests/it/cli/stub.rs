//! A stand-in for the gateway and everything behind it: it answers as told and writes down what it
//! was asked.

use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

/// Status and body.
pub type Answer = (u16, String);

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub body: Value,
    pub token: Option<String>,
    pub idempotency_key: Option<String>,
}

type Answering = dyn Fn(&str, &Value) -> Answer + Send + Sync;

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Answering>,
}

pub struct Stub {
    pub url: String,
    shared: Shared,
}

pub fn ok(body: Value) -> Answer {
    (200, body.to_string())
}

pub fn problem(status: u16, code: &str) -> Answer {
    (status, json!({"status": status, "code": code}).to_string())
}

impl Stub {
    pub async fn start(answer: impl Fn(&str, &Value) -> Answer + Send + Sync + 'static) -> Self {
        let shared = Shared { asked: Arc::default(), answer: Arc::new(answer) };
        let router = Router::new()
            .fallback(respond)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { url, shared }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic while held").clone()
    }

    /// Runs a command to its end while the stub goes on answering.
    pub async fn run(&self, command: &mut Command) -> Output {
        let child = command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the binary starts");
        tokio::task::spawn_blocking(move || child.wait_with_output())
            .await
            .expect("joined")
            .expect("it ends")
    }
}

async fn respond(
    State(shared): State<Shared>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let header = |name: &str| headers.get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
    let asked = Asked {
        path: uri.path().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or_default(),
        token: header("authorization"),
        idempotency_key: header("idempotency-key"),
    };
    let (status, text) = (shared.answer)(&asked.path, &asked.body);
    shared.asked.lock().expect("no panic while held").push(asked);
    (StatusCode::from_u16(status).expect("a status"), text)
}
