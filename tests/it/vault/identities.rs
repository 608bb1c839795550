//! What the platform calls people: added to whom it belongs, linked and never merged, gone when she is.

use std::sync::atomic::Ordering;

use assent_contracts::address::AddressToken;
use assent_contracts::api::vault::{
    Asked, ForgetRequest, ForgetResponse, IdentitiesRequest, IdentitiesResponse, IdentityOutcome,
    ImportOutcome, ImportRequest, ImportResponse, ImportRow, LookupRequest, LookupResponse,
    ResolveRequest, ResolveResponse, ResolvedAddress, Standing, SuppressRequest, SuppressResponse,
    SuppressRow, ToldIdentity, Who, WhoRequest, WhoResponse,
};
use assent_contracts::erasure::Step;
use assent_contracts::vault::{IDENTIFIERS_ADDED, IDENTIFIERS_REMOVED, Origin, SUBJECT_LINKED};
use assent_http::{ClientError, Code};
use assent_participant::{Steps as _, Task};
use serde_json::json;
use uuid::Uuid;

use super::{Vault, code, number, row, vault};

fn told(phone: &str, user_id: &str, parent: &str) -> ToldIdentity {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ToldIdentity {
        answers: None,
        phone: some(phone),
        user_id: some(user_id),
        parent_user_id: some(parent),
    }
}

fn by_user_id(user_id: &str) -> ImportRow {
    ImportRow { user_id: Some(user_id.to_owned()), ..ImportRow::default() }
}

impl Vault {
    async fn tell(&self, told: ToldIdentity) -> Result<IdentityOutcome, ClientError> {
        let request = IdentitiesRequest { told: vec![told] };
        let mut answer: IdentitiesResponse =
            self.all.post("/v1/identities", &request, None).await?;
        Ok(answer.outcomes.remove(0))
    }

    async fn known_by(&self, user_id: &str) -> Option<Uuid> {
        let request =
            LookupRequest { user_id: Some(user_id.to_owned()), ..LookupRequest::default() };
        self.asked(&request).await.subject_id
    }

    async fn asked(&self, request: &LookupRequest) -> LookupResponse {
        self.all.post("/v1/subjects/lookup", request, None).await.unwrap()
    }

    async fn address(&self, subject: Uuid) -> Option<ResolvedAddress> {
        let request = ResolveRequest { reason: "send".to_owned(), subjects: vec![subject] };
        let mut answer: ResolveResponse =
            self.all.post("/v1/addresses/resolve", &request, None).await.unwrap();
        answer.addresses.pop().unwrap()
    }

    async fn who(&self, asked: Asked) -> Who {
        let request = WhoRequest { asked: vec![asked] };
        let mut answer: WhoResponse =
            self.all.post("/v1/identities/who", &request, None).await.unwrap();
        answer.answers.remove(0)
    }

    async fn created(&self, row: ImportRow) -> Uuid {
        match &self.import(Origin::Subject, vec![row]).await[..] {
            [ImportOutcome::Created { subject_id }] => *subject_id,
            other => panic!("{other:?}"),
        }
    }

    fn tokens(&self, name: &str) -> Vec<AddressToken> {
        self.app.addresses.tokens(name)
    }

    pub(super) async fn events(&self, subject: Uuid, event_type: &str) -> usize {
        let events = self.app.store.load(subject, 0, 100).await.unwrap();
        events.iter().filter(|event| event.event_type == event_type).count()
    }
}

