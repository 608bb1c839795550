//! What a message says, as it is stored: sealed under the person's key, in a form that later versions read.

use serde::{Deserialize, Serialize};

use crate::domain::content::{Content, Parameter, Values};

/// What a message says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stored {
    /// A template's values.
    Values(Values),
    /// Free-form content.
    Content(Content),
}

/// To be sealed.
///
/// # Panics
/// Never: these types always serialise.
#[must_use]
pub fn write(stored: &Stored) -> Vec<u8> {
    serde_json::to_vec(stored).expect("plain structs of strings serialise")
}

/// As [`write()`] wrote it, or as earlier versions did: a bare list of the body's parameters.
#[must_use]
pub fn read(text: &[u8]) -> Option<Stored> {
    if let Ok(stored) = serde_json::from_slice(text) {
        return Some(stored);
    }
    let parameters: Vec<String> = serde_json::from_slice(text).ok()?;
    let parameters = parameters.into_iter().map(Parameter::Text).collect();
    Some(Stored::Values(Values { parameters, ..Values::default() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_earlier_versions_stored_is_read() {
        let Some(Stored::Values(values)) = read(br#"["Ada"]"#) else { panic!("values") };
        assert_eq!(values.parameters, [Parameter::Text("Ada".to_owned())]);
        let text = Content::Text { body: "hello".to_owned(), preview_url: false };
        let stored = Stored::Content(text);
        assert_eq!(read(&write(&stored)), Some(stored));
        assert_eq!(read(b"7"), None);
    }
}
