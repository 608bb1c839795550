use proptest::prelude::*;

use super::flows::{Around, BOT_FILE};
use super::*;
use crate::domain::stop::Words;

const BOT: &str = r#"
    languages = ["en", "fr", "ru"]
    notice = "https://shop.example/privacy"
    [hours]
    zone = "Europe/Paris"
    open = [{ days = ["monday"], from = "09:00", until = "18:00" }]
"#;
const STEPS: &str = r#"
    [[step]]
    name = "menu"
    start = true
    triggers = { en = ["hello", "menu"], fr = ["bonjour", "menu"], ru = ["привет"] }
    reply = { en = "Hello!", fr = "Bonjour !", ru = "Привет!" }
    [[step.buttons]]
    to = "hours"
    title = { en = "Hours", fr = "Horaires", ru = "Часы" }

    [[step]]
    name = "hours"
    triggers = { en = ["hours", "when are you open"], fr = ["horaires"], ru = ["часы"] }
    reply = { en = "Mondays.", fr = "Le lundi.", ru = "По понедельникам." }

    [[step]]
    name = "which"
    after = "hours"
    triggers.en = ["why"]
    reply = { en = "Because.", fr = "Parce que.", ru = "Потому что." }

    [[step]]
    name = "complaint"
    triggers.en = ["complaint"]
    reply = { en = "I am sorry.", fr = "Désolé.", ru = "Жаль." }
    hand_over = true
"#;

fn bot(engine: bool) -> Bot {
    let files = [(BOT_FILE.to_owned(), BOT.to_owned()), ("shop.toml".to_owned(), STEPS.to_owned())];
    let words = Words::standard();
    let around = Around { controller: "Acme & Söhne", words: &words, engine };
    Bot::build(&files, around).unwrap()
}

/// A Monday, at noon.
fn open() -> Timestamp {
    "2026-11-30T11:00:00Z".parse().unwrap()
}

fn told(language: Option<&str>) -> Standing {
    let language = language.map(str::to_owned);
    let disclosed_in = ["en", "fr", "ru"].map(str::to_owned).to_vec();
    Standing {
        disclosed: Disclosed::Yes,
        disclosed_in,
        language,
        step: None,
        misses: 0,
        late: false,
    }
}

fn untold(language: Option<&str>) -> Standing {
    Standing { disclosed: Disclosed::No, ..told(language) }
}

fn body(content: &Content) -> &str {
    match content {
        Content::Text { body, .. } | Content::Buttons { body, .. } => body,
        _ => panic!("a text"),
    }
}

fn said(turn: &Turn) -> &str {
    match turn {
        Turn::Say(answer) => body(&answer.content),
        Turn::Disclose { content, .. } => body(content),
        Turn::HandOver { say: Some(content), .. } => body(content),
        _ => panic!("it says something: {turn:?}"),
    }
}

/// One test per language that comes with Assent: what she reads first, and what it must name
/// (GDPR Article 13; AI Act Article 50(1)).
fn disclosure_in(language: &str, automated: &str, collected: &str) {
    let bot = bot(false);
    for text in ["hello", "my order is 7, my name is Ada", "how old are you?"] {
        let turn = bot.respond(&untold(Some(language)), Heard::Text(text), open());
        let Turn::Disclose { content, languages } = &turn else { panic!("{turn:?}") };
        assert_eq!(languages, &[language]);
        content.check().unwrap();
        for part in [automated, collected, "Acme & Söhne", "https://shop.example/privacy"] {
            assert!(said(&turn).contains(part), "{part}: {}", said(&turn));
        }
        let Content::Buttons { buttons, .. } = content else { panic!("buttons") };
        assert_eq!(buttons.last().unwrap().id, HUMAN_BUTTON);
    }
}

#[test]
fn trap_22_the_bot_discloses_before_it_collects_in_english() {
    disclosure_in("en", "automated assistant", "recorded");
}

#[test]
fn trap_22_the_bot_discloses_before_it_collects_in_french() {
    disclosure_in("fr", "assistant automatique", "enregistré");
}

#[test]
fn trap_22_the_bot_discloses_before_it_collects_in_russian() {
    disclosure_in("ru", "автоматический помощник", "записывается");
}

#[test]
fn whose_language_is_not_known_is_told_in_all_of_them() {
    let turn = bot(false).respond(&untold(None), Heard::Text("hello"), open());
    for part in ["automated assistant", "assistant automatique", "автоматический помощник"]
    {
        assert!(said(&turn).contains(part));
    }
    // As the provider names it, and one that the bot doesn't speak.
    let turn = bot(false).respond(&untold(Some("fr_FR")), Heard::Text("hello"), open());
    assert!(said(&turn).starts_with("Ceci est"));
    let turn = bot(false).respond(&untold(Some("de")), Heard::Text("hello"), open());
    assert!(said(&turn).starts_with("This is"));
}

