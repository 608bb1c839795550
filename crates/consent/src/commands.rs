//! Commands on the ledgers, batched: those that arrive together share one transaction. It
//! guarantees that events, lines and lifted stops commit together and that every outcome says
//! whether its answer must wait until it has settled; the waiting is left to the endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{ConsentAnswer, Unconfirmed};
use assent_contracts::consent::{Actor, AskKind, REQUESTED, STATE};
use assent_contracts::sealed::Sealed;
use assent_contracts::topics::{CONSENT_EVENTS, CONSENT_STATE};
use assent_eventstore::batcher::{BatchHandler, Footprint};
use assent_eventstore::{
    Append, Expected, Idempotency, NewEvent, Session, StateRecord, StoreError, StoredEvent, Stream,
};
use assent_rules::RuleSet;
use assent_runtime::broken::{self, Guarantee};
use assent_runtime::{Clock, Ids};
use assent_sealing::LinkKey;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::codes::{self, confirmation};
use crate::domain::decide::{Bars, Command, Refusal};
use crate::domain::event::{Act, Age, Event, Question};
use crate::domain::ledger::Ledger;
use crate::domain::scope::Scope;
use crate::facts::Facts;
use crate::lines::Lines;
use crate::{ages, asks, gate, restrictions, stored};

/// How long a yes waits to be confirmed (double opt-in).
pub const CONFIRM_WITHIN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is asked for.
#[derive(Debug, Clone)]
pub enum Wish {
    /// Record that she agrees. With addresses: she acted herself, from them.
    Grant {
        /// To what.
        scope: Scope,
        /// How it came in.
        act: Act,
        /// The addresses she acted from.
        own_addresses: Vec<AddressToken>,
        /// What she was shown.
        shown: Shown,
    },
    /// Record that she confirms what was said for her. With addresses: from them.
    Confirm {
        /// The request.
        request_id: Uuid,
        /// How it came in.
        act: Act,
        /// The addresses she acted from.
        own_addresses: Vec<AddressToken>,
    },
    /// Have her asked by a message.
    Ask {
        /// For what.
        scope: Scope,
        /// In which language; none: the one in which she agreed before, else the default one.
        locale: Option<String>,
    },
    /// Record whether she is old enough.
    StateAge {
        /// Whether she is.
        age: Age,
        /// Which age that would be, in years.
        required: u8,
        /// Who says so.
        actor: Actor,
        /// Evidence, sealed under her key.
        evidence: Option<Sealed>,
    },
    /// Record that her data are kept and not used.
    Restrict {
        /// The request that asks for it.
        request_id: Uuid,
    },
    /// Record that the restriction of a request is over.
    LiftRestriction {
        /// The request that had asked for it.
        request_id: Uuid,
    },
    /// Record that she did something of her own towards us.
    Contact {
        /// On which channel.
        channel: String,
        /// When.
        acted_at: Timestamp,
    },
    /// Record that she says no.
    Refuse {
        /// To what.
        scope: Scope,
        /// How it came in.
        act: Act,
    },
    /// Record that she takes it back.
    Withdraw {
        /// What.
        scope: Scope,
        /// How it came in.
        act: Act,
    },
    /// Record that its time is over.
    Expire {
        /// Which consent.
        scope: Scope,
    },
}

/// Which notice she was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The one in the controller's first language.
    Default,
    /// The one in this language.
    InLanguage(String),
    /// The one with this hash.
    Notice(String),
}

/// A command on the ledger of one person.
#[derive(Debug, Clone)]
pub struct LedgerCommand {
    /// Whose ledger.
    pub subject: SubjectId,
    /// What is asked for.
    pub wish: Wish,
    /// The idempotency key it came with.
    pub idempotency: Option<Idempotency>,
    /// Trace context of the request.
    pub traceparent: Option<String>,
}

impl LedgerCommand {
    /// One that no request brought: this service's own doing.
    #[must_use]
    pub const fn of_ours(subject: SubjectId, wish: Wish) -> Self {
        Self { subject, wish, idempotency: None, traceparent: None }
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub answer: ConsentAnswer,
    /// A right was, or may have been, taken away: answer only when that has settled.
    pub settle: bool,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The ledger says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is no such purpose.
    #[error("the purpose is not known")]
    PurposeUnknown,
    /// The purpose is not pursued on this channel.
    #[error("the channel is not known for this purpose")]
    ChannelUnknown,
    /// She can't have agreed to a notice that didn't exist.
    #[error(
        "at that time, in that language, this purpose had no notice that she could have agreed to"
    )]
    NoNoticeThen,
    /// The policy doesn't say how.
    #[error(
        "the policy does not say how people are asked for this: the purpose has no [ask], or the channel is not whatsapp"
    )]
    NotAskedFor,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommandError {
    /// Whether it is no use to try again: the ledger can't be read, or says no.
    #[must_use]
    pub const fn lasts(&self) -> bool {
        !matches!(self, Self::Store(error) if !matches!(
            error,
            StoreError::Undecodable { .. } | StoreError::Database(sqlx::Error::Decode(_))
        ))
    }
}

