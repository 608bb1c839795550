//! Ways in and out: what is confirmed, by what, and what a link or a code is worth.

use assent_contracts::api::consent::{
    CodeAnswer, CodeRequest, ConfirmRequest, ConsentAnswer, GrantRequest, PreferenceLink,
    PreferenceLinkState, Proof, ProofCode, ProofRequest, Revoked, Unconfirmed,
};
use assent_contracts::code::{Code, Sentence};
use assent_contracts::consent::Method;
use assent_http::ClientError;
use assent_runtime::{Clock as _, ManualClock, SystemClock};
use assent_sealing::LinkKind;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

use super::world::{World, code, links, tokens, world, world_at};

impl World {
    /// From now on marketing asks for a confirmation.
    async fn double_opt_in(&self) {
        self.change_policy(|policy| {
            policy.purposes.get_mut("marketing").unwrap().double_opt_in = true;
        })
        .await;
    }

    async fn unconfirmed(&self, subject: assent_contracts::SubjectId) -> Unconfirmed {
        self.grant(subject).await.expect("a yes").unconfirmed.expect("it is to be confirmed")
    }

    async fn sends(&self, code: Code, address: u16) -> CodeAnswer {
        self.says(code, Sentence::Alone, address).await
    }

    async fn says(&self, code: Code, sentence: Sentence, address: u16) -> CodeAnswer {
        let request = CodeRequest {
            message_id: self.ids.v7(),
            code,
            sentence,
            addresses: tokens(&[address]),
            said_at: None,
        };
        self.sends_again(&request).await
    }

    async fn sends_again(&self, request: &CodeRequest) -> CodeAnswer {
        self.client.post("/v1/gate/codes", request, None).await.expect("a code is heard")
    }

