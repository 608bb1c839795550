//! The load: workers that each lead some people through what people and operators do, one act after the
//! other, and note what was acknowledged. A call without an answer is repeated with its key until it has one,
//! as clients do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::cluster::TEMPLATE;
use crate::cluster::client::Client;
use assent_runtime::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::soak::dice::Dice;
use crate::soak::history::{Act, Fault, History, Person, What};

/// So many at a time.
pub const WORKERS: u64 = 10;
/// How long one call may be repeated.
const PATIENCE: Duration = Duration::from_secs(180);
/// Where it is an answer: what was asked for can't be had now.
const CONFLICT: u16 = 409;
/// The choices in which she writes START.
const START: u64 = 83;
const START_END: u64 = 87;
/// The first in which her erasure is asked for.
const ERASE: u64 = 95;
/// A worker begins with somebody new after so many acts at most.
const ACTS: u64 = 24;

/// A running load.
pub struct Load {
    over: Arc<AtomicBool>,
    everything: Arc<AtomicBool>,
    acts: Arc<AtomicUsize>,
    workers: Vec<JoinHandle<Told>>,
}

/// What one worker has to tell.
#[derive(Default)]
struct Told {
    people: Vec<Person>,
    repeats: BTreeMap<String, usize>,
    strange: Vec<String>,
}

struct Worker {
    client: Client,
    dice: Dice,
    name: String,
    calls: u64,
    everything: Arc<AtomicBool>,
    acts: Arc<AtomicUsize>,
    told: Told,
}

impl Load {
    /// Starts it, with everything that people do or, until [told](Load::let_everything), without START and erasures.
    pub fn start(client: &Client, seed: u64, everything: bool) -> Self {
        let (over, acts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let everything = Arc::new(AtomicBool::new(everything));
        let workers = (0..WORKERS).map(|number| {
            let name = format!("soak-{seed}-{number}");
            let worker = Worker {
                client: client.clone(),
                dice: Dice::new(seed, &name),
                name,
                calls: 0,
                everything: Arc::clone(&everything),
                acts: Arc::clone(&acts),
                told: Told::default(),
            };
            tokio::spawn(worker.work(number, Arc::clone(&over)))
        });
        let workers = workers.collect();
        Self { over, everything, acts, workers }
    }

    /// From now on people do everything.
    pub fn let_everything(&self) {
        self.everything.store(true, Ordering::Relaxed);
    }

    /// How many acts were acknowledged so far.
    pub fn acts(&self) -> usize {
        self.acts.load(Ordering::Relaxed)
    }

    /// Lets every worker end its act, and gives what all of them know.
    pub async fn stop(self, faults: Vec<Fault>) -> History {
        self.over.store(true, Ordering::Relaxed);
        let mut history = History { faults, ..History::default() };
        for worker in self.workers {
            let told = worker.await.expect("a worker doesn't panic");
            history.people.extend(told.people);
            history.strange.extend(told.strange);
            for (what, times) in told.repeats {
                *history.repeats.entry(what).or_default() += times;
            }
        }
        history
    }
}

impl Worker {
    async fn work(mut self, number: u64, over: Arc<AtomicBool>) -> Told {
        while !over.load(Ordering::Relaxed) {
            let Some(mut person) = self.newcomer(number).await else { continue };
            // So that some are never erased, and some are while their messages are under way.
            let acts = 4 + self.dice.below(ACTS);
            for _ in 0..acts {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(act) = self.act(&person).await {
                    self.acts.fetch_add(1, Ordering::Relaxed);
                    person.acts.push(act);
                }
                if person.erased().is_some() {
                    break;
                }
            }
            self.told.people.push(person);
        }
        self.told
    }

    /// Somebody who wasn't known before.
    async fn newcomer(&mut self, number: u64) -> Option<Person> {
        let phone = format!("+336{number}{:07}", self.dice.below(10_000_000));
        let body = json!({"origin": "import", "rows": [{"phone": phone}]});
        let answer = self.call("vault", "/v1/subjects/import", &body).await?;
        // The dice may repeat themselves: whoever is there already has a story.
        let subject = answer["outcomes"][0]["subject_id"].as_str()?.to_owned();
        let known = self.told.people.iter().any(|other| other.phone == phone);
        (!known).then_some(Person { phone, subject, acts: Vec::new() })
    }

