//! Addresses of others in what was written. It guarantees that no number of eight digits or more and no e-mail
//! address stays that isn't one of hers; dates stay. Names of people can't be told from other words: they are left
//! to whoever writes notes.

/// What stands where something of others stood.
const STRUCK: &str = "▇▇▇";
/// Fewer digits are no telephone number.
const DIGITS_MIN: usize = 8;

/// Knows what is hers.
pub struct Redactor {
    /// The digits of her numbers and user ids.
    digits: Vec<String>,
    /// Her e-mail addresses, in lower case.
    emails: Vec<String>,
}

impl Redactor {
    /// With all that she is known by.
    pub fn new(hers: &[String]) -> Self {
        let (emails, others): (Vec<&String>, Vec<&String>) =
            hers.iter().partition(|it| it.contains('@'));
        Self {
            digits: others.iter().map(|it| digits(it)).filter(|it| !it.is_empty()).collect(),
            emails: emails.iter().map(|it| it.to_lowercase()).collect(),
        }
    }

    /// The text without what is others'.
    pub fn redact(&self, text: &str) -> String {
        self.without_numbers(&self.without_emails(text))
    }

    fn without_emails(&self, text: &str) -> String {
        let part = |c: char| c.is_alphanumeric() || "._%+-@".contains(c);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(part) {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let end = from.find(|c: char| !part(c)).unwrap_or(from.len());
            let (word, after) = from.split_at(end);
            let address = word.trim_matches(['.', '-']);
            let foreign = address.contains('@') && !self.emails.contains(&address.to_lowercase());
            out.push_str(if foreign { STRUCK } else { word });
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn without_numbers(&self, text: &str) -> String {
        let is_digit = |c: char| digit(c).is_some();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| is_digit(c) || c == '+') {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let end = from.find(|c: char| !is_digit(c) && !joins(c)).unwrap_or(from.len());
            let run = &from[..end];
            let run = &run[..run.trim_end_matches(|c: char| !is_digit(c)).len().max(1)];
            out.push_str(if self.is_foreign(run) { STRUCK } else { run });
            rest = &from[run.len()..];
        }
        out.push_str(rest);
        out
    }

    fn is_foreign(&self, run: &str) -> bool {
        let number = digits(run);
        number.len() >= DIGITS_MIN && !is_date(run) && !self.is_hers(&number)
    }

    /// Hers as it is kept, or without what dials abroad.
    fn is_hers(&self, number: &str) -> bool {
        let short = number.trim_start_matches('0');
        let national = |hers: &&String| short.len() >= DIGITS_MIN && hers.ends_with(short);
        self.digits.iter().any(|hers| hers == number || national(&hers))
    }
}

fn digits(text: &str) -> String {
    text.chars().filter_map(digit).collect()
}

/// A decimal digit of the scripts that keyboards have, as `0` to `9`.
fn digit(c: char) -> Option<char> {
    const ZEROS: [char; 5] = ['0', '٠', '۰', '०', '０'];
    ZEROS.into_iter().find_map(|zero| {
        let value = u32::from(c).checked_sub(u32::from(zero))?;
        char::from_digit(value, 10)
    })
}

/// What stands between the digits of one number, as people and their keyboards write it.
fn joins(c: char) -> bool {
    "+-./()\u{ad}\u{2060}\u{2212}\u{feff}".contains(c)
        || ('\u{200b}'..='\u{200f}').contains(&c)
        || ('\u{2010}'..='\u{2015}').contains(&c)
        || (c.is_whitespace() && c != '\n')
}

/// `2026-11-26`, `26.11.2026`, `11/26/2026`: a day that there may have been, and no number in the shape of one.
fn is_date(run: &str) -> bool {
    let groups: Vec<&str> = run.split(['-', '.', '/']).collect();
    let [first, middle, last] = groups[..] else { return false };
    let (year, other) = if first.len() == 4 { (first, last) } else { (last, first) };
    let number = |text: &str, digits: usize| -> Option<u32> {
        let plain = text.len() == digits && text.bytes().all(|it| it.is_ascii_digit());
        text.parse().ok().filter(|_| plain)
    };
    let (Some(year), Some(one), Some(two)) = (number(year, 4), number(middle, 2), number(other, 2))
    else {
        return false;
    };
    let (low, high) = (one.min(two), one.max(two));
    (1900..=2100).contains(&year) && (1..=12).contains(&low) && high <= 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor() -> Redactor {
        let hers = ["+33612345678", "FR.13491208655302741918", "Ada@Example.org"];
        Redactor::new(&hers.map(str::to_owned))
    }

    #[test]
    fn what_is_others_is_struck_out_in_every_spelling() {
        for foreign in [
            "+33 6 98 76 54 32",
            "0698765432",
            "06.98.76.54.32",
            "06-98-76-54-32",
            "33698765432",
            "0033698765432",
            "(06) 98 76 54 32",
            "bob@example.org",
            "b.o_b+x@mail.example.org",
            "06\u{a0}98\u{a0}76\u{a0}54\u{a0}32",
            "06\u{2013}98\u{2013}76\u{2013}54\u{2013}32",
            "06\u{2011}98\u{2009}76\u{200b}54\u{2212}32",
            "٠٦٩٨٧٦٥٤٣٢",
            "０６９８７６５４３２",
            // In the shape of a date.
            "9876-54-32",
            "06-98-7654",
        ] {
            let struck = redactor().redact(&format!("call {foreign}, he knows"));
            assert!(struck.contains(STRUCK) && struck.starts_with("call "), "{foreign}: {struck}");
            assert!(struck.ends_with(", he knows"), "{foreign}: {struck}");
            assert!(!struck.contains("98") && !struck.contains("example"), "{foreign}: {struck}");
        }
    }

    #[test]
    fn what_is_hers_and_what_is_no_address_stays() {
        for hers in [
            "+33 6 12 34 56 78",
            "0612345678",
            "0033612345678",
            "ada@example.org",
            "FR.13491208655302741918",
            "on 2026-11-26 at 12:30",
            "26.11.2026",
            "11/26/2026",
            "06\u{2011}12\u{2011}34\u{2011}56\u{2011}78",
            "room 12, 3 pieces for 49.90",
            "a + b",
            "+",
            "no",
        ] {
            assert_eq!(redactor().redact(hers), hers);
        }
    }

    #[test]
    fn a_number_that_only_ends_like_hers_is_not_hers() {
        let struck = redactor().redact("45678 and +49 612345678");
        assert_eq!(struck, format!("45678 and {STRUCK}"));
    }
}
