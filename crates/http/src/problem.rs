//! Problem details (RFC 9457) with a closed set of codes. It guarantees that every refusal has a
//! code, a status and a page under `docs/errors/`; a detail says what is wrong here, never whose
//! data it was about.

use std::fmt;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:ident, $title:literal;)*) => {
        /// Why a request was refused. Closed: clients may match on it, and a new code is a new
        /// page under `docs/errors/`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// Its stable name: the last part of the problem's `type`, and the page's name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status,)* }
            }

            /// One line for people, the same in every occurrence.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// The code of this name.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Code::$variant),)* _ => None }
            }
        }
    };
}

codes! {
    /// No key, or one that is not known.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "A valid bearer key is needed";
    /// The key lacks the scope.
    Forbidden = "forbidden", FORBIDDEN, "The key may not do this";
    /// The body is no JSON of the expected shape.
    MalformedBody = "malformed_body", BAD_REQUEST, "The body could not be understood";
    /// A path or query parameter is malformed.
    MalformedParameter = "malformed_parameter", BAD_REQUEST, "A parameter could not be understood";
    /// The body is larger than this endpoint takes.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body is not `application/json`.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    /// There is no such endpoint or thing.
    NotFound = "not_found", NOT_FOUND, "There is nothing here";
    /// The endpoint exists, but not with this method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// The cursor was not made by this listing.
    CursorInvalid = "cursor_invalid", BAD_REQUEST, "The cursor is not valid";
    /// The `Idempotency-Key` header is malformed or missing where it is needed.
    IdempotencyKeyInvalid = "idempotency_key_invalid", BAD_REQUEST, "The idempotency key is not valid";
    /// The same key came with another body.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The idempotency key was used for another request";
    /// Someone else changed it first.
    VersionConflict = "version_conflict", CONFLICT, "It has changed meanwhile";
    /// A field's content breaks a rule.
    ValidationFailed = "validation_failed", UNPROCESSABLE_ENTITY, "The request breaks a rule";
    /// No such purpose.
    PurposeUnknown = "purpose_unknown", NOT_FOUND, "The purpose is not known";
    /// The purpose is not pursued on this channel.
    ChannelUnknown = "channel_unknown", UNPROCESSABLE_ENTITY, "The channel is not known for this purpose";
    /// The notice version is not known.
    NoticeUnknown = "notice_unknown", NOT_FOUND, "The notice is not known";
    /// A suppression or an erasure stands against it, and only the person may lift it.
    ConsentNotAllowed = "consent_not_allowed", CONFLICT, "Consent may not be recorded";
    /// She may not be asked now.
    AskNotAllowed = "ask_not_allowed", CONFLICT, "She may not be asked";
    /// A confirmation is over, was used, or never was one.
    ConfirmationInvalid = "confirmation_invalid", CONFLICT, "The confirmation can't be used";
    /// No such person.
    SubjectUnknown = "subject_unknown", NOT_FOUND, "The person is not known";
    /// The person was erased, or is being erased.
    SubjectErased = "subject_erased", GONE, "The person was erased";
    /// The text is no phone number.
    PhoneInvalid = "phone_invalid", UNPROCESSABLE_ENTITY, "The phone number is not valid";
    /// There is no such task.
    TaskUnknown = "task_unknown", NOT_FOUND, "The task is not known";
    /// The template is not known.
    TemplateUnknown = "template_unknown", NOT_FOUND, "The template is not known";
    /// The provider doesn't send the template now.
    TemplateUnavailable = "template_unavailable", CONFLICT, "The template can't be sent now";
    /// The values don't fit the template's places.
    TemplateMismatch = "template_mismatch", UNPROCESSABLE_ENTITY, "The values don't fit the template";
    /// There is a template of this name in this language.
    TemplateExists = "template_exists", CONFLICT, "There is such a template already";
    /// The provider doesn't take what was asked.
    ProviderRefused = "provider_refused", UNPROCESSABLE_ENTITY, "WhatsApp refuses it";
    /// She has not written within 24 hours.
    WindowClosed = "window_closed", CONFLICT, "She has not written within a day";
    /// The file is not there (any more), or is about somebody else.
    MediaUnknown = "media_unknown", NOT_FOUND, "The file is not there";
    /// The message is not known.
    MessageUnknown = "message_unknown", NOT_FOUND, "The message is not known";
    /// No such campaign.
    CampaignUnknown = "campaign_unknown", NOT_FOUND, "The campaign is not known";
    /// The campaign is in a state in which this is not possible.
    CampaignStateConflict = "campaign_state_conflict", CONFLICT, "The campaign is not in a state for this";
    /// The conversation is not known.
    ConversationUnknown = "conversation_unknown", NOT_FOUND, "The conversation is not known";
    /// Somebody else has the conversation, or it is in a state in which this is not possible.
    ConversationStateConflict = "conversation_state_conflict", CONFLICT, "The conversation is not in a state for this";
    /// The request is not known.
    RequestUnknown = "request_unknown", NOT_FOUND, "The request is not known";
    /// The request is in a state in which this is not possible.
    RequestStateConflict = "request_state_conflict", CONFLICT, "The request is not in a state for this";
    /// No such legal hold.
    HoldUnknown = "hold_unknown", NOT_FOUND, "The hold is not known";
    /// The hold was released, or has ended.
    HoldOver = "hold_over", CONFLICT, "The hold is over";
    /// Destruction has begun.
    HoldTooLate = "hold_too_late", CONFLICT, "The hold comes too late";
    /// The certificate does not exist yet.
    CertificateNotReady = "certificate_not_ready", CONFLICT, "The certificate does not exist yet";
    /// No such participant.
    ParticipantUnknown = "participant_unknown", NOT_FOUND, "The participant is not known";
    /// The acknowledgement does not match the command that is open.
    AckMismatch = "ack_mismatch", CONFLICT, "The acknowledgement does not match";
    /// A webhook's signature is missing or wrong.
    SignatureInvalid = "signature_invalid", UNAUTHORIZED, "The signature is not valid";
    /// No such parked message.
    ParkedUnknown = "parked_unknown", NOT_FOUND, "The parked message is not known";
    /// The parked message can't be replayed now.
    ParkedStateConflict = "parked_state_conflict", CONFLICT, "The parked message can't be handled now";
    /// No such projection.
    ProjectionUnknown = "projection_unknown", NOT_FOUND, "The projection is not known";
    /// A rebuild of this projection is running.
    RebuildRunning = "rebuild_running", CONFLICT, "A rebuild is running already";
    /// More requests than agreed.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// The service has more work than it can take.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "The service is overloaded";
    /// The service is starting or stopping.
    NotReady = "not_ready", SERVICE_UNAVAILABLE, "The service is not ready";
    /// No answer in time. What was asked may still happen: repeat with the same idempotency key.
    Timeout = "timeout", GATEWAY_TIMEOUT, "It took too long";
    /// Something that this service needs does not answer.
    DependencyUnavailable = "dependency_unavailable", SERVICE_UNAVAILABLE, "A dependency does not answer";
    /// A fault of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong";
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A refusal, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Why.
    pub code: Code,
    /// What is wrong with this request. No personal data, no secrets.
    pub detail: Option<String>,
    /// Further members of the document.
    pub extras: Map<String, Value>,
    retry_after_secs: Option<u32>,
}

