//! The gate's rows in Postgres: collecting the facts of verdicts in one statement, and the writes
//! that close or open an address. It guarantees that all facts of one collection are of one
//! snapshot and that writers take row locks in token order; deciding is left to `domain::verdict`.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use assent_contracts::consent::AgeBasis;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::event::Age;
use crate::domain::ledger::Line;
use crate::domain::scope::Scope;
use crate::domain::verdict::{Asked, GateRow, GateView, Pursued, StopState, advertises};
use crate::{lines, standing};

/// All that hangs together with the asked people ($1) and addresses ($2), from one snapshot:
/// every address of theirs, everyone who shares one, what each said, what stands against each.
const FACTS: &str = "
WITH asked AS MATERIALIZED (
    SELECT unnest($1::uuid[]) AS subject_id
), tokens AS MATERIALIZED (
    SELECT unnest($2::bytea[]) AS token
    UNION
    SELECT l.token FROM asked JOIN gate_links l USING (subject_id)
), links AS MATERIALIZED (
    SELECT l.token, l.subject_id, l.region FROM tokens JOIN gate_links l USING (token)
), subjects AS MATERIALIZED (
    SELECT subject_id FROM asked UNION SELECT subject_id FROM links
), questions AS MATERIALIZED (
    SELECT * FROM asks WHERE request_id = ANY($4::uuid[])
)
SELECT 'k'::\"char\" AS kind, token, subject_id AS a, NULL::uuid AS b, NULL::uuid AS c,
       region AS t1, NULL::text AS t2, NULL::text AS t3, NULL::text AS t4,
       NULL::timestamptz AS at, NULL::timestamptz AS until, NULL::bigint AS n,
       NULL::boolean AS y, NULL::boolean AS z, NULL::text[] AS list
FROM links
UNION ALL
SELECT 'r', r.token, r.stopped_by, r.suppressed_by, r.erased_by, NULL, NULL, NULL, NULL,
       r.changed_at, NULL, NULL, s.settled, s.confirmed_by IS NOT NULL, NULL
FROM tokens JOIN gate_rows r USING (token) LEFT JOIN stops s ON s.stop_id = r.stopped_by
UNION ALL
SELECT 'c', NULL, c.subject_id, c.event_id, NULL, c.purpose, c.channel, c.state, c.notice_hash,
       c.since, c.valid_until, c.version, c.by_guardian, NULL, NULL
FROM subjects JOIN consent_lines c USING (subject_id)
UNION ALL
SELECT 'f', NULL, f.subject_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL
FROM subjects JOIN fences f USING (subject_id)
UNION ALL
SELECT 'p', NULL, NULL, NULL, NULL, p.purpose, p.dpv, p.quiet, NULL, NULL, NULL, NULL,
       NULL, NULL, p.channels
FROM purposes p WHERE p.purpose = ANY($3::text[]) OR p.purpose IN (SELECT purpose FROM questions)
UNION ALL
SELECT 'a', NULL, NULL, NULL, NULL, p.purpose, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       p.accepted
FROM purposes p
WHERE (p.purpose = ANY($3::text[]) OR p.purpose IN (SELECT purpose FROM questions))
  AND p.accepted IS NOT NULL
UNION ALL
SELECT 'q', NULL, q.request_id, q.subject_id, NULL, q.purpose, q.channel, NULL, NULL, q.asked_at,
       c.contacted_at, NULL, q.renews, NULL, NULL
FROM questions q LEFT JOIN contacts c USING (subject_id)
UNION ALL
SELECT 'g', NULL, g.subject_id, g.event_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       CASE WHEN g.verified THEN 1 ELSE 0 END, g.of_age, g.may_be_targeted, NULL
FROM asked JOIN ages g USING (subject_id)";

/// What a question is about.
#[derive(Debug, Default)]
pub struct Question {
    /// The people.
    pub subjects: Vec<SubjectId>,
    /// The addresses, beside those of the people.
    pub tokens: Vec<Vec<u8>>,
    /// The purposes.
    pub purposes: Vec<String>,
    /// The messages that ask.
    pub asks: Vec<Uuid>,
}

/// Connection options under which the plan of `FACTS` never changes: always by the indexes,
/// planned once, whatever the statistics of the day say.
#[must_use]
pub fn pinned_plans(options: PgConnectOptions) -> PgConnectOptions {
    options.options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("jit", "off"),
    ])
}

