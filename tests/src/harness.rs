//! Finds the real servers and gives every test a corner of its own on them: a database, a topic
//! prefix. It starts nothing that outlives the test run.

use std::path::PathBuf;

use assent_bus::BusConfig;
use assent_bus::security::{Security, User};
use secrecy::SecretString;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use uuid::Uuid;

/// The administrative address of the real Postgres, without a database name.
pub fn postgres() -> String {
    required("ASSENT_TEST_POSTGRES")
}

/// The bootstrap address of the real Kafka.
pub fn kafka() -> String {
    required("ASSENT_TEST_KAFKA")
}

pub(crate) fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests with `cargo xtask test`, which starts the servers")
    })
}

/// How the real Kafka lets one in by its second door, over TLS.
#[derive(Debug, Clone)]
pub struct Login {
    /// The bootstrap address.
    pub address: String,
    /// The certificate of the authority (PEM).
    pub authority: PathBuf,
    /// The user.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// The second door of the real Kafka.
pub fn kafka_login() -> Login {
    Login {
        address: required("ASSENT_TEST_KAFKA_TLS"),
        authority: required("ASSENT_TEST_KAFKA_CA").into(),
        user: required("ASSENT_TEST_KAFKA_USER"),
        password: required("ASSENT_TEST_KAFKA_PASSWORD").into(),
    }
}

/// The servers that a cluster stands on.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The administrative address of Postgres, without a database name.
    pub postgres: String,
    /// How Kafka is reached.
    pub bus: BusConfig,
}

impl Stores {
    /// Those that the whole run shares.
    pub fn shared() -> Self {
        Self { postgres: postgres(), bus: BusConfig::new(kafka(), topic_prefix()) }
    }

    /// The same, but for Kafka, which is reached by its second door.
    pub fn over_tls() -> Self {
        let Login { address, authority, user, password } = kafka_login();
        let user = User { name: user, password };
        let mut bus = BusConfig::new(address, topic_prefix());
        bus.security = Security::Tls { authority: Some(authority), user: Some(user) };
        Self { postgres: postgres(), bus }
    }
}

/// A short random suffix, so that tests never meet.
#[expect(clippy::disallowed_methods, reason = "a test's own name may be random")]
pub fn unique(prefix: &str) -> String {
    format!("{prefix}_{}", &Uuid::new_v4().simple().to_string()[..12])
}

/// Creates an empty database for one test and gives its address.
pub async fn database_url(area: &str) -> String {
    let name = unique(&format!("it_{area}"));
    let admin = PgPoolOptions::new()
        .max_connections(1)
        .connect(&format!("{}/postgres", postgres()))
        .await
        .expect("the test Postgres answers");
    admin
        .execute(AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .expect("the test database can be created");
    format!("{}/{name}", postgres())
}

/// An empty database for one test, with a pool on it.
pub async fn database(area: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(16)
        .connect(&database_url(area).await)
        .await
        .expect("the test database answers")
}

/// A topic prefix of one test's own, such as `t_3f….`.
pub fn topic_prefix() -> String {
    format!("{}.", unique("t"))
}
