//! The vault's part of an erasure, and what races it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_bus::{BusConfig, Producer, ensure_topics};
use assent_contracts::api::vault::{ImportOutcome, ImportRequest, ImportResponse};
use assent_contracts::erasure::{Ack, COMMAND, Step};
use assent_contracts::topics::{ERASURE_COMMANDS, VAULT_EVENTS};
use assent_contracts::vault::Origin;
use assent_eventstore::schema;
use assent_http::{Code, ServiceClient};
use assent_participant::{Keeping, Open};
use assent_runtime::{Clock, Health, Ids, Lifecycle, ServiceConfig, SystemClock, SystemIds};
use assent_sealing::{FileKek, IndexKeys, KeyState, KeyStore};
use assent_tests::cluster::until;
use assent_tests::harness;
use axum::Router;
use axum::routing::post;

use super::{TERMS, api_keys, code, command, consent, listen, number, row, vault};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_races_an_erasure_leaves_no_surviving_key() {
    let vault = Arc::new(vault().await);
    for round in 0..5 {
        let subject = vault.register(&number(round)).await;
        let over = Arc::new(AtomicBool::new(false));
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let (vault, over) = (Arc::clone(&vault), Arc::clone(&over));
                tokio::spawn(async move {
                    let mut served = 0;
                    while !over.load(Ordering::SeqCst) {
                        let got = match racer % 3 {
                            0 => vault.lease(subject).await.is_some(),
                            1 => vault.resolve(subject).await.is_some(),
                            // The lowest way in: a key is asked for as if it had never been.
                            _ => {
                                let state = vault.app.keys.mint(&[subject]).await.unwrap().pop();
                                state.and_then(KeyState::live).is_some()
                            }
                        };
                        served += usize::from(got);
                    }
                    served
                })
            })
            .collect();
        vault.erase(subject).await;
        over.store(true, Ordering::SeqCst);
        let mut served = 0;
        for racer in racers {
            served += racer.await.unwrap();
        }
        assert!(served > 0, "the race took place");
        assert_eq!(vault.app.keys.count_live(&[subject]).await.unwrap(), 0);
        assert_eq!(vault.lease(subject).await, None);
        assert_eq!(vault.resolve(subject).await, None);
        assert_eq!(code(vault.seal(subject, "late").await), Some(Code::SubjectErased));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_at_the_same_command_do_it_once_and_tell_the_same() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    for (step, kind) in
        [(Step::Fence, "tombstones"), (Step::Delete, "people"), (Step::DestroyKeys, "keys")]
    {
        let command = vault.heard(subject, step).await;
        let mut replicas = tokio::task::JoinSet::new();
        for _ in 0..6 {
            let (replica, command) = (vault.replica(), command.clone());
            replicas.spawn(async move { replica.carry_out(&command).await });
        }
        let mut told = Vec::new();
        for answer in replicas.join_all().await {
            match answer {
                Ok(evidence) => told.push(evidence),
                // It will look again.
                Err(Open::Elsewhere) => {}
                Err(error) => panic!("{step:?}: {error}"),
            }
        }
        told.push(vault.replica().carry_out(&command).await.unwrap());
        assert!(told.len() > 1, "one at least was told by who did it");
        assert_eq!(told[0].counts[kind], 1, "{step:?}");
        assert!(told.iter().all(|evidence| *evidence == told[0]), "{told:?}");
    }
    let events = vault.app.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.len(), 2, "registered and erased, each once");
}

#[tokio::test]
async fn fences_refuse_keys_and_addresses_before_anything_is_deleted() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    vault.step(subject, Step::Fence).await;
    assert_eq!(vault.lease(subject).await, None);
    assert_eq!(vault.resolve(subject).await, None);
    assert_eq!(code(vault.seal(subject, "late").await), Some(Code::SubjectErased));
    let again = vault.import(Origin::Import, vec![row("+33600000001")]).await;
    assert_eq!(again, [ImportOutcome::Refused { reason: "erased".into() }]);
}

