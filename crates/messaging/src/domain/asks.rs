//! What counts as a request about her data, in English, French and Russian. It judges words only: the whole message must
//! be one of the phrases, whatever its case, accents or punctuation; who sent it, and what becomes of it, is left to
//! others.
//!
//! An erasure can't be undone, so it is asked for twice: a phrase asks, and only the phrase of who is sure shows that she
//! means it.

use std::collections::HashMap;

use assent_contracts::rights::RequestKind;

use super::unclear::spaced;

/// What she asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// What.
    pub kind: RequestKind,
    /// Of an erasure: she says that she is sure.
    pub sure: bool,
}

impl Ask {
    const fn of(kind: RequestKind) -> Self {
        Self { kind, sure: false }
    }
}

/// Phrases per language and kind, as people write them.
const PHRASES: &[(&str, RequestKind, &[&str])] = &[
    (
        "en",
        RequestKind::Erasure,
        &[
            "delete my data",
            "please delete my data",
            "delete all my data",
            "delete my personal data",
            "erase my data",
            "erase all my data",
        ],
    ),
    (
        "en",
        RequestKind::Access,
        &[
            "what do you know about me",
            "what data do you have about me",
            "what data do you have on me",
            "show me my data",
            "send me a copy of my data",
        ],
    ),
    ("en", RequestKind::Portability, &["export my data", "i want to take my data with me"]),
    (
        "en",
        RequestKind::Rectification,
        &["correct my data", "my data is wrong", "my data are wrong"],
    ),
    (
        "en",
        RequestKind::Restriction,
        &["restrict the use of my data", "restrict the processing of my data"],
    ),
    (
        "en",
        RequestKind::Objection,
        &[
            "i object to the use of my data",
            "i object to the processing of my data",
            "don't use my data",
            "do not use my data",
        ],
    ),
    (
        "en",
        RequestKind::OptOut,
        &[
            "don't sell my data",
            "do not sell my data",
            "do not sell or share my personal information",
            "do not sell my personal information",
        ],
    ),
    (
        "fr",
        RequestKind::Erasure,
        &[
            "supprimez mes données",
            "supprimer mes données",
            "supprimez toutes mes données",
            "supprimez mes données personnelles",
            "effacez mes données",
            "effacer mes données",
        ],
    ),
    (
        "fr",
        RequestKind::Access,
        &[
            "que savez-vous de moi",
            "que savez-vous sur moi",
            "quelles données avez-vous sur moi",
            "montrez-moi mes données",
            "envoyez-moi une copie de mes données",
        ],
    ),
    ("fr", RequestKind::Portability, &["exportez mes données", "je veux emporter mes données"]),
    (
        "fr",
        RequestKind::Rectification,
        &["corrigez mes données", "rectifiez mes données", "mes données sont fausses"],
    ),
    (
        "fr",
        RequestKind::Restriction,
        &["limitez l'utilisation de mes données", "limitez le traitement de mes données"],
    ),
    (
        "fr",
        RequestKind::Objection,
        &[
            "je m'oppose à l'utilisation de mes données",
            "je m'oppose au traitement de mes données",
            "n'utilisez plus mes données",
        ],
    ),
    ("fr", RequestKind::OptOut, &["ne vendez pas mes données"]),
    (
        "ru",
        RequestKind::Erasure,
        &[
            "удалите мои данные",
            "удалить мои данные",
            "удалите все мои данные",
            "удалите мои персональные данные",
            "сотрите мои данные",
        ],
    ),
    (
        "ru",
        RequestKind::Access,
        &[
            "что вы обо мне знаете",
            "что вы знаете обо мне",
            "какие данные обо мне у вас есть",
            "покажите мои данные",
            "пришлите копию моих данных",
        ],
    ),
    ("ru", RequestKind::Portability, &["выгрузите мои данные", "хочу забрать свои данные"]),
    ("ru", RequestKind::Rectification, &["исправьте мои данные", "мои данные неверны"]),
    (
        "ru",
        RequestKind::Restriction,
        &["ограничьте использование моих данных", "ограничьте обработку моих данных"],
    ),
    (
        "ru",
        RequestKind::Objection,
        &[
            "возражаю против использования моих данных",
            "возражаю против обработки моих данных",
            "не используйте мои данные",
        ],
    ),
    ("ru", RequestKind::OptOut, &["не продавайте мои данные"]),
];

/// What who is sure that she wants to be erased writes; the first of a language is what she is told to write.
const SURE: &[(&str, &[&str])] = &[
    ("en", &["yes, delete my data", "yes, erase my data"]),
    ("fr", &["oui, supprimez mes données", "oui, effacez mes données"]),
    ("ru", &["да, удалите мои данные", "да, сотрите мои данные"]),
];

/// Nobody's request is longer.
const LENGTH_MAX: usize = 256;

