//! What the provider answers to a send. Unknown fields are ignored; an answer that can't be read is
//! judged by its HTTP status alone.

use serde::Deserialize;

use super::updates::Address;

/// The provider's judgement of one send.
pub enum Answer {
    /// It took the message. Accepted is not delivered.
    Accepted {
        /// The provider's id (`wamid…`). It is base64 around the recipient's number: personal data.
        provider_id: String,
        /// By which names the provider knows who gets it.
        to: Address,
    },
    /// It refused the message, with its error code where it gave one.
    Refused {
        /// HTTP status.
        http_status: u16,
        /// The provider's code.
        code: Option<i64>,
    },
    /// It did what was asked, and that was no message.
    Done,
    /// A success without an id: it may have been sent.
    Unreadable,
}

#[derive(Deserialize)]
struct Success {
    #[serde(default)]
    contacts: Vec<SentTo>,
    #[serde(default)]
    messages: Vec<SentMessage>,
    #[serde(default)]
    success: bool,
}

#[derive(Deserialize)]
struct SentTo {
    #[serde(default)]
    wa_id: Option<String>,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    parent_user_id: Option<String>,
}

#[derive(Deserialize)]
struct SentMessage {
    id: String,
}

#[derive(Deserialize)]
struct Failure {
    error: FailureCode,
}

#[derive(Deserialize)]
struct FailureCode {
    #[serde(default)]
    code: Option<i64>,
}

/// Reads status and body of an answer.
#[must_use]
pub fn read(http_status: u16, body: &[u8]) -> Answer {
    if (200..300).contains(&http_status) {
        return match serde_json::from_slice::<Success>(body) {
            Ok(Success { contacts, messages, success }) => match messages.into_iter().next() {
                Some(SentMessage { id }) if !id.is_empty() => {
                    let to = contacts.into_iter().next().map(|it| {
                        Address::new(it.wa_id, it.user_id).with_parent(it.parent_user_id)
                    });
                    Answer::Accepted { provider_id: id, to: to.unwrap_or_default() }
                }
                None if success => Answer::Done,
                _ => Answer::Unreadable,
            },
            Err(_) => Answer::Unreadable,
        };
    }
    let code = serde_json::from_slice::<Failure>(body).ok().and_then(|failure| failure.error.code);
    Answer::Refused { http_status, code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acceptance_with_unknown_fields_is_read() {
        let body = br#"{"messaging_product":"whatsapp","contacts":[{"input":"+33612345678","user_id":"FR.x"}],
            "messages":[{"id":"wamid.X","message_status":"held_for_quality_assessment","new":1}],"more":[]}"#;
        let Answer::Accepted { provider_id, to } = read(200, body) else { panic!("accepted") };
        assert_eq!((&*provider_id, to.user_id.as_deref()), ("wamid.X", Some("FR.x")));
    }

    #[test]
    fn a_success_without_an_id_may_have_been_sent() {
        for body in
            [&b"{}"[..], b"", b"{\"messages\":[]}", b"<html>", b"{\"messages\":[{\"id\":\"\"}]}"]
        {
            assert!(matches!(read(200, body), Answer::Unreadable));
        }
    }

    #[test]
    fn a_mark_is_done_without_an_id() {
        assert!(matches!(read(200, b"{\"success\":true}"), Answer::Done));
    }

    #[test]
    fn a_refusal_carries_its_code_when_it_has_one() {
        let body = br#"{"error":{"message":"m","type":"OAuthException","code":131050,"error_data":{"details":"d"},"fbtrace_id":"t"}}"#;
        assert!(matches!(
            read(400, body),
            Answer::Refused { http_status: 400, code: Some(131_050) }
        ));
        assert!(matches!(read(502, b"<html>"), Answer::Refused { http_status: 502, code: None }));
    }
}