    async fn confirm_by(&self, link: &str) -> Result<ConsentAnswer, ClientError> {
        let request = ConfirmRequest { link: link.to_owned() };
        self.client.post("/v1/consents/confirm", &request, None).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_is_confirmed_once_from_the_number_it_was_said_for() {
    let world = world().await;
    world.double_opt_in().await;
    let subject = world.person(&[1]).await;
    world.person(&[2]).await;
    let first = world.post_grant(&world.grant_request(subject), Some("g-1")).await.unwrap();
    let again = world.post_grant(&world.grant_request(subject), Some("g-1")).await.unwrap();
    assert_eq!(first, again, "the repeat says how to confirm, the same");
    let Unconfirmed { code, .. } = first.unconfirmed.expect("it is to be confirmed");
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_unconfirmed"]);

    assert_eq!(world.sends(code, 2).await, CodeAnswer::NotHers);
    assert_eq!(world.sends("00000-00000".parse().unwrap(), 1).await, CodeAnswer::Nothing);
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_unconfirmed"]);

    let message = CodeRequest {
        message_id: world.ids.v7(),
        code,
        sentence: Sentence::Agree,
        addresses: tokens(&[1]),
        said_at: None,
    };
    let confirmed = CodeAnswer::Confirmed { subject_id: subject };
    assert_eq!(world.sends_again(&message).await, confirmed);
    assert_eq!(world.sends_again(&message).await, confirmed, "the same message, told again");
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_given"]);
    world.withdraw(subject, None).await.unwrap();
    assert_eq!(world.sends(code, 1).await, CodeAnswer::Nothing, "another message: it was used");
    assert_eq!(world.reasons(subject, &[1]).await, ["consent_withdrawn"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_confirms_what_it_was_made_for_until_a_no_or_its_end() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let world = world_at(clock.clone()).await;
    world.double_opt_in().await;
    let subject = world.person(&[1]).await;
    let Unconfirmed { link, .. } = world.unconfirmed(subject).await;
    let refused = |answer: Result<ConsentAnswer, ClientError>| code(&answer.unwrap_err());
    assert_eq!(refused(world.confirm_by("made-up").await), "confirmation_invalid");
    let page = links().of_person(LinkKind::Preferences, subject, world.ids.v4());
    assert_eq!(refused(world.confirm_by(&page).await), "confirmation_invalid");

    let no = world.withdrawal(subject);
    let answer = world.client.post::<_, ConsentAnswer>("/v1/consents/refuse", &no, None).await;
    answer.expect("a no");
    assert_eq!(refused(world.confirm_by(&link).await), "confirmation_invalid", "she said no");

    let Unconfirmed { link, code: sent, expires_at, .. } = world.unconfirmed(subject).await;
    let wait = expires_at.duration_since(clock.now());
    clock.advance(Duration::try_from(wait).unwrap());
    assert_eq!(refused(world.confirm_by(&link).await), "confirmation_invalid", "it is over");
    assert_eq!(world.sends(sent, 1).await, CodeAnswer::Nothing);

    // The link doesn't prove that the number is hers: after a no that takes evidence.
    let Unconfirmed { link, .. } = world.unconfirmed(subject).await;
    assert_eq!(refused(world.confirm_by(&link).await), "consent_not_allowed");
    let Unconfirmed { link, .. } = world.prove(subject).await.unwrap().unconfirmed.unwrap();
    world.confirm_by(&link).await.unwrap();
    assert_eq!(world.verdict(subject).await.reasons, ["consent_given"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_opened_by_a_message_from_the_number_and_once() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    world.person(&[2]).await;
    let path = format!("/v1/subjects/{subject}/preference-links");
    let link: PreferenceLink = world.client.post(&path, &json!({}), None).await.unwrap();
    assert_eq!(link.url.as_deref(), Some(&*format!("https://acme.example/p/{}", link.token)));
    let whose = links().person_of(LinkKind::Preferences, &link.token);
    assert_eq!(whose, Ok((subject, link.link_id)));
    let at = |what: &str| format!("/v1/preference-links/{}{what}", link.link_id);
    let first: ProofCode = world.client.post(&at("/code"), &json!({}), None).await.unwrap();
    let made: ProofCode = world.client.post(&at("/code"), &json!({}), None).await.unwrap();
    assert_eq!(
        world.says(first.code, Sentence::Open, 1).await,
        CodeAnswer::Nothing,
        "a newer one is there"
    );
    let proof = async || {
        let request = ProofRequest { code: made.code };
        world.client.post::<_, Proof>(&at("/proof"), &request, None).await
    };
    assert_eq!(code(&proof().await.unwrap_err()), "confirmation_invalid");
    assert_eq!(world.says(made.code, Sentence::Open, 2).await, CodeAnswer::NotHers);
    assert_eq!(code(&proof().await.unwrap_err()), "confirmation_invalid");
    let proved = CodeAnswer::Proved { subject_id: subject };
    assert_eq!(world.sends(made.code, 1).await, CodeAnswer::Nothing, "without what it opens");
    assert_eq!(world.says(made.code, Sentence::Open, 1).await, proved);
    let addresses = tokens(&[1]);
    assert_eq!(proof().await.unwrap(), Proof { subject_id: subject, addresses });
    assert_eq!(code(&proof().await.unwrap_err()), "confirmation_invalid", "it works once");
    let request = ProofRequest { code: made.code };
    let operator = world.operator.post::<_, Proof>(&at("/proof"), &request, None).await;
    assert_eq!(code(&operator.unwrap_err()), "forbidden", "it is for the page only");

    let revoked: Revoked =
        world.client.post(&format!("{path}/revoke"), &json!({}), None).await.unwrap();
    assert_eq!(revoked.revoked, 1);
    let state: PreferenceLinkState = world.client.get(&at("")).await.unwrap();
    assert!(state.revoked);
    let refused = world.client.post::<_, ProofCode>(&at("/code"), &json!({}), None).await;
    assert_eq!(code(&refused.unwrap_err()), "confirmation_invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consent_points_at_the_very_notice_that_was_shown() {
    let world = world().await;
    let subject = world.person(&[1]).await;
    let shown = world.change_policy(|policy| {
        let notices = &mut policy.purposes.get_mut("marketing").unwrap().notices;
        let mut french = notices["en"].clone();
        french.text = "Des nouvelles ?".to_owned();
        notices.insert("fr".to_owned(), french);
    });
    let notice = shown.await.policy.purposes["marketing"].notices["fr"].clone();
    let hash = assent_consent::domain::purpose::notice_hash("fr", &notice);
    let granted = |hash: &str| GrantRequest {
        notice_hash: Some(hash.to_owned()),
        method: Method::WebForm,
        place: Some("shop-lyon".to_owned()),
        ..world.grant_request(subject)
    };
    let unknown = world.post_grant(&granted(&"0".repeat(64)), None).await;
    assert_eq!(code(&unknown.unwrap_err()), "notice_unknown");
    let personal = GrantRequest { place: Some("Ada Exemple".to_owned()), ..granted(&hash) };
    assert_eq!(code(&world.post_grant(&personal, None).await.unwrap_err()), "validation_failed");
    // A list is looked at first: nobody gets around that by its name.
    let import = GrantRequest { method: Method::Import, ..granted(&hash) };
    assert_eq!(code(&world.post_grant(&import, None).await.unwrap_err()), "validation_failed");
    world.post_grant(&granted(&hash), None).await.unwrap();
    assert_eq!(world.verdict(subject).await.notice_hash, Some(hash));
}
