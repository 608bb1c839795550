//! Sends what is queued, through the gate. It guarantees that a provider call rests on a permit that
//! was asked for within the lease it is made under, that an intent is called at most once unless
//! it was certainly not sent, and that with the consent service or the vault down nothing is sent.
//!
//! The order is the point: claim the intents and count them against the limits, take rate-limit tokens, start the lease, then look for
//! what earlier refusals of the provider stand against, resolve addresses, look for local stops and fences, ask for permits, count the calls against the rate, mark as calling, and last look at
//! the lease inside the request's body. Everything that may forbid a send is read after the lease
//! has started: what is committed before is seen, and what is committed after waits the lease out
//! before it counts. Local stops are read after the addresses are known and before the permits: a
//! stop that left the local list in between is held by the consent service by then.

mod bars;
mod calling;
mod opening;
mod permission;

use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_runtime::ops::Watchdog;
use assent_runtime::{Lease, Lifecycle, failpoint, telemetry};
use tokio::sync::Semaphore;
use tracing::Instrument as _;
use uuid::Uuid;

use self::opening::Ready;
use self::permission::ADDRESS_UNLINKED;
use crate::domain::intent::Happening;
use crate::intents::{self, Claimed, Settlement};
use crate::person_keys::LeasedKeys;
use crate::rates::{self, Reserved};
use crate::state::Messaging;

/// How often the queue is looked at when nothing announces an intent.
const POLL: Duration = Duration::from_millis(200);
/// The reason of a message whose lease ran out before its call.
const LEASE_EXPIRED: &str = "lease_expired";
/// The reason of a message whose number may not send for a while.
const HELD_BACK: &str = "number_held_back";
/// How often expired claims are looked for.
const REAP: Duration = Duration::from_secs(1);
/// A batch takes no longer at the number's rate.
const HALF_SECOND: f64 = 0.5;
/// Most permits in one ask.
const ASK_MAX: usize = 100;
/// A number held back for longer than this gives its claims back.
const RATE_WAIT_MAX: Duration = Duration::from_secs(5);

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
        match intents::claim(&messaging, claim_id, limit).await {
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

/// No more than can be sent in half a lease, nor in half a second: a batch goes out at once, and the provider lends what
/// a number may send in one.
fn batch_limit(messaging: &Messaging) -> i64 {
    let half = (messaging.config.terms.length.as_secs_f64() / 2.0).min(HALF_SECOND);
    let sendable = f64::from(messaging.config.sending.per_second) * half;
    (sendable as usize).clamp(1, ASK_MAX) as i64
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
        telemetry::follows(&span, intents.iter().map(|intent| intent.traceparent.as_deref()));
        self.dispatch(intents).instrument(span).await;
    }

    async fn dispatch(&self, intents: Vec<Claimed>) {
        let intents = self.within_limits(intents).await;
        if intents.is_empty() {
            return;
        }
        let config = &self.messaging.config;
        let number = &config.whatsapp.phone_number_id;
        let rate = config.sending.per_second;
        let pool = self.messaging.pool();
        match rates::reserve(pool, number, intents.len(), rate, RATE_WAIT_MAX).await {
            Ok(Reserved::After(wait)) => tokio::time::sleep(wait).await,
            Ok(Reserved::Resting(wait)) => {
                // A rest is never cut short: the queue needn't turn meanwhile.
                return self.release(&intents, HELD_BACK, wait).await;
            }
            Err(error) => {
                tracing::warn!(%error, "no rate-limit tokens");
                return self.release(&intents, "", POLL).await;
            }
        }
        let lease = Lease::start(&self.messaging.clock, &config.terms);
        let (intents, marketing) = self.without_obstacles(intents).await;
        let (ready, keys) = self.resolve(intents).await;
        let ready = self.without_local_bars(ready).await;
        let permitted = self.permitted(ready, &marketing).await;
        if permitted.is_empty() {
            return;
        }
        failpoint::hit_async("messaging.after_permit").await;
        let permitted = self.within_rate(permitted, &lease).await;
        if permitted.is_empty() {
            return;
        }
        let calling = self.mark_calling(permitted, &lease).await;
        if calling.is_empty() {
            return;
        }
        failpoint::hit_async("messaging.before_call").await;
        self.call(calling, &lease, keys.map(Arc::new)).await;
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

    /// Back to the queue, however long it lasts.
    fn waiting(&self, intent: &Claimed, reason: &str, pause: Duration) -> Settlement {
        let mut settlement = self.settlement(intent, Happening::NotSent, reason);
        settlement.pause = pause;
        settlement
    }

    /// Back to the queue as if they had not been claimed.
    async fn release(&self, intents: &[Claimed], reason: &str, pause: Duration) {
        let release = |intent: &Claimed| self.waiting(intent, reason, pause);
        self.settle(intents.iter().map(release).collect()).await;
    }

    /// Writes outcomes, for as long as their claims may last; then the reaper decides.
    async fn settle(&self, settlements: Vec<Settlement>) {
        self.settle_under(settlements, None).await;
    }

    /// The same, under keys that were leased for these people already.
    async fn settle_under(&self, settlements: Vec<Settlement>, keys: Option<&Arc<LeasedKeys>>) {
        let give_up = self.messaging.clock.boottime() + self.messaging.config.sending.claim;
        let mut failures = 0;
        while let Err(error) =
            intents::settle(&self.messaging, settlements.clone(), keys.cloned()).await
        {
            failures += 1;
            tracing::warn!(%error, "outcomes can't be written yet");
            if self.messaging.clock.boottime() >= give_up {
                return;
            }
            tokio::time::sleep(pause(failures)).await;
        }
    }
}

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