/// Collects the facts.
///
/// # Errors
/// When the database fails, or a row can't be read.
pub async fn facts(conn: &mut PgConnection, question: &Question) -> Result<GateView, sqlx::Error> {
    let rows = sqlx::query(FACTS)
        .bind(&question.subjects)
        .bind(&question.tokens)
        .bind(&question.purposes)
        .bind(&question.asks)
        .fetch_all(conn)
        .await?;
    let mut view = GateView::default();
    for row in rows {
        add(&mut view, &row)?;
    }
    Ok(view)
}

fn add(view: &mut GateView, row: &PgRow) -> Result<(), sqlx::Error> {
    match row.try_get::<i8, _>(0)? as u8 {
        b'k' => {
            let token = token(row.try_get(1)?)?;
            view.link(token, row.try_get(2)?);
            if let Some(region) = row.try_get::<Option<String>, _>(5)? {
                view.regions.insert(token, region);
            }
        }
        b'r' => {
            let stop: Option<Uuid> = row.try_get(2)?;
            let stop = match stop {
                None => None,
                Some(stop_id) => Some(StopState {
                    stop_id,
                    settled: row.try_get::<Option<bool>, _>(12)?.unwrap_or(false),
                    confirmed: row.try_get::<Option<bool>, _>(13)?.unwrap_or(true),
                }),
            };
            let gate_row = GateRow {
                stop,
                suppressed_by: row.try_get(3)?,
                erased_by: row.try_get(4)?,
                changed_at: timestamp(row, 9)?,
            };
            view.rows.insert(token(row.try_get(1)?)?, gate_row);
        }
        b'c' => {
            let line = Line {
                state: lines::state(row.try_get(7)?)?,
                event_id: row.try_get(3)?,
                version: row.try_get(11)?,
                since: timestamp(row, 9)?,
                notice_hash: row.try_get(8)?,
                valid_until: row
                    .try_get::<Option<jiff_sqlx::Timestamp>, _>(10)?
                    .map(jiff_sqlx::Timestamp::to_jiff),
                by_guardian: row.try_get(12)?,
            };
            let scope = Scope { purpose: row.try_get(5)?, channel: row.try_get(6)? };
            view.lines.entry(row.try_get(2)?).or_default().push((scope, line));
        }
        b'f' => {
            view.fences.insert(row.try_get(2)?);
        }
        b'g' => {
            let verified = row.try_get::<i64, _>(11)? == 1;
            let age = Age {
                basis: if verified { AgeBasis::Verified } else { AgeBasis::Stated },
                of_age: row.try_get(12)?,
                may_be_targeted: row.try_get(13)?,
            };
            view.ages.insert(row.try_get(2)?, (row.try_get(3)?, age));
        }
        b'q' => {
            let asked = Asked {
                subject: row.try_get(3)?,
                scope: Scope { purpose: row.try_get(5)?, channel: row.try_get(6)? },
                decided_at: timestamp(row, 9)?,
                renews: row.try_get(12)?,
                contacted_at: row
                    .try_get::<Option<jiff_sqlx::Timestamp>, _>(10)?
                    .map(jiff_sqlx::Timestamp::to_jiff),
            };
            view.asks.insert(row.try_get(2)?, asked);
        }
        b'a' => {
            let pursued: &mut Pursued = view.purposes.entry(row.try_get(5)?).or_default();
            pursued.accepted = row.try_get(14)?;
        }
        _ => {
            let pursued: &mut Pursued = view.purposes.entry(row.try_get(5)?).or_default();
            pursued.channels = row.try_get(14)?;
            pursued.advertises = row.try_get::<Option<&str>, _>(6)?.is_some_and(advertises);
            let quiet: Option<&str> = row.try_get(7)?;
            let quiet = quiet.map(serde_json::from_str).transpose();
            pursued.quiet = quiet.map_err(|error| sqlx::Error::Decode(error.into()))?;
        }
    }
    Ok(())
}

fn timestamp(row: &PgRow, index: usize) -> Result<Timestamp, sqlx::Error> {
    Ok(row.try_get::<jiff_sqlx::Timestamp, _>(index)?.to_jiff())
}

