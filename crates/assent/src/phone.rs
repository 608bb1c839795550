//! A phone number as an operator gives it: any spelling, or `-` for standard input, so that it
//! need not stand in a shell's history. It is never printed nor logged; parsing it is the vault's.

use std::io::{self, BufRead};

use crate::outcome::Failure;

/// A phone number argument. Its `Debug` hides it.
#[derive(Clone)]
pub struct Phone(String);

impl std::fmt::Debug for Phone {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Phone(…)")
    }
}

impl From<&str> for Phone {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Phone {
    /// The number as written; reads a line of standard input for `-`.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn read(&self) -> Result<String, Failure> {
        self.read_from(io::stdin().lock())
    }

    fn read_from(&self, mut stdin: impl BufRead) -> Result<String, Failure> {
        let mut text = self.0.clone();
        if text == "-" {
            text.clear();
            stdin
                .read_line(&mut text)
                .map_err(|error| Failure::wrong_use(format!("standard input: {error}")))?;
        }
        let text = text.trim();
        if text.is_empty() {
            return Err(Failure::wrong_use("the phone number is empty"));
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_reads_standard_input_and_debug_hides_the_number() {
        assert_eq!(
            Phone::from("-").read_from(&b"+44 7700 900001\nmore"[..]).unwrap(),
            "+44 7700 900001"
        );
        assert_eq!(Phone::from(" 06 39 98 00 01 ").read_from(&b""[..]).unwrap(), "06 39 98 00 01");
        assert!(Phone::from("-").read_from(&b""[..]).is_err());
        assert!(!format!("{:?}", Phone::from("+447700900001")).contains("7700"));
    }
}
