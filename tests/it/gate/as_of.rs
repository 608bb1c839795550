//! The verdict of any moment, over HTTP and on real Postgres: the same bytes for the same question,
//! and facts from elsewhere that come into the person's stream.

use std::sync::Arc;

use assent_bus::{Received, Subscriber as _};
use assent_consent::standing;
use assent_consent::state_keeper::StateKeeper;
use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    AsOfRequest, AsOfVerdict, GrantRequest, KnownAt, SignedVerdict, StopKind, WithdrawRequest,
};
use assent_contracts::consent::{Actor, Method, STANDING_CHANGED, STATE, StandingChanged};
use assent_contracts::sealed::Sealed;
use assent_contracts::topics::CONSENT_STATE;
use assent_tests::cluster::until;
use jiff::{SignedDuration, Timestamp};
use sqlx::Row as _;

use super::world::{World, code, tokens, world};

impl World {
    pub fn question(&self, subject_id: SubjectId, at: Timestamp) -> AsOfRequest {
        AsOfRequest {
            subject_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            at,
            known_at: None,
        }
    }

    /// The answer, byte by byte.
    pub async fn bytes(&self, question: &AsOfRequest) -> String {
        let answer: Box<serde_json::value::RawValue> =
            self.client.post("/v1/verdict/as-of", question, None).await.expect("an answer");
        answer.get().to_owned()
    }

    /// The answer, signed.
    async fn statement(&self, question: &AsOfRequest) -> String {
        let path = "/v1/verdict/as-of/statement";
        let signed: SignedVerdict = self.client.post(path, question, None).await.expect("signed");
        signed.statement
    }

    pub async fn as_of(&self, subject: SubjectId, at: Timestamp) -> AsOfVerdict {
        serde_json::from_str(&self.bytes(&self.question(subject, at)).await).unwrap()
    }

    /// What the state topic and the marks lead to, for these people.
    pub async fn stand(&self, subjects: &[SubjectId]) {
        let (store, clock, ids) = (self.store.clone(), self.clock.clone(), self.ids.clone());
        let keeper = StateKeeper { store, clock, ids };
        let records: Vec<Received> = subjects
            .iter()
            .map(|subject| Received {
                topic: CONSENT_STATE,
                event_type: STATE.to_owned(),
                sequence: i64::MAX,
                ..self.vault_event(*subject, STATE, &serde_json::json!({}))
            })
            .collect();
        let mut transaction = self.pool.begin().await.unwrap();
        keeper.apply(&mut transaction, &records).await.expect("the records apply");
        transaction.commit().await.unwrap();
        while standing::round(&self.store, &*self.clock, &*self.ids).await.unwrap() > 0 {}
    }

    pub async fn standings(&self, subject: SubjectId) -> Vec<StandingChanged> {
        self.store
            .load(subject, 0, 100)
            .await
            .unwrap()
            .iter()
            .filter(|event| event.event_type == STANDING_CHANGED)
            .map(|event| event.decode().unwrap())
            .collect()
    }
}

#[tokio::test]
async fn g3_the_same_question_gives_the_same_bytes_whatever_is_learnt_later() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let allowed_at = world.clock.now();
    let first = world.bytes(&world.question(subject, allowed_at)).await;
    let answer: AsOfVerdict = serde_json::from_str(&first).unwrap();
    assert_eq!((&*answer.reasons, answer.known_at), (&["consent_given".to_owned()][..], Some(1)));
    assert!(answer.policy.is_some() && answer.notice_hash.is_some());
    let pinned = AsOfRequest {
        known_at: answer.known_at.map(KnownAt::Position),
        ..world.question(subject, allowed_at)
    };
    let signed = world.statement(&world.question(subject, allowed_at)).await;

    // A letter of an hour ago, a stop, another definition of the purpose, a grant.
    let letter = WithdrawRequest {
        acted_at: Some(allowed_at - SignedDuration::from_hours(1)),
        ..world.withdrawal(subject)
    };
    let _: serde_json::Value =
        world.client.post("/v1/consents/withdraw", &letter, None).await.unwrap();
    world.stop(&[1], StopKind::Stopped).await;
    world.stand(&[subject]).await;
    world
        .change_policy(|policy| {
            let marketing = policy.purposes.get_mut("marketing").unwrap();
            marketing.notices.get_mut("en").unwrap().text = "Other words.".to_owned();
        })
        .await;
    world.prove(subject).await.unwrap();
    world.stand(&[subject]).await;

    assert_eq!(world.bytes(&pinned).await, first, "asked again, as known then");
    assert_eq!(world.statement(&pinned).await, signed, "and the statement is the same");
    let later = world.statement(&world.question(subject, allowed_at)).await;
    assert_ne!(later, signed, "what is known now is another question");
    let until_then = AsOfRequest {
        known_at: Some(KnownAt::Time(allowed_at)),
        ..world.question(subject, allowed_at)
    };
    assert_eq!(world.bytes(&until_then).await, first, "a time is the position it had");
    let now = world.as_of(subject, world.clock.now()).await;
    let gate = world.verdict(subject).await;
    assert_eq!(now.reasons, gate.reasons, "and now it is what the gate says");
    assert_eq!(now.evidence, gate.evidence);
}

