//! A receipt as a page that a person can read: without scripts, without anything from elsewhere.

use std::fmt::Write as _;

use serde_json::Value;

const RECORD: &str = "/dpv:hasRecordOfActivity";

/// What she did, such as `dpv:ConsentGiven`.
#[must_use]
pub fn status(receipt: &Value) -> &str {
    text(receipt, "/dpv:hasRecordOfActivity/dpv:hasConsentStatus/@type/0")
}

/// Text at a path of the receipt.
fn text<'a>(receipt: &'a Value, path: &str) -> &'a str {
    receipt.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

struct Words {
    language: &'static str,
    title: &'static str,
    given: &'static str,
    refused: &'static str,
    withdrawn: &'static str,
    labels: [&'static str; 9],
    verify: &'static str,
}

const ENGLISH: Words = Words {
    language: "en",
    title: "Receipt",
    given: "You agreed",
    refused: "You said no",
    withdrawn: "You withdrew your consent",
    labels: [
        "When",
        "For what",
        "To whom",
        "Contact",
        "What you were told",
        "Your rights",
        "How to say stop",
        "Complaints",
        "Number of this receipt",
    ],
    verify: "receipt.jsonld beside this page says the same for machines; receipt.jws is its signature.",
};

const FRENCH: Words = Words {
    language: "fr",
    title: "Récépissé",
    given: "Vous avez donné votre accord",
    refused: "Vous avez refusé",
    withdrawn: "Vous avez retiré votre accord",
    labels: [
        "Quand",
        "Pour quoi",
        "À qui",
        "Contact",
        "Ce qui vous a été dit",
        "Vos droits",
        "Comment dire stop",
        "Réclamations",
        "Numéro de ce récépissé",
    ],
    verify: "receipt.jsonld, à côté de cette page, dit la même chose pour les machines ; receipt.jws en est la signature.",
};

const RUSSIAN: Words = Words {
    language: "ru",
    title: "Квитанция",
    given: "Вы дали согласие",
    refused: "Вы отказались",
    withdrawn: "Вы отозвали согласие",
    labels: [
        "Когда",
        "Для чего",
        "Кому",
        "Контакт",
        "Что вам сообщили",
        "Ваши права",
        "Как сказать «стоп»",
        "Жалобы",
        "Номер этой квитанции",
    ],
    verify: "receipt.jsonld рядом с этой страницей говорит то же самое для машин; receipt.jws — его подпись.",
};

/// The page, in the language of the notice; without one of these three: in English.
#[must_use]
pub fn html(receipt: &Value) -> String {
    let at = |path: &str| text(receipt, &format!("{RECORD}/{path}"));
    let language = at("dpv:hasNotice/dct:language");
    let words = match language.split('-').next() {
        Some("fr") => &FRENCH,
        Some("ru") => &RUSSIAN,
        _ => &ENGLISH,
    };
    let done = match status(receipt) {
        "dpv:ConsentGiven" => words.given,
        "dpv:ConsentRefused" => words.refused,
        _ => words.withdrawn,
    };
    let values = [
        at("dpv:hasConsentStatus/dpv:isIndicatedAtTime"),
        at("dpv:hasProcess/dct:title"),
        at("dpv:hasDataController/dpv:hasName"),
        at("dpv:hasDataController/schema:contactPoint/schema:email"),
        at("dpv:hasNotice/dct:description"),
        at("dpv:hasRight/1/dct:description"),
        at("dpv:hasConsentControl/dct:description"),
        at("dpv:hasAuthority/dpv:hasName"),
        text(receipt, "/dpv:hasIdentifier"),
    ];
    let mut rows = String::new();
    for (label, value) in words.labels.iter().zip(values).filter(|(_, value)| !value.is_empty()) {
        let _ = writeln!(rows, "<dt>{label}</dt><dd>{}</dd>", escaped(value));
    }
    format!(
        "<!doctype html>
<html lang=\"{}\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">
<title>{title}</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff }}
dt {{ font-weight: 600; margin-top: 1rem }}
dd {{ margin: 0; white-space: pre-line }}
</style>
<main>
<h1>{title}: {done}</h1>
<dl>
{rows}</dl>
<p>{}</p>
</main>
</html>
",
        words.language,
        words.verify,
        title = words.title,
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn receipt(language: &str, notice: &str) -> Value {
        json!({"dpv:hasIdentifier": "r-1", "dpv:hasRecordOfActivity": {
            "dpv:hasConsentStatus": {"@type": ["dpv:ConsentGiven"], "dpv:isIndicatedAtTime": "2026-11-26T10:00:00Z"},
            "dpv:hasNotice": {"dct:language": language, "dct:description": notice},
        }})
    }

    #[test]
    fn the_page_speaks_the_language_of_the_notice() {
        for (language, said) in [
            ("en-GB", "You agreed"),
            ("fr", "Vous avez donné votre accord"),
            ("ru", "Вы дали согласие"),
            ("de", "You agreed"),
        ] {
            assert!(html(&receipt(language, "May we?")).contains(said), "{language}");
        }
    }

    #[test]
    fn a_notice_is_text_and_no_markup() {
        let page = html(&receipt("en", "<script>alert(1)</script> & \"more\""));
        assert!(!page.contains("<script>"));
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;more&quot;"));
    }
}
