//! What stands before the first race and is waited for after the last: people, their consents, and parked messages of
//! some. It guarantees that every person may be messaged where a message is to race, and that what is parked was
//! parked by the consumer itself.

use assent_tests::cluster::person::Person as Somebody;
use assent_tests::cluster::{Cluster, TEMPLATE, until};
use assent_tests::soak::dice::Dice;
use assent_tests::soak::history::Person;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::course::{Call, Kind, Race, When, call};

/// What everybody is called.
pub const NAME: &str = "Ada Racing";
/// Who is never erased: a look that finds nothing of theirs is blind.
const WITNESSES: usize = 2;
/// Refuses what a read model is given while it stands.
const REFUSES: &str = "projector.refuse=error";

/// The races, and who only watches.
pub struct Stage {
    pub races: Vec<Race>,
    pub witnesses: Vec<Person>,
}

impl Stage {
    /// So many races of this seed, of each kind in turn.
    pub async fn set(cluster: &Cluster, seed: u64, races: usize) -> Self {
        let people: Vec<Somebody> = (0..races + WITNESSES).map(|_| Somebody::somebody()).collect();
        let subjects = import(cluster, &people).await;
        let mut all: Vec<(Somebody, String)> = people.into_iter().zip(subjects).collect();
        let witnesses = all.split_off(races);
        let races = all.into_iter().enumerate().map(|(n, who)| race(seed, n, who));
        let mut races: Vec<Race> = races.collect();
        park(cluster, &mut races).await;
        let granted = races.iter().filter(|it| it.kind != Kind::Replay && !is_grant(it));
        let granted: Vec<String> = granted.map(|it| it.subject.clone()).collect();
        for subject in granted.iter().chain(witnesses.iter().map(|(_, subject)| subject)) {
            grant(cluster, subject).await;
        }
        // The gate knows where they are found.
        let linked = "count(DISTINCT subject_id) FROM gate_links WHERE subject_id::text = ANY($1)";
        reaches(cluster, "consent", linked, &granted).await;
        let witnesses = witnesses.into_iter().map(|(person, subject)| {
            let acts = Vec::new();
            Person { phone: person.phone, subject, acts }
        });
        Self { races, witnesses: witnesses.collect() }
    }

    /// Waits until nothing is under way any more.
    pub async fn rests(&self, cluster: &Cluster) {
        const UNDER_WAY: [(&str, &str); 8] = [
            ("consent", "eventstore.outbox"),
            ("consent", "standing_due"),
            ("erasure", "eventstore.outbox"),
            ("vault", "eventstore.outbox"),
            ("messaging", "webhook_bodies WHERE parked IS NULL"),
            ("messaging", "declarations WHERE settled_at IS NULL"),
            ("messaging", "intents WHERE state IN ('queued', 'claimed', 'calling')"),
            ("messaging", "eventstore.outbox"),
        ];
        for (database, what) in UNDER_WAY {
            let pool = cluster.pool(database).await;
            until(&format!("{database} has none of {what}"), async || {
                let statement = AssertSqlSafe(format!("SELECT count(*) FROM {what}"));
                sqlx::query_scalar::<_, i64>(statement).fetch_one(&pool).await.unwrap() == 0
            })
            .await;
        }
        until("the read models have everything", async || {
            let (_, answer) = cluster.get("projector", "/v1/projections").await;
            let items = answer["items"].as_array().cloned().unwrap_or_default();
            !items.is_empty() && items.iter().all(|it| it["lag"] == 0)
        })
        .await;
    }
}

