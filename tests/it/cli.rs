//! The command line as scripts meet it: exit statuses, output, what it sends and what it keeps to
//! itself. The services behind it are a stub that writes down what it is asked.

pub mod stub;

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use assent_tests::harness::unique;
use stub::Stub;

/// A number reserved for fiction.
const PHONE: &str = "+33 6 39 98 00 01";

/// The binary under test.
pub fn assent() -> PathBuf {
    let dir = match std::env::var_os("ASSENT_TEST_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let test = std::env::current_exe().expect("the test has a path");
            test.ancestors().nth(2).expect("target/debug/deps/it").to_owned()
        }
    };
    let binary = dir.join("assent");
    assert!(binary.exists(), "{} is not there: `cargo build -p assent` makes it", binary.display());
    binary
}

/// A command with an environment of its own.
pub fn command(url: &str) -> Command {
    let mut command = Command::new(assent());
    command.env_clear().env("ASSENT_URL", url).env("ASSENT_TOKEN", "t").stdin(Stdio::null());
    command
}

fn run(url: &str, args: &[&str]) -> Output {
    command(url).args(args).output().expect("the binary starts")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("it exits by itself")
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// An address at which nobody listens.
fn nobody() -> String {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", free.local_addr().expect("bound"))
}

fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(unique(name));
    std::fs::write(&path, content).expect("a temporary file");
    path
}

fn known(subject: &str) -> Value {
    json!({"subject_id": subject})
}

const SUBJECT: &str = "7b0c9f1e-3c1e-4c1c-9d43-2f3a6c9d1e11";

#[test]
fn help_of_every_command_has_an_example() {
    for words in [
        &["import"][..],
        &["suppress"],
        &["explain"],
        &["consent", "grant"],
        &["consent", "withdraw"],
        &["send"],
        &["erase"],
        &["request", "open"],
        &["request", "list"],
        &["request", "show"],
        &["request", "acknowledge"],
        &["request", "identity"],
        &["request", "extend"],
        &["request", "refuse"],
        &["request", "answer"],
        &["hold", "place"],
        &["hold", "list"],
        &["hold", "review"],
        &["hold", "release"],
        &["verify"],
        &["parked", "list"],
        &["parked", "show"],
        &["parked", "replay"],
        &["parked", "discard"],
        &["projection", "list"],
        &["projection", "rebuild"],
        &["keys", "init"],
        &["migrate"],
        &["serve"],
        &["openapi"],
    ] {
        let output = run("", &[words, &["--help"]].concat());
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(status(&output), 0, "{words:?}");
        assert!(help.contains(&format!("  assent {}", words.join(" "))), "{words:?}: {help}");
    }
}

#[test]
fn wrong_use_is_2() {
    for args in [
        &["explain"][..],
        &["explain", PHONE],
        &["import", "/nowhere/contacts.csv", "--country", "FR"],
        &["import", "/dev/null", "--country", "France"],
        &["import", "/dev/null", "--map", "shoe=1"],
        &["serve"],
        &["serve", "nothing"],
        &["verify", "/nowhere/a.jws", "--key", "/nowhere/b.pem"],
        &["parked", "show", "../../etc"],
        &["verify", "/nowhere/receipt.jsonld", "--key", "/nowhere/b.pem"],
        &["rules", "lint", "/nowhere/rules"],
        &["rules", "show", "--seat", "France"],
        &["migrate", "nothing"],
    ] {
        assert_eq!(status(&run(&nobody(), args)), 2, "{args:?}");
    }
    let no_token = Command::new(assent())
        .env_clear()
        .args(["explain", PHONE, "--purpose", "marketing"])
        .output()
        .expect("the binary starts");
    assert_eq!(status(&no_token), 2);
    assert!(stderr(&no_token).contains("ASSENT_TOKEN"));
}

#[test]
fn a_service_that_is_away_is_3() {
    let output = run(&nobody(), &["explain", PHONE, "--purpose", "marketing", "--json"]);
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    let error: Value = serde_json::from_str(&stderr(&output)).expect("one JSON object");
    assert_eq!(error["error"], "unreachable");
}