/// Handles the commands of a batch.
pub struct LedgerHandler {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// Makes the links and codes by which a yes is confirmed.
    pub links: Arc<LinkKey>,
    /// Say how soon people may be asked again.
    pub rules: Arc<RuleSet>,
}

impl BatchHandler for LedgerHandler {
    type Command = LedgerCommand;
    type Answer = Outcome;
    type Error = CommandError;

    fn footprint(&self, command: &LedgerCommand) -> Footprint {
        Footprint { streams: vec![command.subject], idempotency: command.idempotency }
    }

    async fn handle(
        &self,
        session: &mut Session,
        commands: &[LedgerCommand],
    ) -> Result<Vec<Result<Outcome, CommandError>>, StoreError> {
        let subjects: Vec<SubjectId> = commands.iter().map(|command| command.subject).collect();
        let mut streams = session.lock(&subjects).await?;
        let keys: Vec<Idempotency> = commands.iter().filter_map(|c| c.idempotency).collect();
        let mut first_answers = session.first_answers(&keys).await?.into_iter();
        let now = self.clock.now();
        let facts = Facts::collect(session, commands, &self.rules, now).await?;
        let mut pending = Pending::default();
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            let first = match command.idempotency {
                Some(_) => first_answers.next().unwrap_or(Ok(None)),
                None => Ok(None),
            };
            outcomes.push(match first {
                Err(error) => Err(error.into()),
                Ok(Some(first)) => Ok(Outcome {
                    answer: ConsentAnswer {
                        subject_id: first.stream,
                        unconfirmed: match streams.get(&command.subject) {
                            Some(stream) => self.unconfirmed(stream, &first.event_ids)?,
                            None => None,
                        },
                        events: first.event_ids,
                        version: first.version,
                    },
                    // The first answer may never have been given: whoever hears this one must be
                    // able to rely on it.
                    settle: matches!(
                        command.wish,
                        Wish::Withdraw { .. }
                            | Wish::Refuse { .. }
                            | Wish::StateAge { .. }
                            | Wish::Restrict { .. }
                    ),
                }),
                Ok(None) => {
                    let stream = streams.remove(&command.subject).unwrap_or_default();
                    self.decide(command, &stream, &facts, now, &mut pending)
                }
            });
        }
        pending.write(session, now).await?;
        Ok(outcomes)
    }
}

