//! A symmetric key in memory. It is wiped when dropped and can't be printed, cloned or compared
//! by accident; how long it may be held is the holder's lease.

use assent_runtime::Ids;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// 32 bytes of key. No `Debug`, no `Clone`, no `PartialEq`; wiped on drop.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate(ids: &dyn Ids) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        ids.fill(bytes.as_mut_slice());
        Self(bytes)
    }

    /// A key received from elsewhere (a lease, a file).
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, to hand them over (wrapping, a lease). Never log, store or format them.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A key for one use, which tells nothing of this one: HKDF-Expand with SHA-256 and `label`
    /// as info (RFC 5869 §2.3; this key is uniform already, so there is nothing to extract).
    #[must_use]
    pub fn derive(&self, label: &str) -> Self {
        let mut mac = self.hmac();
        mac.update(label.as_bytes());
        mac.update(&[1]);
        Self(Zeroizing::new(mac.finalize().into_bytes().into()))
    }

    pub(crate) fn hmac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of any length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivation_is_hkdf_expand() {
        // RFC 5869 test case 1: PRK, info and the first 32 bytes of OKM.
        let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
        let info = "\u{f0}";
        // The RFC's info isn't text, so the expected value was computed for UTF-8 "\u{f0}" by
        // the definition T(1) = HMAC(PRK, info | 0x01).
        let mut mac = Hmac::<Sha256>::new_from_slice(&prk).unwrap();
        mac.update(&[0xc3, 0xb0, 0x01]);
        let expected: [u8; 32] = mac.finalize().into_bytes().into();
        assert_eq!(DataKey::from_bytes(prk).derive(info).expose(), &expected);
    }

    #[test]
    fn each_label_gives_another_key() {
        let key = DataKey::from_bytes([7; 32]);
        assert_eq!(key.derive("lease:a").expose(), key.derive("lease:a").expose());
        assert_ne!(key.derive("lease:a").expose(), key.derive("lease:b").expose());
        assert_ne!(key.derive("lease:a").expose(), key.expose());
    }

    fn hex(text: &str) -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&text[i * 2..i * 2 + 2], 16).unwrap())
    }
}
