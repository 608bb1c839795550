//! Messages of which nobody knows whether they went out: somebody is told in time, and none is sent again.

use assent_contracts::SubjectId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{Home, Manner, Neighbours, Provider, Replica, Setup, until};

/// Their outcomes were lost long ago.
const LONG_AGO: &str = "
    UPDATE intents SET changed_at = now() - interval '61 minutes' WHERE state = 'uncertain'";

struct Stage {
    home: Home,
    neighbours: Neighbours,
    provider: Provider,
    replicas: Vec<Replica>,
}

impl Stage {
    async fn new() -> Self {
        let home = Home::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let neighbours = Neighbours::serve(listener, home.index.clone());
        let provider = Provider::serve().await;
        provider.manner(Manner::HangsUp);
        let mut stage = Self { home, neighbours, provider, replicas: Vec::new() };
        stage.start().await;
        stage
    }

    /// One more replica. Each looks when it starts.
    async fn start(&mut self) {
        let setup = Setup::new(self.neighbours.address, self.provider.address);
        self.replicas.push(self.home.start(&setup).await);
    }

    fn replica(&self) -> &Replica {
        &self.replicas[0]
    }

    /// A message to her whose answer is lost.
    async fn lost(&self, subject: SubjectId) -> Uuid {
        let message = self.replica().send(subject).await;
        assert_eq!(self.replica().settled(message).await["state"], "uncertain");
        message
    }

    /// What is open, or was, once there are so many of them.
    async fn tasks(&self, which: &str, count: usize) -> Vec<Value> {
        let path = format!("/v1/tasks{which}");
        let mut tasks = Vec::new();
        until("so many tasks", async || {
            tasks = self.replica().get(&path).await["items"].as_array().unwrap().clone();
            tasks.len() == count
        })
        .await;
        tasks
    }

    async fn closes(&self, message: Uuid, body: Value) -> (u16, Value) {
        let tasks = self.replica().get("/v1/tasks?closed=true").await;
        let tasks = tasks["items"].as_array().unwrap();
        let task = tasks.iter().find(|it| it["message_id"] == json!(message)).unwrap();
        let close = format!("/v1/tasks/{}/close", task["task_id"].as_str().unwrap());
        self.replica().post(&close, body).await
    }

    /// By webhook it reached her.
    async fn reached(&self, message: Uuid) {
        let status = json!({"id": format!("wamid.{message}"), "status": "delivered",
            "biz_opaque_callback_data": message});
        assert_eq!(self.replica().webhook(json!({"statuses": [status]})).await, 200);
        self.replica().processed().await;
    }

    async fn stop(self) {
        for replica in self.replicas {
            replica.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_nobody_learns_is_a_task_until_a_late_status_tells_it() {
    let mut stage = Stage::new().await;
    let [first, second] = [1, 2].map(|n| stage.neighbours.person(n));
    let old = stage.lost(first).await;
    stage.replica().sql(LONG_AGO).await;
    stage.lost(second).await;
    stage.start().await;
    let tasks = stage.tasks("", 1).await;
    assert_eq!(tasks[0]["kind"], "outcome_unknown");
    assert_eq!(tasks[0]["message_id"], json!(old), "not the one of just now");
    assert_eq!(tasks[0]["subject_id"], json!(first));
    // Another that looks says it no second time.
    stage.start().await;
    stage.reached(old).await;
    assert_eq!(stage.replica().look(old, 0).await["state"], "accepted");
    stage.tasks("", 0).await;
    let closed = stage.tasks("?closed=true", 1).await;
    assert!(closed[0]["closed_at"].is_string() && closed[0].get("closed_by").is_none());
    assert_eq!(stage.provider.bodies().len(), 2, "each was sent once");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_says_what_happened_with_a_reason_and_nothing_is_sent_again() {
    let mut stage = Stage::new().await;
    let [first, second, third, other] = [1, 2, 3, 4].map(|n| stage.neighbours.person(n));
    let sent = stage.lost(first).await;
    let not_sent = stage.lost(second).await;
    let unknown = stage.lost(third).await;
    stage.replica().sql(LONG_AGO).await;
    stage.start().await;
    stage.tasks("", 3).await;
    stage.provider.manner(Manner::Accepts);

    for body in [
        json!({}),
        json!({"outcome": "sent"}),
        json!({"reason": "asked_her"}),
        json!({"outcome": "sent", "reason": "I rang her on +33"}),
        json!({"outcome": "sent", "reason": "asked_her", "subject_id": Uuid::nil()}),
    ] {
        let (status, problem) = stage.closes(sent, body).await;
        assert_eq!((status, &problem["code"]), (422, &json!("validation_failed")));
    }
    stage.tasks("", 3).await;

    let said = |outcome: &str| json!({"outcome": outcome, "reason": "asked_her"});
    let (status, closed) = stage.closes(sent, said("sent")).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&closed["closed_by"], &closed["outcome"], &closed["closed_reason"]),
        (&json!("test"), &json!("sent"), &json!("asked_her"))
    );
    let again = stage.closes(sent, said("not_sent")).await;
    assert_eq!(again, (200, closed), "what was said first stays");
    assert_eq!(stage.closes(not_sent, said("not_sent")).await.0, 200);
    assert_eq!(stage.closes(unknown, said("unknown")).await.0, 200);

    let ends = [
        (sent, "accepted", json!(["operator_found_sent"])),
        (not_sent, "failed", json!(["operator_found_not_sent"])),
    ];
    for (message, state, reasons) in ends {
        let view = stage.replica().look(message, 0).await;
        assert_eq!((&view["state"], &view["reasons"]), (&json!(state), &reasons));
    }
    assert_eq!(stage.replica().look(unknown, 0).await["state"], "uncertain");
    // Nobody is asked a second time, and a webhook may still tell.
    stage.start().await;
    let other = stage.replica().send(other).await;
    assert_eq!(stage.replica().settled(other).await["state"], "accepted");
    stage.reached(unknown).await;
    assert_eq!(stage.replica().look(unknown, 0).await["state"], "accepted");
    stage.tasks("", 0).await;
    assert_eq!(stage.tasks("?closed=true", 3).await.len(), 3);
    assert_eq!(stage.provider.bodies().len(), 4, "each was sent once");
    stage.stop().await;
}
