//! The bot as files: `bot.toml` says who speaks, in which languages and when humans are there; every other
//! `*.toml` beside it holds steps. It guarantees that what is built here can be sent as it is: each text is
//! there in each language and within the provider's limits, each button leads somewhere, and no trigger
//! takes the place of a stop or of the words that ask for a human.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::hours::{Hours, HoursFile};
use super::human::Humans;
use super::texts::{CONTROLLER, NOTICE, Texts, TextsFile, WHEN};
use crate::domain::stop::{Words, fold};

/// The file that says who speaks.
pub const BOT_FILE: &str = "bot.toml";
/// Longest text above buttons, in characters.
pub const BODY_CHARS_MAX: usize = 1024;
/// Most buttons of a step: the third is the one that reaches a human.
pub const BUTTONS_MAX: usize = 2;

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file's name.
    pub file: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

/// The bot, ready to answer.
#[derive(Debug, Clone)]
pub struct Bot {
    /// Its languages; the first where hers isn't known.
    pub(super) languages: Vec<String>,
    pub(super) texts: BTreeMap<String, Texts>,
    pub(super) hours: Option<Hours>,
    pub(super) humans: Humans,
    pub(super) steps: Vec<Step>,
    /// Whether what no step answers goes to the team's own engine.
    pub(super) engine: bool,
}

/// A step: what leads to it, and what it says.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its name, which its button carries.
    pub name: String,
    /// What she says to get here: folded, with its language; none where it is the same word in several.
    pub(super) triggers: HashMap<String, Option<String>>,
    /// Its triggers count only right after that step.
    pub(super) after: Option<String>,
    /// What answers whatever isn't understood at the beginning.
    pub(super) start: bool,
    /// What is said, by language.
    pub(super) reply: BTreeMap<String, String>,
    pub(super) buttons: Vec<(String, BTreeMap<String, String>)>,
    pub(super) hand_over: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BotFile {
    languages: Vec<String>,
    notice: String,
    #[serde(default)]
    human_words: Vec<String>,
    hours: Option<HoursFile>,
    #[serde(default)]
    texts: BTreeMap<String, TextsFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepsFile {
    step: Vec<StepFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StepFile {
    name: String,
    #[serde(default)]
    triggers: BTreeMap<String, Vec<String>>,
    after: Option<String>,
    #[serde(default)]
    start: bool,
    reply: BTreeMap<String, String>,
    #[serde(default)]
    buttons: Vec<ButtonFile>,
    #[serde(default)]
    hand_over: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ButtonFile {
    to: String,
    title: BTreeMap<String, String>,
}

/// What the files don't say.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// The controller's name.
    pub controller: &'a str,
    /// What counts as a stop.
    pub words: &'a Words,
    /// Whether there is an engine of the team's own.
    pub engine: bool,
}

impl Bot {
    /// The bot of these files: name and content.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn build(files: &[(String, String)], around: Around<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Faults::default();
        let Some((_, text)) = files.iter().find(|(name, _)| name == BOT_FILE) else {
            return Err(vec![Fault {
                file: BOT_FILE.to_owned(),
                problem: "is missing".to_owned(),
            }]);
        };
        let file: Option<BotFile> = faults.read(BOT_FILE, text);
        let mut steps = Vec::new();
        for (name, text) in files.iter().filter(|(name, _)| name != BOT_FILE) {
            let read: Option<StepsFile> = faults.read(name, text);
            steps.extend(read.into_iter().flat_map(|it| it.step).map(|step| (name.clone(), step)));
        }
        let Some(file) = file else { return Err(faults.0) };
        let humans = Humans::new(&file.human_words);
        let texts = texts(&file, around.controller, &mut faults);
        let hours = file.hours.map(Hours::new).transpose();
        let hours = hours.unwrap_or_else(|problem| {
            faults.add(BOT_FILE, problem);
            None
        });
        for (name, step) in &steps {
            check(step, &file.languages, &humans, around.words)
                .into_iter()
                .for_each(|problem| faults.add(name, problem));
        }
        together(&steps, &mut faults);
        if !faults.0.is_empty() {
            return Err(faults.0);
        }
        let steps = steps.into_iter().map(|(_, step)| Step::from(step)).collect();
        let engine = around.engine;
        Ok(Self { languages: file.languages, texts, hours, humans, steps, engine })
    }

    /// Its languages; the first where hers isn't known.
    #[must_use]
    pub fn languages(&self) -> &[String] {
        &self.languages
    }

    /// Its steps.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl From<StepFile> for Step {
    fn from(file: StepFile) -> Self {
        let mut triggers = HashMap::new();
        for (language, words) in file.triggers {
            for word in words {
                let known = triggers.entry(fold(&word)).or_insert_with(|| Some(language.clone()));
                if known.as_ref() != Some(&language) {
                    *known = None;
                }
            }
        }
        Self {
            name: file.name,
            triggers,
            after: file.after,
            start: file.start,
            reply: file.reply,
            buttons: file.buttons.into_iter().map(|it| (it.to, it.title)).collect(),
            hand_over: file.hand_over,
        }
    }
}

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, file: &str, problem: impl Into<String>) {
        self.0.push(Fault { file: file.to_owned(), problem: problem.into() });
    }

    fn read<T: DeserializeOwned>(&mut self, file: &str, text: &str) -> Option<T> {
        toml::from_str(text).map_err(|error| self.add(file, error.to_string().trim_end())).ok()
    }
}

