//! What verdicts rest on, read from Postgres. It guarantees that all facts of one view are of one snapshot;
//! deciding is left to `domain::verdict`.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::{CONSENT_REQUEST, PermitAsk, STOP_CONFIRMATION};
use assent_contracts::consent::AgeBasis;
use jiff::Timestamp;
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{PgConnection, Row as _};
use uuid::Uuid;

use crate::domain::event::Age;
use crate::domain::ledger::Line;
use crate::domain::scope::Scope;
use crate::domain::verdict::{Asked, GateRow, GateView, Pursued, StopState, advertises};
use crate::lines;

/// The kinds of rows that a view is made of, each as what it is selected from. All have the same columns.
macro_rules! rows {
    (links $from:literal) => {
        concat!(
            "SELECT 'k'::\"char\" AS kind, l.token, l.subject_id AS a, NULL::uuid AS b, NULL::uuid AS c,
                    l.region AS t1, NULL::text AS t2, NULL::text AS t3, NULL::text AS t4,
                    NULL::timestamptz AS at, NULL::timestamptz AS until, NULL::bigint AS n,
                    NULL::boolean AS y, NULL::boolean AS z, NULL::text[] AS list
             FROM ",
            $from
        )
    };
    (others $from:literal) => {
        concat!(
            " UNION ALL
             SELECT 'k', l.token, l.subject_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                    NULL, NULL, NULL
             FROM ",
            $from
        )
    };
    (bars $from:literal) => {
        concat!(
            " UNION ALL
             SELECT 'r', r.token, r.stopped_by, r.suppressed_by, r.erased_by, s.confirmed_by::text,
                    NULL, NULL, NULL, r.changed_at, NULL, NULL, s.settled, NULL, NULL
             FROM ",
            $from,
            " LEFT JOIN stops s ON s.stop_id = r.stopped_by"
        )
    };
    (lines $from:literal) => {
        concat!(
            " UNION ALL
             SELECT 'c', NULL, c.subject_id, c.event_id, NULL, c.purpose, c.channel, c.state,
                    c.notice_hash, c.since, c.valid_until, c.version, c.by_guardian, NULL, NULL
             FROM ",
            $from
        )
    };
    (fences $from:literal) => {
        concat!(
            " UNION ALL
             SELECT 'f', NULL, f.subject_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                    NULL, NULL, NULL
             FROM ",
            $from
        )
    };
    (ages $from:literal) => {
        concat!(
            " UNION ALL
             SELECT 'g', NULL, g.subject_id, g.event_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                    CASE WHEN g.verified THEN 1 ELSE 0 END, g.of_age, g.may_be_targeted, NULL
             FROM ",
            $from
        )
    };
    (restrictions $from:literal) => {
        concat!(
            " UNION ALL
             SELECT 's', NULL, s.subject_id, s.event_id, NULL, NULL, NULL, NULL, NULL, s.since, NULL, NULL,
                    NULL, NULL, NULL
             FROM ",
            $from
        )
    };
    (purposes $where:literal) => {
        concat!(
            " UNION ALL
             SELECT 'p', NULL, NULL, NULL, NULL, p.purpose, p.dpv, p.quiet, NULL, NULL, NULL, NULL,
                    NULL, NULL, p.channels
             FROM purposes p WHERE ",
            $where,
            " UNION ALL
             SELECT 'a', NULL, NULL, NULL, NULL, p.purpose, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                    NULL, p.accepted
             FROM purposes p WHERE (",
            $where,
            ") AND p.accepted IS NOT NULL"
        )
    };
}

/// All that hangs together with the asked people ($1) and addresses ($2): every address of theirs,
/// everyone who shares one, what each said, what stands against each.
const FACTS: &str = concat!(
    "WITH asked AS MATERIALIZED (
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
    ) ",
    rows!(links "links l"),
    rows!(bars "tokens JOIN gate_rows r USING (token)"),
    rows!(lines "subjects JOIN consent_lines c USING (subject_id)"),
    rows!(fences "subjects JOIN fences f USING (subject_id)"),
    rows!(ages "asked JOIN ages g USING (subject_id)"),
    rows!(restrictions "asked JOIN restrictions s USING (subject_id)"),
    rows!(purposes "p.purpose = ANY($3::text[]) OR p.purpose IN (SELECT purpose FROM questions)"),
    " UNION ALL
     SELECT 'q', NULL, q.request_id, q.subject_id, NULL, q.purpose, q.channel, NULL, NULL, q.asked_at,
            c.contacted_at, NULL, q.renews, NULL, NULL
     FROM questions q LEFT JOIN contacts c USING (subject_id)"
);

