//! The policy as a whole: what a new one would change, what the law wants people to be told and the
//! notices leave out. It guarantees that a plan and its application agree, since both are made here;
//! how many people a change concerns is counted by who asks.

use std::collections::{BTreeMap, BTreeSet};

use assent_contracts::consent::PurposeDefined;
use assent_contracts::policy::{
    Action, AgainstLaw, Change, Controller, FieldChange, LawfulBasis, MissingItem, Notice,
    PlannedChange, Policy, PolicyRefusal, Purpose, Retention,
};
use assent_rules::{Facts, Period, RuleSet, Value as RuleValue};
use jiff::civil::Date;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::purpose::{define, hex, items, tag};

/// Longest policy as JSON, in bytes: it is one message on Kafka, and a broker takes 1 MiB.
const BYTES_MAX: usize = 512 << 10;

/// What a change of the retention is called in a plan.
pub const RETENTION: &str = "retention";

/// The stream of the policy.
pub const STREAM: Uuid = Uuid::from_u128(0x8c1f_5d0a_7a0e_4b53_9f2b_61c0_35c7_2d12);

/// The stream of the rule sets that were in force.
pub const RULES_STREAM: Uuid = Uuid::from_u128(0x8c1f_5d0a_7a0e_4b53_9f2b_61c0_35c7_2d13);

/// What applying a policy comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For people who read a plan.
    pub changes: Vec<PlannedChange>,
    /// New versions of purposes.
    pub defined: Vec<PurposeDefined>,
    /// Purposes that are pursued no more.
    pub retired: Vec<String>,
    /// By purpose, where earlier notices drop out.
    pub outdated: BTreeMap<String, Outdated>,
    /// Why it can't be applied.
    pub refused: Vec<PolicyRefusal>,
}

/// Notices on which consents hold, before and after a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outdated {
    /// Before; none: on every one.
    pub before: Vec<String>,
    /// After.
    pub after: Vec<String>,
}

/// What `wanted` would change. `newest` are the purposes in force.
#[must_use]
pub fn outcome(
    current: Option<&Policy>,
    newest: &BTreeMap<String, PurposeDefined>,
    wanted: &Policy,
) -> Outcome {
    let mut outcome = Outcome { refused: check(&wanted.controller), ..Outcome::default() };
    if serde_json::to_vec(wanted).map_or(usize::MAX, |json| json.len()) > BYTES_MAX {
        let reason =
            format!("a policy has at most {} KiB, all its texts together", BYTES_MAX >> 10);
        outcome.refused.push(PolicyRefusal { at: "policy".to_owned(), reason });
    }
    let before = current.map(|policy| &policy.controller);
    outcome.changes.extend(change("controller", before, Some(&wanted.controller)));
    let unlimited = Retention::default();
    let before = current.map_or(&unlimited, |policy| &policy.retention);
    let limits = |it: &Retention| (!it.is_unlimited()).then(|| it.clone());
    let (before, after) = (limits(before), limits(&wanted.retention));
    outcome.changes.extend(change(RETENTION, before.as_ref(), after.as_ref()));
    if wanted.retention.idle_days == Some(0) {
        let reason = "idle_days is at least 1".to_owned();
        outcome.refused.push(PolicyRefusal { at: RETENTION.to_owned(), reason });
    }
    let language = wanted.controller.languages.first().map_or("", String::as_str);
    for (name, purpose) in &wanted.purposes {
        let at = format!("purposes/{name}");
        let known = newest.get(name);
        match define(known, name, purpose, language) {
            Err(invalid) => {
                outcome.refused.push(PolicyRefusal { at: at.clone(), reason: invalid.to_string() });
            }
            Ok(None) => {}
            Ok(Some(defined)) => {
                if let Some(known) = known {
                    let (before, after) = (&known.accepted, &defined.accepted);
                    let kept = |hash| after.contains(hash);
                    let all = before.is_empty() || !before.iter().all(kept);
                    if !after.is_empty() && all {
                        let (before, after) = (before.clone(), after.clone());
                        outcome.outdated.insert(name.clone(), Outdated { before, after });
                    }
                }
                outcome.defined.push(defined);
            }
        }
        let before = current.and_then(|policy| policy.purposes.get(name));
        outcome.changes.extend(change(&at, before, Some(purpose)));
    }
    for name in newest.keys().filter(|name| !wanted.purposes.contains_key(*name)) {
        let before = current.and_then(|policy| policy.purposes.get(name));
        outcome.changes.push(change(&format!("purposes/{name}"), before, None).unwrap_or(
            PlannedChange {
                what: format!("purposes/{name}"),
                action: Action::Delete,
                fields: Vec::new(),
                asked_again: 0,
                erased: 0,
            },
        ));
        outcome.retired.push(name.clone());
    }
    outcome
}

