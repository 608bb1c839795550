//! Who somebody is: by number, by user id, by both; when it is in doubt; and when nobody can say.

mod doubts;
mod names;
mod stops;

use assent_contracts::SubjectId;
use assent_runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{BAD_USER_ID, Home, Neighbours, Provider, Replica, Setup, phone, until};

async fn neighbours(home: &Home) -> Neighbours {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Neighbours::serve(listener, home.index.clone())
}

const PENDING: &str = "SELECT count(*) FROM declarations WHERE settled_at IS NULL";
const UNTOLD: &str = "SELECT count(*) FROM told_identities WHERE sealed IS NOT NULL";
const CONFIRMATIONS: &str = "SELECT count(*) FROM intents WHERE purpose = 'stop_confirmation'";
const INBOUND: &str = "SELECT count(*) FROM inbound_messages";

fn digits(n: usize) -> String {
    phone(n).trim_start_matches('+').to_owned()
}

/// A text message as the platform tells of it.
fn text(id: &str, body: &str, more: Value) -> Value {
    let mut message = json!({"id": id, "type": "text", "text": {"body": body}});
    message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"messages": [message]})
}

fn from_user_id(id: &str, user_id: &str, body: &str) -> Value {
    text(id, body, json!({"from": "", "from_user_id": user_id}))
}

impl Replica {
    async fn hears_of(&self, value: Value) {
        assert_eq!(self.webhook(value).await, 200);
        self.processed().await;
        until("the vault has heard", async || self.count(UNTOLD).await == 0).await;
    }

    async fn tasks(&self) -> Vec<(String, String)> {
        let tasks = self.get("/v1/tasks").await;
        let said = |task: &Value, key: &str| task[key].as_str().unwrap().to_owned();
        let items = tasks["items"].as_array().unwrap();
        items.iter().map(|task| (said(task, "kind"), said(task, "reason"))).collect()
    }

    async fn task(&self) -> String {
        let tasks = self.get("/v1/tasks").await;
        tasks["items"][0]["task_id"].as_str().unwrap().to_owned()
    }

    /// The outcome of `hello` to her: its state, and why where it didn't go out.
    async fn outcome(&self, subject: SubjectId) -> (String, Vec<String>) {
        let view = self.settled(self.send(subject).await).await;
        let reasons = serde_json::from_value(view["reasons"].clone()).unwrap();
        (view["state"].as_str().unwrap().to_owned(), reasons)
    }
}

fn refused(reason: &str) -> (String, Vec<String>) {
    ("refused".to_owned(), vec![reason.to_owned()])
}

fn accepted() -> (String, Vec<String>) {
    ("accepted".to_owned(), Vec::new())
}
