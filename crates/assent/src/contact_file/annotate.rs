//! Writes rows of a contact file again with a finding beside each. It guarantees that every row
//! keeps its own columns in their order: in delimited text the finding stands in two columns before
//! them, in JSON lines in two members, in vCards in two properties.

use super::{ContactReader, Source};

/// The names of the two columns.
pub const VERDICT: &str = "assent_verdict";
/// Reason codes, separated by spaces.
pub const REASONS: &str = "assent_reasons";

/// How findings are written into rows of one file.
#[derive(Debug, Clone, Copy)]
pub enum Annotator {
    /// With this delimiter.
    Delimited(char),
    /// vCards.
    Vcards,
    /// JSON lines.
    JsonLines,
}

impl Annotator {
    /// For the rows of this file.
    #[must_use]
    pub fn of(reader: &ContactReader) -> Self {
        match &reader.source {
            Source::Delimited(file) => Self::Delimited(char::from(file.delimiter())),
            Source::Vcards(_) => Self::Vcards,
            Source::JsonLines(_) => Self::JsonLines,
        }
    }

    /// The header line for this one of the file.
    #[must_use]
    pub fn header(self, header: &str) -> String {
        self.row(header, VERDICT, &[REASONS.to_owned()])
    }

    /// A row, its source text with the finding. A row whose text is not at hand (it is too long to
    /// be kept) has the finding alone.
    #[must_use]
    pub fn row(self, raw: &str, verdict: &str, reasons: &[String]) -> String {
        let raw = raw.trim_end();
        let joined = reasons.join(" ");
        match self {
            Self::Delimited(delimiter) => {
                format!("{verdict}{delimiter}{joined}{delimiter}{raw}\n")
            }
            Self::Vcards => {
                let finding = format!("X-ASSENT-VERDICT:{verdict}\nX-ASSENT-REASONS:{joined}\n");
                match raw.strip_suffix("END:VCARD") {
                    Some(card) => format!("{card}{finding}END:VCARD\n"),
                    None => format!("{raw}\n{finding}").trim_start().to_owned(),
                }
            }
            Self::JsonLines => {
                let finding = format!(
                    "\"{VERDICT}\":{},\"{REASONS}\":{}",
                    serde_json::json!(verdict),
                    serde_json::json!(reasons)
                );
                let is_object = serde_json::from_str::<serde::de::IgnoredAny>(raw).is_ok();
                match raw.trim_start().strip_prefix('{').filter(|_| is_object) {
                    Some(rest) if rest.trim_start().starts_with('}') => {
                        format!("{{{finding}{rest}\n")
                    }
                    Some(rest) => format!("{{{finding},{rest}\n"),
                    None => format!("{{{finding},\"source\":{}}}\n", serde_json::json!(raw)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deny(annotator: Annotator, raw: &str) -> String {
        annotator.row(raw, "deny", &["no_consent".to_owned(), "not_mobile".to_owned()])
    }

    #[test]
    fn delimited_rows_keep_their_columns_and_quotes() {
        let annotator = Annotator::Delimited(';');
        assert_eq!(annotator.header("Nom;Tel"), "assent_verdict;assent_reasons;Nom;Tel\n");
        assert_eq!(
            deny(annotator, "\"Durand; A\";0639980001\r\n"),
            "deny;no_consent not_mobile;\"Durand; A\";0639980001\n"
        );
    }

    #[test]
    fn json_lines_stay_objects_with_their_members_in_order() {
        for raw in [r#"{"tel":"1","a":[1]}"#, "{}", " { } ", "{broken", "1"] {
            let line = deny(Annotator::JsonLines, raw);
            let row: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(row["assent_verdict"], "deny", "{raw}");
            assert_eq!(row["assent_reasons"][1], "not_mobile", "{raw}");
        }
        assert!(
            deny(Annotator::JsonLines, r#"{"tel":"1","a":[1]}"#)
                .ends_with(",\"tel\":\"1\",\"a\":[1]}\n")
        );
    }

    #[test]
    fn a_card_has_the_finding_before_its_end() {
        assert_eq!(
            deny(Annotator::Vcards, "BEGIN:VCARD\nTEL:1\nEND:VCARD\n"),
            "BEGIN:VCARD\nTEL:1\nX-ASSENT-VERDICT:deny\nX-ASSENT-REASONS:no_consent not_mobile\nEND:VCARD\n"
        );
    }
}
