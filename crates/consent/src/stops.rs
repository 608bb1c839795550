//! Stops that were heard elsewhere: each closes its addresses, known or not, and withdraws
//! everything for whoever is linked to them, in one transaction. It guarantees that repeating a
//! stop changes nothing and still waits; hearing stops while this service is down is left to
//! messaging.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{Stop, StopKind, StopsResponse};
use assent_contracts::consent::{Actor, Method};
use assent_eventstore::{EventStore, Session, StoreError};
use assent_runtime::{Clock, Ids, LeaseTerms, failpoint, settle};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::commands::{Origin, Pending, ledger};
use crate::domain::decide::Command;
use crate::domain::event::Act;
use crate::domain::scope::Scope;
use crate::gate::{self, Closing, kind_name};

/// Most stops in one request.
pub const STOPS_MAX: usize = 500;

/// How often a transaction that lost a race is tried.
const ATTEMPTS: usize = 5;

/// Records stops.
#[derive(Clone)]
pub struct Stops {
    /// The events.
    pub store: EventStore,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// The lease.
    pub terms: LeaseTerms,
}

impl Stops {
    /// Records the stops and returns when they have settled: no send to these addresses that
    /// rests on a permit starts after that.
    ///
    /// # Errors
    /// When the store fails; a repeat with the same ids is harmless.
    pub async fn hear(
        &self,
        stops: Vec<Stop>,
        traceparent: Option<String>,
    ) -> Result<StopsResponse, StoreError> {
        let mut attempt = 1;
        let response = loop {
            match self.record(&stops, traceparent.clone()).await {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => attempt += 1,
                outcome => break outcome?,
            }
        };
        failpoint::hit_async("consent.withdraw_after_commit").await;
        settle(&*self.clock, &self.terms).await;
        self.mark_settled(&stops).await?;
        Ok(response)
    }

    async fn record(
        &self,
        stops: &[Stop],
        traceparent: Option<String>,
    ) -> Result<StopsResponse, StoreError> {
        let now = self.clock.now();
        let mut session = self.store.begin().await?;
        let mut new = insert(session.conn(), stops, now).await?;
        let again = ended(session.conn(), stops, &new).await?;
        new.extend(again);
        let linked = linked(session.conn(), stops).await?;
        let subjects_of = |stop: &Stop| -> Vec<SubjectId> {
            let found: BTreeSet<SubjectId> = stop
                .addresses
                .iter()
                .flat_map(|token| linked.get(token).into_iter().flatten())
                .copied()
                .collect();
            found.into_iter().collect()
        };
        let response = StopsResponse {
            recorded: new.len() as u64,
            subjects: stops.iter().map(subjects_of).collect(),
        };
        let closings = |is_new: bool| -> Vec<Closing> {
            let of = stops.iter().filter(|stop| new.contains(&stop.stop_id) == is_new);
            of.flat_map(|stop| {
                stop.addresses.iter().map(|token| Closing {
                    token: *token,
                    kind: stop.kind,
                    by: stop.stop_id,
                    since: stop.heard_at.min(now),
                })
            })
            .collect()
        };
        if new.is_empty() {
            gate::hear_again(session.conn(), &closings(false)).await?;
            session.commit().await?;
            return Ok(response);
        }
        let fresh = || stops.iter().filter(|stop| new.contains(&stop.stop_id));
        // An erasure is the saga's to record; who said it last gives a withdrawal its road.
        let mut said: BTreeMap<SubjectId, Said> = BTreeMap::new();
        for stop in fresh().filter(|stop| stop.kind != StopKind::Erased) {
            let method = stop.method.unwrap_or(Method::WhatsappMessage);
            let it = Said { at: stop.heard_at.min(now), kind: stop.kind, method };
            for subject in subjects_of(stop) {
                let last = said.entry(subject).or_insert(it);
                if (it.at, it.kind) > (last.at, last.kind) {
                    *last = it;
                }
            }
        }
        self.withdraw(&mut session, &said, now, traceparent).await?;
        // Rows after streams: everyone takes these locks in this order.
        gate::close(session.conn(), &closings(true)).await?;
        gate::hear_again(session.conn(), &closings(false)).await?;
        session.commit().await?;
        Ok(response)
    }

