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
        let part = |c: char| c.is_ascii_digit() || "+-./() \u{a0}\u{202f}".contains(c);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit() || c == '+') {
            let (before, from) = rest.split_at(start);
            out.push_str(before);
            let end = from.find(|c: char| !part(c)).unwrap_or(from.len());
            let run = &from[..end];
            let run = &run[..run.trim_end_matches(|c: char| !c.is_ascii_digit()).len().max(1)];
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
    text.chars().filter(char::is_ascii_digit).collect()
}

/// `2026-11-26`, `26.11.2026`, `26/11/2026`.
fn is_date(run: &str) -> bool {
    let groups: Vec<usize> = run.split(['-', '.', '/']).map(str::len).collect();
    let digits_only = run.chars().all(|c| c.is_ascii_digit() || "-./".contains(c));
    digits_only && matches!(groups[..], [4, 2, 2] | [2, 2, 4])
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