#[tokio::test]
async fn a_late_letter_changes_what_is_known_now_and_not_what_was_known_then() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    let start = world.clock.now() - SignedDuration::from_millis(1);
    let grant = world.grant(subject).await.unwrap();
    let between = world.clock.now();
    let letter = WithdrawRequest { acted_at: Some(between), ..world.withdrawal(subject) };
    let _: serde_json::Value =
        world.client.post("/v1/consents/withdraw", &letter, None).await.unwrap();
    let asked = |known| AsOfRequest {
        known_at: Some(KnownAt::Position(known)),
        ..world.question(subject, between)
    };
    let then: AsOfVerdict =
        serde_json::from_str(&world.bytes(&asked(grant.version)).await).unwrap();
    let now: AsOfVerdict =
        serde_json::from_str(&world.bytes(&asked(grant.version + 1)).await).unwrap();
    assert_eq!(then.reasons, ["consent_given"]);
    assert_eq!(now.reasons, ["consent_withdrawn"]);
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_withdrawn"], "the gate as well");
    let early = world.as_of(subject, start).await;
    assert!(early.reasons.contains(&"no_consent".to_owned()), "{:?}", early.reasons);
}

/// Trap 6, at the gate: a grant that was said before a withdrawal and is told after it, and acts
/// that are told to lie in the future or before there was a notice.
#[tokio::test]
async fn trap_6_late_and_forged_grants_open_nothing() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let agreed = world.clock.now();
    world.withdraw(subject, None).await.unwrap();
    let told = |acted_at| GrantRequest {
        acted_at: Some(acted_at),
        evidence: Some(Sealed("c2VhbGVk".to_owned())),
        ..world.grant_request(subject)
    };
    world.post_grant(&told(agreed), None).await.expect("it is recorded");
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_withdrawn"]);

    // Told with her address it lifts no stop either: the stop may be younger.
    world.stop(&[1], StopKind::Stopped).await;
    let after_the_withdrawal = world.clock.now();
    world.post_grant(&told(after_the_withdrawal), None).await.expect("it is recorded");
    assert_eq!(world.reasons(subject, &[1]).await, ["stopped"]);

    // Her own act, told late by a webhook that was repeated: it lifts what stood by then.
    let mine = |acted_at| GrantRequest {
        acted_at: Some(acted_at),
        actor: Actor::Subject,
        method: Method::WhatsappMessage,
        addresses: tokens(&[1]),
        ..world.grant_request(subject)
    };
    world.post_grant(&mine(agreed), None).await.expect("it is recorded");
    assert_eq!(world.reasons(subject, &[1]).await, ["stopped"], "the stop is younger");
    world.post_grant(&mine(world.clock.now()), None).await.expect("it is recorded");
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);

    let future = told(world.clock.now() + SignedDuration::from_secs(60));
    let refused = world.post_grant(&future, None).await.unwrap_err();
    assert_eq!(code(&refused), "validation_failed");
    let before_all = told(Timestamp::UNIX_EPOCH);
    let refused = world.post_grant(&before_all, None).await.unwrap_err();
    assert_eq!(code(&refused), "notice_unknown");
}

#[tokio::test]
async fn what_an_address_carried_before_it_was_hers_comes_into_her_stream_with_its_date() {
    let world = world().await;
    let subject = world.consenting(1).await;
    world.stop(&[2], StopKind::Stopped).await;
    world.stand(&[]).await;
    let before = world.clock.now();
    world.link(subject, &[2]).await;
    world.stand(&[]).await;
    assert_eq!(world.standings(subject).await.len(), 1);
    assert_eq!(world.as_of(subject, before).await.reasons, ["consent_given"], "not hers yet");
    let now = world.as_of(subject, world.clock.now()).await;
    assert_eq!(now.reasons, ["stopped"]);
    assert_eq!(now.evidence, world.verdict(subject).await.evidence);

    world.opt_in(subject, &[2]).await.unwrap();
    world.stand(&[subject]).await;
    let lifted = world.as_of(subject, world.clock.now()).await;
    assert_eq!(lifted.reasons, world.verdict(subject).await.reasons);
    assert_eq!(lifted.reasons, ["consent_given"]);
    // Nothing changed: nothing is recorded again.
    let known = world.standings(subject).await.len();
    world.stand(&[subject]).await;
    assert_eq!(world.standings(subject).await.len(), known);
}

