//! Proof that a webhook comes from the provider: HMAC-SHA-256 over the raw bytes with the app
//! secret. Compared in constant time; nothing of an unverified body is looked at.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header that carries it: `sha256=<64 hex digits>`.
pub const HEADER: &str = "x-hub-signature-256";

/// Whether `header` is the signature of exactly these bytes under one of the secrets: two while they
/// are being rotated. Each is tried, whichever fits.
#[must_use]
pub fn verify<'a>(
    app_secrets: impl IntoIterator<Item = &'a [u8]>,
    body: &[u8],
    header: &str,
) -> bool {
    let Some(claimed) = header.trim().strip_prefix("sha256=").and_then(from_hex) else {
        return false;
    };
    app_secrets.into_iter().fold(false, |seen, app_secret| {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(app_secret).expect("HMAC takes keys of any length");
        mac.update(body);
        mac.verify_slice(&claimed).is_ok() | seen
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '{"object":"x"}' | openssl dgst -sha256 -hmac secret`
    const SIGNATURE: &str =
        "sha256=f80b67d3bbf0da9880ff25b1f682aa543e333082af35cc1849b1bdcae91a719f";

    #[test]
    fn the_right_signature_over_the_raw_bytes_is_accepted() {
        assert!(verify([&b"secret"[..]], br#"{"object":"x"}"#, SIGNATURE));
        assert!(verify(
            [&b"secret"[..]],
            br#"{"object":"x"}"#,
            &SIGNATURE.to_uppercase().replace("SHA256", "sha256")
        ));
    }

    #[test]
    fn during_a_rotation_either_secret_counts_and_no_other() {
        let body = br#"{"object":"x"}"#;
        assert!(verify([&b"new"[..], b"secret"], body, SIGNATURE));
        assert!(verify([&b"secret"[..], b"new"], body, SIGNATURE));
        assert!(!verify([&b"new"[..], b"newer"], body, SIGNATURE));
        assert!(!verify([], body, SIGNATURE));
    }

    #[test]
    fn any_other_byte_secret_or_form_is_refused() {
        assert!(!verify([&b"secret"[..]], br#"{"object": "x"}"#, SIGNATURE));
        assert!(!verify([&b"Secret"[..]], br#"{"object":"x"}"#, SIGNATURE));
        let without_prefix = SIGNATURE.trim_start_matches("sha256=");
        for header in
            ["", "sha256=", "sha1=00", without_prefix, &SIGNATURE[..70], "sha256=zz", "sha256=+é"]
        {
            assert!(!verify([&b"secret"[..]], br#"{"object":"x"}"#, header), "{header}");
        }
    }
}
