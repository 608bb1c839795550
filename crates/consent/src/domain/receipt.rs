//! The receipt of what a person said, as ISO/IEC TS 27560 wants it, in the terms of the W3C Data
//! Privacy Vocabulary (guide "Consent Records and Receipts … using DPV", profile `dpv-27560`). It
//! guarantees that the same event, purpose and controller give the same receipt for ever, and that
//! it names no more of the person than her random id.

use assent_contracts::SubjectId;
use assent_contracts::consent::{Actor, Method, PurposeDefined};
use assent_contracts::policy::{Controller, Notice};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::event::{Act, Event};
use super::scope::Scope;

/// The media type that signatures of receipts name.
pub const TYPE: &str = "assent-consent-receipt+jws";

/// What a receipt is made from.
#[derive(Debug, Clone)]
pub struct Said<'a> {
    /// The event.
    pub event_id: Uuid,
    /// Who.
    pub subject: SubjectId,
    /// What.
    pub event: &'a Event,
    /// The purpose as it was in force then; none for a word about every purpose.
    pub purpose: Option<&'a PurposeDefined>,
    /// The notice that she agreed to, with its language.
    pub notice: Option<(&'a str, &'a Notice)>,
    /// The controller as it was then.
    pub controller: &'a Controller,
}

/// What a person said by an event.
pub(crate) struct Word<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) at: Timestamp,
    act: &'a Act,
    status: &'static str,
    /// A yes: the hash of its notice, and when it ends by itself.
    pub(crate) given: Option<(&'a str, Option<Timestamp>)>,
}

/// What she said; none where the event is no word of hers.
pub(crate) fn word(event: &Event) -> Option<Word<'_>> {
    match event {
        Event::Granted { scope, notice: (_, hash), act, at, valid_until, .. } => {
            let given = Some((hash.as_str(), *valid_until));
            Some(Word { scope, at: *at, act, status: "dpv:ConsentGiven", given })
        }
        Event::Refused { scope, act, at } => {
            Some(Word { scope, at: *at, act, status: "dpv:ConsentRefused", given: None })
        }
        Event::Withdrawn { scope, act, at } => {
            Some(Word { scope, at: *at, act, status: "dpv:ConsentWithdrawn", given: None })
        }
        Event::Requested { .. }
        | Event::Asked { .. }
        | Event::Contacted { .. }
        | Event::AgeStated { .. }
        | Event::Restricted { .. }
        | Event::RestrictionLifted { .. }
        | Event::Expired { .. }
        | Event::StandingChanged { .. }
        | Event::Erased { .. } => None,
    }
}

/// The receipt; none where the event is no word of hers.
#[must_use]
pub fn receipt(said: &Said<'_>) -> Option<Value> {
    let word = word(said.event)?;
    let id = Uuid::new_v5(&said.event_id, b"receipt");
    Some(json!({
        "@context": {
            "dct": "http://purl.org/dc/terms/",
            "dpv": "https://w3id.org/dpv#",
            "eu-gdpr": "https://w3id.org/dpv/legal/eu/gdpr#",
            "loc": "https://w3id.org/dpv/loc#",
            "pd": "https://w3id.org/dpv/pd#",
            "schema": "https://schema.org/",
        },
        "@id": urn(id),
        "@type": "dpv:ConsentReceipt",
        "dct:conformsTo": term("https://w3id.org/dpv/schema/dpv-27560#receipt"),
        "dct:created": word.at.to_string(),
        "dpv:hasIdentifier": id.to_string(),
        "dpv:hasRecordOfActivity": record(said, &word),
    }))
}

/// Whether somebody says something by this event, so that there is a receipt of it.
#[must_use]
pub fn is_word(event: &Event) -> bool {
    word(event).is_some()
}

