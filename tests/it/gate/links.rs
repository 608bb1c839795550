//! Addresses and people that hang together: the most restrictive answer counts.

use assent_contracts::SubjectId;
use assent_contracts::api::consent::{
    Link, LinksRequest, LinksResponse, SameAddress, StopKind, TokensRequest, TokensResponse,
};
use assent_contracts::vault::{
    ADDRESS_SUPPRESSED, AddressSuppressed, IDENTIFIERS_ADDED, IDENTIFIERS_REMOVED,
    IdentifiersAdded, IdentifiersRemoved, SUBJECT_LINKED, SubjectLinked,
};
use assent_http::ServiceClient;
use assent_runtime::{Clock as _, SystemClock};

use super::world::{LEASE, World, code, tokens, world};

#[tokio::test]
async fn an_address_that_is_not_linked_yet_is_denied() {
    let world = world().await;
    let subject = world.ids.v4();
    world.grant(subject).await.unwrap();
    assert_eq!(world.reasons(subject, &[1]).await, ["address_unlinked"]);
    world.link(subject, &[1]).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
    assert_eq!(world.reasons(subject, &[]).await, ["address_missing"]);
}

#[tokio::test]
async fn the_most_restrictive_answer_over_linked_addresses_and_people_counts() {
    let world = world().await;
    let subject = world.consenting(1).await;
    // A second address of hers that said stop denies the first.
    world.stop(&[2], StopKind::Stopped).await;
    world.link(subject, &[2]).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["stopped"]);

    // Someone else at her address who withdrew denies it too.
    let (one, other) = (world.consenting(3).await, world.consenting(4).await);
    world.link(other, &[3]).await;
    assert_eq!(world.reasons(one, &[3]).await, ["consent_given"]);
    world.withdraw(other, None).await.unwrap();
    assert_eq!(world.reasons(one, &[3]).await, ["linked_subject_denies"]);
}

/// A replay of the vault's topic must not bring back what she lifted herself.
#[tokio::test]
async fn a_suppression_heard_twice_counts_once() {
    let world = world().await;
    let subject = world.consenting(1).await;
    let data = AddressSuppressed { addresses: tokens(&[1]), at: world.clock.now() };
    let event = world.vault_event(world.ids.v4(), ADDRESS_SUPPRESSED, &data);
    world.hear(std::slice::from_ref(&event)).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["suppressed"]);
    world.opt_in(subject, &[1]).await.unwrap();
    world.hear(&[event]).await;
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
}

async fn join(world: &World, links: &[(SubjectId, &[u16])]) -> u64 {
    let link = |(subject_id, of): &(SubjectId, &[u16])| Link {
        subject_id: *subject_id,
        addresses: tokens(of),
    };
    let request = LinksRequest { links: links.iter().map(link).collect() };
    let answer: LinksResponse =
        world.client.post("/v1/gate/links", &request, None).await.expect("links are taken");
    answer.linked
}

/// People who are one by the platform's word have each other's addresses: a stop of one stops both, and so does
/// a no, whoever of them it was said as.
#[tokio::test]
async fn a_stop_of_one_of_two_linked_people_stops_both() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(2).await);
    assert_eq!(join(&world, &[(one, &[1, 2]), (other, &[1, 2])]).await, 2);
    assert_eq!(world.reasons(one, &[1]).await, ["consent_given"]);
    let response = world.stop(&[2], StopKind::Stopped).await;
    let mut stopped = response.subjects[0].clone();
    stopped.sort_unstable();
    let mut both = vec![one, other];
    both.sort_unstable();
    assert_eq!(stopped, both);
    let denied = ["consent_withdrawn", "linked_subject_denies", "stopped"];
    assert_eq!(world.reasons(one, &[1]).await, denied);
    assert_eq!(world.reasons(other, &[2]).await, denied);
    assert_eq!(world.verdict(one).await.reasons, denied, "the page says what the gate says");

    let (one, other) = (world.consenting(3).await, world.consenting(4).await);
    join(&world, &[(one, &[3, 4]), (other, &[3, 4])]).await;
    world.withdraw(other, None).await.unwrap();
    assert_eq!(world.reasons(one, &[3]).await, ["linked_subject_denies"]);
}

