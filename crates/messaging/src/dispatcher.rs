//! Sends what is queued, through the gate. It guarantees that a provider call rests on a permit that
//! was asked for within the lease it is made under, that an intent is called at most once unless
//! it was certainly not sent, and that with the consent service or the vault down nothing is sent.
//!
//! The order is the point: claim the intents, take rate-limit tokens, start the lease, then look for
//! what earlier refusals of the provider stand against, resolve addresses, look for local stops and fences, ask for permits, mark as calling, and last look at
//! the lease inside the request's body. Everything that may forbid a send is read after the lease
//! has started: what is committed before is seen, and what is committed after waits the lease out
//! before it counts. Local stops are read after the addresses are known and before the permits: a
//! stop that left the local list in between is held by the consent service by then.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{
    Decision, Permit, PermitAsk, PermitsRequest, PermitsResponse, Verdict,
};
use assent_contracts::api::vault::{ResolveRequest, ResolveResponse, ResolvedAddress};
use assent_http::ClientError;
use assent_runtime::ops::Watchdog;
use assent_runtime::{Lease, Lifecycle, failpoint, telemetry};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::SignedDuration;
use jiff_sqlx::ToSqlx as _;
use sqlx::Row as _;
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::consequences::{self, Obstacle};
use crate::declarations;
use crate::domain::content::{Content, Values};
use crate::domain::intent::Happening;
use crate::intents::{self, Claimed, STOP_CONFIRMATION, Settlement};
use crate::metrics;
use crate::person_keys::LeasedKeys;
use crate::questions::CONSENT_REQUEST;
use crate::rates::{self, Reserved};
use crate::state::{Messaging, fenced};
use crate::stored::{self, Stored};
use crate::whatsapp::answer::Answer;
use crate::whatsapp::client::{Call, Outcome};
use crate::whatsapp::outbound::{self, Message, Recipient};
use crate::whatsapp::reaction::{self, Meaning, Reaction};

