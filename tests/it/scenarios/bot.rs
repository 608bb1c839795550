//! The bot in each of its languages: it says first that it is one, answers, hands over to a human and takes back, and
//! out of hours says when somebody is there; whatever is lost or told twice.

use std::path::PathBuf;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use assent_tests::harness::unique;
use serde_json::{Value, json};

use super::support::{conversation, customer};
use super::world::{self, acts, ends_well};

/// What is said in one language.
struct Language {
    hello: &'static str,
    automated: &'static str,
    reply: &'static str,
    human: &'static str,
    handing_over: &'static str,
    nobody: &'static str,
}

const LANGUAGES: [Language; 3] = [
    Language {
        hello: "hello",
        automated: "automated assistant",
        reply: "How can I help?",
        human: "human",
        handing_over: "handing you over",
        nobody: "Nobody is here right now",
    },
    Language {
        hello: "привет",
        automated: "автоматический помощник",
        reply: "Чем помочь?",
        human: "человек",
        handing_over: "Передаю вас человеку",
        nobody: "Сейчас никого нет",
    },
    Language {
        hello: "bonjour",
        automated: "assistant automatique",
        reply: "Que puis-je faire pour vous ?",
        human: "humain",
        handing_over: "Je vous passe une personne",
        nobody: "Personne n’est là",
    },
];

/// A cluster with the guide's bot, whose humans are there at these hours of every day; none: always.
async fn with_bot(hours: Option<(u8, u8)>) -> Cluster {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/bot");
    let folder = std::env::temp_dir().join(unique("assent_bot"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(example.join("shop.toml"), folder.join("shop.toml")).unwrap();
    let bot = std::fs::read_to_string(example.join("bot.toml")).unwrap();
    let mut bot = bot.split_once("[hours]").unwrap().0.to_owned();
    if let Some((from, until)) = hours {
        let days = "\"monday\", \"tuesday\", \"wednesday\", \"thursday\", \"friday\", \"saturday\", \"sunday\"";
        bot.push_str(&format!(
            "[hours]\nzone = \"UTC\"\nopen = [{{ days = [{days}], from = \"{from:02}:00\", until = \"{until:02}:00\" }}]\n"
        ));
    }
    std::fs::write(folder.join("bot.toml"), bot).unwrap();
    let flows = format!("bot_flows = \"{}\"", folder.display());
    let mut settings = world::wishes().settings;
    settings.push(("messaging", &*flows.leak()));
    let only = vec!["gateway", "consent", "vault", "messaging"];
    Cluster::with(Wishes { only, settings, ..world::wishes() }).await
}

/// What WhatsApp took for her, in its order.
async fn told(cluster: &Cluster, person: &Person) -> Vec<String> {
    let (_, answer) = cluster.get("whatsapp-sim", "/_sim/messages").await;
    let calls = answer["messages"].as_array().cloned().unwrap_or_default();
    let hers = |it: &&Value| it["party"] == person.digits() && it["outcome"] == "accepted";
    calls.iter().filter(hers).map(ToString::to_string).collect()
}

/// The `n`th message to her, once it is there; it has this text.
async fn tells(cluster: &Cluster, person: &Person, n: usize, text: &str) {
    until(&format!("message {n}: {text}"), async || told(cluster, person).await.len() >= n).await;
    let all = told(cluster, person).await;
    assert!(all[n - 1].contains(text), "message {n}: {text}: {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bot_in_each_language_says_what_it_is_answers_and_hands_over_and_back() {
    let cluster = with_bot(None).await;
    let mut people = Vec::new();
    for _ in LANGUAGES {
        people.push(customer(&cluster).await);
    }
    let all: Vec<&Person> = people.iter().map(|(person, _)| person).collect();
    world::play(&cluster, include_str!("bot.toml"), &all).await;
    for ((person, subject), it) in people.iter().zip(&LANGUAGES) {
        acts(&cluster, person, json!({"text": it.hello})).await;
        tells(&cluster, person, 1, it.automated).await;
        tells(&cluster, person, 2, it.reply).await;
        acts(&cluster, person, json!({"text": it.human})).await;
        tells(&cluster, person, 3, it.handing_over).await;
        let id = conversation(&cluster, subject).await;
        let path = format!("/v1/conversations/{id}");
        let replied = cluster.assent(&["conversation", "reply", &id, "I am Léa."]);
        assert_eq!(replied.status, 0, "{}", replied.text);
        tells(&cluster, person, 4, "I am Léa.").await;
        // While a human has it the bot says nothing.
        acts(&cluster, person, json!({"text": it.hello})).await;
        world::processed(&cluster).await;
        let back = json!({"to": "bot"});
        let (status, view) =
            cluster.post("messaging", &format!("{path}/handover"), &back, None).await;
        assert_eq!((status, &view["state"]), (200, &json!("bot")), "{view}");
        acts(&cluster, person, json!({"text": it.hello})).await;
        // It begins anew: first, in her language, what it is.
        tells(&cluster, person, 5, it.automated).await;
        tells(&cluster, person, 6, it.reply).await;
    }
    ends_well(&cluster).await;
    for ((person, _), it) in people.iter().zip(&LANGUAGES) {
        let told = told(&cluster, person).await;
        assert_eq!(told.len(), 6, "each once: {told:?}");
        for other in LANGUAGES.iter().filter(|other| other.automated != it.automated) {
            assert!(!told[4].contains(other.automated), "{}", told[4]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_hours_whoever_asks_for_a_human_is_told_when_there_is_one() {
    // Some hours from now, whenever that is, and before midnight.
    let now = SystemClock.now().as_second() / 3_600 % 24;
    let from = u8::try_from(if now < 12 { now + 6 } else { now - 6 }).unwrap();
    let cluster = with_bot(Some((from, from + 1))).await;
    let mut people = Vec::new();
    for _ in LANGUAGES {
        people.push(customer(&cluster).await);
    }
    let all: Vec<&Person> = people.iter().map(|(person, _)| person).collect();
    world::play(&cluster, include_str!("bot.toml"), &all).await;
    for ((person, subject), it) in people.iter().zip(&LANGUAGES) {
        acts(&cluster, person, json!({"text": it.hello})).await;
        tells(&cluster, person, 2, it.reply).await;
        acts(&cluster, person, json!({"text": it.human})).await;
        tells(&cluster, person, 3, it.nobody).await;
        conversation(&cluster, subject).await;
    }
    ends_well(&cluster).await;
}