impl LedgerHandler {
    fn decide(
        &self,
        command: &LedgerCommand,
        stream: &Stream,
        facts: &Facts,
        now: Timestamp,
        pending: &mut Pending,
    ) -> Result<Outcome, CommandError> {
        let mut ledger = ledger(stream)?;
        let (decision, settle) = match command.wish.clone() {
            Wish::Grant { scope, act, own_addresses, shown } => {
                let notice = facts.notice(&scope, &act, &shown)?;
                let (acted_at, bars) = (act.acted_at, facts.bars(command.subject));
                let own_act = !own_addresses.is_empty();
                let unconfirmed = facts.double_opt_in(&scope) && !own_act;
                let confirm_until =
                    unconfirmed.then(|| now.checked_add(CONFIRM_WITHIN).unwrap_or(Timestamp::MAX));
                let grant = Command::Grant { scope, notice, act, own_act, bars, confirm_until };
                let decision = ledger.decide(grant, now)?;
                if !unconfirmed {
                    pending.lift(command.subject, &own_addresses, bars, acted_at);
                }
                (decision, false)
            }
            Wish::Confirm { request_id, act, own_addresses } => {
                let (acted_at, bars) = (act.acted_at, facts.bars(command.subject));
                let own_act = !own_addresses.is_empty();
                let decision =
                    ledger.decide(Command::Confirm { request_id, act, own_act, bars }, now)?;
                pending.lift(command.subject, &own_addresses, bars, acted_at);
                (decision, false)
            }
            Wish::Ask { scope, locale } => {
                let agreed = ledger.last_word(&scope).and_then(|line| line.notice_hash);
                let how = facts.how_to_ask(&scope, locale.as_deref(), agreed.as_deref())?;
                let request_id = self.ids.v7();
                let question = Question {
                    request_id,
                    scope,
                    notice: how.notice,
                    // What holds decides.
                    kind: AskKind::First,
                    template: how.template,
                    language: how.language,
                    code: codes::confirming(&self.links, request_id),
                };
                let bars = facts.bars(command.subject);
                let (before, again_after) = (how.before, how.again_after);
                let accepted = how.accepted;
                let ask = Command::Ask { question, before, again_after, accepted, bars };
                (ledger.decide(ask, now)?, false)
            }
            Wish::StateAge { age, required, actor, evidence } => {
                // Known to be too young, she may have lost what she had.
                let settle = !(age.of_age && age.may_be_targeted);
                let command = Command::StateAge { age, required, actor, evidence };
                (ledger.decide(command, now)?, settle)
            }
            Wish::Restrict { request_id } => {
                // Also where it stands: whoever asks anew rests on the answer.
                (ledger.decide(Command::Restrict { request_id }, now)?, true)
            }
            Wish::LiftRestriction { request_id } => {
                (ledger.decide(Command::LiftRestriction { request_id }, now)?, false)
            }
            Wish::Contact { channel, acted_at } => {
                let decision = ledger.decide(Command::Contact { channel, acted_at }, now)?;
                if !decision.is_empty() {
                    pending.contacts.push((command.subject, acted_at.min(now)));
                }
                (decision, false)
            }
            Wish::Refuse { scope, act } => {
                facts.known(&scope)?;
                let takes = ledger.has_given(&scope);
                (ledger.decide(Command::Refuse { scope, act }, now)?, takes)
            }
            Wish::Withdraw { scope, act } => {
                facts.known(&scope)?;
                (ledger.decide(Command::Withdraw { scope, act }, now)?, true)
            }
            Wish::Expire { scope } => (ledger.decide(Command::Expire { scope }, now)?, false),
        };
        let events = pending.push(
            &*self.ids,
            command.subject,
            &mut ledger,
            &decision,
            Origin {
                now,
                idempotency: command.idempotency.filter(|_| !broken::is(Guarantee::G2)),
                traceparent: command.traceparent.clone(),
            },
        );
        let unconfirmed = match (&decision[..], &events[..]) {
            ([Event::Requested { expires_at, .. }], [id]) => {
                let unconfirmed = confirmation(&self.links, command.subject, *id, *expires_at);
                pending.codes.push((command.subject, unconfirmed.clone()));
                Some(unconfirmed)
            }
            ([Event::Asked { question, expires_at, .. }], _) => {
                pending.asks.push((command.subject, question.clone(), now));
                let unconfirmed =
                    confirmation(&self.links, command.subject, question.request_id, *expires_at);
                pending.codes.push((command.subject, unconfirmed));
                None
            }
            _ => None,
        };
        let version = ledger.version;
        let answer = ConsentAnswer { subject_id: command.subject, events, version, unconfirmed };
        Ok(Outcome { answer, settle })
    }

    /// How the yes that a first answer spoke of is confirmed.
    fn unconfirmed(
        &self,
        stream: &Stream,
        events: &[Uuid],
    ) -> Result<Option<Unconfirmed>, StoreError> {
        let requested =
            |event: &&StoredEvent| events.contains(&event.id) && event.event_type == REQUESTED;
        let Some(event) = stream.events.iter().find(requested) else { return Ok(None) };
        let decoded = stored::decode(&event.event_type, &event.data)
            .map_err(|error| StoreError::Database(sqlx::Error::Decode(error.into())))?;
        let Event::Requested { expires_at, .. } = decoded else { return Ok(None) };
        Ok(Some(confirmation(&self.links, event.stream, event.id, expires_at)))
    }
}

/// The ledger behind a stream.
///
/// # Errors
/// When an event can't be read.
pub fn ledger(stream: &Stream) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::default();
    for event in &stream.events {
        let decoded = stored::decode(&event.event_type, &event.data)
            .map_err(|error| StoreError::Database(sqlx::Error::Decode(error.into())))?;
        ledger.evolve(event.id, event.version, &decoded);
    }
    ledger.version = stream.version;
    Ok(ledger)
}

/// Where and when events come from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// When they are recorded.
    pub now: Timestamp,
    /// The idempotency key of the command.
    pub idempotency: Option<Idempotency>,
    /// Trace context of the command.
    pub traceparent: Option<String>,
}

