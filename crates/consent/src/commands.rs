//! Commands on the ledgers, batched: those that arrive together share one transaction. It
//! guarantees that events, lines and lifted stops commit together and that every outcome says
//! whether its answer must wait until it has settled; the waiting is left to the endpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::ConsentAnswer;
use assent_contracts::consent::STATE;
use assent_contracts::topics::{CONSENT_EVENTS, CONSENT_STATE};
use assent_eventstore::batcher::{BatchHandler, Footprint};
use assent_eventstore::{
    Append, Expected, Idempotency, NewEvent, Session, StateRecord, StoreError, Stream,
};
use assent_runtime::{Clock, Ids};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::ledger::{Act, Bars, Command, Event, Ledger, Notice, Refusal};
use crate::domain::scope::{ANY, Scope};
use crate::gate;
use crate::lines::Lines;
use crate::policy::{self, Version};
use crate::stored;

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
        /// In which language she was asked; none: the default one.
        locale: Option<String>,
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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Handles the commands of a batch.
pub struct LedgerHandler {
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
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
        let mut facts = Facts::collect(session.conn(), commands).await?;
        facts.collect_versions(session, commands).await?;

        let now = self.clock.now();
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
                        events: first.event_ids,
                        version: first.version,
                    },
                    // The first answer may never have been given: whoever hears this one must be
                    // able to rely on it.
                    settle: matches!(command.wish, Wish::Withdraw { .. } | Wish::Refuse { .. }),
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
            Wish::Grant { scope, act, own_addresses, locale } => {
                let notice = facts.notice(&scope, act.acted_at, locale.as_deref())?;
                let own_act = !own_addresses.is_empty();
                // What stands may be younger than an act that is told later: only what is older is
                // lifted, and nothing on the word of somebody else.
                let acted_at = act.acted_at;
                let bars = facts.bars.get(&command.subject).copied().unwrap_or_default();
                let decision =
                    ledger.decide(Command::Grant { scope, notice, act, own_act, bars }, now)?;
                if own_act {
                    let tokens = own_addresses.iter().map(|token| token.to_bytes().to_vec());
                    pending.lift_all.entry(acted_at).or_default().extend(tokens);
                } else if bars.stopped && acted_at.is_none() {
                    pending.lift_stops.push(command.subject);
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
                idempotency: command.idempotency,
                traceparent: command.traceparent.clone(),
            },
        );
        let answer = ConsentAnswer { subject_id: command.subject, events, version: ledger.version };
        Ok(Outcome { answer, settle })
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
        let state = (!events.is_empty()).then(|| state_record(ids, ledger));
        self.appends.push(Append {
            state,
            idempotency: origin.idempotency,
            traceparent: origin.traceparent,
            ..Append::new(subject, Expected::Exact(before), CONSENT_EVENTS, events, at)
        });
        event_ids
    }

    /// Writes everything, in few statements.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn write(self, session: &mut Session, now: Timestamp) -> Result<(), StoreError> {
        self.lines.write(session.conn()).await?;
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

/// What commands are decided on beside the ledgers: the newest notice of each purpose, and what
/// stands against the addresses of each person.
#[derive(Debug, Default)]
struct Facts {
    purposes: HashMap<String, (Vec<String>, Notice)>,
    /// All versions of those purposes that are granted as of an earlier time or in a language that
    /// was named.
    versions: HashMap<String, Vec<Version>>,
    bars: HashMap<SubjectId, Bars>,
}

impl Facts {
    async fn collect(
        conn: &mut PgConnection,
        commands: &[LedgerCommand],
    ) -> Result<Self, StoreError> {
        // A deployment has a handful of purposes.
        const PURPOSES: &str =
            "SELECT purpose, channels, notice_version, notice_hash, validity_days FROM purposes";
        const BARS: &str = "
            SELECT l.subject_id, bool_or(r.stopped_by IS NOT NULL),
                   bool_or(r.suppressed_by IS NOT NULL), bool_or(r.erased_by IS NOT NULL)
            FROM gate_links l JOIN gate_rows r USING (token)
            WHERE l.subject_id = ANY($1) GROUP BY l.subject_id";
        let mut facts = Self::default();
        for row in sqlx::query(PURPOSES).fetch_all(&mut *conn).await? {
            let number = |value: i32| u32::try_from(value).unwrap_or_default();
            let notice = Notice {
                version: number(row.try_get(2)?),
                hash: row.try_get(3)?,
                validity_days: row.try_get::<Option<i32>, _>(4)?.map(number),
            };
            facts.purposes.insert(row.try_get(0)?, (row.try_get(1)?, notice));
        }
        let barred: Vec<SubjectId> = commands
            .iter()
            .filter(|command| {
                matches!(&command.wish, Wish::Grant { own_addresses, .. } if own_addresses.is_empty())
            })
            .map(|command| command.subject)
            .collect();
        if !barred.is_empty() {
            for row in sqlx::query(BARS).bind(&barred).fetch_all(conn).await? {
                let bars = Bars {
                    stopped: row.try_get(1)?,
                    suppressed: row.try_get(2)?,
                    erased: row.try_get(3)?,
                };
                facts.bars.insert(row.try_get(0)?, bars);
            }
        }
        Ok(facts)
    }

    /// The notices of earlier days and of all languages, where a grant needs them: consent points
    /// at the notice that was shown.
    async fn collect_versions(
        &mut self,
        session: &mut Session,
        commands: &[LedgerCommand],
    ) -> Result<(), StoreError> {
        let told: BTreeSet<&str> = commands
            .iter()
            .filter_map(|command| match &command.wish {
                Wish::Grant { scope, act, locale, .. }
                    if act.acted_at.is_some() || locale.is_some() =>
                {
                    Some(&*scope.purpose)
                }
                _ => None,
            })
            .filter(|purpose| self.purposes.contains_key(*purpose))
            .collect();
        for purpose in told {
            let versions = policy::history(session.conn(), purpose).await?;
            self.versions.insert(purpose.to_owned(), versions);
        }
        Ok(())
    }

    fn notice(
        &self,
        scope: &Scope,
        acted_at: Option<Timestamp>,
        locale: Option<&str>,
    ) -> Result<Notice, CommandError> {
        if scope.is_wide() {
            return Err(Refusal::NotSpecific.into());
        }
        self.known(scope)?;
        let (_, newest) = self.purposes.get(&scope.purpose).ok_or(CommandError::PurposeUnknown)?;
        if acted_at.is_none() && locale.is_none() {
            return Ok(newest.clone());
        }
        let versions = self.versions.get(&scope.purpose).map_or(&[][..], Vec::as_slice);
        let then = |at: &Timestamp| acted_at.is_none_or(|acted_at| *at <= acted_at);
        let shown = versions.iter().rev().find(|(_, at, _)| then(at));
        let shown = shown.and_then(|(_, _, defined)| defined.as_ref());
        shown.and_then(|defined| Notice::of(defined, locale)).ok_or(CommandError::NoNoticeThen)
    }

    /// Names that mean nothing here are refused: they would be free text in the ledger.
    fn known(&self, scope: &Scope) -> Result<(), CommandError> {
        let mut channels: Box<dyn Iterator<Item = &String>> = if scope.purpose == ANY {
            Box::new(self.purposes.values().flat_map(|(channels, _)| channels))
        } else {
            let known = self.purposes.get(&scope.purpose).ok_or(CommandError::PurposeUnknown)?;
            Box::new(known.0.iter())
        };
        if scope.channel == ANY || channels.any(|channel| *channel == scope.channel) {
            return Ok(());
        }
        Err(CommandError::ChannelUnknown)
    }
}
