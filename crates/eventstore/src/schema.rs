//! The tables of a database that this build needs: bringing them up to date, and whether they are there. It
//! guarantees that a look changes nothing; when they are brought up to date is the deployment's to say.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use assent_runtime::Health;
use sqlx::migrate::{Migrate as _, MigrateError, Migrator};
use sqlx::{Connection as _, PgConnection, PgPool};

/// How a database compares with the migrations of this build.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Migrations of this build that the database lacks, as `schema:version`.
    pub missing: Vec<String>,
    /// Migrations that the database has and this build doesn't know: a newer build was here.
    pub newer: Vec<String>,
    /// Migrations that read otherwise when they were run, or were not run to their end.
    pub changed: Vec<String>,
}

impl Standing {
    /// Whether this build can work with it. A newer schema is no hindrance: schemas only grow, so
    /// that the version before runs beside it.
    ///
    /// # Errors
    /// What is lacking, for operators.
    pub fn serves(&self) -> Result<(), String> {
        if self.missing.is_empty() && self.changed.is_empty() {
            return Ok(());
        }
        Err(self.to_string())
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            ("lacks the migrations", &self.missing),
            ("has newer migrations", &self.newer),
            ("has other or unfinished migrations", &self.changed),
        ];
        let said: Vec<String> = parts
            .into_iter()
            .filter(|(_, which)| !which.is_empty())
            .map(|(what, which)| format!("{what} {}", which.join(", ")))
            .collect();
        f.write_str(&if said.is_empty() { "is up to date".to_owned() } else { said.join("; ") })
    }
}

/// What one database records of one set of migrations: version, checksum; `None` where there is not
/// even a record.
type Applied = Option<BTreeMap<i64, Vec<u8>>>;

/// Looks at the records of all these sets of migrations in one database.
///
/// # Errors
/// When the database doesn't answer.
pub async fn standing(
    connection: &mut PgConnection,
    migrators: &[Migrator],
) -> Result<Standing, sqlx::Error> {
    let mut standing = Standing::default();
    for migrator in migrators {
        let table = migrator.table_name.as_ref();
        let exists: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table)
            .fetch_one(&mut *connection)
            .await?;
        let applied = if exists {
            let applied = connection.list_applied_migrations(table).await.map_err(failed)?;
            let dirty = connection.dirty_version(table).await.map_err(failed)?;
            let applied = applied.into_iter().map(|it| (it.version, it.checksum.into_owned()));
            let mut applied: BTreeMap<i64, Vec<u8>> = applied.collect();
            // Begun and not ended: it reads like no migration of ours.
            applied.extend(dirty.map(|version| (version, Vec::new())));
            Some(applied)
        } else {
            None
        };
        compare(&mut standing, migrator, &applied);
    }
    Ok(standing)
}

/// Brings a database up to date. Several replicas may call it at once.
///
/// # Errors
/// When a migration fails, or the database knows migrations that this build doesn't.
pub async fn migrate(
    pool: &PgPool,
    migrators: impl IntoIterator<Item = Migrator>,
) -> Result<(), MigrateError> {
    for migrator in migrators {
        migrator.run(pool).await?;
    }
    Ok(())
}

/// Makes `/readyz` fail while the database doesn't answer, or lacks what this build needs: a new
/// replica takes no requests before its migrations have run.
pub fn ready_check(
    health: &Health,
    name: &'static str,
    pool: &PgPool,
    migrators: impl Into<Vec<Migrator>>,
) {
    let (pool, migrators) = (pool.clone(), Arc::new(migrators.into()));
    // What is there stays: migrations take nothing away.
    let is_whole = Arc::new(AtomicBool::new(false));
    health.ready_check(name, move || {
        let (pool, migrators) = (pool.clone(), Arc::clone(&migrators));
        let is_whole = Arc::clone(&is_whole);
        async move {
            let mut connection = pool.acquire().await.map_err(|error| error.to_string())?;
            if is_whole.load(Ordering::Relaxed) {
                return connection.ping().await.map_err(|error| error.to_string());
            }
            let standing = standing(&mut connection, &migrators).await;
            standing.map_err(|error| error.to_string())?.serves()?;
            is_whole.store(true, Ordering::Relaxed);
            Ok(())
        }
    });
}

/// A look has no reason to fail but the database's.
fn failed(error: MigrateError) -> sqlx::Error {
    match error {
        MigrateError::Execute(error) => error,
        error => sqlx::Error::Protocol(error.to_string()),
    }
}

fn compare(standing: &mut Standing, migrator: &Migrator, applied: &Applied) {
    let schema = migrator.table_name.split_once('.').map_or("public", |(schema, _)| schema);
    let called = |version: i64| format!("{schema}:{version}");
    let nothing = BTreeMap::new();
    let applied = applied.as_ref().unwrap_or(&nothing);
    let known: BTreeMap<i64, &[u8]> =
        migrator.iter().map(|it| (it.version, it.checksum.as_ref())).collect();
    for (version, checksum) in &known {
        match applied.get(version) {
            None => standing.missing.push(called(*version)),
            Some(found) if found != checksum => standing.changed.push(called(*version)),
            Some(_) => {}
        }
    }
    let unknown = applied.keys().filter(|version| !known.contains_key(version));
    standing.newer.extend(unknown.map(|version| called(*version)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(change: impl FnOnce(&mut BTreeMap<i64, Vec<u8>>)) -> Standing {
        let migrator = crate::migrator();
        let applied = migrator.iter().map(|it| (it.version, it.checksum.to_vec()));
        let mut applied = applied.collect();
        change(&mut applied);
        let mut standing = Standing::default();
        compare(&mut standing, &migrator, &Some(applied));
        standing
    }

    #[test]
    fn what_was_run_is_up_to_date() {
        let standing = compared(|_| {});
        assert_eq!((standing.to_string().as_str(), standing.serves()), ("is up to date", Ok(())));
    }

    #[test]
    fn what_was_not_run_is_missing() {
        let standing = compared(|applied| drop(applied.remove(&2)));
        assert_eq!(standing.missing, ["eventstore:2"]);
        assert!(standing.serves().unwrap_err().contains("lacks the migrations"));
        let mut empty = Standing::default();
        compare(&mut empty, &crate::migrator(), &None);
        assert_eq!(empty.missing.len(), crate::migrator().iter().count());
    }

    /// Expand and contract: the version before goes on beside a schema that has grown.
    #[test]
    fn what_a_newer_build_ran_is_told_and_no_hindrance() {
        let standing = compared(|applied| drop(applied.insert(9_999, vec![1])));
        assert_eq!(standing.newer, ["eventstore:9999"]);
        assert_eq!(standing.serves(), Ok(()));
    }

    #[test]
    fn what_reads_otherwise_is_changed() {
        let standing = compared(|applied| drop(applied.insert(1, Vec::new())));
        assert_eq!(standing.changed, ["eventstore:1"]);
        assert!(standing.serves().is_err());
    }
}
