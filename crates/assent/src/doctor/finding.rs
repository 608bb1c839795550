//! What a check found: a line for people, an object for machines. It guarantees that whatever is wrong
//! comes with what to do about it; finding it is the checks'.

use serde::Serialize;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: String,
    /// How it is.
    pub state: State,
    /// What was found. Never a secret, never personal data.
    pub says: String,
    /// What to do, where something is wrong.
    #[serde(rename = "do", skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it must be.
    Ok,
    /// Not as it must be.
    Wrong,
    /// It couldn't be looked at, because something else is wrong.
    Unknown,
}

impl Finding {
    /// As it must be.
    pub fn ok(check: impl Into<String>, says: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, says: says.into(), remedy: None }
    }

    /// Wrong, and what to do.
    pub fn wrong(
        check: impl Into<String>,
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (check, says, remedy) = (check.into(), says.into(), Some(remedy.into()));
        Self { check, state: State::Wrong, says, remedy }
    }

    /// Not looked at, because of something else.
    pub fn unknown(check: impl Into<String>, says: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Unknown, says: says.into(), remedy: None }
    }
}

/// All findings as people read them.
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Finding { check, state, says, remedy } in findings {
        let state = match state {
            State::Ok => "ok",
            State::Wrong => "wrong",
            State::Unknown => "unknown",
        };
        lines.push(format!("{state:<8} {check:<width$}  {says}"));
        lines.extend(remedy.iter().map(|remedy| format!("{:8} {:width$}  → {remedy}", "", "")));
    }
    let wrong = count(findings, State::Wrong);
    lines.push(match (wrong, count(findings, State::Unknown)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (wrong, 0) => format!("{wrong} wrong"),
        (wrong, unknown) => format!("{wrong} wrong, {unknown} not looked at"),
    });
    lines.join("\n")
}

/// How many are like that.
pub fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|finding| finding.state == state).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let findings = [
            Finding::ok("configuration", "consent"),
            Finding::wrong("kafka", "kafka doesn't answer", "start it"),
            Finding::unknown("topics", "kafka isn't reached"),
        ];
        assert_eq!(
            text(&findings),
            "ok       configuration  consent
wrong    kafka          kafka doesn't answer
                        → start it
unknown  topics         kafka isn't reached
1 wrong, 1 not looked at"
        );
        let json = serde_json::to_value(&findings[1]).unwrap();
        let wanted = serde_json::json!({"check": "kafka", "state": "wrong",
            "says": "kafka doesn't answer", "do": "start it"});
        assert_eq!(json, wanted);
    }
}
