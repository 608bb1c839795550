//! What the applicable rules come to: per question the strictest, the others beside it, and where
//! rules contradict each other. It guarantees that no conflict is settled in silence.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::applies::{Facts, Law};
use crate::file::{Rule, Topic, Value};
use crate::set::RuleSet;

/// Everything that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answers {
    /// The jurisdictions, and why.
    pub laws: Vec<Law>,
    /// Per question, sorted.
    pub answers: Vec<Answer>,
    /// Rules that contradict each other.
    pub conflicts: Vec<Conflict>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The question.
    pub topic: Topic,
    /// The strictest: what counts.
    pub strictest: Ranked,
    /// The others, the stricter first.
    pub others: Vec<Ranked>,
}

/// A rule in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ranked {
    /// Its jurisdiction.
    pub jurisdiction: String,
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
}

/// Two rules that can't both be obeyed for the same data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The ids of the rules: what must be kept, and what must go.
    pub between: [String; 2],
    /// What the conflict is.
    pub says: String,
    /// What is done about it.
    pub way_out: &'static str,
}

/// Retention against erasure has one way out.
const KEPT_APART: &str = "only what the first rule names is kept: apart, locked to that purpose, \
                          with a date of destruction; everything else goes";

impl RuleSet {
    /// What applies to these facts.
    #[must_use]
    pub fn answers(&self, facts: &Facts) -> Answers {
        let laws = self.applicable(facts);
        let mut by_topic: BTreeMap<Topic, Vec<Ranked>> = BTreeMap::new();
        for file in self.files() {
            let Some(law) = laws.iter().find(|law| law.jurisdiction == file.id) else { continue };
            for rule in file.rules.iter().filter(|rule| rule.is_in_force(facts.on)) {
                let topic = rule.value.topic();
                if !self.is_refined(law, &topic, &laws, facts) {
                    let (jurisdiction, rule) = (file.id.clone(), rule.clone());
                    by_topic.entry(topic).or_default().push(Ranked { jurisdiction, rule });
                }
            }
        }
        let answers: Vec<Answer> = by_topic
            .into_iter()
            .filter_map(|(topic, mut ranked)| {
                ranked.sort_by_key(|it| std::cmp::Reverse(it.rule.value.strictness(facts.on)));
                let mut ranked = ranked.into_iter();
                let strictest = ranked.next()?;
                Some(Answer { topic, strictest, others: ranked.collect() })
            })
            .collect();
        let conflicts = conflicts(&answers, facts);
        let answers = with_their_own_extension(answers);
        Answers { laws, answers, conflicts }
    }

    /// Whether the general rule is replaced: she says where she is, and for every reason for which the
    /// general law applies, a jurisdiction that makes it specific applies too and answers itself.
    /// Where she may live elsewhere, or in a country that left it at the general rule, that one
    /// counts: to know less never makes an answer laxer.
    fn is_refined(&self, general: &Law, topic: &Topic, laws: &[Law], facts: &Facts) -> bool {
        let answers = |rule: &Rule| rule.is_in_force(facts.on) && rule.value.topic() == *topic;
        let refining: Vec<&Law> = self
            .files()
            .filter(|file| file.refines.as_deref() == Some(general.jurisdiction.as_str()))
            .filter(|file| file.rules.iter().any(answers))
            .filter_map(|file| laws.iter().find(|law| law.jurisdiction == file.id))
            .collect();
        facts.stated.is_some()
            && general.because.iter().all(|because| {
                because.is_certain() && refining.iter().any(|law| law.because.contains(because))
            })
    }
}

impl Answers {
    /// The answer to the question that such a value answers.
    #[must_use]
    pub fn about(&self, topic: &Topic) -> Option<&Answer> {
        self.answers.iter().find(|answer| answer.topic == *topic)
    }
}

/// A term is extended by the law that set it: another law's extension doesn't lengthen it.
fn with_their_own_extension(answers: Vec<Answer>) -> Vec<Answer> {
    let is_term = |answer: &&Answer| matches!(answer.strictest.rule.value, Value::AnswerWithin(_));
    let Some(term) = answers.iter().find(is_term).map(|it| it.strictest.jurisdiction.clone())
    else {
        return answers;
    };
    answers
        .into_iter()
        .filter_map(|answer| {
            if !matches!(answer.strictest.rule.value, Value::ExtendBy(_)) {
                return Some(answer);
            }
            let Answer { topic, strictest, others } = answer;
            let mut ranked = std::iter::once(strictest).chain(others);
            let strictest = ranked.find(|it| it.jurisdiction == term)?;
            Some(Answer { topic, strictest, others: Vec::new() })
        })
        .collect()
}

/// Whatever must be kept longer than data may stay once they must go, by any of the laws.
fn conflicts(answers: &[Answer], facts: &Facts) -> Vec<Conflict> {
    let all = || answers.iter().flat_map(|it| std::iter::once(&it.strictest).chain(&it.others));
    let mut conflicts = Vec::new();
    for kept in all() {
        let Value::KeepAtLeast { what, period } = kept.rule.value else { continue };
        for erase in all() {
            let Value::EraseWithin(within) = erase.rule.value else { continue };
            if period.hours_from(facts.on) > within.hours_from(facts.on) {
                conflicts.push(Conflict {
                    between: [kept.rule.id.clone(), erase.rule.id.clone()],
                    says: format!(
                        "{} wants {what} kept for {period}; {} wants data gone within {within}",
                        kept.rule.article, erase.rule.article
                    ),
                    way_out: KEPT_APART,
                });
            }
        }
    }
    conflicts
}
