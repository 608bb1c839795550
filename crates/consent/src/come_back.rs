//! Events that come back to a restored database. It guarantees that the ledger's lines say what her stream says
//! again, so that a withdrawal which the database had lost holds before anything is served. What no event
//! holds stays lost: codes, claims, links to preference pages, stops of addresses that nobody has.

use assent_bus::own_log::Fold;
use assent_eventstore::{Regained, Session, StoreError};
use uuid::Uuid;

use crate::commands::ledger;
use crate::domain::event::Event;
use crate::lines::Lines;
use crate::{ages, asks, restrictions, stored};

/// Folds what has come back.
pub struct ComeBack;

impl Fold for ComeBack {
    async fn fold(&self, session: &mut Session, regained: &[Regained]) -> Result<(), StoreError> {
        let ids: Vec<Uuid> = regained.iter().map(|it| it.stream).collect();
        let streams = session.lock(&ids).await?;
        let (mut lines, mut noes, mut stated) = (Lines::default(), Vec::new(), Vec::new());
        let mut restricted = Vec::new();
        let mut others = 0_usize;
        for Regained { stream: subject, before, .. } in regained {
            let Some(stream) = streams.get(subject) else { continue };
            // The policy and its purposes have streams too; what follows from them is applied, not folded.
            let Ok(ledger) = ledger(stream) else {
                others += 1;
                continue;
            };
            lines.push_changed(*subject, &ledger, *before);
            stated.extend(ledger.age().map(|(event, age)| (*subject, event, age)));
            for event in stream.events.iter().filter(|it| it.version > *before) {
                match stored::decode(&event.event_type, &event.data) {
                    Ok(Event::Refused { scope, .. } | Event::Withdrawn { scope, .. }) => {
                        noes.push((*subject, scope));
                    }
                    Ok(event) if restrictions::changes(&event) => {
                        restricted.push((*subject, ledger.restricted()));
                    }
                    _ => {}
                }
            }
        }
        if others > 0 {
            tracing::warn!(others, "streams of the policy came back: apply the policy again");
        }
        lines.write(session.conn()).await?;
        asks::drop(session.conn(), &noes).await?;
        ages::keep(session.conn(), &stated).await?;
        restrictions::keep(session.conn(), &restricted).await?;
        Ok(())
    }
}
