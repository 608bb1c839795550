//! Kafka over TLS with a login, against the real broker's second door: the whole of Assent works by it,
//! and whoever doesn't fit is told why, soon and without a secret.

use std::path::{Path, PathBuf};
use std::process::Command;

use assent_bus::reach::{Cause, PATIENCE, reach};
use assent_bus::security::User;
use assent_bus::{BusConfig, Security, TopicError, Unreached, ensure_topics};
use assent_contracts::topics;
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Wishes, until};
use assent_tests::harness::{self, Stores, kafka_login, topic_prefix, unique};
use serde_json::json;

/// Every client of ours: relays, consumers, the saga's barriers, the creation of topics, the replay.
#[tokio::test(flavor = "multi_thread")]
async fn the_whole_road_over_tls_with_a_login() {
    let wishes = Wishes { stores: Some(Stores::over_tls()), ..Wishes::default() };
    let cluster = Cluster::with(wishes).await;
    let person = Person::somebody();
    let subject = cluster.import(&person).await;
    until("the gate has heard of her number", async || {
        cluster.explain(&person).json["reasons"] == json!(["no_consent"])
    })
    .await;
    let granted = cluster.grant(&person);
    assert_eq!((granted.status, &granted.json["status"]), (0, &json!("granted")));
    let page = format!("/v1/consents?subject_id={subject}");
    until("the grant is in the read model", async || {
        cluster.get("projector", &page).await.1["items"].as_array().is_some_and(|it| !it.is_empty())
    })
    .await;
    let rebuilt = cluster.assent(&["projection", "rebuild", "consents"]);
    assert_eq!(rebuilt.status, 0, "{}", rebuilt.text);
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
}

/// The second door of the broker, as somebody who may come in.
fn door() -> BusConfig {
    Stores::over_tls().bus
}

async fn refused(bus: &BusConfig) -> (Cause, String) {
    let answer = reach(bus, PATIENCE).await.expect_err("it must not be let in");
    let said = answer.to_string();
    let Unreached::Refused { cause, .. } = answer else { panic!("refused, not silent: {said}") };
    assert!(said.contains(cause.settings()), "it names the settings to look at: {said}");
    (cause, said)
}

#[tokio::test]
async fn who_fits_is_let_in() {
    assert_eq!(reach(&door(), PATIENCE).await, Ok(()));
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_told() {
    for (name, password) in
        [(kafka_login().user, "wrong-4711"), ("nobody".to_owned(), "wrong-4711")]
    {
        let mut bus = door();
        let Security::Tls { user, .. } = &mut bus.security else {
            unreachable!("the door has TLS")
        };
        *user = Some(User { name, password: password.into() });
        let (cause, said) = refused(&bus).await;
        assert_eq!(cause, Cause::User, "{said}");
        assert!(!said.contains(password), "{said}");
        let created = ensure_topics(&bus, &topics::ALL).await.expect_err("nor may it create");
        assert!(matches!(created, TopicError::Unreached(_)), "{created}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_named() {
    let dir = std::env::temp_dir().join(unique("assent_authority"));
    let mut bus = door();
    let Security::Tls { authority, .. } = &mut bus.security else {
        unreachable!("the door has TLS")
    };
    *authority = Some(another_authority(&dir));
    let (cause, said) = refused(&bus).await;
    assert_eq!(cause, Cause::Certificate, "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

/// Its certificate is for 127.0.0.1 and localhost.
#[tokio::test]
async fn a_certificate_for_another_name_is_named() {
    let mut bus = door();
    bus.brokers = bus.brokers.replace("127.0.0.1", "127.0.0.2");
    let forwarded = forward(&bus.brokers, &kafka_login().address).await;
    let (cause, said) = refused(&bus).await;
    forwarded.abort();
    assert_eq!(cause, Cause::Certificate, "{said}");
}

#[tokio::test]
async fn two_sides_that_speak_otherwise_are_named() {
    // Plaintext at the door with TLS.
    let plain = BusConfig::new(kafka_login().address, topic_prefix());
    // TLS at the door without.
    let mut tls = door();
    tls.brokers = harness::kafka();
    // TLS, but no login where one is asked for.
    let mut nobody = door();
    let Security::Tls { user, .. } = &mut nobody.security else { unreachable!("the door has TLS") };
    *user = None;
    for bus in [plain, tls, nobody] {
        let (cause, said) = refused(&bus).await;
        assert_eq!(cause, Cause::Protocol, "{said}");
    }
}

/// With a wrong password, or a certificate that ran out, those who hear STOP and keep it are started
/// again and are ready (G9): Kafka's refusal is in their log. Read models, which nobody says STOP to,
/// aren't ready and say why, so that a roll-out ends at its first pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_makes_only_read_models_unready() {
    const WRONG: &str = "wrong-4712";
    const SAYS: &str = "refuses the user or the password";
    let stores = Some(Stores::over_tls());
    let only = vec!["consent", "vault", "messaging", "erasure", "projector"];
    let mut cluster =
        Cluster::with(Wishes { only: only.clone(), stores, ..Wishes::default() }).await;
    for name in &only {
        cluster.kill(name);
        cluster.restart_told(name, "ASSENT_KAFKA_SASL_PASSWORD", WRONG);
    }
    for name in &only {
        let path = cluster.log(name);
        let log = || std::fs::read_to_string(&path).unwrap();
        until(&format!("{name} has it in its log"), async || log().contains(SAYS)).await;
        assert!(!log().contains(WRONG), "the password is told");
    }
    for name in only.iter().filter(|name| **name != "projector") {
        cluster.ready(name).await;
    }
    let said = cluster.readiness("projector").await;
    assert!(said.contains("kafka: ") && said.contains(SAYS), "{said}");
    assert!(!said.contains(WRONG), "the password is told");
}

/// A certificate like the broker's, by somebody else.
fn another_authority(dir: &Path) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let pem = dir.join("ca.pem");
    let store = dir.join("other.p12");
    for arguments in [
        &["-genkeypair", "-keyalg", "EC", "-dname", "CN=kafka", "-ext", "SAN=ip:127.0.0.1"][..],
        &["-exportcert", "-rfc", "-file", pem.to_str().unwrap()],
    ] {
        let mut keytool = Command::new("keytool");
        keytool.args(arguments).args(["-alias", "kafka", "-storetype", "PKCS12"]);
        keytool.arg("-keystore").arg(&store).args(["-storepass", "for-this-test"]);
        let made = keytool.output().expect("keytool comes with Java");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    }
    pem
}

/// Lets what connects to one address talk to another.
async fn forward(from: &str, to: &str) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::TcpListener::bind(from).await.unwrap();
    let to = to.to_owned();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let Ok(mut far) = tokio::net::TcpStream::connect(&to).await else { continue };
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    })
}
