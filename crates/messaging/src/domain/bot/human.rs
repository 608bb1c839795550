//! The words by which somebody asks for a human, in every language, whichever the bot speaks. It guarantees
//! that no flow can take them away.

use std::collections::HashSet;

use crate::domain::stop::fold;

/// What the button carries that reaches a human.
pub const HUMAN_BUTTON: &str = "assent-call";

/// Within a message of at most so many words one of them is enough.
const SENTENCE_WORDS_MAX: usize = 8;

/// Words and phrases per language.
pub const HUMAN_WORDS: &[(&str, &[&str])] = &[
    (
        "en",
        &[
            "human",
            "operator",
            "representative",
            "agent",
            "a person",
            "real person",
            "talk to a person",
        ],
    ),
    (
        "fr",
        &[
            "humain",
            "conseiller",
            "conseillère",
            "opérateur",
            "agent",
            "une personne",
            "joindre quelqu'un",
        ],
    ),
    ("ru", &["человек", "человека", "оператор", "оператора", "сотрудник", "консультант"]),
    ("de", &["mensch", "menschen", "mitarbeiter", "berater"]),
    ("es", &["humano", "operador", "agente", "una persona"]),
    ("pt", &["humano", "atendente", "operador", "uma pessoa"]),
];

/// The words that ask for a human, folded.
#[derive(Debug, Clone)]
pub struct Humans(HashSet<String>);

impl Humans {
    /// Every language's words, and a deployment's own.
    #[must_use]
    pub fn new(more: &[String]) -> Self {
        let all = HUMAN_WORDS.iter().flat_map(|(_, words)| *words).map(|word| fold(word));
        Self(all.chain(more.iter().map(|word| fold(word))).filter(|it| !it.is_empty()).collect())
    }

    /// Whether a text asks for a human: the whole of it does, or a short sentence has such a word.
    #[must_use]
    pub fn are_asked_for(&self, text: &str) -> bool {
        if text.len() > 256 {
            return false;
        }
        let folded = fold(text);
        if self.0.contains(&folded) {
            return true;
        }
        let words = || folded.split(|c: char| !c.is_alphanumeric()).filter(|it| !it.is_empty());
        words().count() <= SENTENCE_WORDS_MAX && words().any(|word| self.0.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_each_language_asks_for_a_human_however_it_is_typed() {
        let humans = Humans::new(&["Léa".to_owned()]);
        for word in HUMAN_WORDS.iter().flat_map(|(_, words)| *words) {
            assert!(humans.are_asked_for(word), "{word}");
            assert!(humans.are_asked_for(&format!("  {}!! ", word.to_uppercase())), "{word}");
        }
        for text in
            ["Can I talk to a human, please?", "je veux un humain", "позовите человека", "LEA"]
        {
            assert!(humans.are_asked_for(text), "{text}");
        }
        for text in ["humanity", "when do you open?", "a table for four", ""] {
            assert!(!humans.are_asked_for(text), "{text}");
        }
    }
}
