//! The keys of the blind index, as a service's database knows them (table `index_keys`). It guarantees that nothing is
//! served while a key is missing under which hashes were made, or another one has its id: an address that is barred would
//! be free, and a person would be registered twice. Who is to be hashed again is the vault's business.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use sqlx::PgPool;

use crate::index::IndexKeyName;

/// A key that is needed isn't there.
#[derive(Debug, thiserror::Error)]
pub enum IndexKeysError {
    /// The database.
    #[error("index keys: {0}")]
    Database(#[from] sqlx::Error),
    /// One that was used isn't configured.
    #[error(
        "[[{kind}]] key {id} is not in index_keys_file, and what is stored was hashed under it: put it back. An index key \
         stays for what can't be hashed again; `assent keys change add` puts a new one beside it"
    )]
    Missing {
        /// `address` or `fingerprint`.
        kind: String,
        /// Its id.
        id: i16,
    },
    /// Another one has its id.
    #[error(
        "[[{kind}]] key {id} of index_keys_file is another one than what is stored was hashed under: bring back the file of \
         before; a new key needs an id of its own, as `assent keys change add` gives it"
    )]
    Other {
        /// `address` or `fingerprint`.
        kind: String,
        /// Its id.
        id: i16,
    },
}

/// Compares the configured keys with those that this database knows, and takes note of new ones.
///
/// # Errors
/// [`IndexKeysError`]: then nothing may be served.
pub async fn check(
    pool: &PgPool,
    configured: &[IndexKeyName],
    now: Timestamp,
) -> Result<(), IndexKeysError> {
    const MADE: &str = "SELECT to_regclass('index_keys') IS NOT NULL";
    const NOTE: &str = "
        INSERT INTO index_keys (kind, key_id, name, known_since)
        SELECT kind, key_id, name, $4 FROM unnest($1::text[], $2::smallint[], $3::text[])
               AS t (kind, key_id, name)
        ORDER BY kind, key_id ON CONFLICT (kind, key_id) DO NOTHING";
    const KNOWN: &str = "SELECT kind, key_id, name FROM index_keys ORDER BY kind, key_id";
    // Before its migrations a service isn't ready, and it looks again when it is replaced.
    if !sqlx::query_scalar::<_, bool>(MADE).fetch_one(pool).await? {
        return Ok(());
    }
    let kinds: Vec<&str> = configured.iter().map(|key| key.kind).collect();
    let ids: Vec<i16> = configured.iter().map(|key| i16::from(key.id)).collect();
    let names: Vec<&str> = configured.iter().map(|key| key.name.as_str()).collect();
    let known: Vec<(String, i16, String)> = sqlx::query_as(KNOWN).fetch_all(pool).await?;
    compare(&known, configured)?;
    let note = sqlx::query(NOTE).bind(kinds).bind(ids).bind(names).bind(now.to_sqlx());
    note.execute(pool).await?;
    // A replica that started meanwhile may have taken note of another key by the same id.
    let known: Vec<(String, i16, String)> = sqlx::query_as(KNOWN).fetch_all(pool).await?;
    compare(&known, configured)
}

fn compare(
    known: &[(String, i16, String)],
    configured: &[IndexKeyName],
) -> Result<(), IndexKeysError> {
    for (kind, id, name) in known {
        let is_it = |key: &&IndexKeyName| key.kind == *kind && i16::from(key.id) == *id;
        match configured.iter().find(is_it) {
            None => return Err(IndexKeysError::Missing { kind: kind.clone(), id: *id }),
            Some(key) if key.name != *name => {
                return Err(IndexKeysError::Other { kind: kind.clone(), id: *id });
            }
            Some(_) => {}
        }
    }
    Ok(())
}