fn token(bytes: &[u8]) -> Result<AddressToken, sqlx::Error> {
    AddressToken::from_bytes(bytes).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// An address that is to be closed.
#[derive(Debug, Clone)]
pub struct Closing {
    /// The address.
    pub token: AddressToken,
    /// In which way.
    pub kind: StopKind,
    /// By which stop or erasure request.
    pub by: Uuid,
    /// From when on: what opens it must have been said later.
    pub since: Timestamp,
}

/// Closes addresses. Where an address is closed in the same way already, the earlier cause stays:
/// its confirmation was due, and is due once.
///
/// # Errors
/// When the database fails.
pub async fn close(conn: &mut PgConnection, closings: &[Closing]) -> Result<(), sqlx::Error> {
    const CLOSE: &str = "
        INSERT INTO gate_rows AS g (token, stopped_by, suppressed_by, erased_by, changed_at)
        SELECT DISTINCT ON (token) token,
               CASE WHEN $3 = 'stopped' THEN by END,
               CASE WHEN $3 = 'suppressed' THEN by END,
               CASE WHEN $3 = 'erased' THEN by END, since
        FROM unnest($1::bytea[], $2::uuid[], $4::timestamptz[])
            WITH ORDINALITY AS t (token, by, since, n)
        ORDER BY token, n
        ON CONFLICT (token) DO UPDATE SET
            stopped_by = coalesce(g.stopped_by, excluded.stopped_by),
            suppressed_by = coalesce(g.suppressed_by, excluded.suppressed_by),
            erased_by = coalesce(g.erased_by, excluded.erased_by),
            changed_at = greatest(g.changed_at, excluded.changed_at)
        WHERE (g.stopped_by IS NULL AND excluded.stopped_by IS NOT NULL)
           OR (g.suppressed_by IS NULL AND excluded.suppressed_by IS NOT NULL)
           OR (g.erased_by IS NULL AND excluded.erased_by IS NOT NULL)";
    for kind in [StopKind::Stopped, StopKind::Suppressed, StopKind::Erased] {
        let of_kind = || closings.iter().filter(|closing| closing.kind == kind);
        let tokens: Vec<Vec<u8>> = of_kind().map(|c| c.token.to_bytes().to_vec()).collect();
        let by: Vec<Uuid> = of_kind().map(|closing| closing.by).collect();
        let since: Vec<SqlTimestamp> = of_kind().map(|c| c.since.to_sqlx()).collect();
        if !tokens.is_empty() {
            sqlx::query(CLOSE)
                .bind(&tokens)
                .bind(&by)
                .bind(kind_name(kind))
                .bind(&since)
                .execute(&mut *conn)
                .await?;
        }
    }
    let tokens: Vec<Vec<u8>> = closings.iter().map(|c| c.token.to_bytes().to_vec()).collect();
    standing::mark_tokens(conn, &tokens).await
}

/// Lifts everything that stands against these addresses: the person herself has acted from them;
/// where it is known when, only what stood by then.
///
/// # Errors
/// When the database fails.
pub async fn lift_all(
    conn: &mut PgConnection,
    tokens: &[Vec<u8>],
    acted_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const LIFT: &str = "
        WITH held AS (SELECT token FROM gate_rows WHERE token = ANY($1) ORDER BY token FOR UPDATE)
        UPDATE gate_rows SET stopped_by = NULL, suppressed_by = NULL, erased_by = NULL,
                             changed_at = coalesce($3, $2)
        FROM held WHERE gate_rows.token = held.token
          AND (changed_at <= $3 OR $3 IS NULL)";
    sqlx::query(LIFT)
        .bind(tokens)
        .bind(now.to_sqlx())
        .bind(acted_at.map(|at| at.to_sqlx()))
        .execute(&mut *conn)
        .await?;
    standing::mark_tokens(conn, tokens).await
}

/// Lifts the stops, and only those, from the addresses of these people: an operator has proved
/// that they changed their minds.
///
/// # Errors
/// When the database fails.
pub async fn lift_stops(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const LIFT: &str = "
        WITH held AS (
            SELECT token FROM gate_rows
            WHERE token IN (SELECT token FROM gate_links WHERE subject_id = ANY($1))
              AND suppressed_by IS NULL AND erased_by IS NULL
            ORDER BY token FOR UPDATE
        )
        UPDATE gate_rows SET stopped_by = NULL, changed_at = $2
        FROM held WHERE gate_rows.token = held.token
          AND suppressed_by IS NULL AND erased_by IS NULL";
    sqlx::query(LIFT).bind(subjects).bind(now.to_sqlx()).execute(&mut *conn).await?;
    standing::mark_addresses_of(conn, subjects).await
}

/// The stable name of a kind of stop.
#[must_use]
pub const fn kind_name(kind: StopKind) -> &'static str {
    match kind {
        StopKind::Stopped => "stopped",
        StopKind::Suppressed => "suppressed",
        StopKind::Erased => "erased",
    }
}

/// Connection options for the pool of permits.
///
/// # Errors
/// When `url` is no Postgres address.
pub fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(pinned_plans(assent_eventstore::connect_options(url)?))
}
