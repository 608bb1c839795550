//! Backups and what comes after them: a database from before an erasure and a withdrawal is rested on by nobody
//! before both hold again; keys end; nothing is loaded where something is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor as _, PgPool};

use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, SERVICES, Wishes, until};
use assent_tests::harness::{Stores, topic_prefix, unique};
use assent_tests::plaintext::{files, find, kafka_files, spellings};
use assent_tests::servers;

const DATA: [&str; 5] = ["consent", "vault", "messaging", "erasure", "projector"];
/// Who takes part in erasures.
const PARTICIPANTS: [&str; 4] = ["consent", "vault", "messaging", "projector"];

fn wishes(stores: Stores) -> Wishes {
    let settings = vec![("erasure", "key_backup_days = 2"), ("erasure", "retry_ms = 500")];
    Wishes { settings, stores: Some(stores), ..Wishes::default() }
}

async fn admin(stores: &Stores) -> PgPool {
    let url = format!("{}/postgres", stores.postgres);
    PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap()
}

async fn drop_databases(cluster: &Cluster, admin: &PgPool, names: &[&str]) {
    for name in names {
        let drop = format!("DROP DATABASE {} WITH (FORCE)", cluster.database(name));
        admin.execute(AssertSqlSafe(drop)).await.unwrap();
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Asks for an erasure and waits until it is complete; the request.
async fn erased(cluster: &Cluster, subject: &str) -> String {
    let identity = json!({"method": "operator", "reason": "test"});
    let body = json!({"subject_id": subject, "actor": "operator", "identity": identity});
    let (status, answer) = cluster.post("erasure", "/v1/requests", &body, Some(subject)).await;
    assert!(matches!(status, 200..=202), "{status}: {answer}");
    let request = answer["request_id"].as_str().unwrap().to_owned();
    until("the erasure is complete", async || {
        let path = format!("/v1/requests/{request}");
        cluster.get("erasure", &path).await.1["status"] == "completed"
    })
    .await;
    request
}

async fn state(cluster: &Cluster, subject: &str) -> Option<String> {
    const STATE: &str = "
        SELECT state FROM consent_lines
        WHERE subject_id = $1::uuid AND purpose IN ('marketing', '*') ORDER BY version DESC LIMIT 1";
    let pool = cluster.pool("consent").await;
    sqlx::query_scalar(STATE).bind(subject).fetch_optional(&pool).await.unwrap()
}

async fn rows_about(cluster: &Cluster, subject: &str) -> i64 {
    let mut rows = 0;
    for (database, table) in [
        ("consent", "consent_lines"),
        ("consent", "gate_links"),
        ("vault", "people"),
        ("vault", "addresses"),
        ("messaging", "intents"),
        ("projector", "live.contacts"),
    ] {
        let count = format!("SELECT count(*) FROM {table} WHERE subject_id = $1::uuid");
        let pool = cluster.pool(database).await;
        rows += sqlx::query_scalar::<_, i64>(AssertSqlSafe(count))
            .bind(subject)
            .fetch_one(&pool)
            .await
            .unwrap();
    }
    rows
}

/// Every participant did the erasure again and has compared its database.
fn proved(shown: &Value, request: &str) {
    let services = shown.as_array().unwrap();
    assert_eq!(services.len(), DATA.len(), "{shown}");
    for service in services {
        let name = service["service"].as_str().unwrap();
        assert!(service["compared_at"].is_string(), "{shown}");
        let again = PARTICIPANTS.contains(&name);
        assert_eq!(service["done_again"] == json!([request]), again, "{name}: {shown}");
    }
}

/// Event-sourcing test 16, Kafka kept.
#[tokio::test(flavor = "multi_thread")]
async fn g6_a_backup_of_before_an_erasure_and_a_withdrawal_brings_back_neither() {
    let (postgres, kafka) = servers::both().await;
    let stores = servers::stores(&postgres, &kafka);
    let admin = admin(&stores).await;
    let mut cluster = Cluster::with(wishes(stores)).await;
    let (alice, her_id) = cluster.willing().await;
    let (bob, bobs_id) = cluster.willing().await;
    let (carol, _) = cluster.willing().await;
    until("the read models know all three", async || rows_about(&cluster, &bobs_id).await > 4)
        .await;

    let (dir, key) = (cluster.dir.join("backup"), cluster.dir.join("backup.key"));
    let (folder, file) = (text(&dir), text(&key));
    let taken = cluster.assent(&["backup", "data", &folder, "--key", &file]);
    assert_eq!(taken.status, 0, "{}", taken.text);
    let databases: Vec<&String> = taken.json["databases"].as_object().unwrap().keys().collect();
    assert!(DATA.iter().all(|it| databases.iter().any(|name| name == it)), "{databases:?}");
    assert_eq!(databases.len(), DATA.len(), "no key store: {databases:?}");

    let request = erased(&cluster, &her_id).await;
    assert_eq!(cluster.withdraw(&bob).status, 0);
    let (dave, daves_id) = cluster.willing().await;
    until("what was said is in the log", async || {
        let pool = cluster.pool("consent").await;
        let waiting = "SELECT count(*) FROM eventstore.outbox";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0
    })
    .await;

    let restore = ["restore", "data", &folder, "--key", &file];
    let refused = |cluster: &Cluster, arguments: &[&str], says: &str| {
        let ended = cluster.assent(arguments);
        assert_eq!(ended.status, 2, "{}", ended.text);
        assert!(ended.text.contains(says), "{says}: {}", ended.text);
    };
    refused(&cluster, &restore, "stop every service first");
    for service in SERVICES {
        cluster.kill(service);
    }
    until("its connections are gone", async || {
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'assent'";
        sqlx::query_scalar::<_, i64>(sessions).fetch_one(&admin).await.unwrap() == 0
    })
    .await;
    refused(&cluster, &restore, "isn't empty");
    drop_databases(&cluster, &admin, &DATA).await;

    let other = text(&cluster.dir.join("keys/vault.kek"));
    refused(&cluster, &["restore", "data", &folder, "--key", &other], "another key");
    let sealed = dir.join("vault.sealed");
    let whole = std::fs::read(&sealed).unwrap();
    std::fs::write(&sealed, &whole[..whole.len() - 1]).unwrap();
    refused(&cluster, &restore, "cut short");
    std::fs::write(&sealed, &whole).unwrap();
    refused(&cluster, &[&restore[..], &["--kafka-lost"]].concat(), "still holds the log");

    let restored = cluster.assent(&restore);
    assert_eq!(restored.status, 0, "{}", restored.text);
    assert_eq!(restored.json["erasures_since"], json!([request]), "{}", restored.text);
    let before = rows_about(&cluster, &her_id).await;
    assert!(before > 0, "the backup is of before");
    assert_eq!(state(&cluster, &bobs_id).await.as_deref(), Some("given"));

    // Without the saga nobody knows who was erased, so nobody answers.
    cluster.begin_again("consent");
    until("consent has taken back what was withdrawn", async || {
        state(&cluster, &bobs_id).await.as_deref() == Some("withdrawn")
    })
    .await;
    assert!(cluster.readiness("consent").await.contains("start: not yet"));
    let asked = json!({"subject_id": bobs_id, "purpose": "marketing", "channel": "whatsapp"});
    let verdict = cluster.try_post("consent", "/v1/verdict", &asked, None);
    assert!(tokio::time::timeout(Duration::from_secs(2), verdict).await.gave_no_answer());
    for service in ["erasure", "vault", "messaging", "projector", "console", "gateway"] {
        cluster.begin_again(service);
    }
    for service in SERVICES {
        cluster.ready(service).await;
        assert_eq!(rows_of(&cluster, service, &her_id).await, 0, "{service} was ready too soon");
    }

    assert_eq!(rows_about(&cluster, &her_id).await, 0);
    let again = cluster.import_file(&format!("phone;name\n{};Ada\n", alice.phone));
    assert_eq!(again.json["created"], json!(0), "{}", again.text);
    assert_eq!(cluster.subject(&alice).await, None);
    assert_eq!(cluster.send(&bob).status, 1, "a withdrawal that the backup lacks holds");
    assert_eq!(cluster.send(&carol).json["state"], "accepted");
    assert_eq!(state(&cluster, &daves_id).await.as_deref(), Some("given"));
    assert_eq!(cluster.subject(&dave).await, None, "who came since is to be imported again");
    let proof = cluster.assent(&["restore", "proof"]);
    assert_eq!(proof.status, 0, "{}", proof.text);
    proved(&proof.json, &request);

    canaries(&cluster, &dir, &postgres.data(), &kafka.data(), &[&alice, &bob]);
}

/// Rows of hers in the databases of one service.
async fn rows_of(cluster: &Cluster, service: &str, subject: &str) -> i64 {
    let table = match service {
        "consent" => "consent_lines",
        "vault" => "people",
        "messaging" => "intents",
        "projector" => "live.contacts",
        _ => return 0,
    };
    let count = format!("SELECT count(*) FROM {table} WHERE subject_id = $1::uuid");
    let pool = cluster.pool(service).await;
    sqlx::query_scalar(AssertSqlSafe(count)).bind(subject).fetch_one(&pool).await.unwrap()
}

trait NoAnswer {
    fn gave_no_answer(self) -> bool;
}

impl<T, E> NoAnswer for Result<Result<T, E>, tokio::time::error::Elapsed> {
    fn gave_no_answer(self) -> bool {
        !matches!(self, Ok(Ok(_)))
    }
}

/// No number stands in a file of servers or backups; a control that stands there is found.
fn canaries(cluster: &Cluster, backup: &Path, postgres: &Path, kafka: &Path, people: &[&Person]) {
    let control = unique("control");
    std::fs::write(backup.join("control"), &control).unwrap();
    let mut all: Vec<PathBuf> = files(backup);
    all.extend(files(postgres));
    all.extend(kafka_files(kafka));
    assert!(!find(&[control], &cluster.dir, &all).is_empty(), "the scan sees");
    for person in people {
        let found = find(&spellings(person.digits()), &cluster.dir, &all);
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Event-sourcing test 16, Kafka lost: the erasure service's own record says who was erased.
#[tokio::test(flavor = "multi_thread")]
async fn g6_with_kafka_lost_the_erasure_services_record_says_who_stays_erased() {
    lost(true).await;
}

/// With the erasure database lost too, only the key store knows: they are fenced, and said to be.
#[tokio::test(flavor = "multi_thread")]
async fn g6_with_kafka_and_the_saga_lost_whoever_has_no_key_is_fenced() {
    lost(false).await;
}

async fn lost(keeps_saga: bool) {
    let stores = Stores::shared();
    let admin = admin(&stores).await;
    let mut cluster = Cluster::with(wishes(stores)).await;
    let (alice, her_id) = cluster.willing().await;
    let (bob, bobs_id) = cluster.willing().await;
    until("the read models know both", async || rows_about(&cluster, &bobs_id).await > 4).await;
    let (folder, file) = (text(&cluster.dir.join("backup")), text(&cluster.dir.join("backup.key")));
    let taken = cluster.assent(&["backup", "data", &folder, "--key", &file]);
    assert_eq!(taken.status, 0, "{}", taken.text);
    let request = erased(&cluster, &her_id).await;
    for service in SERVICES {
        cluster.kill(service);
    }
    let gone: Vec<&str> =
        DATA.into_iter().filter(|name| !(keeps_saga && *name == "erasure")).collect();
    drop_databases(&cluster, &admin, &gone).await;

    // Topics under another prefix: those of before are out of reach.
    let prefix: &'static str = topic_prefix().leak();
    let elsewhere = [("ASSENT_KAFKA_TOPIC_PREFIX", prefix)];
    let restore = ["restore", "data", &folder, "--key", &file];
    let refused = cluster.assent_told(&restore, &elsewhere);
    assert_eq!(refused.status, 2, "{}", refused.text);
    assert!(refused.text.contains("--kafka-lost"), "{}", refused.text);
    let restored = cluster.assent_told(&[&restore[..], &["--kafka-lost"]].concat(), &elsewhere);
    assert_eq!(restored.status, 0, "{}", restored.text);
    assert_eq!(restored.json["fenced"], json!([her_id]), "{}", restored.text);
    let since = if keeps_saga { json!([request]) } else { json!([]) };
    assert_eq!(restored.json["erasures_since"], since, "{}", restored.text);
    assert!(restored.json["published_again"].as_u64().unwrap() > 0, "{}", restored.text);

    for service in SERVICES {
        cluster.restart_told(service, "ASSENT_KAFKA_TOPIC_PREFIX", prefix);
    }
    for service in SERVICES {
        cluster.ready(service).await;
    }
    if keeps_saga {
        assert_eq!(rows_about(&cluster, &her_id).await, 0);
        let proof = cluster.assent_told(&["restore", "proof"], &elsewhere);
        proved(&proof.json, &request);
        let again = cluster.import_file(&format!("phone;name\n{};Ada\n", alice.phone));
        assert_eq!(again.json["created"], json!(0), "{}", again.text);
    }
    assert_ne!(cluster.explain(&alice).json["verdict"], "allow");
    assert_ne!(cluster.send(&alice).status, 0);
    assert_eq!(cluster.send(&bob).json["state"], "accepted");
}

/// One database alone, put back by other tools beside those of today: a withdrawal that was answered since is back
/// from Kafka before anything is answered, and while Kafka is away nothing is.
#[tokio::test(flavor = "multi_thread")]
async fn g1_consent_restored_alone_takes_answered_withdrawals_back_before_it_serves() {
    let stores = Stores::shared();
    let brokers: &'static str = stores.bus.brokers.clone().leak();
    let admin = admin(&stores).await;
    let mut cluster = Cluster::with(wishes(stores)).await;
    let (bob, bobs_id) = cluster.willing().await;
    let (carol, _) = cluster.willing().await;
    let today = cluster.database("consent");
    let before = format!("{today}_before");
    // A copy as it is asks for nobody who is connected.
    cluster.kill("consent");
    let copy = format!("CREATE DATABASE {before} TEMPLATE {today}");
    until("it is copied", async || admin.execute(AssertSqlSafe(copy.clone())).await.is_ok()).await;
    cluster.restart("consent").await;
    assert_eq!(cluster.withdraw(&bob).status, 0);
    until("what was said is in the log", async || {
        let pool = cluster.pool("consent").await;
        let waiting = "SELECT count(*) FROM eventstore.outbox";
        sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
    cluster.kill("consent");
    drop_databases(&cluster, &admin, &["consent"]).await;
    let put_back = format!("ALTER DATABASE {before} RENAME TO {today}");
    admin.execute(AssertSqlSafe(put_back)).await.unwrap();
    assert_eq!(state(&cluster, &bobs_id).await.as_deref(), Some("given"), "the fault");

    // Port 1 stands for a Kafka that is away.
    cluster.restart_told("consent", "ASSENT_KAFKA_BROKERS", "127.0.0.1:1");
    until("it waits", async || cluster.readiness("consent").await.contains("start: not yet")).await;
    let asked = json!({"subject_id": bobs_id, "purpose": "marketing", "channel": "whatsapp"});
    let verdict = cluster.try_post("consent", "/v1/verdict", &asked, None);
    assert!(tokio::time::timeout(Duration::from_secs(2), verdict).await.gave_no_answer());
    assert_eq!(state(&cluster, &bobs_id).await.as_deref(), Some("given"), "nothing is back yet");
    cluster.kill("consent");

    cluster.restart_told("consent", "ASSENT_KAFKA_BROKERS", brokers);
    cluster.ready("consent").await;
    assert_eq!(state(&cluster, &bobs_id).await.as_deref(), Some("withdrawn"));
    assert_ne!(cluster.explain(&bob).json["verdict"], "allow");
    assert_eq!(cluster.send(&bob).status, 1);
    assert_eq!(cluster.send(&carol).json["state"], "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_keys_opens_until_its_end_and_says_why_not_after() {
    let stores = Stores::shared();
    let admin = admin(&stores).await;
    let mut cluster = Cluster::with(wishes(stores)).await;
    let (bob, _) = cluster.willing().await;
    let (dir, days) = (cluster.dir.join("keys-backup"), cluster.dir.join("day-keys"));
    let (folder, keys) = (text(&dir), text(&days));
    let taken = cluster.assent(&["backup", "keys", &folder, "--day-keys", &keys]);
    assert_eq!(taken.status, 0, "{}", taken.text);
    for service in SERVICES {
        cluster.kill(service);
    }
    drop_databases(&cluster, &admin, &["vault_keys", "messaging_keys"]).await;

    let restore = ["restore", "keys", &folder, "--day-keys", &keys];
    let path = dir.join("manifest.json");
    let manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let day = manifest["day"].as_str().unwrap().to_owned();
    let key = std::fs::read(days.join(format!("{day}.key"))).unwrap();
    // The same backup, taken long ago.
    let mut old = manifest.clone();
    old["day"] = json!("2020-02-28");
    old["ends_at"] = json!("2020-03-01T00:00:00Z");
    std::fs::rename(days.join(format!("{day}.key")), days.join("2020-02-28.key")).unwrap();
    std::fs::write(&path, old.to_string()).unwrap();
    let refused = cluster.assent(&restore);
    assert_eq!(refused.status, 2, "{}", refused.text);
    assert!(refused.text.contains("ended on 2020-03-01T00:00:00Z"), "{}", refused.text);
    assert!(!days.join("2020-02-28.key").exists(), "its key is destroyed");
    // Who changes what the manifest says has no key.
    old["ends_at"] = json!("2999-01-01T00:00:00Z");
    std::fs::write(&path, old.to_string()).unwrap();
    let refused = cluster.assent(&restore);
    assert_eq!(refused.status, 2, "{}", refused.text);
    assert!(refused.text.contains("the key of 2020-02-28 isn't there"), "{}", refused.text);

    // In time it opens.
    let back = days.join(format!("{day}.key"));
    std::fs::write(&back, key).unwrap();
    std::fs::set_permissions(&back, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&path, manifest.to_string()).unwrap();
    let restored = cluster.assent(&restore);
    assert_eq!(restored.status, 0, "{}", restored.text);
    for service in SERVICES {
        cluster.begin_again(service);
    }
    for service in SERVICES {
        cluster.ready(service).await;
    }
    assert_eq!(cluster.send(&bob).json["state"], "accepted");
}
