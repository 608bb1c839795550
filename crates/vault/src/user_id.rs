//! Business-scoped user ids: the platform's own names of people, unique per portfolio. It guarantees their form
//! (`CC.` and up to 128 letters and digits, `CC.ENT.` for those that linked portfolios share); that one is
//! genuine is whoever told it to vouch for.

use zeroize::Zeroizing;

/// The reason code of a text that is none.
pub(crate) const INVALID: &str = "user_id_invalid";

/// A user id.
pub(crate) struct UserId {
    pub(crate) text: Zeroizing<String>,
    /// ISO 3166-1 alpha-2 country of the account's number.
    pub(crate) region: String,
}

/// Reads one; none where the text is none.
pub(crate) fn parse(text: &str) -> Option<UserId> {
    let text = text.trim();
    let (region, rest) = text.split_once('.')?;
    let serial = rest.strip_prefix("ENT.").unwrap_or(rest);
    let is_region = region.len() == 2 && region.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_serial = (1..=128).contains(&serial.len())
        && serial.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (is_region && is_serial)
        .then(|| UserId { text: Zeroizing::new(text.to_owned()), region: region.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_numbers_are_not() {
        for text in ["FR.13491208655302741918", " US.ENT.a1B2 "] {
            assert_eq!(parse(text).unwrap().text.as_str(), text.trim());
        }
        assert_eq!(parse("FR.1").unwrap().region, "FR");
        let long = format!("FR.{}", "1".repeat(129));
        for text in
            ["", "+33612345678", "FR.", "fr.1", "FRA.1", "FR.ENT.", "FR.1.2", "FR.a-b", &long]
        {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
