//! Rows about a person: deleted by one step, looked for by another, from one list. It guarantees
//! that a sweep looks everywhere a deletion had to go; what is on the list is the service's.

use std::borrow::Cow;

use assent_contracts::SubjectId;
use assent_eventstore::parked;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::Touched;

/// A kind of rows that a service holds about a person.
#[derive(Debug, Clone)]
pub struct Held {
    kind: &'static str,
    rows: Cow<'static, str>,
    name: &'static str,
}

/// Her events, without the last one: it says her stream's version, so it stays, and is the
/// tombstone that tells of the erasure.
pub const EVENTS: Held = Held::new(
    "events",
    "eventstore.events WHERE stream = $1 AND version <
        (SELECT version FROM eventstore.streams WHERE id = $1)",
    "id::text",
);

/// The first answers to commands about her.
pub const IDEMPOTENCY_KEYS: Held = Held::new(
    "idempotency_keys",
    "eventstore.idempotency_keys WHERE stream = $1",
    "encode(key_hash, 'hex')",
);

const PARKED: Held = Held::new(
    "parked",
    "eventstore.parked WHERE key = $1",
    "concat_ws(' ', consumer, topic, partition, message_offset)",
);

impl Held {
    /// `rows` is what follows `FROM`, with `$1` for her id; `name` an expression that names a row by
    /// an id or a keyed hash, as text. Neither ever comes from outside the program.
    #[must_use]
    pub const fn new(kind: &'static str, rows: &'static str, name: &'static str) -> Self {
        Self { kind, rows: Cow::Borrowed(rows), name }
    }

    /// All rows of a table, which has a column `subject_id` and no names for its rows.
    #[must_use]
    pub fn table(kind: &'static str, table: &str) -> Self {
        let rows = Cow::Owned(format!("{table} WHERE subject_id = $1"));
        Self { kind, rows, name: "concat_ws(' ', tableoid::regclass, ctid)" }
    }
}

/// Deletes these, and what is parked of her.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    conn: &mut PgConnection,
    held: &[Held],
    subject: SubjectId,
    touched: &mut Touched,
) -> Result<(), sqlx::Error> {
    for Held { kind, rows, name } in held {
        let statement = format!("DELETE FROM {rows} RETURNING {name}");
        touched.add(kind, names(conn, statement, subject).await?);
    }
    touched.count("parked", parked::clear_keys(conn, &[subject]).await?);
    Ok(())
}

/// Finds these, and what is parked of her.
///
/// # Errors
/// When the database fails.
pub async fn find(
    conn: &mut PgConnection,
    held: &[Held],
    subject: SubjectId,
    touched: &mut Touched,
) -> Result<(), sqlx::Error> {
    for Held { kind, rows, name } in held.iter().chain(&[PARKED]) {
        let statement = format!("SELECT {name} FROM {rows}");
        touched.add(kind, names(conn, statement, subject).await?);
    }
    Ok(())
}

async fn names(
    conn: &mut PgConnection,
    statement: String,
    subject: SubjectId,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(statement)).bind(subject).fetch_all(conn).await
}
