//! What Assent signs: canonical JSON (RFC 8785), signed as a JWS (RFC 7515) with EdDSA (RFC 8037),
//! in one part or beside the document. It guarantees that a changed byte, another key or another
//! form of the same content is refused; which key to trust is said by whoever verifies, never by
//! the file.

pub mod canonical;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use ed25519_dalek::VerifyingKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use canonical::CanonicalError;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// Why a document is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not three base64url parts with nothing around them.
    #[error("not a JWS, byte for byte as it was issued")]
    Form,
    /// The header is of another algorithm, type or form.
    #[error("the header is not that of such a document signed with EdDSA")]
    Header,
    /// The payload is not in canonical form (RFC 8785), or not of the expected shape.
    #[error("the document is not of the expected shape, in canonical form")]
    Payload,
    /// It was signed with another key.
    #[error("it was signed with another key")]
    Key,
    /// The signature doesn't match.
    #[error("the signature does not match")]
    Signature,
}

/// The key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 key in PEM: {0}")]
pub struct KeyError(String);

/// Signs documents.
#[derive(Clone)]
pub struct Issuer {
    key: SigningKey,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("kid", &self.kid()).finish_non_exhaustive()
    }
}

impl Issuer {
    /// From a PKCS#8 private key in PEM.
    ///
    /// # Errors
    /// [`KeyError`], without the key.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(pem).map_err(|error| KeyError(error.to_string()))?;
        Ok(Self { key })
    }

    /// From the 32 bytes of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The public key.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.key.verifying_key()
    }

    /// The public key, as SubjectPublicKeyInfo in PEM.
    ///
    /// # Errors
    /// Never for a key that was read.
    pub fn public_key_pem(&self) -> Result<String, KeyError> {
        self.public_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| KeyError(error.to_string()))
    }

    fn kid(&self) -> String {
        thumbprint(&self.public_key())
    }

    /// A compact JWS of this media type over the document.
    ///
    /// # Errors
    /// When the document has no canonical form.
    pub fn sign(
        &self,
        media_type: &str,
        document: &impl Serialize,
    ) -> Result<String, CanonicalError> {
        let payload = canonical::to_vec(document)?;
        let (input, signature) = self.signed(media_type, &payload)?;
        Ok(format!("{input}.{signature}"))
    }

    /// The same with detached content (RFC 7515, appendix F): the middle part is empty, the document
    /// lies beside it.
    ///
    /// # Errors
    /// When the document has no canonical form.
    pub fn sign_detached(
        &self,
        media_type: &str,
        document: &impl Serialize,
    ) -> Result<String, CanonicalError> {
        let payload = canonical::to_vec(document)?;
        let (input, signature) = self.signed(media_type, &payload)?;
        let header = input.split('.').next().unwrap_or_default();
        Ok(format!("{header}..{signature}"))
    }

    fn signed(&self, media_type: &str, payload: &[u8]) -> Result<(String, String), CanonicalError> {
        let typ = media_type.to_owned();
        let header = Header { alg: "EdDSA".to_owned(), kid: self.kid(), typ };
        let input = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(canonical::to_vec(&header)?),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(input.as_bytes()).to_bytes());
        Ok((input, signature))
    }
}

/// Reads a public key (SubjectPublicKeyInfo in PEM).
///
/// # Errors
/// [`KeyError`].
pub fn public_key(pem: &str) -> Result<VerifyingKey, KeyError> {
    VerifyingKey::from_public_key_pem(pem).map_err(|error| KeyError(error.to_string()))
}

/// Verifies a compact JWS and gives its document.
///
/// # Errors
/// [`Invalid`]; a file that isn't byte for byte as it was issued is refused, also where the
/// difference would mean nothing.
pub fn verify(jws: &[u8], media_type: &str, key: &VerifyingKey) -> Result<Value, Invalid> {
    let [header, payload, signature] = parts(jws)?;
    check(header, payload, signature, media_type, key)?;
    document(&decode(payload)?)
}

/// Verifies a document with its detached JWS.
///
/// # Errors
/// [`Invalid`], as for [`verify`].
pub fn verify_detached(
    payload: &[u8],
    jws: &[u8],
    media_type: &str,
    key: &VerifyingKey,
) -> Result<Value, Invalid> {
    let [header, nothing, signature] = parts(jws)?;
    if !nothing.is_empty() {
        return Err(Invalid::Form);
    }
    check(header, &URL_SAFE_NO_PAD.encode(payload), signature, media_type, key)?;
    document(payload)
}

