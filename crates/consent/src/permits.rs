//! Permits: fresh verdicts, read and recorded in one transaction per batch on the primary.
//!
//! Why a withdrawal is final although nobody is locked: a dispatcher starts its lease *before* it
//! asks, and the statement that collects the facts takes its snapshot after that. A withdrawal
//! that committed before the snapshot is seen and denied. One that commits after it isn't seen,
//! but whoever withdraws waits one lease from the commit before anyone is told, and by then the
//! lease, which began before the commit, has run out. The permit is recorded before it is given,
//! so that a primary that was deposed under synchronous replication can't give one.
//! What a dispatcher does with its lease is left to messaging.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    CONSENT_REQUEST, Decision, Permit, PermitAsk, STOP_CONFIRMATION, Verdict,
};
use assent_runtime::{Clock, Ids, LeaseTerms, failpoint};
use jiff::SignedDuration;
use jiff_sqlx::ToSqlx as _;
use serde::Serialize;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::domain::verdict::{Addresses, Ask, GateView, Reason, evaluate};
use crate::metrics;
use crate::views::{self, Question};

/// Most asks in one request.
pub const ASKS_MAX: usize = 500;

/// Gives permits.
#[derive(Clone)]
pub struct Permits {
    /// Connections with pinned plans.
    pub pool: PgPool,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where ids come from.
    pub ids: Arc<dyn Ids>,
    /// The lease.
    pub terms: LeaseTerms,
    /// SHA-256 of the rule set in force.
    pub rule_set: Arc<str>,
}

impl Permits {
    /// One permit or denial per ask, in their order. Each call makes new ones; none is replayed.
    ///
    /// # Errors
    /// When the database fails, or doesn't say whether it committed: then there is no permit.
    pub async fn give(&self, asks: Vec<PermitAsk>) -> Result<Vec<Permit>, sqlx::Error> {
        if asks.is_empty() {
            return Ok(Vec::new());
        }
        let mut transaction = self.pool.begin().await?;
        let mut near = views::near(&mut transaction, &asks).await?;
        let suffices: Vec<bool> = asks.iter().map(|ask| views::suffices(&near, ask)).collect();
        let rest: Vec<&PermitAsk> =
            asks.iter().zip(&suffices).filter(|(_, suffices)| !**suffices).map(|it| it.0).collect();
        // A later snapshot than the first, and as good: it too begins after the leases.
        let mut whole = match rest.is_empty() {
            true => GateView::default(),
            false => views::whole(&mut transaction, &question(&rest)).await?,
        };
        near.rule_set = Some(self.rule_set.to_string());
        whole.rule_set.clone_from(&near.rule_set);
        let now = self.clock.now();
        let settling = settling(&self.terms);
        let mut permits: Vec<Permit> = asks
            .iter()
            .zip(suffices)
            .map(|(ask, suffices)| Permit {
                permit_id: self.ids.v7(),
                message_id: ask.message_id,
                verdict: evaluate(
                    if suffices { &near } else { &whole },
                    Ask {
                        subject: ask.subject_id,
                        addresses: Addresses::Given(&ask.addresses),
                        purpose: &ask.purpose,
                        channel: &ask.channel,
                        message: Some(ask.message_id),
                    },
                    now,
                    settling,
                ),
            })
            .collect();
        spend_confirmations(&mut transaction, &asks, &mut permits).await?;
        failpoint::hit_async("consent.permit_after_read").await;
        near.purposes.extend(whole.purposes);
        record(&mut transaction, self.ids.v7(), &near, &asks, &permits).await?;
        transaction.commit().await?;
        metrics::answered(&permits);
        Ok(permits)
    }
}

/// The lease and its drift, as verdicts show it.
#[must_use]
pub fn settling(terms: &LeaseTerms) -> SignedDuration {
    SignedDuration::try_from(terms.settlement()).unwrap_or(SignedDuration::MAX)
}