/// The race of this number.
fn race(seed: u64, n: usize, (person, subject): (Somebody, String)) -> Race {
    let mut dice = Dice::new(seed + n as u64, "race");
    let kinds = Kind::ALL.len();
    let (kind, round) = (Kind::ALL[n % kinds], n / kinds);
    let when = When::ALL[(n % kinds + round) % When::ALL.len()];
    let says_start = kind == Kind::Webhook && dice.percent(50);
    let call = match kind {
        Kind::Append if dice.percent(50) => consent("withdraw", &subject),
        Kind::Append => consent("grant", &subject),
        Kind::Import => Call {
            service: "vault",
            path: "/v1/subjects/import".to_owned(),
            body: json!({"origin": "import", "rows": [
                {"phone": person.phone, "name": format!("{NAME} again")}]}),
        },
        Kind::Webhook => {
            let text = if says_start { "START" } else { "when do you open?" };
            let body = json!({"from": person.phone, "text": text});
            Call { service: "whatsapp-sim", path: "/_sim/inbound".to_owned(), body }
        }
        Kind::Send => Call {
            service: "messaging",
            path: "/v1/messages".to_owned(),
            body: json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
                "template": TEMPLATE, "parameters": []}),
        },
        Kind::Rebuild => {
            let projection = dice.one_of(&["contacts", "consents", "messages"]);
            Call {
                service: "projector",
                path: format!("/v1/projections/{projection}/rebuild"),
                // Between her fence and her deletion the live one holds rows that a new one doesn't.
                body: json!({"accept_differences": true}),
            }
        }
        // Which message, it says once it is parked.
        Kind::Replay => Call { service: "projector", path: String::new(), body: json!({}) },
    };
    let ahead = dice.percent(50);
    Race { kind, when, ahead, person, subject, says_start, call, dice }
}

fn consent(what: &str, subject: &str) -> Call {
    Call {
        service: "consent",
        path: format!("/v1/consents/{what}"),
        body: json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp",
            "actor": "operator", "method": "api"}),
    }
}

fn is_grant(race: &Race) -> bool {
    race.call.path.ends_with("/grant")
}

/// Brings them in, each under her number and one name, and gives their ids.
async fn import(cluster: &Cluster, people: &[Somebody]) -> Vec<String> {
    let rows: Vec<Value> =
        people.iter().map(|it| json!({"phone": it.phone, "name": NAME})).collect();
    let body = json!({"origin": "import", "rows": rows});
    let (status, answer) =
        call(&cluster.client(), "vault", "/v1/subjects/import", &body, None).await;
    assert_eq!(status, 200, "{answer}");
    let outcomes = answer["outcomes"].as_array().expect("an outcome for each");
    let created = outcomes.iter().map(|it| {
        assert_eq!(it["outcome"], "created", "{it}");
        it["subject_id"].as_str().expect("an id").to_owned()
    });
    let subjects: Vec<String> = created.collect();
    let shown = "count(*) FROM live.contacts WHERE subject_id::text = ANY($1)";
    reaches(cluster, "projector", shown, &subjects).await;
    subjects
}

async fn grant(cluster: &Cluster, subject: &str) {
    let Call { service, path, body } = consent("grant", subject);
    let (status, answer) = call(&cluster.client(), service, &path, &body, None).await;
    assert_eq!(status, 200, "{answer}");
}

/// The consents of those whose replays race: refused by the read model, so that its consumer parks them. Their calls
/// name what is parked.
async fn park(cluster: &Cluster, races: &mut [Race]) {
    let failpoints = cluster.failpoints("projector");
    failpoints.set(REFUSES);
    let parked = races.iter().filter(|it| it.kind == Kind::Replay);
    let parked: Vec<String> = parked.map(|it| it.subject.clone()).collect();
    for subject in &parked {
        grant(cluster, subject).await;
    }
    let waiting = "count(DISTINCT key) FROM eventstore.parked
        WHERE consumer = 'projector.consents' AND key::text = ANY($1)";
    reaches(cluster, "projector", waiting, &parked).await;
    failpoints.clear();
    let path = "/v1/parked?consumer=projector.consents&limit=500";
    let (status, listed) = cluster.get("projector", path).await;
    assert_eq!(status, 200, "{listed}");
    let items = listed["items"].as_array().expect("a list");
    for race in races.iter_mut().filter(|it| it.kind == Kind::Replay) {
        let hers = items.iter().find(|it| it["key"] == race.subject.as_str());
        let id = hers.and_then(|it| it["id"].as_str()).expect("hers is parked");
        race.call.path = format!("/v1/parked/{id}/replay");
    }
}

/// Waits until so many of these people are counted as they are.
async fn reaches(cluster: &Cluster, database: &str, what: &str, subjects: &[String]) {
    let pool = cluster.pool(database).await;
    until(&format!("{database}: {} are {what}", subjects.len()), async || {
        let statement = AssertSqlSafe(format!("SELECT {what}"));
        let count = sqlx::query_scalar::<_, i64>(statement).bind(subjects).fetch_one(&pool).await;
        count.unwrap() == subjects.len() as i64
    })
    .await;
}