fn check(controller: &Controller) -> Vec<PolicyRefusal> {
    let refusal =
        |reason: &str| PolicyRefusal { at: "controller".to_owned(), reason: reason.to_owned() };
    let mut refused = Vec::new();
    if controller.name.trim().is_empty() {
        refused.push(refusal("the controller needs a name"));
    }
    if controller.languages.is_empty() {
        refused.push(refusal("at least one language is needed; the first is the default"));
    }
    for language in &controller.languages {
        if let Err(invalid) = tag(language) {
            refused.push(refusal(&invalid.to_string()));
        }
    }
    let country = |code: &str| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    let parties = controller.joint_controllers.iter().chain(&controller.processors);
    let countries = parties.filter_map(|party| party.country.as_deref());
    for code in countries.chain(controller.country.as_deref()) {
        if !country(code) {
            refused.push(refusal("a country is two capital letters (ISO 3166-1), such as FR"));
        }
    }
    refused
}

/// What GDPR Articles 13 and 14 want people to be told and the policy leaves out, sorted.
#[must_use]
pub fn missing(policy: &Policy) -> Vec<MissingItem> {
    let item = |at: &str, item: &str, rule: &str| MissingItem {
        at: at.to_owned(),
        item: item.to_owned(),
        rule: format!("GDPR {rule}"),
    };
    let Controller { address, email, country, dpo, authority, languages, .. } = &policy.controller;
    let mut missing = Vec::new();
    if address.is_none() && email.is_none() {
        missing.push(item("controller", "address or email", "13(1)(a)"));
    }
    if country.is_none() {
        missing.push(item("controller", "country: no law of its seat is checked", "3(1)"));
    }
    if dpo.is_none() {
        missing.push(item("controller", "dpo", "13(1)(b)"));
    }
    if authority.is_none() {
        missing.push(item("controller", "authority", "13(2)(d)"));
    }
    for (name, purpose) in &policy.purposes {
        for language in languages.iter().filter(|language| !purpose.notices.contains_key(*language))
        {
            missing.push(item(&format!("notices/{name}/{language}"), "the notice", "12(1)"));
        }
        for (language, notice) in &purpose.notices {
            let at = format!("notices/{name}/{language}");
            let said: BTreeMap<&str, Option<&str>> = items(notice).into_iter().collect();
            let wanted = RULES.iter().filter(|(name, _)| {
                said.get(name).is_none_or(|text| text.is_none_or(|text| text.trim().is_empty()))
            });
            missing.extend(wanted.map(|(name, rule)| item(&at, name, rule)));
        }
    }
    missing.sort_unstable();
    missing
}

/// Where the policy is laxer than the rules that apply to a controller of that seat and people of its
/// country.
#[must_use]
pub fn against(policy: &Policy, rules: &RuleSet, on: Date) -> Vec<AgainstLaw> {
    let seat = policy.controller.country.as_ref().and_then(|country| country.parse().ok());
    let answers = rules.answers(&Facts { on, stated: seat.clone(), seat, number: None });
    let lapses = answers.answers.iter().find_map(|answer| match answer.strictest.rule.value {
        RuleValue::LapsesAfterSilence(period) => Some((&answer.strictest.rule, period)),
        _ => None,
    });
    let Some((rule, period)) = lapses else { return Vec::new() };
    // The silence after which a consent lapses is a rule for advertising to prospects.
    let advertising = policy.purposes.iter().filter(|(_, it)| it.dpv == "dpv:DirectMarketing");
    let too_long = advertising.filter_map(|(name, purpose)| {
        // Whichever ends it sooner: its validity, or her silence.
        let days = [purpose.validity_days, purpose.lapses_after_days].into_iter().flatten().min();
        let valid = match days {
            None => "without an end".to_owned(),
            Some(days) => {
                let validity = Period::Days(u16::try_from(days).unwrap_or(u16::MAX));
                if validity.hours_from(on) <= period.hours_from(on) {
                    return None;
                }
                format!("for {days} days")
            }
        };
        Some(AgainstLaw {
            at: format!("purposes/{name}"),
            reason: format!("a consent is valid {valid}; after {period} of silence it must lapse"),
            rule: rule.id.clone(),
            article: rule.article.clone(),
            source: rule.source.clone(),
        })
    });
    too_long.collect()
}

/// Which article wants which item.
const RULES: [(&str, &str); 9] = [
    ("recipients", "13(1)(e)"),
    ("transfers", "13(1)(f)"),
    ("retention", "13(2)(a)"),
    ("rights", "13(2)(b)"),
    ("withdrawal", "13(2)(c)"),
    ("complaint", "13(2)(d)"),
    ("profiling", "13(2)(f)"),
    ("categories", "14(1)(d)"),
    ("source", "14(2)(f)"),
];

