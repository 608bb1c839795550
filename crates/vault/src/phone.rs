//! Phone numbers as people write them, brought to E.164 by a port of libphonenumber. It
//! guarantees that any spelling of one number gives the same tokens, thus the same person; how
//! tokens are made is left to the index.

use assent_sealing::spelling::spellings;
use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType, Region,
};
use zeroize::Zeroizing;

/// Longest text that is tried; no spelling of a number comes near it.
const TEXT_MAX: usize = 64;

/// A number that can be dialled.
pub struct Phone {
    /// E.164 with its plus sign, in the form in use today.
    pub e164: Zeroizing<String>,
    /// ISO 3166-1 alpha-2 region; none for numbers of no country, such as +800.
    pub region: Option<String>,
}

impl Phone {
    /// Whether the numbering plan gives this number to something else than a mobile phone. A number
    /// that it doesn't know, or may give to either, is not held against anyone.
    #[must_use]
    pub fn is_never_mobile(&self) -> bool {
        let number = PHONE_NUMBER_UTIL.parse(self.e164.as_str(), None);
        number.is_ok_and(|number| {
            matches!(
                number.get_type(),
                PhoneNumberType::FixedLine
                    | PhoneNumberType::TollFree
                    | PhoneNumberType::PremiumRate
                    | PhoneNumberType::SharedCost
                    | PhoneNumberType::Pager
                    | PhoneNumberType::UAN
                    | PhoneNumberType::VoiceMail
            )
        })
    }
}

/// Why a text is no phone number. Stable codes; never the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// There is none.
    PhoneMissing,
    /// It is no valid number (of this country).
    PhoneInvalid,
    /// The country is no ISO 3166-1 alpha-2 code with phone numbers.
    CountryUnknown,
}

impl Invalid {
    /// The reason code.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::PhoneMissing => "phone_missing",
            Self::PhoneInvalid => "phone_invalid",
            Self::CountryUnknown => "country_unknown",
        }
    }

    /// The field that is wrong.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::PhoneMissing | Self::PhoneInvalid => "phone",
            Self::CountryUnknown => "country",
        }
    }
}

/// Reads a number in any spelling; `country` is assumed where it has no country code.
///
/// # Errors
/// [`Invalid`].
pub fn parse(text: &str, country: Option<&str>) -> Result<Phone, Invalid> {
    let country = match country.map(str::trim).filter(|country| !country.is_empty()) {
        None => None,
        Some(code) => {
            let region = Region::from_code(&code.to_ascii_uppercase())
                .ok()
                .filter(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(*region).is_some());
            Some(region.ok_or(Invalid::CountryUnknown)?)
        }
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Invalid::PhoneMissing);
    }
    if text.len() > TEXT_MAX {
        return Err(Invalid::PhoneInvalid);
    }
    let number = valid(text, country).or_else(|| {
        // Providers write numbers with a country code but without its plus sign.
        let international = Zeroizing::new(format!("+{}", text.strip_prefix("00").unwrap_or(text)));
        (country.is_none() && !text.starts_with('+')).then(|| valid(&international, None)).flatten()
    });
    let (number, e164) = number.or_else(|| possible(text, country)).ok_or(Invalid::PhoneInvalid)?;
    let region = number.get_region_code().map(|region| region.as_region_str().to_string());
    // "001" stands for numbers of no country.
    Ok(Phone { e164, region: region.filter(|region| region.len() == 2 && region != "ZZ") })
}

fn valid(text: &str, country: Option<Region>) -> Option<(PhoneNumber, Zeroizing<String>)> {
    let number = PHONE_NUMBER_UTIL.parse(text, country).ok()?;
    let e164 = Zeroizing::new(number.format_as(PhoneNumberFormat::E164).into_owned());
    if number.is_valid() {
        return Some((number, e164));
    }
    // A spelling that is no longer in use, such as a Brazilian mobile number without its 9.
    let current = Zeroizing::new(spellings(&e164).swap_remove(0));
    if current == e164 {
        return None;
    }
    let number = PHONE_NUMBER_UTIL.parse(current.as_str(), None).ok()?;
    number.is_valid().then_some((number, current))
}

