//! What is wrong with a deployment is named by the doctor: one thing at a time is put wrong, and it
//! finds that and nothing else.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use assent_bus::ensure_topics;
use assent_contracts::topics;
use assent_http::auth::key_entry;
use assent_tests::cluster::{Cluster, Ended, Wishes, until};
use assent_tests::harness::{self, Login, kafka_login, topic_prefix};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

/// What a look found wrong: the check, what it says, what to do.
fn wrong(ended: &Ended) -> Vec<(String, String, String)> {
    let checks = ended.json["checks"].as_array().unwrap_or_else(|| panic!("{}", ended.text));
    let text = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap_or("").to_owned();
    let wrong = checks.iter().filter(|check| check["state"] == "wrong");
    wrong.map(|check| (text(check, "check"), text(check, "says"), text(check, "do"))).collect()
}

/// A deployment with one thing put wrong.
struct Patient {
    cluster: Cluster,
}

impl Patient {
    /// The doctor names this check (of each service that it is about) and no other, in these words, with
    /// this remedy.
    fn names(&self, environment: &[(&str, &str)], check: &str, says: &str, remedy: &str) {
        let ended = self.cluster.assent_told(&["doctor"], environment);
        let found = wrong(&ended);
        assert_eq!(ended.status, 1, "{check}: {}", ended.text);
        let checks: BTreeSet<&str> = found.iter().map(|(check, ..)| check.as_str()).collect();
        // A token that nobody knows is refused wherever it is shown, too.
        let shown = check.strip_suffix(" token").map(|service| format!("{service} calls "));
        let is_shown = |it: &str| shown.as_ref().is_some_and(|shown| it.starts_with(shown));
        let named = checks.iter().any(|it| it.ends_with(check));
        let only = named && checks.iter().all(|it| it.ends_with(check) || is_shown(it));
        assert!(only, "{check}: {}", ended.text);
        assert!(found.iter().any(|(_, it, _)| it.contains(says)), "{says:?}: {found:?}");
        assert!(found.iter().any(|(_, _, it)| it.contains(remedy)), "{remedy:?}: {found:?}");
        for (_, token) in environment.iter().filter(|(name, _)| name.ends_with("TOKEN")) {
            assert!(!ended.text.contains(token), "a token is told: {}", ended.text);
        }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.cluster.dir.join(name)
    }