#[tokio::test]
async fn a_shredder_that_does_nothing_is_found_by_the_sweep() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    let left = vault.step(subject, Step::Sweep).await;
    for kind in ["people", "addresses", "keys", "unfenced"] {
        assert_eq!(left[kind], 1, "{kind}");
    }
    vault.step(subject, Step::Fence).await;
    assert_eq!(vault.step(subject, Step::Sweep).await["people"], 1);
    vault.step(subject, Step::Delete).await;
    let left = vault.step(subject, Step::Sweep).await;
    assert_eq!((left["people"], left["addresses"], left["keys"]), (0, 0, 1));
    vault.step(subject, Step::DestroyKeys).await;
    assert!(vault.step(subject, Step::Sweep).await.values().all(|count| *count == 0));
    let stops = vault.stops.lock().unwrap().clone();
    assert_eq!(stops.last().unwrap()["kind"], "erased");
    let events = vault.app.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.last().unwrap().event_type, assent_contracts::vault::SUBJECT_ERASED);
    // Repeating the whole changes nothing.
    vault.erase(subject).await;
    assert_eq!(vault.app.store.load(subject, 0, 10).await.unwrap().len(), events.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vault_answers_the_sagas_commands_over_kafka_and_answers_a_repeat_alike() {
    let bus = BusConfig::new(harness::kafka(), harness::topic_prefix());
    ensure_topics(&bus, &[VAULT_EVENTS, ERASURE_COMMANDS]).await.unwrap();
    let consent_url = consent().await.url;
    let acks: Arc<Mutex<Vec<Ack>>> = Arc::default();
    let noted = Arc::clone(&acks);
    let erasure_url = listen(Router::new().route(
        "/v1/requests/{id}/acks",
        post(move |axum::Json(ack): axum::Json<Ack>| async move {
            noted.lock().unwrap().push(ack);
            axum::http::StatusCode::NO_CONTENT
        }),
    ))
    .await;

    let folder = std::env::temp_dir().join(harness::unique("vault"));
    std::fs::create_dir(&folder).unwrap();
    FileKek::generate(&folder.join("kek"), &SystemIds).unwrap();
    IndexKeys::generate(&SystemIds).write(&folder.join("index.toml")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let databases =
        [harness::database_url("vault").await, harness::database_url("vault_keys").await];
    let migrators = [Vec::from(assent_vault::migrators()), vec![KeyStore::migrator()]];
    for (url, migrators) in databases.iter().zip(migrators) {
        let pool = assent_vault::pool(url, 1).await.unwrap();
        schema::migrate(&pool, migrators).await.unwrap();
        pool.close().await;
    }
    let [database_url, keys_database_url] = databases;
    let config = assent_vault::Config {
        access_record_days: 1095,
        keeping: Keeping::default(),
        service: ServiceConfig {
            listen: address,
            ops_listen: address,
            database_url: database_url.into(),
            database_connections: 8,
            requests_max: 4096,
            token: "t".to_owned().into(),
        },
        keys_database_url: keys_database_url.into(),
        kek: assent_sealing::KekConfig::file(folder.join("kek")),
        index_keys_file: folder.join("index.toml"),
        bus: bus.clone(),
        keys: api_keys(),
        terms: TERMS,
        screening_rows_per_hour: 5_000_000,
        consent_url,
        erasure_url,
    };
    let (health, lifecycle) = (Health::new(), Lifecycle::new());
    assent_vault::serve(config, listener, health.clone(), lifecycle.clone()).await.unwrap();
    until("the vault is ready", async || health.unready().await.is_empty()).await;

    let client =
        ServiceClient::new(&format!("http://{address}"), &"all".to_owned().into()).unwrap();
    let request =
        ImportRequest { origin: Origin::Import, acted_at: None, rows: vec![row("+33600000001")] };
    let answer: ImportResponse = client.post("/v1/subjects/import", &request, None).await.unwrap();
    let ImportOutcome::Created { subject_id } = answer.outcomes[0] else { panic!() };

    let producer = Producer::new(&bus).unwrap();
    let delete = command(subject_id, Step::Delete);
    for command in [
        command(subject_id, Step::Fence),
        delete.clone(),
        delete.clone(),
        command(subject_id, Step::DestroyKeys),
        command(subject_id, Step::Sweep),
    ] {
        let before = acks.lock().unwrap().len();
        let payload = serde_json::to_vec(&command).unwrap();
        let record = assent_bus::producer::Record {
            topic: ERASURE_COMMANDS.suffix,
            key: subject_id,
            sequence: None,
            event_sequence: None,
            id: SystemIds.v7(),
            event_type: COMMAND,
            time: SystemClock.now(),
            traceparent: None,
            payload: Some(&payload),
        };
        for sent in producer.send(&[record]).await {
            sent.unwrap();
        }
        until(&format!("{:?} is answered", command.step), async || {
            acks.lock().unwrap().len() > before
        })
        .await;
    }
    let acks = acks.lock().unwrap().clone();
    let steps: Vec<Step> = acks.iter().map(|ack| ack.step).collect();
    assert_eq!(steps, [Step::Fence, Step::Delete, Step::Delete, Step::DestroyKeys, Step::Sweep]);
    assert_eq!(acks[1].evidence.counts["people"], 1);
    assert_eq!(acks[1].evidence.counts, acks[2].evidence.counts, "a repeat answers alike");
    assert_eq!(acks[1].evidence.digest, acks[2].evidence.digest);
    assert!(acks[4].evidence.counts.values().all(|count| *count == 0));
    let topic = bus.topic_name(&ERASURE_COMMANDS);
    assert!(acks[4].evidence.positions[&topic].values().sum::<i64>() >= 4, "what it had consumed");
    lifecycle.stop_and_wait(Duration::from_secs(10)).await;
    std::fs::remove_dir_all(&folder).unwrap();
}