/// A link that takes a right away is answered one lease after its commit, and so is its repeat: the first
/// answer may never have come. One that takes nothing away waits for nobody.
#[tokio::test]
async fn a_link_that_takes_something_away_waits_one_lease_and_its_repeat_too() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(2).await);
    world.stop(&[9], StopKind::Stopped).await;
    let timed = async |links: &[(SubjectId, &[u16])]| {
        let asked = SystemClock.boottime();
        join(&world, links).await;
        SystemClock.boottime() - asked
    };
    for _ in 0..2 {
        assert!(timed(&[(one, &[1, 9])]).await >= LEASE, "the address is stopped");
    }
    assert_eq!(world.reasons(one, &[1]).await, ["stopped"]);
    for _ in 0..2 {
        assert!(timed(&[(one, &[2])]).await >= LEASE, "the address is somebody else's");
    }
    assert_eq!(world.reasons(other, &[2]).await, ["consent_given"]);
    // Nothing was in the way: no settlement is asked of anyone.
    let fresh = world.consenting(5).await;
    join(&world, &[(fresh, &[6])]).await;
    assert_eq!(world.reasons(fresh, &[5, 6]).await, ["consent_given"]);
}

#[tokio::test]
async fn links_are_the_vaults_to_make_and_nobody_who_is_erased_gets_one() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    let link = |addresses: &[u16]| LinksRequest {
        links: vec![Link { subject_id: subject, addresses: tokens(addresses) }],
    };
    let post = async |client: &ServiceClient, addresses: &[u16]| {
        let request = link(addresses);
        let answer = client.post::<_, LinksResponse>("/v1/gate/links", &request, None).await;
        code(&answer.unwrap_err())
    };
    assert_eq!(post(&world.operator, &[2]).await, "forbidden");
    assert_eq!(post(&world.client, &[]).await, "validation_failed");
    sqlx::query("INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $1, now())")
        .bind(subject)
        .execute(&world.pool)
        .await
        .unwrap();
    assert_eq!(join(&world, &[(subject, &[2])]).await, 0);
}

/// The vault's events say the same as its calls: a gate that is rebuilt from them is as strict.
#[tokio::test]
async fn what_the_vault_publishes_of_names_and_links_reaches_the_gate() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(2).await);
    let at = world.clock.now();
    let added = IdentifiersAdded {
        addresses: tokens(&[3]),
        region: None,
        fields: vec!["user_id".to_owned()],
        at,
    };
    let linked = SubjectLinked { others: vec![other], addresses: tokens(&[2]), at };
    world
        .hear(&[
            world.vault_event(one, IDENTIFIERS_ADDED, &added),
            world.vault_event(one, SUBJECT_LINKED, &linked),
        ])
        .await;
    assert_eq!(world.reasons(one, &[1, 2, 3]).await, ["consent_given"]);
    world.withdraw(other, None).await.unwrap();
    assert_eq!(world.reasons(one, &[1]).await, ["linked_subject_denies"]);
    world.stop(&[3], StopKind::Stopped).await;
    assert!(world.reasons(one, &[1]).await.contains(&"stopped".to_owned()));
}

/// Only what is her own is closed for good when she is erased: what was hers, and what is of who was one with her,
/// is somebody else's.
#[tokio::test]
async fn an_erasure_closes_her_own_addresses_and_nobody_elses() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(2).await);
    let at = world.clock.now();
    let added = IdentifiersAdded {
        addresses: tokens(&[3, 4]),
        region: None,
        fields: vec!["user_id".to_owned()],
        at,
    };
    let linked = SubjectLinked { others: vec![other], addresses: tokens(&[2]), at };
    let removed = IdentifiersRemoved {
        addresses: tokens(&[4]),
        fields: vec!["user_id".to_owned()],
        unlinked: vec![other],
        at,
    };
    world
        .hear(&[
            world.vault_event(one, IDENTIFIERS_ADDED, &added),
            world.vault_event(one, SUBJECT_LINKED, &linked),
            world.vault_event(one, IDENTIFIERS_REMOVED, &removed),
        ])
        .await;
    // The vault's calls come in no order: they make nothing her own.
    join(&world, &[(one, &[1, 2, 3, 4])]).await;
    world.stop(&[4], StopKind::Stopped).await;
    assert!(world.reasons(one, &[1]).await.contains(&"stopped".to_owned()), "it stands on");
    let owns = "SELECT count(*) FROM gate_links WHERE subject_id = $1 AND own";
    let owns: i64 = sqlx::query_scalar(owns).bind(one).fetch_one(&world.pool).await.unwrap();
    assert_eq!(owns, 2, "1 and 3");
}

async fn retell(world: &World, addresses: &[(u16, u16)], instead: bool) -> (u64, u64) {
    let same = |&(known, more): &(u16, u16)| SameAddress {
        known: tokens(&[known]),
        more: tokens(&[more]),
    };
    let request = TokensRequest { addresses: addresses.iter().map(same).collect(), instead };
    let answer: TokensResponse =
        world.client.post("/v1/gate/tokens", &request, None).await.expect("tokens are taken");
    (answer.linked, answer.barred)
}

