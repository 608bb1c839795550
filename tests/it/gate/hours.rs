//! Quiet hours: by the clock where a number was issued, in the gate and in the person's stream, and by
//! the engine that knows of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use assent_bus::{Received, Subscriber as _};
use assent_consent::domain::policy::RULES_STREAM;
use assent_consent::links::Links;
use assent_contracts::SubjectId;
use assent_contracts::api::consent::{StopKind, Verdict};
use assent_contracts::consent::{RULES_LOADED, RulesLoaded, STANDING_CHANGED};
use assent_contracts::policy::Quiet;
use assent_contracts::topics::CONSENT_EVENTS;
use assent_contracts::vault::{Origin, SUBJECT_REGISTERED, SubjectRegistered};
use assent_eventstore::{Append, Expected, NewEvent};
use assent_rules::RuleSet;
use assent_tests::cluster::until;
use jiff::Timestamp;
use jiff::civil::time;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::world::{World, ticking, tokens, world_at};

/// In the afternoon in Paris, at night in Tokyo.
const AFTERNOON: &str = "2026-11-26T13:00:00Z";

impl World {
    /// From now on nobody gets advertisements at night.
    async fn quiet_nights(&self) {
        self.change_policy(|policy| {
            let marketing = policy.purposes.get_mut("marketing").unwrap();
            marketing.quiet = Some(Quiet {
                from: time(21, 0, 0, 0),
                until: time(8, 0, 0, 0),
                days: Vec::new(),
                holidays: BTreeMap::new(),
                otherwise: "Europe/Paris".to_owned(),
            });
        })
        .await;
    }

    fn issued_in(&self, subject: SubjectId, address: u16, region: &str) -> Received {
        let data = SubjectRegistered {
            addresses: tokens(&[address]),
            region: Some(region.to_owned()),
            fields: vec!["phone".to_owned()],
            origin: Origin::Import,
            at: self.clock.now(),
        };
        self.vault_event(subject, SUBJECT_REGISTERED, &data)
    }

