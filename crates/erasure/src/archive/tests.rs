use std::io::{Cursor, Read as _};

use assent_contracts::api::holdings::Provenance;
use serde_json::json;
use zip::ZipArchive;

use super::*;

fn held(service: &str, kind: &str, provenance: Provenance, data: Value) -> Held {
    Held::ours(service, Holding::new(kind, provenance, data))
}

fn contents(kind: RequestKind) -> Contents {
    let contact = json!({"phone": "+33612345678", "name": "Zoé, \"l'aînée\" <b>", "email": "zoe@example.org"});
    let note = json!({"text": "her brother is at +33 6 98 76 54 32, she at 06 12 34 56 78"});
    let hers = json!({"from": "you", "text": "ask bob@example.org"});
    Contents {
        format: FORMAT,
        controller: "Boulangerie Exemple SARL".to_owned(),
        kind,
        reference: "4K7QX-9B2MT".to_owned(),
        received_at: "2026-11-26T10:00:00Z".parse().unwrap(),
        prepared_at: "2026-11-26T12:00:00Z".parse().unwrap(),
        authorities: Vec::new(),
        recipients: vec![Recipient {
            name: "crm".to_owned(),
            contact: "crm_team".to_owned(),
            answer: Told::Missing,
        }],
        holdings: vec![
            held("vault", "contact", Provenance::Provided, contact),
            held("messaging", "note", Provenance::Recorded, note),
            held("messaging", "message", Provenance::Provided, hers),
            held("consent", "contacted", Provenance::Observed, json!({"channel": "whatsapp"})),
            held("consent", "verdict", Provenance::Derived, json!({"allowed": true})),
        ],
    }
}

/// The files of a packed archive.
fn files(mut contents: Contents) -> BTreeMap<String, String> {
    contents.reduce();
    let packed = contents.pack().unwrap();
    let mut zip = ZipArchive::new(Cursor::new(packed.to_vec())).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..zip.len() {
        let mut file = zip.by_index(index).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        files.insert(file.name().unwrap().into_owned(), text);
    }
    files
}

#[test]
fn an_archive_holds_pages_in_three_languages_a_document_and_a_card() {
    let files = files(contents(RequestKind::Access));
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["contact.vcf", "data.json", "en.html", "fr.html", "ru.html"]);
    let titles = ["What we hold about you", "Ce que nous détenons", "Что мы о вас храним"];
    for (page, title) in ["en.html", "fr.html", "ru.html"].into_iter().zip(titles) {
        assert!(files[page].contains(title), "{page}");
        assert!(!files[page].contains("<b>") && files[page].contains("&#60;b&#62;"), "{page}");
        assert!(!files[page].contains("<script"), "{page}");
        assert!(files[page].contains("crm (crm_team)"), "recipients are named: {page}");
    }
    let document: Value = serde_json::from_str(&files["data.json"]).unwrap();
    assert_eq!(document["format"], FORMAT);
    assert_eq!(document["holdings"].as_array().unwrap().len(), 5);
    assert_eq!(document["holdings"][0]["service"], "vault");
    let card = &files["contact.vcf"];
    assert!(card.contains("FN:Zoé\\, \"l'aînée\" <b>\r\n"), "{card}");
    assert!(card.contains("TEL;VALUE=text;TYPE=cell:+33612345678\r\n"), "{card}");
}

/// Trap 19: an export that leaks others.
#[test]
fn trap_19_addresses_of_others_are_struck_out_of_every_file() {
    for (name, text) in files(contents(RequestKind::Access)) {
        assert!(!text.contains("98 76 54 32") && !text.contains("bob@"), "{name}: {text}");
    }
    let files = files(contents(RequestKind::Access));
    assert!(files["data.json"].contains("she at 06 12 34 56 78"), "hers stays");
}

/// GDPR Article 20(1): what she provided, or what was observed; no notes, nothing inferred.
#[test]
fn what_she_takes_along_is_what_she_provided_or_what_was_observed() {
    let files = files(contents(RequestKind::Portability));
    let document: Value = serde_json::from_str(&files["data.json"]).unwrap();
    let holdings = document["holdings"].as_array().unwrap();
    let kinds: Vec<&Value> = holdings.iter().map(|held| &held["kind"]).collect();
    assert_eq!(kinds, ["contact", "message", "contacted"]);
    assert_eq!(document["recipients"], json!([]));
    assert!(files["en.html"].contains("The data that you gave us"));
}

#[test]
fn records_are_counted_by_kind() {
    let records = contents(RequestKind::Access).records();
    assert_eq!(records.get("contact"), Some(&1));
    assert_eq!(records.values().sum::<u64>(), 5);
}