fn parts(jws: &[u8]) -> Result<[&str; 3], Invalid> {
    let text = std::str::from_utf8(jws).map_err(|_| Invalid::Form)?;
    let mut parts = text.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => Ok([header, payload, signature]),
        _ => Err(Invalid::Form),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Invalid> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Invalid::Form)
}

fn check(
    header: &str,
    payload: &str,
    signature: &str,
    media_type: &str,
    key: &VerifyingKey,
) -> Result<(), Invalid> {
    let header_bytes = decode(header)?;
    let parsed: Header = serde_json::from_slice(&header_bytes).map_err(|_| Invalid::Header)?;
    let canonical = canonical::to_vec(&parsed).map_err(|_| Invalid::Header)?;
    if parsed.alg != "EdDSA" || parsed.typ != media_type || canonical != header_bytes {
        return Err(Invalid::Header);
    }
    if parsed.kid != thumbprint(key) {
        return Err(Invalid::Key);
    }
    let signature: [u8; 64] = decode(signature)?.try_into().map_err(|_| Invalid::Form)?;
    key.verify_strict(format!("{header}.{payload}").as_bytes(), &Signature::from_bytes(&signature))
        .map_err(|_| Invalid::Signature)
}

fn document(payload: &[u8]) -> Result<Value, Invalid> {
    let document: Value = serde_json::from_slice(payload).map_err(|_| Invalid::Payload)?;
    // Members that stand twice, other spellings, other orders: the canonical form has none.
    if canonical::to_vec(&document).ok().as_deref() != Some(payload) {
        return Err(Invalid::Payload);
    }
    Ok(document)
}

/// The key's thumbprint (RFC 7638, RFC 8037 appendix A.3).
#[must_use]
pub fn thumbprint(key: &VerifyingKey) -> String {
    let x = URL_SAFE_NO_PAD.encode(key.to_bytes());
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk.as_bytes()))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_detached_signature_fits_its_document_and_no_other() {
        let issuer = Issuer::from_seed(&[7; 32]);
        let key = issuer.public_key();
        let document = json!({"b": 1, "a": "é"});
        let bytes = canonical::to_vec(&document).unwrap();
        let jws = issuer.sign_detached("receipt", &document).unwrap();
        assert_eq!(verify_detached(&bytes, jws.as_bytes(), "receipt", &key), Ok(document.clone()));
        let invalid = |bytes: &[u8], jws: &str, media_type| {
            verify_detached(bytes, jws.as_bytes(), media_type, &key).unwrap_err()
        };
        assert_eq!(invalid(b"{\"a\":\"e\",\"b\":1}", &jws, "receipt"), Invalid::Signature);
        assert_eq!(invalid(&bytes, &jws, "certificate"), Invalid::Header);
        let attached = issuer.sign("receipt", &document).unwrap();
        assert_eq!(invalid(&bytes, &attached, "receipt"), Invalid::Form);
        // With its content put back it is the compact form, which any JOSE library reads.
        let back = jws.replace("..", &format!(".{}.", URL_SAFE_NO_PAD.encode(&bytes)));
        assert_eq!(back, attached);
        let other = Issuer::from_seed(&[8; 32]).public_key();
        let wrong = verify_detached(&bytes, jws.as_bytes(), "receipt", &other);
        assert_eq!(wrong, Err(Invalid::Key));
    }

    /// By another implementation of Ed25519, as the RFCs say it and without any of the code above.
    #[test]
    fn another_implementation_reads_what_was_signed() {
        let issuer = Issuer::from_seed(&[7; 32]);
        let document = json!({"b": 1, "a": "é"});
        let key = UnparsedPublicKey::new(&ED25519, issuer.public_key().to_bytes());
        let jws = issuer.sign("receipt", &document).unwrap();
        let (input, signature) = jws.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        key.verify(input.as_bytes(), &signature).unwrap();
        assert!(key.verify(format!("{input}A").as_bytes(), &signature).is_err());
        let payload = URL_SAFE_NO_PAD.decode(input.split_once('.').unwrap().1).unwrap();
        assert_eq!(payload, r#"{"a":"é","b":1}"#.as_bytes());
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let x = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        let key = VerifyingKey::from_bytes(&x.try_into().unwrap()).unwrap();
        assert_eq!(thumbprint(&key), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_public_key_travels_as_pem() {
        let pem = Issuer::from_seed(&[7; 32]).public_key_pem().unwrap();
        assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        assert_eq!(public_key(&pem).unwrap(), Issuer::from_seed(&[7; 32]).public_key());
        assert!(public_key("-----BEGIN PUBLIC KEY-----").is_err());
    }
}
