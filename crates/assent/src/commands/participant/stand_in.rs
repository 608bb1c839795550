//! Stands in for the erasure service in a rehearsal: it keeps the answers that arrive, and can say that it
//! can't be spoken to now. Whether they are good is judged elsewhere.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::judge::Answer;

#[derive(Clone, Default)]
struct Kept {
    answers: Arc<Mutex<Vec<Answer>>>,
    arrived: Arc<Notify>,
    away: Arc<AtomicBool>,
}

/// The stand-in. It ends with the process.
pub struct StandIn {
    /// Where it is.
    pub url: String,
    kept: Kept,
}

impl StandIn {
    /// Listens.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub async fn listen(address: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let kept = Kept::default();
        let mut router = Router::new();
        // With the gateway's path, and with that of the service alone.
        for prefix in ["", "/erasure"] {
            router = router
                .route(&format!("{prefix}/v1/requests/{{request_id}}/acks"), post(acknowledge))
                .route(&format!("{prefix}/v1/erased"), get(erased));
        }
        tokio::spawn(axum::serve(listener, router.with_state(kept.clone())).into_future());
        Ok(Self { url, kept })
    }

    /// From now on, whether it answers that it is away.
    pub fn is_away(&self, away: bool) {
        self.kept.away.store(away, Ordering::SeqCst);
    }

    /// All that has arrived.
    pub fn answers(&self) -> Vec<Answer> {
        self.kept.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the answer that `is_it`, at most so long.
    pub async fn wait(
        &self,
        patience: Duration,
        is_it: impl Fn(&[Answer]) -> Option<Answer>,
    ) -> Option<Answer> {
        let look = async {
            loop {
                let arrived = self.kept.arrived.notified();
                if let Some(answer) = is_it(&self.answers()) {
                    return answer;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(patience, look).await.ok()
    }
}

async fn acknowledge(
    State(kept): State<Kept>,
    Path(request_id): Path<String>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, Json<Value>) {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| text.strip_prefix("Bearer ")).map(str::to_owned);
    let put_off = kept.away.load(Ordering::SeqCst);
    let body = serde_json::from_str(&body).unwrap_or_default();
    let answer = Answer { request_id: request_id.clone(), bearer, body, put_off };
    kept.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    // `notify_one` keeps a permit, so nothing that arrives between two looks is missed.
    kept.arrived.notify_one();
    if put_off {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"code": "dependency_unavailable"})))
    } else {
        (StatusCode::OK, Json(json!({"request_id": request_id, "status": "fencing"})))
    }
}

async fn erased() -> Json<Value> {
    Json(json!({"items": []}))
}