    async fn withdraw(
        &self,
        session: &mut Session,
        said: &BTreeMap<SubjectId, Said>,
        now: Timestamp,
        traceparent: Option<String>,
    ) -> Result<(), StoreError> {
        let ids: Vec<SubjectId> = said.keys().copied().collect();
        let streams = session.lock(&ids).await?;
        let mut pending = Pending::default();
        for (subject, it) in said {
            let Some(stream) = streams.get(subject) else { continue };
            let mut ledger = ledger(stream)?;
            // Her own words count from when they were heard, whatever held them up on the way here:
            // what she says next is heard after them.
            let (actor, method, acted_at) = match it.kind {
                StopKind::Suppressed => (Actor::Operator, Method::List, None),
                StopKind::Stopped | StopKind::Erased => (Actor::Subject, it.method, Some(it.at)),
            };
            let act = Act { actor, method, place: None, evidence: None, acted_at };
            let command = Command::Withdraw { scope: Scope::everything(), act };
            // Who is erased already can lose nothing more.
            let Ok(events) = ledger.decide(command, now) else { continue };
            let origin = Origin { now, idempotency: None, traceparent: traceparent.clone() };
            pending.push(&*self.ids, *subject, &mut ledger, &events, origin);
        }
        pending.write(session, now).await
    }

    /// From here on their confirmation may go out.
    async fn mark_settled(&self, stops: &[Stop]) -> Result<(), StoreError> {
        const SETTLED: &str = "
            WITH held AS (SELECT stop_id FROM stops WHERE stop_id = ANY($1) AND NOT settled
                          ORDER BY stop_id FOR UPDATE)
            UPDATE stops SET settled = true FROM held WHERE stops.stop_id = held.stop_id";
        let ids: Vec<Uuid> = stops.iter().map(|stop| stop.stop_id).collect();
        sqlx::query(SETTLED).bind(&ids).execute(self.store.pool()).await?;
        Ok(())
    }
}

/// What a person said last.
#[derive(Clone, Copy)]
struct Said {
    at: Timestamp,
    kind: StopKind,
    method: Method,
}

/// Writes the stops that are new; gives their ids.
async fn insert(
    conn: &mut PgConnection,
    stops: &[Stop],
    now: Timestamp,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    const INSERT: &str = "
        INSERT INTO stops (stop_id, kind, heard_at, recorded_at)
        SELECT DISTINCT ON (stop_id) stop_id, kind, heard_at, $4
        FROM unnest($1::uuid[], $2::text[], $3::timestamptz[])
            WITH ORDINALITY AS t (stop_id, kind, heard_at, n)
        ORDER BY stop_id, n
        ON CONFLICT (stop_id) DO NOTHING RETURNING stop_id";
    let ids: Vec<Uuid> = stops.iter().map(|stop| stop.stop_id).collect();
    let kinds: Vec<&str> = stops.iter().map(|stop| kind_name(stop.kind)).collect();
    let heard: Vec<jiff_sqlx::Timestamp> =
        stops.iter().map(|stop| stop.heard_at.to_sqlx()).collect();
    sqlx::query(INSERT)
        .bind(&ids)
        .bind(&kinds)
        .bind(&heard)
        .bind(now.to_sqlx())
        .fetch_all(conn)
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect()
}

/// Which of the stops that were heard before stand against none of their addresses any more, because they were kept
/// long enough ([`crate::suppression`]): said again, they are new. What was lifted leaves its row.
async fn ended(
    conn: &mut PgConnection,
    stops: &[Stop],
    new: &HashSet<Uuid>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    const ENDED: &str = "
        SELECT t.stop_id FROM unnest($1::uuid[], $2::bytea[]) AS t (stop_id, token)
             LEFT JOIN gate_rows g USING (token)
        GROUP BY t.stop_id HAVING count(g.changed_at) = 0";
    let (mut ids, mut tokens) = (Vec::new(), Vec::new());
    for stop in stops.iter().filter(|stop| !new.contains(&stop.stop_id)) {
        for token in &stop.addresses {
            ids.push(stop.stop_id);
            tokens.push(token.to_bytes().to_vec());
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(ENDED).bind(&ids).bind(&tokens).fetch_all(conn).await
}

/// Who is linked to the addresses of these stops.
async fn linked(
    conn: &mut PgConnection,
    stops: &[Stop],
) -> Result<HashMap<AddressToken, Vec<SubjectId>>, sqlx::Error> {
    let tokens: BTreeSet<Vec<u8>> = stops
        .iter()
        .flat_map(|stop| &stop.addresses)
        .map(|token| token.to_bytes().to_vec())
        .collect();
    let tokens: Vec<Vec<u8>> = tokens.into_iter().collect();
    let mut linked: HashMap<AddressToken, Vec<SubjectId>> = HashMap::new();
    let rows = sqlx::query("SELECT token, subject_id FROM gate_links WHERE token = ANY($1)")
        .bind(&tokens)
        .fetch_all(conn)
        .await?;
    for row in rows {
        let token = AddressToken::from_bytes(row.try_get(0)?)
            .map_err(|error| sqlx::Error::Decode(error.into()))?;
        linked.entry(token).or_default().push(row.try_get(1)?);
    }
    Ok(linked)
}
