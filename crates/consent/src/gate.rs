//! The gate's rows in Postgres: the writes that close or open an address. It guarantees that writers take
//! row locks in token order; reading them is left to `views`.

use assent_contracts::SubjectId;
use assent_contracts::address::AddressToken;
use assent_contracts::api::consent::StopKind;
use jiff::Timestamp;
use jiff_sqlx::{Timestamp as SqlTimestamp, ToSqlx as _};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::standing;

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
/// its confirmation was due, and is due once. What is said again keeps it closed for longer ([`crate::suppression`]),
/// but for an erasure's later steps: its date is certified.
///
/// # Errors
/// When the database fails.
pub async fn close(conn: &mut PgConnection, closings: &[Closing]) -> Result<(), sqlx::Error> {
    const CLOSE: &str = "
        INSERT INTO gate_rows AS g (token, stopped_by, suppressed_by, erased_by, changed_at,
                                    heard_at)
        SELECT DISTINCT ON (token) token,
               CASE WHEN $3 = 'stopped' THEN by END,
               CASE WHEN $3 = 'suppressed' THEN by END,
               CASE WHEN $3 = 'erased' THEN by END, since, since
        FROM unnest($1::bytea[], $2::uuid[], $4::timestamptz[])
            WITH ORDINALITY AS t (token, by, since, n)
        ORDER BY token, n
        ON CONFLICT (token) DO UPDATE SET
            stopped_by = coalesce(g.stopped_by, excluded.stopped_by),
            suppressed_by = coalesce(g.suppressed_by, excluded.suppressed_by),
            erased_by = coalesce(g.erased_by, excluded.erased_by),
            changed_at = CASE
                WHEN (g.stopped_by IS NULL AND excluded.stopped_by IS NOT NULL)
                  OR (g.suppressed_by IS NULL AND excluded.suppressed_by IS NOT NULL)
                  OR (g.erased_by IS NULL AND excluded.erased_by IS NOT NULL)
                THEN greatest(g.changed_at, excluded.changed_at) ELSE g.changed_at END,
            heard_at = greatest(g.heard_at, g.changed_at, excluded.heard_at)
        WHERE g.erased_by IS NULL OR excluded.erased_by IS NULL";
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

/// What is said again under the id of before keeps closed for longer what is closed ([`crate::suppression`]): a list of
/// opt-outs has no other id. It closes nothing, and an erasure counts once.
///
/// # Errors
/// When the database fails.
pub async fn hear_again(conn: &mut PgConnection, closings: &[Closing]) -> Result<(), sqlx::Error> {
    const HEARD: &str = "
        WITH said AS (
            SELECT token, max(since) AS since
            FROM unnest($1::bytea[], $2::timestamptz[]) AS t (token, since) GROUP BY token
        ), held AS (
            SELECT g.token, said.since FROM gate_rows g JOIN said USING (token)
            WHERE num_nonnulls(g.stopped_by, g.suppressed_by, g.erased_by) > 0
              AND greatest(g.heard_at, g.changed_at) < said.since
            ORDER BY g.token FOR UPDATE OF g
        )
        UPDATE gate_rows SET heard_at = held.since FROM held WHERE gate_rows.token = held.token";
    let again = || closings.iter().filter(|closing| closing.kind != StopKind::Erased);
    let tokens: Vec<Vec<u8>> = again().map(|c| c.token.to_bytes().to_vec()).collect();
    let since: Vec<SqlTimestamp> = again().map(|c| c.since.to_sqlx()).collect();
    if tokens.is_empty() {
        return Ok(());
    }
    sqlx::query(HEARD).bind(&tokens).bind(&since).execute(conn).await.map(|_| ())
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