/// How often the queue is looked at when nothing announces an intent.
const POLL: Duration = Duration::from_millis(200);
/// How often expired claims are looked for.
const REAP: Duration = Duration::from_secs(1);
/// Most permits in one ask.
const ASK_MAX: usize = 100;
/// A number held back for longer than this gives its claims back.
const RATE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Outcomes that are written in one transaction.
const SETTLE_TOGETHER: usize = 64;
/// The kind of a reaction.
const REACTION: &str = "reaction";
/// How long the provider keeps messages.
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Dispatches until the soft stop. Any number of replicas may.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn run(
    messaging: Messaging,
    lifecycle: Lifecycle,
    watchdog: Watchdog,
) -> Result<(), std::convert::Infallible> {
    let stopping = lifecycle.stopping();
    let slots = Arc::new(Semaphore::new(messaging.config.sending.batches));
    while !stopping.is_cancelled() {
        watchdog.progress();
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot.ok(),
            () = stopping.cancelled() => break,
            () = tokio::time::sleep(POLL) => continue,
        };
        let claim_id = messaging.ids.v4();
        let limit = batch_limit(&messaging);
        let claim = messaging.config.sending.claim;
        match intents::claim(messaging.pool(), claim_id, limit, claim).await {
            Ok(batch) if !batch.is_empty() => {
                let messaging = messaging.clone();
                lifecycle.track(async move {
                    Batch { messaging, claim_id }.send(batch).await;
                    drop(slot);
                });
                continue;
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the queue can't be read"),
        }
        drop(slot);
        tokio::select! {
            () = stopping.cancelled() => {}
            () = messaging.queued.notified() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
    Ok(())
}

/// Looks for expired claims until the soft stop.
///
/// # Errors
/// Never: what fails is logged and tried again.
pub async fn reap(
    messaging: Messaging,
    lifecycle: Lifecycle,
) -> Result<(), std::convert::Infallible> {
    let stopping = lifecycle.stopping();
    while !stopping.is_cancelled() {
        match intents::reap(&messaging).await {
            Ok((0, 0)) => {}
            Ok((requeued, lost)) => tracing::warn!(requeued, lost, "expired claims"),
            Err(error) => tracing::warn!(%error, "expired claims can't be looked for"),
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = tokio::time::sleep(REAP) => {}
        }
    }
    Ok(())
}

/// No more than can be sent in half a lease.
fn batch_limit(messaging: &Messaging) -> i64 {
    let half = messaging.config.terms.length.as_secs_f64() / 2.0;
    let sendable = f64::from(messaging.config.sending.per_second) * half;
    (sendable as usize).clamp(1, ASK_MAX) as i64
}

/// An intent that passed everything so far.
struct Ready {
    intent: Claimed,
    address: ResolvedAddress,
    said: Said,
}

/// What it says, opened.
enum Said {
    /// A template's values.
    Values(Values),
    /// Free-form content, and the provider's id of the message that it reacts to.
    Content(Content, Option<String>),
    /// The configured confirmation of a stop.
    Confirmation,
}

struct Batch {
    messaging: Messaging,
    claim_id: Uuid,
}

impl Batch {
    async fn send(&self, intents: Vec<Claimed>) {
        // Whatever happens, every intent of the batch gets an outcome; if writing it fails, its claim
        // expires and the reaper decides.
        let span = tracing::info_span!("dispatch", intents = intents.len());
        let causes = intents.iter().filter_map(|intent| intent.traceparent.as_deref());
        if intents.len() == 1 {
            causes.for_each(|cause| telemetry::set_parent(&span, cause));
        } else {
            causes.for_each(|cause| telemetry::link(&span, cause));
        }
        self.dispatch(intents).instrument(span).await;
    }

    async fn dispatch(&self, intents: Vec<Claimed>) {
        let config = &self.messaging.config;
        let number = &config.whatsapp.phone_number_id;
        let rate = config.sending.per_second;
        let pool = self.messaging.pool();
        match rates::reserve(pool, number, intents.len(), rate, RATE_WAIT_MAX).await {
            Ok(Reserved::After(wait)) => tokio::time::sleep(wait).await,
            Ok(Reserved::Resting(wait)) => {
                let wait = wait.min(Duration::from_secs(60));
                return self.release(&intents, "number_held_back", wait).await;
            }
            Err(error) => {
                tracing::warn!(%error, "no rate-limit tokens");
                return self.release(&intents, "", POLL).await;
            }
        }
        let lease = Lease::start(&self.messaging.clock, &config.terms);
        let (intents, marketing) = self.without_obstacles(intents).await;
        let ready = self.resolve(intents).await;
        let ready = self.without_local_bars(ready).await;
        let permitted = self.permitted(ready, &marketing).await;
        if permitted.is_empty() {
            return;
        }
        failpoint::hit_async("messaging.after_permit").await;
        let calling = self.mark_calling(permitted, &lease).await;
        if calling.is_empty() {
            return;
        }
        failpoint::hit_async("messaging.before_call").await;
        self.call(calling, &lease).await;
    }

    /// Without those that a refusal of the provider, of this message or of another, stands against. Tells
    /// which of the others are marketing, as the provider sees it.
    async fn without_obstacles(&self, intents: Vec<Claimed>) -> (Vec<Claimed>, HashSet<Uuid>) {
        let now = self.messaging.clock.now();
        let number = &self.messaging.config.whatsapp.phone_number_id;
        let standing = match consequences::standing(self.messaging.pool(), number, &intents, now)
            .await
        {
            Ok(standing) => standing,
            Err(error) => {
                tracing::warn!(%error, "what stands against sends can't be read: nothing is sent");
                self.put_off(&intents, "obstacles_unreadable").await;
                return (Vec::new(), HashSet::new());
            }
        };
        let mut free = Vec::with_capacity(intents.len());
        let mut settlements = Vec::new();
        for intent in intents {
            match standing.of(&intent) {
                None => free.push(intent),
                Some(Obstacle::Wait(reason, pause)) => {
                    settlements.push(self.provider_deferral(&intent, reason, pause));
                }
                Some(Obstacle::Refuse(reason)) => {
                    settlements.push(self.settlement(&intent, Happening::Denied, reason));
                }
            }
        }
        self.settle(settlements).await;
        let marketing = free.iter().filter(|it| standing.is_marketing(it)).map(|it| it.id);
        let marketing = marketing.collect();
        (free, marketing)
    }

    /// The addresses, and the parameters of those that have some.
    async fn resolve(&self, intents: Vec<Claimed>) -> Vec<Ready> {
        if intents.is_empty() {
            return Vec::new();
        }
        let subjects: Vec<SubjectId> = distinct(intents.iter().map(|it| it.subject));
        let with_parameters: Vec<SubjectId> =
            distinct(intents.iter().filter(|it| it.parameters.is_some()).map(|it| it.subject));
        let request = ResolveRequest { reason: "send".to_owned(), subjects: subjects.clone() };
        let vault = &self.messaging.vault;
        let resolved = vault.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None);
        let keys = async {
            if with_parameters.is_empty() {
                return Ok(None);
            }
            self.messaging.person_keys.lease("send", &with_parameters).await.map(Some)
        };
        let (resolved, keys) = tokio::join!(resolved, keys);
        let (resolved, keys) = match (resolved, keys) {
            (Ok(resolved), Ok(keys)) if resolved.addresses.len() == subjects.len() => {
                (resolved, keys)
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the vault gives no addresses: nothing is sent");
                self.put_off(&intents, "vault_unreachable").await;
                return Vec::new();
            }
            _ => {
                tracing::error!("the vault gave another number of addresses than asked for");
                self.put_off(&intents, "vault_unreachable").await;
                return Vec::new();
            }
        };
        let reactions = match self.messages_of_hers(&intents, keys.as_ref()).await {
            Ok(reactions) => reactions,
            Err(error) => {
                tracing::warn!(%error, "messages of people can't be read: nothing is sent");
                self.put_off(&intents, "obstacles_unreadable").await;
                return Vec::new();
            }
        };
        let mut addresses: HashMap<SubjectId, ResolvedAddress> = subjects
            .into_iter()
            .zip(resolved.addresses)
            .filter_map(|(subject, address)| Some((subject, address?)))
            .collect();
        let mut ready = Vec::with_capacity(intents.len());
        let mut refused = Vec::new();
        for intent in intents {
            let Some(address) = addresses.get(&intent.subject).cloned() else {
                refused.push(self.settlement(&intent, Happening::Denied, "subject_unknown"));
                continue;
            };
            match said(&intent, keys.as_ref(), &reactions) {
                Some(said) => ready.push(Ready { intent, address, said }),
                None => refused.push(self.settlement(&intent, Happening::Denied, "key_destroyed")),
            }
        }
        addresses.clear();
        self.settle(refused).await;
        ready
    }

    /// The messages of people that are reacted to, sealed.
    async fn messages_of_hers(
        &self,
        intents: &[Claimed],
        keys: Option<&LeasedKeys>,
    ) -> Result<MessagesOfHers, sqlx::Error> {
        const READ: &str = "
            SELECT id, subject_id, content FROM inbound_messages
            WHERE id = ANY($1) AND content IS NOT NULL AND said_at > $2";
        let reacting = intents.iter().filter(|it| it.kind == REACTION);
        let messages: Vec<Uuid> = reacting
            .filter_map(|it| match opened(it, keys)? {
                Stored::Content(Content::Reaction { message_id, .. }) => Some(message_id),
                _ => None,
            })
            .collect();
        if messages.is_empty() {
            return Ok(HashMap::new());
        }
        // The provider keeps messages for 30 days.
        let since = self.messaging.clock.now() - MONTH;
        let rows = sqlx::query(READ)
            .bind(messages)
            .bind(since.to_sqlx())
            .fetch_all(self.messaging.pool())
            .await?;
        let message =
            |row: &sqlx::postgres::PgRow| Ok(((row.try_get(1)?, row.try_get(0)?), row.try_get(2)?));
        rows.iter().map(message).collect()
    }

    /// Without those whom a stop that was heard here, or a fence, forbids.
    async fn without_local_bars(&self, ready: Vec<Ready>) -> Vec<Ready> {
        if ready.is_empty() {
            return ready;
        }
        let tokens: Vec<AddressToken> =
            ready.iter().flat_map(|it| it.address.tokens.iter().copied()).collect();
        let subjects = distinct(ready.iter().map(|it| it.intent.subject));
        let bars = async {
            let blocked = declarations::blocked(self.messaging.pool(), &tokens).await?;
            let mut connection = self.messaging.pool().acquire().await?;
            Ok::<_, sqlx::Error>((blocked, fenced(&mut connection, &subjects).await?))
        };
        let (blocked, fenced) = match bars.await {
            Ok(bars) => bars,
            Err(error) => {
                tracing::warn!(%error, "local stops can't be read: nothing is sent");
                self.put_off_ready(&ready, "stops_unreadable").await;
                return Vec::new();
            }
        };
        let blocked: HashSet<AddressToken> = blocked.into_iter().collect();
        let mut free = Vec::with_capacity(ready.len());
        let mut settlements = Vec::new();
        for it in ready {
            let stopped = it.address.tokens.iter().any(|token| blocked.contains(token));
            if fenced.contains(&it.intent.subject) {
                settlements.push(self.settlement(&it.intent, Happening::Denied, "erased"));
            } else if stopped && it.intent.purpose == STOP_CONFIRMATION {
                // It waits for the stop to be settled at the consent service.
                settlements.push(self.deferral(&it.intent, "stop_settling"));
            } else if stopped {
                settlements.push(self.settlement(&it.intent, Happening::Denied, "stopped"));
            } else {
                free.push(it);
            }
        }
        self.settle(settlements).await;
        free
    }

    /// With a permit each; the others are settled.
    async fn permitted(&self, ready: Vec<Ready>, marketing: &HashSet<Uuid>) -> Vec<(Ready, Uuid)> {
        if ready.is_empty() {
            return Vec::new();
        }
        let purposes = &self.messaging.config.marketing_purposes;
        let asks: Vec<PermitAsk> = ready.iter().map(ask).collect();
        let more = ready.iter().filter(|it| marketing.contains(&it.intent.id));
        let more: Vec<PermitAsk> = more.filter_map(|it| ask_marketing(it, purposes)).collect();
        let permits = match tokio::try_join!(self.ask(asks), self.ask(more)) {
            Ok((permits, more)) if permits.len() == ready.len() => with(permits, more),
            Ok(_) => {
                tracing::error!(
                    "the consent service gave another number of permits than asked for"
                );
                self.put_off_ready(&ready, "consent_unreachable").await;
                return Vec::new();
            }
            Err(error) => {
                tracing::warn!(%error, "the consent service gives no permits: nothing is sent");
                self.put_off_ready(&ready, "consent_unreachable").await;
                return Vec::new();
            }
        };
        let mut permitted = Vec::with_capacity(ready.len());
        let mut settlements = Vec::new();
        for (it, permit) in ready.into_iter().zip(permits) {
            match judge(&it.intent, &permit) {
                Judged::Permitted => permitted.push((it, permit.permit_id)),
                Judged::NotLinkedYet => {
                    settlements.push(self.deferral(&it.intent, ADDRESS_UNLINKED));
                }
                Judged::Quiet(left) => settlements.push(self.quiet(&it.intent, left)),
                Judged::Denied(reasons) => {
                    let mut denied = self.settlement(&it.intent, Happening::Denied, "");
                    denied.reasons = reasons;
                    settlements.push(denied);
                }
            }
        }
        self.settle(settlements).await;
        permitted
    }

    async fn ask(&self, asks: Vec<PermitAsk>) -> Result<Vec<Permit>, ClientError> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<Uuid> = asks.iter().map(|ask| ask.message_id).collect();
        let request = PermitsRequest { asks };
        let answer: PermitsResponse =
            self.messaging.consent.post("/v1/permits", &request, None).await?;
        // A denial of a second ask that fits no message would be lost.
        if answer.permits.iter().map(|permit| permit.message_id).eq(asked) {
            Ok(answer.permits)
        } else {
            Err(ClientError::Protocol("other permits than asked for".to_owned()))
        }
    }

    async fn mark_calling(&self, permitted: Vec<(Ready, Uuid)>, lease: &Lease) -> Vec<Ready> {
        if !lease.is_live() {
            // The last look would withhold each of them.
            let ready: Vec<Ready> = permitted.into_iter().map(|(it, _)| it).collect();
            self.put_off_ready(&ready, "lease_expired").await;
            return Vec::new();
        }
        let pairs: Vec<(Uuid, Uuid)> =
            permitted.iter().map(|(it, permit)| (it.intent.id, *permit)).collect();
        let claim = self.messaging.config.sending.claim;
        let marked =
            intents::mark_calling(self.messaging.pool(), self.claim_id, &pairs, claim).await;
        let marked: HashSet<Uuid> = match marked {
            Ok(marked) => marked.into_iter().collect(),
            Err(error) => {
                // Whether it committed is unknown, but nothing was sent: either way the claim's end
                // settles it, as queued or as (too careful) uncertain.
                tracing::warn!(%error, "intents can't be marked: nothing is sent");
                HashSet::new()
            }
        };
        permitted
            .into_iter()
            .map(|(it, _)| it)
            .filter(|it| marked.contains(&it.intent.id))
            .collect()
    }

    async fn call(&self, ready: Vec<Ready>, lease: &Lease) {
        let calls: FuturesUnordered<_> =
            ready.into_iter().map(|it| self.call_one(it, lease.clone())).collect();
        let mut outcomes = calls.ready_chunks(SETTLE_TOGETHER);
        while let Some(settlements) = outcomes.next().await {
            self.settle(settlements).await;
        }
    }

    async fn call_one(&self, ready: Ready, lease: Lease) -> Settlement {
        let Ready { intent, address, said } = ready;
        let content = match &said {
            Said::Values(values) => {
                let name = intent.template.as_deref().unwrap_or_default();
                let language = intent.language.as_deref().unwrap_or("en");
                let reply = intent.reply_code.as_deref();
                Some(outbound::Content::template(name, language, values, reply))
            }
            Said::Content(content, reacts_to) => {
                outbound::Content::free(content, reacts_to.as_deref())
            }
            Said::Confirmation => {
                Some(outbound::Content::text(&self.messaging.config.stop_confirmation))
            }
        };
        let Some(content) = content else {
            return self.settlement(&intent, Happening::GivenUp, "message_unknown");
        };
        let to = match &address.user_id {
            Some(user_id) if address.phone.is_empty() => Recipient::UserId(user_id),
            _ => Recipient::Phone(&address.phone),
        };
        let body = Message::new(to, intent.id, content).to_json();
        let span = tracing::info_span!("provider call", message_id = %intent.id);
        if let Some(parent) = &intent.traceparent {
            telemetry::set_parent(&span, parent);
        }
        let Call { outcome, overrun } =
            self.messaging.provider.send(body, lease).instrument(span).await;
        let mut settlement = self.judge_outcome(&intent, outcome, &address.tokens);
        settlement.overrun = overrun;
        settlement
    }

    fn judge_outcome(
        &self,
        intent: &Claimed,
        outcome: Outcome,
        tokens: &[AddressToken],
    ) -> Settlement {
        match outcome {
            Outcome::Withheld => self.deferral(intent, "lease_expired"),
            Outcome::Unreachable => {
                self.provider_deferral(intent, "provider_unreachable", pause(intent.attempts))
            }
            Outcome::Lost(reason) => self.settlement(intent, Happening::Lost, reason),
            Outcome::Answered(Answer::Unreadable | Answer::Done) => {
                self.settlement(intent, Happening::Lost, "provider_answer_unreadable")
            }
            Outcome::Answered(Answer::Accepted { provider_id }) => {
                let mut accepted = self.settlement(intent, Happening::Accepted, "");
                accepted.provider_id = Some(provider_id);
                accepted
            }
            Outcome::Answered(Answer::Refused { http_status, code }) => {
                let meaning = reaction::to(Some(http_status), code);
                metrics::provider_error(code, meaning);
                let mut settlement = self.react(intent, meaning);
                settlement.provider_code = code;
                settlement.reaction = Some(meaning.reaction);
                if meaning.reaction == Reaction::OptOut {
                    settlement.stopped = Some(tokens.to_vec());
                }
                settlement
            }
        }
    }

    /// What becomes of the message itself; what its refusal means for others is written with it.
    fn react(&self, intent: &Claimed, Meaning { reaction, reason, .. }: Meaning) -> Settlement {
        if reaction == Reaction::Ambiguous {
            return self.settlement(intent, Happening::Lost, reason);
        }
        // A person who has had enough is not tried for ever: once more, a day later.
        let capped = reaction::to(None, intent.provider_code).reaction == Reaction::CapPerson;
        let again = reaction != Reaction::CapPerson || !capped;
        match reaction::pause(reaction, intent.attempts).filter(|_| again) {
            Some(pause) => self.provider_deferral(intent, reason, pause),
            None => self.settlement(intent, Happening::Rejected, reason),
        }
    }

    fn settlement(&self, intent: &Claimed, happening: Happening, reason: &str) -> Settlement {
        Settlement::new(intent.id, intent.subject, Some(self.claim_id), happening, reason)
    }

    /// Back to the queue because the gate can't say, or its visible end when that lasts.
    fn deferral(&self, intent: &Claimed, reason: &str) -> Settlement {
        let given_up = intent.waited_for(reason) > self.messaging.config.sending.gate_patience;
        let happening = match (given_up, reason) {
            (false, _) => Happening::NotSent,
            // The gate did answer: it denies.
            (true, ADDRESS_UNLINKED) => Happening::Denied,
            (true, _) => Happening::GivenUp,
        };
        let mut settlement = self.settlement(intent, happening, reason);
        settlement.pause = pause(intent.attempts);
        settlement
    }

    /// Back to the queue until she may be written to again: nothing stands against it but the hour.
    fn quiet(&self, intent: &Claimed, left: Duration) -> Settlement {
        let mut settlement = self.settlement(intent, Happening::NotSent, QUIET_HOURS);
        settlement.pause = left.clamp(QUIET_PAUSE.0, QUIET_PAUSE.1);
        settlement
    }

    fn provider_deferral(&self, intent: &Claimed, reason: &str, pause: Duration) -> Settlement {
        let given_up = intent.waited_for(reason) > self.messaging.config.sending.provider_patience;
        let happening = if given_up { Happening::GivenUp } else { Happening::NotSent };
        let mut settlement = self.settlement(intent, happening, reason);
        settlement.pause = pause;
        settlement
    }

    async fn put_off(&self, intents: &[Claimed], reason: &str) {
        self.settle(intents.iter().map(|intent| self.deferral(intent, reason)).collect()).await;
    }

    async fn put_off_ready(&self, ready: &[Ready], reason: &str) {
        self.settle(ready.iter().map(|it| self.deferral(&it.intent, reason)).collect()).await;
    }

    /// Back to the queue as if they had not been claimed.
    async fn release(&self, intents: &[Claimed], reason: &str, pause: Duration) {
        let release = |intent: &Claimed| {
            let mut settlement = self.settlement(intent, Happening::NotSent, reason);
            settlement.pause = pause;
            settlement
        };
        self.settle(intents.iter().map(release).collect()).await;
    }

    /// Writes outcomes, for as long as their claims may last; then the reaper decides.
    async fn settle(&self, settlements: Vec<Settlement>) {
        let give_up = self.messaging.clock.boottime() + self.messaging.config.sending.claim;
        let mut failures = 0;
        while let Err(error) = intents::settle(&self.messaging, settlements.clone()).await {
            failures += 1;
            tracing::warn!(%error, "outcomes can't be written yet");
            if self.messaging.clock.boottime() >= give_up {
                return;
            }
            tokio::time::sleep(pause(failures)).await;
        }
    }
}