#[tokio::test]
async fn what_the_platform_tells_is_added_once_and_a_stop_at_any_name_finds_her() {
    let vault = vault().await;
    let subject = vault.register(&number(1)).await;
    let names = || told(&number(1), "FR.13491208655302741918", "FR.ENT.11815799212886844830");
    for _ in 0..2 {
        let outcome = vault.tell(names()).await.unwrap();
        assert_eq!(outcome, IdentityOutcome::Known { subject_id: subject });
    }
    assert_eq!(vault.events(subject, IDENTIFIERS_ADDED).await, 1);
    assert_eq!(vault.known_by("FR.13491208655302741918").await, Some(subject));
    let address = vault.address(subject).await.unwrap();
    assert_eq!(address.phone, number(1));
    assert_eq!(address.user_id.as_deref(), Some("FR.13491208655302741918"));
    assert_eq!(address.tokens, vault.tokens(&number(1)));
    let others = ["FR.13491208655302741918", "FR.ENT.11815799212886844830"];
    assert_eq!(address.others, others.map(|name| vault.tokens(name)).concat());
    // The gate has all of them, by the repeat too: the first answer may have been lost.
    let links = vault.links.lock().unwrap().clone();
    assert_eq!(links.len(), 2);
    for link in links {
        assert_eq!(link["subject_id"], json!(subject));
        assert_eq!(link["addresses"].as_array().unwrap().len(), 3);
    }
    // Nobody becomes known by it.
    let strangers = told(&number(2), "FR.2", "");
    assert_eq!(vault.tell(strangers).await.unwrap(), IdentityOutcome::Nobody);
    assert_eq!(vault.count(&vault.data, "people").await, 1);
    let rejected = IdentityOutcome::Rejected { reason: "user_id_invalid".into() };
    assert_eq!(vault.tell(told(&number(1), "no user id", "")).await.unwrap(), rejected);
}

#[tokio::test]
async fn someone_known_by_her_user_id_alone_is_resolved_and_gets_her_number_later() {
    let vault = vault().await;
    // Only her own act makes her known by it.
    let request =
        ImportRequest { origin: Origin::Import, acted_at: None, rows: vec![by_user_id("FR.1")] };
    let refused = vault.all.post::<_, ImportResponse>("/v1/subjects/import", &request, None).await;
    assert_eq!(code(refused), Some(Code::ValidationFailed));
    let subject = vault.created(by_user_id("FR.1")).await;
    let again = vault.import(Origin::Subject, vec![by_user_id("FR.1")]).await;
    assert_eq!(again, [ImportOutcome::Existing { subject_id: subject }]);
    let address = vault.address(subject).await.unwrap();
    let fields = "SELECT array_agg(field ORDER BY field) FROM access_records";
    let fields: Vec<String> = sqlx::query_scalar(fields).fetch_one(&vault.data).await.unwrap();
    assert_eq!(fields, ["phone", "user_id"], "both are on record");
    assert_eq!((&*address.phone, address.user_id.as_deref()), ("", Some("FR.1")));
    assert_eq!((&address.tokens, address.others.len()), (&vault.tokens("FR.1"), 0));

    let outcome = vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Known { subject_id: subject });
    assert_eq!(vault.lookup(&number(1)).await.subject_id, Some(subject));
    let address = vault.address(subject).await.unwrap();
    assert_eq!((address.phone, address.tokens), (number(1), vault.tokens(&number(1))));
    assert_eq!(address.others, vault.tokens("FR.1"));
}

#[tokio::test]
async fn the_answer_to_her_message_names_her() {
    let vault = vault().await;
    let subject = vault.register(&number(1)).await;
    let names = ToldIdentity { answers: Some(subject), ..told("", "FR.1", "") };
    let outcome = vault.tell(names).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Known { subject_id: subject });
    assert_eq!(vault.known_by("FR.1").await, Some(subject));
}

