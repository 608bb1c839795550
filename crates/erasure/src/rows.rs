//! The rows that show where requests, erasures and holds stand, written in the transaction of their
//! events. It guarantees that each is what the state says; who may read them is left to the API.

use assent_contracts::SubjectId;
use assent_contracts::consent::Actor;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::hold::Hold;
use crate::domain::request::SubjectRequest;
use crate::domain::{Person, Request};
use crate::tracking::{self, Tracking};

/// A request.
///
/// # Errors
/// When the database fails.
pub async fn write_request(
    conn: &mut PgConnection,
    subject: SubjectId,
    request: &SubjectRequest,
    tracking: &Tracking,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO subject_requests
            (request_id, subject_id, kind, status, reference, secret_sha256, received_at, due,
             acknowledge_by, closed_at, purpose)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        ON CONFLICT (request_id) DO UPDATE
        SET status = excluded.status, due = excluded.due,
            acknowledge_by = excluded.acknowledge_by, closed_at = excluded.closed_at";
    sqlx::query(WRITE)
        .bind(request.id)
        .bind(subject)
        .bind(request.kind.name())
        .bind(request.state().name())
        .bind(tracking::reference(request.id))
        .bind(tracking::hash(&tracking.secret(request.id)))
        .bind(request.received_at.to_sqlx())
        .bind(request.due.to_sqlx())
        .bind(request.acknowledge_by().map(|at| at.to_sqlx()))
        .bind(request.closed.map(|end| end.at.to_sqlx()))
        .bind(&request.purpose)
        .execute(conn)
        .await?;
    Ok(())
}

/// What was kept of the secrets of these requests, of those that have one.
///
/// # Errors
/// When the database fails.
pub async fn secrets_of(
    conn: &mut PgConnection,
    requests: &[Uuid],
) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    const SECRETS: &str = "
        SELECT secret_sha256 FROM subject_requests
        WHERE request_id = ANY($1) AND secret_sha256 IS NOT NULL";
    sqlx::query_scalar(SECRETS).bind(requests).fetch_all(conn).await
}

/// The archive that answers a request: one that is to be made is looked at by whoever makes them, one that was
/// collected or removed leaves nothing.
///
/// # Errors
/// When the database fails.
pub async fn write_archive(
    conn: &mut PgConnection,
    subject: SubjectId,
    request: &SubjectRequest,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const DUE: &str = "
        INSERT INTO archives (request_id, subject_id, look_at) VALUES ($1, $2, $3)
        ON CONFLICT (request_id) DO UPDATE
        SET look_at = least(archives.look_at, excluded.look_at), tries = 0";
    if request.awaits_archive() {
        let due = sqlx::query(DUE).bind(request.id).bind(subject).bind(now.to_sqlx());
        due.execute(conn).await?;
        return Ok(());
    }
    settle_archive(conn, request, false).await
}

/// Deletes the archive of a request for which none waits, or is to be made; of the erased all of them.
///
/// # Errors
/// When the database fails.
pub async fn settle_archive(
    conn: &mut PgConnection,
    request: &SubjectRequest,
    erased: bool,
) -> Result<(), sqlx::Error> {
    if !erased && (request.awaits_archive() || request.waiting_archive().is_some()) {
        return Ok(());
    }
    const GONE: &str = "
        WITH told AS (DELETE FROM disclosures WHERE request_id = $1)
        DELETE FROM archives WHERE request_id = $1";
    sqlx::query(GONE).bind(request.id).execute(conn).await?;
    Ok(())
}

