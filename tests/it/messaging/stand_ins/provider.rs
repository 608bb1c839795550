//! The provider, down to the bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::list;

/// What the provider does with a call whose body has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Accepts it.
    Accepts,
    /// Drops the connection without an answer.
    HangsUp,
    /// Refuses it with this code.
    Refuses(i64),
    /// Refuses one with this code, and accepts what comes after.
    RefusesOnce(i64),
}

/// The provider, down to the bytes: one connection per call, as messaging makes them.
#[derive(Clone)]
pub struct Provider {
    state: Arc<ProviderState>,
    /// Where it listens.
    pub address: SocketAddr,
}

struct ProviderState {
    manner: Mutex<Manner>,
    bodies: Mutex<Vec<Value>>,
    requests: Mutex<Vec<String>>,
    templates: Mutex<Vec<Value>>,
    empty: Mutex<usize>,
    knows_as: Mutex<Option<&'static str>>,
}

impl Provider {
    /// A provider that accepts connections at once.
    pub async fn serve() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener)
    }

    /// A provider to which nobody can connect before the returned connections are dropped and it
    /// begins: its queue of unaccepted connections is full, so SYNs are dropped.
    pub async fn unreachable() -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut fillers = Vec::new();
        // The queue holds backlog + 1; the connection after that hangs.
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            fillers.push(stream);
        }
        (listener, fillers)
    }

    /// A provider on this listener.
    pub fn on(listener: TcpListener) -> Self {
        let state = Arc::new(ProviderState {
            manner: Mutex::new(Manner::Accepts),
            bodies: Mutex::default(),
            requests: Mutex::default(),
            templates: Mutex::default(),
            empty: Mutex::default(),
            knows_as: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(Arc::clone(&shared), stream));
            }
        });
        Self { state, address }
    }

    /// Changes its manner.
    pub fn manner(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    /// From now on its answers name this user id beside the number.
    pub fn knows_as(&self, user_id: Option<&'static str>) {
        *self.state.knows_as.lock().unwrap() = user_id;
    }

    /// The bodies that arrived whole.
    pub fn bodies(&self) -> Vec<Value> {
        self.state.bodies.lock().unwrap().clone()
    }

    /// The request lines that arrived, in lower case.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The templates that it lists from now on, two on a page.
    pub fn lists(&self, templates: Value) {
        *self.state.templates.lock().unwrap() = list(&json!({"all": templates}), "all").to_vec();
    }

    /// How many connections ended without a byte of a body.
    pub fn without_body(&self) -> usize {
        *self.state.empty.lock().unwrap()
    }
}

async fn answer(state: Arc<ProviderState>, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    let (head, length) = loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        bytes.extend_from_slice(&buffer[..read]);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        match end {
            Some(end) => {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.split("content-length: ").nth(1).unwrap_or("0\r\n");
                let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                if head.starts_with("get ") {
                    return templates(&state, stream, &head).await;
                }
                if bytes.len() >= end + length {
                    break (end, length);
                }
                if read == 0 {
                    assert_eq!(bytes.len(), end, "a body never stops in the middle");
                }
            }
            None if read == 0 => {}
            None => continue,
        }
        if read == 0 {
            *state.empty.lock().unwrap() += 1;
            return;
        }
    };
    let body: Value = serde_json::from_slice(&bytes[head..head + length]).unwrap();
    let request = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    state.requests.lock().unwrap().push(request.lines().next().unwrap().to_owned());
    let is_mark = body["status"] == "read";
    let wamid = format!("wamid.{}", body["biz_opaque_callback_data"].as_str().unwrap_or("mark"));
    let input = body["to"].clone();
    state.bodies.lock().unwrap().push(body);
    let manner = {
        let mut manner = state.manner.lock().unwrap();
        let now = *manner;
        if matches!(now, Manner::RefusesOnce(_)) {
            *manner = Manner::Accepts;
        }
        now
    };
    let (status, answer) = match manner {
        Manner::Accepts if is_mark => ("200 OK", json!({"success": true})),
        Manner::Accepts => {
            let mut answer = json!({"messages": [{"id": wamid}]});
            if let Some(user_id) = *state.knows_as.lock().unwrap() {
                answer["contacts"] = json!([{"input": input, "user_id": user_id}]);
            }
            ("200 OK", answer)
        }
        Manner::Refuses(code) | Manner::RefusesOnce(code) => {
            ("400 Bad Request", json!({"error": {"code": code}}))
        }
        Manner::HangsUp => return,
    };
    respond(stream, status, &answer).await;
}

/// A page of the list of templates: two of them.
async fn templates(state: &ProviderState, stream: TcpStream, head: &str) {
    let line = head.lines().next().unwrap().to_owned();
    let from: usize = line
        .split("after=")
        .nth(1)
        .map_or(0, |after| after.split([' ', '&']).next().unwrap().parse().unwrap());
    state.requests.lock().unwrap().push(line);
    let all = state.templates.lock().unwrap().clone();
    let page: Vec<Value> = all.iter().skip(from).take(2).cloned().collect();
    let mut answer =
        json!({"data": page, "paging": {"cursors": {"after": (from + 2).to_string()}}});
    if all.len() > from + 2 {
        answer["paging"]["next"] = json!("https://provider.example/next");
    }
    respond(stream, "200 OK", &answer).await;
}

async fn respond(mut stream: TcpStream, status: &str, answer: &Value) {
    let answer = answer.to_string();
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    );
    let _ = stream.write_all(response.as_bytes()).await;
}
