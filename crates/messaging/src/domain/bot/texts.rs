//! What the bot says of itself, in three languages; a folder of flows may say it otherwise, and says it in
//! every other language. It guarantees that each disclosure names the controller and the notice.

use jiff::civil::{Date, Time, Weekday};
use serde::Deserialize;

/// Stands for the controller's name.
pub const CONTROLLER: &str = "{controller}";
/// Stands for the address of the notice.
pub const NOTICE: &str = "{notice}";
/// Stands for the next opening.
pub const WHEN: &str = "{when}";

/// What the bot says of itself in one language.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// That it is automated, that data is collected, where the notice is, how to reach a human.
    pub disclosure: String,
    /// On the button that reaches a human.
    pub human: String,
    /// A human will answer.
    pub handover: String,
    /// Nobody is there; a human will answer from then on.
    pub closed: String,
    /// She was not understood.
    pub not_understood: String,
}

/// `[texts.LANGUAGE]`, as the file has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextsFile {
    disclosure: Option<String>,
    human: Option<String>,
    handover: Option<String>,
    closed: Option<String>,
    not_understood: Option<String>,
}

impl Texts {
    /// What comes with Assent in this language.
    fn shipped(language: &str) -> Option<Self> {
        let texts = |texts: [&str; 5]| {
            let [disclosure, human, handover, closed, not_understood] = texts.map(str::to_owned);
            Self { disclosure, human, handover, closed, not_understood }
        };
        Some(match language {
            "en" => texts([
                "This is an automated assistant of {controller}, not a person. What you write here is \
                 recorded and processed to answer you. Your data and your rights: {notice}\n\
                 Write HUMAN at any time to reach a person.",
                "Talk to a person",
                "I am handing you over to a person, who will answer you here.",
                "Nobody is here right now. A person will answer you here from {when}.",
                "I didn't understand that. Please put it in other words, or ask for a person.",
            ]),
            "fr" => texts([
                "Ceci est un assistant automatique de {controller}, pas une personne. Ce que vous \
                 écrivez ici est enregistré et traité pour vous répondre. Vos données et vos droits : \
                 {notice}\nÉcrivez HUMAIN à tout moment pour joindre une personne.",
                "Joindre quelqu’un",
                "Je vous passe une personne, qui vous répondra ici.",
                "Personne n’est là en ce moment. Quelqu’un vous répondra ici à partir de {when}.",
                "Je n’ai pas compris. Dites-le autrement, ou demandez à joindre une personne.",
            ]),
            "ru" => texts([
                "Вам отвечает автоматический помощник {controller}, а не человек. То, что вы здесь \
                 пишете, записывается и обрабатывается, чтобы вам ответить. Ваши данные и ваши права: \
                 {notice}\nЧтобы позвать человека, в любой момент напишите ЧЕЛОВЕК.",
                "Позвать человека",
                "Передаю вас человеку, он ответит вам здесь.",
                "Сейчас никого нет. Человек ответит вам здесь: {when}.",
                "Не получилось понять. Напишите иначе или позовите человека.",
            ]),
            _ => return None,
        })
    }

    /// What is said in this language: as the file says it, else as it comes with Assent.
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn of(language: &str, file: Option<&TextsFile>) -> Result<Self, String> {
        let none = TextsFile::default();
        let file = file.unwrap_or(&none);
        let shipped = Self::shipped(language);
        let pick = |name: &str, own: &Option<String>, shipped: Option<&String>| {
            own.as_ref()
                .or(shipped)
                .filter(|text| !text.trim().is_empty())
                .cloned()
                .ok_or_else(|| format!("texts.{language}.{name} is missing"))
        };
        let shipped = shipped.as_ref();
        let texts = Self {
            disclosure: pick("disclosure", &file.disclosure, shipped.map(|it| &it.disclosure))?,
            human: pick("human", &file.human, shipped.map(|it| &it.human))?,
            handover: pick("handover", &file.handover, shipped.map(|it| &it.handover))?,
            closed: pick("closed", &file.closed, shipped.map(|it| &it.closed))?,
            not_understood: pick(
                "not_understood",
                &file.not_understood,
                shipped.map(|it| &it.not_understood),
            )?,
        };
        for (name, text, place) in [
            ("disclosure", &texts.disclosure, CONTROLLER),
            ("disclosure", &texts.disclosure, NOTICE),
            ("closed", &texts.closed, WHEN),
        ] {
            if !text.contains(place) {
                return Err(format!("texts.{language}.{name} must hold {place}"));
            }
        }
        if texts.human.chars().count() > 20 {
            return Err(format!("texts.{language}.human must have at most 20 characters"));
        }
        Ok(texts)
    }
}

/// A moment as people write it: the day of the week where we have its name, date, time, zone.
#[must_use]
pub fn when(language: &str, date: Date, time: Time, zone: &str) -> String {
    let moment = format!("{date} {}, {zone}", time.strftime("%H:%M"));
    match weekday(language, date.weekday()) {
        Some(day) => format!("{day} {moment}"),
        None => moment,
    }
}

fn weekday(language: &str, day: Weekday) -> Option<&'static str> {
    let names = match language {
        "en" => ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"],
        "fr" => ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"],
        "ru" => ["понедельник", "вторник", "среда", "четверг", "пятница", "суббота", "воскресенье"],
        _ => return None,
    };
    names.get(usize::try_from(day.to_monday_zero_offset()).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use jiff::civil::{date, time};

    use super::*;

    #[test]
    fn a_moment_is_told_in_her_language() {
        let told = |language| when(language, date(2026, 11, 30), time(9, 0, 0, 0), "Europe/Paris");
        assert_eq!(told("en"), "Monday 2026-11-30 09:00, Europe/Paris");
        assert_eq!(told("fr"), "lundi 2026-11-30 09:00, Europe/Paris");
        assert_eq!(told("ru"), "понедельник 2026-11-30 09:00, Europe/Paris");
        assert_eq!(told("de"), "2026-11-30 09:00, Europe/Paris");
    }

    #[test]
    fn a_disclosure_without_controller_or_notice_is_refused() {
        let file =
            |text: &str| TextsFile { disclosure: Some(text.to_owned()), ..Default::default() };
        for (text, missing) in [("I am {controller}", NOTICE), ("See {notice}", CONTROLLER)] {
            let refused = Texts::of("en", Some(&file(text))).unwrap_err();
            assert_eq!(refused, format!("texts.en.disclosure must hold {missing}"));
        }
        assert_eq!(Texts::of("de", None).unwrap_err(), "texts.de.disclosure is missing");
        for language in ["en", "fr", "ru"] {
            assert!(Texts::of(language, None).is_ok());
        }
    }
}
