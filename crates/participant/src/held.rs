//! Rows about people: deleted by one step, looked for by another, from one list. It guarantees
//! that a sweep looks everywhere a deletion had to go, and that many people cost no more statements than
//! one; what is on the list is the service's.

use std::borrow::Cow;
use std::collections::HashMap;

use assent_contracts::SubjectId;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::task::{Task, open, subjects};

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
    /// `rows` is what follows `FROM`: a table, ` WHERE `, and a condition with `$1` for her id; `name` an
    /// expression that names a row by an id or a keyed hash, as text. Neither ever comes from outside the
    /// program.
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

    /// Of many people, whose ids are the one parameter: their ids and the names.
    fn deletion(&self) -> String {
        let rows = self.rows.replace("$1", "erased.who");
        let (table, which) = rows.split_once(" WHERE ").unwrap_or((rows.as_str(), "true"));
        let name = self.name;
        format!(
            "DELETE FROM {table} USING unnest($1::uuid[]) AS erased (who) \
             WHERE ({which}) RETURNING erased.who, {name}"
        )
    }

    /// Likewise what is found.
    fn search(&self) -> String {
        let (rows, name) = (self.rows.replace("$1", "erased.who"), self.name);
        format!(
            "SELECT erased.who, found.name FROM unnest($1::uuid[]) AS erased (who), \
             LATERAL (SELECT {name} AS name FROM {rows}) AS found"
        )
    }
}

/// Deletes these of all who are open, one statement a kind, and what is parked of them. What names several of them
/// counts for one.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    conn: &mut PgConnection,
    held: &[Held],
    tasks: &mut [Task],
) -> Result<(), sqlx::Error> {
    for it in held {
        add(conn, it.kind, it.deletion(), tasks).await?;
    }
    let keys = unpark(conn, tasks).await?;
    for task in open(tasks) {
        let subject = task.command.subject_id;
        let count = keys.iter().filter(|key| **key == subject).count();
        task.touched.count("parked", count as u64);
    }
    Ok(())
}

/// Finds these of all who are open, one statement a kind, and what is parked of them. A consumer that was in the middle
/// of a batch while they were deleted may have parked a message behind those that were taken out: no deletion comes
/// after it, so this takes it out. It is a place in a topic, and holds nothing of a person.
///
/// # Errors
/// When the database fails.
pub async fn find(
    conn: &mut PgConnection,
    held: &[Held],
    tasks: &mut [Task],
) -> Result<(), sqlx::Error> {
    unpark(conn, tasks).await?;
    for it in held.iter().chain(&[PARKED]) {
        add(conn, it.kind, it.search(), tasks).await?;
    }
    Ok(())
}

/// Takes out what is parked of all who are open, and gives the keys, each as often as a message was.
async fn unpark(conn: &mut PgConnection, tasks: &[Task]) -> Result<Vec<SubjectId>, sqlx::Error> {
    const UNPARK: &str = "DELETE FROM eventstore.parked WHERE key = ANY($1) RETURNING key";
    sqlx::query_scalar(UNPARK).bind(subjects(tasks)).fetch_all(conn).await
}

/// Runs a statement that gives people and names, and notes the names with each.
async fn add(
    conn: &mut PgConnection,
    kind: &'static str,
    statement: String,
    tasks: &mut [Task],
) -> Result<(), sqlx::Error> {
    let rows: Vec<(SubjectId, String)> =
        sqlx::query_as(AssertSqlSafe(statement)).bind(subjects(tasks)).fetch_all(conn).await?;
    let mut names: HashMap<SubjectId, Vec<String>> = HashMap::new();
    for (subject, name) in rows {
        names.entry(subject).or_default().push(name);
    }
    for task in open(tasks) {
        // A kind without any is evidence too.
        task.touched.add(kind, names.remove(&task.command.subject_id).unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_speaks_of_all_who_are_erased() {
        let links = Held::new("links", "links WHERE one = $1 OR other = $1", "one::text");
        assert_eq!(
            links.deletion(),
            "DELETE FROM links USING unnest($1::uuid[]) AS erased (who) \
             WHERE (one = erased.who OR other = erased.who) RETURNING erased.who, one::text"
        );
        assert_eq!(
            links.search(),
            "SELECT erased.who, found.name FROM unnest($1::uuid[]) AS erased (who), \
             LATERAL (SELECT one::text AS name FROM links WHERE one = erased.who OR other = erased.who) \
             AS found"
        );
    }
}