#[test]
fn every_configuration_error_is_told_at_once() {
    let config = file(
        "config",
        b"[vault]\nlisten = \"nowhere\"\nlistne = 1\n[consnet]\na = 1\n\
        [consent]\nrules_dir = \"/nowhere/rules\"\n",
    );
    let output = Command::new(assent())
        .env_clear()
        .args(["serve", "consent", "vault", "--config"])
        .arg(&config)
        .output()
        .expect("the binary starts");
    assert_eq!(status(&output), 2);
    let said = stderr(&output);
    for place in [
        "[consnet]",
        "vault.listen ",
        "vault.listne",
        "ASSENT_CONSENT_DATABASE_URL",
        "ASSENT_CONSENT_SIGNING_KEY_FILE",
        "consent.rules_dir",
        "ASSENT_VAULT_KEYS_DATABASE_URL",
        "ASSENT_KAFKA_BROKERS",
        "ASSENT_AUTH_KEYS_FILE",
    ] {
        assert!(said.contains(place), "{place} is missing in: {said}");
    }
    std::fs::remove_file(config).expect("it was there");
}

#[tokio::test]
async fn a_phone_from_standard_input_goes_to_the_vault_and_nowhere_else() {
    let stub = Stub::start(|path, _| match path {
        "/vault/v1/subjects/lookup" => stub::ok(json!({"subject_id": null, "barred": "erased"})),
        "/consent/v1/verdict" => stub::ok(json!({
            "verdict": "deny", "reasons": ["no_consent"], "evidence": [], "rules": "spine-1",
            "as_of": "2026-11-24T12:00:00Z"
        })),
        _ => stub::problem(404, "not_found"),
    })
    .await;
    let mut child = command(&stub.url)
        .args(["explain", "-", "--country", "fr", "--purpose", "marketing", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"06 39 98 00 01\n").expect("it reads");
    drop(stdin);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .expect("joined")
        .expect("it ends");

    assert_eq!(status(&output), 0, "a deny is an answer: {}", stderr(&output));
    let verdict = json(&output);
    assert_eq!(verdict["verdict"], "deny");
    assert_eq!(verdict["reasons"], json!(["erased", "no_consent"]));
    assert_eq!(verdict["evidence"], json!([]));
    assert!(verdict["rules"].is_string() && verdict["as_of"].is_string());

    let asked = stub.asked();
    assert_eq!(asked[0].path, "/vault/v1/subjects/lookup");
    assert_eq!(asked[0].body, json!({"phone": "06 39 98 00 01", "country": "FR"}));
    assert_eq!(asked[0].token.as_deref(), Some("Bearer t"));
    for other in &asked[1..] {
        assert!(!format!("{other:?}").contains("39 98"), "{other:?}");
    }
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains("39 98"));
}

#[tokio::test]
async fn a_refused_send_is_1_with_reasons() {
    let stub = Stub::start(|path, _| match path {
        "/vault/v1/subjects/lookup" => stub::ok(known(SUBJECT)),
        "/messaging/v1/messages" => stub::ok(json!({"message_id": SUBJECT, "state": "queued"})),
        path if path.starts_with("/messaging/v1/messages/") => stub::ok(json!({
            "message_id": SUBJECT, "state": "refused", "reasons": ["withdrawn"]
        })),
        _ => stub::problem(404, "not_found"),
    })
    .await;
    let args = ["send", PHONE, "--purpose", "marketing", "--template", "t1", "--json"];
    let output = stub.run(command(&stub.url).args(args)).await;
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    assert_eq!(json(&output)["reasons"], json!(["withdrawn"]));
    let queued = &stub.asked()[1];
    assert_eq!(queued.body["subject_id"], SUBJECT);
    assert!(queued.idempotency_key.is_some());
}

