//! The bot: what it answers to a message, as a function of its flows and of what went before. It guarantees
//! that nothing that she writes is evaluated, kept as the bot's state or given to an engine before the
//! provider has taken the message that says that this is a bot and that data is collected; that the words
//! and the button that ask for a human always reach one; and that stops never come here is left to the
//! caller. It sends one message per turn: two could change places on their way.

pub mod flows;
pub mod hours;
pub mod human;
pub mod texts;

use jiff::Timestamp;

use self::flows::{BODY_CHARS_MAX, Bot, Step};
use self::hours::Answered;
use self::human::HUMAN_BUTTON;
use self::texts::{Texts, WHEN, when};
use super::content::{Button, Content};
use super::conversation::Reason;
use super::stop::fold;

/// What the button of a step carries before its name.
const STEP_BUTTON: &str = "step:";
/// So often in a row she may not be understood; then a human is called.
const MISSES_MAX: u32 = 2;

/// What she sent. No `Debug`: it is hers.
#[derive(Clone, Copy)]
pub enum Heard<'a> {
    /// A text.
    Text(&'a str),
    /// A button: what it carries, and what it shows.
    Button(Option<&'a str>, Option<&'a str>),
    /// An emoji on a message, or a sticker: nothing to answer.
    Sign,
    /// Anything else: an image, a sound, a place.
    Other,
}

/// How far the message came by which the bot says that it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disclosed {
    /// It has not been written.
    No,
    /// It waits to be sent, or its outcome is not known.
    OnItsWay,
    /// The provider has taken it.
    Yes,
    /// It was refused, or failed.
    Failed,
}

/// Where a conversation stands with the bot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// How far its disclosure came.
    pub disclosed: Disclosed,
    /// In which languages it was written.
    pub disclosed_in: Vec<String>,
    /// Her language, where something tells it: a BCP 47 tag.
    pub language: Option<String>,
    /// The step that was answered last.
    pub step: Option<String>,
    /// How often in a row she was not understood.
    pub misses: u32,
    /// Her message has waited too long for what it waits for.
    pub late: bool,
}

/// What the bot does.
#[derive(Debug, Clone, PartialEq)]
pub enum Turn {
    /// It says that it is one; her message waits until that was taken.
    Disclose {
        /// The message.
        content: Content,
        /// In which languages.
        languages: Vec<String>,
    },
    /// It waits for its disclosure.
    Wait,
    /// It has nothing to say to this.
    Nothing,
    /// It answers.
    Say(Answer),
    /// The team's own engine is asked; [`Bot::engine_answered`] goes on.
    AskEngine,
    /// A human is called.
    HandOver {
        /// Why.
        reason: Reason,
        /// What it says at last, where it may say something.
        say: Option<Content>,
        /// Whether that is its disclosure too.
        discloses: Option<Vec<String>>,
    },
}

/// An answer, and where the conversation stands after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The message.
    pub content: Content,
    /// Her language, by now.
    pub language: Option<String>,
    /// The step that it belongs to.
    pub step: Option<String>,
    /// How often in a row she was not understood.
    pub misses: u32,
}

/// What the team's own engine answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineAnswer {
    /// What to say; none: nothing.
    pub reply: Option<String>,
    /// Whether a human is to go on.
    pub hand_over: bool,
}

impl Bot {
    /// What it does about a message of hers.
    #[must_use]
    pub fn respond(&self, standing: &Standing, heard: Heard<'_>, now: Timestamp) -> Turn {
        // Before everything else: this needs no disclosure, for a human answers.
        if self.asks_for_human(heard) {
            return self.call_human(standing, now);
        }
        match standing.disclosed {
            Disclosed::No | Disclosed::OnItsWay if standing.late => hand_over(Reason::Late, None),
            Disclosed::No => self.disclose(standing),
            Disclosed::OnItsWay => Turn::Wait,
            // What can't be told to her must not be followed by anything else.
            Disclosed::Failed => hand_over(Reason::NotDisclosed, None),
            Disclosed::Yes if standing.late => {
                hand_over(Reason::Late, Some(self.last_words(standing, now)))
            }
            Disclosed::Yes => self.evaluate(standing, heard, now),
        }
    }

