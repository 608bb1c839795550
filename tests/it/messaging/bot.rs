//! The bot: what it says first, to whom it stays silent, how it reaches a human, and that it never answers
//! twice.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_messaging::bot::files;
use assent_messaging::config::EngineConfig;
use assent_messaging::domain::bot::flows::{Around, Bot};
use assent_messaging::domain::stop::Words;
use assent_runtime::{Ids as _, SystemIds};
use assent_tests::whatsapp;
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use super::stand_ins::{Home, Manner, Neighbours, Provider, Replica, Setup, until};

const ENGINE_SECRET: &str = "engine secret";
const NOTICE: &str = "https://boulangerie.example/privacy";
const TURNS: &str = "SELECT count(*) FROM bot_turns";

/// The bot of the example in the guide.
fn bot(engine: bool) -> Option<Arc<Bot>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/bot");
    let words = Words::standard();
    let controller = "Boulangerie Exemple SARL";
    Some(Arc::new(files::load(&dir, Around { controller, words: &words, engine }).unwrap()))
}

struct World {
    home: Home,
    neighbours: Neighbours,
    provider: Provider,
    setup: Setup,
}

impl World {
    async fn new() -> Self {
        let home = Home::new().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let neighbours = Neighbours::serve(listener, home.index.clone());
        let provider = Provider::serve().await;
        let mut setup = Setup::new(neighbours.address, provider.address);
        setup.conversations.bot = bot(false);
        Self { home, neighbours, provider, setup }
    }

    async fn start(&self) -> Replica {
        self.home.start(&self.setup).await
    }

    /// What the provider took, as she reads it.
    fn told(&self) -> Vec<String> {
        let text = |body: &Value| {
            let text = &body["interactive"]["body"]["text"];
            text.as_str().or(body["text"]["body"].as_str()).unwrap_or_default().to_owned()
        };
        self.provider.bodies().iter().map(text).collect()
    }

    async fn tells(&self, count: usize) -> Vec<String> {
        until(&format!("{count} messages"), async || self.told().len() >= count).await;
        self.told()
    }
}

/// The business has written to her in this language before.
async fn speaks(replica: &Replica, subject: Uuid, language: &str) {
    sqlx::query(
        "INSERT INTO intents (id, subject_id, purpose, channel, template, language, state,
                              requested_at, changed_at)
         VALUES ($1, $2, 'service', 'whatsapp', 'hello', $3, 'accepted', now(), now())",
    )
    .bind(SystemIds.v4())
    .bind(subject)
    .bind(language)
    .execute(replica.messaging.store.pool())
    .await
    .unwrap();
}

async fn conversation(replica: &Replica) -> Value {
    let listed = replica.get("/v1/conversations").await;
    listed["items"].as_array().unwrap().last().cloned().unwrap_or_default()
}

async fn reaches(replica: &Replica, state: &str, reason: &str) {
    until(&format!("{state}: {reason}"), async || {
        let view = conversation(replica).await;
        view["state"] == state && view["reason"] == reason
    })
    .await;
    until("nothing waits for the bot", async || replica.count(TURNS).await == 0).await;
}

/// Her message that waits was taken again, twice: the bot had its chance to go on too early.
async fn looked_at_again(replica: &Replica) {
    let attempts = "SELECT coalesce(max(attempts), 0)::bigint FROM bot_turns";
    let before = replica.count(attempts).await;
    until("the turn is taken again", async || replica.count(attempts).await >= before + 2).await;
}

/// GDPR Article 18: stored, and not used. It isn't opened for a bot, nor shown to an engine.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_restricted_is_not_for_the_bot_and_calls_a_human_in_silence() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    world.neighbours.deny_purpose("service", "restricted");
    let replica = world.start().await;
    replica.hears(1, "when do you open?").await;
    reaches(&replica, "waiting", "restricted").await;
    assert_eq!(replica.count("SELECT count(*) FROM intents WHERE author = 'bot'").await, 0);
    assert!(!world.neighbours.lease_reasons(subject).contains(&"bot_turn".to_owned()));
    let kept = "SELECT count(*) FROM inbound_messages WHERE content IS NOT NULL";
    assert_eq!(replica.count(kept).await, 1, "her words are stored");
    replica.stop().await;
}

