//! Keys of people: what they open, for whom, on which record, and that nothing of them stays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use assent_contracts::api::vault::{
    ImportOutcome, ImportRequest, ImportResponse, ImportRow, KeyLeaseRequest, KeyLeaseResponse,
    OpenRequest, OpenResponse, ResolveRequest, ResolveResponse,
};
use assent_contracts::erasure::Step;
use assent_contracts::sealed::Sealed;
use assent_contracts::vault::Origin;
use assent_http::{ClientError, Code};
use assent_runtime::{Ids, SystemClock, SystemIds};
use assent_sealing::{
    Aad, DataKey, FileKek, Kek, KekError, Keks, KeyState, KeyStore, KeyStoreError, SealError,
    from_text, open,
};
use assent_tests::cluster::until;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use super::{code, row, vault};

#[tokio::test]
async fn access_is_on_record_before_anything_is_decrypted() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    assert_eq!(vault.resolve(subject).await.as_deref(), Some("+33600000001"));
    let page: Value =
        vault.all.get(&format!("/v1/access-records?subject_id={subject}")).await.unwrap();
    let record = &page["items"][0];
    assert_eq!(record["caller"], "all");
    assert_eq!(record["reason"], "send");
    assert_eq!(record["field"], "phone");

    sqlx::query("ALTER TABLE access_records ADD CONSTRAINT broken CHECK (false) NOT VALID")
        .execute(&vault.data)
        .await
        .unwrap();
    let request = ResolveRequest { reason: "send".to_owned(), subjects: vec![subject] };
    let refused =
        vault.all.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None).await;
    assert_eq!(code(refused), Some(Code::Internal));
    let request = KeyLeaseRequest { reason: "seal".to_owned(), subjects: vec![subject] };
    let refused = vault.all.post::<_, KeyLeaseResponse>("/v1/keys/lease", &request, None).await;
    assert_eq!(code(refused), Some(Code::Internal));
    let count: i64 = vault.count(&vault.data, "access_records").await;
    assert_eq!(count, 1, "a reason that is no code isn't even recorded");
    let request = ResolveRequest { reason: "+33600000001".to_owned(), subjects: vec![subject] };
    let refused =
        vault.all.post::<_, ResolveResponse>("/v1/addresses/resolve", &request, None).await;
    assert_eq!(code(refused), Some(Code::ValidationFailed));
}

#[tokio::test]
async fn what_was_sealed_for_a_person_opens_with_her_key_only() {
    let vault = vault().await;
    let subject = vault.register("+33600000001").await;
    let sealed = vault.seal(subject, "she said yes").await.unwrap().sealed;
    let key = vault.app.keys.get(&[subject]).await.unwrap().pop().unwrap().live().unwrap();
    let aad = Aad { subject, record: Uuid::nil(), field: "consent.evidence", version: key.version };
    // The record that it is bound to travels with it.
    let (record, text) = sealed.0.split_once('.').unwrap();
    assert_eq!(record, Uuid::nil().to_string());
    let bytes = from_text(&Sealed(text.to_owned())).unwrap();
    assert_eq!(open(&key.key, aad, &bytes).unwrap().as_slice(), b"she said yes");
    let leased = vault.lease(subject).await.unwrap();
    assert!(open(&decode(&leased), aad, &bytes).is_err(), "a lease is a key of its own");
    assert_eq!(code(vault.seal(Uuid::nil(), "x").await), Some(Code::SubjectUnknown));
}

#[tokio::test]
async fn sealed_evidence_opens_again_on_record_and_for_nobody_else() {
    let vault = vault().await;
    let (subject, other) =
        (vault.register("+33600000001").await, vault.register("+33600000002").await);
    let sealed = vault.seal(subject, "she said yes").await.unwrap().sealed;
    let opened = async |subject_id, sealed: &Sealed| -> Result<OpenResponse, ClientError> {
        let request = OpenRequest {
            reason: "dispute".to_owned(),
            subject_id,
            field: "consent.evidence".to_owned(),
            sealed: sealed.clone(),
        };
        vault.all.post("/v1/open", &request, None).await
    };
    assert_eq!(opened(subject, &sealed).await.map(|it| it.text).unwrap(), "she said yes");
    let records = "SELECT reason, field FROM access_records WHERE subject_id = $1";
    let record: (String, String) =
        sqlx::query_as(records).bind(subject).fetch_one(&vault.data).await.unwrap();
    assert_eq!(record, ("dispute".to_owned(), "consent.evidence".to_owned()));

    assert_eq!(code(opened(other, &sealed).await), Some(Code::ValidationFailed));
    let moved = Sealed(sealed.0.replace(&Uuid::nil().to_string(), &Uuid::max().to_string()));
    assert_eq!(code(opened(subject, &moved).await), Some(Code::ValidationFailed));
    assert_eq!(code(opened(Uuid::nil(), &sealed).await), Some(Code::SubjectUnknown));
}

