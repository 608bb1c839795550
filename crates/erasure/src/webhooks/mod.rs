//! Participants that are called: commands and inquiries go to them by signed webhooks, beside Kafka. It guarantees
//! that none is lost (each stands in Postgres until it is taken), that of each person they come in order, and that
//! nobody is called whose host isn't allowed, or who is suspended. Answers come as everybody's do, and who doesn't
//! answer is the saga's matter: it tells again, and shows who is missing.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use assent_contracts::envelope::CONTENT_TYPE_STRUCTURED;
use assent_http::{ClientError, Outbound, OutboundError};
use jiff::Timestamp;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::driver::Pace;
use crate::metrics;
use crate::store::Sagas;
use rows::{Call, Callee};
use secret::{Secret, Secrets};

pub(crate) mod rows;
pub mod secret;

/// How long a call may take. Whoever needs longer takes it, and answers later.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the calls.
#[derive(Clone)]
pub struct Messenger {
    /// Where calls are queued.
    pub sagas: Sagas,
    /// The way out.
    pub outbound: Outbound,
    /// What they are signed with.
    pub secrets: Secrets,
    /// How patient it is.
    pub pace: Pace,
}

impl Messenger {
    /// Calls until `stopping`. One participant that hangs holds up no other; what is under way at the end is made
    /// again.
    ///
    /// # Errors
    /// Never; the type is the lifecycle's.
    pub async fn run(self, stopping: CancellationToken) -> Result<(), Infallible> {
        let (mut calling, mut busy) = (JoinSet::new(), BTreeSet::new());
        while !stopping.is_cancelled() {
            for callee in self.callees().await {
                if busy.insert(callee.name.clone()) {
                    let messenger = self.clone();
                    calling.spawn(async move { messenger.call_all(callee).await });
                }
            }
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(done) = calling.join_next() => end(done, &mut busy),
                () = tokio::time::sleep(self.pace.poll) => {}
            }
            while let Some(done) = calling.try_join_next() {
                end(done, &mut busy);
            }
        }
        Ok(())
    }

    async fn callees(&self) -> Vec<Callee> {
        let now = self.sagas.clock.now();
        rows::callees(self.sagas.store.pool(), now).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "who is to be called can't be read");
            Vec::new()
        })
    }

    /// Makes the calls to one participant that are due, and rests if one failed: one that is down isn't called
    /// about everybody at once. Gives its name.
    async fn call_all(self, callee: Callee) -> String {
        let now = self.sagas.clock.now();
        let claimed = rows::claim(self.sagas.store.pool(), &callee.name, now).await;
        let calls = claimed.unwrap_or_else(|error| {
            tracing::warn!(%error, "calls can't be claimed");
            Vec::new()
        });
        let mut under_way = JoinSet::new();
        for call in calls {
            let (messenger, callee) = (self.clone(), callee.clone());
            under_way.spawn(async move { messenger.call(&callee, call).await });
        }
        let taken = under_way.join_all().await;
        if taken.is_empty() || taken.contains(&false) {
            tokio::time::sleep(self.pace.retry).await;
        }
        callee.name
    }

    /// Makes one call; whether it was taken.
    async fn call(&self, callee: &Callee, call: Call) -> bool {
        let Call { message_id, event_id, body, tries } = call;
        let secrets: Vec<Secret> =
            callee.secrets.iter().map(|id| self.secrets.secret(&callee.name, *id)).collect();
        let now = self.sagas.clock.now();
        let mut headers =
            secret::headers(event_id, now.as_second(), body.as_bytes(), &secrets).to_vec();
        headers.push(("content-type", CONTENT_TYPE_STRUCTURED.to_owned()));
        let posted = self.outbound.post(&callee.url, &headers, body.into_bytes()).await;
        let participant = &callee.name;
        metrics::called(posted.as_ref().err().map_or("taken", reason));
        let pool = self.sagas.store.pool();
        let noted = match &posted {
            Ok(()) => match pool.acquire().await {
                Ok(mut connection) => rows::settle(&mut connection, participant, message_id).await,
                Err(error) => Err(error),
            },
            Err(error) => {
                tracing::warn!(%participant, tries, %error, "a participant doesn't take a call");
                let at = now.checked_add(self.pace.pause(tries)).unwrap_or(Timestamp::MAX);
                rows::put_off(pool, participant, message_id, at).await
            }
        };
        if let Err(error) = noted {
            // It is made again when its claim ends: whoever is called does the same work once.
            tracing::warn!(%error, "what came of a call can't be noted");
        }
        posted.is_ok()
    }
}

fn end(done: Result<String, JoinError>, busy: &mut BTreeSet<String>) {
    match done {
        Ok(name) => {
            busy.remove(&name);
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => {}
    }
}

/// What came of a call, for operators: no address and no name.
fn reason(error: &OutboundError) -> &'static str {
    match error {
        OutboundError::NotAllowed(refusal) => refusal.name(),
        OutboundError::Call(ClientError::Problem { .. }) => "refused",
        OutboundError::Call(ClientError::Timeout) => "timeout",
        OutboundError::Call(_) => "unreachable",
    }
}
