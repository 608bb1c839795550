//! A rehearsal's calls to a team's own address, signed as a deployment signs them and repeated until they are taken.
//! What a service must refuse goes once, and so do calls that it must take and pass over.

use std::time::Duration;

use assent_contracts::envelope::{CONTENT_TYPE_STRUCTURED, Structured, source};
use assent_contracts::topics::ERASURE_COMMANDS;
use assent_erasure::webhooks::CALL_TIMEOUT;
use assent_erasure::webhooks::secret::{Secret, headers};
use assent_http::{Allowed, Outbound, OutboundError};
use assent_runtime::{Clock, Ids, SystemClock, SystemIds};
use reqwest::Url;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use crate::outcome::Failure;

/// Between two tries of a call that wasn't taken.
const PAUSE: Duration = Duration::from_millis(500);
/// How old a call is that is sent again by somebody who overheard it.
const OLD_S: i64 = 3600;

/// How a call is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signed {
    /// As it should be.
    Well,
    /// By the secret of before and the one of now.
    Twice,
    /// By another secret alone.
    ByAnother,
    /// An hour ago.
    LongAgo,
}

/// The way to the service.
#[derive(Clone)]
pub struct Webhook {
    address: String,
    outbound: Outbound,
    secret: [u8; 32],
}

impl Webhook {
    /// Calls this address with a secret of the rehearsal's own.
    ///
    /// # Errors
    /// When it isn't one that a deployment could call.
    pub fn to(address: &str) -> Result<Self, Failure> {
        let host = Url::parse(address).ok().and_then(|url| url.host_str().map(str::to_owned));
        let allowed = host.and_then(|host| Allowed::parse(&host, true)).unwrap_or_default();
        allowed
            .check(address)
            .map_err(|refusal| Failure::wrong_use(format!("{address}: {refusal}")))?;
        let mut secret = [0; 32];
        SystemIds.fill(&mut secret);
        let outbound = Outbound::new(allowed, CALL_TIMEOUT)?;
        Ok(Self { address: address.to_owned(), outbound, secret })
    }

    /// The secret, as the service is to be given it.
    pub fn secret(&self) -> String {
        Secret::of(self.secret).shown()
    }

    /// Sends an event until it is taken, at most for so long; whether it is answered is seen elsewhere.
    pub fn send(&self, subject: Uuid, event_type: &'static str, data: String, patience: Duration) {
        let webhook = self.clone();
        tokio::spawn(async move {
            let repeating = async {
                let id = SystemIds.v7();
                while webhook.call(id, subject, event_type, &data, Signed::Well).await.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            };
            let _ = tokio::time::timeout(patience, repeating).await;
        });
    }

    /// Sends an event once.
    ///
    /// # Errors
    /// When it isn't taken.
    pub async fn send_once(
        &self,
        subject: Uuid,
        event_type: &str,
        data: &str,
        signed: Signed,
    ) -> Result<(), OutboundError> {
        self.call(SystemIds.v7(), subject, event_type, data, signed).await
    }

    async fn call(
        &self,
        id: Uuid,
        subject: Uuid,
        event_type: &str,
        data: &str,
        signed: Signed,
    ) -> Result<(), OutboundError> {
        let data: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
        let time = SystemClock.now();
        let body = to_raw_value(&data).and_then(|data| {
            let source = source(ERASURE_COMMANDS.suffix);
            let traceparent = None;
            Structured { id, source: &source, event_type, time, subject, traceparent, data: &data }
                .body()
        });
        let body = body.unwrap_or_default().into_bytes();
        let (own, other) = (Secret::of(self.secret), Secret::of([7; 32]));
        let (secrets, at) = match signed {
            Signed::Well => (vec![own], time.as_second()),
            Signed::Twice => (vec![other, own], time.as_second()),
            Signed::ByAnother => (vec![other], time.as_second()),
            Signed::LongAgo => (vec![own], time.as_second() - OLD_S),
        };
        let mut headers = headers(id, at, &body, &secrets).to_vec();
        headers.push(("content-type", CONTENT_TYPE_STRUCTURED.to_owned()));
        self.outbound.post(&self.address, &headers, body).await
    }
}
