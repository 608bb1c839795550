//! A person with a number, and what may happen to her: the words in which the tests of a running
//! cluster are told.

use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::until;
use super::{Cluster, Ended, TEMPLATE};
use crate::harness::unique;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Somebody.
#[derive(Debug, Clone)]
pub struct Person {
    /// Her number in E.164.
    pub phone: String,
}

impl Person {
    /// Somebody new, with a French mobile number nobody else in this run has.
    pub fn somebody() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { phone: format!("+33612{number:06}") }
    }

    /// Her number as the provider writes it.
    pub fn digits(&self) -> &str {
        self.phone.trim_start_matches('+')
    }
}

impl Cluster {
    /// Brings her in by a contact file and gives her id.
    pub async fn import(&self, person: &Person) -> String {
        let ended = self.import_file(&format!("phone;name\n{};Ada\n", person.phone));
        assert_eq!((ended.status, &ended.json["created"]), (0, &json!(1)), "{}", ended.text);
        self.subject(person).await.expect("she is known")
    }

    /// Imports a contact file.
    pub fn import_file(&self, text: &str) -> Ended {
        let path = self.dir.join("contacts.csv");
        std::fs::write(&path, text).unwrap();
        self.assent(&["import", path.to_str().unwrap(), "--country", "FR"])
    }

    /// Her id, if she is known.
    pub async fn subject(&self, person: &Person) -> Option<String> {
        let body = json!({"phone": person.phone});
        let (status, answer) = self.post("vault", "/v1/subjects/lookup", &body, None).await;
        assert_eq!(status, 200, "{answer}");
        answer["subject_id"].as_str().map(str::to_owned)
    }

    /// Her consent to marketing messages, recorded by an operator.
    pub fn grant(&self, person: &Person) -> Ended {
        self.consent("grant", person)
    }

    /// Takes her consent back.
    pub fn withdraw(&self, person: &Person) -> Ended {
        self.consent("withdraw", person)
    }

    fn consent(&self, what: &str, person: &Person) -> Ended {
        let purpose = ["--purpose", "marketing", "--channel", "whatsapp", "--evidence", "form 12"];
        self.assent(&[&["consent", what, &person.phone][..], &purpose].concat())
    }

    /// One message to her by the command line, with its outcome.
    pub fn send(&self, person: &Person) -> Ended {
        let what = ["--purpose", "marketing", "--template", TEMPLATE];
        self.assent(&[&["send", &person.phone][..], &what].concat())
    }

    /// Queues a message to her and gives its id.
    pub async fn queue(&self, subject: &str) -> String {
        let body = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
            "template": TEMPLATE, "parameters": []});
        let (status, answer) = self.post("messaging", "/v1/messages", &body, None).await;
        assert_eq!(status, 202, "{answer}");
        answer["message_id"].as_str().unwrap().to_owned()
    }

    /// As [`Cluster::queue`], where a replica may die at any moment: repeated with one key until
    /// somebody answers.
    pub async fn queue_somewhere(&self, subject: &str) -> String {
        let body = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
            "template": TEMPLATE, "parameters": []});
        let key = unique("message");
        let mut message = None;
        until("a replica takes the message", async || {
            let answer = self.try_post("messaging", "/v1/messages", &body, Some(&key)).await;
            message = answer.ok().and_then(|(_, it)| it["message_id"].as_str().map(str::to_owned));
            message.is_some()
        })
        .await;
        message.unwrap()
    }

    /// Builds a read model from zero beside the live one: no row differs.
    pub fn rebuilt_the_same(&self, projection: &str) {
        let rebuilt = self.assent(&["projection", "rebuild", projection]);
        let outcome = (&rebuilt.json["state"], &rebuilt.json["differences"]);
        assert_eq!(outcome, (&json!("done"), &json!(0)), "{projection}: {}", rebuilt.text);
    }

    /// What became of a message, once it is settled.
    pub async fn settled(&self, message: &str) -> Value {
        let path = format!("/v1/messages/{message}?wait_ms=20000");
        let (status, answer) = self.get("messaging", &path).await;
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// She writes; the status with which the webhook answered.
    pub async fn hears(&self, person: &Person, text: &str) -> u16 {
        let body = json!({"from": person.phone, "text": text});
        self.post("whatsapp-sim", "/_sim/inbound", &body, None).await.0
    }

    /// The template messages that the provider took or began to take for her.
    pub async fn delivered_to(&self, person: &Person) -> Vec<Value> {
        self.delivered_by(TEMPLATE, person).await
    }

    /// The same of another template.
    pub async fn delivered_by(&self, template: &str, person: &Person) -> Vec<Value> {
        let (_, answer) = self.get("whatsapp-sim", "/_sim/messages").await;
        let calls = answer["messages"].as_array().cloned().unwrap_or_default();
        let hers = |call: &Value| {
            call["to"].as_str().is_some_and(|to| to.ends_with(person.digits()))
                || call["party"] == person.digits()
        };
        calls.into_iter().filter(|call| hers(call) && call["template"] == template).collect()
    }

    /// Waits until everything that people declared has arrived where it counts.
    pub async fn declared(&self) {
        let pool = self.pool("messaging").await;
        until("what was declared has arrived", async || {
            let open = "SELECT count(*) FROM declarations WHERE settled_at IS NULL";
            sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0
        })
        .await;
    }

    /// Waits until the country of her number is in her stream, once she has said something.
    pub async fn located(&self, subject: &str) {
        const LOCATED: &str = "
            SELECT EXISTS (SELECT FROM eventstore.events WHERE stream = $1::uuid
                           AND data::jsonb -> 'regions' IS NOT NULL)";
        let pool = self.pool("consent").await;
        until("the country of her number is in her stream", async || {
            sqlx::query_scalar(LOCATED).bind(subject).fetch_one(&pool).await.unwrap()
        })
        .await;
    }

    /// The verdict on her.
    pub fn explain(&self, person: &Person) -> Ended {
        self.assent(&["explain", &person.phone, "--purpose", "marketing"])
    }

    /// Somebody new who may be messaged, with her id.
    pub async fn willing(&self) -> (Person, String) {
        let person = Person::somebody();
        let subject = self.import(&person).await;
        let granted = self.grant(&person);
        assert_eq!(granted.status, 0, "{}", granted.text);
        until("her address is known to the gate", async || {
            self.explain(&person).json["verdict"] == "allow"
        })
        .await;
        (person, subject)
    }
}