#[tokio::test]
async fn evidence_is_sealed_before_it_travels_on() {
    let stub = Stub::start(|path, _| match path {
        "/vault/v1/subjects/lookup" => stub::ok(known(SUBJECT)),
        "/vault/v1/seal" => stub::ok(json!({"sealed": "c2VhbGVk"})),
        "/consent/v1/consents/grant" => {
            stub::ok(json!({"subject_id": SUBJECT, "events": [SUBJECT], "version": 2}))
        }
        _ => stub::problem(404, "not_found"),
    })
    .await;
    let args = ["consent", "grant", PHONE, "--purpose", "marketing", "--channel", "whatsapp"];
    let args = [&args[..], &["--evidence", "form twelve", "--json"]].concat();
    let output = stub.run(command(&stub.url).args(&args)).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let asked = stub.asked();
    assert_eq!(asked[1].body["text"], "form twelve");
    assert_eq!(asked[2].body["evidence"], "c2VhbGVk");
    assert_eq!(asked[2].body["actor"], "operator");
    assert!(!asked[2].body.to_string().contains("twelve"));

    stub.run(command(&stub.url).args(&args)).await;
    let keys: Vec<_> = stub.asked().into_iter().filter_map(|it| it.idempotency_key).collect();
    assert_ne!(keys[0], keys[1], "each invocation is an intention of its own");
}

#[tokio::test]
async fn an_import_counts_what_became_of_each_row() {
    let stub = Stub::start(|path, body| match path {
        "/vault/v1/subjects/import" => {
            let outcome = |row: &Value| match row["phone"].as_str().unwrap_or_default() {
                "+447700900001" => json!({"outcome": "refused", "reason": "erased"}),
                "12" => json!({"outcome": "rejected", "reason": "phone_invalid", "field": "phone"}),
                "+447700900002" => json!({"outcome": "existing", "subject_id": SUBJECT}),
                _ => json!({"outcome": "created", "subject_id": SUBJECT}),
            };
            let rows = body["rows"].as_array().cloned().unwrap_or_default();
            stub::ok(json!({"outcomes": rows.iter().map(outcome).collect::<Vec<_>>()}))
        }
        _ => stub::problem(404, "not_found"),
    })
    .await;
    let contacts = file(
        "contacts",
        b"name,phone,mobile\nZoe,+447700900001,\nMax,12,\nPat,+447700900002,\nKim,,\nLou,+447700900003,12\n",
    );
    let rejects = std::env::temp_dir().join(unique("rejects"));
    let mut import = command(&stub.url);
    import.arg("import").arg(&contacts).args(["--country", "GB", "--json", "--rejects"]);
    let output = stub.run(import.arg(&rejects)).await;
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let summary = json(&output);
    assert_eq!(summary["rows"], 5);
    assert_eq!(summary["created"], 1);
    assert_eq!(summary["existing"], 1);
    assert_eq!(summary["refused"], json!({"erased": 1}));
    assert_eq!(
        summary["rejected"],
        json!([
            {"line": 3, "column": 2, "reason": "phone_invalid"},
            {"line": 5, "column": 2, "reason": "phone_missing"}
        ])
    );
    // Copies can be corrected and read again; refusals are none.
    let mode = std::fs::metadata(&rejects).expect("written").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let copies = std::fs::read_to_string(&rejects).expect("text");
    let mut lines: Vec<&str> = copies.lines().collect();
    assert_eq!(lines.remove(0), "name,phone,mobile");
    lines.sort_unstable();
    assert_eq!(lines, ["Kim,,", "Max,12,"]);
    for path in [contacts, rejects] {
        std::fs::remove_file(path).expect("it was there");
    }
}

#[tokio::test]
async fn every_number_of_an_opt_out_list_is_suppressed() {
    let stub = Stub::start(|_, body| {
        let rows = body["rows"].as_array().map_or(0, Vec::len);
        stub::ok(json!({"outcomes": vec!["suppressed"; rows]}))
    })
    .await;
    let list = file("list", b"name;mobile;home phone\nZoe;+447700900001;+442079460001\n");
    let output = stub.run(command(&stub.url).arg("suppress").arg(&list).arg("--json")).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(json(&output)["suppressed"], 2);
    std::fs::remove_file(list).expect("it was there");
}

