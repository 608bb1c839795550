//! What a person said, on paper: the same whenever it is asked for, checked by anybody, of nobody else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use assent_tests::cluster::Cluster;
use assent_tests::cluster::person::Person;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_signed_complete_and_checked_offline() {
    let cluster = Cluster::start().await;
    let (person, subject) = cluster.willing().await;
    let write = |name: &str| {
        let dir = cluster.dir.join(name);
        let out = dir.to_str().unwrap();
        let what = ["receipt", &person.phone, "--purpose", "marketing", "--out", out];
        (cluster.assent(&what), dir)
    };
    let key = cluster.dir.join("keys/receipts.pub.pem");
    let verify = |dir: &Path, key: &Path| {
        let (file, key) = (dir.join("receipt.jsonld"), key.to_str().unwrap());
        cluster.assent(&["verify", file.to_str().unwrap(), "--key", key])
    };

    let (written, dir) = write("given");
    assert_eq!(
        (written.status, &written.json["status"]),
        (0, &json!("dpv:ConsentGiven")),
        "{}",
        written.text
    );
    // The first policy names no address; the profile wants one.
    let missing = written.json["missing"].as_array().unwrap();
    assert!(
        missing.iter().all(|path| path.as_str().unwrap().ends_with("schema:address")),
        "{missing:?}"
    );
    for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let digits = person.phone.trim_start_matches('+');
        assert!(!text.contains(digits), "{}", entry.path().display());
    }
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(dir.join("receipt.jsonld")).unwrap()).unwrap();
    let record = &receipt["dpv:hasRecordOfActivity"];
    assert_eq!(record["dpv:hasDataSubject"]["@id"], format!("urn:uuid:{subject}"));
    assert_eq!(record["dpv:hasJurisdiction"]["@id"], "loc:FR");
    assert_eq!(record["dpv:hasProcess"]["dpv:hasPurpose"]["@id"], "dpv:DirectMarketing");
    let page = std::fs::read_to_string(dir.join("receipt.html")).unwrap();
    assert!(page.contains("You agreed"), "{page}");
    let checked = verify(&dir, &key);
    assert_eq!((checked.status, &checked.json["valid"]), (0, &json!(true)), "{}", checked.text);
    assert_eq!(checked.json["receipt"]["identifier"], receipt["dpv:hasIdentifier"]);
    let other = verify(&dir, &cluster.public_key());
    assert_eq!((other.status, &other.json["valid"]), (1, &json!(false)), "{}", other.text);

    // The same again, byte by byte.
    let (_, again) = write("again");
    let bytes = |dir: &Path, name: &str| std::fs::read(dir.join(name)).unwrap();
    for name in ["receipt.jsonld", "receipt.jws", "receipt.html"] {
        assert_eq!(bytes(&dir, name), bytes(&again, name), "{name}");
    }
    let changed = String::from_utf8(bytes(&dir, "receipt.jsonld")).unwrap();
    std::fs::write(again.join("receipt.jsonld"), changed.replace("whatsapp", "whatsabb")).unwrap();
    assert_eq!(verify(&again, &key).status, 1);

    // The last word counts: also the one about everything.
    assert_eq!(cluster.withdraw(&person).status, 0);
    let (written, dir) = write("withdrawn");
    assert_eq!(written.json["status"], "dpv:ConsentWithdrawn", "{}", written.text);
    assert!(std::fs::read_to_string(dir.join("receipt.html")).unwrap().contains("You withdrew"));

    let path = format!("/v1/subjects/{subject}/receipts");
    let (_, all) = cluster.get("consent", &path).await;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(2), "the consent and its withdrawal");
    assert_eq!(
        cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]).status,
        0
    );
    let (status, none) = cluster.get("consent", &path).await;
    assert_eq!((status, &none["items"]), (200, &json!([])), "who is erased has none");

    let stranger = Person::somebody();
    let out = cluster.dir.join("nobody");
    let what =
        ["receipt", &stranger.phone, "--purpose", "marketing", "--out", out.to_str().unwrap()];
    assert_eq!(cluster.assent(&what).status, 1);
    assert!(!out.exists());
}