#[tokio::test]
async fn two_people_who_are_one_are_linked_once_and_stay_two() {
    let vault = vault().await;
    let (by_number, by_id) =
        (vault.register(&number(1)).await, vault.created(by_user_id("FR.1")).await);
    let mut both = vec![by_number, by_id];
    both.sort_unstable();
    for _ in 0..2 {
        let outcome = vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
        assert_eq!(outcome, IdentityOutcome::Linked { subjects: both.clone() });
    }
    assert_eq!(vault.count(&vault.data, "people").await, 2);
    assert_eq!(vault.address(by_number).await.unwrap().user_id, None, "nothing of theirs moved");
    let all = [vault.tokens(&number(1)), vault.tokens("FR.1")].concat();
    for (subject, other) in [(by_number, by_id), (by_id, by_number)] {
        assert_eq!(vault.events(subject, SUBJECT_LINKED).await, 1);
        let links = vault.links.lock().unwrap().clone();
        let hers: Vec<_> = links.iter().filter(|it| it["subject_id"] == json!(subject)).collect();
        assert_eq!(hers.len(), 2);
        for token in &all {
            assert!(hers[0]["addresses"].as_array().unwrap().contains(&json!(token)));
        }
        let found = vault.address(subject).await.unwrap();
        assert_eq!(found.linked, [other]);
        let theirs = vault.address(other).await.unwrap().tokens;
        assert_eq!((&found.linked_addresses, found.others.len()), (&theirs, 0));
        let who = vault.who(Asked { phones: found.tokens.clone(), ..Asked::default() }).await;
        let expected = (Standing::Known, vec![subject], vec![other], found.tokens);
        assert_eq!((who.standing, who.named, who.linked, who.hers), expected);
    }
    // What one of them is known by later is the other's too.
    let more = told("", "FR.1", "FR.ENT.9");
    let outcome = vault.tell(more).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Known { subject_id: by_id });
    assert_eq!(vault.events(by_number, SUBJECT_LINKED).await, 2);
    let links = vault.links.lock().unwrap().clone();
    let parent = json!(vault.tokens("FR.ENT.9")[0]);
    let with_parent =
        links.iter().filter(|it| it["addresses"].as_array().unwrap().contains(&parent));
    assert_eq!(with_parent.count(), 2);
    assert_eq!(vault.address(by_number).await.unwrap().linked_addresses.len(), 2);
}

/// What is held of whom she is one with is hers: an erasure of one of them alone is visibly not done.
#[tokio::test]
async fn g4_an_erasure_waits_for_those_who_are_one_with_her() {
    let vault = vault().await;
    let (by_number, by_id) =
        (vault.register(&number(1)).await, vault.created(by_user_id("FR.1")).await);
    vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
    vault.step(by_id, Step::Fence).await;
    let delete = vault.heard(by_id, Step::Delete).await;
    let replica = vault.replica();
    for _ in 0..2 {
        let open = replica.carry_out(&delete).await.unwrap_err();
        assert!(open.to_string().contains("is one with the person"), "{open}");
    }
    assert_eq!(vault.count(&vault.data, "people").await, 2);
    // With hers it goes on, in any order.
    vault.step(by_number, Step::Fence).await;
    replica.carry_out(&delete).await.unwrap();
    vault.erase(by_number).await;
    assert_eq!(vault.count(&vault.data, "people").await, 0);
    assert_eq!(vault.count(&vault.data, "subject_links").await, 0);
}

/// Steps of many are one transaction; who must wait keeps nobody else from being forgotten.
#[tokio::test]
async fn g4_of_a_batch_only_who_must_wait_is_put_off() {
    let vault = vault().await;
    let (by_number, by_id) =
        (vault.register(&number(1)).await, vault.created(by_user_id("FR.1")).await);
    vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
    let other = vault.register(&number(2)).await;
    for subject in [by_id, other] {
        vault.step(subject, Step::Fence).await;
    }
    let mut tasks = Vec::new();
    for subject in [by_id, other] {
        tasks.push(Task::of(vault.heard(subject, Step::Delete).await));
    }
    let app = &*vault.app;
    app.prepare(Step::Delete, &mut tasks).await.unwrap();
    let mut session = app.store.begin().await.unwrap();
    app.carry_out(&mut session, Step::Delete, &mut tasks).await.unwrap();
    session.commit().await.unwrap();
    let why: Vec<Option<&str>> = tasks.iter().map(Task::why_put_off).collect();
    assert!(why[0].is_some_and(|why| why.contains("is one with the person")), "{why:?}");
    assert_eq!(why[1], None);
    let left: Vec<Uuid> = sqlx::query_scalar("SELECT subject_id FROM people ORDER BY 1")
        .fetch_all(&vault.data)
        .await
        .unwrap();
    let mut both = vec![by_number, by_id];
    both.sort_unstable();
    assert_eq!(left, both);
}

