//! G4: a certificate names everyone who had to answer, step by step, and each answer on it is what that service's
//! own database has on record. What the saga shows of itself isn't asked.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Found;
use crate::cluster::Cluster;
use crate::soak::history::History;

/// Who has to answer everything.
const PARTICIPANTS: [&str; 4] = ["consent", "messaging", "projector", "vault"];
/// Who keeps people's keys.
const KEEPERS: [&str; 1] = ["vault"];

/// Looks at the certificate of everybody whose erasure was asked for.
pub async fn check(cluster: &Cluster, history: &History) -> Found {
    let certificates: Vec<(String, String)> =
        sqlx::query_as("SELECT request_id::text, jws FROM certificates")
            .fetch_all(&cluster.pool("erasure").await)
            .await
            .expect("Postgres answers");
    let certificates: BTreeMap<_, _> = certificates.into_iter().collect();
    let mut done: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
    for name in PARTICIPANTS {
        let rows: Vec<(String, Value)> = sqlx::query_as(
            "SELECT command_id::text, evidence::jsonb FROM participant.commands
             WHERE evidence IS NOT NULL",
        )
        .fetch_all(&cluster.pool(name).await)
        .await
        .expect("Postgres answers");
        done.insert(name, rows.into_iter().collect());
    }
    let mut found = Found::default();
    for request in history.erased().filter_map(|person| person.erased()) {
        // Of a request that another one answers the certificate is that one's.
        let Some(jws) = certificates.get(request) else { continue };
        let Some(certificate) = payload(jws) else {
            found.look(false, || format!("{request}: the certificate can't be read"));
            continue;
        };
        found.look(true, String::new);
        found.violations.extend(missing(request, &certificate, &done));
    }
    found
}

/// What a certificate should say and doesn't, or says and isn't so.
#[must_use]
pub fn missing(
    request: &str,
    certificate: &Value,
    done: &BTreeMap<&str, BTreeMap<String, Value>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut said: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for step in certificate["steps"].as_array().into_iter().flatten() {
        let name = step["step"].as_str().unwrap_or_default();
        for (participant, answer) in step["participants"].as_object().into_iter().flatten() {
            said.entry(name).or_default().insert(participant);
            let command = answer["command_id"].as_str().unwrap_or_default();
            let Some(own) = done.get(participant.as_str()) else { continue };
            let agrees =
                own.get(command).is_some_and(|it| it["digest"] == answer["evidence"]["digest"]);
            if !agrees {
                wrong.push(format!("{request}: {participant} doesn't know its answer to {name}"));
            }
        }
    }
    for (step, participants) in [
        ("fence", &PARTICIPANTS[..]),
        ("delete", &PARTICIPANTS[..]),
        ("destroy_keys", &KEEPERS[..]),
        ("sweep", &PARTICIPANTS[..]),
    ] {
        let there = said.remove(step).unwrap_or_default();
        for name in participants.iter().filter(|name| !there.contains(**name)) {
            wrong.push(format!("{request}: certified without {name}'s answer to {step}"));
        }
    }
    wrong
}

fn payload(jws: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
