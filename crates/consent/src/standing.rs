//! What holds for people beside their own words, brought into their streams, so that a verdict
//! of any moment is a function of the stream alone: a stop or a suppression of an address, from when
//! the address is theirs, the no of someone who shares it, and, once they have said something, the
//! countries of their numbers. It guarantees that nothing is left
//! out for good, in whatever order the transactions commit that change it; the gate itself never
//! waits for this and decides on its own rows.
//!
//! Whoever changes such a thing leaves a mark in the same transaction. A mark is taken up after its
//! commit and after every link that was then being written: a link that is written later sees what
//! the mark is about, and leaves its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use assent_contracts::SubjectId;
use assent_contracts::api::consent::StopKind;
use assent_contracts::consent::{Bar, OthersWord, STANDING_CHANGED, State};
use assent_eventstore::{EventStore, StoreError, to_the_end};
use assent_runtime::{Clock, Ids, failpoint};
use jiff::Timestamp;
use sqlx::{PgConnection, Row as _};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{Origin, Pending, ledger};
use crate::domain::decide::Command;
use crate::domain::event::Standing;
use crate::domain::verdict::GateView;
use crate::links::LINKING_LOCK;
use crate::views::{self, Question};

const PAUSE: Duration = Duration::from_millis(200);
const MARKS_MAX: i64 = 200;

/// Leaves marks for these addresses.
///
/// # Errors
/// When the database fails.
pub async fn mark_tokens(conn: &mut PgConnection, tokens: &[Vec<u8>]) -> Result<(), sqlx::Error> {
    const MARK: &str = "INSERT INTO standing_due (token) SELECT DISTINCT unnest($1::bytea[])";
    if tokens.is_empty() {
        return Ok(());
    }
    sqlx::query(MARK).bind(tokens).execute(conn).await?;
    Ok(())
}

/// Leaves marks for those of these addresses around whom there is something to know: it is barred,
/// shared, or belongs to someone who said something.
///
/// # Errors
/// When the database fails.
pub async fn mark_linked(conn: &mut PgConnection, tokens: &[Vec<u8>]) -> Result<(), sqlx::Error> {
    const MARK: &str = "
        INSERT INTO standing_due (token)
        SELECT DISTINCT l.token
        FROM unnest($1::bytea[]) AS t (token) JOIN gate_links l USING (token)
        WHERE EXISTS (SELECT 1 FROM gate_rows r WHERE r.token = l.token)
           OR EXISTS (SELECT 1 FROM gate_links o
                      WHERE o.token = l.token AND o.subject_id <> l.subject_id)
           OR EXISTS (SELECT 1 FROM consent_lines c WHERE c.subject_id = l.subject_id)";
    sqlx::query(MARK).bind(tokens).execute(conn).await?;
    Ok(())
}

