//! The consent service as a participant of an erasure: fence, delete, sweep, and answers that
//! arrive. The saga here is a socket that writes down what it is told.

use std::sync::Arc;
use std::time::Duration;

use assent_bus::{BusConfig, Received, Subscriber};
use assent_consent::erasure::Eraser;
use assent_contracts::api::claims::{Claim, ClaimsRequest};
use assent_contracts::api::consent::{
    AsOfRequest, KnownAt, PreferenceLink, ProofCode, StopKind, Verdict, VerdictRequest,
};
use assent_contracts::erasure::{Ack, COMMAND, Command, Positions, Step};
use assent_contracts::sealed::Sealed;
use assent_contracts::topics::ERASURE_COMMANDS;
use assent_contracts::vault::{
    IDENTIFIERS_REMOVED, IdentifiersRemoved, SUBJECT_LINKED, SubjectLinked,
};
use assent_http::{Listing, ServiceClient};
use assent_participant::{Commands, Keeping, Participant};
use assent_runtime::{Clock, Lifecycle, SystemClock};
use assent_tests::cluster::until;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::world::{LEASE, World, code, tokens, world};

/// Answers heard: each with the moment it came.
type Answers = mpsc::UnboundedReceiver<(Duration, Ack)>;

async fn saga(refuse_first: bool) -> (ServiceClient, Answers) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        ServiceClient::new(&format!("http://{}", listener.local_addr().unwrap()), &"t".into());
    let (tell, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut refuse = refuse_first;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let body = request_body(&mut stream).await;
            let status = if refuse { "503 Service Unavailable" } else { "200 OK" };
            let answer =
                format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}");
            stream.write_all(answer.as_bytes()).await.unwrap();
            if !std::mem::take(&mut refuse) {
                let _ = tell.send((SystemClock.boottime(), serde_json::from_slice(&body).unwrap()));
            }
        }
    });
    (client.unwrap(), heard)
}

async fn request_body(stream: &mut tokio::net::TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.split_once("content-length: ").map_or("0", |(_, rest)| rest);
            let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
            if request.len() >= head.len() + 4 + length {
                return request.split_off(head.len() + 4);
            }
        }
        let mut piece = [0; 4096];
        let read = stream.read(&mut piece).await.unwrap();
        assert!(read > 0, "the request ended early");
        request.extend_from_slice(&piece[..read]);
    }
}

/// The participant, and a way to command it.
struct Erasure<'a> {
    world: &'a World,
    commands: Commands,
    subject: Uuid,
    request_id: Uuid,
    answers: Answers,
}

impl<'a> Erasure<'a> {
    async fn of(world: &'a World, subject: Uuid, refuse_first: bool) -> Self {
        let (client, answers) = saga(refuse_first).await;
        let (clock, ids) = (Arc::clone(&world.clock), Arc::clone(&world.ids));
        let participant = Participant {
            steps: Eraser { clock: Arc::clone(&clock), ids, keeping: Keeping::default() },
            store: world.store.clone(),
            clock,
            terms: world.terms,
            saga: client,
            bus: BusConfig::new("127.0.0.1:1", "t."),
            follows: Vec::new(),
            heard: Arc::default(),
        };
        let commands = participant.commands();
        tokio::spawn(participant.run(Lifecycle::new().stopping()));
        Self { world, commands, subject, request_id: world.ids.v7(), answers }
    }

