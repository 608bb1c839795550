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
        },
    };
    Payload {
        request_id: Uuid::from_u128(1),
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