/// What is known of the asked people ($1) themselves, and who else has the addresses ($2) of each of
/// them ($4): most share theirs with nobody and have no other, and each look is by a sorted list of keys.
const NEAR: &str = concat!(
    rows!(links "gate_links l WHERE l.subject_id = ANY($1::uuid[])"),
    rows!(others "unnest($2::bytea[], $4::uuid[]) AS given (token, subject_id) JOIN gate_links l USING (token)
                  WHERE l.subject_id <> given.subject_id"),
    rows!(bars "(SELECT * FROM gate_rows WHERE token = ANY($2::bytea[])) r"),
    rows!(lines "consent_lines c WHERE c.subject_id = ANY($1::uuid[])"),
    rows!(fences "fences f WHERE f.subject_id = ANY($1::uuid[])"),
    rows!(ages "ages g WHERE g.subject_id = ANY($1::uuid[])"),
    rows!(restrictions "restrictions s WHERE s.subject_id = ANY($1::uuid[])"),
    rows!(purposes "p.purpose = ANY($3::text[])"),
);

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

/// Connection options under which the plans of views never change: always by the indexes,
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

/// Collects all that hangs together with what a question is about.
///
/// # Errors
/// When the database fails, or a row can't be read.
pub async fn whole(conn: &mut PgConnection, question: &Question) -> Result<GateView, sqlx::Error> {
    let rows = sqlx::query(FACTS)
        .bind(&question.subjects)
        .bind(&question.tokens)
        .bind(&question.purposes)
        .bind(&question.asks)
        .fetch_all(conn)
        .await?;
    view(&rows)
}

/// Collects what is known of the people of these asks themselves, for half of the cost. A verdict may rest on
/// it only where that [suffices].
///
/// # Errors
/// When the database fails, or a row can't be read.
pub async fn near(conn: &mut PgConnection, asks: &[PermitAsk]) -> Result<GateView, sqlx::Error> {
    let mut tokens = Vec::with_capacity(asks.len());
    let mut of = Vec::with_capacity(asks.len());
    let mut purposes: Vec<&str> = Vec::new();
    for ask in asks {
        tokens.extend(ask.addresses.iter().map(|token| token.to_bytes()));
        of.extend(ask.addresses.iter().map(|_| ask.subject_id));
        if !purposes.contains(&&*ask.purpose) {
            purposes.push(&ask.purpose);
        }
    }
    let subjects: Vec<SubjectId> = asks.iter().map(|ask| ask.subject_id).collect();
    let tokens: Vec<&[u8]> = tokens.iter().map(<[u8; 33]>::as_slice).collect();
    let query = sqlx::query(NEAR).bind(&subjects).bind(&tokens).bind(&purposes).bind(&of);
    view(&query.fetch_all(conn).await?)
}

/// Whether nothing else hangs together with an ask than what [`near`] collects: she has no address that isn't
/// asked about, nobody else has one that is, and it is about consent itself.
#[must_use]
pub fn suffices(view: &GateView, ask: &PermitAsk) -> bool {
    let own = view.tokens_of.get(&ask.subject_id).map_or(&[][..], Vec::as_slice);
    let hers_alone = |token| {
        let subjects = view.subjects_of.get(token).map_or(&[][..], Vec::as_slice);
        subjects.iter().all(|subject| *subject == ask.subject_id)
    };
    ![CONSENT_REQUEST, STOP_CONFIRMATION].contains(&&*ask.purpose)
        && own.iter().all(|token| ask.addresses.contains(token))
        && ask.addresses.iter().all(hers_alone)
}

fn view(rows: &[PgRow]) -> Result<GateView, sqlx::Error> {
    let mut view = GateView::default();
    for row in rows {
        add(&mut view, row)?;
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
            let confirmed_by = row
                .try_get::<Option<&str>, _>(5)?
                .map(|id| Uuid::parse_str(id).map_err(|error| sqlx::Error::Decode(error.into())));
            let stop = match stop {
                None => None,
                Some(stop_id) => Some(StopState {
                    stop_id,
                    settled: row.try_get::<Option<bool>, _>(12)?.unwrap_or(false),
                    confirmed_by: confirmed_by.transpose()?,
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
        b's' => {
            view.restrictions.insert(row.try_get(2)?, (row.try_get(3)?, timestamp(row, 9)?));
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

/// Connection options for the pool of permits.
///
/// # Errors
/// When `url` is no Postgres address.
pub fn options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(pinned_plans(assent_eventstore::connect_options(url)?))
}
