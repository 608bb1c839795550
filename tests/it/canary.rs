//! G5: no plaintext personal data at rest outside ciphertext. The whole road is walked with canaries
//! in every place where a person or a client can write something; then every byte that Postgres,
//! Kafka and the services wrote, every trace that left and every metric is searched for them, in the clear and in
//! the usual disguises. A control canary that goes through each store in plain must be found, or
//! the scan proves nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use assent_bus::ensure_topics;
use assent_contracts::topics::{CONSENT_EVENTS, Topic};
use assent_runtime::{Ids as _, SystemIds};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::block_in_place;
use uuid::Uuid;

use assent_tests::cluster::person::Person;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, SERVICES, TEMPLATE, Wishes};
use assent_tests::collector::Collector;
use assent_tests::harness::{database, kafka, unique};
use assent_tests::plaintext::{disguises, files, find, kafka_files, spellings};

const DATABASES: [&str; 7] =
    ["consent", "vault", "vault_keys", "messaging", "messaging_keys", "erasure", "projector"];

/// A folder that a server writes into, named by the environment.
fn data_dir(variable: &str) -> PathBuf {
    PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| {
        panic!(
            "{variable} is not set: run the tests with `cargo xtask test`, which knows the folder"
        )
    }))
}

/// The search sees each disguise, and nothing where nothing is.
#[test]
fn each_disguise_of_a_canary_is_found() {
    let dir = std::env::temp_dir().join(unique("disguises"));
    std::fs::create_dir(&dir).unwrap();
    let canary = unique("canary");
    let file = dir.join("file");
    let looked = |text: &[u8]| {
        std::fs::write(&file, [&[0, 255, 10, 7][..], text, &[200, 128]].concat()).unwrap();
        !find(std::slice::from_ref(&canary), &dir, std::slice::from_ref(&file)).is_empty()
    };
    for disguise in disguises(&canary) {
        assert!(looked(&disguise), "{disguise:?}");
        assert!(!looked(&disguise[1..]), "{disguise:?}");
    }
    for before in ["", "1", "12", "123"] {
        let text = STANDARD_NO_PAD.encode(format!("{before}{canary}and more"));
        assert!(looked(text.as_bytes()), "{text}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

/// The files of Postgres: of these databases, and all that isn't a database's (WAL, shared tables).
async fn postgres_files(pool: &PgPool, names: &[String]) -> Vec<PathBuf> {
    let dir = data_dir("ASSENT_TEST_POSTGRES_DATA");
    let oids: Vec<String> =
        sqlx::query_scalar("SELECT oid::text FROM pg_database WHERE datname = ANY($1)")
            .bind(names)
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(oids.len(), names.len(), "{names:?}");
    let base = dir.join("base");
    let ours: Vec<PathBuf> = oids.iter().map(|oid| base.join(oid)).collect();
    let mut all = files(&dir);
    all.retain(|file| !file.starts_with(&base) || ours.iter().any(|dir| file.starts_with(dir)));
    assert!(all.iter().any(|file| file.starts_with(dir.join("pg_wal"))), "the WAL is among them");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn g5_no_plaintext_is_at_rest_in_postgres_kafka_or_the_logs() {
    let collector = Collector::start().await;
    let traces = Some(collector.url.clone());
    let mut cluster = Cluster::with(Wishes { traces, ..Wishes::default() }).await;
    let (subject, canaries) = walk_with_canaries(&cluster).await;

    // In plain through each store: a row, a record, a line of a log.
    let control = unique("control");
    let control_pool = database("canary").await;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE TABLE control (text text); INSERT INTO control VALUES ('{control}')"
    )))
    .execute(&control_pool)
    .await
    .unwrap();
    let control_database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&control_pool).await.unwrap();
    let control_topic = Topic { suffix: "control", partitions: 1, ..CONSENT_EVENTS };
    ensure_topics(&cluster.bus, &[control_topic]).await.unwrap();
    let topic = cluster.bus.topic_name(&control_topic);
    let producer: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", kafka()).create().unwrap();
    producer
        .send(FutureRecord::to(&topic).key("control").payload(&control), Duration::from_secs(20))
        .await
        .unwrap();
    let log = cluster.log("control");
    std::fs::write(&log, format!("a line with {control}\n")).unwrap();
    collector.take(control.clone().into());

    let mut metrics = format!("control{{label=\"{control}\"}} 1\n");
    for service in SERVICES {
        let told = cluster.metrics(service).await;
        assert!(told.contains("http_server_request_duration_seconds_count{"), "{service}: {told}");
        metrics.push_str(&told);
    }
    // Nor an id of hers, nor any other that would make a series of its own for everyone.
    let words = metrics.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let ids: Vec<&str> = words.filter(|word| Uuid::parse_str(word).is_ok()).collect();
    assert!(ids.is_empty(), "{ids:?}");
    let told = cluster.dir.join("metrics");
    std::fs::write(&told, metrics).unwrap();

    // Everything to its file; the last spans leave before the process ends.
    for service in SERVICES {
        cluster.signal(service, libc::SIGTERM);
    }
    for service in SERVICES {
        let process = cluster.process(service);
        until(&format!("{service} stops"), async || process.ended().is_some()).await;
    }
    let traces = cluster.dir.join("traces");
    std::fs::write(&traces, collector.raw()).unwrap();
    let traced: BTreeSet<String> = collector.spans().into_iter().map(|span| span.service).collect();
    assert_eq!(traced, SERVICES.map(str::to_owned).into(), "every service sends traces");
    let wal_compression: String =
        sqlx::query_scalar("SHOW wal_compression").fetch_one(&control_pool).await.unwrap();
    assert_eq!(wal_compression, "off", "compressed WAL can't be searched");
    sqlx::raw_sql("CHECKPOINT").execute(&control_pool).await.unwrap();
    let mut names: Vec<String> = DATABASES.map(|name| cluster.database(name)).to_vec();
    names.push(control_database);
    let logs: Vec<PathBuf> = SERVICES.map(|service| cluster.log(service)).to_vec();
    assert!(logs.iter().all(|log| std::fs::metadata(log).is_ok_and(|file| file.len() > 0)));
    let stores = [
        ("Postgres", postgres_files(&control_pool, &names).await),
        ("Kafka", kafka_files(&data_dir("ASSENT_TEST_KAFKA_DATA"))),
        ("the logs", logs.into_iter().chain([log]).collect()),
        ("the traces", vec![traces.clone()]),
        ("the metrics", vec![told]),
    ];
    // Who looks at traces learns not even of whom they are.
    let ids = [subject.replace('-', ""), subject];
    block_in_place(|| {
        for (store, files) in &stores {
            let seen = find(std::slice::from_ref(&control), &cluster.dir, files);
            assert!(!seen.is_empty(), "the control is not found in {store}: the scan is blind");
        }
        for (store, files) in &stores {
            let seen = find(&canaries, &cluster.dir, files);
            assert!(seen.is_empty(), "plaintext in {store}: {seen:#?}");
        }
        let seen = find(&ids, &cluster.dir, &[traces]);
        assert!(seen.is_empty(), "her id in the traces: {seen:#?}");
    });
}

