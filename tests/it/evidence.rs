//! The folder of a dispute: what is in it, who may read it, and what its check finds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use assent_runtime::{Clock as _, SystemClock};
use assent_tests::cluster::{Cluster, Wishes};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Writes a file of the folder and its hash into the manifest, as a forger would.
fn forge(dir: &Path, name: &str, content: &Value) {
    std::fs::write(dir.join(name), serde_json::to_vec(content).unwrap()).unwrap();
    forge_hash(dir, name);
}

fn forge_hash(dir: &Path, name: &str) {
    let bytes = std::fs::read(dir.join(name)).unwrap();
    let mut manifest = json_of(&dir.join("manifest.json"));
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    manifest["files"][name] = json!(hash);
    std::fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}

/// Copies a folder with its folders.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispute_is_answered_by_a_folder_that_anybody_can_check() {
    let wishes = Wishes {
        callers: vec![("clerk", &["consent:read", "subjects:read"])],
        ..Wishes::default()
    };
    let cluster = Cluster::with(wishes).await;
    let (person, subject) = cluster.willing().await;
    cluster.located(&subject).await;
    let allowed_at = SystemClock.now().to_string();
    assert_eq!(cluster.withdraw(&person).status, 0);
    let denied_at = SystemClock.now().to_string();
    let write = |caller: Option<&str>, at: &str, name: &str| {
        let dir = cluster.dir.join(name);
        let out = dir.to_str().unwrap().to_owned();
        let what = ["evidence", &person.phone, "--purpose", "marketing", "--at", at, "--out", &out];
        let ended = match caller {
            Some(caller) => cluster.assent_as(caller, &what),
            None => cluster.assent(&what),
        };
        assert_eq!(ended.status, 0, "{}", ended.text);
        (dir, ended.json)
    };
    let verify = |dir: &Path| cluster.assent(&["verify", dir.to_str().unwrap()]);

    let (dir, written) = write(None, &denied_at, "denied");
    assert_eq!(written["reasons"], json!(["consent_withdrawn"]), "{written}");
    assert_eq!((&written["evidence"], &written["sealed"]), (&json!(2), &json!(0)));
    assert_eq!(written["events"], 3, "her two words, and the country of her number");
    assert_eq!(written["receipts"], 2, "of the consent and of its end");
    let events = json_of(&dir.join("events.json"));
    let grant = events[0]["id"].as_str().unwrap();
    let file = dir.join(format!("evidence/{grant}.txt"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "form 12");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let readme = std::fs::read_to_string(dir.join("README.md")).unwrap();
    assert!(readme.contains("It was not allowed") && readme.contains(grant), "{readme}");
    let rules = json_of(&dir.join("rules.json"));
    let laws: Vec<&str> = rules["laws"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|law| law["jurisdiction"].as_str())
        .collect();
    assert_eq!(laws, ["eu", "fr", "whatsapp"], "by the seat and by her number");
    assert!(readme.contains("Loi Informatique et Libertés"), "{readme}");
    for entry in std::fs::read_dir(&dir).unwrap().map(Result::unwrap) {
        let text = std::fs::read(entry.path()).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&text).contains(person.digits()), "no number in it");
    }
    let records = format!("/v1/access-records?subject_id={subject}");
    let (_, records) = cluster.get("vault", &records).await;
    let opened =
        |record: &Value| record["reason"] == "dispute" && record["field"] == "consent.evidence";
    let items = records["items"].as_array().unwrap();
    assert_eq!(items.iter().filter(|record| opened(record)).count(), 2, "{records}");

    let checked = verify(&dir);
    assert_eq!((checked.status, &checked.json["valid"]), (0, &json!(true)), "{}", checked.text);
    assert_eq!(checked.json["evidence"]["events"], 3);

    let key = cluster.dir.join("keys/receipts.pub.pem");
    let with_key = |dir: &Path, key: &Path| {
        cluster.assent(&["verify", dir.to_str().unwrap(), "--key", key.to_str().unwrap()])
    };
    let signed = with_key(&dir, &key);
    let found = &signed.json["evidence"];
    assert_eq!((&found["receipts"], &found["complete"]), (&json!(2), &json!(true)), "{found}");
    assert_eq!(checked.json["evidence"]["complete"], false, "without a key");
    assert_eq!(with_key(&dir, &cluster.public_key()).status, 1, "another key");

    // Another moment, another answer; a folder that is there isn't written over.
    let (earlier, written) = write(None, &allowed_at, "allowed");
    assert_eq!(written["verdict"], "allow", "what was recorded later is no reason");
    assert_eq!(verify(&earlier).status, 0);
    let hash = json_of(&earlier.join("verdict.json"))["notice_hash"].clone();
    let notice = earlier.join(format!("notices/{}.txt", hash.as_str().unwrap()));
    assert!(std::fs::read_to_string(&notice).unwrap().contains("news and offers"));
    let out = earlier.to_str().unwrap();
    let again = ["evidence", &person.phone, "--purpose", "marketing", "--at", &allowed_at];
    assert_eq!(cluster.assent(&[&again[..], &["--out", out]].concat()).status, 2);

    // Who may not open evidence gets the rest.
    let (clerk, written) = write(Some("clerk"), &denied_at, "clerk");
    assert_eq!((&written["evidence"], &written["sealed"]), (&json!(0), &json!(2)));
    assert_eq!(written["signed"], false, "the clerk may not see all that a verdict may rest on");
    let unsigned = &with_key(&clerk, &key).json["evidence"];
    assert_eq!((&unsigned["key_given"], &unsigned["complete"]), (&json!(true), &json!(false)));

    // With a service down nothing is written.
    let mut cluster = cluster;
    cluster.kill("consent");
    let nowhere = cluster.dir.join("nowhere");
    let what = ["evidence", &person.phone, "--purpose", "marketing", "--at", &denied_at, "--out"];
    let cut = cluster.assent(&[&what[..], &[nowhere.to_str().unwrap()]].concat());
    assert_eq!((cut.status, nowhere.exists()), (3, false), "{}", cut.text);
    let verify = |dir: &Path| cluster.assent(&["verify", dir.to_str().unwrap()]);

    let refused = |dir: &Path, key: Option<&Path>| {
        let key: Vec<_> = key.iter().flat_map(|key| ["--key", key.to_str().unwrap()]).collect();
        let found = cluster.assent(&[&["verify", dir.to_str().unwrap()], &key[..]].concat());
        assert_eq!(found.status, 1, "{}", found.text);
        found.json["reason"].as_str().unwrap().to_owned()
    };
    let forger = |name: &str, of: &Path| {
        let forged = cluster.dir.join(name);
        copy(of, &forged);
        assert_eq!(verify(&forged).status, 0);
        forged
    };

    // A word that somebody changed, with the same verdict and hashed anew: her receipt tells otherwise.
    let forged = forger("word", &dir);
    let mut other = events.clone();
    assert_eq!(other[0]["data"]["method"], "api");
    other[0]["data"]["method"] = json!("paper");
    forge(&forged, "events.json", &other);
    let reason = refused(&forged, None);
    assert!(reason.contains("tells something else than the event"), "{reason}");
    // With the receipt changed along, its signature tells.
    let name = format!("receipts/{grant}.jsonld");
    let mut receipt = json_of(&forged.join(&name));
    let status = &mut receipt["dpv:hasRecordOfActivity"]["dpv:hasConsentStatus"];
    let changed = status.to_string().replace("an operator recorded it", "paper");
    *status = serde_json::from_str(&changed).unwrap();
    forge(&forged, &name, &receipt);
    assert_eq!(verify(&forged).status, 0, "without a key nobody can tell");
    let reason = refused(&forged, Some(&key));
    assert!(reason.contains(&name) && reason.contains("signature"), "{reason}");

    // What no receipt tells: other sealed evidence; another purpose; a withdrawal that somebody left
    // out, with the verdict that follows from the rest. The statement does.
    let forged = forger("evidence", &dir);
    let mut other = events.clone();
    other[0]["data"]["evidence"] = other[2]["data"]["evidence"].clone();
    forge(&forged, "events.json", &other);
    assert_eq!(verify(&forged).status, 0, "without a key nobody can tell");
    assert!(refused(&forged, Some(&key)).contains("other events were signed"));
    let forged = forger("purpose", &dir);
    let mut other = json_of(&forged.join("purpose.json"));
    other[0]["definition"]["data"] = json!(["phone", "email", "name"]);
    forge(&forged, "purpose.json", &other);
    assert_eq!(verify(&forged).status, 0, "without a key nobody can tell");
    assert!(refused(&forged, Some(&key)).contains("other versions of the purpose were signed"));
    let forged = forger("less", &dir);
    forge(&forged, "events.json", &json!([events[0]]));
    let verdict = std::fs::read_to_string(earlier.join("verdict.json")).unwrap();
    let verdict = verdict.replace(&allowed_at, &denied_at);
    std::fs::write(forged.join("verdict.json"), verdict).unwrap();
    forge_hash(&forged, "verdict.json");
    assert_eq!(verify(&forged).status, 0, "without a key nobody can tell");
    assert!(refused(&forged, Some(&key)).contains("another verdict was signed"));
    // The statement of another question.
    let forged = forger("question", &dir);
    std::fs::copy(earlier.join("statement.jws"), forged.join("statement.jws")).unwrap();
    forge_hash(&forged, "statement.jws");
    assert!(refused(&forged, Some(&key)).contains("another question was signed"));

    // A changed file; a withdrawal that somebody left out and hashed anew; another notice.
    std::fs::write(dir.join("events.json"), "[]").unwrap();
    let found = verify(&dir);
    assert_eq!((found.status, &found.json["reason"]), (1, &json!("events.json was changed")));
    forge(&dir, "events.json", &json!([events[0]]));
    let found = verify(&dir);
    assert_eq!(found.status, 1);
    let reason = found.json["reason"].as_str().unwrap();
    assert!(reason.contains("another verdict: consent_given"), "{reason}");
    forge(&earlier, notice.strip_prefix(&earlier).unwrap().to_str().unwrap(), &json!("other"));
    let found = verify(&earlier);
    let reason = found.json["reason"].as_str().unwrap();
    assert!(reason.contains("another text than its name says"), "{reason}");
}
