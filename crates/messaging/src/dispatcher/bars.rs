//! What stands against a send without the gate being asked: limits, campaigns that don't run, earlier
//! refusals of the provider, stops that were heard here, fences.

use std::collections::HashSet;

use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::STOP_CONFIRMATION;
use uuid::Uuid;

use super::opening::Ready;
use super::{Batch, distinct};
use crate::consequences::{self, Doubts, Obstacle};
use crate::domain::intent::Happening;
use crate::intents::Claimed;
use crate::state::fenced;
use crate::whatsapp::reaction::LOOK_AGAIN;
use crate::{campaigns, declarations};

impl Batch {
    /// Without those that a limit stands against, as the claim has counted.
    pub(super) async fn within_limits(&self, intents: Vec<Claimed>) -> Vec<Claimed> {
        let (held, free): (Vec<_>, Vec<_>) =
            intents.into_iter().partition(|intent| intent.limit.is_some());
        let settlement = |intent: &Claimed| match intent.limit? {
            Obstacle::Refuse(reason) => Some(self.settlement(intent, Happening::Denied, reason)),
            Obstacle::Wait(reason, pause) => Some(self.waiting(intent, reason, pause)),
        };
        self.settle(held.iter().filter_map(settlement).collect()).await;
        free
    }

    /// Without those that a refusal of the provider, of this message or of another, stands against. Tells
    /// which of the others are marketing, as the provider sees it.
    pub(super) async fn without_obstacles(
        &self,
        intents: Vec<Claimed>,
    ) -> (Vec<Claimed>, HashSet<Uuid>) {
        let now = self.messaging.clock.now();
        let standing = match consequences::standing(&self.messaging, &intents, now).await {
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
            if !standing.may_go_on(&intent) {
                settlements.push(self.waiting(&intent, campaigns::NOT_RUNNING, LOOK_AGAIN));
                continue;
            }
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

    /// Without those whom a stop that was heard here, or a fence, forbids, and without those who are one with
    /// somebody whom one forbids, or of whom it is in doubt who she is.
    pub(super) async fn without_local_bars(&self, ready: Vec<Ready>) -> Vec<Ready> {
        if ready.is_empty() {
            return ready;
        }
        let tokens: Vec<AddressToken> = ready.iter().flat_map(|it| it.address.all()).collect();
        let linked = || ready.iter().flat_map(|it| it.address.linked.iter().copied());
        let subjects = distinct(ready.iter().map(|it| it.intent.subject).chain(linked()));
        let linked = distinct(linked());
        let bars = async {
            let pool = self.messaging.pool();
            let blocked = declarations::blocked(pool, &tokens, &subjects).await?;
            let mut connection = self.messaging.pool().acquire().await?;
            let doubts = Doubts::of(&mut connection, &linked).await?;
            Ok::<_, sqlx::Error>((blocked, fenced(&mut connection, &subjects).await?, doubts))
        };
        let (blocked, fenced, doubts) = match bars.await {
            Ok(bars) => bars,
            Err(error) => {
                tracing::warn!(%error, "local stops can't be read: nothing is sent");
                self.put_off_ready(&ready, "stops_unreadable").await;
                return Vec::new();
            }
        };
        let mut free = Vec::with_capacity(ready.len());
        let mut settlements = Vec::new();
        for it in ready {
            let one = || it.address.linked.iter().chain([&it.intent.subject]);
            let stopped = one().any(|it| blocked.subjects.contains(it))
                || it.address.all().iter().any(|token| blocked.tokens.contains(token));
            if one().any(|it| fenced.contains(it)) {
                settlements.push(self.settlement(&it.intent, Happening::Denied, "erased"));
            } else if stopped && it.intent.purpose == STOP_CONFIRMATION {
                // It waits for the stop to be settled at the consent service.
                settlements.push(self.deferral(&it.intent, "stop_settling"));
            } else if stopped {
                settlements.push(self.settlement(&it.intent, Happening::Denied, "stopped"));
            } else if let Some(reason) = doubts.about(&it.intent, &it.address.linked) {
                settlements.push(self.settlement(&it.intent, Happening::Denied, reason));
            } else {
                free.push(it);
            }
        }
        self.settle(settlements).await;
        free
    }
}
