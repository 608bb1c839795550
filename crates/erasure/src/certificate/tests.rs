//! A certificate that was touched is refused, whatever was touched.

use assent_signing::thumbprint;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;

use super::*;

const SEED: [u8; 32] = [7; 32];

fn issuer() -> Issuer {
    Issuer::from_seed(&SEED)
}

fn sample() -> Payload {
    let answer = CertifiedAnswer {
        command_id: Uuid::from_u128(2),
        acknowledged_at: "2026-11-24T10:00:01Z".parse().unwrap(),
        evidence: Evidence {
            counts: BTreeMap::from([("contacts".to_owned(), 3)]),
            digest: "a".repeat(64),
            positions: BTreeMap::new(),
            kept: Vec::new(),
        },
    };
    Payload {
        request_id: Uuid::from_u128(1),
        purpose: None,
        controller: "Boulangerie Exemple SARL".to_owned(),
        requested_at: "2026-11-24T10:00:00Z".parse().unwrap(),
        completed_at: "2026-11-24T10:00:02Z".parse().unwrap(),
        steps: vec![CertifiedStep {
            step: Step::Fence,
            participants: BTreeMap::from([("vault".to_owned(), answer)]),
        }],
        keys_destroyed_at: None,
        last_key_backup_expires_at: None,
        log_proof: None,
        due: Some("2026-12-24T00:00:00Z".parse().unwrap()),
        acknowledged_at: None,
        extended_for: vec![ExtensionReason::Complexity],
        kept: vec![CertifiedKept {
            participant: "crm".to_owned(),
            what: "invoices".to_owned(),
            ground: "tax_law".to_owned(),
            until: Some("2036-12-31T00:00:00Z".parse().unwrap()),
        }],
        exceptions: vec![
            Exception::Late { step: Step::Fence, participants: vec!["crm".to_owned()] },
            Exception::AfterDue,
        ],
        secrets_sha256: vec![hex(&tracking::hash("00111-00000-ABCDE-FGHJK"))],
    }
}

/// A JWS of any header and payload bytes, signed with the right key.
fn forge(header: &str, payload: &[u8]) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = SigningKey::from_bytes(&SEED).sign(input.as_bytes());
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.to_bytes()))
}

fn header() -> String {
    format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"{TYPE}"}}"#, thumbprint(&key()))
}

fn key() -> VerifyingKey {
    issuer().public_key()
}

#[test]
fn what_was_signed_verifies_and_says_the_same() {
    let signed = sign(&issuer(), &sample()).unwrap();
    assert_eq!(verify(signed.jws.as_bytes(), &key()), Ok(sample()));
    let canonical = canonical::to_vec(&sample()).unwrap();
    assert_eq!(signed.payload_sha256, hex(&Sha256::digest(&canonical)));
    assert_eq!(signed.jws, forge(&header(), &canonical), "the forger of this test is a good one");
}

#[test]
fn every_changed_byte_is_noticed() {
    let jws = sign(&issuer(), &sample()).unwrap().jws.into_bytes();
    for at in 0..jws.len() {
        let mut changed = jws.clone();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(verify(&changed, &key()).is_err(), "byte {at}");
    }
    for changed in [[&jws[..], b"\n"].concat(), [b" ", &jws[..]].concat(), jws[1..].to_vec()] {
        assert!(verify(&changed, &key()).is_err());
    }
}

#[test]
fn another_key_is_refused_also_when_the_file_names_it() {
    let other = Issuer::from_seed(&[8; 32]);
    let signed = sign(&other, &sample()).unwrap();
    assert_eq!(verify(signed.jws.as_bytes(), &key()), Err(Invalid::Key));
    let with_jwk = r#"{"alg":"EdDSA","jwk":{"crv":"Ed25519"},"kid":"x","typ":"x"}"#;
    let payload = canonical::to_vec(&sample()).unwrap();
    assert_eq!(verify(forge(with_jwk, &payload).as_bytes(), &key()), Err(Invalid::Header));
}

#[test]
fn other_algorithms_are_refused() {
    let payload = canonical::to_vec(&sample()).unwrap();
    for alg in ["none", "HS256", "eddsa", "Ed25519"] {
        let header = header().replace("EdDSA", alg);
        assert_eq!(verify(forge(&header, &payload).as_bytes(), &key()), Err(Invalid::Header));
    }
}

