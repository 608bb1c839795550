//! `GET /v1/rules`: the law as data, as it is in force here.

use assent_contracts::rules::{Jurisdiction, RuleText, RulesInForce};
use assent_http::{Caller, Json, Problem};
use assent_rules::Rule;
use axum::extract::State;

use super::App;

/// Which rules are in force?
#[utoipa::path(
    get, path = "/v1/rules", tag = "rules",
    responses((status = 200, body = RulesInForce)),
    security(("bearer" = []))
)]
pub(super) async fn rules(
    State(app): State<App>,
    caller: Caller,
) -> Result<Json<RulesInForce>, Problem> {
    caller.require("consent:read")?;
    let jurisdictions = app.0.papers.rules.files().map(|file| Jurisdiction {
        id: file.id.clone(),
        name: file.name.clone(),
        refines: file.refines.clone(),
        rules: file.rules.iter().map(|rule| told(&file.id, rule)).collect(),
    });
    let jurisdictions = jurisdictions.collect();
    Ok(Json(RulesInForce { hash: app.0.papers.rules.hash(), jurisdictions }))
}

/// A rule as the API tells it.
pub(super) fn told(jurisdiction: &str, rule: &Rule) -> RuleText {
    let Rule { id, article, says, from, until, source, value } = rule.clone();
    RuleText {
        id,
        jurisdiction: jurisdiction.to_owned(),
        topic: value.topic().to_string(),
        value: value.to_string(),
        article,
        says,
        from,
        until,
        source,
    }
}