#[tokio::test]
async fn a_request_is_opened_alike_for_whom_we_know_and_whom_we_do_not() {
    for subject in [json!(SUBJECT), Value::Null] {
        let found = json!({"subject_id": subject});
        let stub = Stub::start(move |path, _| match path {
            "/vault/v1/subjects/lookup" => stub::ok(found.clone()),
            "/erasure/v1/requests" => stub::ok(json!({
                "request_id": SUBJECT, "status": "identity_pending", "due": "2026-12-28T23:00:00Z",
                "reference": "4K7QX-9B2MT", "secret": "S3CR3T",
            })),
            _ => stub::problem(404, "not_found"),
        })
        .await;
        let mut open = command(&stub.url);
        open.args(["request", "open", PHONE, "--kind", "access", "--place", "FR"]);
        let output = stub.run(&mut open).await;
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "identity_pending");
        assert!(text.contains("reference  4K7QX-9B2MT") && text.contains("secret     S3CR3T"));
        let asked = stub.asked();
        let body = &asked[1].body;
        assert_eq!((&body["subject_id"], &body["kind"]), (&subject, &json!("access")));
        assert_eq!((&body["place"], &body["identity"]), (&json!("FR"), &Value::Null));
        assert!(asked[1].idempotency_key.is_some());
    }
}

#[tokio::test]
async fn a_refusal_of_a_call_without_a_body_keeps_its_code() {
    let stub = Stub::start(|_, _| stub::problem(404, "participant_unknown")).await;
    let mut retire = command(&stub.url);
    let retire = stub.run(retire.args(["participant", "retire", "nobody"])).await;
    assert_eq!(status(&retire), 2);
    assert!(stderr(&retire).contains("participant_unknown"), "{}", stderr(&retire));
    assert_eq!(stub.asked()[0].path, "/erasure/v1/participants/nobody");
}

#[tokio::test]
async fn the_secret_of_a_webhook_is_printed_where_it_is_made() {
    let stub = Stub::start(|path, _| {
        let made = json!({"name": "crm", "key_name": "crm", "webhook": "https://crm.example.org/",
            "secret": "whsec_c2VjcmV0"});
        match path {
            "/erasure/v1/participants" | "/erasure/v1/participants/crm/secret" => stub::ok(made),
            _ => stub::problem(404, "not_found"),
        }
    })
    .await;
    let address = "https://crm.example.org/";
    for (arguments, first) in [
        (vec!["participant", "register", "crm", "--webhook", address], "registered"),
        (vec!["participant", "rotate", "crm"], "rotated"),
    ] {
        let mut called = command(&stub.url);
        let output = stub.run(called.args(arguments)).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(status(&output), 0, "{}", stderr(&output));
        assert!(text.starts_with(first) && text.contains(address), "{text}");
        assert!(text.contains("secret  whsec_c2VjcmV0  (not shown again)"), "{text}");
    }
    assert_eq!(stub.asked()[0].body["webhook"], address);

    // It can be taken off again, but not in one breath with another.
    let mut off = command(&stub.url);
    let output = stub.run(off.args(["participant", "register", "crm", "--no-webhook"])).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(stub.asked().last().unwrap().body["no_webhook"], true);
    let both = ["participant", "register", "crm", "--webhook", address, "--no-webhook"];
    assert_eq!(status(&run(&nobody(), &both)), 2);

    // A rehearsal calls no address that a deployment couldn't, and needs one way or the other.
    for (arguments, says) in [
        (vec!["--webhook", "http://crm.example.org/"], "https://"),
        (vec!["--webhook", "nowhere"], "no http(s) address"),
        (vec![], "--brokers"),
    ] {
        let check = [&["participant", "check", "crm"][..], arguments.as_slice()].concat();
        let refused = run(&nobody(), &check);
        assert_eq!(status(&refused), 2, "{says}");
        assert!(stderr(&refused).contains(says), "{}", stderr(&refused));
    }
}

