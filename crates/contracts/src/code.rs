//! Codes that a person sends by WhatsApp from her own number: ten letters and digits in two groups,
//! such as `7F3K2-9QMXA`, alone or in a sentence that a page had prepared. The alphabet is Crockford's
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

    /// The code of a message, and the sentence around it: the message is the code alone, or one of the
    /// sentences that our pages prepare. A code within anything else is none: who writes more may mean
    /// something else, or the contrary.
    #[must_use]
    pub fn in_message(text: &str) -> Option<(Self, Sentence)> {
        if text.len() > SENTENCE_MAX {
            return None;
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let word = text.split(|c| !is_word(c)).find(|word| word.parse::<Self>().is_ok())?;
        let rest = letters(&text.replacen(word, " ", 1));
        let sentence = SENTENCES
            .iter()
            .flat_map(|(_, agree, open)| [(agree, Sentence::Agree), (open, Sentence::Open)])
            .find(|(said, _)| letters(said) == rest)
            .map(|(_, sentence)| sentence);
        let sentence = if rest.is_empty() { Some(Sentence::Alone) } else { sentence };
        Some((word.parse().ok()?, sentence?))
    }
}

/// What a person says with a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sentence {
    /// Nothing: the code alone, or a button.
    Alone,
    /// That she agrees.
    Agree,
    /// That her settings may be opened.
    Open,
}

/// The sentences that pages prepare, by language: that she agrees, and that her settings may be opened by
/// whoever shows her the code.
pub const SENTENCES: [(&str, &str, &str); 3] = [
    ("en", "I agree.", "Open my settings for whoever shows me this code:"),
    ("fr", "J’accepte.", "Ouvrir mes choix à qui me montre ce code :"),
    ("ru", "Согласие даю.", "Открыть мой выбор тому, кто показал мне этот код:"),
];

/// The words of a text without case and punctuation: telephones change those.
fn letters(text: &str) -> String {
    let spaced: String = text
        .chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_alphanumeric() { c } else { ' ' })
        .collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
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
            .pattern(Some("^[0-9A-TV-Za-tv-z]{5}-[0-9A-TV-Za-tv-z]{5}$"))
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
    fn it_counts_alone_or_in_a_prepared_sentence_as_telephones_send_it() {
        let code = code(9);
        for (text, sentence) in [
            (format!("{code}"), Sentence::Alone),
            (format!(" {}.", code.to_string().to_lowercase()), Sentence::Alone),
            (format!("J'accepte. {code}"), Sentence::Agree),
            (format!("согласие даю {code}"), Sentence::Agree),
            (format!("I agree.\n{code}"), Sentence::Agree),
            (format!("Open my settings for whoever shows me this code: {code}"), Sentence::Open),
        ] {
            assert_eq!(Code::in_message(&text), Some((code, sentence)), "{text}");
        }
    }

    #[test]
    fn whoever_writes_anything_else_has_said_something_else() {
        let code = code(9);
        for text in [
            format!("STOP, I did not ask for this {code}"),
            format!("I don't agree. {code}"),
            format!("what is {code}?"),
            format!("J’accepte pas. {code}"),
        ] {
            assert_eq!(Code::in_message(&text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_code_is_none() {
        for text in ["", "STOP", "12345", "1234-56789", "12345-6789U", "123456-7890", "a-b"] {
            assert_eq!(Code::in_message(text), None, "{text}");
        }
        assert_eq!(Code::in_message(&format!("{} {}", "x".repeat(600), code(1))), None);
    }
}
