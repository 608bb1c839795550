//! Addresses as others may see them: never the number itself, only a keyed hash of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A keyed hash (HMAC-SHA-256) of a normalised address, with the id of the key that made it.
///
/// Without the key, which only vault and messaging hold, a dictionary of all numbers can't be
/// tried against it. Text form: `<key id>.<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressToken {
    /// Which index key made it.
    pub key_id: u8,
    /// The 32 bytes of the keyed hash.
    pub mac: [u8; 32],
}

/// The text is no address token.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an address token: expected `<key id>.<64 hex digits>`")]
pub struct InvalidToken;

impl AddressToken {
    /// Key id and hash in 33 bytes, as databases store it.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 33] {
        let mut bytes = [0; 33];
        bytes[0] = self.key_id;
        bytes[1..].copy_from_slice(&self.mac);
        bytes
    }

    /// Reads the 33 bytes that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`InvalidToken`] when the length is another.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidToken> {
        let (key_id, mac) = bytes.split_first().ok_or(InvalidToken)?;
        Ok(Self { key_id: *key_id, mac: mac.try_into().map_err(|_| InvalidToken)? })
    }
}

impl fmt::Display for AddressToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.mac) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        write!(f, "{}.{}", self.key_id, str::from_utf8(&hex).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for AddressToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressToken({}.{:02x}{:02x}…)", self.key_id, self.mac[0], self.mac[1])
    }
}

impl FromStr for AddressToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let (key_id, hex) = text.split_once('.').ok_or(InvalidToken)?;
        let key_id = key_id.parse().map_err(|_| InvalidToken)?;
        if hex.len() != 64 {
            return Err(InvalidToken);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(InvalidToken);
        let mut mac = [0; 32];
        for (byte, pair) in mac.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self { key_id, mac })
    }
}

impl Serialize for AddressToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddressToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for AddressToken {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^(0|[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])\\.[0-9a-fA-F]{64}$"))
            .description(Some("A keyed hash of an address: `<key id>.<64 hex digits>`."))
            .into()
    }
}

impl utoipa::ToSchema for AddressToken {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_bytes_round_trip() {
        let token = AddressToken { key_id: 7, mac: std::array::from_fn(|i| i as u8 * 3) };
        assert_eq!(token.to_string().parse(), Ok(token));
        assert_eq!(AddressToken::from_bytes(&token.to_bytes()), Ok(token));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for text in ["", "1", "1.zz", "x.00", "+33612345678", "300.00"] {
            assert_eq!(text.parse::<AddressToken>(), Err(InvalidToken));
        }
    }
}
