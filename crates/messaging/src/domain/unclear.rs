//! What may be a stop and isn't one for certain: words within a sentence. It guarantees that whoever seems to want
//! no more messages is read by a human; what isn't said by a word of these lists is left to whoever reads
//! the conversation.
//!
//! The lists are short on purpose: `cancel`, `end` or `remove` within a sentence are about an order, mostly.

use super::stop::fold;

/// Words and phrases per language that say it within a sentence, too. Each counts between blanks or punctuation.
const PHRASES: &[(&str, &[&str])] = &[
    (
        "en",
        &[
            "stop",
            "unsubscribe",
            "opt out",
            "opt me out",
            "opt-out",
            "optout",
            "leave me alone",
            "remove me",
            "remove my number",
            "delete my number",
            "take me off",
            "no more messages",
            "no more ads",
            "don't message",
            "don't text",
            "don't write",
            "don't contact",
            "do not message",
            "do not text",
            "do not write",
            "do not contact",
            "not interested",
            "spam",
        ],
    ),
    (
        "fr",
        &[
            "stop",
            "arrêtez",
            "arrête",
            "cessez",
            "désabonner",
            "désabonnez",
            "désinscrire",
            "désinscrivez",
            "plus de messages",
            "plus de message",
            "plus de publicité",
            "plus de pub",
            "ne m'écrivez",
            "ne m'écrivez plus",
            "ne me contactez",
            "ne m'envoyez",
            "laissez-moi tranquille",
            "laissez moi tranquille",
            "pas intéressé",
            "pas intéressée",
            "spam",
        ],
    ),
    (
        "de",
        &[
            "stop",
            "stopp",
            "aufhören",
            "abmelden",
            "abbestellen",
            "keine nachrichten",
            "keine werbung",
            "nicht mehr schreiben",
            "lasst mich in ruhe",
            "lassen sie mich in ruhe",
            "spam",
        ],
    ),
    (
        "pt",
        &[
            "descadastrar",
            "parem de",
            "pare de",
            "não quero receber",
            "não quero mais",
            "não me envie",
            "não me enviem",
            "me deixem em paz",
            "spam",
        ],
    ),
    (
        "es",
        &[
            "desuscribir",
            "darme de baja",
            "dejen de",
            "deje de",
            "no quiero recibir",
            "no quiero más",
            "no me escriban",
            "no me escriba",
            "no me envíen",
            "déjenme en paz",
            "spam",
        ],
    ),
    (
        "ru",
        &[
            "стоп",
            "отписаться",
            "отпишите",
            "не пишите",
            "не присылайте",
            "не шлите",
            "не беспокойте",
            "хватит",
            "прекратите",
            "перестаньте",
            "отстаньте",
            "удалите мой номер",
            "уберите мой номер",
            "больше не надо",
            "не хочу получать",
            "не интересно",
            "спам",
        ],
    ),
];

/// Nobody's wish to be left alone begins further down.
const READ_MAX: usize = 4_096;

/// The phrases, folded for comparison.
#[derive(Debug, Clone)]
pub struct Phrases(Vec<String>);

impl Phrases {
    /// Every language's.
    #[must_use]
    pub fn standard() -> Self {
        let mut all: Vec<String> =
            PHRASES.iter().flat_map(|(_, phrases)| *phrases).map(|it| spaced(it)).collect();
        all.sort_unstable();
        all.dedup();
        Self(all)
    }

    /// Whether one of them stands in a text.
    #[must_use]
    pub fn stand_in(&self, text: &str) -> bool {
        let end = text.char_indices().map(|(at, _)| at).find(|at| *at >= READ_MAX);
        let text = spaced(&text[..end.unwrap_or(text.len())]);
        self.0.iter().any(|phrase| text.contains(phrase.as_str()))
    }
}

/// Folded words between single blanks, with one at each end.
pub(super) fn spaced(text: &str) -> String {
    let folded = fold(text);
    let kept = |letter: char| letter.is_alphanumeric() || matches!(letter, '\'' | '-');
    let words = folded.split(|letter| !kept(letter)).filter(|word| !word.is_empty());
    format!(" {} ", words.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::READ_MAX;
    use crate::domain::stop::Words;

    fn unclear(text: &str) -> bool {
        Words::standard().may_mean_stop(text)
    }

    #[test]
    fn who_seems_to_want_no_more_is_read_by_a_human_in_every_language() {
        for text in [
            "Please stop writing to me",
            "don't stop",
            "DON’T TEXT me again!!",
            "Could you take me off your list?",
            "Arrêtez de m'écrire svp",
            "ne m’envoyez plus rien",
            "Je ne suis pas intéressée, merci",
            "Bitte keine Werbung mehr",
            "Por favor, no me escriban más",
            "Não quero receber isso",
            "Пожалуйста, не пишите мне больше",
            "хватит!!! удалите меня",
            "this is\nspam",
            // Letters that look like others.
            "please ѕtор now",
        ] {
            assert!(unclear(text), "{text}");
        }
    }

    #[test]
    fn a_stop_is_none_and_what_is_about_something_else_is_none_either() {
        for text in [
            "STOP",
            "Stop promotions",
            "START",
            "hello",
            "please cancel my order",
            "when does it end?",
            "quand ouvrez-vous ?",
            "the nonstop flight",
            "можно заказать торт?",
            "",
        ] {
            assert!(!unclear(text), "{text}");
        }
    }

    #[test]
    fn a_long_text_is_read_from_its_beginning_only() {
        assert!(!unclear(&format!("{} stop it", "é".repeat(READ_MAX))));
        assert!(unclear(&format!("stop it {}", "é".repeat(READ_MAX))));
    }
}