/// The road, with a canary wherever somebody can write something, and who walked it.
async fn walk_with_canaries(cluster: &Cluster) -> (String, Vec<String>) {
    let mut random = [0; 4];
    SystemIds.fill(&mut random);
    // A mobile number of France that no other test has.
    let person = Person { phone: format!("+3360{:07}", u32::from_le_bytes(random) % 10_000_000) };
    let [name, mail, evidence, key, said, parameter] =
        ["Name", "mail", "evidence", "key", "said", "parameter"].map(unique);
    let email = format!("{mail}@example.org");

    let imported =
        cluster.import_file(&format!("phone,name,email\n{},{name},{email}\n", person.phone));
    assert_eq!(imported.status, 0, "{}", imported.text);
    let subject = cluster.subject(&person).await.expect("she is known");
    let purpose = ["--purpose", "marketing", "--channel", "whatsapp", "--evidence", &evidence];
    let granted = cluster.assent(&[&["consent", "grant", &person.phone][..], &purpose].concat());
    assert_eq!(granted.status, 0, "{}", granted.text);

    // Clients put phone numbers into their keys, and names into parameters.
    let message = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
        "template": TEMPLATE, "parameters": [parameter]});
    let key = format!("{key}-{}", person.digits());
    let (status, queued) = cluster.post("messaging", "/v1/messages", &message, Some(&key)).await;
    assert_eq!(status, 202, "{queued}");
    let message = queued["message_id"].as_str().unwrap();
    assert_eq!(cluster.settled(message).await["state"], "accepted");
    let calls = cluster.delivered_to(&person).await;
    let wamid = calls[0]["wamid"].as_str().expect("it has a message id").to_owned();
    until("delivered", async || {
        let path = format!("/v1/messages/{message}");
        cluster.get("projector", &path).await.1["status"] == "delivered"
    })
    .await;

    // A list claims that she agreed; on her page she looks at what she did. Her link is a key to it.
    let claimed = unique("claimed");
    let list = cluster.dir.join("claims.csv");
    std::fs::write(&list, format!("phone,proof,date\n{},{claimed},2025-05-31\n", person.phone))
        .unwrap();
    let columns = ["--map", "evidence=proof", "--map", "agreed-at=date", "--purpose", "marketing"];
    let import = ["import", list.to_str().unwrap()];
    let claims = cluster.assent(&[&import[..], &columns].concat());
    assert_eq!(claims.json["claims"]["claims"], 1, "{}", claims.text);
    let link = cluster.assent(&["preferences", "link", &person.phone]);
    let token = link.json["token"].as_str().expect("a link").to_owned();
    let mut browser = cluster.browser();
    browser.open(&format!("/p/{token}")).await.press("Show my settings").await;
    assert_eq!(cluster.hears(&person, &browser.prepared()).await, 200);
    until("her page opens", async || {
        browser.press("I have sent it").await;
        browser.page.contains("Your settings")
    })
    .await;

    // She writes, is refused nothing and stops; then she is deleted.
    assert_eq!(cluster.hears(&person, &format!("my secret is {said}")).await, 200);
    answer_with_canaries(cluster, &subject, &said).await;
    // What is held on her is put together, and lies sealed until she takes it: she doesn't.
    let access = ["--kind", "access", "--checked", "called_back"];
    let asked = cluster.assent(&[&["request", "open", &person.phone][..], &access].concat());
    let request = asked.json["request_id"].as_str().expect("a request").to_owned();
    until("her archive waits", async || {
        cluster.assent(&["request", "show", &request]).json["status"] == "answered"
    })
    .await;
    assert_eq!(cluster.hears(&person, "STOP").await, 200);
    assert_eq!(cluster.send(&person).json["state"], "refused");
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(erased.json["status"], "completed", "{}", erased.text);
    // What is wrong must not be logged either.
    let broken = json!({"origin": "import", "rows": [{"phone": format!("{}000000", person.phone),
        "name": name, "email": email}]});
    cluster.post("vault", "/v1/subjects/import", &broken, Some(&key)).await;
    cluster.post("vault", "/v1/subjects/lookup", &json!({"telephone": person.phone}), None).await;

    let mut canaries = vec![name, mail, evidence, key, said, parameter, claimed, token];
    canaries.push(wamid.trim_start_matches("wamid.").trim_end_matches('=').to_owned());
    canaries.extend(spellings(person.digits()));
    (subject, canaries)
}

/// A colleague reads what she wrote, notes it and repeats it.
async fn answer_with_canaries(cluster: &Cluster, subject: &str, said: &str) {
    let mut id = String::new();
    until("she has a conversation", async || {
        let path = format!("/v1/conversations?subject_id={subject}");
        let (_, listed) = cluster.get("messaging", &path).await;
        id = listed["items"][0]["conversation_id"].as_str().unwrap_or_default().to_owned();
        !id.is_empty()
    })
    .await;
    let path = |act: &str| format!("/v1/conversations/{id}/{act}");
    let (_, read) =
        cluster.post("messaging", &path("read"), &json!({"reason": "answering"}), None).await;
    assert!(read.to_string().contains(said), "{read}");
    let note = json!({"text": format!("her secret is {said}")});
    assert_eq!(cluster.post("messaging", &path("notes"), &note, Some("note")).await.0, 201);
    let reply = json!({"content": {"type": "text", "body": format!("really, {said}?")}});
    assert_eq!(cluster.post("messaging", &path("reply"), &reply, Some("reply")).await.0, 202);
}