    async fn execute(&self, database: &str, sql: &str) {
        let pool = self.cluster.pool(database).await;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_misconfiguration_is_named_and_nothing_else() {
    let patient = Patient { cluster: Cluster::start().await };
    // The servers of tests use segments of their log again; here it is looked at as if they didn't.
    for keys in ["vault_keys", "messaging_keys"] {
        let name = patient.cluster.database(keys);
        patient.execute(keys, &format!("ALTER DATABASE {name} SET wal_recycle = off")).await;
    }
    let well = patient.cluster.assent(&["doctor"]);
    assert_eq!((well.status, wrong(&well)), (0, vec![]), "{}", well.text);
    assert_eq!(well.json["wrong"], 0);
    // It has no token of its own.
    let gateway = patient.cluster.assent(&["doctor", "gateway"]);
    assert_eq!((gateway.status, wrong(&gateway)), (0, vec![]), "{}", gateway.text);

    configuration(&patient);
    databases(&patient).await;
    kafka(&patient).await;
    keys(&patient);
    calls(&patient);
}

fn configuration(patient: &Patient) {
    // Unknown setting.
    let file = patient.path("unknown.toml");
    let text = std::fs::read_to_string(patient.path("assent.toml")).unwrap();
    std::fs::write(&file, text.replace("[kafka]", "[kafka]\nbroker = \"typo\"")).unwrap();
    let told = [("ASSENT_CONFIG", as_str(&file))];
    patient.names(&told, "configuration", "kafka.broker: unknown key", "correct the name");
    // A file that isn't there.
    let told = [("ASSENT_CONFIG", "/nowhere/assent.toml")];
    patient.names(&told, "configuration", "/nowhere/assent.toml", "--config");
    // Settings that contradict each other.
    let told = [("ASSENT_KAFKA_SASL_USER", "consent")];
    patient.names(&told, "configuration", "kafka.sasl_user", "ASSENT_KAFKA_SASL_USER");
}

async fn databases(patient: &Patient) {
    const CONSENT: &str = "ASSENT_CONSENT_DATABASE_URL";
    let check = "consent database";
    let url = patient.cluster.database_url("consent");
    let (before, place) = url.rsplit_once('@').unwrap();
    let (user, _) = before.rsplit_once(':').unwrap();
    // Nobody there.
    let nobody = format!("{before}@127.0.0.1:1/assent");
    patient.names(&[(CONSENT, &nobody)], check, "nobody answers", "start Postgres");
    // Another password.
    let stranger = format!("{user}:wrong-4713@{place}");
    let says = "password authentication failed";
    patient.names(&[(CONSENT, &stranger)], check, says, "[consent] database_url");
    // No such database.
    let missing = format!("{url}_gone");
    patient.names(&[(CONSENT, &missing)], check, "does not exist", "assent migrate");
    // A database that was never migrated.
    let empty = harness::database_url("doctor").await;
    let (says, remedy) = ("lacks the migrations eventstore:1", "assent migrate consent");
    patient.names(&[(CONSENT, &empty)], "consent schema", says, remedy);
    // A newer build was here: this one may run beside it.
    let newer = "INSERT INTO _sqlx_migrations
                     (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of a later build', true, '\\x00', 0)";
    patient.execute("projector", newer).await;
    let beside = patient.cluster.assent(&["doctor"]);
    assert_eq!((beside.status, wrong(&beside)), (0, vec![]), "{}", beside.text);
    assert!(beside.text.contains("has newer migrations public:9999"), "{}", beside.text);
    patient.execute("projector", "DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    // A clock that is wrong: a function of the database's is asked before the system's.
    let name = patient.cluster.database("vault_keys");
    let ahead = format!(
        "CREATE SCHEMA faulty;
         CREATE FUNCTION faulty.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 h' $$;
         ALTER DATABASE {name} SET search_path = faulty, pg_catalog, public"
    );
    patient.execute("vault_keys", &ahead).await;
    patient.names(&[], "vault_keys clock", "ahead of this machine's clock", "NTP");
    patient.execute("vault_keys", &format!("ALTER DATABASE {name} RESET search_path")).await;
    // The log of a key store's server keeps what was destroyed.
    patient.execute("vault_keys", &format!("ALTER DATABASE {name} SET wal_recycle = on")).await;
    let (says, remedy) = ("wal_recycle keeps destroyed keys", "set wal_recycle = off");
    patient.names(&[], "vault_keys log", says, remedy);
    patient.execute("vault_keys", &format!("ALTER DATABASE {name} SET wal_recycle = off")).await;
}

async fn kafka(patient: &Patient) {
    // Nobody there.
    let told = [("ASSENT_KAFKA_BROKERS", "127.0.0.1:1")];
    patient.names(&told, "kafka", "doesn't answer", "[kafka] brokers");
    // Its door with TLS, spoken to in the clear; then with a wrong password.
    let Login { address, authority, user, .. } = kafka_login();
    let told = [("ASSENT_KAFKA_BROKERS", address.as_str())];
    patient.names(&told, "kafka", "speaks another protocol", "[kafka] security");
    let told = [
        ("ASSENT_KAFKA_BROKERS", address.as_str()),
        ("ASSENT_KAFKA_SECURITY", "tls"),
        ("ASSENT_KAFKA_TLS_CA_FILE", as_str(&authority)),
        ("ASSENT_KAFKA_SASL_USER", user.as_str()),
        ("ASSENT_KAFKA_SASL_PASSWORD", "wrong-4716"),
    ];
    patient.names(&told, "kafka", "refuses the user or the password", "sasl_password");
    // Topics that nobody made.
    let told = [("ASSENT_KAFKA_TOPIC_PREFIX", "nobodys.")];
    let says = "nobodys.consent.events.v1 does not exist";
    patient.names(&told, "topics", says, "assent migrate");
    // One with another partition count.
    let mut bus = patient.cluster.bus.clone();
    bus.topic_prefix = topic_prefix();
    let client: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &bus.brokers).create().unwrap();
    let name = bus.topic_name(&topics::VAULT_EVENTS);
    let narrow = NewTopic::new(&name, 3, TopicReplication::Fixed(1));
    client.create_topics([&narrow], &AdminOptions::new()).await.unwrap();
    let others: Vec<_> =
        topics::ALL.into_iter().filter(|topic| *topic != topics::VAULT_EVENTS).collect();
    ensure_topics(&bus, &others).await.unwrap();
    let told = [("ASSENT_KAFKA_TOPIC_PREFIX", bus.topic_prefix.as_str())];
    patient.names(&told, "topics", "has 3 partitions instead of 6", "topic_prefix");
}

fn keys(patient: &Patient) {
    // A key file that isn't there.
    let told = [("ASSENT_VAULT_KEK_FILE", "/nowhere/vault.kek")];
    patient.names(&told, "vault keys", "/nowhere/vault.kek", "assent keys init");
    // One that others may read.
    let open = patient.path("open.toml");
    std::fs::copy(patient.path("keys/index-address.toml"), &open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = [("ASSENT_MESSAGING_INDEX_KEYS_FILE", as_str(&open))];
    patient.names(&told, "messaging keys", "mode 644 opens it to others", "mode 600");
    // A token that nobody knows, and one of somebody else.
    let told = [("ASSENT_VAULT_TOKEN", "of-nobody-4714")];
    patient.names(&told, "vault token", "isn't in [auth] keys_file", "callers.toml");
    let told = [("ASSENT_VAULT_TOKEN", patient.cluster.token())];
    patient.names(&told, "vault token", "that of \"test\"", "[vault] token");
}

fn calls(patient: &Patient) {
    // The address of another service.
    let elsewhere = patient.cluster.url("consent");
    let told = [("ASSENT_SERVICES_VAULT_URL", elsewhere.as_str())];
    patient.names(&told, "calls vault", "is not the vault service", "[services] vault_url");
    // Nobody there.
    let told = [("ASSENT_SERVICES_ERASURE_URL", "http://127.0.0.1:1")];
    patient.names(&told, "calls erasure", "127.0.0.1:1", "[services] erasure_url");
    // A token that this machine's callers.toml knows, and the others' doesn't.
    let callers = patient.path("other-callers.toml");
    std::fs::write(&callers, key_entry("projector", "of-here-4715", &["erasure:read"])).unwrap();
    let told =
        [("ASSENT_PROJECTOR_TOKEN", "of-here-4715"), ("ASSENT_AUTH_KEYS_FILE", as_str(&callers))];
    let ended = patient.cluster.assent_told(&["doctor", "projector"], &told);
    let found = wrong(&ended);
    assert_eq!((ended.status, found.len()), (1, 1), "{}", ended.text);
    let (check, says, remedy) = &found[0];
    assert_eq!(check, "projector calls erasure");
    assert!(says.contains("doesn't know our token"), "{says}");
    assert!(remedy.contains("callers.toml"), "{remedy}");
}

/// A new replica takes no requests before its migrations have run: one is taken off the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_schema_lacks_something_is_not_ready_until_it_is_there() {
    let mut cluster = Cluster::with(Wishes { only: vec!["projector"], ..Wishes::default() }).await;
    let pool = cluster.pool("projector").await;
    sqlx::raw_sql(
        "CREATE TABLE taken AS SELECT * FROM _sqlx_migrations WHERE version = 2;
         DELETE FROM _sqlx_migrations WHERE version = 2",
    )
    .execute(&pool)
    .await
    .unwrap();
    cluster.kill("projector");
    cluster.begin_again("projector");
    let mut said = String::new();
    until("it says what is lacking", async || {
        said = cluster.readiness("projector").await;
        said.contains("lacks")
    })
    .await;
    assert!(said.lines().any(|line| line == "database: lacks the migrations public:2"), "{said}");
    let back = "INSERT INTO _sqlx_migrations SELECT * FROM taken";
    sqlx::query(back).execute(&pool).await.unwrap();
    cluster.ready("projector").await;
}