/// The deny reason of an address that the gate doesn't know yet: the vault's link is on its way.
const ADDRESS_UNLINKED: &str = "address_unlinked";
/// The gate says so at hours at which people are left alone.
const QUIET_HOURS: &str = "quiet_hours";
/// How long a message waits for such an hour to end before it is asked for again: not less, for clocks
/// differ; not more, for the hours may be changed.
const QUIET_PAUSE: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(4 * 3_600));
/// Why the consent to marketing was asked for.
const TEMPLATE_IS_MARKETING: &str = "template_is_marketing";

/// What a permit says of an intent.
#[derive(Debug, PartialEq, Eq)]
enum Judged {
    Permitted,
    NotLinkedYet,
    /// For so long.
    Quiet(Duration),
    Denied(Vec<String>),
}

fn judge(intent: &Claimed, permit: &Permit) -> Judged {
    if permit.message_id != intent.id {
        // Never a permit for another message.
        return Judged::Denied(vec!["permit_mismatch".to_owned()]);
    }
    match permit.verdict.verdict {
        Decision::Allow => Judged::Permitted,
        Decision::Deny => denied(&permit.verdict),
    }
}

/// Whether a reason goes by itself.
fn passes(reason: &str) -> bool {
    [ADDRESS_UNLINKED, QUIET_HOURS].contains(&reason)
}