/// Leaves marks for those of these people whose words may concern others: who said no, or who
/// shares an address.
///
/// # Errors
/// When the database fails.
pub async fn mark_speakers(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<(), sqlx::Error> {
    const MARK: &str = "
        INSERT INTO standing_due (subject_id)
        SELECT DISTINCT t.subject_id FROM unnest($1::uuid[]) AS t (subject_id)
        WHERE EXISTS (SELECT 1 FROM consent_lines c WHERE c.subject_id = t.subject_id
                      AND c.state IN ('refused', 'withdrawn'))
           OR EXISTS (SELECT 1 FROM gate_links l JOIN gate_links o USING (token)
                      WHERE l.subject_id = t.subject_id AND o.subject_id <> t.subject_id)";
    if subjects.is_empty() {
        return Ok(());
    }
    sqlx::query(MARK).bind(subjects).execute(conn).await?;
    Ok(())
}

/// Leaves marks for those of these people, who have said something, whose streams don't tell the countries
/// of their numbers as the links do. Every link that is being written is waited for: one that begins later
/// sees what they said, and leaves a mark of its own.
///
/// # Errors
/// When the database fails.
pub async fn mark_located(
    store: &EventStore,
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<(), sqlx::Error> {
    const MARK: &str = "
        INSERT INTO standing_due (subject_id)
        SELECT t.subject_id
        FROM unnest($1::uuid[]) AS t (subject_id),
             LATERAL (SELECT jsonb_agg(DISTINCT l.region ORDER BY l.region) AS regions
                      FROM gate_links l
                      WHERE l.subject_id = t.subject_id AND l.region IS NOT NULL) links
        WHERE links.regions IS NOT NULL
          AND links.regions IS DISTINCT FROM
              (SELECT e.data::jsonb -> 'regions' FROM eventstore.events e
               WHERE e.stream = t.subject_id AND e.event_type = $2
               ORDER BY e.version DESC LIMIT 1)";
    if subjects.is_empty() {
        return Ok(());
    }
    links_written(store).await?;
    sqlx::query(MARK).bind(subjects).bind(STANDING_CHANGED).execute(conn).await?;
    Ok(())
}

/// Leaves marks for the addresses of these people.
///
/// # Errors
/// When the database fails.
pub async fn mark_addresses_of(
    conn: &mut PgConnection,
    subjects: &[SubjectId],
) -> Result<(), sqlx::Error> {
    const MARK: &str = "
        INSERT INTO standing_due (token)
        SELECT DISTINCT token FROM gate_links WHERE subject_id = ANY($1)";
    sqlx::query(MARK).bind(subjects).execute(conn).await?;
    Ok(())
}

async fn mark_again(conn: &mut PgConnection, subjects: &[SubjectId]) -> Result<(), sqlx::Error> {
    const MARK: &str = "INSERT INTO standing_due (subject_id) SELECT unnest($1::uuid[])";
    sqlx::query(MARK).bind(subjects).execute(conn).await?;
    Ok(())
}

/// Takes up marks until `stopping`. Any number of replicas may.
///
/// # Errors
/// Never: failures are logged and tried again.
pub async fn run(
    store: EventStore,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    stopping: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    while stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
        let (store, clock, ids) = (store.clone(), Arc::clone(&clock), Arc::clone(&ids));
        let done = to_the_end(async move {
            while round(&store, &*clock, &*ids).await? == MARKS_MAX as usize {}
            Ok::<_, StoreError>(())
        });
        if let Err(problem) = done.await {
            tracing::warn!(%problem, "what stands against people waits to be recorded");
        }
    }
    Ok(())
}

/// Takes up some marks; gives how many.
///
/// # Errors
/// When the store fails; the marks stay.
pub async fn round(
    store: &EventStore,
    clock: &dyn Clock,
    ids: &dyn Ids,
) -> Result<usize, StoreError> {
    const MARKS: &str = "SELECT id FROM standing_due ORDER BY id LIMIT $1";
    const CONCERNED: &str = "
        WITH tokens AS (
            SELECT token FROM standing_due WHERE id = ANY($1) AND token IS NOT NULL
            UNION
            SELECT l.token FROM standing_due d JOIN gate_links l USING (subject_id)
            WHERE d.id = ANY($1)
        )
        SELECT DISTINCT l.subject_id FROM tokens JOIN gate_links l USING (token)
        WHERE NOT EXISTS (SELECT 1 FROM fences f WHERE f.subject_id = l.subject_id)";
    let marks: Vec<i64> = sqlx::query_scalar(MARKS).bind(MARKS_MAX).fetch_all(store.pool()).await?;
    if marks.is_empty() {
        return Ok(0);
    }
    links_written(store).await?;
    failpoint::hit_async("consent.standing_before_lock").await;
    let mut session = store.begin().await?;
    let concerned: Vec<SubjectId> =
        sqlx::query_scalar(CONCERNED).bind(&marks).fetch_all(session.conn()).await?;
    let streams = session.lock(&concerned).await?;
    let question = Question { subjects: concerned, ..Question::default() };
    let view = views::whole(session.conn(), &question).await?;
    let linked_at = linked_at(session.conn(), &view).await?;
    let now = clock.now();
    let mut pending = Pending::default();
    let mut unread = Vec::new();
    for (subject, stream) in &streams {
        let (standing, since, located) = standing(&view, &linked_at, *subject);
        let Ok(mut ledger) = ledger(stream) else {
            // Written by a newer version than this replica: hers waits, the others' go on.
            unread.push(*subject);
            continue;
        };
        // The countries first: they have a date of their own.
        let regions = standing.regions.clone();
        let countries = Standing { regions, ..ledger.standing() };
        for (standing, since) in [(countries, located), (standing, since)] {
            // Who was erased in between can't stand worse.
            let Ok(events) = ledger.decide(Command::Stand { standing, since }, now) else { break };
            let origin = Origin { now, idempotency: None, traceparent: None };
            pending.push(ids, *subject, &mut ledger, &events, origin);
        }
    }
    sqlx::query("DELETE FROM standing_due WHERE id = ANY($1)")
        .bind(&marks)
        .execute(session.conn())
        .await?;
    if !unread.is_empty() {
        tracing::error!(people = unread.len(), "streams that this version can't read wait");
        mark_again(session.conn(), &unread).await?;
    }
    pending.write(&mut session, now).await?;
    failpoint::hit_async("consent.standing_before_commit").await;
    session.commit().await?;
    Ok(if unread.is_empty() { marks.len() } else { 0 })
}

/// Returns when every link that is being written now is committed or gone.
async fn links_written(store: &EventStore) -> Result<(), sqlx::Error> {
    let mut transaction = store.pool().begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LINKING_LOCK)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// When each link was made, and when the country of its number came to be known.
type LinkedAt = HashMap<(SubjectId, [u8; 33]), (Timestamp, Option<Timestamp>)>;

async fn linked_at(conn: &mut PgConnection, view: &GateView) -> Result<LinkedAt, sqlx::Error> {
    const LINKED: &str =
        "SELECT subject_id, token, linked_at, region_at FROM gate_links WHERE token = ANY($1)";
    let tokens: Vec<Vec<u8>> =
        view.subjects_of.keys().map(|token| token.to_bytes().to_vec()).collect();
    let mut linked = LinkedAt::new();
    for row in sqlx::query(LINKED).bind(&tokens).fetch_all(conn).await? {
        let token: &[u8] = row.try_get(1)?;
        let token = token.try_into().map_err(|_| sqlx::Error::Decode("a token".into()))?;
        let at = row.try_get::<jiff_sqlx::Timestamp, _>(2)?.to_jiff();
        let located = row.try_get::<Option<jiff_sqlx::Timestamp>, _>(3)?;
        linked.insert((row.try_get(0)?, token), (at, located.map(jiff_sqlx::Timestamp::to_jiff)));
    }
    Ok(linked)
}

/// What stands against one person, and since when that may be so; since when her countries are known.
fn standing(
    view: &GateView,
    linked_at: &LinkedAt,
    subject: SubjectId,
) -> (Standing, Timestamp, Timestamp) {
    let mut standing = Standing { regions: view.regions_of(subject), ..Standing::default() };
    let (mut since, mut located) = (Timestamp::MIN, Timestamp::MIN);
    let mut others = BTreeSet::new();
    for token in view.tokens_of.get(&subject).into_iter().flatten() {
        let linked = |whose| linked_at.get(&(whose, token.to_bytes())).copied();
        let (hers, known) = linked(subject).unwrap_or((Timestamp::MIN, None));
        located = located.max(known.unwrap_or(Timestamp::MIN));
        if let Some(row) = view.rows.get(token) {
            since = since.max(row.changed_at.max(hers));
            let bar = |kind, cause: Option<Uuid>| cause.map(|cause| Bar { kind, cause });
            standing.bars.extend(bar(StopKind::Stopped, row.stop.map(|stop| stop.stop_id)));
            standing.bars.extend(bar(StopKind::Suppressed, row.suppressed_by));
            standing.bars.extend(bar(StopKind::Erased, row.erased_by));
        }
        for other in view.subjects_of.get(token).into_iter().flatten() {
            if *other == subject || view.fences.contains(other) {
                continue;
            }
            let Some(lines) = view.lines.get(other) else { continue };
            let newest = lines.iter().map(|(_, line)| line.since).max();
            let theirs = newest.max(linked(*other).map(|(at, _)| at)).unwrap_or(Timestamp::MIN);
            since = since.max(theirs.max(hers));
            let no = |state| matches!(state, State::Refused | State::Withdrawn);
            if lines.iter().any(|(_, line)| no(line.state)) {
                others.insert(*other);
            }
        }
    }
    standing.bars.sort_unstable();
    standing.bars.dedup();
    standing.others =
        others.iter().filter_map(|other| Some(words(view.lines.get(other)?))).collect();
    standing.others.sort_unstable();
    (standing, since, located)
}

fn words(lines: &[(crate::domain::scope::Scope, crate::domain::ledger::Line)]) -> Vec<OthersWord> {
    let mut words: Vec<OthersWord> = lines
        .iter()
        .map(|(scope, line)| OthersWord {
            purpose: scope.purpose.clone(),
            channel: scope.channel.clone(),
            state: line.state,
            event_id: line.event_id,
            since: line.since,
        })
        .collect();
    words.sort_unstable();
    words
}