/// Trap 10, for two who are one: the number goes to a third person, or the account to another number.
#[tokio::test]
async fn trap_10_what_one_of_two_linked_people_has_the_other_has_not_anew() {
    let vault = vault().await;
    let (by_number, by_id) =
        (vault.register(&number(1)).await, vault.created(by_user_id("FR.1")).await);
    vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
    let doubt = |subject| IdentityOutcome::InDoubt { subjects: vec![subject] };
    assert_eq!(vault.tell(told(&number(1), "FR.2", "")).await.unwrap(), doubt(by_number));
    assert_eq!(vault.tell(told(&number(2), "FR.1", "")).await.unwrap(), doubt(by_id));
    assert_eq!(vault.known_by("FR.2").await, None);
    let asked = Asked {
        phones: vault.tokens(&number(1)),
        user_ids: vault.tokens("FR.2"),
        ..Asked::default()
    };
    let who = vault.who(asked).await;
    assert_eq!((who.standing, who.subject()), (Standing::InDoubt, None));

    // Verified: who was one with her is so no more, and that is published for both.
    let forget = ForgetRequest { subject_id: by_number };
    for forgotten in [true, false] {
        let answer: ForgetResponse =
            vault.all.post("/v1/identities/forget", &forget, None).await.unwrap();
        assert_eq!(answer.forgotten, forgotten);
    }
    assert_eq!(vault.count(&vault.data, "subject_links").await, 0);
    for subject in [by_number, by_id] {
        assert_eq!(vault.events(subject, IDENTIFIERS_REMOVED).await, 1);
    }
    let outcome = vault.tell(told(&number(1), "FR.2", "")).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Known { subject_id: by_number });
    vault.erase(by_id).await;
}

/// Trap 10: a number with another account is somebody else's until a human says otherwise.
#[tokio::test]
async fn trap_10_another_account_at_her_number_is_not_her() {
    let vault = vault().await;
    let subject = vault.register(&number(1)).await;
    vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
    let doubt = IdentityOutcome::InDoubt { subjects: vec![subject] };
    assert_eq!(vault.tell(told(&number(1), "FR.2", "")).await.unwrap(), doubt);
    assert_eq!(vault.known_by("FR.2").await, None);
    let question = |user_id: &str| Asked {
        phones: vault.tokens(&number(1)),
        user_ids: vault.tokens(user_id),
        ..Asked::default()
    };
    let who = vault.who(question("FR.2")).await;
    assert_eq!((who.standing, who.subject()), (Standing::InDoubt, None));
    let who = vault.who(question("FR.1")).await;
    assert_eq!((who.standing, who.subject()), (Standing::Known, Some(subject)));
    let who = vault.who(Asked { user_ids: vault.tokens("FR.9"), ..Asked::default() }).await;
    assert_eq!((who.standing, who.named), (Standing::Nobody, Vec::new()));
    // The account at another number: it counts more than the number, and is in doubt as well.
    assert_eq!(vault.tell(told(&number(2), "FR.1", "")).await.unwrap(), doubt);

    // Somebody verified the number: the account is learnt anew.
    let forget = ForgetRequest { subject_id: subject };
    for forgotten in [true, false] {
        let answer: ForgetResponse =
            vault.all.post("/v1/identities/forget", &forget, None).await.unwrap();
        assert_eq!(answer.forgotten, forgotten);
    }
    assert_eq!(vault.events(subject, IDENTIFIERS_REMOVED).await, 1);
    assert_eq!(vault.known_by("FR.1").await, None);
    let outcome = vault.tell(told(&number(1), "FR.2", "")).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Known { subject_id: subject });
    assert_eq!(vault.known_by("FR.2").await, Some(subject));
    // Whoever is known by her account alone keeps it.
    let other = vault.created(by_user_id("FR.7")).await;
    let forget = ForgetRequest { subject_id: other };
    let answer: ForgetResponse =
        vault.all.post("/v1/identities/forget", &forget, None).await.unwrap();
    assert!(!answer.forgotten);
}

