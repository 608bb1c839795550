//! What the simulator remembers, in memory only: every call, every inbound message, the faults
//! still to come. It keeps no files; a reset or a restart forgets everything.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Options, clock};

/// The simulator's state and its way out to the webhook.
pub struct World {
    /// How it was started.
    pub options: Options,
    /// The client for webhooks.
    pub http: reqwest::Client,
    state: Mutex<State>,
}

/// Everything that a reset forgets.
#[derive(Default)]
pub struct State {
    calls: Vec<Call>,
    /// Numbers are never used twice, also not after a reset: a late call can't touch a new one.
    last_number: u64,
    /// Calls whose head arrived but never a byte of their body.
    pub calls_without_body: u64,
    /// Faults still to come, oldest first.
    pub faults: VecDeque<Fault>,
    /// Messages from people.
    pub inbound: Vec<Inbound>,
    /// When each party last wrote: free-form messages are allowed for 24 hours after.
    pub last_inbound: HashMap<String, Timestamp>,
    /// Parties who stopped marketing messages in WhatsApp itself.
    pub stopped: HashSet<String>,
    /// Registered templates; none registered: every name is known.
    pub templates: Vec<Template>,
    /// Which statuses follow an accepted message.
    pub plan: StatusPlan,
    /// When each call of the last second came, and each call per party of the last minutes.
    pub rates: crate::rates::Rates,
}

/// One call of `POST /{version}/{phone_number_id}/messages`.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Calls in the order in which their first byte arrived.
    pub number: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// `to` as given.
    pub to: Option<String>,
    /// The BSUID, where `recipient` counted.
    pub user_id: Option<String>,
    /// Digits or BSUID that it would really have been sent to.
    pub party: Option<String>,
    /// `template`, `text` or `interactive`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The template's name.
    pub template: Option<String>,
    /// `biz_opaque_callback_data`.
    pub callback_data: Option<String>,
    /// The message id, once it exists (also where the answer was withheld).
    pub wamid: Option<String>,
    /// Meta's error code, where it was refused.
    pub error_code: Option<i64>,
    /// Statuses that were made for it, in order.
    pub statuses: Vec<String>,
    /// CLOCK_BOOTTIME of the read that brought the first byte of the body.
    pub first_byte_boottime_ns: u64,
    /// CLOCK_BOOTTIME of the read that brought the last; none while it is still arriving.
    pub last_byte_boottime_ns: Option<u64>,
    /// The W3C trace context that came with it.
    pub traceparent: Option<String>,
    /// The body, where it was JSON.
    pub body: Option<Value>,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The body is still arriving.
    Receiving,
    /// The connection ended in the middle of the body.
    Aborted,
    /// It has a message id.
    Accepted,
    /// It got an error.
    Refused,
}

/// A message from a person.
#[derive(Debug, Clone, Serialize)]
pub struct Inbound {
    /// Its wamid.
    pub id: String,
    /// Digits or BSUID.
    pub party: String,
    /// What it says, as the phone page shows it.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// A template that exists at Meta.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Its language code.
    pub language: String,
    /// How many parameters its body takes.
    #[serde(default)]
    pub body_parameters: usize,
    /// `MARKETING`, `UTILITY` or `AUTHENTICATION`.
    #[serde(default)]
    pub category: Option<String>,
}

/// Statuses that follow an accepted message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusPlan {
    /// Which, in which order.
    pub statuses: Vec<String>,
    /// How long before each.
    pub delay_ms: u64,
}

impl Default for StatusPlan {
    fn default() -> Self {
        Self { statuses: ["sent", "delivered", "read"].map(str::to_owned).to_vec(), delay_ms: 50 }
    }
}

/// An injected fault: strikes the next `next` calls (for one party, where `for_to` is given).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fault {
    /// How many calls it strikes.
    #[serde(default = "one")]
    pub next: u64,
    /// What happens.
    #[serde(flatten)]
    pub kind: FaultKind,
    /// Only calls to this number (any spelling with its digits) or BSUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_to: Option<String>,
}

fn one() -> u64 {
    1
}

/// What a fault does, once the body has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FaultKind {
    /// Refuses with Meta's error of this code.
    Error {
        /// The code.
        code: i64,
    },
    /// Accepts, then reports failure by a status webhook with this code.
    FailedStatus {
        /// The code.
        code: i64,
    },
    /// Answers with this HTTP status and a body that isn't Meta's.
    HttpStatus {
        /// The status.
        status: u16,
    },
    /// Answers later.
    Delay {
        /// How much later.
        delay_ms: u64,
    },
    /// Accepts the message, then drops the connection without an answer.
    DropConnection,
    /// Accepts the message, then never answers.
    NoAnswer,
}

impl Fault {
    fn strikes(&self, party: &str) -> bool {
        let Some(to) = &self.for_to else { return true };
        let digits: String = to.chars().filter(char::is_ascii_digit).collect();
        to == party || (!digits.is_empty() && digits == party)
    }
}

impl World {
    /// A world without a past.
    pub fn new(options: Options) -> Arc<Self> {
        #[expect(
            clippy::disallowed_methods,
            reason = "outside Assent: retries are off, time-outs set"
        )]
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .retry(reqwest::retry::never())
            .no_proxy()
            .build()
            .expect("a client with these settings can be built");
        let state = State { plan: options.plan.clone(), ..State::default() };
        Arc::new(Self { options, http, state: Mutex::new(state) })
    }

    /// The state. Nobody awaits while holding it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything.
    pub fn reset(&self) {
        let mut state = self.state();
        let last_number = state.last_number;
        *state = State { last_number, plan: self.options.plan.clone(), ..State::default() };
    }
}

impl State {
    /// Every call whose body began, in that order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Records a call's first byte and gives the call's number.
    pub fn begin(&mut self, first_byte_boottime_ns: u64) -> u64 {
        self.last_number += 1;
        self.calls.push(Call {
            number: self.last_number,
            outcome: Outcome::Receiving,
            to: None,
            user_id: None,
            party: None,
            kind: None,
            template: None,
            callback_data: None,
            wamid: None,
            error_code: None,
            statuses: Vec::new(),
            first_byte_boottime_ns,
            last_byte_boottime_ns: None,
            traceparent: None,
            body: None,
        });
        self.last_number
    }

    /// The call with this number, unless a reset forgot it.
    pub fn call(&mut self, number: u64) -> Option<&mut Call> {
        let at = self.calls.binary_search_by_key(&number, |call| call.number).ok()?;
        self.calls.get_mut(at)
    }

    /// The call that made this message.
    pub fn call_of(&mut self, wamid: &str) -> Option<&mut Call> {
        self.calls.iter_mut().rev().find(|call| call.wamid.as_deref() == Some(wamid))
    }

    /// The fault that strikes a call to `party`, counted down.
    pub fn strike(&mut self, party: &str) -> Option<FaultKind> {
        let at = self.faults.iter().position(|fault| fault.strikes(party))?;
        let fault = &mut self.faults[at];
        fault.next = fault.next.saturating_sub(1);
        let kind = fault.kind.clone();
        if fault.next == 0 {
            self.faults.remove(at);
        }
        Some(kind)
    }

    /// Whether free-form messages to `party` are allowed now.
    pub fn window_open(&self, party: &str) -> bool {
        self.last_inbound
            .get(party)
            .is_some_and(|at| clock::now().duration_since(*at).as_secs() < 24 * 60 * 60)
    }
}