#[test]
fn a_payload_in_another_form_is_refused_although_its_signature_is_right() {
    let canonical = String::from_utf8(canonical::to_vec(&sample()).unwrap()).unwrap();
    let spaced = canonical.replacen(':', ": ", 1);
    let twice = canonical.replacen('{', r#"{"controller":"x","#, 1);
    let escaped = canonical.replacen("Boulangerie", "\\u0042oulangerie", 1);
    let more = canonical.replacen('{', r#"{"a":1,"#, 1);
    for payload in [spaced, twice, escaped, more, json!({"a": 1}).to_string()] {
        let file = forge(&header(), payload.as_bytes());
        assert_eq!(verify(file.as_bytes(), &key()), Err(Invalid::Payload), "{payload}");
    }
    let spaced_header = header().replace(':', ": ");
    assert_eq!(
        verify(forge(&spaced_header, canonical.as_bytes()).as_bytes(), &key()),
        Err(Invalid::Header)
    );
}

#[test]
fn whoever_has_the_secret_shows_that_it_is_hers() {
    let certificate = sample();
    assert!(certificate.is_of(" 0o1il-00000-abcde-fghjk\n"), "typed in any way");
    // `printf %s 00111-00000-ABCDE-FGHJK | sha256sum`: anybody can do it without us.
    let hash = hex(&Sha256::digest("00111-00000-ABCDE-FGHJK"));
    assert_eq!(certificate.secrets_sha256, std::slice::from_ref(&hash));
    for other in ["", "00111-00000-ABCDE-FGHJJ", &hash] {
        assert!(!certificate.is_of(other), "{other}");
    }
}

#[test]
fn the_page_says_all_of_it_in_each_language() {
    let mut certificate = sample();
    certificate.controller = "<b>Boulangerie".to_owned();
    for language in languages() {
        let page = page(&certificate, language).unwrap().unwrap();
        assert!(page.contains(&format!("<html lang=\"{language}\">")));
        assert!(!page.contains("<b>"), "text and no markup");
        for said in [
            "invoices",
            "tax law",
            "2036-12-31 00:00:00 UTC",
            &certificate.request_id.to_string(),
            &"a".repeat(64),
            &certificate.secrets_sha256[0],
        ] {
            assert!(page.contains(said), "{language}: {said}");
        }
    }
    assert!(page(&certificate, "de").is_none());
}

#[test]
fn a_certificate_of_before_is_signed_again_as_it_was_and_still_read() {
    let before = sample().of_before();
    let signed = sign(&issuer(), &before).unwrap();
    let text = String::from_utf8(canonical::to_vec(&before).unwrap()).unwrap();
    for new in ["due", "kept", "exceptions", "secrets", "extended"] {
        assert!(!text.contains(&format!("\"{new}")), "{new}: {text}");
    }
    let again = sign_again(&issuer(), &sample(), &signed.payload_sha256).unwrap();
    assert_eq!(again, signed);
    assert_eq!(verify(again.jws.as_bytes(), &key()), Ok(before));
    let now = sign(&issuer(), &sample()).unwrap();
    assert_eq!(sign_again(&issuer(), &sample(), &now.payload_sha256), Some(now));
    assert_eq!(sign_again(&issuer(), &sample(), &"0".repeat(64)), None);
}

/// A stranger may keep and store what was signed; no byte of it may be another, also not one of those that base64
/// decoders pass over.
#[test]
fn every_bit_of_every_byte_counts() {
    let jws = sign(&issuer(), &sample()).unwrap().jws.into_bytes();
    for at in 0..jws.len() {
        for bit in 0..8 {
            let mut changed = jws.clone();
            changed[at] ^= 1 << bit;
            assert!(verify(&changed, &key()).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn the_second_date_is_not_before_the_bytes_are_gone() {
    use crate::domain::{Event, Person};
    use assent_contracts::erasure::{Acknowledged, Requested, StepStarted};
    let at: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
    let (request_id, command_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let participants = vec!["vault".to_owned()];
    let mut person = Person::default();
    for event in [
        Event::Requested(Requested { request_id, participants: participants.clone(), due: at, at }),
        Event::StepStarted(StepStarted {
            request_id,
            step: Step::DestroyKeys,
            command_id,
            participants,
            barrier: BTreeMap::new(),
            at,
        }),
        Event::Acknowledged(Acknowledged {
            request_id,
            step: Step::DestroyKeys,
            command_id,
            participant: "vault".to_owned(),
            evidence: Evidence {
                kept: vec![Kept {
                    what: "suppression".to_owned(),
                    ground: "stays_erased".to_owned(),
                    until: None,
                }],
                ..Evidence::default()
            },
            at,
        }),
    ] {
        person.evolve(&event);
    }
    let says = |days: Option<i64>| {
        let key_backup_kept = days.map(|days| SignedDuration::from_hours(24 * days));
        let terms = Terms { controller: "c", key_backup_kept };
        payload(&person, &[], terms, at).unwrap()
    };
    assert_eq!(says(None).last_key_backup_expires_at, None, "nothing is stated");
    let backup = |days| says(Some(days)).last_key_backup_expires_at.unwrap().duration_since(at);
    assert_eq!(backup(0), KEY_BYTES_GONE_WITHIN, "not before the bytes have left");
    assert_eq!(backup(35), SignedDuration::from_hours(24 * 35));
    let kept: Vec<_> =
        says(None).kept.into_iter().map(|kept| (kept.participant, kept.what)).collect();
    let expected = [("erasure", "request"), ("vault", "suppression")];
    assert_eq!(kept, expected.map(|(who, what)| (who.to_owned(), what.to_owned())));
    assert_eq!(says(None).exceptions, [Exception::AfterDue], "it is due at once");
}