    async fn command(&mut self, command_id: Uuid, step: Step) -> (Duration, Ack) {
        let command = Command {
            command_id,
            request_id: self.request_id,
            subject_id: self.subject,
            step,
            participants: vec!["consent".to_owned(), "vault".to_owned()],
            barrier: Positions::new(),
            at: self.world.clock.now(),
        };
        let message = Received {
            topic: ERASURE_COMMANDS,
            ..self.world.vault_event(self.subject, COMMAND, &command)
        };
        let mut transaction = self.world.pool.begin().await.unwrap();
        self.commands.apply(&mut transaction, &[message]).await.unwrap();
        transaction.commit().await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), self.answers.recv());
        let answer = answer.await.expect("an answer within 20 s").unwrap();
        // It is known here a moment later: a repeat before that would be taken for answered.
        until("the answer is noted", async || {
            sqlx::query_scalar(
                "SELECT answered_at IS NOT NULL FROM participant.commands WHERE command_id = $1",
            )
            .bind(command_id)
            .fetch_one(&self.world.pool)
            .await
            .unwrap()
        })
        .await;
        answer
    }

    async fn step(&mut self, step: Step) -> Ack {
        self.command(self.world.ids.v7(), step).await.1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_fence_nothing_is_recorded_or_permitted_and_its_answer_has_settled() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let mut erasure = Erasure::of(&world, subject, false).await;
    let asked = SystemClock.boottime();
    let command_id = world.ids.v7();
    let (answered, ack) = erasure.command(command_id, Step::Fence).await;
    assert!(answered - asked >= LEASE, "a fence is answered one lease after its commit");
    assert_eq!(ack.evidence.counts["fences"], 1);
    // What keeps her out has a date, and it isn't before its term is over.
    let kept = ack.evidence.kept.iter().find(|kept| kept.what == "closed_addresses").unwrap();
    let fenced = world.clock.now() - jiff::SignedDuration::from_hours(1);
    assert!(kept.until > Keeping::default().suppression_until(fenced), "{kept:?}");
    assert_eq!(world.reasons(subject, &[1]).await, ["erased"]);
    for refused in [world.prove(subject).await, world.withdraw(subject, None).await] {
        assert_eq!(code(&refused.unwrap_err()), "subject_erased");
    }
    // A late event of the vault links nothing; whoever is imported with the number stays out.
    world.link(subject, &[2]).await;
    let newcomer = world.person(&[1]).await;
    assert!(world.reasons(newcomer, &[1]).await.contains(&"erased".to_owned()));
    assert_eq!(code(&world.prove(newcomer).await.unwrap_err()), "consent_not_allowed");

    // The repeat is answered alike, and waits like the first.
    let asked = SystemClock.boottime();
    let (answered, again) = erasure.command(command_id, Step::Fence).await;
    assert!(answered - asked >= LEASE);
    assert_eq!(again, ack);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_leaves_nothing_that_a_sweep_would_find_and_the_saga_hears_of_it_at_last() {
    let world = world().await;
    let subject = world.consenting(1).await;
    world.stop(&[1], StopKind::Stopped).await;
    let links = format!("/v1/subjects/{subject}/preference-links");
    let link: PreferenceLink =
        world.client.post(&links, &serde_json::json!({}), None).await.unwrap();
    let code_of_page = format!("/v1/preference-links/{}/code", link.link_id);
    let _: ProofCode =
        world.client.post(&code_of_page, &serde_json::json!({}), None).await.unwrap();
    let claims = ClaimsRequest {
        batch_id: world.ids.v7(),
        purpose: "marketing".to_owned(),
        channel: "whatsapp".to_owned(),
        locale: None,
        claims: vec![Claim {
            subject_id: subject,
            acted_at: world.clock.now(),
            evidence: Sealed("c2VhbGVk".to_owned()),
        }],
    };
    world.client.post::<_, ()>("/v1/claims", &claims, None).await.unwrap();
    let mut erasure = Erasure::of(&world, subject, true).await;
    erasure.step(Step::Fence).await;
    let refused =
        world.client.post::<_, PreferenceLink>(&links, &serde_json::json!({}), None).await;
    assert_eq!(code(&refused.unwrap_err()), "subject_erased");
    let found = erasure.step(Step::Sweep).await.evidence.counts;
    assert_eq!((found["links"], found["events"]), (1, 2), "a sweep without a delete finds her");
    assert_eq!((found["codes"], found["preference_links"], found["claims"]), (1, 1, 1));
    // A part that is brought again, after the fence, keeps nothing of her.
    let claims = ClaimsRequest { batch_id: world.ids.v7(), ..claims };
    world.client.post::<_, ()>("/v1/claims", &claims, None).await.unwrap();
    assert_eq!(erasure.step(Step::Sweep).await.evidence.counts["claims"], 1);
    let deleted = erasure.step(Step::Delete).await.evidence;
    assert_eq!(deleted.counts["links"], 1);
    let swept = erasure.step(Step::Sweep).await.evidence;
    assert!(swept.counts.values().all(|count| *count == 0), "{:?}", swept.counts);

    // Her stream goes on where it was: what is published stays gapless.
    let events = world.store.load(subject, 0, 10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].version, events[0].event_type.as_str()), (3, "assent.consent.erased.v1"));
    assert_eq!(code(&world.prove(subject).await.unwrap_err()), "subject_erased");
}

/// G6: her own act opens a new relation, under a new id, with nothing carried over.
#[tokio::test(flavor = "multi_thread")]
async fn only_her_own_act_opens_a_new_relation_under_a_new_id() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let mut erasure = Erasure::of(&world, subject, false).await;
    for step in [Step::Fence, Step::Delete, Step::Sweep] {
        erasure.step(step).await;
    }
    let again = world.person(&[1]).await;
    assert_eq!(world.reasons(again, &[1]).await, ["erased", "no_consent"]);
    world.opt_in(again, &[1]).await.unwrap();
    assert_eq!(world.reasons(again, &[1]).await, ["consent_given"]);
    assert_eq!(code(&world.opt_in(subject, &[1]).await.unwrap_err()), "subject_erased");
}