/// The phrases, folded for comparison, each with its language where that is told.
#[derive(Debug, Clone)]
pub struct Asks(HashMap<String, (Ask, Option<&'static str>)>);

impl Asks {
    /// Every language's phrases.
    #[must_use]
    pub fn standard() -> Self {
        let mut all = HashMap::new();
        for (language, kind, phrases) in PHRASES {
            for phrase in *phrases {
                all.insert(spaced(phrase), (Ask::of(*kind), Some(*language)));
            }
        }
        for (language, phrases) in SURE {
            let sure = Ask { kind: RequestKind::Erasure, sure: true };
            for phrase in *phrases {
                all.insert(spaced(phrase), (sure, Some(*language)));
            }
        }
        Self(all)
    }

    /// Without these phrases; those of who is sure can't be taken out.
    #[must_use]
    pub fn without<'a>(mut self, phrases: impl IntoIterator<Item = &'a str>) -> Self {
        for phrase in phrases {
            let phrase = spaced(phrase);
            if self.0.get(&phrase).is_some_and(|(ask, _)| !ask.sure) {
                self.0.remove(&phrase);
            }
        }
        self
    }

    /// With the deployment's own, as `erasure: forget me, wipe me; access: my file please`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn with(mut self, text: &str) -> Result<Self, String> {
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, phrases) =
                part.split_once(':').ok_or_else(|| format!("{part:?} has no kind and colon"))?;
            let known = RequestKind::ALL.into_iter().find(|kind| kind.name() == name.trim());
            let kind = known.ok_or_else(|| format!("{name:?} is no kind of request"))?;
            for phrase in phrases.split(',') {
                let phrase = spaced(phrase);
                if phrase.trim().is_empty() {
                    return Err(format!("a phrase of {name:?} holds no word"));
                }
                let held = self.0.entry(phrase).or_insert((Ask::of(kind), None));
                if held.0 != Ask::of(kind) {
                    return Err(format!("a phrase of {name:?} asks for something else already"));
                }
            }
        }
        Ok(self)
    }

    fn find(&self, text: &str) -> Option<&(Ask, Option<&'static str>)> {
        if text.len() > LENGTH_MAX {
            return None;
        }
        self.0.get(&spaced(text))
    }

    /// What a message asks for, where it does.
    #[must_use]
    pub fn in_text(&self, text: &str) -> Option<Ask> {
        self.find(text).map(|(ask, _)| *ask)
    }

    /// In which language it asks, where that is told.
    #[must_use]
    pub fn language(&self, text: &str) -> Option<&'static str> {
        self.find(text).and_then(|(_, language)| *language)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_can_be_asked_for_in_every_language_as_people_type_it() {
        let asks = Asks::standard();
        for (language, kind, phrases) in PHRASES {
            for phrase in *phrases {
                let typed = format!("  {}!? ", phrase.to_uppercase());
                for text in [*phrase, typed.as_str()] {
                    assert_eq!(asks.in_text(text), Some(Ask::of(*kind)), "{text}");
                    assert_eq!(asks.language(text), Some(*language), "{text}");
                }
            }
        }
        for language in ["en", "fr", "ru"] {
            let own = |kind: RequestKind| {
                PHRASES.iter().any(|(its, of, _)| *its == language && *of == kind)
            };
            assert!(RequestKind::ALL.into_iter().all(own), "{language}");
            assert!(SURE.iter().any(|(its, _)| *its == language));
        }
        assert_eq!(
            asks.in_text("Supprimez  mes donne\u{301}es."),
            Some(Ask::of(RequestKind::Erasure))
        );
    }

    #[test]
    fn only_the_whole_message_asks_and_only_who_says_yes_is_sure() {
        let asks = Asks::standard();
        for text in [
            "don't delete my data",
            "if you write again I'll say delete my data",
            "delete",
            "delete my",
            "yes",
            "data",
            "",
        ] {
            assert_eq!(asks.in_text(text), None, "{text}");
        }
        assert_eq!(asks.in_text(&"delete my data ".repeat(30)), None);
        for (_, phrases) in SURE {
            for phrase in *phrases {
                let sure = Ask { kind: RequestKind::Erasure, sure: true };
                assert_eq!(asks.in_text(phrase), Some(sure), "{phrase}");
                let (_, unsure) = phrase.split_once(", ").unwrap();
                assert_eq!(asks.in_text(unsure), Some(Ask::of(RequestKind::Erasure)), "{unsure}");
            }
        }
    }

    #[test]
    fn a_deployment_adds_and_takes_out_phrases_and_is_told_what_is_wrong() {
        let asks = Asks::standard()
            .without(["Export my data", "yes, delete my data", "never said"])
            .with("erasure: forget me, Wipe me!; access: my file please;")
            .unwrap();
        assert_eq!(asks.in_text("Forget me."), Some(Ask::of(RequestKind::Erasure)));
        assert_eq!(asks.in_text("my file, please"), Some(Ask::of(RequestKind::Access)));
        assert_eq!(asks.language("forget me"), None);
        assert_eq!(asks.in_text("export my data"), None);
        assert!(asks.in_text("yes, delete my data").is_some(), "nobody could confirm");
        for wrong in ["forget me", "deletion: forget me", "erasure: , x", "access: delete my data"]
        {
            assert!(Asks::standard().with(wrong).is_err(), "{wrong}");
        }
    }
}