#[tokio::test]
async fn an_erased_user_id_stays_out_until_her_own_act() {
    let vault = vault().await;
    let subject = vault.created(by_user_id("FR.1")).await;
    vault.erase(subject).await;
    let stops = vault.stops.lock().unwrap().clone();
    assert_eq!(stops.last().unwrap()["addresses"], json!(vault.tokens("FR.1")));
    let request = LookupRequest { user_id: Some("FR.1".into()), ..LookupRequest::default() };
    let found = vault.asked(&request).await;
    assert_eq!((found.subject_id, found.barred.as_deref()), (None, Some("erased")));
    // It comes again, with the number of somebody who is known: it isn't kept, and the gate knows.
    let other = vault.register(&number(1)).await;
    let outcome = vault.tell(told(&number(1), "FR.1", "")).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Known { subject_id: other });
    assert_eq!(vault.known_by("FR.1").await, None);
    assert_eq!(vault.events(other, IDENTIFIERS_ADDED).await, 0);
    let links = vault.links.lock().unwrap().clone();
    let erased = json!(vault.tokens("FR.1")[0]);
    assert!(links.last().unwrap()["addresses"].as_array().unwrap().contains(&erased));
    // Her own act is a new relation.
    assert_ne!(vault.created(by_user_id("FR.1")).await, subject);

    // Number and user ids of one person end together.
    let whole = vault.register(&number(2)).await;
    vault.tell(told(&number(2), "FR.2", "FR.ENT.2")).await.unwrap();
    vault.erase(whole).await;
    for name in ["FR.2", "FR.ENT.2", &number(2)] {
        let prints = vault.app.fingerprints.fingerprints(name);
        let kept: i64 =
            sqlx::query_scalar("SELECT count(*) FROM suppressions WHERE fingerprint = $1")
                .bind(prints[0].0.as_slice())
                .fetch_one(&vault.data)
                .await
                .unwrap();
        assert_eq!(kept, 1);
    }
    let back = vault.import(Origin::Import, vec![row(&number(2))]).await;
    assert_eq!(back, [ImportOutcome::Refused { reason: "erased".into() }]);
}

#[tokio::test]
async fn a_user_id_can_be_suppressed_and_a_fenced_person_learns_nothing_new() {
    let vault = vault().await;
    let suppressed = SuppressRow { user_id: Some("FR.1".into()), ..SuppressRow::default() };
    let request = SuppressRequest { rows: vec![suppressed] };
    let answer: SuppressResponse =
        vault.all.post("/v1/suppressions", &request, None).await.unwrap();
    assert_eq!(answer.outcomes, ["suppressed"]);
    assert_eq!(vault.stops.lock().unwrap()[0]["addresses"], json!(vault.tokens("FR.1")));

    let subject = vault.register(&number(1)).await;
    vault.step(subject, Step::Fence).await;
    let outcome = vault.tell(told(&number(1), "FR.2", "")).await.unwrap();
    assert_eq!(outcome, IdentityOutcome::Nobody);
    assert_eq!(vault.known_by("FR.2").await, None);
}

#[tokio::test]
async fn what_the_gate_did_not_hear_is_told_again_by_the_repeat() {
    let vault = vault().await;
    vault.register(&number(1)).await;
    vault.consent_is_down.store(true, Ordering::SeqCst);
    let names = || told(&number(1), "FR.1", "");
    assert_eq!(code(vault.tell(names()).await), Some(Code::DependencyUnavailable));
    assert!(vault.links.lock().unwrap().is_empty());
    vault.consent_is_down.store(false, Ordering::SeqCst);
    vault.tell(names()).await.unwrap();
    assert_eq!(vault.links.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_news_of_the_same_names_is_taken_once() {
    let vault = std::sync::Arc::new(vault().await);
    let subject = vault.register(&number(1)).await;
    let mut racers = tokio::task::JoinSet::new();
    for racer in 0..8 {
        let vault = std::sync::Arc::clone(&vault);
        racers.spawn(async move {
            let parent = if racer % 2 == 0 { "FR.ENT.1" } else { "" };
            vault.tell(told(&number(1), "FR.1", parent)).await.unwrap()
        });
    }
    for outcome in racers.join_all().await {
        assert_eq!(outcome, IdentityOutcome::Known { subject_id: subject });
    }
    let address = vault.address(subject).await.unwrap();
    assert_eq!(address.others.len(), 2, "each once");
}