/// Whether the receipt is of this event: of whom, what, how, when, and under which notice.
#[must_use]
pub fn tells_of(receipt: &Value, event_id: Uuid, subject: SubjectId, event: &Event) -> bool {
    let Some(word) = word(event) else { return false };
    let record = &receipt["dpv:hasRecordOfActivity"];
    let notice = word.given.map(|(hash, _)| notice_id(hash));
    let process = &record["dpv:hasProcess"];
    record["dpv:hasIdentifier"] == json!(event_id.to_string())
        && record["dpv:hasDataSubject"]["@id"] == json!(urn(subject))
        && record["dpv:hasConsentStatus"] == status(&word, subject)
        && process["dct:title"] == json!(title(word.scope))
        && record["dpv:hasNotice"]["@id"] == json!(notice)
}

fn title(scope: &Scope) -> String {
    format!("{} on {}", scope.purpose, scope.channel)
}

fn notice_id(hash: &str) -> String {
    format!("urn:assent:notice:{hash}")
}

fn record(said: &Said<'_>, word: &Word<'_>) -> Value {
    let Said { event_id, subject, purpose, notice, controller, .. } = said;
    let notice_text = notice.map(|(_, notice)| notice);
    let mut record = json!({
        "@id": urn(*event_id),
        "@type": "dpv:ConsentRecord",
        "dct:conformsTo": term("https://w3id.org/dpv/schema/dpv-27560#record"),
        "dpv:hasIdentifier": event_id.to_string(),
        "dpv:hasDataSubject": {"@id": urn(*subject), "@type": "dpv:DataSubject"},
        "dpv:hasDataController": party(controller),
        "dpv:hasLegalBasis": legal_basis(*purpose),
        "dpv:hasProcess": process(word, *purpose, controller),
        "dpv:hasConsentStatus": status(word, *subject),
    });
    let Value::Object(members) = &mut record else { return record };
    if let Some(country) = &controller.country {
        members.insert("dpv:hasJurisdiction".to_owned(), term(&format!("loc:{country}")));
    }
    if let Some(authority) = &controller.authority {
        let authority = json!({"@type": "dpv:Authority", "dpv:hasName": authority});
        members.insert("dpv:hasAuthority".to_owned(), authority);
    }
    if let Some((language, text)) = notice {
        let hash = word.given.map_or("", |(hash, _)| hash);
        let notice = json!({
            "@id": notice_id(hash),
            "@type": "dpv:ConsentNotice",
            "dct:language": language,
            "dct:description": text.text,
        });
        members.insert("dpv:hasNotice".to_owned(), notice);
    }
    let withdrawal = notice_text.and_then(|notice| notice.withdrawal.as_deref());
    let control = json!({
        "@type": "dpv:WithdrawConsent",
        "dct:description": withdrawal.unwrap_or("STOP"),
    });
    members.insert("dpv:hasConsentControl".to_owned(), control);
    let mut rights = vec![json!({"@type": ["dpv:DataSubjectRight", "eu-gdpr:A7-3"]})];
    if let Some(told) = notice_text.and_then(|notice| notice.rights.as_deref()) {
        rights.push(json!({"@type": "dpv:DataSubjectRight", "dct:description": told}));
    }
    members.insert("dpv:hasRight".to_owned(), Value::Array(rights));
    record
}

/// What the purpose rests on; that she agreed to be written to is said in any case.
fn legal_basis(purpose: Option<&PurposeDefined>) -> Vec<Value> {
    let article = match purpose.map_or("consent", |purpose| &*purpose.lawful_basis) {
        "contract" => "eu-gdpr:A6-1-b",
        "legal_obligation" => "eu-gdpr:A6-1-c",
        "legitimate_interest" => "eu-gdpr:A6-1-f",
        _ => "eu-gdpr:A6-1-a",
    };
    vec![term(article), term("dpv:ExpressedConsent")]
}

