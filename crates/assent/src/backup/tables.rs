//! The tables of a database, out of it and into it. It guarantees one snapshot of all of them, and that they go
//! in whole or not at all; the schema is the migrations'.

use std::collections::BTreeMap;

use assent_eventstore::connect_options;
use futures_util::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::archive::{ArchiveError, Reader, Writer};

/// Rows are sealed in pieces of about so many bytes.
const PIECE: usize = 256 << 10;

/// What a record begins with.
const TABLE: u8 = b'T';
const ROWS: u8 = b'R';
const SEQUENCES: u8 = b'S';

/// Tables hold what migrations keep; those of a rebuild that is under way are made anew.
const TABLES: &str = "
SELECT c.oid::bigint AS oid, format('%I.%I', n.nspname, c.relname) AS name,
       string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     AND a.attgenerated = ''
WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%'
  AND n.nspname NOT IN ('information_schema', 'next')
  AND c.relname NOT IN ('migrations', '_sqlx_migrations')
GROUP BY c.oid, n.nspname, c.relname ORDER BY name";

const REFERENCES: &str =
    "SELECT DISTINCT conrelid::bigint, confrelid::bigint FROM pg_constraint WHERE contype = 'f'";

const SEQUENCE_VALUES: &str = "
SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences
WHERE last_value IS NOT NULL";

/// A table and what is copied of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Schema and name, quoted.
    pub name: String,
    /// Columns, quoted, with commas between.
    pub columns: String,
}

/// Why it can't be done.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The database.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The records are none of ours.
    #[error("the file holds something else than a database")]
    Malformed,
}

/// A connection for long transactions, under a name of its own.
///
/// # Errors
/// When the database doesn't answer.
pub async fn connect(url: &str) -> Result<PgConnection, sqlx::Error> {
    let options = connect_options(url)?
        .application_name("assent backup")
        .options([("idle_in_transaction_session_timeout", "0"), ("statement_timeout", "0")]);
    PgConnection::connect_with(&options).await
}

/// The tables, those that others refer to first.
async fn tables(conn: &mut PgConnection) -> Result<Vec<Table>, sqlx::Error> {
    let found: Vec<(i64, String, String)> = sqlx::query_as(TABLES).fetch_all(&mut *conn).await?;
    let references: Vec<(i64, i64)> = sqlx::query_as(REFERENCES).fetch_all(conn).await?;
    let mut waiting: BTreeMap<i64, Table> = BTreeMap::new();
    let mut order = Vec::new();
    for (oid, name, columns) in found {
        order.push(oid);
        waiting.insert(oid, Table { name, columns });
    }
    let mut sorted = Vec::new();
    while !waiting.is_empty() {
        let free = |oid: &i64| {
            waiting.contains_key(oid)
                && !references
                    .iter()
                    .any(|(from, to)| from == oid && to != oid && waiting.contains_key(to))
        };
        let next = order.iter().copied().find(free);
        // A circle can't be loaded in any order; the load will say so.
        let next = next.or_else(|| waiting.keys().next().copied());
        sorted.extend(next.and_then(|oid| waiting.remove(&oid)));
    }
    Ok(sorted)
}

/// Copies every table, as of one moment. Gives how many bytes of rows that was; `progress` hears of each piece.
///
/// # Errors
/// [`CopyError`].
pub async fn copy_out(
    conn: &mut PgConnection,
    writer: &mut Writer<'_>,
    mut progress: impl FnMut(u64),
) -> Result<u64, CopyError> {
    conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let mut bytes = 0;
    for table in tables(conn).await? {
        writer.record(&tagged(TABLE, &serde_json::to_vec(&table).unwrap_or_default()))?;
        let statement = format!("COPY {} ({}) TO STDOUT", table.name, table.columns);
        let mut rows = conn.copy_out_raw(&statement).await?;
        let mut piece = vec![ROWS];
        while let Some(row) = rows.try_next().await? {
            piece.extend_from_slice(&row);
            if piece.len() >= PIECE {
                bytes += piece.len() as u64;
                progress(bytes);
                writer.record(&std::mem::replace(&mut piece, vec![ROWS]))?;
            }
        }
        drop(rows);
        if piece.len() > 1 {
            bytes += piece.len() as u64;
            writer.record(&piece)?;
        }
    }
    // They run ahead of the snapshot and never behind it.
    let sequences: Vec<(String, i64)> =
        sqlx::query_as(SEQUENCE_VALUES).fetch_all(&mut *conn).await?;
    writer.record(&tagged(SEQUENCES, &serde_json::to_vec(&sequences).unwrap_or_default()))?;
    conn.execute("COMMIT").await?;
    Ok(bytes)
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    [&[tag], rest].concat()
}

/// Loads every table in the caller's transaction, in the place of what migrations put there.
///
/// # Errors
/// [`CopyError`]; then only a rollback is left.
pub async fn copy_in(
    conn: &mut PgConnection,
    reader: &mut Reader<'_>,
    mut progress: impl FnMut(u64),
) -> Result<(), CopyError> {
    let known = tables(conn).await?;
    let names: Vec<&str> = known.iter().map(|table| table.name.as_str()).collect();
    if !names.is_empty() {
        conn.execute(AssertSqlSafe(format!("TRUNCATE {}", names.join(", ")))).await?;
    }
    let (mut bytes, mut next) = (0, reader.next()?);
    while let Some(record) = next.take() {
        match record.split_first() {
            Some((&TABLE, table)) => {
                let table: Table =
                    serde_json::from_slice(table).map_err(|_| CopyError::Malformed)?;
                // A name of the file becomes a statement only if it is a table's.
                if !known.contains(&table) {
                    return Err(CopyError::Malformed);
                }
                let statement = format!("COPY {} ({}) FROM STDIN", table.name, table.columns);
                let mut copy = conn.copy_in_raw(&statement).await?;
                loop {
                    next = reader.next()?;
                    let Some((&ROWS, rows)) = next.as_deref().and_then(|it| it.split_first())
                    else {
                        break;
                    };
                    bytes += rows.len() as u64;
                    progress(bytes);
                    copy.send(rows).await?;
                }
                copy.finish().await?;
                continue;
            }
            Some((&SEQUENCES, values)) => {
                let values: Vec<(String, i64)> =
                    serde_json::from_slice(values).map_err(|_| CopyError::Malformed)?;
                for (name, value) in values {
                    sqlx::query("SELECT setval($1::regclass, $2)")
                        .bind(name)
                        .bind(value)
                        .execute(&mut *conn)
                        .await?;
                }
            }
            _ => return Err(CopyError::Malformed),
        }
        next = reader.next()?;
    }
    Ok(())
}
