//! `POST /v1/rules/terms`: by when a request of a person must be acknowledged and answered, under the
//! laws that apply to it.

use assent_contracts::rights::{Authority, RequestKind, Term, Terms};
use assent_contracts::rules::TermsQuestion;
use assent_http::{Caller, Code, Json, Problem};
use assent_rules::{Ask, Where};
use axum::extract::State;
use jiff::tz::TimeZone;

use super::App;
use super::rules_answers::{place, seat_of};

/// By when must a request be answered?
///
/// The question names places, nobody. Nothing is recorded. Of several laws the one whose term is over
/// first counts; where none is known, the European Union's.
#[utoipa::path(
    post, path = "/v1/rules/terms", tag = "rules",
    request_body = TermsQuestion,
    responses(
        (status = 200, body = Terms),
        (status = 422, description = "validation_failed: no law that names a term was in force then"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn rules_terms(
    State(app): State<App>,
    caller: Caller,
    Json(question): Json<TermsQuestion>,
) -> Result<Json<Terms>, Problem> {
    caller.require("consent:read")?;
    let TermsQuestion { kind, received_at, seat, person, number } = question;
    let received_at = received_at.unwrap_or_else(|| app.0.clock.now());
    let on = received_at.to_zoned(TimeZone::UTC).date();
    let at = Where {
        seat: place("seat", seat_of(&app, seat, on).await?)?,
        stated: place("person", person)?,
        number: place("number", number)?,
    };
    let rules = &app.0.papers.rules;
    // Before the first of these laws; or a folder that puts another eu.toml in the place of ours has taken the
    // last term away.
    let terms = rules.terms(ask(kind), received_at, &at).ok_or_else(|| {
        Problem::new(Code::ValidationFailed)
            .detail("received_at: no law that names a term for this was in force then")
    })?;
    Ok(Json(Terms {
        rules: rules.hash(),
        acknowledge: terms.acknowledge.map(term),
        answer: term(terms.answer),
        extended: terms.extended.map(term),
        others: terms.others.into_iter().map(term).collect(),
        identity: terms.identity,
        authorities: terms
            .authorities
            .into_iter()
            .map(|it| Authority { name: it.name, address: it.address })
            .collect(),
    }))
}

fn ask(kind: RequestKind) -> Ask {
    match kind {
        RequestKind::Erasure => Ask::Erasure,
        RequestKind::Access => Ask::Access,
        RequestKind::Portability => Ask::Portability,
        RequestKind::Rectification => Ask::Rectification,
        RequestKind::Restriction => Ask::Restriction,
        RequestKind::Objection => Ask::Objection,
        RequestKind::OptOut => Ask::OptOut,
    }
}

fn term(term: assent_rules::Term) -> Term {
    Term {
        jurisdiction: term.jurisdiction,
        rule: term.rule,
        article: term.article,
        period: term.period.to_string(),
        last_day: term.end.on,
        over_at: term.end.over_at,
    }
}