/// What passes by itself is waited for.
fn denied(verdict: &Verdict) -> Judged {
    match verdict.quiet_until {
        _ if !verdict.reasons.iter().all(|it| passes(it)) => {}
        _ if verdict.reasons.iter().any(|reason| reason == ADDRESS_UNLINKED) => {
            return Judged::NotLinkedYet;
        }
        // Both times are of the clock that judged: another one's may differ.
        Some(until) => {
            let left = Duration::try_from(until.duration_since(verdict.as_of));
            return Judged::Quiet(left.unwrap_or_default());
        }
        // Quiet without an end that is in sight.
        None => {}
    }
    Judged::Denied(verdict.reasons.clone())
}

fn ask(ready: &Ready) -> PermitAsk {
    PermitAsk {
        message_id: ready.intent.id,
        subject_id: ready.intent.subject,
        addresses: ready.address.tokens.clone(),
        purpose: ready.intent.purpose.clone(),
        channel: ready.intent.channel.clone(),
        template: ready.intent.template.clone().unwrap_or_else(|| ready.intent.kind.clone()),
    }
}

/// The second ask of a message that is marketing by its template and not by its purpose. A question for
/// consent has rules of its own at the gate.
fn ask_marketing(ready: &Ready, purposes: &[String]) -> Option<PermitAsk> {
    let purpose = &ready.intent.purpose;
    if purpose == CONSENT_REQUEST || purposes.contains(purpose) {
        return None;
    }
    Some(PermitAsk { purpose: purposes.first()?.clone(), ..ask(ready) })
}

