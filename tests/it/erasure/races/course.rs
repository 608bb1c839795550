//! One race: what is done about a person, her erasure, and which begins when. It guarantees that what must be repeated
//! because a service can't do it now is repeated; which of both was faster is told by the answer.

use std::time::Duration;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::client::Client;
use assent_tests::cluster::person::Person;
use assent_tests::soak::dice::Dice;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long a service may say "not now", and an erasure may take.
const PATIENCE: Duration = Duration::from_secs(90);
const MOMENT: Duration = Duration::from_millis(20);
const NOT_NOW: u16 = 503;

/// What is done about her.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An operator records her consent, or takes it back.
    Append,
    /// A contact file with her number and another name.
    Import,
    /// She writes.
    Webhook,
    /// A message to her is queued.
    Send,
    /// A read model is built anew, and swapped in.
    Rebuild,
    /// Her consent's event is parked, and applied again.
    Replay,
}

impl Kind {
    pub const ALL: [Self; 6] =
        [Self::Append, Self::Import, Self::Webhook, Self::Send, Self::Rebuild, Self::Replay];

    /// Whether it is refused once she is erased. What she writes is heard, and read models are built of others too.
    pub const fn is_refused_at_last(self) -> bool {
        !matches!(self, Self::Webhook | Self::Rebuild)
    }
}

/// When it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// It is answered before her erasure is asked for.
    First,
    /// Beside it.
    Beside,
    /// While a participant is held in the middle of a step.
    AtStep,
    /// Once she is erased.
    Last,
}

impl When {
    pub const ALL: [Self; 4] = [Self::First, Self::Beside, Self::AtStep, Self::Last];
}

/// What has happened in the wave so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Nothing.
    Nothing,
    /// Erasures are asked for.
    Ask,
    /// A participant is held in the middle of a step.
    Struck,
}

/// A call.
#[derive(Debug, Clone)]
pub struct Call {
    pub service: &'static str,
    pub path: String,
    pub body: Value,
}

/// A race that is to be run.
#[derive(Debug, Clone)]
pub struct Race {
    pub kind: Kind,
    pub when: When,
    /// Whether it begins before her erasure is asked for, where it is done beside it.
    pub ahead: bool,
    pub person: Person,
    pub subject: String,
    /// Whether she writes the word that opens the road again.
    pub says_start: bool,
    pub call: Call,
    pub dice: Dice,
}

/// A race that is over.
#[derive(Debug, Clone)]
pub struct Ran {
    pub kind: Kind,
    pub when: When,
    pub person: Person,
    pub subject: String,
    pub says_start: bool,
    /// Her erasure.
    pub request: String,
    /// Whether what was done about her was taken; nothing where that says nothing.
    pub accepted: Option<bool>,
    /// When her erasure was known to be complete.
    pub completed: Duration,
}

impl Race {
    /// Runs it to the end of both.
    pub async fn run(mut self, client: Client, wave: watch::Receiver<Signal>) -> Ran {
        let (head, late) = (self.dice.below(4), self.dice.below(4));
        let (accepted, (request, completed)) = match self.when {
            When::First => {
                let accepted = self.act(&client).await;
                after(&wave, Signal::Ask).await;
                (accepted, self.erase(&client).await)
            }
            When::Beside if self.ahead => {
                let erased = async {
                    after(&wave, Signal::Ask).await;
                    idle(&client, late).await;
                    self.erase(&client).await
                };
                tokio::join!(self.act(&client), erased)
            }
            When::Beside | When::AtStep => {
                let beside = self.when == When::Beside;
                let signal = if beside { Signal::Ask } else { Signal::Struck };
                let acted = async {
                    after(&wave, signal).await;
                    idle(&client, head).await;
                    self.act(&client).await
                };
                let erased = async {
                    after(&wave, Signal::Ask).await;
                    self.erase(&client).await
                };
                tokio::join!(acted, erased)
            }
            When::Last => {
                after(&wave, Signal::Ask).await;
                let erased = self.erase(&client).await;
                (self.act(&client).await, erased)
            }
        };
        let Self { kind, when, person, subject, says_start, .. } = self;
        Ran { kind, when, person, subject, says_start, request, accepted, completed }
    }