fn question(asks: &[&PermitAsk]) -> Question {
    let purposes: HashSet<&str> = asks.iter().map(|ask| ask.purpose.as_str()).collect();
    Question {
        subjects: asks.iter().map(|ask| ask.subject_id).collect(),
        tokens: asks
            .iter()
            .flat_map(|ask| &ask.addresses)
            .map(|token| token.to_bytes().to_vec())
            .collect(),
        asks: asks
            .iter()
            .filter(|ask| ask.purpose == CONSENT_REQUEST)
            .map(|ask| ask.message_id)
            .collect(),
        purposes: purposes.into_iter().map(str::to_owned).collect(),
    }
}

/// Takes the one confirmation of each stop, for the first message that asks; that one may ask again, for a message
/// is sent once. Whichever comes second, in this batch or in another at the same time, finds it spent.
async fn spend_confirmations(
    conn: &mut PgConnection,
    asks: &[PermitAsk],
    permits: &mut [Permit],
) -> Result<(), sqlx::Error> {
    const SPEND: &str = "
        WITH held AS (
            SELECT s.stop_id, t.message_id
            FROM unnest($1::uuid[], $2::uuid[]) AS t (stop_id, message_id) JOIN stops s USING (stop_id)
            WHERE s.settled AND coalesce(s.confirmed_by, t.message_id) = t.message_id
            ORDER BY s.stop_id FOR UPDATE OF s
        )
        UPDATE stops SET confirmed_by = held.message_id FROM held
        WHERE stops.stop_id = held.stop_id
          AND coalesce(confirmed_by, held.message_id) = held.message_id
        RETURNING stops.stop_id";
    let mut wanted: HashMap<Uuid, usize> = HashMap::new();
    let mut spent: Vec<usize> = Vec::new();
    for (index, (ask, permit)) in asks.iter().zip(permits.iter()).enumerate() {
        if ask.purpose != STOP_CONFIRMATION || permit.verdict.verdict == Decision::Deny {
            continue;
        }
        match permit.verdict.evidence.first() {
            Some(stop) if !wanted.contains_key(stop) => {
                wanted.insert(*stop, index);
            }
            _ => spent.push(index),
        }
    }
    if !wanted.is_empty() {
        let stops: Vec<Uuid> = wanted.keys().copied().collect();
        let ids: Vec<Uuid> = wanted.values().map(|index| asks[*index].message_id).collect();
        for row in sqlx::query(SPEND).bind(&stops).bind(&ids).fetch_all(conn).await? {
            wanted.remove(&row.try_get(0)?);
        }
        spent.extend(wanted.into_values());
    }
    for index in spent {
        let verdict = &mut permits[index].verdict;
        verdict.verdict = Decision::Deny;
        verdict.reasons = vec![Reason::ConfirmationSpent.code().to_owned()];
    }
    Ok(())
}

/// What asks of one batch can have in common.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
struct Outcome<'a> {
    purpose: &'a str,
    channel: &'a str,
    template: &'a str,
    allowed: bool,
    reasons: &'a [String],
    notice_hash: Option<&'a str>,
}

/// Purposes and channels that don't exist are recorded as `unknown`: what a caller made up could
/// be anything, a number too.
async fn record(
    conn: &mut PgConnection,
    batch_id: Uuid,
    view: &GateView,
    asks: &[PermitAsk],
    permits: &[Permit],
) -> Result<(), sqlx::Error> {
    const RECORD: &str = "
        INSERT INTO permit_batches (batch_id, at, rules, outcomes, subjects, permit_ids,
                                    message_ids, outcome_of, evidence)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let Some(Permit { verdict: Verdict { rules, as_of, .. }, .. }) = permits.first() else {
        return Ok(());
    };
    let rules = match &view.rule_set {
        Some(rule_set) => format!("{rules} {rule_set}"),
        None => rules.clone(),
    };
    let mut outcomes: Vec<Outcome<'_>> = Vec::new();
    let mut known: HashMap<Outcome<'_>, i16> = HashMap::new();
    let mut outcome_of = Vec::with_capacity(asks.len());
    for (ask, Permit { verdict, .. }) in asks.iter().zip(permits) {
        let (purpose, channel) = known_names(view, ask);
        let outcome = Outcome {
            purpose,
            channel,
            template: &ask.template,
            allowed: verdict.verdict == Decision::Allow,
            reasons: &verdict.reasons,
            notice_hash: verdict.notice_hash.as_deref(),
        };
        outcome_of.push(*known.entry(outcome).or_insert_with_key(|outcome| {
            outcomes.push(outcome.clone());
            (outcomes.len() - 1) as i16
        }));
    }
    let subjects: Vec<Uuid> = asks.iter().map(|ask| ask.subject_id).collect();
    let ids: Vec<Uuid> = permits.iter().map(|permit| permit.permit_id).collect();
    let messages: Vec<Uuid> = asks.iter().map(|ask| ask.message_id).collect();
    let evidence: Vec<String> =
        permits.iter().map(|permit| spaced(&permit.verdict.evidence)).collect();
    sqlx::query(RECORD)
        .bind(batch_id)
        .bind(as_of.to_sqlx())
        .bind(rules)
        .bind(Json(&outcomes))
        .bind(&subjects)
        .bind(&ids)
        .bind(&messages)
        .bind(&outcome_of)
        .bind(&evidence)
        .execute(conn)
        .await?;
    Ok(())
}

