//! Quiet hours: by the clock where a number was issued, in the gate and in the person's stream, and by
//! the engine that knows of them.

use std::collections::BTreeMap;

use assent_bus::Received;
use assent_consent::domain::policy::RULES_STREAM;
use assent_contracts::SubjectId;
use assent_contracts::consent::{RULES_LOADED, RulesLoaded};
use assent_contracts::policy::Quiet;
use assent_contracts::topics::CONSENT_EVENTS;
use assent_contracts::vault::{Origin, SUBJECT_REGISTERED, SubjectRegistered};
use assent_eventstore::{Append, Expected, NewEvent};
use assent_rules::RuleSet;
use jiff::Timestamp;
use jiff::civil::time;
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
    world.stand(&[before]).await;
    assert_eq!(world.regions(before).await.len(), 1);
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