    /// Does it, and tells whether it was taken.
    async fn act(&self, client: &Client) -> Option<bool> {
        let Call { service, path, body } = &self.call;
        let (status, answer) = call(client, service, path, body, None).await;
        let strange =
            || -> Option<bool> { panic!("{:?} {:?}: {status} {answer}", self.kind, self.when) };
        match (self.kind, status) {
            // Beside a stop or a fence.
            (Kind::Append, 409 | 410) | (Kind::Send, 410) => Some(false),
            (Kind::Append, 200) | (Kind::Send, 202) => Some(true),
            (Kind::Import, 200) => {
                let outcome = answer["outcomes"][0]["outcome"].as_str().unwrap_or_default();
                match outcome {
                    "existing" => Some(true),
                    "refused" => Some(false),
                    // Nobody who is or was known is somebody new by a contact file.
                    _ => strange(),
                }
            }
            (Kind::Webhook, 200) => None,
            // Another race of this wave has asked for the same.
            (Kind::Rebuild, 202 | 409) => {
                self.built(client).await;
                None
            }
            (Kind::Replay, 200) => Some(answer["applied"].as_u64().is_some_and(|it| it > 0)),
            // Not there any more, or on its way out.
            (Kind::Replay, 404 | 409) => Some(false),
            _ => strange(),
        }
    }

    /// Waits until the read model is built.
    async fn built(&self, client: &Client) {
        let give_up = SystemClock.boottime() + PATIENCE;
        loop {
            let answer = client.try_get(self.call.service, &self.call.path).await;
            let state = answer.map(|(_, it)| it["state"].clone()).unwrap_or_default();
            if state == "done" {
                return;
            }
            assert!(state != "failed", "the rebuild failed: {}", self.call.path);
            assert!(SystemClock.boottime() < give_up, "the rebuild is {state}");
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// Asks for her erasure and waits for its end; the request, and when the end was known.
    async fn erase(&self, client: &Client) -> (String, Duration) {
        let body = json!({"subject_id": self.subject, "actor": "operator",
            "identity": {"method": "operator", "reason": "test"}});
        let (status, answer) =
            call(client, "erasure", "/v1/requests", &body, Some(&self.subject)).await;
        assert!(matches!(status, 200..=202), "{status}: {answer}");
        let request = answer["request_id"].as_str().expect("a request").to_owned();
        let path = format!("/v1/requests/{request}");
        let give_up = SystemClock.boottime() + PATIENCE;
        loop {
            let view = client.try_get("erasure", &path).await.map(|(_, view)| view);
            let view = view.unwrap_or_default();
            if view["status"] == "completed" {
                return (request, SystemClock.boottime());
            }
            assert!(SystemClock.boottime() < give_up, "{:?} {:?}: {view}", self.kind, self.when);
            tokio::time::sleep(MOMENT).await;
        }
    }
}

/// Waits until the wave is so far.
async fn after(wave: &watch::Receiver<Signal>, signal: Signal) {
    let mut wave = wave.clone();
    wave.wait_for(|now| *now >= signal).await.expect("the wave goes on");
}

/// Calls until the answer is another one than "not now".
pub async fn call(
    client: &Client,
    service: &str,
    path: &str,
    body: &Value,
    key: Option<&str>,
) -> (u16, Value) {
    let give_up = SystemClock.boottime() + PATIENCE;
    loop {
        match client.try_post(service, path, body, key).await {
            Ok((status, answer)) if status != NOT_NOW => return (status, answer),
            not_now => assert!(SystemClock.boottime() < give_up, "{service}{path}: {not_now:?}"),
        }
        tokio::time::sleep(MOMENT).await;
    }
}

/// Lets so many round trips pass.
pub async fn idle(client: &Client, round_trips: u64) {
    for _ in 0..round_trips {
        let _ = client.try_get("erasure", "/v1/public-key").await;
    }
}
