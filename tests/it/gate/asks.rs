//! Asking people for their consent, by a clock that the test drives: once, in its time, and only those who
//! may be asked.

use std::sync::Arc;
use std::time::Duration;

use assent_bus::Subscriber as _;
use assent_consent::asks::round;
use assent_consent::contacts::Contacts;
use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    AskRequest, CodeAnswer, CodeRequest, ConsentAnswer, GrantRequest, PermitAsk,
};
use assent_contracts::code::{Code, Sentence};
use assent_contracts::consent::{ASKED, Asked, State};
use assent_contracts::messaging::{MESSAGE_RECEIVED, MessageReceived};
use assent_contracts::policy::Asking;
use assent_http::ClientError;
use assent_runtime::{Clock as _, ManualClock, SystemClock};
use serde_json::{Value, json};

use super::world::{World, tokens, world_at};

const DAY: Duration = Duration::from_secs(86_400);

struct Stage {
    world: World,
    clock: Arc<ManualClock>,
}

/// Marketing is valid for 100 days and asked for again 30 days before its end.
async fn stage() -> Stage {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = world_at(clock.clone()).await;
    world
        .change_policy(|policy| {
            let marketing = policy.purposes.get_mut("marketing").unwrap();
            marketing.validity_days = Some(100);
            marketing.ask = Some(Asking {
                template: "renew".to_owned(),
                before_days: 30,
                again_after_days: 200,
            });
        })
        .await;
    Stage { world, clock }
}

impl Stage {
    async fn round(&self) -> usize {
        round(&self.world.pool, self.world.app.batcher(), &*self.clock).await.unwrap()
    }

    /// The questions that she was asked.
    async fn asked(&self, subject: SubjectId) -> Vec<Asked> {
        let events = self.world.store.load(subject, 0, 100).await.unwrap();
        let asked = events.iter().filter(|event| event.event_type == ASKED);
        asked.map(|event| serde_json::from_str(&event.data).unwrap()).collect()
    }

    async fn ask(&self, subject_id: SubjectId) -> Result<ConsentAnswer, ClientError> {
        let request = AskRequest {
            subject_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
            locale: None,
        };
        self.world.client.post("/v1/consents/ask", &request, None).await
    }

    /// Why she may not be asked.
    async fn refusal(&self, subject: SubjectId) -> String {
        match self.ask(subject).await.unwrap_err() {
            ClientError::Problem { body, .. } => body["reason"].as_str().unwrap().to_owned(),
            other => panic!("{other}"),
        }
    }

    /// The gate's reasons for the message of a question.
    async fn gate(&self, subject: SubjectId, question: &Asked, address: u16) -> Vec<String> {
        let ask = PermitAsk {
            message_id: question.request_id,
            purpose: "consent_request".to_owned(),
            ..self.world.ask(subject, &[address])
        };
        self.world.permits(vec![ask]).await.remove(0).verdict.reasons
    }

    async fn answers(&self, code: Code, address: u16) -> CodeAnswer {
        let request = CodeRequest {
            message_id: self.world.ids.v7(),
            code,
            sentence: Sentence::Alone,
            addresses: tokens(&[address]),
            said_at: None,
        };
        self.world.client.post("/v1/gate/codes", &request, None).await.unwrap()
    }

    /// She writes to us, as messaging tells it.
    async fn writes(&self, subject: SubjectId) {
        let data = MessageReceived {
            message_id: self.world.ids.v7(),
            kind: "text".to_owned(),
            content: None,
            at: self.clock.now(),
            said_at: Some(self.clock.now()),
        };
        let event = self.world.vault_event(subject, MESSAGE_RECEIVED, &data);
        let mut conn = self.world.pool.acquire().await.unwrap();
        let contacts = Contacts { batcher: self.world.app.batcher().clone() };
        contacts.apply(&mut conn, &[event]).await.unwrap();
    }

