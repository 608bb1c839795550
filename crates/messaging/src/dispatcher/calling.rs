//! Calls the provider, and says what its answer means for the message.

use std::collections::HashSet;
use std::sync::Arc;

use assent_contracts::api::vault::ResolvedAddress;
use assent_runtime::{Lease, telemetry};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tracing::Instrument as _;
use uuid::Uuid;

use super::opening::{Ready, Said};
use super::{Batch, HELD_BACK, LEASE_EXPIRED, POLL, pause};
use crate::domain::intent::Happening;
use crate::identities::Told;
use crate::intents::{self, Claimed, Settlement};
use crate::metrics;
use crate::person_keys::LeasedKeys;
use crate::rates;
use crate::whatsapp::answer::Answer;
use crate::whatsapp::client::{Call, Outcome};
use crate::whatsapp::outbound::{self, Message, Recipient};
use crate::whatsapp::reaction::{self, Meaning, Reaction};

/// Outcomes that are written in one transaction.
const SETTLE_TOGETHER: usize = 64;

impl Batch {
    /// Those that the number's rate lets go out now: batches that were begun one after the other may be ready together,
    /// where the gate or the vault was slow. Whoever can't wait for it within the lease goes back to the queue.
    pub(super) async fn within_rate(
        &self,
        permitted: Vec<(Ready, Uuid)>,
        lease: &Lease,
    ) -> Vec<(Ready, Uuid)> {
        let left = lease.remaining();
        if left.is_zero() {
            // Nothing of it goes out: what comes next says so.
            return permitted;
        }
        let config = &self.messaging.config;
        let (number, rate) = (&config.whatsapp.phone_number_id, config.sending.per_second);
        let pool = self.messaging.pool();
        let reason = match rates::call(pool, number, permitted.len(), rate, left / 2).await {
            Ok(Some(wait)) => {
                tokio::time::sleep(wait).await;
                return permitted;
            }
            Ok(None) => HELD_BACK,
            Err(error) => {
                tracing::warn!(%error, "calls can't be counted against the rate: nothing is sent");
                ""
            }
        };
        let back = permitted.iter().map(|(it, _)| self.waiting(&it.intent, reason, POLL));
        self.settle(back.collect()).await;
        Vec::new()
    }

    pub(super) async fn mark_calling(
        &self,
        permitted: Vec<(Ready, Uuid)>,
        lease: &Lease,
    ) -> Vec<Ready> {
        if !lease.is_live() {
            // The last look would withhold each of them.
            let ready: Vec<Ready> = permitted.into_iter().map(|(it, _)| it).collect();
            self.put_off_ready(&ready, LEASE_EXPIRED).await;
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

    pub(super) async fn call(
        &self,
        ready: Vec<Ready>,
        lease: &Lease,
        keys: Option<Arc<LeasedKeys>>,
    ) {
        let calls: FuturesUnordered<_> =
            ready.into_iter().map(|it| self.call_one(it, lease.clone())).collect();
        let mut outcomes = calls.ready_chunks(SETTLE_TOGETHER);
        while let Some(settlements) = outcomes.next().await {
            self.settle_under(settlements, keys.as_ref()).await;
        }
    }

    async fn call_one(&self, ready: Ready, lease: Lease) -> Settlement {
        let Ready { intent, address, said } = ready;
        let confirmation;
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
                let texts = &self.messaging.config.stop_confirmation;
                confirmation = texts.confirming(intent.language.as_deref(), intent.asks_erasure);
                Some(outbound::Content::text(&confirmation))
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
        let began = self.messaging.clock.now();
        let Call { outcome, overrun } =
            self.messaging.provider.send(body, lease).instrument(span).await;
        let mut settlement = self.judge_outcome(&intent, outcome, &address, began);
        settlement.overrun = overrun;
        settlement
    }

    fn judge_outcome(
        &self,
        intent: &Claimed,
        outcome: Outcome,
        address: &ResolvedAddress,
        began: Timestamp,
    ) -> Settlement {
        match outcome {
            Outcome::Withheld => self.deferral(intent, LEASE_EXPIRED),
            Outcome::Unreachable => {
                self.provider_deferral(intent, "provider_unreachable", pause(intent.attempts))
            }
            Outcome::Lost(reason) => self.settlement(intent, Happening::Lost, reason),
            Outcome::Answered(Answer::Unreadable | Answer::Done) => {
                self.settlement(intent, Happening::Lost, "provider_answer_unreadable")
            }
            Outcome::Answered(Answer::Accepted { provider_id, to }) => {
                let mut accepted = self.settlement(intent, Happening::Accepted, "");
                accepted.provider_id = Some(provider_id);
                accepted.told = Told::by(&to.or_sent_to(address), (began, began));
                accepted
            }
            Outcome::Answered(Answer::Refused { http_status, code }) => {
                let meaning = reaction::to(Some(http_status), code);
                metrics::provider_error(code, meaning);
                let mut settlement = self.react(intent, meaning);
                settlement.provider_code = code;
                settlement.reaction = Some(meaning.reaction);
                if meaning.reaction == Reaction::OptOut {
                    settlement.stopped = Some(address.hers());
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
}