/// Each permit, denied where the second ask of its message was.
fn with(mut permits: Vec<Permit>, more: Vec<Permit>) -> Vec<Permit> {
    for second in more.into_iter().filter(|it| it.verdict.verdict == Decision::Deny) {
        let first = permits
            .iter_mut()
            .find(|it| it.message_id == second.message_id && it.verdict.verdict == Decision::Allow);
        if let Some(first) = first {
            first.verdict = second.verdict;
            // What is waited for stays as it is.
            if !first.verdict.reasons.iter().all(|it| passes(it)) {
                first.verdict.reasons.push(TEMPLATE_IS_MARKETING.to_owned());
            }
        }
    }
    permits
}

/// What a message says; none when it can't be opened: its person has no key any more.
fn said(intent: &Claimed, keys: Option<&LeasedKeys>, messages: &MessagesOfHers) -> Option<Said> {
    if intent.parameters.is_none() {
        return Some(match intent.template {
            Some(_) => Said::Values(Values::default()),
            None => Said::Confirmation,
        });
    }
    match opened(intent, keys)? {
        Stored::Values(values) => Some(Said::Values(values)),
        Stored::Content(content) => {
            let reacts_to = match &content {
                Content::Reaction { message_id, .. } => messages
                    .get(&(intent.subject, *message_id))
                    .and_then(|sealed| {
                        keys?.open(intent.subject, *message_id, "content", sealed).ok()
                    })
                    .and_then(|raw| serde_json::from_slice::<serde_json::Value>(&raw).ok())
                    .and_then(|raw| Some(raw.get("id")?.as_str()?.to_owned())),
                _ => None,
            };
            Some(Said::Content(content, reacts_to))
        }
    }
}

fn opened(intent: &Claimed, keys: Option<&LeasedKeys>) -> Option<Stored> {
    let sealed = intent.parameters.as_ref()?;
    stored::read(&keys?.open(intent.subject, intent.id, "parameters", sealed).ok()?)
}

/// Messages of people, by whose and which, sealed.
type MessagesOfHers = HashMap<(SubjectId, Uuid), Vec<u8>>;

/// Growing pauses, from a tenth of a second to five seconds.
fn pause(attempts: u32) -> Duration {
    Duration::from_millis(50 << attempts.clamp(1, 7)).min(Duration::from_secs(5))
}

fn distinct(subjects: impl Iterator<Item = SubjectId>) -> Vec<SubjectId> {
    let mut subjects: Vec<_> = subjects.collect();
    subjects.sort_unstable();
    subjects.dedup();
    subjects
}
