//! The folder of a dispute: written whole, and checked offline. It guarantees that a changed file is
//! found, that each notice has the hash it is named by, and that the verdict is what the rules say
//! about the events; that the events are all there were is the controller's word.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use assent_consent::domain::as_of::{self, Policy, Question};
use assent_consent::domain::engine::Engine;
use assent_consent::domain::event::Event;
use assent_consent::domain::purpose::{canonical, hex};
use assent_consent::domain::statement::{self, Statement};
use assent_consent::http::{HistoryEvent, PurposeVersion};
use assent_consent::stored;
use assent_contracts::api::consent::{AsOfRequest, AsOfVerdict, Decision, KnownAt, ReceiptView};
use assent_contracts::rules::{ApplyingLaw, RuleText, RulesAnswer};
use assent_signing::VerifyingKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::super::upload::private_file;
use super::{name, receipts};
use crate::outcome::Failure;

const MANIFEST: &str = "manifest.json";
const QUESTION: &str = "question.json";
const VERDICT: &str = "verdict.json";
const STATEMENT: &str = "statement.jws";
const EVENTS: &str = "events.json";
const PURPOSE: &str = "purpose.json";
const LAWS: &str = "rules.json";
const README: &str = "README.md";

/// What is in it.
pub struct Bundle {
    /// The question, with the position that was known.
    pub question: AsOfRequest,
    /// The answer.
    pub verdict: AsOfVerdict,
    /// The answer, signed, with digests of what it rests on; none where the caller may not see all of it.
    pub statement: Option<String>,
    /// Her events up to that position.
    pub events: Vec<HistoryEvent>,
    /// All versions of the purpose.
    pub versions: Vec<PurposeVersion>,
    /// The receipts of what she said by them.
    pub receipts: Vec<ReceiptView>,
    /// Opened evidence, by event.
    pub evidence: BTreeMap<Uuid, String>,
    /// Events whose evidence could not be opened.
    pub sealed: Vec<Uuid>,
    /// The laws that applied on that day, as the deployment's rule files have them.
    pub laws: RulesAnswer,
}

/// SHA-256 of each file, hex.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    rules: String,
    files: BTreeMap<String, String>,
}

/// What a check found in order.
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The verdict.
    pub verdict: AsOfVerdict,
    /// How many events it was computed from.
    pub events: usize,
    /// How many notices have the hash they are named by.
    pub notices: usize,
    /// How many receipts tell the same as the events.
    pub receipts: usize,
    /// Whether a key was given, so that signatures were checked.
    pub key_given: bool,
    /// Whether the controller signed, with this key, that the verdict rests on these events and no others.
    pub complete: bool,
}

/// Refuses a folder that has something in it.
///
/// # Errors
/// When it has.
pub fn require_empty(dir: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries.count(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(Failure::file(dir, error)),
    };
    if entries > 0 {
        return Err(Failure::file(dir, "the folder isn't empty"));
    }
    Ok(())
}

impl Bundle {
    /// Whether the verdict follows from what is in it: not where the caller may not see all of it.
    #[must_use]
    pub fn is_conclusive(&self) -> bool {
        let found = verdict_of(&self.question, &self.events, &self.versions, &self.verdict);
        found.as_ref() == Ok(&self.verdict)
    }