fn party(controller: &Controller) -> Value {
    let Controller { name, address, email, dpo, .. } = controller;
    let mut contact = Map::new();
    contact.insert("@type".to_owned(), json!("schema:ContactPoint"));
    let email = email.as_ref().map(|email| json!(email));
    contact.extend(email.map(|email| ("schema:email".to_owned(), email)));
    let postal = address
        .as_ref()
        .map(|address| json!({"@type": "schema:PostalAddress", "schema:streetAddress": address}));
    contact.extend(postal.map(|postal| ("schema:address".to_owned(), postal)));
    let mut party = Map::new();
    party.insert("@type".to_owned(), json!("dpv:DataController"));
    party.insert("dpv:hasName".to_owned(), json!(name));
    party.insert("dpv:hasIdentifier".to_owned(), json!(name));
    party.insert("schema:contactPoint".to_owned(), Value::Object(contact));
    let dpo = dpo
        .as_ref()
        .map(|dpo| json!({"@type": "dpv:DataProtectionOfficer", "dpv:hasContact": dpo}));
    party.extend(dpo.map(|dpo| ("dpv:hasDataProtectionOfficer".to_owned(), dpo)));
    Value::Object(party)
}

fn process(word: &Word<'_>, purpose: Option<&PurposeDefined>, controller: &Controller) -> Value {
    let data = purpose.map_or(&[][..], |purpose| &purpose.data);
    let personal: Vec<Value> = data.iter().map(|category| personal_data(category)).collect();
    let recipients = purpose.into_iter().flat_map(|purpose| &purpose.recipients);
    let recipients: Vec<Value> = std::iter::once(&controller.name)
        .chain(controller.processors.iter().map(|party| &party.name))
        .chain(recipients)
        .map(|name| json!({"@type": "dpv:Recipient", "dpv:hasName": name}))
        .collect();
    let duration = duration(word.given.and_then(|(_, until)| until));
    json!({
        "@type": "dpv:Process",
        "dct:title": title(word.scope),
        "dpv:hasPurpose": term(purpose.map_or("dpv:Purpose", |purpose| &purpose.dpv)),
        "dpv:hasPersonalData": personal,
        "dpv:hasRecipient": recipients,
        "dpv:hasStorageCondition": {"@type": "dpv:StorageDuration", "dpv:hasDuration": duration},
    })
}

fn personal_data(category: &str) -> Value {
    match category {
        "phone" => term("pd:TelephoneNumber"),
        "email" => term("pd:EmailAddress"),
        "name" => term("pd:Name"),
        other => json!({"@type": "dpv:PersonalData", "dct:title": other}),
    }
}

/// Until when a consent holds.
fn duration(until: Option<Timestamp>) -> Value {
    match until {
        Some(until) => json!({"@type": "dpv:UntilTimeDuration", "dct:date": until.to_string()}),
        None => json!({"@type": "dpv:UntilEventDuration", "dct:description": "withdrawal"}),
    }
}

fn status(word: &Word<'_>, subject: SubjectId) -> Value {
    let Act { actor, method, acted_at, .. } = word.act;
    let by = match actor {
        Actor::Subject => json!({"@id": urn(subject)}),
        Actor::Guardian => term("dpv:ParentOfDataSubject"),
        Actor::Operator | Actor::System => term("dpv:DataController"),
    };
    let method = match method {
        Method::Api => "an operator recorded it",
        Method::WebForm => "a form on a website",
        Method::PreferencePage => "the preference page",
        Method::WhatsappMessage => "a WhatsApp message",
        Method::ClickToChat => "a WhatsApp message that a page had prepared",
        Method::ConfirmationLink => "a link that was sent to the person",
        Method::Paper => "paper",
        Method::Phone => "a telephone call",
        Method::Import => "a list with evidence, which an operator looked at",
        Method::WhatsappPreference => "a preference in WhatsApp",
        Method::List => "a list of opt-outs",
        Method::ErasureRequest => "a request to be deleted",
        Method::Time => "the passing of time",
    };
    // What is no consent is not an expressed one either.
    let kind = match word.given {
        Some(_) => vec![word.status, "dpv:ExpressedConsent"],
        None => vec![word.status],
    };
    let mut status = json!({
        "@type": kind,
        "dpv:isIndicatedBy": by,
        "dpv:hasIndicationMethod": method,
        "dpv:isIndicatedAtTime": acted_at.unwrap_or(word.at).to_string(),
    });
    if let (Some((_, until)), Value::Object(members)) = (word.given, &mut status) {
        members.insert("dpv:hasDuration".to_owned(), duration(until));
    }
    status
}