/// SHA-256 over the JSON of a policy with sorted keys, hex.
#[must_use]
pub fn hash(policy: &Policy) -> String {
    // Objects of `Value` are maps that are sorted by key.
    let value = serde_json::to_value(policy).unwrap_or_default();
    hex(&Sha256::digest(value.to_string().as_bytes()))
}

fn change<T: serde::Serialize>(
    what: &str,
    before: Option<&T>,
    after: Option<&T>,
) -> Option<PlannedChange> {
    let action = match (before, after) {
        (None, Some(_)) => Action::Create,
        (Some(_), Some(_)) => Action::Update,
        (Some(_), None) => Action::Delete,
        (None, None) => return None,
    };
    let flat = |value: Option<&T>| {
        let mut fields = BTreeMap::new();
        let value = value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_default();
        flatten(&value, "", &mut fields);
        fields
    };
    let (before, after) = (flat(before), flat(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let fields: Vec<FieldChange> = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect();
    let what = what.to_owned();
    let (asked_again, erased) = (0, 0);
    (!fields.is_empty()).then_some(PlannedChange { what, action, fields, asked_again, erased })
}

fn flatten(value: &Value, path: &str, fields: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, member) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(member, &path, fields);
            }
        }
        Value::String(text) => {
            fields.insert(path.to_owned(), text.clone());
        }
        other => {
            fields.insert(path.to_owned(), other.to_string());
        }
    }
}

fn basis(name: &str) -> LawfulBasis {
    [LawfulBasis::Contract, LawfulBasis::LegalObligation, LawfulBasis::LegitimateInterest]
        .into_iter()
        .find(|basis| basis.name() == name)
        .unwrap_or_default()
}

/// A purpose that was defined before there was a policy.
#[must_use]
pub fn adopted(defined: &PurposeDefined) -> Purpose {
    let mut notices: BTreeMap<String, Notice> = defined
        .notices
        .iter()
        .map(|(locale, text)| (locale.clone(), text.notice.clone()))
        .collect();
    notices
        .entry(defined.notice_locale.clone())
        .or_insert_with(|| Notice { text: defined.notice_text.clone(), ..Notice::default() });
    Purpose {
        dpv: defined.dpv.clone(),
        lawful_basis: basis(&defined.lawful_basis),
        channels: defined.channels.clone(),
        data: defined.data.clone(),
        recipients: defined.recipients.clone(),
        validity_days: defined.validity_days,
        lapses_after_days: defined.lapses_after_days,
        ask: defined.ask.clone(),
        quiet: defined.quiet.clone(),
        double_opt_in: defined.double_opt_in,
        change: Change::Material,
        decided_by: None,
        notices,
    }
}

