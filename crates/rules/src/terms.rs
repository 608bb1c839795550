//! By when a request of a person must be acknowledged, answered, and answered at the latest where it
//! is extended. It guarantees that each date names the rule that it comes from and that, of several
//! laws, the one that is over first counts; whoever keeps the dates is left to others.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::applies::{Because, Facts, Law};
use crate::calendar::{Calendar, End, LastDay};
use crate::file::{Authority, Duty, Rule, RuleFile, Value};
use crate::period::Period;
use crate::place::Place;
use crate::set::RuleSet;

/// The law that is kept where none that is known applies, or none of them names a term.
const OTHERWISE: &str = "eu";

/// What a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// To be erased.
    Erasure,
    /// To see what is held.
    Access,
    /// To take it along.
    Portability,
    /// To have it corrected.
    Rectification,
    /// To have it kept and not used.
    Restriction,
    /// That it be used no more for something.
    Objection,
    /// That it be neither sold nor shared.
    OptOut,
}

/// Where controller and person are, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Where {
    /// The controller's seat.
    pub seat: Option<Place>,
    /// Where the person says that she is.
    pub stated: Option<Place>,
    /// The country of her number.
    pub number: Option<Place>,
}

/// The terms of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// By when she is told that it has arrived; none: no law that applies asks for it.
    pub acknowledge: Option<Term>,
    /// By when it is answered: the strictest.
    pub answer: Term,
    /// By when it is answered if it is extended; none: that isn't possible.
    pub extended: Option<Term>,
    /// The terms of the other laws, the stricter first.
    pub others: Vec<Term>,
    /// Whether her identity must be shown before anything is handed out or destroyed.
    pub identity: bool,
    /// Where she can complain.
    pub authorities: Vec<Authority>,
}

/// A term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The jurisdiction.
    pub jurisdiction: String,
    /// Its rule.
    pub rule: String,
    /// The article.
    pub article: String,
    /// How long it is.
    pub period: Period,
    /// Its end.
    pub end: End,
}

impl RuleSet {
    /// The terms of such a request that was received at `received`. None: the set has no term at all.
    #[must_use]
    pub fn terms(&self, ask: Ask, received: Timestamp, place: &Where) -> Option<Terms> {
        let Where { seat, stated, number } = place.clone();
        let on = received.to_zoned(TimeZone::UTC).date();
        let facts = Facts { on, seat, stated, number };
        let mut laws = self.applicable(&facts);
        if laws.iter().all(|law| self.law(law, &facts).answer(ask).is_none()) {
            let name = self.files().find(|file| file.id == OTHERWISE)?.name.clone();
            let because = vec![Because::Always];
            let jurisdiction = OTHERWISE.to_owned();
            laws.push(Law { jurisdiction, name, because, certain: false });
        }
        let laws: Vec<InForce<'_>> = laws.iter().map(|law| self.law(law, &facts)).collect();
        let ends = |rule: &dyn Fn(&InForce<'_>) -> Option<(Rule, Period)>| {
            let term = |law: &InForce<'_>| Some(law.term(&laws, received, rule(law)?));
            let mut terms: Vec<Term> = laws.iter().filter_map(term).collect();
            terms.sort_by_key(|term| term.end.over_at);
            terms.into_iter()
        };
        let mut answers = ends(&|law| law.answer(ask));
        let answer = answers.next()?;
        let others: Vec<Term> = answers.collect();
        // Each law lets its own term be extended, and the others' stay as they are.
        let mut longest = ends(&|law| law.extended(ask).or_else(|| law.answer(ask)));
        let extended = longest.next().filter(|term| term.end.over_at > answer.end.over_at);
        Some(Terms {
            acknowledge: ends(&|law| law.acknowledge(ask)).next(),
            extended,
            identity: !(ask == Ask::OptOut && laws.iter().any(InForce::takes_opt_outs_unproved)),
            authorities: authorities(&laws),
            answer,
            others,
        })
    }

    fn law<'a>(&'a self, law: &Law, facts: &Facts) -> InForce<'a> {
        let file = self.files().find(|file| file.id == law.jurisdiction);
        let in_force = |rule: &&Rule| rule.is_in_force(facts.on);
        let rules = file.map(|file| file.rules.iter().filter(in_force).collect());
        InForce { file, rules: rules.unwrap_or_default(), because: law.because.clone() }
    }
}