/// What the profile requires and a receipt leaves out: paths in it. The receipt is true all the
/// same; the policy says too little.
#[must_use]
pub fn missing(receipt: &Value) -> Vec<String> {
    const RECORD: &str = "dpv:hasRecordOfActivity";
    const OF_RECEIPT: [&str; 4] = ["dct:conformsTo", "dpv:hasIdentifier", RECORD, "dct:created"];
    const OF_RECORD: [&str; 20] = [
        "dct:conformsTo",
        "dpv:hasIdentifier",
        "dpv:hasDataSubject",
        "dpv:hasNotice",
        "dpv:hasNotice/dct:language",
        "dpv:hasProcess",
        "dpv:hasProcess/dpv:hasPurpose",
        "dpv:hasProcess/dpv:hasPersonalData",
        "dpv:hasProcess/dpv:hasStorageCondition",
        "dpv:hasProcess/dpv:hasRecipient",
        "dpv:hasDataController/dpv:hasName",
        "dpv:hasDataController/dpv:hasIdentifier",
        "dpv:hasDataController/schema:contactPoint/schema:address",
        "dpv:hasConsentControl",
        "dpv:hasJurisdiction",
        "dpv:hasRight",
        "dpv:hasLegalBasis",
        "dpv:hasConsentStatus/@type",
        "dpv:hasConsentStatus/dpv:isIndicatedAtTime",
        "dpv:hasConsentStatus/dpv:isIndicatedBy",
    ];
    let of_record = OF_RECORD.iter().map(|path| format!("{RECORD}/{path}"));
    let mut missing: Vec<String> = OF_RECEIPT
        .iter()
        .map(|path| (*path).to_owned())
        .chain(of_record)
        .filter(|path| {
            receipt.pointer(&format!("/{path}")).is_none_or(|found| {
                found.as_array().is_some_and(Vec::is_empty) || found.as_str() == Some("")
            })
        })
        .collect();
    // Only a consent rests on a notice, and only a consent ends.
    let status = receipt.pointer(&format!("/{RECORD}/dpv:hasConsentStatus"));
    let given = status.is_some_and(|it| it["@type"].to_string().contains("dpv:ConsentGiven"));
    if !given {
        missing.retain(|path| !path.contains("dpv:hasNotice") && !path.ends_with("PersonalData"));
    } else if status.is_some_and(|it| it.get("dpv:hasDuration").is_none()) {
        missing.push(format!("{RECORD}/dpv:hasConsentStatus/dpv:hasDuration"));
    }
    missing
}

fn urn(id: Uuid) -> String {
    format!("urn:uuid:{id}")
}