    /// Writes it; gives the number of files.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn write(&self, dir: &Path) -> Result<usize, Failure> {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        files.insert(QUESTION.to_owned(), pretty(&self.question));
        files.insert(VERDICT.to_owned(), stored::json(&self.verdict).into_bytes());
        files.insert(EVENTS.to_owned(), pretty(&self.events));
        files.insert(PURPOSE.to_owned(), pretty(&self.versions));
        files.insert(LAWS.to_owned(), pretty(&self.laws));
        for (hash, text) in self.notices() {
            files.insert(format!("notices/{hash}.txt"), text.into_bytes());
        }
        if let Some(statement) = &self.statement {
            files.insert(STATEMENT.to_owned(), statement.clone().into_bytes());
        }
        files.extend(receipts::files(&self.receipts)?);
        for (id, text) in &self.evidence {
            files.insert(name(*id), text.clone().into_bytes());
        }
        files.insert(README.to_owned(), self.readme().into_bytes());
        let manifest = Manifest {
            rules: self.verdict.rules.clone(),
            files: files.iter().map(|(name, bytes)| (name.clone(), sha256(bytes))).collect(),
        };
        files.insert(MANIFEST.to_owned(), pretty(&manifest));
        for (name, bytes) in &files {
            let path = dir.join(name);
            let folder = path.parent().unwrap_or(dir);
            std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, error))?;
            let written = private_file(&path).and_then(|mut file| file.write_all(bytes));
            written.map_err(|error| Failure::file(&path, error))?;
        }
        Ok(files.len())
    }

    /// The canonical texts of all notices that the purpose ever had, by hash.
    fn notices(&self) -> BTreeMap<String, String> {
        let versions = self.versions.iter().filter_map(|version| version.definition.as_ref());
        versions
            .flat_map(|defined| &defined.notices)
            .map(|(locale, text)| (text.hash.clone(), canonical(locale, &text.notice)))
            .collect()
    }

    fn readme(&self) -> String {
        let AsOfRequest { purpose, channel, at, .. } = &self.question;
        let AsOfVerdict { verdict, reasons, notice_hash, rules, known_at, .. } = &self.verdict;
        let decision = match verdict {
            Decision::Allow => "It was allowed.",
            Decision::Deny => "It was not allowed.",
        };
        let mut text = format!(
            "# Was a message for the purpose `{purpose}` on `{channel}` allowed at {at}?\n\n\
             **{decision}** Reasons: {}. Decided by the rules `{rules}`; events known of the person: \
             {}.\n",
            reasons.join(", "),
            known_at.unwrap_or(0),
        );
        if let Some(hash) = notice_hash {
            let _ = write!(text, "\nThe text that she agreed to: `notices/{hash}.txt`.\n");
        }
        text.push_str("\n## What happened\n\n| # | recorded | acted | what | how | evidence |\n|---|---|---|---|---|---|\n");
        for event in &self.events {
            let said = |field: &str| event.data[field].as_str().unwrap_or("–").to_owned();
            let what = event.r#type.trim_start_matches("assent.consent.").trim_end_matches(".v1");
            let evidence = if self.evidence.contains_key(&event.id) {
                format!("`{}`", name(event.id))
            } else if self.sealed.contains(&event.id) {
                "sealed".to_owned()
            } else {
                "–".to_owned()
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {what}: {} on {} | {} by {} | {evidence} |",
                event.sequence,
                event.recorded_at,
                said("acted_at"),
                said("purpose"),
                said("channel"),
                said("method"),
                said("actor"),
            );
        }
        text.push_str(
            "\nA word counts from when it was said (acted; without it, recorded). The newest counts; a no \
             beats a yes of the same instant; `*` is every purpose or channel.\n",
        );
        text.push_str(&laws(&self.laws));
        text.push_str("\n## The files\n\n");
        if self.statement.is_some() {
            text.push_str(
                "- `statement.jws`: the answer, signed by the controller, with the digests of the events and of the purpose\n",
            );
        }
        text.push_str(
            "\
             - `question.json`, `verdict.json`: what was asked and answered\n\
             - `events.json`: all that was known of her consent; the person appears under a random id\n\
             - `purpose.json`: every version of the purpose, with the time from which it was in force\n\
             - `rules.json`: the laws that applied, and their rules\n\
             - `notices/`: the texts that were shown; the SHA-256 of a file is its name\n\
             - `receipts/`: what she said by each event, as a receipt (ISO/IEC TS 27560) with its signature\n\
             - `evidence/`: what the operator recorded as evidence, by event\n\
             - `manifest.json`: the SHA-256 of every other file\n\
             \n`assent verify` with this folder checks all hashes and computes the verdict again from the events, \
             without asking anybody. It shows that nothing was changed since the folder was written and that the verdict \
             follows. With `--key` and the controller's public key it checks what the controller signed: each of her \
             words, and that these are all the events and versions of the purpose that the verdict rests on. The evidence \
             in plain text, the laws and this page are not signed.\n",
        );
        text
    }
}

