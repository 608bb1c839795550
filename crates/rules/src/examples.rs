//! The examples beside a rule file, and whether they hold.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::applies::Facts;
use crate::file::Value;
use crate::place::Place;
use crate::set::RuleSet;

/// The file of examples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Examples {
    /// The examples.
    #[serde(default, rename = "example")]
    pub examples: Vec<Example>,
}

/// A case, and what it comes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What it shows, in a sentence.
    pub says: String,
    /// The day of the question.
    pub on: Date,
    /// The controller's seat.
    #[serde(default)]
    pub seat: Option<Place>,
    /// Where the person says that she is.
    #[serde(default)]
    pub stated: Option<Place>,
    /// The country of her number.
    #[serde(default)]
    pub number: Option<Place>,
    /// All jurisdictions that apply; those that are not certain with a question mark: `us-ca?`.
    #[serde(default)]
    pub laws: Option<BTreeSet<String>>,
    /// What the strictest rules come to, by the rule that says it.
    #[serde(default)]
    pub strictest: BTreeMap<String, Value>,
    /// Rules that apply and aren't the strictest.
    #[serde(default)]
    pub others: BTreeMap<String, Value>,
    /// Rules that don't count here: not in force, not applicable, or not the strictest.
    #[serde(default)]
    pub not: BTreeSet<String>,
    /// All conflicts: the rule that keeps, and the one that erases.
    #[serde(default)]
    pub conflicts: Option<BTreeSet<[String; 2]>>,
}

/// An example that doesn't hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// Whose it is.
    pub jurisdiction: String,
    /// What it shows.
    pub says: String,
    /// What is otherwise.
    pub reasons: Vec<String>,
}

impl RuleSet {
    /// Runs the examples of these jurisdictions on the whole set: those that were added to a set can
    /// change what the examples of the others come to. Gives how many there are, which rules of
    /// theirs no example gives a value of, and the ones that fail.
    #[must_use]
    pub fn test(&self, tested: impl Fn(&str) -> bool) -> (usize, BTreeSet<String>, Vec<Failed>) {
        let mut unspoken: BTreeSet<String> = self
            .files()
            .filter(|file| tested(&file.id))
            .flat_map(|file| &file.rules)
            .map(|rule| rule.id.clone())
            .collect();
        let mut count = 0;
        let mut failed = Vec::new();
        for (file, examples) in self.with_examples().filter(|(file, _)| tested(&file.id)) {
            for example in &examples.examples {
                count += 1;
                for rule in example.strictest.keys().chain(example.others.keys()) {
                    unspoken.remove(rule);
                }
                let reasons = self.reasons_against(example);
                if !reasons.is_empty() {
                    failed.push(Failed {
                        jurisdiction: file.id.clone(),
                        says: example.says.clone(),
                        reasons,
                    });
                }
            }
        }
        (count, unspoken, failed)
    }

    fn reasons_against(&self, example: &Example) -> Vec<String> {
        let Example { on, seat, stated, number, laws, strictest, others, not, conflicts, .. } =
            example;
        let facts =
            Facts { on: *on, seat: seat.clone(), stated: stated.clone(), number: number.clone() };
        let found = self.answers(&facts);
        let mut reasons = Vec::new();
        let applying: BTreeSet<String> = found
            .laws
            .iter()
            .map(|law| format!("{}{}", law.jurisdiction, if law.certain { "" } else { "?" }))
            .collect();
        if let Some(laws) = laws
            && *laws != applying
        {
            reasons.push(format!("these apply: {applying:?}"));
        }
        let counting: BTreeMap<&str, Value> = found
            .answers
            .iter()
            .map(|answer| (answer.strictest.rule.id.as_str(), answer.strictest.rule.value))
            .collect();
        for (rule, value) in strictest {
            match counting.get(rule.as_str()) {
                Some(found) if found == value => {}
                Some(found) => reasons.push(format!("`{rule}` comes to {found}, not {value}")),
                None => {
                    let topic = value.topic();
                    let instead = found.about(&topic).map_or("nothing", |it| &it.strictest.rule.id);
                    reasons.push(format!("`{rule}` doesn't count for {topic}: {instead} does"));
                }
            }
        }
        let beside: BTreeMap<&str, Value> = found
            .answers
            .iter()
            .flat_map(|answer| &answer.others)
            .map(|it| (it.rule.id.as_str(), it.rule.value))
            .collect();
        for (rule, value) in others {
            match beside.get(rule.as_str()) {
                Some(found) if found == value => {}
                Some(found) => reasons.push(format!("`{rule}` comes to {found}, not {value}")),
                None => reasons.push(format!("`{rule}` doesn't stand beside a stricter one")),
            }
        }
        let ids: BTreeSet<&str> =
            self.files().flat_map(|file| &file.rules).map(|rule| rule.id.as_str()).collect();
        for rule in not {
            if counting.contains_key(rule.as_str()) {
                reasons.push(format!("`{rule}` counts"));
            } else if !ids.contains(rule.as_str()) {
                reasons.push(format!("there is no rule `{rule}`"));
            }
        }
        let named: BTreeSet<[String; 2]> =
            found.conflicts.into_iter().map(|it| it.between).collect();
        if let Some(conflicts) = conflicts
            && *conflicts != named
        {
            reasons.push(format!("these are in conflict: {named:?}"));
        }
        reasons
    }
}
