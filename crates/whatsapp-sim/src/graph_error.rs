//! Errors in the shape, with the codes and HTTP statuses, that the Graph API gives them.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::clock;

/// An error of the Cloud API.
#[derive(Debug, Clone)]
pub struct GraphError {
    /// Meta's error code.
    pub code: i64,
    /// `error_subcode`, where one exists.
    pub subcode: Option<i64>,
    /// What exactly is wrong (`error_data.details`).
    pub details: String,
    /// `error_user_title`, which errors of the management API have besides.
    pub user_title: Option<&'static str>,
}

impl GraphError {
    /// An error with this code.
    pub fn new(code: i64, details: impl Into<String>) -> Self {
        Self { code, subcode: None, details: details.into(), user_title: None }
    }

    /// The object in the path doesn't exist or isn't the token's.
    pub fn unknown_object(id: &str) -> Self {
        Self {
            code: 100,
            subcode: Some(33),
            details: format!(
                "Unsupported post request. Object with ID '{id}' does not exist, cannot be loaded due to missing permissions, or does not support this operation"
            ),
            user_title: None,
        }
    }

    /// An error of the management API: invalid parameter, with a subcode that says which.
    pub fn of_management(subcode: i64, title: &'static str, details: String) -> Self {
        Self { code: 100, subcode: Some(subcode), details, user_title: Some(title) }
    }

    /// The HTTP status that goes with the code.
    pub fn status(&self) -> StatusCode {
        match self.code {
            0 | 190 => StatusCode::UNAUTHORIZED,
            10 | 200..=299 | 368 | 130_497 | 131_005 | 131_031 => StatusCode::FORBIDDEN,
            132_001 => StatusCode::NOT_FOUND,
            3 | 131_000 | 131_016 | 131_057 => StatusCode::INTERNAL_SERVER_ERROR,
            2 | 133_004 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The body of a synchronous answer.
    pub fn body(&self) -> Value {
        let mut error = json!({
            "message": format!("(#{}) {}", self.code, title(self.code)),
            "type": "OAuthException",
            "code": self.code,
            "error_data": {"messaging_product": "whatsapp", "details": self.details},
            "fbtrace_id": format!("A{}", &clock::random().simple().to_string()[..22]),
        });
        if let Some(subcode) = self.subcode {
            error["error_subcode"] = json!(subcode);
        }
        if let Some(title) = self.user_title {
            error["error_user_title"] = json!(title);
            error["error_user_msg"] = json!(self.details);
        }
        json!({ "error": error })
    }

    /// The entry of a failed status in a webhook.
    pub fn webhook_entry(&self) -> Value {
        json!({
            "code": self.code,
            "title": title(self.code),
            "message": title(self.code),
            "error_data": {"details": self.details},
            "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
        })
    }
}

impl IntoResponse for GraphError {
    fn into_response(self) -> Response {
        (self.status(), axum::Json(self.body())).into_response()
    }
}

/// Meta's title of a code.
fn title(code: i64) -> &'static str {
    match code {
        0 => "AuthException",
        1 => "API Unknown",
        2 => "API Service",
        3 => "API Method",
        4 => "API Too Many Calls",
        10 => "Permission Denied",
        33 => "Parameter value is not valid",
        100 => "Invalid parameter",
        190 => "Access token has expired",
        200..=299 => "API Permission",
        368 => "Temporarily blocked for policies violations",
        80_007 => "Rate limit issues",
        130_429 => "Rate limit hit",
        130_472 => "User's number is part of an experiment",
        130_497 => "Business account is restricted from messaging users in this country.",
        131_000 => "Something went wrong",
        131_005 => "Access denied",
        131_008 => "Required parameter is missing",
        131_009 => "Parameter value is not valid",
        131_016 => "Service unavailable",
        131_021 => "Recipient cannot be sender",
        131_026 => "Message undeliverable",
        131_031 => "Account has been locked",
        131_042 => "Business eligibility payment issue",
        131_047 => "Re-engagement message",
        131_048 => "Spam rate limit hit",
        131_049 => "This message was not delivered to maintain healthy ecosystem engagement.",
        131_050 => "User has stopped marketing messages from this business",
        131_051 => "Unsupported message type",
        131_053 => "Media upload error",
        131_056 => "(Business Account, Consumer Account) pair rate limit hit",
        131_057 => "Account in maintenance mode",
        132_000 => "Template Param Count Mismatch",
        132_001 => "Template does not exist",
        132_005 => "Template Hydrated Text Too Long",
        132_007 => "Template Format Character Policy Violated",
        132_012 => "Template Parameter Format Mismatch",
        132_015 => "Template is Paused",
        132_016 => "Template is Disabled",
        133_004 => "Server Temporarily Unavailable",
        133_005 => "Two step verification PIN Mismatch",
        133_010 => "Phone number Not Registered",
        136_025 => "Verify code error",
        139_100 => "Failed to block/unblock users",
        139_101 => "Blocklist limit reached",
        139_102 => "Blocklist concurrent update",
        139_103 => "Internal error",
        135_000 => "Generic user error",
        2_500 => "Unknown path components",
        _ => "Error",
    }
}