    async fn regions(&self, subject: SubjectId) -> Vec<Vec<String>> {
        self.standings(subject).await.into_iter().map(|it| it.regions).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_written_to_at_night_where_her_number_is_from() {
    let world = world_at(ticking(AFTERNOON)).await;
    world.quiet_nights().await;
    let (french, japanese) = (world.ids.v4(), world.ids.v4());
    let events = [world.issued_in(french, 1, "FR"), world.issued_in(japanese, 2, "JP")];
    world.hear(&events).await;
    let unknown = world.consenting(3).await;
    for subject in [french, japanese] {
        world.grant(subject).await.unwrap();
    }
    assert_eq!(world.reasons(french, &[1]).await, ["consent_given"]);
    assert_eq!(world.reasons(unknown, &[3]).await, ["consent_given"]);
    let permit = world.permits(vec![world.ask(japanese, &[2])]).await.remove(0);
    assert_eq!(permit.verdict.reasons, ["quiet_hours"]);
    let morning: Timestamp = "2026-11-26T23:00:00Z".parse().unwrap();
    assert_eq!(permit.verdict.quiet_until, Some(morning));
    assert_eq!(permit.verdict.rules, "hours-2");
    assert_eq!(world.verdict(japanese).await.reasons, ["quiet_hours"]);

    // What the gate knows comes into her stream, so that it can be asked about later.
    world.stand(&[french, japanese, unknown]).await;
    assert_eq!(world.regions(japanese).await, [["JP"]]);
    assert_eq!(world.regions(unknown).await, Vec::<Vec<String>>::new());
    world.policies.rules_loaded(&RuleSet::shipped().unwrap()).await.unwrap();
    let now = world.clock.now();
    assert_eq!(world.as_of(japanese, now).await.reasons, ["quiet_hours"]);
    assert_eq!(world.as_of(french, now).await.reasons, ["consent_given"]);
    // A second number, in a country where it is day: the night of the first one counts.
    world.hear(&[world.issued_in(japanese, 4, "FR")]).await;
    world.stand(&[]).await;
    assert_eq!(world.regions(japanese).await, [vec!["JP"], vec!["FR", "JP"]]);
    assert_eq!(world.reasons(japanese, &[4]).await, ["quiet_hours"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_country_that_is_told_later_comes_into_the_stream_of_who_spoke_before() {
    let world = world_at(ticking(AFTERNOON)).await;
    let before = world.ids.v4();
    world.grant(before).await.unwrap();
    let linked = world.consenting(2).await;
    let silent = world.ids.v4();
    world.stand(&[before, linked]).await;
    let events = [
        world.issued_in(before, 1, "JP"),
        world.issued_in(linked, 2, "JP"),
        world.issued_in(silent, 3, "JP"),
    ];
    world.hear(&events).await;
    world.stand(&[]).await;
    assert_eq!(world.regions(before).await, [["JP"]]);
    assert_eq!(world.regions(linked).await, [["JP"]]);
    assert!(world.regions(silent).await.is_empty(), "who said nothing has no stream");
    // Told again, it is no news.
    world.hear(&events).await;
    let marks = sqlx::query_scalar("SELECT count(*) FROM standing_due");
    assert_eq!(marks.fetch_one(&world.pool).await.ok(), Some(0_i64));
    // A version that knows no countries writes what stands against her without them.
    let mut old = world.standings(before).await.remove(0);
    (old.regions, old.effective_at, old.at) = (Vec::new(), world.clock.now(), world.clock.now());
    let data = to_raw_value(&old).unwrap();
    let event = NewEvent { id: world.ids.v7(), event_type: STANDING_CHANGED, data };
    let append = Append::new(before, Expected::Any, CONSENT_EVENTS, vec![event], old.at);
    world.store.append(append).await.unwrap();
    world.stand(&[before]).await;
    assert_eq!(world.regions(before).await, [vec!["JP"], vec![], vec!["JP"]]);
}

/// She agrees while her number is being linked: neither transaction sees the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_being_written_while_she_agrees_is_waited_for() {
    let world = Arc::new(world_at(ticking(AFTERNOON)).await);
    let subject = world.ids.v4();
    let registered = world.issued_in(subject, 1, "JP");
    let mut linking = world.pool.begin().await.unwrap();
    let links = Links { clock: world.clock.clone() };
    links.apply(&mut linking, &[registered]).await.unwrap();
    world.grant(subject).await.unwrap();
    let keeping = Arc::clone(&world);
    let keeper = tokio::spawn(async move { keeping.stand(&[subject]).await });
    until("the keeper waits for the link", async || {
        let waiting = sqlx::query_scalar(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        );
        waiting.fetch_one(&world.pool).await.ok() == Some(1_i64)
    })
    .await;
    linking.commit().await.unwrap();
    keeper.await.unwrap();
    assert_eq!(world.regions(subject).await, [["JP"]]);
}

/// A stop that came before the country was brought into the stream: each has a date of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_country_holds_from_when_it_was_known_whatever_else_is_brought_with_it() {
    let world = world_at(ticking(AFTERNOON)).await;
    world.quiet_nights().await;
    world.policies.rules_loaded(&RuleSet::shipped().unwrap()).await.unwrap();
    let japanese = world.ids.v4();
    world.hear(&[world.issued_in(japanese, 1, "JP")]).await;
    world.grant(japanese).await.unwrap();
    let between = world.clock.now();
    assert_eq!(world.reasons(japanese, &[1]).await, ["quiet_hours"]);
    until("the clock goes on", async || world.clock.now() > between).await;
    world.stop(&[1], StopKind::Stopped).await;
    world.stand(&[japanese]).await;
    assert_eq!(world.as_of(japanese, between).await.reasons, ["quiet_hours"]);
    let now = world.as_of(japanese, world.clock.now()).await;
    assert_eq!(now.reasons, ["consent_withdrawn", "quiet_hours", "stopped"]);
}

/// Who may not know of a suppression sees the same of her by day and by night: what she would see of
/// somebody who never agreed.
#[tokio::test(flavor = "multi_thread")]
async fn the_hour_tells_nobody_that_a_number_is_suppressed() {
    let clock = ticking("2026-11-26T03:00:00Z");
    let world = world_at(clock.clone()).await;
    world.quiet_nights().await;
    // Suppressed before it was known to be hers.
    let subject = world.ids.v4();
    world.grant(subject).await.unwrap();
    world.stop(&[1], StopKind::Suppressed).await;
    world.link(subject, &[1]).await;
    assert_eq!(world.verdict(subject).await.reasons, ["quiet_hours", "suppressed"]);
    for _ in ["at night", "by day"] {
        let request = json!({"subject_id": subject, "purpose": "marketing", "channel": "whatsapp"});
        let seen: Verdict = world.operator.post("/v1/verdict", &request, None).await.unwrap();
        assert_eq!((seen.reasons, seen.evidence), (vec!["no_consent".to_owned()], Vec::new()));
        clock.advance(Duration::from_secs(9 * 3_600));
    }
}

/// G3: what an engine said of its days stays so when another one has come.
#[tokio::test(flavor = "multi_thread")]
async fn g3_an_engine_is_adopted_at_a_moment_and_answers_about_the_days_before_stay_the_same() {
    let world = world_at(ticking(AFTERNOON)).await;
    let rules = RuleSet::shipped().unwrap();
    // As a version left it that had one engine.
    let loaded = RulesLoaded { rule_set: rules.hash(), engine: None, at: world.clock.now() };
    let event = NewEvent {
        id: world.ids.v7(),
        event_type: RULES_LOADED,
        data: to_raw_value(&loaded).unwrap(),
    };
    let at = loaded.at;
    let append = Append::new(RULES_STREAM, Expected::Exact(0), CONSENT_EVENTS, vec![event], at);
    world.store.append(append).await.unwrap();
    world.quiet_nights().await;
    let japanese = world.ids.v4();
    world.hear(&[world.issued_in(japanese, 1, "JP")]).await;
    world.grant(japanese).await.unwrap();
    world.stand(&[japanese]).await;
    let (then, told) = (world.clock.now(), world.standings(japanese).await.len());
    assert_eq!(told, 1);
    let first = world.bytes(&world.question(japanese, then)).await;
    assert!(first.contains(r#""reasons":["consent_given"]"#), "{first}");
    assert!(first.contains(r#""rules":"spine-1""#), "{first}");

    // Later than the question, by the clock that both are read from.
    until("the clock goes on", async || world.clock.now() > then).await;
    world.policies.rules_loaded(&rules).await.unwrap();
    world.policies.rules_loaded(&rules).await.unwrap();
    let adopted: i64 =
        sqlx::query_scalar("SELECT count(*) FROM eventstore.events WHERE stream = $1")
            .bind(RULES_STREAM)
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(adopted, 2, "it is adopted once");
    assert_eq!(world.bytes(&world.question(japanese, then)).await, first);
    let now = world.as_of(japanese, world.clock.now()).await;
    assert_eq!((&*now.rules, &*now.reasons), ("hours-2", &["quiet_hours".to_owned()][..]));
}