    /// What follows from the engine's answer; without one a human is called.
    #[must_use]
    pub fn engine_answered(
        &self,
        standing: &Standing,
        answer: Option<EngineAnswer>,
        now: Timestamp,
    ) -> Turn {
        let fits = |text: &String| (1..=BODY_CHARS_MAX).contains(&text.chars().count());
        match answer {
            Some(EngineAnswer { reply: Some(reply), hand_over: false }) if fits(&reply) => {
                let language = self.language(standing);
                Turn::Say(Answer {
                    content: self.with_buttons(language, reply, &[]),
                    language: standing.language.clone(),
                    step: None,
                    misses: 0,
                })
            }
            Some(EngineAnswer { reply: None, hand_over: false }) => Turn::Nothing,
            Some(EngineAnswer { reply, hand_over: true }) if reply.as_ref().is_none_or(fits) => {
                let last = self.last_words_after(reply.as_deref(), self.language(standing), now);
                hand_over(Reason::Flow, Some(last))
            }
            _ => hand_over(Reason::EngineFailed, Some(self.last_words(standing, now))),
        }
    }

    fn asks_for_human(&self, heard: Heard<'_>) -> bool {
        match heard {
            Heard::Text(text) => self.humans.are_asked_for(text),
            Heard::Button(id, title) => {
                id == Some(HUMAN_BUTTON)
                    || [id, title].into_iter().flatten().any(|it| self.humans.are_asked_for(it))
            }
            Heard::Sign | Heard::Other => false,
        }
    }

    /// One message: what it is, where it hasn't said so, and who answers from now on.
    fn call_human(&self, standing: &Standing, now: Timestamp) -> Turn {
        let language = self.language(standing);
        if standing.disclosed == Disclosed::No {
            let (told, languages) = self.disclosure(standing);
            let say = Some(self.last_words_after(Some(&told), language, now));
            return Turn::HandOver { reason: Reason::HumanAsked, say, discloses: Some(languages) };
        }
        let may_say = standing.disclosed == Disclosed::Yes;
        hand_over(Reason::HumanAsked, may_say.then(|| self.last_words(standing, now)))
    }

    fn disclose(&self, standing: &Standing) -> Turn {
        let (told, languages) = self.disclosure(standing);
        let content = self.with_buttons(self.language(standing), told, &[]);
        Turn::Disclose { content, languages }
    }

    /// It is about to speak a language in which it has not said that it is a bot.
    fn disclose_in(&self, language: &str) -> Turn {
        let content = self.with_buttons(language, self.texts(language).disclosure.clone(), &[]);
        Turn::Disclose { content, languages: vec![language.to_owned()] }
    }

    /// In her language; where that isn't known, in all that it speaks.
    fn disclosure(&self, standing: &Standing) -> (String, Vec<String>) {
        let languages: Vec<String> = match self.spoken(standing) {
            Some(language) => vec![language.to_owned()],
            None => self.languages.clone(),
        };
        let told: Vec<&str> =
            languages.iter().map(|it| self.texts(it).disclosure.as_str()).collect();
        (told.join("\n\n"), languages)
    }

    /// She has been told: what she says is looked at.
    fn evaluate(&self, standing: &Standing, heard: Heard<'_>, now: Timestamp) -> Turn {
        let found = match heard {
            Heard::Sign => return Turn::Nothing,
            Heard::Other => {
                return hand_over(Reason::NotText, Some(self.last_words(standing, now)));
            }
            Heard::Text(text) => self.triggered(standing, text),
            Heard::Button(id, title) => id
                .and_then(|id| id.strip_prefix(STEP_BUTTON))
                .and_then(|name| self.steps.iter().find(|it| it.name == name))
                .map(|step| (step, None))
                .or_else(|| self.triggered(standing, title?)),
        };
        let triggered = found.and_then(|(_, language)| language);
        let speaks = triggered.unwrap_or_else(|| self.language(standing));
        if !standing.disclosed_in.iter().any(|it| it == speaks) {
            return self.disclose_in(speaks);
        }
        if let Some((step, language)) = found {
            return self.step(standing, step, language, now);
        }
        if self.engine {
            return Turn::AskEngine;
        }
        let misses = standing.misses + 1;
        let language = self.language(standing);
        let start = self.steps.iter().find(|it| it.start && standing.step.is_none());
        if let Some(step) = start.filter(|_| misses < MISSES_MAX) {
            let content = self.say(step, language);
            let language = standing.language.clone();
            return Turn::Say(Answer { content, language, step: None, misses });
        }
        if misses < MISSES_MAX {
            let text = self.texts(language).not_understood.clone();
            let content = self.with_buttons(language, text, &[]);
            let (language, step) = (standing.language.clone(), standing.step.clone());
            return Turn::Say(Answer { content, language, step, misses });
        }
        hand_over(Reason::NotUnderstood, Some(self.last_words(standing, now)))
    }

