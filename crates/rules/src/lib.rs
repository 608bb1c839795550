//! The law as data. It guarantees that every answer names the rule, its article and its source; what
//! a rule says is in the files under `rules/`, which counsel can read and edit, and a deployment can
//! add its own. The engine evaluates; it knows no law by heart.

mod answer;
mod applies;
mod calendar;
mod examples;
mod file;
mod folder;
mod holiday;
mod period;
mod place;
mod set;
mod terms;
#[cfg(test)]
mod tests;

pub use answer::{Answer, Answers, Conflict, Ranked};
pub use applies::{Because, Facts, Law};
pub use calendar::{Calendar, End, LastDay};
pub use examples::{Example, Examples, Failed};
pub use file::{Authority, Duty, Kept, Marketing, Reach, Rule, RuleFile, Topic, Value};
pub use holiday::{Holiday, HolidayError};
pub use period::{Period, PeriodError};
pub use place::{Place, PlaceError};
pub use set::{Change, Fault, RuleSet, difference};
pub use terms::{Ask, Term, Terms, Where};