    /// None: nothing was done, or not as anybody expected.
    async fn act(&mut self, person: &Person) -> Option<Act> {
        let asked = SystemClock.boottime();
        let subject = &person.subject;
        let scope = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp"});
        let with = |more: Value| {
            let mut body = scope.clone();
            body.as_object_mut()?.extend(more.as_object()?.clone());
            Some(body)
        };
        let by_operator = json!({"actor": "operator", "method": "api"});
        let choice = choice(&mut self.dice, person.stopped());
        let everything = self.everything.load(Ordering::Relaxed);
        let what = match choice {
            START..START_END | ERASE.. if !everything => return None,
            0..26 => {
                let path = "/v1/consents/grant";
                let mut body = with(by_operator)?;
                // After a no, a bare claim isn't enough.
                body["evidence"] = self.sealed(subject).await?;
                match self.answer("consent", path, &body).await? {
                    (200, answer) => What::Grant(ids(&answer)),
                    (CONFLICT, problem) if person.ever_stopped() => {
                        What::GrantRefused(problem["code"].clone())
                    }
                    (status, problem) => return self.strange(path, status, &problem),
                }
            }
            26..66 => {
                let body = with(json!({"template": TEMPLATE, "parameters": []}))?;
                let answer = self.call("messaging", "/v1/messages", &body).await?;
                What::Queue(answer["message_id"].as_str()?.to_owned())
            }
            66..80 => {
                let path = "/v1/consents/withdraw";
                What::Withdraw(ids(&self.call("consent", path, &with(by_operator)?).await?))
            }
            80..83 => {
                self.writes(person, "STOP").await?;
                What::Stop
            }
            83..START_END => {
                self.writes(person, "START").await?;
                What::Start
            }
            START_END..ERASE => {
                let mut question = with(json!({"at": SystemClock.now().to_string()}))?;
                let path = "/v1/verdict/as-of";
                let answer = self.call("consent", path, &question).await?;
                question["known_at"] = answer["known_at"].clone();
                What::Ask(question, answer)
            }
            _ => {
                let identity = json!({"method": "operator", "reason": "soak"});
                let body =
                    json!({"subject_id": subject, "actor": "operator", "identity": identity});
                let answer = self.call("erasure", "/v1/requests", &body).await?;
                What::Erase(answer["request_id"].as_str()?.to_owned())
            }
        };
        Some(Act { what, asked, answered: SystemClock.boottime() })
    }

    /// Evidence, sealed under her key.
    async fn sealed(&mut self, subject: &str) -> Option<Value> {
        let body = json!({"subject_id": subject, "record": subject, "field": "consent.evidence",
            "text": "form 12"});
        let answer = self.call("vault", "/v1/seal", &body).await?;
        Some(answer["sealed"].clone())
    }

    /// She writes until the webhook has answered that it was taken.
    async fn writes(&mut self, person: &Person, text: &str) -> Option<()> {
        let body = json!({"from": person.phone, "text": text});
        self.call("whatsapp-sim", "/_sim/inbound", &body).await.map(|_| ())
    }

    /// Notes an answer that nobody expected.
    fn strange<T>(&mut self, path: &str, status: u16, problem: &Value) -> Option<T> {
        let code = problem["code"].as_str().unwrap_or("no code");
        self.told.strange.push(format!("{path}: {status} {code}"));
        None
    }

    /// Calls until it is done.
    async fn call(&mut self, service: &str, path: &str, body: &Value) -> Option<Value> {
        match self.answer(service, path, body).await? {
            (CONFLICT, problem) => self.strange(path, CONFLICT, &problem),
            (_, answer) => Some(answer),
        }
    }

    /// Calls with a key of its own until it is done or can't be done now.
    async fn answer(&mut self, service: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.calls += 1;
        let key = format!("{}-{}", self.name, self.calls);
        let give_up = SystemClock.boottime() + PATIENCE;
        loop {
            let instead = match self.client.try_post(service, path, body, Some(&key)).await {
                Ok((status @ (200..300 | CONFLICT), answer)) => return Some((status, answer)),
                Ok((status @ (429 | 502 | 503 | 504), _)) => format!("{service} {status}"),
                Ok((status, problem)) => return self.strange(path, status, &problem),
                Err(_) => format!("{service} no answer"),
            };
            *self.told.repeats.entry(instead).or_default() += 1;
            if SystemClock.boottime() > give_up {
                self.told.strange.push(format!("{service} {path}: no answer in {PATIENCE:?}"));
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What is done next, of a hundred. Whoever stopped often thinks better of it: nobody else may lift that.
pub fn choice(dice: &mut Dice, stopped: bool) -> u64 {
    match stopped && dice.percent(40) {
        true => START,
        false => dice.below(100),
    }
}

fn ids(answer: &Value) -> Vec<String> {
    let events = answer["events"].as_array().into_iter().flatten();
    events.filter_map(|id| id.as_str().map(str::to_owned)).collect()
}
