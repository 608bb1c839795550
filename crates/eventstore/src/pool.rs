//! Connections with the limits that every transaction of Assent needs, and the migrations of this
//! crate. Pool sizes and the database's own settings are left to the deployment.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// How long a request waits for a connection before it is refused.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that was used within this time is taken to be alive without a round trip.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// The options of a connection to `url`, with Assent's session limits: a lock is waited for 5 s at
/// most, and a transaction that its client has forgotten ends after 10 s, so neither can stop
/// others for longer.
///
/// # Errors
/// When `url` is not a Postgres address.
pub fn connect_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("assent").options([
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("TimeZone", "UTC"),
    ]))
}

/// A pool of up to `connections` connections to `url`; see [`connect_options`].
///
/// # Errors
/// When `url` is not a Postgres address or nothing answers there.
pub async fn connect(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // The usual test before each use costs a round trip per transaction.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
        .connect_with(connect_options(url)?)
        .await
}

/// The migrations of the schema `eventstore`.
#[must_use]
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!();
    // The service has migrations of its own in `public`: the two must not meet in one table.
    migrator.create_schema("eventstore");
    migrator.dangerous_set_table_name("eventstore.migrations");
    migrator
}