/// What it says of itself in each of its languages, with the controller's name and the notice in it.
fn texts(file: &BotFile, controller: &str, faults: &mut Faults) -> BTreeMap<String, Texts> {
    let mut texts = BTreeMap::new();
    if file.languages.is_empty() {
        faults.add(BOT_FILE, "languages names at least one language, such as [\"fr\", \"en\"]");
    }
    if !file.notice.starts_with("https://") {
        faults.add(BOT_FILE, "notice is the https address of the privacy notice");
    }
    for language in &file.languages {
        match Texts::of(language, file.texts.get(language)) {
            Ok(mut it) => {
                it.disclosure =
                    it.disclosure.replace(CONTROLLER, controller).replace(NOTICE, &file.notice);
                texts.insert(language.clone(), it);
            }
            Err(problem) => faults.add(BOT_FILE, problem),
        }
    }
    for language in file.texts.keys().filter(|it| !file.languages.contains(it)) {
        faults.add(BOT_FILE, format!("texts.{language}: {language} is none of the languages"));
    }
    // Where her language isn't known, it says so in all of them.
    let all: usize = texts.values().map(|it| it.disclosure.chars().count() + 2).sum();
    if all > BODY_CHARS_MAX {
        faults.add(
            BOT_FILE,
            format!("the disclosures of all languages have {all} characters together, {BODY_CHARS_MAX} at most"),
        );
    }
    let longest = |pick: fn(&Texts) -> &String| {
        texts.values().map(pick).any(|text| text.chars().count() > BODY_CHARS_MAX - 80)
    };
    if longest(|it| &it.handover) || longest(|it| &it.closed) || longest(|it| &it.not_understood) {
        faults.add(BOT_FILE, format!("a text has at most {} characters", BODY_CHARS_MAX - 80));
    }
    debug_assert!(texts.values().all(|it| it.closed.contains(WHEN)));
    texts
}

/// What is wrong with a step by itself.
fn check(step: &StepFile, languages: &[String], humans: &Humans, words: &Words) -> Vec<String> {
    let mut wrong = Vec::new();
    let of = format!("step {:?}", step.name);
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if step.name.is_empty() || step.name.len() > 64 || !step.name.bytes().all(fits) {
        wrong.push(format!("{of}: a name has 1 to 64 characters of a-z, 0-9, _ and -"));
    }
    let mut complete = |what: &str, texts: &BTreeMap<String, String>, max: usize| {
        for language in languages {
            match texts.get(language).map(|text| text.chars().count()) {
                Some(length) if (1..=max).contains(&length) => {}
                Some(_) => wrong.push(format!("{of}: {what}.{language} has 1 to {max} characters")),
                None => wrong.push(format!("{of}: {what}.{language} is missing")),
            }
        }
        for language in texts.keys().filter(|it| !languages.contains(it)) {
            wrong.push(format!("{of}: {what}.{language}: {language} is none of the languages"));
        }
    };
    complete("reply", &step.reply, BODY_CHARS_MAX);
    for button in &step.buttons {
        complete("buttons.title", &button.title, 20);
    }
    // What is shown on a button comes back when it is pressed, and would be heard as that.
    for title in step.buttons.iter().flat_map(|it| it.title.values()) {
        if words.in_text(title).is_some()
            || words.asks(title).is_some()
            || humans.are_asked_for(title)
        {
            wrong.push(format!("{of}: the button {title:?} would be a stop, an opt-in or a human"));
        }
    }
    if step.buttons.len() > BUTTONS_MAX {
        wrong.push(format!("{of}: at most {BUTTONS_MAX} buttons; the third reaches a human"));
    }
    let targets: BTreeSet<&str> = step.buttons.iter().map(|it| it.to.as_str()).collect();
    if targets.len() < step.buttons.len() {
        wrong.push(format!("{of}: two buttons lead to the same step"));
    }
    if step.hand_over && !step.buttons.is_empty() {
        wrong.push(format!("{of}: a step that hands over has no buttons"));
    }
    for (language, triggers) in &step.triggers {
        if !languages.contains(language) {
            wrong.push(format!("{of}: triggers.{language}: {language} is none of the languages"));
        }
        for trigger in triggers {
            if fold(trigger).is_empty() {
                wrong.push(format!("{of}: the trigger {trigger:?} holds no word"));
            } else if words.asks(trigger).is_some() {
                wrong.push(format!(
                    "{of}: the trigger {trigger:?} asks for something about her data: that is never the bot's"
                ));
            } else if words.in_text(trigger).is_some() {
                wrong.push(format!(
                    "{of}: the trigger {trigger:?} is a stop, an opt-in or a code: those are never the bot's"
                ));
            } else if humans.are_asked_for(trigger) {
                wrong.push(format!("{of}: the trigger {trigger:?} asks for a human"));
            }
        }
    }
    wrong
}

