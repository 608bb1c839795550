//! Whether people are old enough, for the gate to join; and what that takes by the rules. How old somebody is
//! is asked for and not kept.

use assent_contracts::SubjectId;
use assent_contracts::consent::AgeBasis;
use assent_rules::{Facts, RuleSet, Value};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::event::Age;

/// What an age comes to: whether it is old enough, and which would be. Where no rule says, nobody is too
/// young.
#[must_use]
pub fn judge(rules: &RuleSet, facts: &Facts, basis: AgeBasis, years: u8) -> (Age, u8) {
    let answers = rules.answers(facts);
    let strictest = |of: fn(&Value) -> Option<u8>| {
        let values = answers.answers.iter().map(|answer| &answer.strictest.rule.value);
        values.filter_map(of).max().unwrap_or(0)
    };
    let required = strictest(|value| match value {
        Value::ConsentAge(years) => Some(*years),
        _ => None,
    });
    let targeted = strictest(|value| match value {
        Value::NoTargetingBelow(years) => Some(*years),
        _ => None,
    });
    (Age { basis, of_age: years >= required, may_be_targeted: years >= targeted }, required)
}

/// Keeps what is known.
///
/// # Errors
/// When the database fails.
pub async fn keep(
    conn: &mut PgConnection,
    ages: &[(SubjectId, Uuid, Age)],
) -> Result<(), sqlx::Error> {
    const KEEP: &str = "
        INSERT INTO ages (subject_id, event_id, verified, of_age, may_be_targeted)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (subject_id) DO UPDATE SET
            event_id = excluded.event_id, verified = excluded.verified, of_age = excluded.of_age,
            may_be_targeted = excluded.may_be_targeted";
    for (subject, event, age) in ages {
        sqlx::query(KEEP)
            .bind(subject)
            .bind(event)
            .bind(age.basis == AgeBasis::Verified)
            .bind(age.of_age)
            .bind(age.may_be_targeted)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}
