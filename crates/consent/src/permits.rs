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
use std::fmt::Write as _;
use std::sync::Arc;

use assent_contracts::api::consent::{
    CONSENT_REQUEST, Decision, Permit, PermitAsk, STOP_CONFIRMATION, Verdict,
};
use assent_runtime::{Clock, Ids, LeaseTerms, failpoint};
use jiff::SignedDuration;
use jiff_sqlx::ToSqlx as _;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::domain::verdict::{Addresses, Ask, GateView, Reason, evaluate};
use crate::gate::{self, Question};

/// Most asks in one request.
pub const ASKS_MAX: usize = 100;

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
        let mut view = gate::facts(&mut transaction, &question(&asks)).await?;
        view.rule_set = Some(self.rule_set.to_string());
        let now = self.clock.now();
        let settling = settling(&self.terms);
        let mut permits: Vec<Permit> = asks
            .iter()
            .map(|ask| Permit {
                permit_id: self.ids.v7(),
                message_id: ask.message_id,
                verdict: evaluate(
                    &view,
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
        record(&mut transaction, &view, &asks, &permits).await?;
        transaction.commit().await?;
        Ok(permits)
    }
}

/// The lease and its drift, as verdicts show it.
#[must_use]
pub fn settling(terms: &LeaseTerms) -> SignedDuration {
    SignedDuration::try_from(terms.settlement()).unwrap_or(SignedDuration::MAX)
}

fn question(asks: &[PermitAsk]) -> Question {
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

/// Takes the one confirmation of each stop, for the first that asks. Whoever comes second, in
/// this batch or in another at the same time, finds it spent.
async fn spend_confirmations(
    conn: &mut PgConnection,
    asks: &[PermitAsk],
    permits: &mut [Permit],
) -> Result<(), sqlx::Error> {
    const SPEND: &str = "
        WITH held AS (
            SELECT s.stop_id, t.permit_id
            FROM unnest($1::uuid[], $2::uuid[]) AS t (stop_id, permit_id) JOIN stops s USING (stop_id)
            WHERE s.settled AND s.confirmed_by IS NULL ORDER BY s.stop_id FOR UPDATE OF s
        )
        UPDATE stops SET confirmed_by = held.permit_id FROM held
        WHERE stops.stop_id = held.stop_id AND confirmed_by IS NULL RETURNING stops.stop_id";
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
        let ids: Vec<Uuid> = wanted.values().map(|index| permits[*index].permit_id).collect();
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

/// Purposes and channels that don't exist are recorded as `unknown`: what a caller made up could
/// be anything, a number too.
async fn record(
    conn: &mut PgConnection,
    view: &GateView,
    asks: &[PermitAsk],
    permits: &[Permit],
) -> Result<(), sqlx::Error> {
    const RECORD: &str = "
        INSERT INTO permits (subject_id, permit_id, message_id, purpose, channel, template, allowed,
                             reasons, evidence, notice_hash, rules, at)
        SELECT subject_id, permit_id, message_id, purpose, channel, template, allowed,
               reasons::text[], evidence::uuid[], notice_hash, $10, $11
        FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                    $7::boolean[], $8::text[], $9::text[], $12::text[])
            AS t (subject_id, permit_id, message_id, purpose, channel, template, allowed, reasons,
                  evidence, notice_hash)";
    let Some(Permit { verdict: Verdict { rules, as_of, .. }, .. }) = permits.first() else {
        return Ok(());
    };
    let rules = match &view.rule_set {
        Some(rule_set) => format!("{rules} {rule_set}"),
        None => rules.clone(),
    };
    let (purposes, channels): (Vec<&str>, Vec<&str>) =
        asks.iter().map(|ask| known_names(view, ask)).unzip();
    let templates: Vec<&str> = asks.iter().map(|ask| ask.template.as_str()).collect();
    let subjects: Vec<Uuid> = asks.iter().map(|ask| ask.subject_id).collect();
    let ids: Vec<Uuid> = permits.iter().map(|permit| permit.permit_id).collect();
    let messages: Vec<Uuid> = asks.iter().map(|ask| ask.message_id).collect();
    let allowed: Vec<bool> =
        permits.iter().map(|permit| permit.verdict.verdict == Decision::Allow).collect();
    let reasons: Vec<String> =
        permits.iter().map(|permit| format!("{{{}}}", permit.verdict.reasons.join(","))).collect();
    let evidence: Vec<String> =
        permits.iter().map(|permit| array_text(&permit.verdict.evidence)).collect();
    let notices: Vec<Option<&str>> =
        permits.iter().map(|permit| permit.verdict.notice_hash.as_deref()).collect();
    sqlx::query(RECORD)
        .bind(&subjects)
        .bind(&ids)
        .bind(&messages)
        .bind(&purposes)
        .bind(&channels)
        .bind(&templates)
        .bind(&allowed)
        .bind(&reasons)
        .bind(&evidence)
        .bind(rules)
        .bind(as_of.to_sqlx())
        .bind(&notices)
        .execute(conn)
        .await?;
    Ok(())
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

/// A Postgres array literal: UNNEST flattens arrays of arrays, so they travel as text.
fn array_text(ids: &[Uuid]) -> String {
    let mut text = String::with_capacity(2 + ids.len() * 37);
    text.push('{');
    for (index, id) in ids.iter().enumerate() {
        let _ = write!(text, "{}{id}", if index == 0 { "" } else { "," });
    }
    text.push('}');
    text
}
