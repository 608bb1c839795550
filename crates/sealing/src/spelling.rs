//! Spellings of one phone number. Countries renumbered and providers kept the old form (a
//! Brazilian, Mexican or Argentine number arrives from WhatsApp in another form than it was
//! imported in), so tokens are made for the whole set of equivalents: whichever spelling comes
//! in, the set, and with it the person, is the same. What is a valid number is left to the vault.

/// All E.164 spellings of the number, current form first, without duplicates. The same set in the
/// same order comes out for each of its members.
///
/// - Brazil: mobile numbers got a leading 9 (2012–2016): `+55 AA 9N` and `+55 AA N`.
/// - Mexico: mobiles had a 1 after the country code until 2019: `+52 N` and `+52 1 N`.
/// - Argentina: mobiles called from abroad have a 9: `+54 9 N` and `+54 N`.
#[must_use]
pub fn spellings(e164: &str) -> Vec<String> {
    let digits = e164.strip_prefix('+').unwrap_or(e164);
    let both = |current: String, former: String| vec![current, former];
    if let Some(national) = digits.strip_prefix("55") {
        let (area, subscriber) = national.split_at_checked(2).unwrap_or((national, ""));
        let former = match subscriber.len() {
            9 => subscriber.strip_prefix('9'),
            8 => Some(subscriber),
            _ => None,
        };
        // Landlines begin with 2 to 5 and never got the 9.
        if let Some(former) = former.filter(|it| it.starts_with(['6', '7', '8', '9'])) {
            return both(format!("+55{area}9{former}"), format!("+55{area}{former}"));
        }
    } else if let Some(national) = digits.strip_prefix("52") {
        let national = match national.len() {
            11 => national.strip_prefix('1'),
            10 => Some(national),
            _ => None,
        };
        if let Some(national) = national {
            return both(format!("+52{national}"), format!("+521{national}"));
        }
    } else if let Some(national) = digits.strip_prefix("54") {
        let national = match national.len() {
            11 => national.strip_prefix('9'),
            10 => Some(national),
            _ => None,
        };
        if let Some(national) = national {
            return both(format!("+549{national}"), format!("+54{national}"));
        }
    }
    vec![format!("+{digits}")]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn renumbered_countries_have_two_spellings() {
        for (number, expected) in [
            ("+5511987654321", ["+5511987654321", "+551187654321"]),
            ("+551187654321", ["+5511987654321", "+551187654321"]),
            ("+5215512345678", ["+525512345678", "+5215512345678"]),
            ("+525512345678", ["+525512345678", "+5215512345678"]),
            ("+5491123456789", ["+5491123456789", "+541123456789"]),
            ("541123456789", ["+5491123456789", "+541123456789"]),
        ] {
            assert_eq!(spellings(number), expected);
        }
    }

    #[test]
    fn others_have_one() {
        for number in ["+33612345678", "+551123456789", "+16505550123", "+52", "+55", "+5512"] {
            assert_eq!(spellings(number), [number]);
        }
    }

    proptest! {
        /// Whichever spelling comes in, the set is the same.
        #[test]
        fn every_member_gives_the_set(digits in "(55|52|54|33|1|7)[0-9]{7,12}") {
            let set = spellings(&digits);
            for member in &set {
                prop_assert_eq!(&spellings(member), &set);
            }
            let itself = format!("+{}", digits);
            prop_assert!(set.contains(&itself));
        }
    }
}