/// The policy that a deployment has from its first day, in the name of its controller. Its notices
/// say what is asked and how to stop; what else people must be told only the controller knows.
#[must_use]
pub fn defaults(controller: &str) -> Policy {
    let purpose = |dpv: &str, text: String| Purpose {
        dpv: dpv.to_owned(),
        lawful_basis: LawfulBasis::Consent,
        channels: vec!["whatsapp".to_owned()],
        data: vec!["phone".to_owned()],
        recipients: Vec::new(),
        validity_days: None,
        lapses_after_days: None,
        ask: None,
        quiet: None,
        double_opt_in: false,
        change: Change::Material,
        decided_by: None,
        notices: [("en".to_owned(), Notice { text, ..Notice::default() })].into(),
    };
    let marketing = format!(
        "{controller} would like to send you news and offers by WhatsApp. You can say stop at any \
         time by answering STOP; that is as easy as agreeing, and costs you nothing."
    );
    let service = format!(
        "{controller} would like to write to you by WhatsApp about your orders and questions. You \
         can say stop at any time by answering STOP."
    );
    Policy {
        controller: Controller {
            name: controller.to_owned(),
            languages: vec!["en".to_owned()],
            ..Controller::default()
        },
        purposes: [
            ("marketing".to_owned(), purpose("dpv:DirectMarketing", marketing)),
            ("service".to_owned(), purpose("dpv:CommunicationForCustomerCare", service)),
        ]
        .into(),
        retention: Retention::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force(policy: &Policy) -> BTreeMap<String, PurposeDefined> {
        let outcome = outcome(None, &BTreeMap::new(), policy);
        outcome.defined.into_iter().map(|defined| (defined.purpose.clone(), defined)).collect()
    }

    #[test]
    fn the_same_policy_changes_nothing() {
        let policy = defaults("Acme");
        assert_eq!(outcome(Some(&policy), &in_force(&policy), &policy), Outcome::default());
    }

    #[test]
    fn a_plan_names_each_field_that_changes_and_the_notices_that_hold_no_more() {
        let policy = defaults("Acme");
        let mut wanted = policy.clone();
        let marketing = wanted.purposes.get_mut("marketing").unwrap();
        marketing.notices.get_mut("en").unwrap().text = "May we?".to_owned();
        let newest = in_force(&policy);
        let outcome = outcome(Some(&policy), &newest, &wanted);
        let outdated = &outcome.outdated["marketing"];
        assert_eq!(outdated.before, newest["marketing"].accepted);
        assert!(!outdated.after.contains(&newest["marketing"].notice_hash));
        assert_eq!(outcome.changes.len(), 1);
        let fields: Vec<&str> =
            outcome.changes[0].fields.iter().map(|field| &*field.field).collect();
        assert_eq!(fields, ["notices.en.text"]);
    }

    #[test]
    fn a_purpose_that_is_left_out_is_retired() {
        let policy = defaults("Acme");
        let mut wanted = policy.clone();
        wanted.purposes.remove("service");
        let outcome = outcome(Some(&policy), &in_force(&policy), &wanted);
        assert_eq!(outcome.retired, ["service"]);
        assert_eq!(outcome.changes[0].action, Action::Delete);
        assert!(outcome.defined.is_empty());
    }

    #[test]
    fn every_item_of_articles_13_and_14_that_is_left_out_is_named() {
        let mut policy = defaults("Acme");
        policy.purposes.remove("service");
        let rules = |policy: &Policy| -> Vec<String> {
            missing(policy).into_iter().map(|item| item.rule).collect()
        };
        for rule in ["13(1)(a)", "13(1)(b)", "13(2)(d)", "13(2)(c)", "14(2)(f)"] {
            assert!(rules(&policy).contains(&format!("GDPR {rule}")), "{rule}");
        }
        policy.controller.languages.push("fr".to_owned());
        assert!(rules(&policy).contains(&"GDPR 12(1)".to_owned()), "no French notice");
        policy.controller.languages.pop();

        let said = || Some("x".to_owned());
        let Controller { email, country, dpo, authority, .. } = &mut policy.controller;
        (*email, *country, *dpo, *authority) = (said(), said(), said(), said());
        let notice = policy.purposes.get_mut("marketing").unwrap().notices.get_mut("en").unwrap();
        *notice = Notice {
            title: None,
            text: notice.text.clone(),
            recipients: said(),
            transfers: said(),
            retention: said(),
            rights: said(),
            withdrawal: said(),
            complaint: said(),
            profiling: said(),
            categories: said(),
            source: said(),
        };
        assert_eq!(missing(&policy), []);
    }

    #[test]
    fn a_policy_that_would_not_fit_into_a_message_is_refused() {
        let mut policy = defaults("Acme");
        let text = Some("x".repeat(60 << 10));
        let notice = Notice { text: "May we?".to_owned(), rights: text, ..Notice::default() };
        let marketing = policy.purposes.get_mut("marketing").unwrap();
        for language in ["fr", "de", "es", "it", "nl", "pl", "pt", "ru", "sv"] {
            marketing.notices.insert(language.to_owned(), notice.clone());
        }
        let refused = outcome(None, &BTreeMap::new(), &policy).refused;
        assert!(refused[0].reason.contains("512 KiB"), "{refused:?}");
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut policy = defaults("");
        policy.controller.country = Some("France".to_owned());
        policy.purposes.get_mut("service").unwrap().channels.clear();
        policy.purposes.get_mut("marketing").unwrap().notices.clear();
        let refused = outcome(None, &BTreeMap::new(), &policy).refused;
        assert_eq!(refused.len(), 4, "{refused:?}");
    }

    #[test]
    fn a_consent_that_outlasts_the_silence_of_the_law_is_named_with_its_article() {
        let rules = RuleSet::shipped().unwrap();
        let told = |country: &str, validity_days: Option<u32>| {
            let mut policy = defaults("Acme");
            policy.controller.country = Some(country.to_owned());
            for purpose in policy.purposes.values_mut() {
                purpose.validity_days = validity_days;
            }
            against(&policy, &rules, jiff::civil::date(2026, 11, 26))
        };
        // From that day on three years have 1,096 days.
        assert_eq!(told("FR", Some(1_096)), []);
        let found = told("FR", Some(1_097));
        assert_eq!(found[0].rule, "cnil-silence");
        assert!(found[0].reason.contains("for 1097 days; after 3 years of silence"), "{found:?}");
        assert!(told("FR", None)[0].reason.contains("without an end"));
        assert_eq!(told("DE", None), [], "Germany names no term");
    }
}