/// Trap 22, in one language: nothing of the bot's is kept, and nothing answered, before the provider took
/// what says that it is one.
async fn discloses_first(language: &str, automated: &str, greeting: &str, reply: &str) {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    world.provider.manner(Manner::Refuses(130_429));
    let replica = world.start().await;
    speaks(&replica, subject, language).await;
    replica.hears(1, greeting).await;
    // The provider is asked for the disclosure, and asks to wait.
    let told = world.tells(1).await;
    for part in [automated, "Boulangerie Exemple SARL", NOTICE] {
        assert!(told[0].contains(part), "{part}: {}", told[0]);
    }
    looked_at_again(&replica).await;
    let kept = "SELECT count(*) FROM conversations WHERE step IS NOT NULL OR misses > 0 OR language IS NOT NULL";
    assert_eq!(replica.count(kept).await, 0);
    assert_eq!(replica.count(TURNS).await, 1, "her message waits");
    let intents = "SELECT count(*) FROM intents WHERE author = 'bot'";
    assert_eq!(replica.count(intents).await, 1, "nothing else is on its way");

    world.provider.manner(Manner::Accepts);
    replica.sql("UPDATE send_rates SET next_at = now(), slowness = 1").await;
    replica.sql("UPDATE intents SET not_before = now() WHERE state = 'queued'").await;
    until("her message is answered", async || {
        world.told().last().is_some_and(|text| text == reply)
    })
    .await;
    let buttons =
        world.provider.bodies().last().unwrap()["interactive"]["action"]["buttons"].clone();
    let ids: Vec<&Value> =
        buttons.as_array().unwrap().iter().map(|it| &it["reply"]["id"]).collect();
    assert_eq!(ids.last().unwrap(), &"assent-call");
    assert_eq!(conversation(&replica).await["language"], language);
    assert_eq!(replica.count(intents).await, 2);
    assert_eq!(
        replica.count("SELECT count(*) FROM eventstore.events WHERE event_type = 'assent.messaging.bot_disclosed.v1'").await,
        1
    );
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_22_the_bot_never_collects_before_disclosing_in_english() {
    discloses_first("en", "automated assistant", "hello", "How can I help?").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_22_the_bot_never_collects_before_disclosing_in_french() {
    discloses_first("fr", "assistant automatique", "bonjour", "Que puis-je faire pour vous ?")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trap_22_the_bot_never_collects_before_disclosing_in_russian() {
    discloses_first("ru", "автоматический помощник", "привет", "Чем помочь?").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disclosure_that_may_have_been_sent_is_waited_for() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    world.provider.manner(Manner::HangsUp);
    let replica = world.start().await;
    speaks(&replica, subject, "en").await;
    replica.hears(1, "hello").await;
    let uncertain = "SELECT count(*) FROM intents WHERE author = 'bot' AND state = 'uncertain'";
    until("its fate is unknown", async || replica.count(uncertain).await == 1).await;
    looked_at_again(&replica).await;
    assert_eq!(replica.count("SELECT count(*) FROM intents WHERE author = 'bot'").await, 1);
    // The provider tells that it had taken it.
    world.provider.manner(Manner::Accepts);
    let body = world.provider.bodies().remove(0);
    let id = body["biz_opaque_callback_data"].as_str().unwrap().to_owned();
    let status = json!({"id": format!("wamid.{id}"), "status": "sent", "timestamp": "1",
        "biz_opaque_callback_data": id});
    replica.webhook(json!({"statuses": [status]})).await;
    assert_eq!(world.tells(2).await[1], "How can I help?");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_cannot_say_that_it_is_one_says_nothing_and_a_human_is_called() {
    for by_gate in [true, false] {
        let mut world = World::new().await;
        let engine = Engine::serve(json!({"reply": "I know!"})).await;
        world.setup.conversations.bot = bot(true);
        world.setup.conversations.engine = Some(engine.config());
        world.neighbours.person(1);
        if by_gate {
            world.neighbours.deny_purpose("service", "no_consent");
        } else {
            world.provider.manner(Manner::Refuses(131_026));
        }
        let replica = world.start().await;
        replica.hears(1, "where is my parcel?").await;
        reaches(&replica, "waiting", "not_disclosed").await;
        assert_eq!(world.told().len(), usize::from(!by_gate), "the disclosure at most");
        assert!(engine.asked().is_empty());
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn human_reaches_one_from_the_first_message_on_and_the_bot_is_silent_from_then_on() {
    let world = World::new().await;
    world.neighbours.person(1);
    let replica = world.start().await;
    replica.hears(1, "Humain !").await;
    reaches(&replica, "waiting", "human_asked").await;
    let told = world.tells(1).await;
    // One message: what it is, and who answers.
    assert!(told[0].contains("automated assistant") && told[0].contains("assistant automatique"));
    let answers = ["handing you over", "will answer you here"];
    assert!(answers.iter().any(|it| told[0].contains(it)), "{}", told[0]);
    replica.hears(1, "hello?").await;
    replica.processed().await;
    assert_eq!(replica.count(TURNS).await, 0);
    assert_eq!(replica.count("SELECT count(*) FROM intents WHERE author = 'bot'").await, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_human_hands_it_back_the_bot_says_again_that_it_is_one() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    let replica = world.start().await;
    speaks(&replica, subject, "en").await;
    replica.hears(1, "hello").await;
    assert_eq!(world.tells(2).await[1], "How can I help?");
    let button = |id: &str| {
        json!({"messages": [{"from": "33612300001", "id": format!("wamid.{}", SystemIds.v4()),
            "type": "interactive", "interactive": {"type": "button_reply",
                "button_reply": {"id": id, "title": "Talk to a person"}}}]})
    };
    replica.webhook(button("assent-call")).await;
    reaches(&replica, "waiting", "human_asked").await;
    world.tells(3).await;
    let id = conversation(&replica).await["conversation_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/conversations/{id}");
    assert_eq!(replica.post(&format!("{path}/assign"), json!({})).await.0, 200);
    let (status, view) = replica.post(&format!("{path}/handover"), json!({"to": "bot"})).await;
    assert_eq!((status, &view["state"]), (200, &json!("bot")));
    replica.hears(1, "opening hours").await;
    let told = world.tells(5).await;
    assert!(told[3].contains("automated assistant"), "{}", told[3]);
    assert_eq!(told[4], "Monday to Saturday, from nine.");
    // What follows a step is understood right after it.
    replica.hears(1, "And on Sunday?").await;
    assert_eq!(world.tells(6).await[5], "On Sundays we bake for Monday.");
    replica.stop().await;
}

/// The path of the conversation.
async fn path(replica: &Replica) -> String {
    let id = conversation(replica).await["conversation_id"].as_str().unwrap().to_owned();
    format!("/v1/conversations/{id}")
}

/// The provider takes what it asked to wait with.
async fn goes_on(world: &World, replica: &Replica) {
    world.provider.manner(Manner::Accepts);
    replica.sql("UPDATE send_rates SET next_at = now(), slowness = 1").await;
    replica.sql("UPDATE intents SET not_before = now() WHERE state = 'queued'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bot_had_begun_ends_when_a_human_takes_it_and_handed_back_it_begins_anew() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    world.provider.manner(Manner::Refuses(130_429));
    let replica = world.start().await;
    speaks(&replica, subject, "en").await;
    replica.hears(1, "hello").await;
    world.tells(1).await;
    assert_eq!(replica.count(TURNS).await, 1);
    let path = path(&replica).await;
    assert_eq!(replica.post(&format!("{path}/assign"), json!({})).await.0, 200);
    assert_eq!(replica.count(TURNS).await, 0, "a human reads it");
    let over = "SELECT count(*) FROM intents WHERE author = 'bot'
                AND state IN ('refused', 'failed') AND reasons = '{handed_over}'";
    until("its disclosure doesn't go out", async || replica.count(over).await == 1).await;
    assert_eq!(replica.post(&format!("{path}/handover"), json!({"to": "bot"})).await.0, 200);
    goes_on(&world, &replica).await;
    replica.hears(1, "opening hours").await;
    let answer = "Monday to Saturday, from nine.";
    until("she is answered", async || world.told().last().is_some_and(|it| it == answer)).await;
    let told = "SELECT count(*) FROM intents WHERE author = 'bot' AND state = 'accepted'";
    until("after a disclosure", async || replica.count(told).await == 2).await;
    until("nothing waits for the bot", async || replica.count(TURNS).await == 0).await;
    assert_eq!(replica.count("SELECT count(*) FROM intents WHERE author = 'bot'").await, 3);
    assert_eq!(conversation(&replica).await["state"], "bot");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bot_cannot_answer_in_time_goes_to_a_human_with_or_without_the_vault() {
    for with_keys in [true, false] {
        let world = World::new().await;
        world.neighbours.person(1);
        world.provider.manner(Manner::Refuses(130_429));
        let replica = world.start().await;
        replica.hears(1, "hello").await;
        world.tells(1).await;
        world.neighbours.give_keys(with_keys);
        replica.sql("UPDATE bot_turns SET since = now() - interval '11 minutes'").await;
        reaches(&replica, "waiting", "late").await;
        assert_eq!(replica.count("SELECT count(*) FROM intents WHERE author = 'bot'").await, 1);
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_the_language_is_told_in_that_one_before_she_is_answered() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    let replica = world.start().await;
    speaks(&replica, subject, "en").await;
    replica.hears(1, "bonjour").await;
    let told = world.tells(3).await;
    assert!(told[0].contains("automated assistant"), "{}", told[0]);
    assert!(told[1].contains("assistant automatique"), "{}", told[1]);
    assert_eq!(told[2], "Que puis-je faire pour vous ?");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn her_messages_are_answered_in_the_order_in_which_they_were_recorded() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    world.provider.manner(Manner::Refuses(130_429));
    let replica = world.start().await;
    speaks(&replica, subject, "en").await;
    for text in ["hello", "opening hours"] {
        replica.hears(1, text).await;
        replica.processed().await;
    }
    // As if the later one had been recorded first, with the greater id. Whoever has one in hand has lost it.
    replica.sql("UPDATE bot_turns SET position = -position, attempts = attempts + 1, not_before = now()").await;
    goes_on(&world, &replica).await;
    let answers = async || {
        let told = world.told();
        told.into_iter().filter(|it| !it.contains("automated assistant")).collect::<Vec<_>>()
    };
    until("both are answered", async || answers().await.len() == 2).await;
    assert_eq!(answers().await, ["Monday to Saturday, from nine.", "How can I help?"]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_does_not_reach_her_calls_a_human() {
    for by_gate in [true, false] {
        let world = World::new().await;
        let subject = world.neighbours.person(1);
        let replica = world.start().await;
        speaks(&replica, subject, "en").await;
        replica.hears(1, "hello").await;
        world.tells(2).await;
        until("nothing waits for the bot", async || replica.count(TURNS).await == 0).await;
        assert_eq!(conversation(&replica).await["state"], "bot");
        if by_gate {
            world.neighbours.deny_purpose("service", "consent_withdrawn");
            replica.hears(1, "opening hours").await;
        } else {
            // The provider took it, and tells later that it can't be delivered.
            let body = world.provider.bodies().remove(1);
            let id = body["biz_opaque_callback_data"].as_str().unwrap().to_owned();
            let id: Uuid = id.parse().unwrap();
            assert_eq!(replica.settled(id).await["state"], "accepted");
            replica.fails(id, 131_026).await;
        }
        reaches(&replica, "waiting", "not_answered").await;
        assert_eq!(world.told().len(), 2);
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_gets_the_one_confirmation_and_no_bot() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    let replica = world.start().await;
    speaks(&replica, subject, "en").await;
    replica.hears(1, "hello").await;
    world.tells(2).await;
    replica.hears(1, "STOP").await;
    reaches(&replica, "closed", "stopped").await;
    assert!(world.tells(3).await[2].starts_with("You will get no more messages"));
    // And as the very first thing that she says.
    world.neighbours.person(2);
    replica.hears(2, "стоп").await;
    let told = world.tells(4).await;
    assert!(told[3].starts_with("Вы больше не будете получать"), "{}", told[3]);
    until("both are processed", async || {
        replica.count("SELECT count(*) FROM inbound_messages").await == 3
    })
    .await;
    assert_eq!(replica.count("SELECT count(*) FROM conversations").await, 1);
    assert_eq!(replica.count(TURNS).await, 0);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_twice_to_two_replicas_is_answered_once() {
    let world = World::new().await;
    let subject = world.neighbours.person(1);
    let (one, two) = (world.start().await, world.start().await);
    speaks(&one, subject, "en").await;
    let message = json!({"messages": [{"from": "33612300001", "id": "wamid.once", "type": "text",
        "text": {"body": "hello"}}]});
    let (first, second) = tokio::join!(one.webhook(message.clone()), two.webhook(message.clone()));
    assert_eq!((first, second), (200, 200));
    let told = world.tells(2).await;
    assert_eq!(told[1], "How can I help?");
    one.webhook(message).await;
    one.processed().await;
    until("nothing waits for the bot", async || one.count(TURNS).await == 0).await;
    assert_eq!(one.count("SELECT count(*) FROM intents WHERE author = 'bot'").await, 2);
    one.stop().await;
    two.stop().await;
}

/// A signature, and the body that it is of.
type Signed = (Option<String>, Vec<u8>);

/// A team's own engine.
struct Engine {
    address: std::net::SocketAddr,
    /// Short only where it never answers.
    timeout: Duration,
    asked: Arc<Mutex<Vec<Signed>>>,
    /// It answers when this is free.
    thinks: Arc<tokio::sync::Mutex<()>>,
}

impl Engine {
    async fn serve(answer: Value) -> Self {
        let asked: Arc<Mutex<Vec<Signed>>> = Arc::default();
        let timeout = Duration::from_secs(if answer.is_null() { 2 } else { 20 });
        let (seen, thinks) = (Arc::clone(&asked), Arc::new(tokio::sync::Mutex::new(())));
        let thought = Arc::clone(&thinks);
        let router = Router::new().route(
            "/",
            post(move |headers: HeaderMap, body: axum::body::Bytes| {
                let signature = headers.get("x-assent-signature-256");
                let signature = signature.and_then(|it| it.to_str().ok()).map(str::to_owned);
                seen.lock().unwrap().push((signature, body.to_vec()));
                async move {
                    drop(thought.lock().await);
                    if answer.is_null() {
                        std::future::pending::<()>().await;
                    }
                    axum::Json(answer)
                }
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, router).into_future());
        Self { address, timeout, asked, thinks }
    }

    fn config(&self) -> EngineConfig {
        EngineConfig {
            url: format!("http://{}/", self.address),
            secret: ENGINE_SECRET.into(),
            timeout: self.timeout,
        }
    }

    fn asked(&self) -> Vec<Signed> {
        self.asked.lock().unwrap().clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_is_asked_signed_and_without_her_name_or_number() {
    let mut world = World::new().await;
    let engine = Engine::serve(json!({"reply": "It is on its way."})).await;
    world.setup.conversations.bot = bot(true);
    world.setup.conversations.engine = Some(engine.config());
    let subject = world.neighbours.person(1);
    let replica = world.start().await;
    speaks(&replica, subject, "fr").await;
    replica.hears(1, "where is my parcel?").await;
    assert_eq!(world.tells(2).await[1], "It is on its way.");
    let (signature, body) = engine.asked().remove(0);
    assert_eq!(signature, Some(whatsapp::signature(ENGINE_SECRET.as_bytes(), &body)));
    let asked: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&asked["text"], &asked["language"]), (&json!("where is my parcel?"), &json!("fr")));
    assert_eq!(asked["conversation_id"], conversation(&replica).await["conversation_id"]);
    let text = String::from_utf8(body).unwrap();
    assert!(!text.contains("33612300001") && !text.contains(&subject.to_string()), "{text}");
    // What a step answers doesn't leave.
    replica.hears(1, "horaires").await;
    assert!(world.tells(3).await[2].starts_with("Du lundi"));
    assert_eq!(engine.asked().len(), 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_does_not_answer_or_says_so_means_a_human() {
    for (answer, reason) in [
        (Value::Null, "engine_failed"),
        (json!({"reply": 7}), "engine_failed"),
        (json!({"hand_over": true}), "flow"),
    ] {
        let mut world = World::new().await;
        let engine = Engine::serve(answer).await;
        world.setup.conversations.bot = bot(true);
        world.setup.conversations.engine = Some(engine.config());
        let subject = world.neighbours.person(1);
        let replica = world.start().await;
        speaks(&replica, subject, "en").await;
        replica.hears(1, "where is my parcel?").await;
        reaches(&replica, "waiting", reason).await;
        assert_eq!(engine.asked().len(), 1, "{reason}");
        assert!(world.tells(2).await[1].contains("you"), "she is told who answers");
        replica.stop().await;
    }
}

/// Whatever the engine answers, it comes too late for who has said stop or is being erased.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_engine_is_dropped_where_a_stop_or_a_fence_came_meanwhile() {
    for stop in [true, false] {
        let mut world = World::new().await;
        let engine = Engine::serve(json!({"reply": "It is on its way."})).await;
        world.setup.conversations.bot = bot(true);
        world.setup.conversations.engine = Some(engine.config());
        let subject = world.neighbours.person(1);
        let replica = world.start().await;
        speaks(&replica, subject, "en").await;
        let thinks = engine.thinks.lock().await;
        replica.hears(1, "where is my parcel?").await;
        until("the engine is asked", async || engine.asked().len() == 1).await;
        if stop {
            replica.hears(1, "STOP").await;
            reaches(&replica, "closed", "stopped").await;
        } else {
            sqlx::query("INSERT INTO fences VALUES ($1, $1, now())")
                .bind(subject)
                .execute(replica.messaging.store.pool())
                .await
                .unwrap();
        }
        drop(thinks);
        // Its answer was looked at once another person's is out.
        let other = world.neighbours.person(2);
        speaks(&replica, other, "en").await;
        replica.hears(2, "where is my parcel?").await;
        let bots = "SELECT count(*) FROM intents WHERE author = 'bot'";
        until("the other is answered", async || replica.count(bots).await == 3).await;
        until("nothing waits for the bot", async || replica.count(TURNS).await == 0).await;
        let hers: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM intents WHERE author = 'bot' AND subject_id = $1",
        )
        .bind(subject)
        .fetch_one(replica.messaging.store.pool())
        .await
        .unwrap();
        assert_eq!(hers, 1, "the disclosure, and nothing since");
        replica.stop().await;
    }
}
