//! Addresses and people that hang together: the most restrictive answer counts.

use assent_contracts::api::consent::StopKind;
use assent_contracts::vault::{ADDRESS_SUPPRESSED, AddressSuppressed};

use super::world::{tokens, world};

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
