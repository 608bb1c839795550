//! `POST /v1/rules/answers`: which laws apply to a case, why, and what the strictest of their rules
//! come to.

use assent_contracts::rules::{
    ApplyingLaw, LawReason, RuleConflict, RulesAnswer, RulesQuestion, TopicAnswer,
};
use assent_http::{Caller, Code, Json, Problem};
use assent_rules::{Because, Facts, Law, Place, Ranked};
use axum::extract::State;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::App;
use super::refusals::database;
use super::rules::told;
use crate::policy::controllers;

/// Which rules apply?
///
/// The question names places, nobody. Nothing is recorded.
#[utoipa::path(
    post, path = "/v1/rules/answers", tag = "rules",
    request_body = RulesQuestion,
    responses((status = 200, body = RulesAnswer)),
    security(("bearer" = []))
)]
pub(super) async fn rules_answers(
    State(app): State<App>,
    caller: Caller,
    Json(question): Json<RulesQuestion>,
) -> Result<Json<RulesAnswer>, Problem> {
    caller.require("consent:read")?;
    let RulesQuestion { on, seat, person, number } = question;
    let on = on.unwrap_or_else(|| app.0.clock.now().to_zoned(TimeZone::UTC).date());
    let seat = seat_of(&app, seat, on).await?;
    let facts = Facts {
        on,
        seat: place("seat", seat.clone())?,
        stated: place("person", person)?,
        number: place("number", number)?,
    };
    let found = app.0.papers.rules.answers(&facts);
    Ok(Json(RulesAnswer {
        on,
        seat,
        hash: app.0.papers.rules.hash(),
        laws: found.laws.into_iter().map(law).collect(),
        answers: found
            .answers
            .iter()
            .map(|answer| TopicAnswer {
                topic: answer.topic.to_string(),
                strictest: ranked(&answer.strictest),
                others: answer.others.iter().map(ranked).collect(),
            })
            .collect(),
        conflicts: found
            .conflicts
            .into_iter()
            .map(|conflict| RuleConflict {
                between: conflict.between,
                says: conflict.says,
                way_out: conflict.way_out.to_owned(),
            })
            .collect(),
    }))
}

/// The seat of the question, else that of the policy of that day.
pub(super) async fn seat_of(
    app: &App,
    seat: Option<String>,
    on: Date,
) -> Result<Option<String>, Problem> {
    if seat.is_some() {
        return Ok(seat);
    }
    let mut conn = app.0.store.pool().acquire().await.map_err(database)?;
    let controllers = controllers(&mut conn).await.map_err(database)?;
    // On a day before the first policy: that one.
    let of_day = |at: &Timestamp| at.to_zoned(TimeZone::UTC).date() <= on;
    let found = controllers.iter().rev().find(|(at, _)| of_day(at));
    Ok(found.unwrap_or(&controllers[0]).1.country.clone())
}

pub(super) fn place(field: &str, text: Option<String>) -> Result<Option<Place>, Problem> {
    // Never the text: whoever mistakes `number` for a phone number must not find it in a log.
    let wrong = |_| {
        Problem::new(Code::MalformedBody)
            .detail(format!("{field}: write a country such as FR, or a part of one such as US-CA"))
    };
    text.map(|text| text.parse::<Place>()).transpose().map_err(wrong)
}

fn law(law: Law) -> ApplyingLaw {
    let Law { jurisdiction, name, because, certain } = law;
    ApplyingLaw { jurisdiction, name, because: because.into_iter().map(reason).collect(), certain }
}

fn reason(because: Because) -> LawReason {
    let (kind, place) = match because {
        Because::Always => ("always", None),
        Because::Seat(place) => ("seat", Some(place)),
        Because::PersonStated(place) => ("person_stated", Some(place)),
        Because::PersonMayBeThere(place) => ("person_may_be_there", Some(place)),
        Because::Number(place) => ("number", Some(place)),
    };
    LawReason { kind: kind.to_owned(), place: place.map(|place| place.to_string()) }
}

fn ranked(ranked: &Ranked) -> assent_contracts::rules::RuleText {
    told(&ranked.jurisdiction, &ranked.rule)
}
