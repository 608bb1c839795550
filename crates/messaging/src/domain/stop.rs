//! What counts as a stop or as an opt-in, in any of the configured languages.
//! It judges words only; that a stop is stored before the webhook answers is left to the webhook.
//!
//! A text counts when the *whole* message is one of the words, whatever its case, accents,
//! surrounding blanks or punctuation. Words inside a longer sentence don't count: a person who writes
//! "don't stop" has not opted out; that it may be meant so is [`super::unclear`]'s to say. Buttons arrive as messages of another type, and count by their
//! payload or by their text: matching texts alone would miss WhatsApp's own "Stop promotions".

use std::collections::HashSet;

use assent_contracts::code::{Code, Sentence};
use assent_contracts::rights::RequestKind;

use super::asks::{Ask, Asks};
use super::unclear::Phrases;

/// What a person declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Will {
    /// No more messages.
    Stop,
    /// Messages again, or for the first time, by her own act.
    Start,
    /// What the code stands for that she sent: the consent service knows.
    Code(Code, Sentence),
}

impl Will {
    /// As the database stores it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Code(..) => "code",
        }
    }
}

/// How a stop was said; the `form` of the published event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A text message.
    Word,
    /// A message that asks to be erased.
    Erasure,
    /// A quick reply or an interactive button.
    Button,
    /// WhatsApp's own marketing preference (`user_preferences`).
    Preference,
    /// The provider refused a send because the person had stopped marketing (error 131050).
    ProviderRefusal,
    /// The preference page.
    Page,
    /// It was said under an address that she had before, and follows her.
    Moved,
    /// A human found out who had said it.
    Attributed,
}

impl Form {
    /// The published name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Word => "word",
            Self::Erasure => "erasure",
            Self::Button => "button",
            Self::Preference => "preference",
            Self::ProviderRefusal => "provider_refusal",
            Self::Page => "page",
            Self::Moved => "moved",
            Self::Attributed => "attributed",
        }
    }
}

/// Opt-out words per language, as people write them.
pub const STOP_WORDS: &[(&str, &[&str])] = &[
    (
        "en",
        &[
            "stop",
            "unsubscribe",
            "end",
            "quit",
            "stopall",
            "stop all",
            "revoke",
            "optout",
            "opt-out",
            "opt out",
            "cancel",
            "remove",
        ],
    ),
    (
        "fr",
        &[
            "arret",
            "stop",
            "desabonner",
            "se desabonner",
            "desinscrire",
            "se desinscrire",
            "stopper",
        ],
    ),
    ("de", &["stop", "stopp", "abmelden", "abbestellen"]),
    ("pt", &["parar", "pare", "sair", "cancelar", "descadastrar"]),
    ("es", &["detener", "parar", "baja", "desuscribir"]),
    ("ru", &["стоп", "отписаться", "отписаться от рассылки", "остановить рекламу"]),
];

/// Labels of the stop button per language (WhatsApp localises its "Stop promotions").
pub const STOP_BUTTONS: &[(&str, &[&str])] = &[
    ("en", &["stop promotions", "stop messages", "unsubscribe from promotions"]),
    ("fr", &["arreter les promotions", "stopper les promotions", "arret promotions"]),
    ("de", &["werbung stoppen", "werbung beenden", "keine werbung mehr"]),
    ("pt", &["parar promocoes", "interromper promocoes"]),
    ("es", &["detener promociones", "parar promociones"]),
    ("ru", &["остановить рекламу", "отключить рекламу"]),
];

/// Opt-in words per language. Each is an unmistakable request, never a mere "yes".
pub const START_WORDS: &[(&str, &[&str])] = &[
    ("en", &["start", "unstop", "subscribe", "optin", "opt-in", "opt in"]),
    ("fr", &["s'abonner", "abonner", "demarrer"]),
    ("de", &["anmelden", "abonnieren", "starten"]),
    ("pt", &["inscrever", "assinar", "iniciar"]),
    ("es", &["alta", "suscribir", "suscribirme"]),
    ("ru", &["старт", "подписаться"]),
];

