//! Canonical JSON (RFC 8785, JCS) for what Assent signs: strings, whole numbers, booleans, null,
//! arrays, objects. It guarantees one byte form per document; fractions are refused, because
//! nothing that is signed here has any.

use serde::Serialize;
use serde_json::Value;

/// Largest whole number that every reader of JSON sees alike (I-JSON, RFC 7493).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why a document has no canonical form here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A fraction, or a whole number beyond 2^53 - 1.
    #[error("a number that is not a whole number of at most 2^53 - 1")]
    Number,
    /// The value has no JSON form.
    #[error("no JSON")]
    NotJson,
}

/// The canonical bytes of `document`.
///
/// # Errors
/// [`CanonicalError`].
pub fn to_vec(document: &impl Serialize) -> Result<Vec<u8>, CanonicalError> {
    let value = serde_json::to_value(document).map_err(|_| CanonicalError::NotJson)?;
    let mut out = Vec::new();
    write(&value, &mut out)?;
    Ok(out)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let size = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
            if size.is_none_or(|size| size > INTEGER_MAX) {
                return Err(CanonicalError::Number);
            }
            out.extend_from_slice(number.to_string().as_bytes());
        }
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // RFC 8785, 3.2.3: by UTF-16 code units, which is not the order of UTF-8.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push(b'{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(member, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

/// RFC 8785, 3.2.2.2: only what must be escaped is, in its shortest form.
fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\r' => out.extend_from_slice(b"\\r"),
            control if u32::from(control) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(to_vec(value).unwrap()).unwrap()
    }

    #[test]
    fn strings_and_literals_of_rfc_8785_3_2_2() {
        let sample: Value = serde_json::from_str(
            r#"{"string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"#,
        )
        .unwrap();
        assert_eq!(
            text(&sample),
            "{\"literals\":[null,true,false],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}"
        );
    }

    #[test]
    fn members_are_sorted_as_in_rfc_8785_3_2_3() {
        let sample: Value = serde_json::from_str(
            r#"{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"}"#,
        )
        .unwrap();
        let sorted = text(&sample);
        let places: Vec<usize> = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"]
            .iter()
            .map(|word| sorted.find(word).unwrap())
            .collect();
        assert!(places.is_sorted(), "{sorted}");
    }

    #[test]
    fn numbers_are_whole_and_exact_or_refused() {
        assert_eq!(text(&json!([0, -1, 9_007_199_254_740_991_u64])), "[0,-1,9007199254740991]");
        assert_eq!(to_vec(&json!(9_007_199_254_740_992_u64)), Err(CanonicalError::Number));
        assert_eq!(to_vec(&json!(0.5)), Err(CanonicalError::Number));
        assert_eq!(to_vec(&json!(1e300)), Err(CanonicalError::Number));
    }
}