#[test]
fn a_rehearsal_writes_to_no_topics_of_a_deployment() {
    for prefix in ["assent.", "", "rehearsals."] {
        let check = ["participant", "check", "crm", "--brokers", "127.0.0.1:1", "--prefix", prefix];
        let refused = run(&nobody(), &check);
        assert_eq!(status(&refused), 2, "{prefix}");
        assert!(stderr(&refused).contains("rehearsal."), "{}", stderr(&refused));
    }
}

#[tokio::test]
async fn an_erasure_by_an_operator_carries_what_was_checked_and_stops_waiting_at_a_hold() {
    let stub = Stub::start(|path, _| match path {
        "/vault/v1/subjects/lookup" => stub::ok(known(SUBJECT)),
        "/erasure/v1/requests" => stub::ok(json!({"request_id": SUBJECT, "status": "requested"})),
        _ => stub::ok(json!({"request_id": SUBJECT, "status": "on_hold", "missing": []})),
    })
    .await;
    let mut erase = command(&stub.url);
    erase.args(["erase", PHONE, "--wait", "--json", "--checked", "called_back"]);
    let output = stub.run(&mut erase).await;
    assert_eq!((status(&output), &json(&output)["status"]), (1, &json!("on_hold")));
    let identity = &stub.asked()[1].body["identity"];
    assert_eq!(identity, &json!({"method": "operator", "reason": "called_back"}));
}

#[tokio::test]
async fn a_waiting_erase_ends_only_when_everyone_has_proved_it() {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let stub = Stub::start(move |path, _| match path {
        "/vault/v1/subjects/lookup" => stub::ok(known(SUBJECT)),
        "/erasure/v1/requests" => stub::ok(json!({"request_id": SUBJECT, "status": "requested"})),
        path if path.ends_with("/certificate") => (200, "a.b.c".to_owned()),
        path if path.starts_with("/erasure/v1/requests/") => {
            let status = match looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => "fencing",
                _ => "completed",
            };
            stub::ok(json!({"request_id": SUBJECT, "status": status, "missing": []}))
        }
        _ => stub::problem(404, "not_found"),
    })
    .await;
    let certificate = std::env::temp_dir().join(unique("certificate"));
    let mut erase = command(&stub.url);
    erase.args(["erase", PHONE, "--checked", "called_back", "--wait", "--json", "--certificate"]);
    erase.arg(&certificate);
    let output = stub.run(&mut erase).await;
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let erased = json(&output);
    assert_eq!((&erased["request"], &erased["status"]), (&json!(SUBJECT), &json!("completed")));
    assert_eq!(std::fs::read_to_string(&certificate).expect("written"), "a.b.c");
    std::fs::remove_file(certificate).expect("it was there");
}

#[test]
fn a_certificate_that_is_none_is_1_and_the_key_is_never_taken_from_it() {
    let dir = std::env::temp_dir().join(unique("keys"));
    let init = run("", &["keys", "init", dir.to_str().expect("UTF-8")]);
    assert_eq!(status(&init), 0, "{}", stderr(&init));
    let certificate = file("certificate", b"eyJhbGciOiJFZERTQSJ9.e30.AAAA");
    let verify = |key: &Path| {
        Command::new(assent())
            .args(["verify", certificate.to_str().expect("UTF-8"), "--json", "--key"])
            .arg(key)
            .output()
            .expect("the binary starts")
    };
    let output = verify(&dir.join("certificates.pub.pem"));
    assert_eq!(status(&output), 1);
    assert_eq!(json(&output)["valid"], false);
    assert_eq!(status(&verify(&certificate)), 2, "a certificate is no key");
    std::fs::remove_dir_all(dir).expect("it was there");
    std::fs::remove_file(certificate).expect("it was there");
}
