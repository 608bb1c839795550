//! Asks the gate, and says what its answer means for each message.

use std::collections::HashSet;
use std::time::Duration;

use assent_contracts::api::consent::{
    CONSENT_REQUEST, Decision, Permit, PermitAsk, PermitsRequest, PermitsResponse,
    STOP_CONFIRMATION, Verdict,
};
use assent_http::ClientError;
use uuid::Uuid;

use super::Batch;
use super::opening::Ready;
use crate::domain::intent::Happening;
use crate::intents::{Claimed, Settlement};

/// The deny reason of an address that the gate doesn't know yet: the vault's link is on its way.
pub(super) const ADDRESS_UNLINKED: &str = "address_unlinked";
/// The gate says so at hours at which people are left alone.
const QUIET_HOURS: &str = "quiet_hours";
/// How long a message waits for such an hour to end before it is asked for again: not less, for clocks
/// differ; not more, for the hours may be changed.
const QUIET_PAUSE: (Duration, Duration) =
    (Duration::from_millis(200), Duration::from_secs(4 * 3_600));
/// Why the consent to marketing was asked for.
const TEMPLATE_IS_MARKETING: &str = "template_is_marketing";

impl Batch {
    /// With a permit each; the others are settled.
    pub(super) async fn permitted(
        &self,
        ready: Vec<Ready>,
        marketing: &HashSet<Uuid>,
    ) -> Vec<(Ready, Uuid)> {
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

    /// Back to the queue until she may be written to again: nothing stands against it but the hour.
    fn quiet(&self, intent: &Claimed, left: Duration) -> Settlement {
        self.waiting(intent, QUIET_HOURS, left.clamp(QUIET_PAUSE.0, QUIET_PAUSE.1))
    }
}

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
    // The confirmation answers the stop of one address; everything else needs all that she is known by.
    let confirms = ready.intent.purpose == STOP_CONFIRMATION;
    let addresses = if confirms { ready.address.tokens.clone() } else { ready.address.all() };
    PermitAsk {
        message_id: ready.intent.id,
        subject_id: ready.intent.subject,
        addresses,
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