/// The vault has one more key: what stands against an address stands by its new tokens too, whosever it is.
#[tokio::test]
async fn an_address_is_barred_by_its_new_tokens_as_by_the_known_ones() {
    let world = world().await;
    let (stopped, free) = (world.consenting(1).await, world.consenting(2).await);
    world.stop(&[1], StopKind::Stopped).await;
    // Of a stranger.
    world.stop(&[3], StopKind::Stopped).await;
    let all = [(1, 11), (2, 12), (3, 13)];
    assert_eq!(retell(&world, &all, false).await, (2, 2));
    assert!(world.reasons(stopped, &[11]).await.contains(&"stopped".to_owned()));
    assert_eq!(world.reasons(free, &[12]).await, ["consent_given"]);
    let comes = world.consenting(4).await;
    assert_eq!(world.reasons(comes, &[4]).await, ["consent_given"], "the control");
    world.link(comes, &[13]).await;
    assert_eq!(world.reasons(comes, &[4]).await, ["stopped"]);

    // What she says from then on counts by each of them, and a repeat brings nothing back.
    world.opt_in(stopped, &[1, 11]).await.unwrap();
    assert_eq!(world.reasons(stopped, &[11]).await, ["consent_given"]);
    assert_eq!(retell(&world, &all, false).await, (0, 0));
    assert_eq!(world.reasons(stopped, &[11]).await, ["consent_given"]);
    world.stop(&[1, 11], StopKind::Stopped).await;
    world.opt_in(stopped, &[11]).await.unwrap();
    assert_eq!(
        retell(&world, &all, false).await,
        (0, 0),
        "what was lifted by the new one stays lifted"
    );
    let heard = world.stop(&[12], StopKind::Stopped).await;
    assert_eq!(heard.subjects, [vec![free]]);

    let post = async |client: &ServiceClient, addresses: Vec<SameAddress>| {
        let request = TokensRequest { addresses, instead: false };
        let answer = client.post::<_, TokensResponse>("/v1/gate/tokens", &request, None).await;
        code(&answer.unwrap_err())
    };
    assert_eq!(post(&world.operator, Vec::new()).await, "forbidden");
    for (known, more) in [(tokens(&[1]), Vec::new()), (tokens(&[1, 2]), tokens(&[11, 2]))] {
        let wrong = vec![SameAddress { known, more }];
        assert_eq!(post(&world.client, wrong).await, "validation_failed");
    }
}

/// Tokens that nobody gets any more go, and nothing that stood by them is lost: not of whom they were, not of a
/// stranger, not of whoever has them still because her erasure has begun.
#[tokio::test]
async fn what_stands_by_former_tokens_moves_to_those_that_are_in_use() {
    let world = world().await;
    let (one, other) = (world.consenting(1).await, world.consenting(2).await);
    let gone = world.consenting(4).await;
    world.stop(&[3], StopKind::Stopped).await;
    retell(&world, &[(1, 11), (2, 12)], false).await;
    // One said stop by both and took it back by the new one alone.
    world.stop(&[1, 11], StopKind::Stopped).await;
    world.opt_in(one, &[11]).await.unwrap();
    let still = world.reasons(one, &[11]).await;
    assert!(still.contains(&"stopped".to_owned()), "the former one is hers still: {still:?}");
    let fence = "INSERT INTO fences (subject_id, request_id, fenced_at) VALUES ($1, $1, now())";
    sqlx::query(fence).bind(gone).execute(&world.pool).await.unwrap();
    world.stop(&[4], StopKind::Stopped).await;

    let all = [(1, 11), (2, 12), (3, 13), (4, 14)];
    assert_eq!(retell(&world, &all, true).await, (0, 2), "the stranger's and hers who is going");
    assert_eq!(world.reasons(one, &[11]).await, ["consent_given"]);
    assert_eq!(world.reasons(other, &[12]).await, ["consent_given"]);
    let comes = world.consenting(5).await;
    world.link(comes, &[13]).await;
    assert_eq!(world.reasons(comes, &[5]).await, ["stopped"]);
    let left = "SELECT (SELECT count(*) FROM gate_links WHERE token = ANY($1)),
                       (SELECT count(*) FROM gate_rows WHERE token = ANY($1))";
    let former: Vec<Vec<u8>> =
        tokens(&[1, 2, 3, 4]).iter().map(|token| token.to_bytes().to_vec()).collect();
    let left: (i64, i64) = sqlx::query_as(left).bind(former).fetch_one(&world.pool).await.unwrap();
    assert_eq!(left, (1, 1), "hers who is going");
    assert_eq!(retell(&world, &all, true).await, (0, 0), "a repeat changes nothing");
}
