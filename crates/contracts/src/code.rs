//! Codes that a person sends by WhatsApp from her own number: ten letters and digits in two groups,
//! such as `7F3K2-9QMXA`, mostly within a sentence that a page had prepared. The alphabet is Crockford's
//! base32, which has no letters that look like others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUP: usize = 5;
/// No sentence around a code is longer, in bytes.
const SENTENCE_MAX: usize = 512;

/// A code: 50 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(u64);

/// The text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a code: expected two groups of five letters and digits, such as 7F3K2-9QMXA")]
pub struct NoCode;

impl Code {
    /// The code that stands for a hash: its first 50 bits.
    #[must_use]
    pub fn from_hash(hash: &[u8; 32]) -> Self {
        let first = hash.iter().take(8).fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
        Self(first >> 14)
    }

    /// The code that stands for a hash, in hex.
    #[must_use]
    pub fn of_hex(hash: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hash.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self::from_hash(&bytes))
    }

    /// The first code in a message of somebody's, however she writes it.
    #[must_use]
    pub fn in_text(text: &str) -> Option<Self> {
        if text.len() > SENTENCE_MAX {
            return None;
        }
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .find_map(|word| word.trim_matches('-').parse().ok())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in 0..2 * GROUP {
            if place == GROUP {
                f.write_str("-")?;
            }
            let shift = 5 * (2 * GROUP - 1 - place);
            let digit = ALPHABET[usize::try_from((self.0 >> shift) & 31).unwrap_or_default()];
            write!(f, "{}", char::from(digit))?;
        }
        Ok(())
    }
}

impl FromStr for Code {
    type Err = NoCode;

    fn from_str(text: &str) -> Result<Self, NoCode> {
        let (first, second) = text.split_once('-').ok_or(NoCode)?;
        if first.len() != GROUP || second.len() != GROUP {
            return Err(NoCode);
        }
        first
            .bytes()
            .chain(second.bytes())
            .try_fold(0, |bits, byte| {
                let digit = match byte.to_ascii_uppercase() {
                    b'O' => b'0',
                    b'I' | b'L' => b'1',
                    other => other,
                };
                let value = ALPHABET.iter().position(|it| *it == digit).ok_or(NoCode)?;
                Ok((bits << 5) | value as u64)
            })
            .map(Self)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Code {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some("Two groups of five letters and digits, such as `7F3K2-9QMXA`."))
            .into()
    }
}

impl utoipa::ToSchema for Code {}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(byte: u8) -> Code {
        let mut hash = [byte; 32];
        hash[0] = 0x1f;
        Code::from_hash(&hash)
    }

    #[test]
    fn what_is_shown_is_read() {
        for byte in [0, 1, 77, 255] {
            assert_eq!(code(byte).to_string().parse(), Ok(code(byte)));
        }
        assert_eq!("oil00-00000".parse::<Code>(), "01100-00000".parse::<Code>());
    }

    #[test]
    fn it_is_found_within_a_sentence_as_people_send_it() {
        let code = code(9);
        for text in [
            format!("{code}"),
            format!("J'accepte : {code}."),
            format!("Я согласна ({})", code.to_string().to_lowercase()),
            format!("well-known {code} 12345-67890"),
        ] {
            assert_eq!(Code::in_text(&text), Some(code), "{text}");
        }
    }

    #[test]
    fn what_is_no_code_is_none() {
        for text in
            ["", "STOP", "12345", "1234-56789", "12345-6789U", "my order 123456-7890", "a-b"]
        {
            assert_eq!(Code::in_text(text), None, "{text}");
        }
        assert_eq!(Code::in_text(&format!("{} {}", "x".repeat(600), code(1))), None);
    }
}