/// The words that count, folded for comparison.
#[derive(Debug, Clone)]
pub struct Words {
    stop: HashSet<String>,
    stop_buttons: HashSet<String>,
    start: HashSet<String>,
    phrases: Phrases,
    asks: Asks,
}

impl Words {
    /// Every language's words, without those that the deployment takes out (`cancel` and `end`
    /// collide with bookings) and with those that it adds as stops. The stop button and the word
    /// `stop` itself can't be taken out.
    #[must_use]
    pub fn configured<'a>(
        without: impl IntoIterator<Item = &'a str>,
        with: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let all = |lists: &[(&str, &[&str])]| -> HashSet<String> {
            lists.iter().flat_map(|(_, words)| *words).map(|word| fold(word)).collect()
        };
        let mut stop = all(STOP_WORDS);
        for word in without {
            stop.remove(&fold(word));
        }
        stop.extend(with.into_iter().map(fold).filter(|word| !word.is_empty()));
        stop.insert("stop".to_owned());
        Self {
            stop,
            stop_buttons: all(STOP_BUTTONS),
            start: all(START_WORDS),
            phrases: Phrases::standard(),
            asks: Asks::standard(),
        }
    }

    /// With these phrases that ask for something about her data.
    #[must_use]
    pub fn asking(self, asks: Asks) -> Self {
        Self { asks, ..self }
    }

    /// Every language's words.
    #[must_use]
    pub fn standard() -> Self {
        Self::configured([], [])
    }

    /// What a text message asks for about her data; it may be a stop as well.
    #[must_use]
    pub fn asks(&self, text: &str) -> Option<Ask> {
        let is_word = || {
            let folded = fold(text);
            self.start.contains(&folded) || self.stop.contains(&folded)
        };
        // A word of the deployment's own, or a built-in one, is that.
        self.asks.in_text(text).filter(|_| !is_word())
    }

    /// How a stop was said by this text.
    #[must_use]
    pub fn form(&self, text: &str) -> Form {
        match self.asks(text) {
            Some(Ask { kind: RequestKind::Erasure, .. }) => Form::Erasure,
            _ => Form::Word,
        }
    }

    /// What a text message declares: its whole content is one of the words, or a code. Whoever asks for what stops
    /// marketing says stop.
    #[must_use]
    pub fn in_text(&self, text: &str) -> Option<Will> {
        // Nothing that long is one of the words; folding a 64 kB message would be wasted.
        if text.len() > 256 {
            return code(text);
        }
        let folded = fold(text);
        if self.stop.contains(&folded) || self.stop_buttons.contains(&folded) {
            Some(Will::Stop)
        } else if self.start.contains(&folded) {
            Some(Will::Start)
        } else if self.asks.in_text(text).is_some_and(|ask| ask.kind.stops_marketing()) {
            Some(Will::Stop)
        } else {
            code(text)
        }
    }

    /// Whether a text that declares nothing may be meant as a stop.
    #[must_use]
    pub fn may_mean_stop(&self, text: &str) -> bool {
        self.in_text(text).is_none() && self.phrases.stand_in(text)
    }

    /// In which language a stop was said; none where it is a word of several, or of the deployment's own.
    #[must_use]
    pub fn language(&self, text: &str) -> Option<&'static str> {
        if text.len() > 256 {
            return None;
        }
        if let Some(language) = self.asks.language(text) {
            return Some(language);
        }
        let folded = fold(text);
        let mut of = STOP_WORDS
            .iter()
            .chain(STOP_BUTTONS)
            .filter(|(_, words)| words.iter().any(|word| fold(word) == folded));
        let (language, _) = of.next()?;
        of.all(|(other, _)| other == language).then_some(*language)
    }

    /// What a button declares: its payload (the sender's own id) or its text. A stop in either wins.
    #[must_use]
    pub fn in_button(&self, payload: Option<&str>, text: Option<&str>) -> Option<Will> {
        let heard = [payload.and_then(|p| self.in_text(p)), text.and_then(|t| self.in_text(t))];
        if heard.contains(&Some(Will::Stop)) {
            Some(Will::Stop)
        } else {
            heard.into_iter().flatten().next()
        }
    }
}