/// A number whose range the library's numbering plan doesn't know (assigned since, or reserved for
/// fiction), but whose length fits its country: refusing it would lose a person.
fn possible(text: &str, country: Option<Region>) -> Option<(PhoneNumber, Zeroizing<String>)> {
    if country.is_none() && !text.starts_with('+') {
        return None;
    }
    let number = PHONE_NUMBER_UTIL.parse(text, country).ok()?;
    let fits = matches!(number.is_possible_with_reason(), Ok(NumberLengthType::IsPossible));
    let e164 = Zeroizing::new(number.format_as(PhoneNumberFormat::E164).into_owned());
    fits.then_some((number, e164))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e164(text: &str, country: &str) -> Result<String, Invalid> {
        let country = Some(country).filter(|country| !country.is_empty());
        parse(text, country).map(|phone| phone.e164.to_string())
    }

    #[test]
    fn any_spelling_of_one_number_is_one_number() {
        for (expected, spellings) in [
            (
                "+33612345678",
                &[
                    ("06 12 34 56 78", "FR"),
                    ("06.12.34.56.78", "fr"),
                    ("+33 6 12 34 56 78", ""),
                    ("+33 (0)6 12 34 56 78", "DE"),
                    ("0033612345678", "FR"),
                    ("33612345678", "FR"),
                    ("33612345678", ""),
                    ("0033612345678", ""),
                    ("tel:+33-6-12-34-56-78", ""),
                    ("００33612345678", "FR"),
                ][..],
            ),
            // A range that is reserved for fiction.
            (
                "+33639980001",
                &[("06 39 98 00 01", "FR"), ("+33 6 39 98 00 01", ""), ("0033639980001", "FR")][..],
            ),
            ("+447700900004", &[("07700 900004", "GB"), ("+44 7700 900004", "FR")][..]),
            ("+79161234567", &[("8 (916) 123-45-67", "RU"), ("+7 916 123-45-67", "")][..]),
            ("+16502530000", &[("(650) 253-0000", "US"), ("1-650-253-0000", "US")][..]),
            (
                "+5511987654321",
                &[
                    ("+55 11 98765-4321", ""),
                    ("551187654321", ""),
                    ("(11) 8765-4321", "BR"),
                    ("011 98765 4321", "BR"),
                ][..],
            ),
            (
                "+525512345678",
                &[("+52 1 55 1234 5678", ""), ("5215512345678", ""), ("55 1234 5678", "MX")][..],
            ),
            ("+5491123456789", &[("+54 9 11 2345-6789", ""), ("011 15-2345-6789", "AR")][..]),
        ] {
            for (text, country) in spellings {
                assert_eq!(e164(text, country).as_deref(), Ok(expected), "{text} {country}");
            }
        }
    }

    #[test]
    fn spellings_that_differ_in_e164_share_their_set() {
        let without_nine = e164("+54 11 2345-6789", "").unwrap();
        assert_eq!(spellings(&without_nine), spellings("+5491123456789"));
    }

    #[test]
    fn what_is_no_number_has_a_reason() {
        for (text, country, reason) in [
            ("", "FR", Invalid::PhoneMissing),
            ("  ", "", Invalid::PhoneMissing),
            ("hello", "FR", Invalid::PhoneInvalid),
            ("06 12 34 56 78", "", Invalid::PhoneInvalid),
            ("06 12", "FR", Invalid::PhoneInvalid),
            ("06 12 34 56 78", "XX", Invalid::CountryUnknown),
            ("06 12 34 56 78", "France", Invalid::CountryUnknown),
            (&"1".repeat(300), "FR", Invalid::PhoneInvalid),
        ] {
            assert_eq!(e164(text, country), Err(reason), "{text} {country}");
        }
    }

    #[test]
    fn the_region_is_that_of_the_number_not_of_the_file() {
        assert_eq!(parse("+33612345678", Some("DE")).ok().unwrap().region.as_deref(), Some("FR"));
    }
}