#[tokio::test]
async fn the_no_of_someone_who_shares_an_address_comes_into_her_stream_and_goes() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(1).await);
    world.withdraw(other, None).await.unwrap();
    world.stand(&[other]).await;
    let denied = world.as_of(one, world.clock.now()).await;
    let gate = world.verdict(one).await;
    assert_eq!(denied.reasons, ["linked_subject_denies"]);
    assert_eq!((&denied.reasons, &denied.evidence), (&gate.reasons, &gate.evidence));
    let told = world.standings(one).await.remove(0);
    let text = serde_json::to_string(&told).unwrap();
    assert!(!text.contains(&other.to_string()), "who it is isn't told");

    world.prove(other).await.unwrap();
    world.stand(&[other]).await;
    assert_eq!(world.as_of(one, world.clock.now()).await.reasons, ["consent_given"]);
}

/// A link whose transaction began before the stop committed, and commits after the mark was found:
/// whoever takes the mark up waits for it.
#[tokio::test]
async fn a_stop_that_races_a_link_is_in_her_stream_all_the_same() {
    let world = Arc::new(world().await);
    let subject = world.consenting(1).await;
    let mut linking = world.pool.begin().await.unwrap();
    let links = assent_consent::links::Links { clock: Arc::clone(&world.clock) };
    let event = world.registered(subject, &[2]);
    links.apply(&mut linking, &[event]).await.unwrap();
    world.stop(&[2], StopKind::Stopped).await;

    let taken = tokio::spawn({
        let world = Arc::clone(&world);
        async move { standing::round(&world.store, &*world.clock, &*world.ids).await.unwrap() }
    });
    until("the mark waits for the link", async || {
        let waiting = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory'
                       AND NOT granted AND database =
                       (SELECT oid FROM pg_database WHERE datname = current_database()))";
        sqlx::query(waiting).fetch_one(&world.pool).await.unwrap().get(0)
    })
    .await;
    linking.commit().await.unwrap();
    assert!(taken.await.unwrap() > 0);
    assert_eq!(world.standings(subject).await.len(), 1);
    assert_eq!(world.as_of(subject, world.clock.now()).await.reasons, ["stopped"]);
}

#[tokio::test]
async fn who_may_not_see_suppressions_finds_none_in_a_history_or_a_verdict() {
    let world = world().await;
    let subject = world.consenting(1).await;
    world.stop(&[1], StopKind::Suppressed).await;
    world.stand(&[]).await;
    let at = world.clock.now();
    let question = world.question(subject, at);
    let told: AsOfVerdict =
        world.operator.post("/v1/verdict/as-of", &question, None).await.unwrap();
    assert_eq!(told.reasons, ["consent_withdrawn"], "a list withdraws, and that anybody may know");
    assert_eq!(world.as_of(subject, at).await.reasons, ["consent_withdrawn", "suppressed"]);
    let path = format!("/v1/subjects/{subject}/history");
    let shown: serde_json::Value = world.operator.get(&path).await.unwrap();
    assert!(!shown.to_string().contains("suppressed"), "{shown}");
    let whole: serde_json::Value = world.client.get(&path).await.unwrap();
    let refused: Result<SignedVerdict, _> =
        world.operator.post("/v1/verdict/as-of/statement", &question, None).await;
    assert_eq!(code(&refused.unwrap_err()), "forbidden", "a statement speaks of everything");
    assert!(whole.to_string().contains("suppressed"), "the comparison finds it where it is");
}

#[tokio::test]
async fn questions_about_the_future_are_refused() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let now = world.clock.now();
    let later = now + SignedDuration::from_secs(3_600);
    for question in [
        world.question(subject, later),
        AsOfRequest { known_at: Some(KnownAt::Position(2)), ..world.question(subject, now) },
        AsOfRequest { known_at: Some(KnownAt::Position(-1)), ..world.question(subject, now) },
        AsOfRequest { known_at: Some(KnownAt::Time(later)), ..world.question(subject, now) },
    ] {
        let refused: Result<serde_json::Value, _> =
            world.client.post("/v1/verdict/as-of", &question, None).await;
        assert_eq!(code(&refused.unwrap_err()), "validation_failed");
    }
    // Nobody: no events, so nothing was known.
    let nobody = world.as_of(world.ids.v4(), now).await;
    assert_eq!((&*nobody.reasons, nobody.known_at), (&["no_consent".to_owned()][..], Some(0)));
}

#[tokio::test]
async fn recorded_time_never_steps_back_within_a_stream() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    let all = async || {
        for _ in 0..3 {
            world.prove(subject).await.unwrap();
        }
    };
    tokio::join!(all(), all(), all());
    let events = world.store.load(subject, 0, 100).await.unwrap();
    assert!(events.len() >= 9);
    assert!(events.is_sorted_by(|one, next| one.recorded_at < next.recorded_at));
}