fn decode(text: &str) -> DataKey {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD_NO_PAD.decode(text).unwrap();
    DataKey::from_bytes(bytes.try_into().unwrap())
}

#[tokio::test]
async fn a_key_store_that_is_away_leaves_nothing_half_written() {
    let vault = vault().await;
    vault.keys.close().await;
    let request =
        ImportRequest { origin: Origin::Import, acted_at: None, rows: vec![row("+33600000001")] };
    let refused = vault.all.post::<_, ImportResponse>("/v1/subjects/import", &request, None).await;
    assert_eq!(code(refused), Some(Code::DependencyUnavailable));
    for table in ["people", "addresses", "eventstore.events", "eventstore.outbox"] {
        assert_eq!(vault.count(&vault.data, table).await, 0, "{table}");
    }
}

#[tokio::test]
async fn nothing_identifying_reaches_a_table_file_in_plain() {
    let vault = vault().await;
    let person = ImportRow {
        phone: "+33 6 98 76 54 32".to_owned(),
        country: None,
        name: Some("Canarina Kestrel".to_owned()),
        email: Some("canarina@kestrel.example".to_owned()),
        ..ImportRow::default()
    };
    let outcomes = vault.import(Origin::Import, vec![person]).await;
    let ImportOutcome::Created { subject_id } = outcomes[0] else { panic!("{outcomes:?}") };
    vault.resolve(subject_id).await.unwrap();
    vault.seal(subject_id, "Canarina Kestrel").await.unwrap();
    vault.suppress(&["+33698765432"]).await.unwrap();
    vault.step(subject_id, Step::Fence).await;
    vault.step(subject_id, Step::Delete).await;

    let canaries: [&[u8]; 4] = [b"Canarina", b"Kestrel", b"kestrel.example", b"698765432"];
    for pool in [&vault.data, &vault.keys] {
        let files = table_files(pool).await;
        for canary in canaries {
            assert!(!contains(&files, canary), "{}", String::from_utf8_lossy(canary));
        }
        // The control: a scan that can't find anything proves nothing.
        sqlx::query("CREATE TABLE control AS SELECT 'Canarina 698765432' AS text")
            .execute(pool)
            .await
            .unwrap();
        assert!(contains(&table_files(pool).await, b"Canarina 698765432"));
    }
}

#[tokio::test]
async fn a_destroyed_key_leaves_the_files_of_the_key_store() {
    let vault = vault().await;
    let (gone, kept) = (Uuid::from_u128(11), Uuid::from_u128(12));
    vault.app.keys.mint(&[gone, kept]).await.unwrap();
    let (bytes, other) = (vault.wrapped(gone).await.unwrap(), vault.wrapped(kept).await.unwrap());
    let files = table_files(&vault.keys).await;
    assert!(contains(&files, &bytes) && contains(&files, &other), "the control");

    assert_eq!(vault.app.keys.destroy(&[gone]).await.unwrap(), 1);
    let files = table_files(&vault.keys).await;
    assert!(!contains(&files, &bytes), "neither in dead rows nor in free space");
    assert!(contains(&files, &other));

    // Destroyed, never made and alive stay apart, whatever is asked after.
    let never = Uuid::from_u128(13);
    let states = vault.app.keys.get(&[gone, kept, never]).await.unwrap();
    assert!(matches!(states[..], [KeyState::Destroyed, KeyState::Live(_), KeyState::Never]));
    assert!(matches!(vault.app.keys.mint(&[gone]).await.unwrap()[..], [KeyState::Destroyed]));
    vault.app.keys.destroy(&[never]).await.unwrap();
    assert!(matches!(vault.app.keys.mint(&[never]).await.unwrap()[..], [KeyState::Destroyed]));
}