fn code(text: &str) -> Option<Will> {
    Code::in_message(text).map(|(code, sentence)| Will::Code(code, sentence))
}

/// Lower case, without accents, letters of other alphabets as those they look like, blanks and underscores as one space, without anything but letters
/// and digits at both ends.
pub(super) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for character in text.chars().flat_map(char::to_lowercase) {
        match character {
            // Combining accents (decomposed input) and zero-width characters say nothing.
            '\u{300}'..='\u{36f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2060}'
            | '\u{fe0f}'
            | '\u{feff}' => {}
            '\u{2018}' | '\u{2019}' | '`' | '´' => folded.push('\''),
            '\u{2010}'..='\u{2015}' => folded.push('-'),
            '_' => push_space(&mut folded),
            blank if blank.is_whitespace() => push_space(&mut folded),
            letter => folded.push(look(without_accent(letter))),
        }
    }
    folded.trim_matches(|c: char| !c.is_alphanumeric()).to_owned()
}

fn push_space(text: &mut String) {
    if !text.ends_with(' ') {
        text.push(' ');
    }
}

/// The base letter of a composed lower-case letter of the languages above.
fn without_accent(letter: char) -> char {
    match letter {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ì'..='ï' | 'ī' => 'i',
        'ñ' | 'ń' => 'n',
        'ò'..='ö' | 'ø' | 'ō' => 'o',
        'ù'..='ü' | 'ū' => 'u',
        'ý' | 'ÿ' => 'y',
        'ё' => 'е',
        other => other,
    }
}