fn term(name: &str) -> Value {
    json!({"@id": name})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn act(actor: Actor, method: Method, acted_at: Option<&str>) -> Act {
        let acted_at = acted_at.map(|at| at.parse().unwrap());
        Act { actor, method, place: None, evidence: None, acted_at }
    }

    fn scope(channel: &str) -> Scope {
        Scope { purpose: "marketing".to_owned(), channel: channel.to_owned() }
    }

    fn granted() -> Event {
        Event::Granted {
            scope: scope("whatsapp"),
            notice: (1, "ab".repeat(32)),
            act: act(Actor::Subject, Method::WhatsappMessage, None),
            at: "2026-11-26T10:00:00Z".parse().unwrap(),
            lapses_after_days: None,
            confirms: None,
            valid_until: Some("2029-11-26T10:00:00Z".parse().unwrap()),
        }
    }

    fn controller() -> Controller {
        Controller {
            name: "Boulangerie Exemple SARL".to_owned(),
            address: Some("1 rue des Exemples, 75001 Paris".to_owned()),
            email: Some("privacy@acme.example".to_owned()),
            country: Some("FR".to_owned()),
            authority: Some("CNIL".to_owned()),
            dpo: Some("dpo@acme.example".to_owned()),
            ..Controller::default()
        }
    }

    fn purpose() -> PurposeDefined {
        PurposeDefined {
            purpose: "marketing".to_owned(),
            channels: vec!["whatsapp".to_owned()],
            dpv: "dpv:DirectMarketing".to_owned(),
            lawful_basis: "consent".to_owned(),
            notice_version: 1,
            notice_hash: "ab".repeat(32),
            notice_text: "May we?".to_owned(),
            notice_locale: "en".to_owned(),
            validity_days: Some(1_095),
            lapses_after_days: None,
            double_opt_in: false,
            ask: None,
            quiet: None,
            notices: std::collections::BTreeMap::new(),
            accepted: Vec::new(),
            data: vec!["phone".to_owned(), "name".to_owned(), "birthday".to_owned()],
            recipients: vec!["WhatsApp Ireland Ltd".to_owned()],
        }
    }

    fn made(event: &Event, controller: &Controller) -> Value {
        let (purpose, notice) =
            (purpose(), Notice { text: "May we?".to_owned(), ..Notice::default() });
        receipt(&Said {
            event_id: Uuid::from_u128(1),
            subject: Uuid::from_u128(2),
            event,
            purpose: Some(&purpose),
            notice: matches!(event, Event::Granted { .. }).then_some(("en", &notice)),
            controller,
        })
        .expect("a word of hers")
    }

    /// Every name with one of the vocabulary's prefixes, keys and values.
    fn terms(value: &Value, found: &mut BTreeSet<String>) {
        fn note(text: &str, found: &mut BTreeSet<String>) {
            let known = ["dpv:", "pd:", "eu-gdpr:"].iter().any(|prefix| text.starts_with(prefix));
            if known && !text.contains(' ') {
                found.insert(text.to_owned());
            }
            if let Some(schema) = text.strip_prefix("https://w3id.org/dpv/schema/dpv-27560#") {
                found.insert(format!("dpv-27560:{schema}"));
            }
        }
        match value {
            Value::String(text) => note(text, found),
            Value::Array(items) => items.iter().for_each(|item| terms(item, found)),
            Value::Object(members) => {
                for (name, member) in members.iter().filter(|(name, _)| *name != "@context") {
                    note(name, found);
                    terms(member, found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn a_receipt_has_all_that_the_profile_requires_in_terms_that_the_vocabulary_has() {
        let vocabulary: BTreeSet<&str> = include_str!("corpus/dpv-2.3-terms.txt").lines().collect();
        assert!(vocabulary.len() > 1_000);
        let withdrawn = Event::Withdrawn {
            scope: scope("*"),
            act: act(Actor::Operator, Method::Api, Some("2026-11-26T18:00:00Z")),
            at: "2026-11-27T10:00:00Z".parse().unwrap(),
        };
        for event in [granted(), withdrawn] {
            let receipt = made(&event, &controller());
            assert_eq!(missing(&receipt), Vec::<String>::new());
            let mut found = BTreeSet::new();
            terms(&receipt, &mut found);
            assert!(found.len() > 20, "{found:?}");
            let unknown: Vec<&String> =
                found.iter().filter(|term| !vocabulary.contains(term.as_str())).collect();
            assert_eq!(unknown, Vec::<&String>::new());
        }
    }

    #[test]
    fn what_the_policy_leaves_out_is_named() {
        let controller = Controller { address: None, country: None, ..controller() };
        assert_eq!(
            missing(&made(&granted(), &controller)),
            [
                "dpv:hasRecordOfActivity/dpv:hasDataController/schema:contactPoint/schema:address",
                "dpv:hasRecordOfActivity/dpv:hasJurisdiction",
            ]
        );
    }

    #[test]
    fn the_same_event_gives_the_same_receipt_and_it_names_nobody() {
        let receipt = made(&granted(), &controller());
        assert_eq!(receipt, made(&granted(), &controller()));
        let text = receipt.to_string();
        assert!(text.contains(&Uuid::from_u128(2).to_string()));
        assert_eq!(
            receipt["dpv:hasRecordOfActivity"]["dpv:hasConsentStatus"]["@type"][0],
            "dpv:ConsentGiven"
        );
    }
}