/// The laws that applied, for a reader.
fn laws(found: &RulesAnswer) -> String {
    let mut text = format!("\n## Which laws applied on {}\n\n", found.on);
    if found.seat.is_none() {
        text.push_str("The policy of that day doesn't say where the controller is: no law of its seat is here.\n\n");
    }
    for ApplyingLaw { name, because, certain, .. } in &found.laws {
        let because: Vec<String> = because
            .iter()
            .map(|it| {
                let place = it.place.as_deref().unwrap_or_default();
                match it.kind.as_str() {
                    "always" => "it always does".to_owned(),
                    "seat" => format!("the controller's seat is in {place}"),
                    "person_stated" => format!("she says that she is in {place}"),
                    "person_may_be_there" => format!("she says no more than {place}"),
                    _ => format!("her number was issued in {place}"),
                }
            })
            .collect();
        let doubt = if *certain { "" } else { "; that is not certain" };
        let _ = writeln!(text, "- {name}: {}{doubt}", because.join(", "));
    }
    text.push_str("\n| question | the strictest rule | it says |\n|---|---|---|\n");
    for answer in &found.answers {
        let RuleText { article, source, says, value, .. } = &answer.strictest;
        let _ = writeln!(text, "| {} | {value}: [{article}]({source}) | {says} |", answer.topic);
    }
    for conflict in &found.conflicts {
        let _ = write!(text, "\nIn conflict: {}; {}.\n", conflict.says, conflict.way_out);
    }
    text.push_str(
        "\nThese are the deployment's rule files; the verdict above follows from the events alone.\n",
    );
    text
}

/// Checks a folder; with the controller's key also what it signed.
///
/// # Errors
/// With the first thing that is wrong.
pub fn verify(dir: &Path, key: Option<&VerifyingKey>) -> Result<Checked, String> {
    let manifest: Manifest = json(dir, MANIFEST)?;
    for (name, hash) in &manifest.files {
        if sha256(&bytes(dir, name)?) != *hash {
            return Err(format!("{name} was changed"));
        }
    }
    let mut notices = 0;
    for name in manifest.files.keys() {
        let Some(rest) = name.strip_prefix("notices/") else { continue };
        if rest.strip_suffix(".txt") != Some(&sha256(&bytes(dir, name)?)) {
            return Err(format!("{name} is another text than its name says"));
        }
        notices += 1;
    }
    let question: AsOfRequest = listed(dir, &manifest, QUESTION)?;
    let verdict: AsOfVerdict = listed(dir, &manifest, VERDICT)?;
    let history: Vec<HistoryEvent> = listed(dir, &manifest, EVENTS)?;
    let versions: Vec<PurposeVersion> = listed(dir, &manifest, PURPOSE)?;
    if let Some(hash) = &verdict.notice_hash
        && !manifest.files.contains_key(&format!("notices/{hash}.txt"))
    {
        return Err("the notice that she agreed to is not there".to_owned());
    }
    if verdict.rules != manifest.rules {
        return Err("the manifest and the verdict name different engines".to_owned());
    }
    let again = verdict_of(&question, &history, &versions, &verdict)?;
    if stored::json(&again).as_bytes() != bytes(dir, VERDICT)? {
        return Err(format!("the events lead to another verdict: {}", again.reasons.join(", ")));
    }
    let receipts = receipts::verify(
        question.subject_id,
        &decoded(&history)?,
        |name| manifest.files.contains_key(name).then(|| bytes(dir, name)).transpose(),
        key,
    )?;
    let signed = key.filter(|_| manifest.files.contains_key(STATEMENT));
    if let Some(key) = signed {
        let jws = bytes(dir, STATEMENT)?;
        check_statement(&jws, key, question, &verdict, &history, &versions)?;
    }
    Ok(Checked {
        verdict,
        events: history.len(),
        notices,
        receipts,
        key_given: key.is_some(),
        complete: signed.is_some(),
    })
}