impl Problem {
    /// A problem without a detail.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, extras: Map::new(), retry_after_secs: None }
    }

    /// Says what is wrong with this request.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a member to the document.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extras.insert(name.to_owned(), value.into());
        self
    }

    /// Tells the client when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_secs = Some(seconds);
        self
    }

    /// A fault of ours: the cause goes to the log, not to the caller.
    #[must_use]
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(Code::Internal)
    }

    /// Something that we need does not answer: the cause goes to the log.
    #[must_use]
    pub fn unavailable(dependency: &str, cause: impl fmt::Display) -> Self {
        tracing::warn!(dependency, %cause, "dependency unavailable");
        Self::new(Code::DependencyUnavailable).detail(dependency).retry_after(1)
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail.as_deref().unwrap_or(self.code.title()))
    }
}

impl std::error::Error for Problem {}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:assent:problem:{}", self.code))?;
        map.serialize_entry("title", self.code.title())?;
        map.serialize_entry("status", &self.code.status().as_u16())?;
        map.serialize_entry("code", &self.code)?;
        if let Some(detail) = &self.detail {
            map.serialize_entry("detail", detail)?;
        }
        for (name, value) in &self.extras {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.code.status(), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Who is turned away for now is always told when to come again.
        let passes = matches!(
            self.code.status(),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        );
        if let Some(seconds) = self.retry_after_secs.or(passes.then_some(1)) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // For the span around the request.
        response.extensions_mut().insert(self.code);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page_and_every_page_its_code() {
        let pages = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        for code in Code::ALL {
            let page = std::fs::read_to_string(pages.join(format!("{code}.md")))
                .unwrap_or_else(|error| panic!("docs/errors/{code}.md: {error}"));
            let heading = format!("# {code} ({})", code.status().as_u16());
            assert!(
                page.starts_with(&heading),
                "docs/errors/{code}.md must start with `{heading}`"
            );
            assert!(page.contains("## What to do"), "docs/errors/{code}.md says what to do");
            assert_eq!(Code::by_name(code.name()), Some(*code));
        }
        for entry in std::fs::read_dir(pages).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let name = name.trim_end_matches(".md");
            assert!(name == "README" || Code::by_name(name).is_some(), "{name} is no code");
        }
    }

    #[test]
    fn the_document_has_its_members_in_order() {
        let problem = Problem::new(Code::VersionConflict).detail("expected 3").with("actual", 4);
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"urn:assent:problem:version_conflict","title":"It has changed meanwhile","status":409,"code":"version_conflict","detail":"expected 3","actual":4}"#
        );
    }

    #[test]
    fn headers_tell_how_to_go_on() {
        let response = Problem::new(Code::Unauthenticated).into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let response = Problem::new(Code::Overloaded).retry_after(2).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn whoever_is_turned_away_for_now_is_told_when_to_come_again() {
        let mut passing = 0;
        for code in Code::ALL {
            let response = Problem::new(*code).into_response();
            let now = [429, 503].contains(&response.status().as_u16());
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), now, "{code}");
            passing += usize::from(now);
        }
        assert!(passing >= 4, "overloaded, rate_limited, not_ready, dependency_unavailable");
    }
}
