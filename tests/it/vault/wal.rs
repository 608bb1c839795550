//! G5, to the last byte: a destroyed key is in no file of the key store's server once the log was looked after. The
//! server is one of the test's own, so that nothing but the vault's routine moves its log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use assent_erasure::certificate::KEY_BYTES_GONE_WITHIN;
use assent_eventstore::schema;
use assent_runtime::{Clock, Ids, SystemClock, SystemIds};
use assent_sealing::wal::GONE_WITHIN;
use assent_sealing::{DataKey, FileKek, KeyStore, Wal};
use assent_tests::cluster::until;
use assent_tests::harness::unique;
use assent_tests::plaintext::{files, files_with_bytes};
use assent_tests::servers;
use jiff::SignedDuration;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(30);

async fn pool(address: &str) -> PgPool {
    PgPoolOptions::new().max_connections(2).connect(address).await.unwrap()
}

async fn told(admin: &PgPool, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(admin).await.unwrap();
}

/// Pieces of a key that a scan finds, also where a page of the log ends within it.
fn pieces(wrapped: &[u8]) -> BTreeSet<Vec<u8>> {
    let halves = wrapped.chunks(wrapped.len() / 2);
    let runs = halves.flat_map(|half| half.split(|byte| matches!(byte, 0 | b'\n')));
    // Eight bytes of the system's randomness stand nowhere by chance.
    let pieces: BTreeSet<_> = runs.filter(|run| run.len() >= 8).map(<[u8]>::to_vec).collect();
    assert!(!pieces.is_empty(), "{wrapped:?}");
    pieces
}

/// The server's files that hold a key, under this folder of its data.
fn holding(data: &Path, folder: &str, wrapped: &[u8], list: &Path) -> Vec<PathBuf> {
    files_with_bytes(pieces(wrapped), list, &files(&data.join(folder)))
}

async fn wrapped(keys: &PgPool, id: Uuid) -> Vec<u8> {
    let stored = sqlx::query_scalar("SELECT wrapped FROM keys WHERE id = $1").bind(id);
    stored.fetch_one(keys).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_the_bytes_of_a_destroyed_key_leave_tables_dead_rows_and_the_log() {
    let server = servers::postgres().await;
    let (data, list) = (server.data(), std::env::temp_dir().join(unique("wal")));
    std::fs::create_dir(&list).unwrap();
    let admin = pool(&format!("{}/postgres", server.superuser())).await;
    let password = unique("password");
    told(&admin, &format!("CREATE ROLE vault LOGIN PASSWORD '{password}'")).await;
    told(&admin, "CREATE DATABASE of_postgres").await;
    told(&admin, "CREATE DATABASE of_vault OWNER vault").await;

    let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(SystemIds));
    for (role, password) in [("postgres", None), ("vault", Some(&password))] {
        let server_of = match password {
            None => server.superuser(),
            Some(password) => server.address(role, password),
        };
        let database = pool(&format!("{server_of}/of_{role}")).await;
        schema::migrate(&database, [KeyStore::migrator()]).await.unwrap();
        let kek = FileKek::new(DataKey::generate(&SystemIds), Arc::clone(&ids));
        let keys = KeyStore::new(database.clone(), kek, Arc::clone(&clock), Arc::clone(&ids));

        // As it comes, the server uses segments again, with what was in them: that is said.
        told(&admin, "ALTER SYSTEM SET wal_recycle = on").await;
        told(&admin, "SELECT pg_reload_conf()").await;
        recycles(&database, "on").await;
        assert_eq!(keys.leave_wal(PATIENCE).await.unwrap(), Wal::Kept("wal_recycle".to_owned()));
        told(&admin, "ALTER SYSTEM SET wal_recycle = off").await;
        told(&admin, "SELECT pg_reload_conf()").await;
        recycles(&database, "off").await;

        let (gone, stays) = (Uuid::from_u128(11), Uuid::from_u128(12));
        keys.mint(&[gone, stays]).await.unwrap();
        let (bytes, other) = (wrapped(&database, gone).await, wrapped(&database, stays).await);
        // Statistics are samples of what a table holds, kept elsewhere.
        told(&database, "ANALYZE keys").await;
        told(&admin, "CHECKPOINT").await;
        assert!(!holding(&data, "base", &bytes, &list).is_empty(), "{role}: the scan sees tables");

        keys.destroy(&[gone]).await.unwrap();
        assert!(!holding(&data, "pg_wal", &bytes, &list).is_empty(), "{role}: and the log");
        let in_tables = holding(&data, "base", &bytes, &list);
        assert!(in_tables.is_empty(), "{role}: no dead row, free space, statistics: {in_tables:?}");

        let before = segment(&admin).await;
        let looking = tokio::spawn({
            let keys = keys.clone();
            async move { keys.leave_wal(PATIENCE).await }
        });
        if role == "vault" {
            // It may not ask for a checkpoint, so it waits for one; the server's own is minutes away.
            until("the segment is full", async || segment(&admin).await > before).await;
            assert!(!looking.is_finished(), "nothing is promised before");
            told(&admin, "CHECKPOINT").await;
        }
        assert_eq!(looking.await.unwrap().unwrap(), Wal::Left, "{role}");
        let left = holding(&data, "", &bytes, &list);
        assert!(left.is_empty(), "{role}: {left:?}");
        assert!(!holding(&data, "", &other, &list).is_empty(), "{role}: the scan still sees");
    }
    std::fs::remove_dir_all(&list).unwrap();
}

/// The segment that is being written.
async fn segment(admin: &PgPool) -> String {
    let name = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())";
    sqlx::query_scalar(name).fetch_one(admin).await.unwrap()
}

/// What a certificate promises is not less than what the vault keeps.
#[test]
fn the_second_date_of_a_certificate_is_not_before_the_bytes_have_left() {
    assert!(KEY_BYTES_GONE_WITHIN >= SignedDuration::try_from(GONE_WITHIN).unwrap());
}

async fn recycles(database: &PgPool, expected: &str) {
    until("the server knows its settings", async || {
        let shown: String =
            sqlx::query_scalar("SHOW wal_recycle").fetch_one(database).await.unwrap();
        shown == expected
    })
    .await;
}