    /// The step that a text leads to, and the language of its trigger. What follows the last step goes
    /// before what may come at any time.
    fn triggered(&self, standing: &Standing, text: &str) -> Option<(&Step, Option<&str>)> {
        let folded = fold(text);
        let of = |after: Option<&String>| {
            self.steps.iter().filter(move |it| it.after.as_ref() == after).find_map(|step| {
                let language = step.triggers.get(&folded)?;
                Some((step, language.as_deref()))
            })
        };
        standing.step.as_ref().and_then(|last| of(Some(last))).or_else(|| of(None))
    }

    fn step(
        &self,
        standing: &Standing,
        step: &Step,
        language: Option<&str>,
        now: Timestamp,
    ) -> Turn {
        let speaks = language.unwrap_or_else(|| self.language(standing));
        if step.hand_over {
            let last =
                self.last_words_after(step.reply.get(speaks).map(String::as_str), speaks, now);
            return hand_over(Reason::Flow, Some(last));
        }
        Turn::Say(Answer {
            content: self.say(step, speaks),
            language: language.map(str::to_owned).or_else(|| standing.language.clone()),
            step: Some(step.name.clone()),
            misses: 0,
        })
    }

    fn say(&self, step: &Step, language: &str) -> Content {
        let text = step.reply.get(language).cloned().unwrap_or_default();
        let buttons: Vec<Button> = step
            .buttons
            .iter()
            .filter_map(|(to, title)| {
                Some(Button {
                    id: format!("{STEP_BUTTON}{to}"),
                    title: title.get(language)?.clone(),
                })
            })
            .collect();
        self.with_buttons(language, text, &buttons)
    }

    /// The last button always reaches a human.
    fn with_buttons(&self, language: &str, body: String, more: &[Button]) -> Content {
        let human =
            Button { id: HUMAN_BUTTON.to_owned(), title: self.texts(language).human.clone() };
        let buttons = more.iter().cloned().chain([human]).collect();
        Content::Buttons { body, header: None, footer: None, buttons }
    }

    fn last_words(&self, standing: &Standing, now: Timestamp) -> Content {
        self.last_words_after(None, self.language(standing), now)
    }

    /// A human answers from now on, or from then.
    fn last_words_after(&self, before: Option<&str>, language: &str, now: Timestamp) -> Content {
        let texts = self.texts(language);
        let last = match self.hours.as_ref().map(|hours| (hours.at(now), hours.zone())) {
            Some((Answered::From { date, time }, zone)) => {
                texts.closed.replace(WHEN, &when(language, date, time, zone))
            }
            None | Some((Answered::Now | Answered::Someday, _)) => texts.handover.clone(),
        };
        let body = match before {
            Some(before) => format!("{before}\n\n{last}"),
            None => last,
        };
        Content::Text { body, preview_url: false }
    }

    /// Her language, if the bot speaks it.
    fn spoken(&self, standing: &Standing) -> Option<&str> {
        let primary = |tag: &str| tag.split(['-', '_']).next().unwrap_or_default().to_lowercase();
        let hers = standing.language.as_deref()?;
        let same = |it: &&String| primary(it) == primary(hers);
        self.languages
            .iter()
            .find(|it| *it == hers)
            .or_else(|| self.languages.iter().find(same))
            .map(String::as_str)
    }

    /// The language to speak: hers, or the first.
    fn language(&self, standing: &Standing) -> &str {
        self.spoken(standing).unwrap_or_else(|| self.languages.first().map_or("en", String::as_str))
    }

    fn texts(&self, language: &str) -> &Texts {
        // Each of its languages has its texts: it is not built otherwise.
        &self.texts[language]
    }
}

fn hand_over(reason: Reason, say: Option<Content>) -> Turn {
    Turn::HandOver { reason, say, discloses: None }
}

#[cfg(test)]
mod tests;
