//! What the simulator remembers, in memory only: every call, every inbound message, the faults
//! still to come. It keeps no files; a reset or a restart forgets everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Options;
use crate::blocks::Blocks;
use crate::callbacks::Callbacks;
use crate::clock::Clock;
use crate::limits::{Limits, Used};
use crate::media::Medium;
use crate::numbers::Number;
use crate::people::People;
use crate::random::Random;
use crate::review::Reviews;
use crate::scenario::{Fault, FaultKind, Scenario};
use crate::template::{Template, plain_components};
use crate::uploads::Session;
use crate::violations::Violations;

/// The simulator's state and its way out to the webhook.
pub struct World {
    /// How it was started.
    pub options: Options,
    /// Where it is found, for the links that it gives.
    pub url: String,
    /// The client for webhooks.
    pub http: reqwest::Client,
    /// The time by which it goes.
    pub clock: Clock,
    /// Where chance comes from.
    pub random: Random,
    state: Mutex<State>,
}

/// Everything that a reset forgets.
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
    /// Everybody whom it knows.
    pub people: People,
    /// The account's templates.
    pub templates: Vec<Template>,
    /// What becomes of new templates.
    pub reviews: Reviews,
    /// Uploaded media by id.
    pub media: BTreeMap<String, Medium>,
    /// Uploads that were begun, by their ids.
    pub uploads: BTreeMap<String, Session>,
    /// The handles of finished ones.
    pub handles: BTreeSet<String>,
    /// The business number and its profile.
    pub number: Number,
    /// Whom the business blocked.
    pub blocks: Blocks,
    /// Where webhooks go.
    pub callbacks: Callbacks,
    /// Which statuses follow an accepted message.
    pub plan: StatusPlan,
    /// Which limits are enforced.
    pub limits: Limits,
    /// What was used of them.
    pub used: Used,
    /// Which rules were broken.
    pub violations: Violations,
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
    /// Its type, as the Cloud API calls it; `read` for a read mark.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The template's name.
    pub template: Option<String>,
    /// The template's category when it was sent.
    pub category: Option<String>,
    /// Whether it went out inside the window.
    pub in_window: bool,
    /// When it came, by the simulated clock.
    pub at: Timestamp,
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
    /// Whether the business marked it as read.
    pub read: bool,
    /// Until when the business shows that it is typing.
    pub typing_until: Option<Timestamp>,
}

/// A template that exists at Meta, as a test or a scenario names it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GivenTemplate {
    /// Its name.
    pub name: String,
    /// Its language code.
    pub language: String,
    /// How many parameters its body takes, where `components` aren't given.
    #[serde(default)]
    pub body_parameters: usize,
    /// Its components as Meta has them.
    #[serde(default)]
    pub components: Option<Vec<Value>>,
    /// `MARKETING` (unless given), `UTILITY` or `AUTHENTICATION`.
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

impl World {
    /// A world without a past, found at `url`.
    pub fn new(options: Options, url: String) -> Arc<Self> {
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
        let (clock, random) = (Clock::default(), Random::new(options.seed));
        let state = State::new(&options, &random, clock.now(), 0);
        Arc::new(Self { options, url, http, clock, random, state: Mutex::new(state) })
    }

    /// The simulated time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The simulated time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.now().as_millisecond()).unwrap_or(0)
    }

    /// The state. Nobody awaits while holding it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything; the clock stays where it was driven.
    pub fn reset(&self) {
        let mut state = self.state();
        *state = State::new(&self.options, &self.random, self.now(), state.last_number);
    }
}

impl State {
    fn new(options: &Options, random: &Random, now: Timestamp, last_number: u64) -> Self {
        let mut state = Self {
            calls: Vec::new(),
            last_number,
            calls_without_body: 0,
            faults: VecDeque::new(),
            inbound: Vec::new(),
            people: People::default(),
            templates: Vec::new(),
            reviews: Reviews::default(),
            media: BTreeMap::new(),
            uploads: BTreeMap::new(),
            handles: BTreeSet::new(),
            number: Number::default(),
            blocks: Blocks::default(),
            callbacks: Callbacks::new(options),
            plan: options.plan.clone(),
            limits: options.limits,
            used: Used::default(),
            violations: Violations::default(),
        };
        if let Some(scenario) = &options.scenario {
            state.play(scenario.clone(), random, now);
        }
        state
    }

    /// From now on things go as the scenario says: its faults instead of others, and its statuses,
    /// limits and templates where it has any.
    pub fn play(&mut self, scenario: Scenario, random: &Random, now: Timestamp) {
        self.faults = scenario.faults.into_iter().map(Fault::begun).collect();
        self.plan = scenario.statuses.unwrap_or_else(|| self.plan.clone());
        self.limits = scenario.limits.unwrap_or(self.limits);
        if !scenario.templates.is_empty() {
            self.put_templates(scenario.templates, random, now);
        }
    }

    /// These templates exist, approved, and no others.
    pub fn put_templates(&mut self, given: Vec<GivenTemplate>, random: &Random, now: Timestamp) {
        let approved = |given: GivenTemplate| Template {
            components: given.components.unwrap_or_else(|| plain_components(given.body_parameters)),
            category: given.category.unwrap_or_else(|| "MARKETING".to_owned()),
            adopted: false,
            ..Template::adopted(random.object_id(), &given.name, &given.language, now)
        };
        self.templates = given.into_iter().map(approved).collect();
    }

    /// Every call whose body began, in that order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// Records a call's first byte and gives the call's number.
    pub fn begin(&mut self, first_byte_boottime_ns: u64, at: Timestamp) -> u64 {
        self.last_number += 1;
        self.calls.push(Call {
            number: self.last_number,
            outcome: Outcome::Receiving,
            to: None,
            user_id: None,
            party: None,
            kind: None,
            template: None,
            category: None,
            in_window: false,
            at,
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

    /// The fault that strikes a send to `party`. All of them count it; the oldest that strikes wins.
    pub fn strike(&mut self, party: &str, random: &Random) -> Option<FaultKind> {
        let mut kind = None;
        for fault in &mut self.faults {
            if fault.strikes(party, random) && kind.is_none() {
                fault.struck();
                kind = Some(fault.kind.clone());
            }
        }
        self.faults.retain(|fault| !fault.spent());
        kind
    }
}