/// The vault took a wrong link back; the gate is as strict as before. Whoever begins anew is free of the other's no
/// only once the other has begun anew too.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_wrong_link_a_no_of_the_other_stands_until_both_have_begun_anew() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(2).await);
    let at = world.clock.now();
    let pairs = [(one, other, [2]), (other, one, [1])];
    for (subject, with, addresses) in &pairs {
        let linked = SubjectLinked { others: vec![*with], addresses: tokens(addresses), at };
        world.hear(&[world.vault_event(*subject, SUBJECT_LINKED, &linked)]).await;
    }
    for (subject, with, _) in &pairs {
        let (addresses, fields) = (Vec::new(), Vec::new());
        let removed = IdentifiersRemoved { addresses, fields, unlinked: vec![*with], at };
        world.hear(&[world.vault_event(*subject, IDENTIFIERS_REMOVED, &removed)]).await;
    }
    assert_eq!(world.reasons(one, &[1]).await, ["consent_given"], "nobody has said no");
    world.withdraw(other, None).await.unwrap();
    assert_eq!(world.reasons(one, &[1]).await, ["linked_subject_denies"]);

    let mut erasure = Erasure::of(&world, one, false).await;
    for step in [Step::Fence, Step::Delete] {
        erasure.step(step).await;
    }
    let reasons = world.reasons(other, &[2]).await;
    assert!(reasons.contains(&"erased".to_owned()), "her number is closed for both: {reasons:?}");
    let anew = world.person(&[1]).await;
    world.opt_in(anew, &[1]).await.unwrap();
    assert_eq!(world.reasons(anew, &[1]).await, ["linked_subject_denies"]);
    (erasure.subject, erasure.request_id) = (other, world.ids.v7());
    for step in [Step::Fence, Step::Delete] {
        erasure.step(step).await;
    }
    assert_eq!(world.reasons(anew, &[1]).await, ["consent_given"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn g3_after_an_erasure_every_question_about_her_has_one_answer() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let at = world.clock.now();
    let pinned =
        AsOfRequest { known_at: Some(KnownAt::Position(1)), ..world.question(subject, at) };
    assert_eq!(world.as_of(subject, at).await.reasons, ["consent_given"]);
    let mut erasure = Erasure::of(&world, subject, false).await;
    for step in [Step::Fence, Step::Delete] {
        erasure.step(step).await;
        assert_eq!(world.as_of(subject, at).await.reasons, ["erased"], "{step:?}");
        let path = format!("/v1/subjects/{subject}/receipts");
        let receipts: Listing<serde_json::Value> = world.operator.get(&path).await.unwrap();
        assert!(receipts.items.is_empty(), "{step:?}");
    }
    let open = world.bytes(&world.question(subject, at)).await;
    let expected = format!(
        r#"{{"verdict":"deny","reasons":["erased"],"evidence":[],"rules":"spine-1","at":"{at}"}}"#
    );
    assert_eq!(open, expected);
    assert_eq!(world.bytes(&pinned).await, open);
    // Who may not know of it hears what is said of a stranger.
    let question = |subject| world.question(subject, at);
    let told = async |of| -> serde_json::Value {
        world.operator.post("/v1/verdict/as-of", &question(of), None).await.unwrap()
    };
    let stranger = told(world.ids.v4()).await;
    assert_eq!(stranger["reasons"], serde_json::json!(["no_consent"]));
    assert_eq!(told(subject).await, stranger);
    let now = async |subject_id| -> Vec<String> {
        let request = VerdictRequest {
            subject_id,
            purpose: "marketing".to_owned(),
            channel: "whatsapp".to_owned(),
        };
        let verdict: Verdict = world.operator.post("/v1/verdict", &request, None).await.unwrap();
        verdict.reasons
    };
    assert_eq!(now(subject).await, now(world.ids.v4()).await);
    let seen = async |of, what: &str| -> String {
        let shown: serde_json::Value =
            world.operator.get(&format!("/v1/subjects/{of}/{what}")).await.unwrap();
        shown.to_string().replace(&format!("{of}"), "her")
    };
    let nobody = world.ids.v4();
    for what in ["history", "consents"] {
        assert_eq!(seen(subject, what).await, seen(nobody, what).await, "{what}");
    }
    let position =
        |of| AsOfRequest { known_at: Some(KnownAt::Position(1)), ..world.question(of, at) };
    for of in [subject, nobody] {
        let told: Result<serde_json::Value, _> =
            world.operator.post("/v1/verdict/as-of", &position(of), None).await;
        assert_eq!(code(&told.unwrap_err()), "validation_failed", "no position tells them apart");
    }
}