/// An erasure that begins: the driver looks at once, or when no hold stands any more.
///
/// # Errors
/// When the database fails.
pub async fn write_erasure(
    conn: &mut PgConnection,
    subject: SubjectId,
    person: &Person,
    erasure: &Request,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO requests
            (request_id, subject_id, status, actor, reason, requested_at, due, look_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let asked = person.requests.get(erasure.id);
    let actor = match asked.map(|asked| asked.actor) {
        Some(Actor::Subject) => "subject",
        Some(Actor::Guardian) => "guardian",
        Some(Actor::Operator) | None => "operator",
        Some(Actor::System) => "system",
    };
    let received_at = asked.map_or(erasure.requested_at, |asked| asked.received_at);
    let look_at = if person.holds.stand(now) { person.holds.end(now) } else { Some(now) };
    sqlx::query(WRITE)
        .bind(erasure.id)
        .bind(subject)
        .bind(person.saga_status(erasure, now).name())
        .bind(actor)
        .bind(asked.and_then(|asked| asked.reason.as_deref()))
        .bind(received_at.to_sqlx())
        .bind(erasure.due.to_sqlx())
        .bind(look_at.map(|at| at.to_sqlx()))
        .execute(conn)
        .await?;
    Ok(())
}

/// The erasure of a person that is written down.
///
/// # Errors
/// When the database fails.
pub async fn erasure_of(
    conn: &mut PgConnection,
    subject: SubjectId,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT request_id FROM requests WHERE subject_id = $1")
        .bind(subject)
        .fetch_optional(conn)
        .await
}

/// An erasure that was refused before its first command: nobody is to forget her for it.
///
/// # Errors
/// When the database fails.
pub async fn delete_erasure(conn: &mut PgConnection, request_id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM requests WHERE request_id = $1")
        .bind(request_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// An erasure of one purpose's data, as it stands.
///
/// # Errors
/// When the database fails.
pub async fn write_purpose_erasure(
    conn: &mut PgConnection,
    subject: SubjectId,
    person: &Person,
    request_id: Uuid,
    look: Look,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO purpose_erasures
            (request_id, subject_id, purpose, status, completed_at, look_at)
        VALUES ($1, $2, $3, $4, $5, $7)
        ON CONFLICT (request_id) DO UPDATE
        SET status = excluded.status, completed_at = excluded.completed_at,
            look_at = CASE WHEN $6 THEN excluded.look_at ELSE purpose_erasures.look_at END";
    let erasure = person.purposes.get(request_id);
    let (Some(erasure), Some(request)) = (erasure, person.requests.get(request_id)) else {
        return Ok(());
    };
    let completed_at = erasure.request().and_then(|request| request.completed_at);
    let (sets, look_at) = match look {
        Look::AsBefore => (false, None),
        Look::At(at) => (true, at),
    };
    sqlx::query(WRITE)
        .bind(request_id)
        .bind(subject)
        .bind(&erasure.purpose)
        .bind(person.status(request, now).name())
        .bind(completed_at.map(|at| at.to_sqlx()))
        .bind(sets)
        .bind(look_at.map(|at| at.to_sqlx()))
        .execute(conn)
        .await?;
    Ok(())
}

/// One that was refused before its first command.
///
/// # Errors
/// When the database fails.
pub async fn delete_purpose_erasure(
    conn: &mut PgConnection,
    request_id: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM purpose_erasures WHERE request_id = $1")
        .bind(request_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// When the driver looks at an erasure again.
#[derive(Debug, Clone, Copy)]
pub enum Look {
    /// As it was.
    AsBefore,
    /// Then; none: not by itself. While a hold stands no moment before its end is set, since a
    /// replica of the version before knows no holds and would begin to destroy.
    At(Option<Timestamp>),
}

/// An erasure that goes on.
///
/// # Errors
/// When the database fails.
pub async fn update_erasure(
    conn: &mut PgConnection,
    person: &Person,
    erasure: &Request,
    look: Look,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    const UPDATE: &str = "
        UPDATE requests
        SET status = $2, completed_at = $3, look_at = CASE WHEN $4 THEN $5 ELSE look_at END
        WHERE request_id = $1";
    let (sets, look_at) = match look {
        Look::AsBefore => (false, None),
        Look::At(at) => (true, at),
    };
    sqlx::query(UPDATE)
        .bind(erasure.id)
        .bind(person.saga_status(erasure, now).name())
        .bind(erasure.completed_at.map(|at| at.to_sqlx()))
        .bind(sets)
        .bind(look_at.map(|at| at.to_sqlx()))
        .execute(conn)
        .await?;
    Ok(())
}

/// What a caller is called.
///
/// # Errors
/// When the database fails.
pub async fn write_caller(
    conn: &mut PgConnection,
    key: &str,
    name: &str,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO callers (key, name) VALUES ($1, $2)
        ON CONFLICT (key) DO UPDATE SET name = excluded.name WHERE callers.name <> excluded.name";
    sqlx::query(WRITE).bind(key).bind(name).execute(conn).await?;
    Ok(())
}

/// A hold.
///
/// # Errors
/// When the database fails.
pub async fn write_hold(
    conn: &mut PgConnection,
    subject: SubjectId,
    hold: &Hold,
) -> Result<(), sqlx::Error> {
    const WRITE: &str = "
        INSERT INTO holds
            (hold_id, subject_id, purpose, reason, key, placed_at, review_on, ends_at, released_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (hold_id) DO UPDATE
        SET review_on = excluded.review_on, released_at = excluded.released_at";
    let placed = &hold.placed;
    sqlx::query(WRITE)
        .bind(placed.hold_id)
        .bind(subject)
        .bind(&placed.purpose)
        .bind(&placed.reason)
        .bind(&placed.key)
        .bind(placed.at.to_sqlx())
        .bind(hold.review_on.to_sqlx())
        .bind(placed.ends_at.map(|at| at.to_sqlx()))
        .bind(hold.released_at.map(|at| at.to_sqlx()))
        .execute(conn)
        .await?;
    Ok(())
}
