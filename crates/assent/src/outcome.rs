//! How a command ends: what it prints and the exit status that scripts rely on. It guarantees that
//! a failure is one sentence on standard error, and that no message holds a phone number.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use assent_http::{ClientError, Code};
use serde::Serialize;

/// The exit statuses: 0 done, 1 done with refusals, 2 wrong use, 3 a service couldn't be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Everything was done.
    Done,
    /// It ran to its end, and something was refused or rejected.
    Refused,
    /// The command, a file or the configuration makes no sense, or the token may not do it.
    WrongUse,
    /// A service didn't answer. Repeating the command is safe.
    Unreachable,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(match status {
            Status::Done => 0,
            Status::Refused => 1,
            Status::WrongUse => 2,
            Status::Unreachable => 3,
        })
    }
}

/// Why a command gave up.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// A stable code for machines: a problem's code or one of the command line's own.
    pub code: String,
    /// One sentence for people. Never a phone number.
    pub message: String,
}

impl Failure {
    /// Wrong use, in one sentence.
    pub fn wrong_use(message: impl Into<String>) -> Self {
        Self { status: Status::WrongUse, code: "wrong_use".to_owned(), message: message.into() }
    }

    /// A file that can't be read or written.
    pub fn file(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::wrong_use(format!("{}: {error}", path.display()))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let code = error.code();
        let transient = error.is_transient();
        match error {
            ClientError::Problem { status: http, code: name, detail, .. } => {
                let status = match code {
                    Some(
                        Code::ConsentNotAllowed
                        | Code::SubjectErased
                        | Code::SubjectUnknown
                        | Code::RequestStateConflict
                        | Code::HoldOver
                        | Code::HoldTooLate
                        | Code::CampaignStateConflict
                        | Code::ConversationStateConflict
                        | Code::TemplateExists
                        | Code::ProviderRefused
                        | Code::WindowClosed,
                    ) => Status::Refused,
                    _ if transient => Status::Unreachable,
                    _ => Status::WrongUse,
                };
                let title = code.map_or("the service refused", Code::title);
                let name = name.unwrap_or_else(|| format!("http_{}", http.as_u16()));
                let message = match detail.filter(|detail| *detail != name) {
                    Some(detail) => format!("{title} ({name}): {detail}"),
                    None => format!("{title} ({name})"),
                };
                Self { status, code: name, message }
            }
            ClientError::Setup(problem) => Self::wrong_use(problem),
            other => Self {
                status: Status::Unreachable,
                code: "unreachable".to_owned(),
                message: format!("couldn't reach the service: {other}"),
            },
        }
    }
}

/// Where results go: text for people, JSON for machines.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON on request.
    #[must_use]
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether machines read.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether somebody watches standard error.
    #[must_use]
    pub fn is_watched(self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Prints a result in the form that is wanted. A closed pipe is not an error of ours.
    pub fn print<T: Serialize>(self, result: &T, text: impl FnOnce(&T) -> String) {
        let line = if self.json {
            serde_json::to_string(result).unwrap_or_default()
        } else {
            text(result)
        };
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// A remark for whoever watches; machines don't get it.
    pub fn remark(self, text: &str) {
        if !self.json {
            let _ = writeln!(io::stderr().lock(), "{text}");
        }
    }

    /// Prints a failure and gives its status.
    #[must_use]
    pub fn fail(self, failure: &Failure) -> Status {
        let mut stderr = io::stderr().lock();
        let _ = if self.json {
            let body = serde_json::json!({"error": failure.code, "message": failure.message});
            writeln!(stderr, "{body}")
        } else {
            writeln!(stderr, "assent: {}", failure.message)
        };
        failure.status
    }
}
