//! The platform's rules, and who broke them: every send that no good client would have made, by
//! rule. It counts whether or not the rule is enforced, and never counts an injected fault.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::graph_error::GraphError;
use crate::world::World;

/// A rule of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Marketing to somebody who stopped it, in WhatsApp or by a plain word (131050).
    AfterStop,
    /// Marketing again within 24 hours of 131049.
    AgainAfterCap,
    /// Free-form more than 24 hours after her last message (131047).
    OutsideWindow,
    /// More than a burst of 45, then one in six seconds, to one person (131056).
    PairRate,
    /// More messages a second than the number may send (130429).
    NumberRate,
    /// More people in 24 hours than the portfolio's tier (131048).
    DailyPeople,
    /// To somebody whom the business blocked itself.
    ToBlocked,
    /// A template that doesn't exist or isn't approved (132001).
    TemplateUnknown,
    /// Parameters that aren't the template's (132000, 132005, 132012).
    TemplateParameters,
    /// A template that is paused or disabled (132015, 132016).
    TemplateHeld,
    /// A message that isn't one (100, 131008, 131009, 131021, 131051).
    Malformed,
    /// Without a valid token (190).
    Unauthorised,
}

impl Rule {
    /// All of them.
    const ALL: [Self; 12] = [
        Self::AfterStop,
        Self::AgainAfterCap,
        Self::OutsideWindow,
        Self::PairRate,
        Self::NumberRate,
        Self::DailyPeople,
        Self::ToBlocked,
        Self::TemplateUnknown,
        Self::TemplateParameters,
        Self::TemplateHeld,
        Self::Malformed,
        Self::Unauthorised,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::AfterStop => "after_stop",
            Self::AgainAfterCap => "again_after_cap",
            Self::OutsideWindow => "outside_window",
            Self::PairRate => "pair_rate",
            Self::NumberRate => "number_rate",
            Self::DailyPeople => "daily_people",
            Self::ToBlocked => "to_blocked",
            Self::TemplateUnknown => "template_unknown",
            Self::TemplateParameters => "template_parameters",
            Self::TemplateHeld => "template_held",
            Self::Malformed => "malformed",
            Self::Unauthorised => "unauthorised",
        }
    }

    /// The rule that a refusal with this error stands for.
    pub fn behind(error: &GraphError) -> Option<Self> {
        match error.code {
            132_001 => Some(Self::TemplateUnknown),
            132_000 | 132_005 | 132_012 => Some(Self::TemplateParameters),
            132_015 | 132_016 => Some(Self::TemplateHeld),
            100 | 131_008 | 131_009 | 131_021 | 131_051 => Some(Self::Malformed),
            190 => Some(Self::Unauthorised),
            _ => None,
        }
    }
}

/// The calls that broke each rule, by their numbers.
#[derive(Debug, Default)]
pub struct Violations(BTreeMap<Rule, Vec<u64>>);

impl Violations {
    /// One more.
    pub fn count(&mut self, rule: Rule, call: u64) {
        self.0.entry(rule).or_default().push(call);
    }
}

/// `GET /_sim/violations`: every rule with how often it was broken, and by which calls.
pub async fn violations(State(world): State<Arc<World>>) -> Json<Value> {
    let state = world.state();
    let calls = |rule: &Rule| state.violations.0.get(rule).cloned().unwrap_or_default();
    let rules: serde_json::Map<String, Value> = Rule::ALL
        .iter()
        .map(|rule| {
            let calls = calls(rule);
            (rule.name().to_owned(), json!({"count": calls.len(), "calls": calls}))
        })
        .collect();
    let total: usize = state.violations.0.values().map(Vec::len).sum();
    Json(json!({"total": total, "rules": rules}))
}

/// `DELETE /_sim/violations`: as if none had been.
pub async fn forget(State(world): State<Arc<World>>) -> StatusCode {
    world.state().violations = Violations::default();
    StatusCode::NO_CONTENT
}