/// The ids of the permits and denials of these people that are on record.
///
/// # Errors
/// When the database fails.
pub async fn recorded(
    conn: &mut PgConnection,
    people: &[SubjectId],
) -> Result<HashMap<SubjectId, Vec<Uuid>>, sqlx::Error> {
    const RECORDED: &str = "
        SELECT subject_id, permit_id
        FROM permit_batches, unnest(subjects, permit_ids) AS t (subject_id, permit_id)
        WHERE subjects && $1 AND subject_id = ANY($1)";
    let rows: Vec<(SubjectId, Uuid)> =
        sqlx::query_as(RECORDED).bind(people).fetch_all(conn).await?;
    let mut recorded: HashMap<SubjectId, Vec<Uuid>> = HashMap::new();
    for (subject, permit) in rows {
        recorded.entry(subject).or_default().push(permit);
    }
    Ok(recorded)
}

/// Takes people out of the record, and gives the ids of their permits and denials. What others were given in the
/// same batches stays.
///
/// # Errors
/// When the database fails.
pub async fn forget(
    conn: &mut PgConnection,
    people: &[SubjectId],
) -> Result<HashMap<SubjectId, Vec<Uuid>>, sqlx::Error> {
    const EMPTY: &str = "DELETE FROM permit_batches WHERE subjects && $1 AND subjects <@ $1";
    // By the row's own columns: whoever waited for another erasure looks at what that one left.
    const FORGET: &str = "
        UPDATE permit_batches
        SET (subjects, permit_ids, message_ids, outcome_of, evidence) = (
            SELECT coalesce(array_agg(t.subject_id ORDER BY n), '{}'),
                   coalesce(array_agg(t.permit_id ORDER BY n), '{}'),
                   coalesce(array_agg(t.message_id ORDER BY n), '{}'),
                   coalesce(array_agg(t.outcome ORDER BY n), '{}'),
                   coalesce(array_agg(t.evidence ORDER BY n), '{}')
            FROM unnest(subjects, permit_ids, message_ids, outcome_of, evidence) WITH ORDINALITY
                 AS t (subject_id, permit_id, message_id, outcome, evidence, n)
            WHERE t.subject_id <> ALL($1)
        )
        WHERE subjects && $1";
    let ids = recorded(conn, people).await?;
    if !ids.is_empty() {
        sqlx::query(EMPTY).bind(people).execute(&mut *conn).await?;
        sqlx::query(FORGET).bind(people).execute(conn).await?;
    }
    Ok(ids)
}

fn known_names<'a>(view: &GateView, ask: &'a PermitAsk) -> (&'a str, &'a str) {
    const UNKNOWN: &str = "unknown";
    let known = |channel: &&str| {
        view.purposes.values().flat_map(|it| &it.channels).any(|known| known == *channel)
    };
    let channel = Some(ask.channel.as_str()).filter(known).unwrap_or(UNKNOWN);
    if [STOP_CONFIRMATION, CONSENT_REQUEST].contains(&&*ask.purpose)
        || view.purposes.contains_key(&ask.purpose)
    {
        (&ask.purpose, channel)
    } else {
        (UNKNOWN, channel)
    }
}

fn spaced(ids: &[Uuid]) -> String {
    let mut text = String::with_capacity(ids.len() * 37);
    for id in ids {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }
    text
}
