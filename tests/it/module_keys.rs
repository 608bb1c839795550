//! The wrapping key in a PKCS#11 module: a real one, SoftHSM, with a token of the test's own. The module reads where
//! its tokens are from the environment of its process: that of the tests says so too.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use assent_runtime::{Ids, SystemIds};
use assent_sealing::pkcs11::{Module, ModuleKek};
use assent_sealing::{DataKey, FileKek, Kek as _, KekError};
use assent_tests::cluster::person::Person;
use assent_tests::cluster::{Cluster, Ended, Wishes, until};
use assent_tests::harness::unique;
use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, KeyType};
use cryptoki::session::UserType;
use cryptoki::slot::Slot;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::vault::keys::{contains, table_files};

const PIN: &str = "270901";
const TOKEN: &str = "assent";

/// A folder with the PIN in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Self {
        let folder = Self(std::env::temp_dir().join(unique("softhsm")));
        std::fs::create_dir_all(&folder.0).unwrap();
        write_private(&folder.path("pin"), &format!("{PIN}\n"));
        folder
    }

    /// With an empty token of its own, for a process that is told of it.
    fn with_token() -> Self {
        let folder = Self::new();
        let tokens = folder.path("tokens");
        std::fs::create_dir_all(&tokens).unwrap();
        let settings = format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display());
        std::fs::write(folder.path("softhsm2.conf"), settings).unwrap();
        let mut command = Command::new("softhsm2-util");
        init_token(command.env("SOFTHSM2_CONF", folder.path("softhsm2.conf")), TOKEN);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn init_token(command: &mut Command, label: &str) {
    let made = command
        .args(["--init-token", "--free", "--label", label, "--pin", PIN])
        .args(["--so-pin", "11111111"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// SoftHSM's library, where Debian puts it.
fn library() -> PathBuf {
    let places =
        ["x86_64", "aarch64"].map(|cpu| format!("/usr/lib/{cpu}-linux-gnu/softhsm/libsofthsm2.so"));
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("SoftHSM is one of the needs of `cargo xtask test`")
}

fn leaked(text: impl Into<String>) -> &'static str {
    Box::leak(text.into().into_boxed_str())
}

/// What the vault and the commands are told of the module.
fn settings(token: &Folder) -> Vec<(&'static str, &'static str)> {
    let path = |path: &Path| leaked(path.display().to_string());
    vec![
        ("SOFTHSM2_CONF", path(&token.path("softhsm2.conf"))),
        ("ASSENT_VAULT_KEK_MODULE", path(&library())),
        ("ASSENT_VAULT_KEK_TOKEN", TOKEN),
        ("ASSENT_VAULT_KEK_LABEL", "assent-vault"),
        ("ASSENT_VAULT_KEK_PIN_FILE", path(&token.path("pin"))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrapping_key_moves_into_a_module_and_nobody_who_was_erased_comes_back() {
    let token = Folder::with_token();
    let told = settings(&token);
    let environment = vec![("vault", told[0].0, told[0].1)];
    let mut cluster = Cluster::with(Wishes { environment, ..Wishes::default() }).await;
    let [erased, kept, later] = [(); 3].map(|()| Person::somebody());
    let gone = cluster.import(&erased).await;
    let stays = cluster.import(&kept).await;
    erase(&cluster, &erased);
    let keys = cluster.pool("vault_keys").await;
    let before = rows(&keys).await;
    assert_eq!(before[&gone]["wrapped"], Value::Null, "the control: she is erased");
    let bytes: Vec<u8> = sqlx::query_scalar("SELECT wrapped FROM keys WHERE id = $1::text::uuid")
        .bind(&stays)
        .fetch_one(&keys)
        .await
        .unwrap();

    // What is wrong is named: by the command, by the doctor, and by a vault that doesn't start.
    for (variable, wrong, named) in [
        ("ASSENT_VAULT_KEK_MODULE", "/nowhere.so", "/nowhere.so"),
        (
            "ASSENT_VAULT_KEK_TOKEN",
            "other",
            "no slot holds a token labelled \"other\"; there are: \"assent\"",
        ),
        (
            "ASSENT_VAULT_KEK_LABEL",
            "assent-vault",
            "key \"assent-vault\" in token \"assent\": it isn't there",
        ),
    ] {
        let told: Vec<_> = told
            .iter()
            .map(|&(name, value)| (name, if name == variable { wrong } else { value }))
            .collect();
        let looked = cluster.assent_told(&["doctor"], &told);
        assert!(looked.status == 1 && says(&looked, named), "{variable}: {}", looked.text);
        let ended = cluster.assent_told(&["keys", "rewrap", "vault"], &told);
        assert!(
            ended.status == 2 && ended.text.contains(named.split('"').next().unwrap()),
            "{}",
            ended.text
        );
    }
    let generated = cluster.assent_told(&["keys", "generate", "vault"], &told);
    assert_eq!(generated.status, 0, "{}", generated.text);
    let again = cluster.assent_told(&["keys", "generate", "vault"], &told);
    assert!(again.status == 2 && again.text.contains("there is one already"), "{}", again.text);
    write_private(&token.path("wrong-pin"), "000000");
    let wrong = leaked(token.path("wrong-pin").display().to_string());
    let refused = cluster.assent_told(
        &["keys", "rewrap", "vault"],
        &[&told[..], &[("ASSENT_VAULT_KEK_PIN_FILE", wrong)]].concat(),
    );
    assert!(refused.status == 2 && refused.text.contains("PinIncorrect"), "{}", refused.text);
    assert!(!refused.text.contains("000000"), "no PIN is told");

    // The vault with both: what comes wraps in the module, what was there opens with the file.
    let config = cluster.dir.join("assent.toml");
    let (text, file) =
        (std::fs::read_to_string(&config).unwrap(), cluster.dir.join("keys/vault.kek"));
    let line = format!("kek_file = \"{}\"\n", file.display());
    assert!(text.contains(&line));
    let module: String = told[1..]
        .iter()
        .map(|(name, value)| {
            format!("{} = \"{value}\"\n", name["ASSENT_VAULT_".len()..].to_lowercase())
        })
        .collect();
    // First it only knows the module's key, so that replicas of before and after understand each other.
    let known = module.replace("kek_label", "kek_other_labels");
    std::fs::write(&config, text.replace(&line, &format!("{line}{known}"))).unwrap();
    cluster.restart("vault").await;
    let between = cluster.import(&Person::somebody()).await;
    assert_ne!(rows(&keys).await[&between]["kek_id"], "pkcs11:assent-vault", "the file wraps");
    std::fs::write(&config, text.replace(&line, &format!("{line}{module}"))).unwrap();
    cluster.restart("vault").await;
    let new = cluster.import(&later).await;
    let now = rows(&keys).await;
    assert_eq!(now[&new]["kek_id"], "pkcs11:assent-vault");
    assert_ne!(now[&stays]["kek_id"], "pkcs11:assent-vault");
    assert_eq!(address(&cluster, &stays).await, kept.phone);

    let moved = cluster.assent_told(&["keys", "rewrap", "vault"], &told);
    assert_eq!((moved.status, moved.json["rewrapped"].as_u64()), (0, Some(2)), "{}", moved.text);
    let after = rows(&keys).await;
    assert_eq!(after[&gone], before[&gone], "an erased person's row is as it was");
    let live = after.values().filter(|row| !row["wrapped"].is_null());
    assert!(live.map(|row| &row["kek_id"]).all(|id| id == "pkcs11:assent-vault"));
    let files = table_files(&keys).await;
    assert!(!contains(&files, &bytes), "what the file wrapped has left the tables");
    let again = cluster.assent_told(&["keys", "rewrap", "vault"], &told);
    assert_eq!(again.json["rewrapped"], 0, "{}", again.text);

    // Without the file: it isn't needed any more.
    std::fs::write(&config, text.replace(&line, &module)).unwrap();
    std::fs::remove_file(&file).unwrap();
    cluster.restart("vault").await;
    for (subject, person) in [(&stays, &kept), (&new, &later)] {
        assert_eq!(address(&cluster, subject).await, person.phone);
    }
    assert!(says(&cluster.assent_told(&["doctor"], &told), "stays in its module"));
    let imported = cluster.import_file(&format!("phone;name\n{};Ada\n", erased.phone));
    assert_eq!(imported.json["created"], 0, "erased stays erased: {}", imported.text);
    erase(&cluster, &kept);
    assert_eq!(rows(&keys).await[&stays]["wrapped"], Value::Null);

    // The module is lost, and comes back.
    let (tokens, aside) = (token.path("tokens"), token.path("aside"));
    std::fs::rename(&tokens, &aside).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    cluster.begin_again("vault");
    until("the vault ends, and says why", async || {
        cluster.process("vault").ended().is_some()
            && cluster.process("vault").tail().contains("no slot holds a token")
    })
    .await;
    std::fs::remove_dir(&tokens).unwrap();
    std::fs::rename(&aside, &tokens).unwrap();
    cluster.restart("vault").await;
    assert_eq!(address(&cluster, &new).await, later.phone);
}

fn erase(cluster: &Cluster, person: &Person) {
    let erased = cluster.assent(&["erase", &person.phone, "--checked", "called_back", "--wait"]);
    assert_eq!(
        (erased.status, &erased.json["status"]),
        (0, &json!("completed")),
        "{}",
        erased.text
    );
}

/// Whether one of the doctor's findings says it.
fn says(looked: &Ended, text: &str) -> bool {
    let checks = looked.json["checks"].as_array().unwrap_or_else(|| panic!("{}", looked.text));
    checks.iter().any(|check| check["says"].as_str().is_some_and(|says| says.contains(text)))
}

/// All rows of the key store, by id.
async fn rows(keys: &PgPool) -> std::collections::BTreeMap<String, Value> {
    let rows: Vec<String> =
        sqlx::query_scalar("SELECT to_jsonb(keys)::text FROM keys").fetch_all(keys).await.unwrap();
    let row = |row: &String| serde_json::from_str::<Value>(row).unwrap();
    rows.iter().map(row).map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect()
}

async fn address(cluster: &Cluster, subject: &str) -> String {
    let body = json!({"reason": "send", "subjects": [subject]});
    let (status, answer) = cluster.post("vault", "/v1/addresses/resolve", &body, None).await;
    assert_eq!(status, 200, "{answer}");
    let text = answer.to_string();
    let from = text.find("+33").unwrap_or_else(|| panic!("{text}"));
    text[from..].split('"').next().unwrap().to_owned()
}

#[test]
fn a_key_in_a_module_wraps_batches_and_outlives_the_loss_of_its_sessions() {
    let folder = Folder::new();
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let module = Module {
        path: library(),
        token: unique("token"),
        key: "wrapping".to_owned(),
        pin_file: folder.path("pin"),
    };
    // With the settings of this process, in which the module is opened.
    init_token(&mut Command::new("softhsm2-util"), &module.token);
    let open = |module: &Module| ModuleKek::open(module.clone(), Arc::clone(&ids));
    module.generate().unwrap();
    let kek = open(&module).unwrap();
    kek.look().unwrap();

    let keys: Vec<DataKey> = (0..2000).map(|_| DataKey::generate(&*ids)).collect();
    let aads: Vec<[u8; 16]> = keys.iter().map(|_| *ids.v4().as_bytes()).collect();
    let pairs: Vec<(&DataKey, &[u8])> =
        keys.iter().zip(&aads).map(|(key, aad)| (key, &aad[..])).collect();
    let wrapped = kek.wrap(&pairs).unwrap();
    let sealed: Vec<(&[u8], &[u8])> =
        wrapped.iter().zip(&aads).map(|(it, aad)| (&it[..], &aad[..])).collect();
    let opened = kek.unwrap(&sealed).unwrap();
    for (opened, key) in opened.into_iter().zip(&keys) {
        assert_eq!(opened.unwrap().expose(), key.expose());
    }

    // One that isn't its own is told apart, and the others open.
    let foreign =
        FileKek::new(DataKey::generate(&*ids), Arc::clone(&ids)).wrap(&pairs[..1]).unwrap();
    let some = [sealed[0], (&foreign[0][..], sealed[0].1), (sealed[1].0, sealed[0].1), sealed[1]];
    let opened: Vec<bool> = kek.unwrap(&some).unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(opened, [true, false, false, true]);

    // Somebody ends the login of all sessions.
    let context = Pkcs11::new(&module.path).unwrap();
    let slots = context.get_slots_with_initialized_token().unwrap();
    let is_ours =
        |slot: &Slot| context.get_token_info(*slot).unwrap().label().trim_end() == module.token;
    let slot = slots.into_iter().find(is_ours).unwrap();
    context.open_ro_session(slot).unwrap().logout().unwrap();
    let opened = kek.unwrap(&sealed[..2]).unwrap();
    assert!(opened.iter().all(Result::is_ok), "it logs in again");
    // With a wrong PIN it tries once, and not again before the file is another: tokens lock themselves.
    write_private(&module.pin_file, "000000");
    context.open_ro_session(slot).unwrap().logout().unwrap();
    for _ in 0..3 {
        assert!(matches!(kek.look(), Err(KekError::Login { .. })));
    }
    write_private(&module.pin_file, PIN);
    let touched = std::fs::File::options().append(true).open(&module.pin_file).unwrap();
    touched.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
    kek.look().unwrap();

    // A key that may leave is none.
    let session = context.open_rw_session(slot).unwrap();
    let pin = PIN.to_owned().into();
    let _ = session.login(UserType::User, Some(&pin));
    for (label, changed, said) in [
        ("leaves", Attribute::Extractable(true), "CKA_EXTRACTABLE"),
        ("short", Attribute::ValueLen(16_u64.into()), "256 bits"),
    ] {
        let mut template = vec![
            Attribute::Label(label.into()),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(32_u64.into()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ];
        template.retain(|it| it.attribute_type() != changed.attribute_type());
        template.push(changed);
        session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
        let refused = open(&Module { key: label.to_owned(), ..module.clone() }).err().unwrap();
        assert!(refused.to_string().contains(said), "{refused}");
    }
}