/// What a transaction is going to write.
#[derive(Debug, Default)]
pub struct Pending {
    appends: Vec<Append>,
    lines: Lines,
    /// Addresses from which people acted themselves, by when they did where that is told later.
    lift_all: BTreeMap<Option<Timestamp>, BTreeSet<Vec<u8>>>,
    lift_stops: Vec<SubjectId>,
    /// How yeses are confirmed, and whose.
    codes: Vec<(SubjectId, Unconfirmed)>,
    /// Who is asked what, and when that was decided.
    asks: Vec<(SubjectId, Question, Timestamp)>,
    /// Who did something of her own, and when.
    contacts: Vec<(SubjectId, Timestamp)>,
    /// Who said no to what: no message may ask her that any more.
    unasked: Vec<(SubjectId, Scope)>,
    /// What is known of people's ages, where that has changed.
    ages: Vec<(SubjectId, Uuid, Age)>,
    /// Whose data are not to be used, and whose are again, where that has changed.
    restrictions: Vec<(SubjectId, Option<(Uuid, Timestamp)>)>,
}

impl Pending {
    /// Adds the events of one decision and folds them into `ledger`. Gives the events' ids.
    pub fn push(
        &mut self,
        ids: &dyn Ids,
        subject: SubjectId,
        ledger: &mut Ledger,
        decision: &[Event],
        origin: Origin,
    ) -> Vec<Uuid> {
        if decision.is_empty() && origin.idempotency.is_none() {
            return Vec::new();
        }
        let before = ledger.version;
        let mut events = Vec::with_capacity(decision.len());
        for event in decision {
            let id = ids.v7();
            ledger.evolve(id, ledger.version + 1, event);
            let (event_type, data) = stored::encode(event);
            events.push(NewEvent { id, event_type, data: raw(data) });
        }
        let event_ids = events.iter().map(|event| event.id).collect();
        // The store's time of the record is the ledger's, which never steps back.
        let at = decision.iter().map(Event::at).max().unwrap_or(origin.now);
        self.lines.push_changed(subject, ledger, before);
        self.unasked.extend(decision.iter().filter_map(|event| match event {
            Event::Refused { scope, .. } | Event::Withdrawn { scope, .. } => {
                Some((subject, scope.clone()))
            }
            _ => None,
        }));
        if decision.iter().any(|event| matches!(event, Event::AgeStated { .. })) {
            self.ages.extend(ledger.age().map(|(event, age)| (subject, event, age)));
        }
        if decision.iter().any(restrictions::changes) {
            self.restrictions.push((subject, ledger.restricted()));
        }
        let state = (!events.is_empty()).then(|| state_record(ids, ledger));
        self.appends.push(Append {
            state,
            idempotency: origin.idempotency,
            traceparent: origin.traceparent,
            ..Append::new(subject, Expected::Exact(before), CONSENT_EVENTS, events, at)
        });
        event_ids
    }

    /// A yes lifts what stood against her: all of it on the addresses from which she acted herself;
    /// else the stops, which the ledger has let pass.
    fn lift(
        &mut self,
        subject: SubjectId,
        own_addresses: &[AddressToken],
        bars: Bars,
        acted_at: Option<Timestamp>,
    ) {
        // What stands may be younger than an act that is told later: only what is older is lifted,
        // and nothing on the word of somebody else.
        if !own_addresses.is_empty() {
            let tokens = own_addresses.iter().map(|token| token.to_bytes().to_vec());
            self.lift_all.entry(acted_at).or_default().extend(tokens);
        } else if bars.stopped && acted_at.is_none() {
            self.lift_stops.push(subject);
        }
    }

    /// Writes everything, in few statements.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn write(self, session: &mut Session, now: Timestamp) -> Result<(), StoreError> {
        self.lines.write(session.conn()).await?;
        for (subject, unconfirmed) in &self.codes {
            codes::keep(session.conn(), *subject, unconfirmed).await?;
        }
        asks::keep(session.conn(), &self.asks, &self.contacts).await?;
        asks::drop(session.conn(), &self.unasked).await?;
        ages::keep(session.conn(), &self.ages).await?;
        restrictions::keep(session.conn(), &self.restrictions).await?;
        for (acted_at, tokens) in self.lift_all {
            let tokens: Vec<Vec<u8>> = tokens.into_iter().collect();
            gate::lift_all(session.conn(), &tokens, acted_at, now).await?;
        }
        if !self.lift_stops.is_empty() {
            gate::lift_stops(session.conn(), &self.lift_stops, now).await?;
        }
        // Last: what an append has checked needs no look of its own before the commit.
        session.append(self.appends).await?;
        Ok(())
    }
}

/// The record of a ledger for the compacted topic: its state, or the tombstone of who is erased.
#[must_use]
pub fn state_record(ids: &dyn Ids, ledger: &Ledger) -> StateRecord {
    StateRecord {
        id: ids.v7(),
        topic: CONSENT_STATE,
        event_type: STATE,
        data: ledger.erased.is_none().then(|| raw(stored::state(ledger))),
    }
}

pub(crate) fn raw(json: String) -> Box<RawValue> {
    RawValue::from_string(json).expect("serde wrote it")
}