    async fn consents(&self, subject: SubjectId) -> Value {
        let path = format!("/v1/subjects/{subject}/consents");
        self.world.client.get(&path).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_is_asked_for_once_and_her_answer_renews() {
    let stage = stage().await;
    let subject = stage.world.consenting(1).await;
    assert_eq!(stage.round().await, 0, "too early");
    assert_eq!(stage.refusal(subject).await, "nothing_to_ask");
    stage.clock.advance(70 * DAY);
    assert_eq!(stage.round().await, 1);
    assert_eq!(stage.round().await, 0, "once");
    let asked = stage.asked(subject).await.remove(0);
    assert_eq!((&*asked.template, &*asked.language), ("renew", "en"));
    assert_eq!(stage.gate(subject, &asked, 1).await, ["consent_request"]);
    // The permit is for that message and that person.
    let other = stage.world.consenting(2).await;
    assert_eq!(stage.gate(other, &asked, 2).await, ["ask_missing"]);

    let confirmed = CodeAnswer::Confirmed { subject_id: subject };
    assert_eq!(stage.answers(asked.code, 2).await, CodeAnswer::NotHers);
    assert_eq!(stage.answers(asked.code, 1).await, confirmed);
    stage.clock.advance(31 * DAY);
    assert_eq!(stage.world.verdict(subject).await.reasons, ["consent_given"], "renewed");
    assert_eq!(stage.answers(asked.code, 1).await, CodeAnswer::Nothing, "it was used");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_lets_a_consent_lapse_and_nobody_is_asked_after_its_end() {
    let stage = stage().await;
    let (asked, missed) = (stage.world.consenting(1).await, stage.world.person(&[2]).await);
    stage.clock.advance(5 * DAY);
    stage.world.grant(missed).await.unwrap();
    stage.clock.advance(65 * DAY);
    assert_eq!(stage.round().await, 1, "the other one ends later");
    // The service is away for the whole time in which the second one would have been asked.
    stage.clock.advance(36 * DAY);
    assert_eq!(stage.round().await, 0);
    assert!(stage.asked(missed).await.is_empty());
    for subject in [asked, missed] {
        assert_eq!(stage.world.verdict(subject).await.reasons, ["consent_expired"]);
        assert_eq!(stage.refusal(subject).await, "window_closed");
    }
    let question = stage.asked(asked).await.remove(0);
    assert_eq!(stage.gate(asked, &question, 1).await, ["window_closed"], "a late message too");
}

/// What was agreed about e-mail is no reason to write by WhatsApp.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_by_whatsapp_rests_on_what_was_said_about_whatsapp() {
    let stage = stage().await;
    stage
        .world
        .change_policy(|policy| {
            policy.purposes.get_mut("marketing").unwrap().channels.push("email".to_owned());
        })
        .await;
    let subject = stage.world.person(&[1]).await;
    let email = GrantRequest { channel: "email".to_owned(), ..stage.world.grant_request(subject) };
    stage.world.post_grant(&email, None).await.unwrap();
    stage.clock.advance(95 * DAY);
    assert_eq!(stage.round().await, 0);
    let ask = AskRequest {
        subject_id: subject,
        purpose: "marketing".to_owned(),
        channel: "email".to_owned(),
        locale: None,
    };
    let asked = stage.world.client.post::<_, ConsentAnswer>("/v1/consents/ask", &ask, None).await;
    assert!(
        matches!(asked, Err(ClientError::Problem { body, .. }) if body["reason"] == "no_template")
    );
}

/// What she agreed to has changed: who has just written may be asked for the new text.
#[tokio::test(flavor = "multi_thread")]
async fn a_consent_to_another_text_is_nothing_to_renew_and_no_hindrance_to_ask() {
    let stage = stage().await;
    let subject = stage.world.consenting(1).await;
    stage
        .world
        .change_policy(|policy| {
            let marketing = policy.purposes.get_mut("marketing").unwrap();
            marketing.notices.get_mut("en").unwrap().text = "Something else?".to_owned();
        })
        .await;
    assert_eq!(stage.world.verdict(subject).await.reasons, ["notice_changed"]);
    assert_eq!(stage.refusal(subject).await, "window_closed");
    stage.clock.advance(80 * DAY);
    assert_eq!(stage.round().await, 0);
    stage.writes(subject).await;
    stage.ask(subject).await.unwrap();
    let asked = stage.asked(subject).await.remove(0);
    assert_eq!(stage.gate(subject, &asked, 1).await, ["consent_request"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_catches_up_after_the_service_was_away() {
    let stage = stage().await;
    let subject = stage.world.consenting(1).await;
    stage.clock.advance(95 * DAY);
    assert_eq!(stage.round().await, 1, "late, and in time");
    assert_eq!(stage.asked(subject).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_question_needs_her_message_and_never_goes_to_who_was_only_imported() {
    let stage = stage().await;
    let imported = stage.world.person(&[1]).await;
    assert_eq!(stage.refusal(imported).await, "window_closed");
    assert_eq!(stage.round().await, 0);

    let subject = stage.world.person(&[2]).await;
    stage.writes(subject).await;
    stage.ask(subject).await.unwrap();
    let asked = stage.asked(subject).await.remove(0);
    assert_eq!(stage.gate(subject, &asked, 2).await, ["consent_request"]);
    assert_eq!(stage.refusal(subject).await, "asked_lately");
    // A day later the window that she had opened is closed, for a message that was decided in it too.
    stage.clock.advance(DAY);
    assert_eq!(stage.gate(subject, &asked, 2).await, ["window_closed"]);
    // She may answer what she has seen.
    assert_eq!(stage.answers(asked.code, 2).await, CodeAnswer::Confirmed { subject_id: subject });
    assert_eq!(stage.world.verdict(subject).await.reasons, ["consent_given"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_since_the_question_stops_its_message_and_leaves_her_alone() {
    let stage = stage().await;
    let subject = stage.world.person(&[1]).await;
    stage.writes(subject).await;
    stage.ask(subject).await.unwrap();
    let asked = stage.asked(subject).await.remove(0);
    let no = stage.world.withdrawal(subject);
    let _: ConsentAnswer = stage.world.client.post("/v1/consents/refuse", &no, None).await.unwrap();
    assert_eq!(stage.gate(subject, &asked, 1).await, ["ask_missing"], "nothing may ask her");
    stage.clock.advance(364 * DAY);
    stage.writes(subject).await;
    // The law's twelve months are longer than the policy's 200 days.
    assert_eq!(stage.refusal(subject).await, "asked_lately");
    stage.clock.advance(3 * DAY);
    stage.writes(subject).await;
    stage.ask(subject).await.unwrap();
    // She says no again: nothing was given since the first time, and yet it is news.
    let again = stage.asked(subject).await.remove(1);
    let _: ConsentAnswer = stage.world.client.post("/v1/consents/refuse", &no, None).await.unwrap();
    assert_eq!(stage.gate(subject, &again, 1).await, ["ask_missing"]);
    assert_eq!(stage.answers(again.code, 1).await, CodeAnswer::Nothing);
}

/// Trap 16, CNIL: silence is counted from the person's own last act.
#[tokio::test(flavor = "multi_thread")]
async fn trap_16_her_message_puts_off_the_lapse_and_nothing_else_does() {
    let stage = stage().await;
    stage
        .world
        .change_policy(|policy| {
            let marketing = policy.purposes.get_mut("marketing").unwrap();
            (marketing.validity_days, marketing.lapses_after_days) = (None, Some(100));
        })
        .await;
    let (writing, silent) = (stage.world.consenting(1).await, stage.world.consenting(2).await);
    stage.clock.advance(90 * DAY);
    stage.writes(writing).await;
    stage.clock.advance(20 * DAY);
    assert_eq!(stage.world.verdict(writing).await.reasons, ["consent_given"]);
    assert_eq!(stage.world.verdict(silent).await.reasons, ["consent_expired"]);
    assert_eq!(stage.consents(writing).await["consents"][0]["state"], json!(State::Given));
    // What has lapsed is not brought back by a message.
    stage.writes(silent).await;
    assert_eq!(stage.world.verdict(silent).await.reasons, ["consent_expired"]);
}