/// What the controller signed is what lies beside it.
fn check_statement(
    jws: &[u8],
    key: &VerifyingKey,
    question: AsOfRequest,
    verdict: &AsOfVerdict,
    events: &[HistoryEvent],
    versions: &[PurposeVersion],
) -> Result<(), String> {
    let wrong = |reason: &str| format!("{STATEMENT}: {reason}");
    let signed = assent_signing::verify(jws, statement::TYPE, key)
        .map_err(|invalid| wrong(&invalid.to_string()))?;
    let signed: Statement =
        serde_json::from_value(signed).map_err(|_| wrong("not the statement of a verdict"))?;
    let versions: Vec<_> = versions.iter().filter(|it| it.recorded_at <= question.at).collect();
    let found = Statement::new(question, verdict.clone(), events, &versions)
        .map_err(|error| wrong(&error.to_string()))?;
    let differs = [
        (signed.question != found.question, "another question was signed"),
        (signed.verdict != found.verdict, "another verdict was signed"),
        (signed.events != found.events, "other events were signed than these"),
        (signed.versions != found.versions, "other versions of the purpose were signed than these"),
    ];
    differs.iter().find(|(differs, _)| *differs).map_or(Ok(()), |(_, reason)| Err(wrong(reason)))
}

/// What the engine that gave a verdict says about these events.
fn verdict_of(
    question: &AsOfRequest,
    history: &[HistoryEvent],
    versions: &[PurposeVersion],
    given: &AsOfVerdict,
) -> Result<AsOfVerdict, String> {
    let engine = Engine::named(&given.rules).ok_or_else(|| {
        format!("{} gave the verdict; this program doesn't know it, a newer one may", given.rules)
    })?;
    let events = decoded(history)?;
    let Some(KnownAt::Position(known_at)) = question.known_at else {
        return Err("the question names no position".to_owned());
    };
    let versions = versions.iter().map(|v| (v.event_id, v.recorded_at, v.definition.as_ref()));
    Ok(as_of::verdict(
        events.iter().map(|(id, version, event)| (*id, *version, event)),
        Policy::in_force(versions, question.at),
        Question {
            purpose: &question.purpose,
            channel: &question.channel,
            at: question.at,
            known_at,
            sees_bars: true,
            rule_set: given.rule_set.as_deref(),
            engine,
        },
    ))
}

fn decoded(history: &[HistoryEvent]) -> Result<Vec<(Uuid, i64, Event)>, String> {
    let decoded = history.iter().map(|event| {
        let data = event.data.to_string();
        Ok((event.id, event.sequence, stored::decode(&event.r#type, &data)?))
    });
    let decoded: Result<Vec<_>, stored::Unreadable> = decoded.collect();
    decoded.map_err(|error| error.to_string())
}

fn listed<T: DeserializeOwned>(dir: &Path, manifest: &Manifest, name: &str) -> Result<T, String> {
    if !manifest.files.contains_key(name) {
        return Err(format!("{name} is not in the manifest"));
    }
    json(dir, name)
}

fn json<T: DeserializeOwned>(dir: &Path, name: &str) -> Result<T, String> {
    // The position in the file, never its content.
    serde_json::from_slice(&bytes(dir, name)?)
        .map_err(|error| format!("{name}: line {}, column {}", error.line(), error.column()))
}

fn bytes(dir: &Path, name: &str) -> Result<Vec<u8>, String> {
    if name.split('/').any(|part| part == "..") || Path::new(name).is_absolute() {
        return Err("the manifest names a file outside of the folder".to_owned());
    }
    std::fs::read(dir.join(name)).map_err(|error| format!("{name}: {error}"))
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn pretty<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}