#[test]
fn after_the_disclosure_a_trigger_a_button_and_a_step_after_another_are_answered() {
    let bot = bot(false);
    let turn = bot.respond(&told(Some("en")), Heard::Text(" Horaires ! "), open());
    let Turn::Say(answer) = &turn else { panic!("{turn:?}") };
    assert_eq!(said(&turn), "Le lundi.");
    assert_eq!((answer.language.as_deref(), answer.step.as_deref()), (Some("fr"), Some("hours")));
    let pressed = Heard::Button(Some("step:hours"), Some("Часы"));
    assert_eq!(said(&bot.respond(&told(Some("ru")), pressed, open())), "По понедельникам.");
    let after = Standing { step: Some("hours".to_owned()), ..told(Some("en")) };
    assert_eq!(said(&bot.respond(&after, Heard::Text("why"), open())), "Because.");
    // A word of two languages tells neither.
    let turn = bot.respond(&told(Some("fr")), Heard::Text("menu"), open());
    assert_eq!(said(&turn), "Bonjour !");
    // Not after anything else.
    assert_ne!(said(&bot.respond(&told(Some("en")), Heard::Text("why"), open())), "Because.");
}

#[test]
fn who_changes_the_language_is_told_in_that_one_first() {
    let in_english = Standing { disclosed_in: vec!["en".to_owned()], ..told(Some("en")) };
    assert_eq!(said(&bot(true).respond(&in_english, Heard::Text("hours"), open())), "Mondays.");
    let turn = bot(true).respond(&in_english, Heard::Text("horaires"), open());
    let Turn::Disclose { languages, .. } = &turn else { panic!("{turn:?}") };
    assert_eq!(languages, &["fr"]);
    assert!(said(&turn).contains("assistant automatique"));
    // Something else tells of another language than then: the engine's turn is no exception.
    let standing = Standing { language: Some("ru".to_owned()), ..in_english };
    let turn = bot(true).respond(&standing, Heard::Text("где посылка?"), open());
    assert!(said(&turn).contains("автоматический помощник"), "{turn:?}");
}

#[test]
fn whoever_is_not_understood_twice_gets_a_human() {
    let bot = bot(false);
    let first = bot.respond(&told(Some("en")), Heard::Text("gibberish"), open());
    let Turn::Say(answer) = &first else { panic!("{first:?}") };
    // At the beginning, the start.
    assert_eq!((said(&first), answer.misses), ("Hello!", 1));
    let again = Standing { misses: 1, ..told(Some("en")) };
    let second = bot.respond(&again, Heard::Text("gibberish"), open());
    assert!(matches!(second, Turn::HandOver { reason: Reason::NotUnderstood, .. }), "{second:?}");
    let elsewhere = Standing { step: Some("hours".to_owned()), ..told(Some("fr")) };
    let turn = bot.respond(&elsewhere, Heard::Text("charabia"), open());
    assert!(said(&turn).starts_with("Je n’ai pas compris."));
}

#[test]
fn a_human_is_called_within_hours_and_outside_them_it_says_when() {
    let bot = bot(false);
    let at_noon = bot.respond(&told(Some("en")), Heard::Text("human"), open());
    assert!(said(&at_noon).starts_with("I am handing you over"));
    let at_night = "2026-11-30T20:00:00Z".parse().unwrap();
    for (language, when) in [
        ("en", "Monday 2026-12-07 09:00, Europe/Paris"),
        ("fr", "lundi 2026-12-07 09:00, Europe/Paris"),
        ("ru", "понедельник 2026-12-07 09:00, Europe/Paris"),
    ] {
        let turn = bot.respond(&told(Some(language)), Heard::Text("human"), at_night);
        assert!(matches!(turn, Turn::HandOver { reason: Reason::HumanAsked, .. }));
        assert!(said(&turn).contains(when), "{}", said(&turn));
    }
    let complaint = bot.respond(&told(Some("en")), Heard::Text("complaint"), open());
    assert!(matches!(complaint, Turn::HandOver { reason: Reason::Flow, .. }));
    assert!(said(&complaint).starts_with("I am sorry.\n\nI am handing"));
}

#[test]
fn the_engine_gets_what_no_step_answers_and_a_human_what_the_engine_does_not() {
    let bot = bot(true);
    let standing = told(Some("en"));
    assert_eq!(bot.respond(&standing, Heard::Text("where is my parcel?"), open()), Turn::AskEngine);
    assert_eq!(said(&bot.respond(&standing, Heard::Text("hours"), open())), "Mondays.");
    let answers = |reply: Option<&str>, hand_over| {
        let answer = EngineAnswer { reply: reply.map(str::to_owned), hand_over };
        bot.engine_answered(&standing, Some(answer), open())
    };
    assert_eq!(said(&answers(Some("On its way."), false)), "On its way.");
    assert_eq!(answers(None, false), Turn::Nothing);
    assert!(said(&answers(Some("Wait."), true)).starts_with("Wait.\n\nI am handing"));
    let failed = [
        bot.engine_answered(&standing, None, open()),
        answers(Some(""), false),
        answers(Some(&"x".repeat(1025)), true),
    ];
    for turn in failed {
        assert!(matches!(turn, Turn::HandOver { reason: Reason::EngineFailed, .. }), "{turn:?}");
    }
}

