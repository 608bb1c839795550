//! Two replicas of each service: one killed in mid-flow loses nothing and sends nothing twice, and
//! its partitions are taken over. Three: they share the work, and one that is frozen does no harm.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::topics::{CONSENT_EVENTS, MESSAGING_EVENTS};
use assent_runtime::{Clock as _, Ids as _, SystemClock, SystemIds};
use serde_json::Value;

use super::durability::{GRANT, grant};
use super::withdrawal::bodies_after;
use assent_tests::cluster::faults::Failpoints;
use assent_tests::cluster::until;
use assent_tests::cluster::{Cluster, SERVICES, Wishes};
use assent_tests::topics::{everything, followed};

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_of_each_killed_in_mid_flow_loses_nothing_and_sends_nothing_twice() {
    let mut cluster = Cluster::with(Wishes {
        only: vec!["gateway", "consent", "vault", "messaging", "projector"],
        replicated: vec!["consent", "messaging", "projector"],
        settings: vec![
            ("messaging", "sends_per_second = 20"),
            ("messaging", "whatsapp_timeout_ms = 5000"),
            ("messaging", "claim_ms = 10000"),
        ],
        ..Wishes::default()
    })
    .await;
    let (person, subject) = cluster.willing().await;
    // The first messaging process dies with calls marked and not made.
    let failpoints = cluster.failpoints("messaging");
    failpoints.set("messaging.before_call=kill*2");
    let mut messages = Vec::new();
    for _ in 0..40 {
        messages.push(cluster.queue_somewhere(&subject).await);
    }
    cluster.process("messaging").died_of_sigkill().await;
    assert_eq!(failpoints.struck("messaging.before_call").len(), 1);
    cluster.kill("consent");
    cluster.kill("projector");

    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in &messages {
        let mut view = Value::Null;
        until("it is settled", async || {
            // The balancer may not have noticed yet who is dead.
            let path = format!("/v1/messages/{message}?wait_ms=20000");
            let answer = cluster.try_get("messaging", &path).await;
            view = answer.map_or(Value::Null, |(_, view)| view);
            !matches!(view["state"].as_str(), None | Some("queued" | "claimed" | "calling"))
        })
        .await;
        let state = view["state"].as_str().unwrap().to_owned();
        states.entry(state).or_default().push(message.clone());
    }
    let counts: BTreeMap<_, _> =
        states.iter().map(|(state, of)| (state.clone(), of.len())).collect();
    // Accepted ones were sent once; those that hung in the dead process are uncertain, never repeated.
    let mut bodies: BTreeMap<String, usize> = BTreeMap::new();
    for call in cluster.delivered_to(&person).await {
        *bodies.entry(call["callback_data"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(bodies.values().all(|times| *times == 1), "sent twice: {bodies:?}");
    let accepted = states.remove("accepted").unwrap_or_default();
    assert!(accepted.iter().all(|message| bodies.contains_key(message)), "{counts:?}");
    assert!(!accepted.is_empty() && states.keys().all(|state| state == "uncertain"), "{counts:?}");
    assert!(states.contains_key("uncertain"), "calls hung in the dead process: {counts:?}");

    // The surviving replicas took over: everything is in Kafka in order, and in the read model.
    until("the read model has every message", async || {
        let (_, page) = cluster
            .get("projector-2", &format!("/v1/messages?subject_id={subject}&limit=100"))
            .await;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        let done =
            |item: &&Value| matches!(item["status"].as_str(), Some("delivered" | "uncertain"));
        items.iter().filter(done).count() == messages.len()
    })
    .await;
    assert_eq!(cluster.withdraw(&person).status, 0, "the other consent service answers");
    for (database, topic) in [("consent", CONSENT_EVENTS), ("messaging", MESSAGING_EVENTS)] {
        let pool = cluster.pool(database).await;
        let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM eventstore.events")
            .fetch_one(&pool)
            .await
            .unwrap();
        until("the other relay published everything", async || {
            let followed = followed(&everything(&cluster, topic).await);
            followed.values().map(|ids| ids.len() as i64).sum::<i64>() >= stored
        })
        .await;
    }
}

/// One replica of messaging freezes with permits in its hands, one projector with its partitions. The others go on
/// without them; thawed after her withdrawal, they send nothing and write nothing that is over.
#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_share_the_work_and_those_that_freeze_do_no_harm() {
    const HELD: &str = "messaging.after_permit";
    const MARKED: &str = "messaging.before_call";
    let mut cluster = Cluster::with(Wishes {
        replicated: SERVICES.iter().flat_map(|service| [*service; 2]).collect(),
        // Batches of ten, one at a time in each process.
        settings: vec![
            ("messaging", "sends_per_second = 20"),
            ("messaging", "send_batches = 1"),
            ("messaging", "whatsapp_timeout_ms = 5000"),
            ("messaging", "claim_ms = 10000"),
        ],
        ..Wishes::default()
    })
    .await;
    let replicas =
        |service: &str| [service.to_owned(), format!("{service}-2"), format!("{service}-3")];
    until("each projector has partitions, and each partition one projector", async || {
        let owned = replicas("projector").map(|name| taken_over(&cluster, &name));
        owned.iter().all(|count| *count > 0) && owned.iter().sum::<usize>() == PARTITIONS
    })
    .await;
    let (person, subject) = cluster.willing().await;
    let failpoints = replicas("messaging").map(|name| cluster.failpoints(&name));
    failpoints.iter().for_each(|of_one| of_one.set(&format!("{HELD}=hold")));
    let mut messages = Vec::new();
    for _ in 0..36 {
        messages.push(cluster.queue(&subject).await);
    }
    for of_one in &failpoints {
        of_one.strikes(HELD).await;
    }
    failpoints[2].set(&format!("{MARKED}=stop"));
    let struck = failpoints[2].strikes(MARKED).await;
    assert_eq!(struck.pid, cluster.process("messaging-3").pid());
    cluster.signal("projector-3", libc::SIGSTOP);
    failpoints[..2].iter().for_each(Failpoints::clear);

    // What the frozen one has marked is nobody else's to send; everything else is sent without it.
    let sending = cluster.pool("messaging").await;
    let count = async |states: &[&str]| -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM intents WHERE state = ANY($1)")
            .bind(states.iter().map(ToString::to_string).collect::<Vec<String>>())
            .fetch_one(&sending)
            .await
            .unwrap()
    };
    until("nothing waits for the frozen one", async || {
        count(&["queued", "claimed"]).await == 0 && count(&["accepted"]).await > 0
    })
    .await;
    assert!(count(&["calling", "uncertain"]).await > 0, "it has permits in its hands");
    assert!(cluster.process("messaging-3").is_frozen());

    assert_eq!(cluster.withdraw(&person).status, 0);
    let acknowledged = SystemClock.boottime();
    let read_model = cluster.pool("projector").await;
    until("the read models go on without the frozen one", async || {
        let withdrawn =
            "SELECT EXISTS (SELECT FROM live.consents, jsonb_array_elements(consents) AS line
                         WHERE subject_id = $1::uuid AND line->>'state' = 'withdrawn')";
        sqlx::query_scalar::<_, bool>(withdrawn)
            .bind(&subject)
            .fetch_one(&read_model)
            .await
            .unwrap()
    })
    .await;
    assert!(cluster.process("projector-3").is_frozen());
    until("the others have its partitions", async || {
        taken_over(&cluster, "projector") + taken_over(&cluster, "projector-2") == PARTITIONS
    })
    .await;
    failpoints[2].clear();
    cluster.process("messaging-3").thaw();
    cluster.process("projector-3").thaw();

    let mut accepted = BTreeSet::new();
    for message in &messages {
        let view = cluster.settled(message).await;
        match view["state"].as_str() {
            Some("accepted") => {
                accepted.insert(message.clone());
            }
            Some("refused" | "uncertain") => {}
            // Its permit ran out while the failpoint held it.
            Some("failed") if view["reasons"][0] == "lease_expired" => {}
            _ => panic!("{view}"),
        }
    }
    assert_eq!(bodies_after(&cluster, &person, acknowledged).await, 0);
    let mut bodies: Vec<String> = Vec::new();
    for call in cluster.delivered_to(&person).await {
        bodies.push(call["callback_data"].as_str().unwrap().to_owned());
    }
    let once: BTreeSet<String> = bodies.iter().cloned().collect();
    assert_eq!(once.len(), bodies.len(), "sent twice: {bodies:?}");
    assert_eq!(once, accepted, "each body was accepted, and what had none wasn't");
    until("the thawed projector is a member again", async || {
        let owned = replicas("projector").map(|name| taken_over(&cluster, &name));
        owned.iter().all(|count| *count > 0) && owned.iter().sum::<usize>() == PARTITIONS
    })
    .await;
    cluster.rebuilt_the_same("consents");
    the_doors_keep_nothing(&mut cluster).await;
    // All fifteen that keep something take part in forgetting her, asked through the one gateway that is left.
    let erase = ["erase", &person.phone, "--checked", "called_back", "--wait"];
    let erased = cluster.assent(&erase);
    assert_eq!(erased.json["status"], "completed", "{}", erased.text);
}

