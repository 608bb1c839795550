//! Moments as requests tell them. It guarantees what RFC 3339 writes, the years 0 to 9999: jiff reads
//! years before them too, and no database keeps those before 4713 BC.

use jiff::Timestamp;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// 0000-01-01T00:00:00Z, in seconds of Unix time.
const FIRST: i64 = -62_167_219_200;

/// Reads a moment.
///
/// # Errors
/// When it is none, or lies before the year 0.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let moment = Timestamp::deserialize(deserializer)?;
    if moment.as_second() < FIRST {
        return Err(D::Error::custom("a moment before the year 0"));
    }
    Ok(moment)
}

/// Reads a moment that may be absent.
///
/// # Errors
/// As [`read`].
pub fn read_option<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Timestamp>, D::Error> {
    #[derive(Deserialize)]
    struct Moment(#[serde(deserialize_with = "read")] Timestamp);
    Ok(Option::<Moment>::deserialize(deserializer)?.map(|Moment(moment)| moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Told {
        #[serde(default, deserialize_with = "read_option")]
        at: Option<Timestamp>,
    }

    #[test]
    fn a_moment_is_one_that_a_database_keeps() {
        let read = |json: &str| serde_json::from_str::<Told>(json).map(|told| told.at);
        for absent in ["{}", r#"{"at":null}"#] {
            assert_eq!(read(absent).unwrap(), None);
        }
        assert!(read(r#"{"at":"0000-01-01T00:00:00Z"}"#).unwrap().is_some());
        for before in ["-000001-12-31T23:59:59Z", "-004714-01-01T00:00:00Z", "soon"] {
            assert!(read(&format!(r#"{{"at":"{before}"}}"#)).is_err(), "{before}");
        }
    }

    /// Every request that tells a moment: what such a year did was no answer of the database, and so a 503.
    #[test]
    fn no_request_brings_a_moment_that_no_database_keeps() {
        use crate::api::{claims, consent};
        use serde_json::{Value, json};

        fn is_read<T: for<'de> Deserialize<'de>>(mut request: Value, field: &str) -> [bool; 2] {
            ["2026-01-01T00:00:00Z", "-004800-01-01T00:00:00Z"].map(|at| {
                request[field] = json!(at);
                serde_json::from_value::<T>(request.clone()).is_ok()
            })
        }
        let (id, token) = (uuid::Uuid::nil(), format!("1.{}", "ab".repeat(32)));
        let about = json!({"subject_id": id, "purpose": "news", "channel": "whatsapp",
            "at": "2026-01-01T00:00:00Z"});
        let mut act = about.clone();
        act.as_object_mut().unwrap().remove("at");
        act["actor"] = json!("subject");
        act["method"] = json!("paper");
        let code = json!({"message_id": id, "code": "7F3K2-9QMXA", "sentence": "alone",
            "addresses": [token]});
        let stop = json!({"stop_id": id, "addresses": [token], "kind": "stopped"});
        let claim = json!({"subject_id": id, "evidence": "sealed"});
        for read in [
            is_read::<consent::GrantRequest>(act.clone(), "acted_at"),
            is_read::<consent::WithdrawRequest>(act, "acted_at"),
            is_read::<consent::CodeRequest>(code, "said_at"),
            is_read::<consent::Stop>(stop, "heard_at"),
            is_read::<consent::AsOfRequest>(about.clone(), "at"),
            is_read::<consent::AsOfRequest>(about, "known_at"),
            is_read::<claims::Claim>(claim, "acted_at"),
        ] {
            assert_eq!(read, [true, false]);
        }
    }
}