#[test]
fn who_cannot_be_told_is_not_talked_to_by_a_bot() {
    let failed = Standing { disclosed: Disclosed::Failed, ..told(Some("en")) };
    for heard in [Heard::Text("hello"), Heard::Text("human"), Heard::Other] {
        let turn = bot(true).respond(&failed, heard, open());
        assert!(matches!(turn, Turn::HandOver { say: None, .. }), "{turn:?}");
    }
}

fn heard() -> impl Strategy<Value = (u8, String)> {
    let texts = prop_oneof![
        Just("hello".to_owned()),
        Just("hours".to_owned()),
        Just("complaint".to_owned()),
        Just("step:hours".to_owned()),
        ".{0,20}",
    ];
    (0_u8..4, texts)
}

fn as_heard((kind, text): &(u8, String)) -> Heard<'_> {
    match kind {
        0 => Heard::Text(text),
        1 => Heard::Button(Some(text), Some(text)),
        2 => Heard::Sign,
        _ => Heard::Other,
    }
}

fn disclosed() -> impl Strategy<Value = Disclosed> {
    prop_oneof![
        Just(Disclosed::No),
        Just(Disclosed::OnItsWay),
        Just(Disclosed::Failed),
        Just(Disclosed::Yes)
    ]
}

proptest! {
    /// Trap 22: whatever she sends, in whatever order things happen.
    #[test]
    fn trap_22_nothing_is_evaluated_before_the_disclosure_was_taken(
        heard in heard(), disclosed in disclosed(), late: bool, engine: bool, misses in 0_u32..3,
        language in proptest::option::of("(en|fr|ru|de)"),
    ) {
        let step = Some("hours".to_owned());
        let standing = Standing { disclosed, language, step, misses, late, ..told(None) };
        let turn = bot(engine).respond(&standing, as_heard(&heard), open());
        if disclosed != Disclosed::Yes {
            prop_assert!(!matches!(turn, Turn::Say(_) | Turn::AskEngine | Turn::Nothing), "{turn:?}");
            // What is said at all tells that it is a bot.
            if let Turn::HandOver { say: Some(_), discloses, .. } = &turn {
                prop_assert!(discloses.is_some());
            }
            prop_assert!(!late || matches!(turn, Turn::HandOver { .. }), "{turn:?}");
            // Two messages that differ are answered alike, unless they ask for a human.
            let other = bot(engine).respond(&standing, Heard::Text("something else"), open());
            let asks = matches!(turn, Turn::HandOver { reason: Reason::HumanAsked, .. });
            prop_assert!(asks || turn == other);
        }
    }

    /// `human`, or the button, reaches one whatever went before.
    #[test]
    fn a_human_is_always_reached(
        disclosed in disclosed(), late: bool, engine: bool, misses in 0_u32..3,
        language in proptest::option::of("(en|fr|ru|de)"), step in proptest::option::of("(hours|menu)"),
    ) {
        let standing = Standing { disclosed, language, step, misses, late, ..told(None) };
        let asked = [
            Heard::Text("human"),
            Heard::Text("Humain !"),
            Heard::Text("ЧЕЛОВЕК"),
            Heard::Button(Some(HUMAN_BUTTON), Some("whatever")),
        ];
        for heard in asked {
            let turn = bot(engine).respond(&standing, heard, open());
            let called = matches!(turn, Turn::HandOver { reason: Reason::HumanAsked, .. });
            prop_assert!(called, "{turn:?}");
        }
    }

    /// What it says fits the provider's limits, and a human is one press away as long as it answers.
    #[test]
    fn what_it_says_can_be_sent_and_has_the_button(heard in heard(), misses in 0_u32..3, knows: bool) {
        let disclosed = if knows { Disclosed::Yes } else { Disclosed::No };
        let standing = Standing { disclosed, misses, ..told(None) };
        let turn = bot(false).respond(&standing, as_heard(&heard), open());
        let content = match &turn {
            Turn::Say(answer) => Some(&answer.content),
            Turn::Disclose { content, .. } => Some(content),
            Turn::HandOver { say, .. } => say.as_ref(),
            _ => None,
        };
        if let Some(content) = content {
            prop_assert_eq!(content.check(), Ok(()));
            let goes_on = !matches!(turn, Turn::HandOver { .. });
            if let Content::Buttons { buttons, .. } = content {
                prop_assert_eq!(&buttons.last().unwrap().id, HUMAN_BUTTON);
            } else {
                prop_assert!(!goes_on);
            }
        }
    }
}