/// A jurisdiction that applies, with its rules of the day.
struct InForce<'a> {
    file: Option<&'a RuleFile>,
    rules: Vec<&'a Rule>,
    because: Vec<Because>,
}

impl InForce<'_> {
    fn rule(&self, period: impl Fn(&Value) -> Option<Period>) -> Option<(Rule, Period)> {
        self.rules.iter().find_map(|rule| Some(((*rule).clone(), period(&rule.value)?)))
    }

    /// An opt-out isn't acknowledged: it is followed (CCPA Regulations § 7021(a) names the requests to
    /// delete, to correct and to know).
    fn acknowledge(&self, ask: Ask) -> Option<(Rule, Period)> {
        self.rule(|value| match value {
            _ if ask == Ask::OptOut => None,
            Value::AcknowledgeWithin(period) => Some(*period),
            _ => None,
        })
    }

    fn answer_in_general(&self) -> Option<(Rule, Period)> {
        self.rule(|value| match value {
            Value::AnswerWithin(period) => Some(*period),
            _ => None,
        })
    }

    /// The term of this kind; where it has none of its own, that of requests in general.
    fn answer(&self, ask: Ask) -> Option<(Rule, Period)> {
        let own = self.rule(|value| match (ask, value) {
            (Ask::Erasure, Value::EraseWithin(period))
            | (Ask::Rectification, Value::CorrectWithin(period)) => Some(*period),
            // What stops at once has stopped when the request is accepted: the term is the answer's.
            (Ask::OptOut, Value::StopWithin(period)) if *period != Period::Immediately => {
                Some(*period)
            }
            _ => None,
        });
        own.or_else(|| self.answer_in_general())
    }

    /// The whole of the term and its extension. A term of its own that isn't that of the answer is
    /// not extended.
    fn extended(&self, ask: Ask) -> Option<(Rule, Period)> {
        let (_, term) = self.answer(ask)?;
        let (_, general) = self.answer_in_general()?;
        let (rule, by) = self.rule(|value| match value {
            Value::ExtendBy(period) => Some(*period),
            _ => None,
        })?;
        Some((rule, term.and(by).filter(|_| term == general)?))
    }

    fn takes_opt_outs_unproved(&self) -> bool {
        let duty = Value::Duty(Duty::OptOutUnproved);
        self.rules.iter().any(|rule| rule.value == duty)
    }

    /// Days are counted where the controller acts (Regulation 1182/71, Article 2(1)): by the calendar
    /// of the national law that applies for its seat, else by the general one.
    fn calendar(&self, laws: &[Self]) -> Calendar {
        let seat = |law: &&Self| law.because.iter().any(|it| matches!(it, Because::Seat(_)));
        let refines = |law: &&Self| {
            let general = law.file.and_then(|file| file.refines.as_deref());
            general.is_some() && general == self.file.map(|file| file.id.as_str())
        };
        let national = laws.iter().filter(seat).find(refines);
        national
            .and_then(|law| law.file?.calendar.clone())
            .or_else(|| self.file?.calendar.clone())
            .unwrap_or_else(|| PLAIN.clone())
    }

    fn term(&self, laws: &[Self], received: Timestamp, (rule, period): (Rule, Period)) -> Term {
        Term {
            jurisdiction: self.file.map_or_else(String::new, |file| file.id.clone()),
            end: self.calendar(laws).end(received, period),
            rule: rule.id,
            article: rule.article,
            period,
        }
    }
}

/// A calendar for a law that has none: nothing puts the end off.
static PLAIN: LazyLock<Calendar> = LazyLock::new(|| Calendar {
    zone: "UTC".to_owned(),
    last_day: LastDay::Counts,
    source: None,
    compared_on: None,
    complete_until: None,
    holidays: Vec::new(),
    substitutes: false,
    days_off: Vec::new(),
    worked: BTreeSet::new(),
});

/// The national authority takes the place of the one that only points at it.
fn authorities(laws: &[InForce<'_>]) -> Vec<Authority> {
    let of = |law: &InForce<'_>| law.file.and_then(|file| file.authority.clone());
    let refined: BTreeSet<&str> = laws
        .iter()
        .filter(|law| of(law).is_some())
        .filter_map(|law| law.file?.refines.as_deref())
        .collect();
    laws.iter()
        .filter(|law| law.file.is_some_and(|file| !refined.contains(file.id.as_str())))
        .filter_map(of)
        .collect()
}

#[cfg(test)]
mod tests;