/// What is wrong with steps beside each other.
fn together(steps: &[(String, StepFile)], faults: &mut Faults) {
    let mut names = BTreeSet::new();
    let mut triggers = BTreeSet::new();
    let known: BTreeSet<&str> = steps.iter().map(|(_, step)| step.name.as_str()).collect();
    for (file, step) in steps {
        let of = format!("step {:?}", step.name);
        if !names.insert(step.name.as_str()) {
            faults.add(file, format!("{of}: there is another of this name"));
        }
        let leads = step.buttons.iter().map(|it| &it.to).chain(&step.after);
        for missing in leads.filter(|it| !known.contains(it.as_str())) {
            faults.add(file, format!("{of}: there is no step {missing:?}"));
        }
        // The same word in two languages of one step is one trigger.
        let own: BTreeMap<String, &String> =
            step.triggers.values().flatten().map(|trigger| (fold(trigger), trigger)).collect();
        for (folded, trigger) in own {
            if !triggers.insert((step.after.as_deref(), folded)) {
                faults.add(file, format!("{of}: another step's trigger is {trigger:?} too"));
            }
        }
    }
    if let [(file, _), (_, second), ..] =
        &steps.iter().filter(|(_, step)| step.start).collect::<Vec<_>>()[..]
    {
        faults.add(file, format!("step {:?}: only one step is the start", second.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOT: &str = "languages = [\"en\", \"fr\"]\nnotice = \"https://shop.example/privacy\"";

    fn built(bot: &str, steps: &str) -> Result<Bot, Vec<String>> {
        let files =
            [(BOT_FILE.to_owned(), bot.to_owned()), ("shop.toml".to_owned(), steps.to_owned())];
        let words = Words::standard();
        let around = Around { controller: "Acme", words: &words, engine: false };
        Bot::build(&files, around)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    fn faults(bot: &str, steps: &str) -> Vec<String> {
        built(bot, steps).err().unwrap_or_default()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_file_all_at_once() {
        assert_eq!(
            faults(
                BOT,
                r#"
                [[step]]
                name = "hours"
                triggers.en = ["Cancel", "operator", "hours"]
                reply.en = "Nine to five."
                buttons = [{ to = "nowhere", title.en = "Where?", title.fr = "Un titre bien trop long ici" }]
                [[step]]
                name = "hours"
                triggers.en = ["HOURS!"]
                reply = { en = "Nine.", fr = "Neuf.", de = "Neun." }
                "#
            ),
            [
                "shop.toml: step \"hours\": reply.fr is missing",
                "shop.toml: step \"hours\": buttons.title.fr has 1 to 20 characters",
                "shop.toml: step \"hours\": the trigger \"Cancel\" is a stop, an opt-in or a code: those are never the bot's",
                "shop.toml: step \"hours\": the trigger \"operator\" asks for a human",
                "shop.toml: step \"hours\": reply.de: de is none of the languages",
                "shop.toml: step \"hours\": there is no step \"nowhere\"",
                "shop.toml: step \"hours\": there is another of this name",
                "shop.toml: step \"hours\": another step's trigger is \"HOURS!\" too",
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_tells_where() {
        let told = faults(BOT, "[[step]]\nname = \"a\"\nreplies = 1\n[step.reply]\nen = \"b\"");
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("shop.toml: TOML parse error at line 3"), "{told:?}");
        let words = Words::standard();
        let around = Around { controller: "Acme", words: &words, engine: false };
        assert_eq!(Bot::build(&[], around).unwrap_err()[0].to_string(), "bot.toml: is missing");
    }

    #[test]
    fn nobody_speaks_without_a_notice_in_each_language() {
        assert_eq!(
            faults("languages = [\"en\", \"de\"]\nnotice = \"http://shop.example\"", "step = []"),
            [
                "bot.toml: notice is the https address of the privacy notice",
                "bot.toml: texts.de.disclosure is missing",
            ]
        );
        let long = format!(
            "{BOT}\n[texts.en]\ndisclosure = \"{{controller}} {{notice}} {}\"",
            "x".repeat(900)
        );
        assert!(faults(&long, "step = []")[0].contains("together, 1024 at most"));
        assert!(built(BOT, "step = []").is_ok());
    }
}
