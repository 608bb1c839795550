//! Who makes the load: workers that take their turns until the round is over, and an HTTP client
//! that costs little, because the load comes from the machine that is measured.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// Somebody who does one thing again and again.
pub trait Worker: Send + 'static {
    /// Does it once, and says for how many things it counts.
    fn turn(&mut self) -> impl Future<Output = u64> + Send;
}

/// What all workers together do per second while `round` lasts.
pub async fn rate<W: Worker>(workers: Vec<W>, round: Duration) -> f64 {
    let began = SystemClock.boottime();
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move {
            let mut done = 0;
            while SystemClock.boottime() - began < round {
                done += worker.turn().await;
            }
            done
        });
    }
    let done: u64 = tasks.join_all().await.into_iter().sum();
    done as f64 / (SystemClock.boottime() - began).as_secs_f64()
}

/// Has a worker take a turn `per_second` times a second, whichever is free; how many milliseconds
/// each turn took, with the wait for a free one.
pub async fn steady<W: Worker>(workers: Vec<W>, per_second: u32, seconds: u32) -> Vec<f64> {
    let (returned, mut free) = mpsc::channel(workers.len());
    for worker in workers {
        assert!(returned.try_send(worker).is_ok(), "there is room for all");
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut turns = JoinSet::new();
    for _ in 0..per_second * seconds {
        tick.tick().await;
        let began = SystemClock.boottime();
        let mut worker = free.recv().await.expect("somebody comes back");
        let returned = returned.clone();
        turns.spawn(async move {
            worker.turn().await;
            let took = SystemClock.boottime() - began;
            let _ = returned.send(worker).await;
            took.as_secs_f64() * 1_000.0
        });
    }
    turns.join_all().await
}

/// A connection to a service: kept, one request at a time.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Client {
    /// Connects to `http://HOST:PORT`.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn connect(url: &str, token: &str) -> Self {
        let host = url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await.expect("the service listens");
        stream.set_nodelay(true).expect("a socket takes options");
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.expect("the service speaks HTTP");
        tokio::spawn(connection);
        Self { sender, host, authorization: format!("Bearer {token}") }
    }

    /// Asks, and gives the status and the body.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn ask(&mut self, method: Method, path: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
        let request = self.request(method, path);
        self.answer(request, body).await
    }

    fn request(&self, method: Method, path: &str) -> Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
    }

    async fn answer(&mut self, request: Builder, body: Vec<u8>) -> (StatusCode, Bytes) {
        let request = request.body(Full::new(Bytes::from(body))).expect("a well-formed request");
        self.sender.ready().await.expect("the connection stands");
        let answer = self.sender.send_request(request).await.expect("the service answers");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a whole answer").to_bytes();
        (status, body)
    }

    /// `POST` that must succeed.
    ///
    /// # Panics
    /// When it doesn't.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> Bytes {
        let (status, body) = self.ask(Method::POST, path, body).await;
        assert!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&body));
        body
    }

    /// `POST` of a webhook with its signature, which must succeed.
    ///
    /// # Panics
    /// When it doesn't.
    pub async fn post_signed(&mut self, path: &str, body: Vec<u8>, signature: &str) {
        let request = self.request(Method::POST, path).header("x-hub-signature-256", signature);
        let (status, _) = self.answer(request, body).await;
        assert!(status.is_success(), "{path}: {status}");
    }
}
