//! What holds for one person's messages, and what lifts it. It guarantees that a doubt about who she is stands until
//! somebody verified it; that of a long silence also ends, purpose by purpose, with what she agrees to.

use std::collections::HashMap;
use std::time::Duration;

use assent_contracts::SubjectId;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::{PgConnection, Row as _};

use super::refusals::Consequence;
use crate::intents::Claimed;
use crate::whatsapp::reaction::{DAY, Reaction};

pub(super) async fn bar(conn: &mut PgConnection, it: &Consequence) -> Result<(), sqlx::Error> {
    // A pair's delay is 4^n seconds, where n counts delays that follow each other within an hour. What is
    // heard during one is of the same burst.
    const BAR: &str = "
        INSERT INTO person_bars AS held (subject_id, bar, provider_code, since, until)
        VALUES ($1, $2, $3, $4, now() + CASE $2 WHEN 'pair' THEN interval '4 seconds'
                                                WHEN 'cap' THEN make_interval(secs => $5) END)
        ON CONFLICT (subject_id, bar) DO UPDATE
            SET provider_code = EXCLUDED.provider_code, since = EXCLUDED.since,
                times = CASE WHEN held.until > now() THEN held.times
                             WHEN held.until > now() - interval '1 hour' THEN held.times + 1
                             ELSE 1 END,
                until = CASE
                    WHEN $2 <> 'pair' THEN greatest(held.until, EXCLUDED.until)
                    WHEN held.until > now() THEN held.until
                    ELSE now() + make_interval(secs => least(3600, 4 ^ least(6,
                        CASE WHEN held.until > now() - interval '1 hour' THEN held.times + 1 ELSE 1 END)))
                    END";
    let Some(bar) = Bar::of(it.reaction) else { return Ok(()) };
    sqlx::query(BAR)
        .bind(it.subject)
        .bind(bar.as_str())
        .bind(it.code)
        .bind(it.said_at.to_sqlx())
        .bind(DAY.as_secs_f64())
        .execute(conn)
        .await
        .map(|_| ())
}

/// She has another number or another user id: whoever has the old one may be somebody else.
///
/// # Errors
/// When the database fails.
pub async fn break_trust(
    conn: &mut PgConnection,
    subject: SubjectId,
    said_at: Timestamp,
) -> Result<(), sqlx::Error> {
    let reaction = Reaction::BreakTrust;
    bar(conn, &Consequence { reaction, code: None, subject, template: None, said_at }).await
}

/// She wrote after a long silence: her number may be somebody else's by now, and what rests on her consent
/// doesn't go out, but for what she agrees to from there now. What she just wrote can be answered. Gives
/// whether it holds from now on. Call it under the lock of her stream.
///
/// # Errors
/// When the database fails.
pub async fn hold_templates(
    conn: &mut PgConnection,
    subject: SubjectId,
    said_at: Timestamp,
) -> Result<bool, sqlx::Error> {
    const HOLD: &str = "
        INSERT INTO person_bars (subject_id, bar, since, lifted_for)
        SELECT $1, 'silence', $2,
               ARRAY(SELECT DISTINCT purpose FROM declarations
                     WHERE will IN ('start', 'code') AND settled_at IS NOT NULL
                       AND purpose IS NOT NULL AND subjects @> ARRAY[$1] AND said_at >= $2)
        ON CONFLICT (subject_id, bar) DO NOTHING";
    let held = sqlx::query(HOLD).bind(subject).bind(said_at.to_sqlx()).execute(conn).await?;
    Ok(held.rows_affected() > 0)
}

/// These people agreed to a purpose by an act of their own: for that they were silent before matters no more. The
/// rest may be somebody else's. Call it under the lock of their streams.
///
/// # Errors
/// When the database fails.
pub async fn opted_in(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    purpose: &str,
) -> Result<(), sqlx::Error> {
    const LIFT: &str = "
        UPDATE person_bars SET lifted_for = array_append(lifted_for, $2)
        WHERE subject_id = ANY($1) AND bar = 'silence' AND $2 <> ALL (lifted_for)";
    sqlx::query(LIFT).bind(subjects).bind(purpose).execute(conn).await.map(|_| ())
}