/// The Latin letter that a lower-case letter of another alphabet looks like, in lower or in upper case: a
/// keyboard that stands on another alphabet, or a trick, must not keep a stop from being heard. Words of
/// those alphabets are folded the same way.
fn look(letter: char) -> char {
    match letter {
        'а' | 'α' => 'a',
        'в' | 'β' => 'b',
        'с' => 'c',
        'ԁ' => 'd',
        'е' | 'ε' => 'e',
        'н' | 'η' => 'h',
        'і' | 'ι' | 'ı' => 'i',
        'ј' => 'j',
        'к' | 'κ' => 'k',
        'ӏ' => 'l',
        'м' | 'μ' => 'm',
        'ν' => 'n',
        'о' | 'ο' => 'o',
        'р' | 'ρ' => 'p',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'у' | 'υ' => 'y',
        'х' | 'χ' => 'x',
        'ζ' => 'z',
        // Full-width letters and digits.
        wide @ ('\u{ff41}'..='\u{ff5a}' | '\u{ff10}'..='\u{ff19}') => {
            char::from_u32(u32::from(wide) - 0xfee0).unwrap_or(wide)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_one_language_tells_it_and_a_word_of_several_does_not() {
        let words = Words::standard();
        for (text, language) in [
            ("Arrêt !", Some("fr")),
            ("unsubscribe", Some("en")),
            ("СТОП", Some("ru")),
            ("Werbung beenden", Some("de")),
            ("stop", None),
            ("parar", None),
            ("hello", None),
        ] {
            assert_eq!(words.language(text), language, "{text}");
        }
    }

    /// The list of the reference, language by language; each must stop, also as people type it.
    #[test]
    fn every_opt_out_word_of_every_language_stops() {
        let words = Words::standard();
        let lists = [
            "stop unsubscribe end quit stopall revoke optout opt-out cancel remove",
            "arret arrêt ARRÊT stop desabonner désabonner desinscrire Désinscrire stopper",
            "stop stopp abmelden ABBESTELLEN",
            "parar pare sair cancelar descadastrar",
            "detener parar baja desuscribir",
            "стоп СТОП отписаться",
        ];
        for word in lists.iter().flat_map(|list| list.split(' ')) {
            assert_eq!(words.in_text(word), Some(Will::Stop), "{word}");
            assert_eq!(words.in_text(&format!("  {}!\n", word.to_uppercase())), Some(Will::Stop));
        }
        for phrase in ["Отписаться от рассылки", "«Остановить рекламу»"]
        {
            assert_eq!(words.in_text(phrase), Some(Will::Stop), "{phrase}");
        }
    }

    #[test]
    fn decomposed_accents_and_odd_blanks_are_no_hiding_place() {
        let words = Words::standard();
        assert_eq!(words.in_text("De\u{301}sabonner"), Some(Will::Stop));
        assert_eq!(words.in_text("opt\u{2011}out"), Some(Will::Stop));
        assert_eq!(words.in_text("\u{feff}STOP\u{a0}"), Some(Will::Stop));
        assert_eq!(words.in_text("stop \u{fe0f}🛑"), Some(Will::Stop));
        assert_eq!(words.in_text("отписаться  от\u{a0}рассылки"), Some(Will::Stop));
    }

    #[test]
    fn letters_that_look_like_others_are_no_hiding_place() {
        let words = Words::standard();
        // Cyrillic, Greek and full-width letters; a Russian word with a Latin letter in it.
        for text in ["ЅТОР", "SТОP", "\u{3a4}\u{39f}P", "ＳＴＯＰ", "sтор!", "cтoп", "оtpisаться"]
        {
            let expected = match text {
                "\u{3a4}\u{39f}P" | "оtpisаться" => None,
                _ => Some(Will::Stop),
            };
            assert_eq!(words.in_text(text), expected, "{text}");
        }
        assert_eq!(words.in_text("Стаpт"), Some(Will::Start));
    }

    #[test]
    fn only_the_whole_message_counts() {
        let words = Words::standard();
        for text in [
            "don't stop",
            "please stop the delivery at 5",
            "stopwatch",
            "",
            "  ",
            "the end is near",
        ] {
            assert_eq!(words.in_text(text), None, "{text}");
        }
        assert_eq!(words.in_text(&"stop ".repeat(100)), None);
    }

    #[test]
    fn buttons_count_by_payload_or_text_and_stop_wins() {
        let words = Words::standard();
        assert_eq!(words.in_button(Some("STOP_PROMOTIONS"), Some("No more")), Some(Will::Stop));
        assert_eq!(words.in_button(None, Some("Stop promotions")), Some(Will::Stop));
        assert_eq!(
            words.in_button(Some("btn-7"), Some("Arrêter les promotions")),
            Some(Will::Stop)
        );
        assert_eq!(words.in_button(Some("btn-7"), Some("Остановить рекламу")), Some(Will::Stop));
        assert_eq!(words.in_button(Some("start"), Some("Stop promotions")), Some(Will::Stop));
        assert_eq!(words.in_button(Some("btn-7"), Some("Show me more")), None);
        assert_eq!(words.in_button(None, None), None);
    }

    #[test]
    fn opt_in_needs_an_unmistakable_word() {
        let words = Words::standard();
        for text in ["START", "Subscribe", "S’abonner", "Anmelden", "alta", "Подписаться"]
        {
            assert_eq!(words.in_text(text), Some(Will::Start), "{text}");
        }
        for text in ["yes", "ok", "oui", "да", "start the engine"] {
            assert_eq!(words.in_text(text), None, "{text}");
        }
    }

    #[test]
    fn a_code_counts_with_its_sentence_or_in_a_button_and_never_against_a_stop() {
        let words = Words::standard();
        let code: Code = "7F3K2-9QMXA".parse().unwrap();
        let heard = |text: &str| words.in_text(text);
        let (agrees, alone) =
            (Will::Code(code, Sentence::Agree), Will::Code(code, Sentence::Alone));
        assert_eq!(heard("J'accepte : 7f3k2-9qmxa"), Some(agrees));
        assert_eq!(heard("STOP, not me: 7f3k2-9qmxa"), None);
        assert_eq!(words.in_button(Some("7F3K2-9QMXA"), Some("Yes")), Some(alone));
        assert_eq!(words.in_button(Some("7F3K2-9QMXA"), Some("Stop")), Some(Will::Stop));
        assert_eq!(heard("my order is 7F3K2"), None);
    }

    #[test]
    fn who_asks_for_what_stops_marketing_says_stop_and_who_asks_for_something_else_does_not() {
        let words = Words::standard();
        for text in ["Delete my data", "Oui, supprimez mes données !", "не используйте мои данные"]
        {
            assert_eq!(words.in_text(text), Some(Will::Stop), "{text}");
        }
        for text in ["what do you know about me?", "Corrigez mes données", "покажите мои данные"]
        {
            assert_eq!(words.in_text(text), None, "{text}");
            assert!(words.asks(text).is_some() && !words.may_mean_stop(text), "{text}");
        }
        assert_eq!(words.form("ERASE MY DATA"), Form::Erasure);
        assert_eq!(words.form("do not use my data"), Form::Word);
        assert_eq!(words.form("stop"), Form::Word);
        assert_eq!(words.language("Удалите мои данные"), Some("ru"));
    }

    #[test]
    fn no_word_both_stops_and_starts() {
        let words = Words::standard();
        assert!(words.start.is_disjoint(&words.stop));
        assert!(words.start.is_disjoint(&words.stop_buttons));
    }

    #[test]
    fn words_that_collide_with_bookings_can_be_taken_out_but_stop_cannot() {
        let words = Words::configured(["cancel", "end", "stop"], ["genug"]);
        assert_eq!(words.in_text("Cancel"), None);
        assert_eq!(words.in_text("end"), None);
        assert_eq!(words.in_text("stop"), Some(Will::Stop));
        assert_eq!(words.in_text("Genug."), Some(Will::Stop));
    }

    /// The table in the guide names, for each signal, tests that exist.
    #[test]
    fn every_signal_of_the_guide_has_its_test() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let guide = std::fs::read_to_string(root.join("docs/guides/whatsapp.md")).unwrap();
        let mut code = String::new();
        let mut folders = vec![root.join("tests/it"), root.join("crates/messaging/src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    code.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let (_, table) = guide.split_once("| signal | effect | test |").unwrap();
        let rows: Vec<&str> = table.lines().skip(2).take_while(|it| it.starts_with('|')).collect();
        // A form that is new has a row of its own.
        let signal = |form: Form| match form {
            Form::Word => "a word that means stop",
            Form::Erasure => "a message that asks to be erased",
            Form::Button => "the quick reply of a template",
            Form::Preference => "WhatsApp's own preference: stop",
            Form::ProviderRefusal => "error 131050",
            Form::Page => "the preference page",
            Form::Moved => "a new number or user id of somebody who had stopped",
            Form::Attributed => "an operator says whose such a stop was",
        };
        for form in [
            Form::Word,
            Form::Erasure,
            Form::Button,
            Form::Preference,
            Form::ProviderRefusal,
            Form::Page,
            Form::Moved,
            Form::Attributed,
        ] {
            let begins = format!("| {}", signal(form));
            assert!(rows.iter().any(|row| row.starts_with(&begins)), "{begins}");
        }
        for row in rows {
            let tests = row.rsplit('|').nth(1).unwrap();
            let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
            assert!(!names.is_empty(), "{row}");
            for name in names {
                assert!(code.contains(&format!("fn {name}()")), "{name}");
            }
        }
    }
}