/// A page that was begun at a console that is dead since goes on at another one; two of three gateways die.
async fn the_doors_keep_nothing(cluster: &mut Cluster) {
    let (person, _) = cluster.willing().await;
    let link = cluster.assent(&["preferences", "link", &person.phone]);
    let token = link.json["token"].as_str().expect("a link").to_owned();
    let mut browser = cluster.browser_at("console-2");
    browser.open(&format!("/p/{token}")).await.press("Show my settings").await;
    cluster.kill("console-2");
    browser.goes_on_at(cluster, "console-3");
    assert_eq!(cluster.hears(&person, &browser.prepared()).await, 200);
    until("her page opens at the other console", async || {
        browser.press("I have sent it").await;
        browser.page.contains("Your settings")
    })
    .await;
    browser.press("No, I don’t").await;
    assert!(browser.page.contains("You withdrew your consent on"), "{}", browser.page);
    cluster.kill("gateway");
    cluster.kill("gateway-2");
}

const FOLLOWER: &str = "projector.consents";
const PARTITIONS: usize = CONSENT_EVENTS.partitions as usize;

/// The session of the dead is over by Assent's setting: Kafka's own default would outlast `until`.
#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_killed_projector_are_taken_over_by_the_other() {
    let mut cluster = Cluster::with(Wishes {
        replicated: vec!["projector"],
        only: vec!["consent", "projector"],
        ..Wishes::default()
    })
    .await;
    // Both have some: neither alone has all.
    let mut owned = 0;
    until("the partitions are shared", async || {
        owned = taken_over(&cluster, "projector");
        let others = taken_over(&cluster, "projector-2");
        owned > 0 && others > 0 && owned + others == PARTITIONS
    })
    .await;
    let read_model = cluster.pool("projector").await;
    until("every partition is read", async || {
        grant_some(&cluster).await;
        let positions = positions(&read_model).await;
        positions.len() == PARTITIONS && positions.values().all(|position| *position > 0)
    })
    .await;
    // Nothing is in flight: what moves from here on, somebody alive has moved.
    let ledger = cluster.pool("consent").await;
    until("everything is read", async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM eventstore.outbox")
            .fetch_one(&ledger)
            .await
            .unwrap();
        let ends = assent_bus::end_offsets(&cluster.bus, CONSENT_EVENTS).await.unwrap();
        waiting == 0 && positions(&read_model).await == ends
    })
    .await;

    cluster.kill("projector");
    let left = positions(&read_model).await;
    let mut moved: BTreeSet<i32> = BTreeSet::new();
    let mut early: BTreeSet<i32> = BTreeSet::new();
    let go_on = until("every partition goes on", async || {
        // The log after the positions: a replica says what it takes over before it reads there.
        let now = positions(&read_model).await;
        let all_are_hers = taken_over(&cluster, "projector-2") == PARTITIONS;
        moved.extend(now.iter().filter(|(it, next)| **next > left[it]).map(|(it, _)| *it));
        if !all_are_hers {
            early.clone_from(&moved);
        }
        moved.len() == PARTITIONS
    });
    let grant_on = async {
        loop {
            grant_some(&cluster).await;
        }
    };
    tokio::select! {
        () = go_on => {}
        () = grant_on => {}
    }
    // The fault was one: what the dead replica had stood still until it was taken over.
    assert!(early.len() <= PARTITIONS - owned, "{owned} were the dead one's, moved: {early:?}");
    assert_eq!(taken_over(&cluster, "projector-2"), PARTITIONS);
}

async fn grant_some(cluster: &Cluster) {
    for _ in 0..8 {
        let subject = SystemIds.v4().to_string();
        let (status, answer) =
            cluster.post("consent", GRANT, &grant(&subject), Some(&subject)).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// How many partitions a replica took over last, as it says in its log.
fn taken_over(cluster: &Cluster, name: &str) -> usize {
    let log = std::fs::read_to_string(cluster.log(name)).unwrap_or_default();
    let said = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let hers = line["message"] == "partitions taken over" && line["consumer"] == FOLLOWER;
        hers.then(|| line["partitions"].as_u64().unwrap_or_default() as usize)
    };
    log.lines().rev().find_map(said).unwrap_or_default()
}

async fn positions(read_model: &sqlx::PgPool) -> BTreeMap<i32, i64> {
    sqlx::query_as(
        "SELECT partition, next_offset FROM eventstore.consumer_offsets WHERE consumer = $1",
    )
    .bind(FOLLOWER)
    .fetch_all(read_model)
    .await
    .unwrap()
    .into_iter()
    .collect()
}