/// They wrote: what waited for that is over. Webhooks come late: what began after she wrote waits on. The
/// provider says when in whole seconds.
///
/// # Errors
/// When the database fails.
pub async fn they_wrote(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    said_at: &[SqlTimestamp],
) -> Result<(), sqlx::Error> {
    const LIFT: &str = "
        DELETE FROM person_bars USING unnest($1::uuid[], $2::timestamptz[]) AS t (subject_id, said_at)
        WHERE person_bars.subject_id = t.subject_id AND bar = 'experiment'
          AND date_trunc('second', since) <= t.said_at";
    sqlx::query(LIFT).bind(subjects).bind(said_at).execute(conn).await.map(|_| ())
}

/// Somebody verified that her number is hers. Gives whether that was in doubt.
///
/// # Errors
/// When the database fails.
pub async fn trust_again(conn: &mut PgConnection, subject: SubjectId) -> Result<bool, sqlx::Error> {
    sqlx::query("DELETE FROM person_bars WHERE subject_id = $1 AND bar IN ('identity', 'silence')")
        .bind(subject)
        .execute(conn)
        .await
        .map(|done| done.rows_affected() > 0)
}

/// What holds for one person's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bar {
    Pair,
    Cap,
    Experiment,
    Identity,
    Silence,
}

impl Bar {
    const fn of(reaction: Reaction) -> Option<Self> {
        match reaction {
            Reaction::DelayPair => Some(Self::Pair),
            Reaction::CapPerson => Some(Self::Cap),
            Reaction::AwaitInbound => Some(Self::Experiment),
            Reaction::BreakTrust => Some(Self::Identity),
            _ => None,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Cap => "cap",
            Self::Experiment => "experiment",
            Self::Identity => "identity",
            Self::Silence => "silence",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Pair, Self::Cap, Self::Experiment, Self::Identity, Self::Silence]
            .into_iter()
            .find(|bar| bar.as_str() == text)
    }
}

/// A bar as it stands.
#[derive(Debug)]
pub(super) struct Barred {
    pub(super) bar: Bar,
    pub(super) left: Duration,
    /// Of a silence: the purposes to which she has agreed since.
    pub(super) lifted_for: Vec<String>,
}

impl Barred {
    /// Why it is in doubt that a message would reach the person who agreed to it.
    pub(super) fn doubts(&self, intent: &Claimed) -> Option<&'static str> {
        match self.bar {
            Bar::Identity => Some("identity_changed"),
            Bar::Silence if intent.template.is_some() => {
                (!self.lifted_for.contains(&intent.purpose)).then_some("long_silence")
            }
            Bar::Silence | Bar::Pair | Bar::Cap | Bar::Experiment => None,
        }
    }
}

/// In what doubt people are.
#[derive(Debug, Default)]
pub struct Doubts(HashMap<SubjectId, Vec<Barred>>);

impl Doubts {
    /// Of these people, at one moment.
    ///
    /// # Errors
    /// When the database fails; then nothing may be sent.
    pub async fn of(conn: &mut PgConnection, subjects: &[SubjectId]) -> Result<Self, sqlx::Error> {
        const BARS: &str = "
            SELECT subject_id, bar, lifted_for FROM person_bars
            WHERE subject_id = ANY($1) AND bar IN ('identity', 'silence')";
        let mut all: HashMap<_, Vec<Barred>> = HashMap::new();
        if subjects.is_empty() {
            return Ok(Self(all));
        }
        for row in sqlx::query(BARS).bind(subjects).fetch_all(conn).await? {
            let Some(bar) = Bar::parse(row.try_get(1)?) else { continue };
            let barred = Barred { bar, left: Duration::ZERO, lifted_for: row.try_get(2)? };
            all.entry(row.try_get(0)?).or_default().push(barred);
        }
        Ok(Self(all))
    }

    /// Why a message can't go out, where one of these people is one with whom it is for.
    #[must_use]
    pub fn about(&self, intent: &Claimed, people: &[SubjectId]) -> Option<&'static str> {
        let bars = people.iter().filter_map(|it| self.0.get(it)).flatten();
        bars.filter_map(|it| it.doubts(intent)).next()
    }
}