#[tokio::test]
async fn a_key_is_destroyed_only_when_no_older_transaction_keeps_its_bytes() {
    for older in ["of another database", "of its own"] {
        let vault = vault().await;
        let gone = Uuid::from_u128(11);
        vault.app.keys.mint(&[gone]).await.unwrap();
        let bytes = vault.wrapped(gone).await.unwrap();
        let (pool, it) = match older {
            "of its own" => {
                (&vault.keys, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM keys")
            }
            _ => (&vault.data, "SELECT pg_current_xact_id()"),
        };
        let mut open = pool.begin().await.unwrap();
        sqlx::raw_sql(it).execute(&mut *open).await.unwrap();

        let keys = vault.app.keys.clone();
        let mut destroying = tokio::spawn(async move { keys.destroy(&[gone]).await });
        until("the key is destroyed", async || vault.wrapped(gone).await.is_none()).await;
        let early = tokio::time::timeout(Duration::from_millis(500), &mut destroying).await;
        assert!(early.is_err(), "{older}: it was not waited for");
        open.commit().await.unwrap();
        destroying.await.unwrap().unwrap();
        assert!(!contains(&table_files(&vault.keys).await, &bytes), "{older}");
    }
}

/// Wraps when it is let, so that something can come between.
struct Hesitant {
    kek: FileKek,
    begun: std::sync::mpsc::Sender<()>,
    go_on: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Kek for Hesitant {
    fn id(&self) -> &str {
        self.kek.id()
    }

    fn wrap(&self, keys: &[(&DataKey, &[u8])]) -> Result<Vec<Vec<u8>>, KekError> {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        self.kek.wrap(keys)
    }

    fn unwrap(&self, keys: &[(&[u8], &[u8])]) -> Result<Vec<Result<DataKey, SealError>>, KekError> {
        self.kek.unwrap(keys)
    }

    fn look(&self) -> Result<(), KekError> {
        self.kek.look()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn g6_a_key_that_is_destroyed_while_it_is_wrapped_again_stays_destroyed() {
    let vault = vault().await;
    let ids: Arc<dyn Ids> = Arc::new(SystemIds);
    let [old, new] = [1, 2].map(|byte| DataKey::from_bytes([byte; 32]));
    let old = || FileKek::new(DataKey::from_bytes(*old.expose()), Arc::clone(&ids));
    let store =
        |keks| KeyStore::new(vault.keys.clone(), keks, Arc::new(SystemClock), Arc::clone(&ids));
    let (gone, before, stays) = (Uuid::from_u128(21), Uuid::from_u128(22), Uuid::from_u128(23));
    let first = store(Keks::from(old()));
    let keys = first.mint(&[gone, before, stays]).await.unwrap();
    let [.., KeyState::Live(stays_key)] = &keys[..] else { panic!("made") };
    first.destroy(&[before]).await.unwrap();
    let wrapped = vault.wrapped(stays).await.unwrap();

    let ((begun, begins), (go, go_on)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let hesitant =
        Hesitant { kek: FileKek::new(new, Arc::clone(&ids)), begun, go_on: Mutex::new(go_on) };
    let moving = store(Keks::moving(hesitant, old()));
    let rewrapping = {
        let moving = moving.clone();
        tokio::spawn(async move { moving.rewrap(Uuid::nil(), 10).await })
    };
    tokio::task::spawn_blocking(move || begins.recv().unwrap()).await.unwrap();
    first.destroy(&[gone]).await.unwrap();
    go.send(()).unwrap();
    assert_eq!(rewrapping.await.unwrap().unwrap(), Some((stays, 1)), "the one that still lives");
    assert_eq!(moving.rewrap(Uuid::nil(), 10).await.unwrap(), None);
    let states = moving.get(&[gone, before, stays]).await.unwrap();
    let [KeyState::Destroyed, KeyState::Destroyed, KeyState::Live(key)] = &states[..] else {
        panic!("who was destroyed came back")
    };
    assert_eq!(key.key.expose(), stays_key.key.expose());
    assert!(vault.wrapped(gone).await.is_none() && vault.wrapped(before).await.is_none());
    moving.rewrite_all().await.unwrap();
    assert!(!contains(&table_files(&vault.keys).await, &wrapped), "as it was wrapped before");
    assert!(matches!(first.get(&[stays]).await, Err(KeyStoreError::Foreign { .. })));
}

/// The bytes of all tables and indexes of a database, page by page as they go to disk. Read through
/// the server: a checkpoint that brings them there would wait for what all other tests write.
pub async fn table_files(pool: &PgPool) -> Vec<u8> {
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pageinspect").execute(pool).await.unwrap();
    let pages: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT get_raw_page(c.oid::regclass::text, page::int) FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace,
              generate_series(0, pg_relation_size(c.oid) / 8192 - 1) AS page
         WHERE c.relkind IN ('r', 'i', 't') AND n.nspname <> 'pg_catalog'",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    pages.concat()
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
