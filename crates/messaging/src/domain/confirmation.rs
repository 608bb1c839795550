//! What the one confirmation of a stop says. It guarantees that whoever stopped is told so in her language, where
//! that is known and there is a text in it, and how she may change her mind; in English otherwise.

/// By language, the first where nothing better is known. Each names a word that counts as a start.
const TEXTS: &[(&str, &str)] = &[
    ("en", "You will get no more messages from {controller}. Send START to change that."),
    (
        "fr",
        "Vous ne recevrez plus de messages de {controller}. Envoyez DÉMARRER pour changer d’avis.",
    ),
    (
        "ru",
        "Вы больше не будете получать сообщения от {controller}. Чтобы это изменить, отправьте СТАРТ.",
    ),
    (
        "de",
        "Sie erhalten keine Nachrichten mehr von {controller}. Um das zu ändern, senden Sie STARTEN.",
    ),
    ("es", "No recibirá más mensajes de {controller}. Para cambiarlo, envíe ALTA."),
    ("pt", "Não receberá mais mensagens de {controller}. Para mudar isso, envie INICIAR."),
];

/// What it says beside that to who asked to be erased: by what she shows that she means it. An erasure can't be undone.
const ERASURE: &[(&str, &str)] = &[
    (
        "en",
        "To have your data erased as well, which can’t be undone, send within a day: YES, DELETE MY DATA",
    ),
    (
        "fr",
        "Pour que vos données soient aussi effacées, ce qui est irréversible, envoyez dans les 24 heures : OUI, SUPPRIMEZ MES DONNÉES",
    ),
    (
        "ru",
        "Чтобы удалить и ваши данные, что необратимо, отправьте в течение суток: ДА, УДАЛИТЕ МОИ ДАННЫЕ",
    ),
];

/// The texts.
#[derive(Debug, Clone)]
pub struct Confirmations(Vec<(&'static str, String)>);

impl Confirmations {
    /// The texts that come with Assent, in this name.
    #[must_use]
    pub fn of(controller: &str) -> Self {
        let texts = TEXTS
            .iter()
            .map(|(language, text)| (*language, text.replace("{controller}", controller)));
        Self(texts.collect())
    }

    /// The deployment's own text, whatever the language.
    #[must_use]
    pub fn own(text: String) -> Self {
        Self(vec![("", text)])
    }

    /// The whole text in this language, for who asked to be erased with how she shows that she means it.
    #[must_use]
    pub fn confirming(&self, language: Option<&str>, erasure: bool) -> String {
        let text = self.text(language);
        if !erasure {
            return text.to_owned();
        }
        let base = base(language);
        let hers = ERASURE.iter().find(|(language, _)| *language == base);
        hers.or(ERASURE.first())
            .map_or_else(|| text.to_owned(), |(_, more)| format!("{text} {more}"))
    }

    /// The text in this language, given as `fr` or `pt_BR`.
    #[must_use]
    pub fn text(&self, language: Option<&str>) -> &str {
        let base = base(language);
        let hers = self.0.iter().find(|(language, _)| *language == base);
        hers.or(self.0.first()).map_or("", |(_, text)| text)
    }
}

fn base(language: Option<&str>) -> &str {
    language.and_then(|it| it.split(['_', '-']).next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::stop::{Will, Words};

    #[test]
    fn each_language_has_its_own_text_and_others_get_the_first() {
        let texts = Confirmations::of("Boulangerie Exemple SARL");
        for (language, _) in TEXTS {
            let text = texts.text(Some(language));
            assert!(text.contains("Boulangerie Exemple SARL"), "{text}");
            assert!(
                TEXTS.iter().all(|(other, _)| other == language || texts.text(Some(other)) != text)
            );
        }
        assert_eq!(texts.text(Some("pt_BR")), texts.text(Some("pt")));
        for other in [None, Some("it"), Some("")] {
            assert_eq!(texts.text(other), texts.text(Some("en")), "{other:?}");
        }
        let own = Confirmations::own("Done.".to_owned());
        assert_eq!((own.text(Some("fr")), own.text(None)), ("Done.", "Done."));
    }

    #[test]
    fn who_asks_to_be_erased_is_told_what_shows_that_she_means_it() {
        let texts = Confirmations::of("Boulangerie Exemple SARL");
        let words = Words::standard();
        for (language, more) in ERASURE {
            let text = texts.confirming(Some(language), true);
            assert!(text.starts_with(texts.text(Some(language))) && text.ends_with(more), "{text}");
            assert_eq!(texts.confirming(Some(language), false), texts.text(Some(language)));
            let (_, named) = text.rsplit_once(": ").unwrap();
            assert!(words.asks(named).is_some_and(|ask| ask.sure), "{named}");
            assert_eq!(words.language(named), Some(*language));
        }
        assert!(texts.confirming(Some("de"), true).ends_with("YES, DELETE MY DATA"));
    }

    #[test]
    fn the_word_that_a_confirmation_names_starts_again() {
        for (language, text) in TEXTS {
            let capitals =
                |word: &&str| word.chars().all(char::is_uppercase) && word.chars().count() > 3;
            let words = text.split(|it: char| !it.is_alphabetic());
            let named: Vec<&str> = words.filter(capitals).collect();
            let [named] = named[..] else { panic!("{language}: {named:?}") };
            assert_eq!(Words::standard().in_text(named), Some(Will::Start), "{named}");
        }
    }
}
