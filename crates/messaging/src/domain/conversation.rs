//! Who answers a person: the bot, nobody yet, or a human. It guarantees that a conversation that a human has
//! or is asked for never falls back to the bot by itself, and that two humans never answer at once; what is
//! written in it is left to others.
//!
//! ```text
//! (she writes) ─▶ bot ──▶ waiting ──▶ human ──▶ closed ─▶ (she writes) ─▶ …
//!                  ▲         │          │
//!                  └─────────┴──────────┘ a human hands it back
//! ```

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

/// After so long without a message of hers a conversation with the bot is over: free-form messages can't
/// reach her any more, and what she writes then begins anew.
pub const IDLE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The bot.
    Bot,
    /// A human is needed, and none has taken it.
    Waiting,
    /// This human, by the name of the key.
    Human(String),
    /// Nobody any more.
    Closed,
}

impl State {
    /// As the database and the API name it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Bot => "bot",
            Self::Waiting => "waiting",
            Self::Human(_) => "human",
            Self::Closed => "closed",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str, assignee: Option<String>) -> Option<Self> {
        match (text, assignee) {
            ("bot", _) => Some(Self::Bot),
            ("waiting", _) => Some(Self::Waiting),
            ("human", Some(assignee)) => Some(Self::Human(assignee)),
            ("closed", _) => Some(Self::Closed),
            _ => None,
        }
    }

    /// The human who answers.
    #[must_use]
    pub fn assignee(&self) -> Option<&str> {
        match self {
            Self::Human(assignee) => Some(assignee),
            _ => None,
        }
    }
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its random id.
    pub id: Uuid,
    /// Who answers.
    pub state: State,
    /// When she last wrote.
    pub heard_at: Timestamp,
}

/// Why a human is needed, why the bot has it again, or why it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// She asked for a human.
    HumanAsked,
    /// A flow says so.
    Flow,
    /// The bot didn't understand her, twice in a row.
    NotUnderstood,
    /// She sent something that isn't text.
    NotText,
    /// The bot could not tell that it is one: the gate or the provider refused that message.
    NotDisclosed,
    /// What the bot answered was refused, or didn't reach her.
    NotAnswered,
    /// The team's own engine didn't answer, or not in the agreed form.
    EngineFailed,
    /// The bot could not answer in time.
    Late,
    /// There is no bot.
    NoBot,
    /// A human said so.
    Operator,
    /// She wrote nothing for a day.
    Idle,
    /// She wants no more messages.
    Stopped,
    /// What she wrote may mean that she wants no more messages.
    StopUnclear,
    /// She asks for something about her data: somebody tells her how it goes on.
    Request,
    /// The use of her data is restricted: no machine evaluates what she writes.
    Restricted,
}

impl Reason {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::HumanAsked => "human_asked",
            Self::Flow => "flow",
            Self::NotUnderstood => "not_understood",
            Self::NotText => "not_text",
            Self::NotDisclosed => "not_disclosed",
            Self::NotAnswered => "not_answered",
            Self::EngineFailed => "engine_failed",
            Self::Late => "late",
            Self::NoBot => "no_bot",
            Self::Operator => "operator",
            Self::Idle => "idle",
            Self::Stopped => "stopped",
            Self::StopUnclear => "stop_unclear",
            Self::Request => "request",
            Self::Restricted => "restricted",
        }
    }
}

/// What somebody wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// She wrote.
    Hear {
        /// When.
        at: Timestamp,
        /// What it declares, as far as that matters here.
        declares: Declares,
        /// Whether there is a bot.
        bot: bool,
        /// The id of the conversation that this may open.
        new: Uuid,
    },
    /// A human takes it, or is given it.
    Assign {
        /// The name of the human's key.
        to: String,
        /// Who has it by the caller's knowledge.
        from: Option<String>,
    },
    /// The bot, or a human, asks for another human.
    CallHuman(Reason),
    /// A human hands it to the bot.
    CallBot {
        /// Whether there is one.
        bot: bool,
    },
    /// A human ends it.
    Close,
}

/// What a message declares beside what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declares {
    /// Nothing.
    Nothing,
    /// No more messages.
    Stop,
    /// Perhaps that: a human reads it, and not the bot.
    PerhapsStop,
    /// An opt-in, by word or code: it is heard elsewhere, and no question.
    OptIn,
    /// A request about her data that is no stop: it is heard elsewhere, and a human answers it.
    Request,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// She wrote, and none was open.
    Opened {
        /// Its id.
        id: Uuid,
        /// Whether the bot answers; otherwise a human is needed.
        bot: bool,
        /// When she wrote.
        heard_at: Timestamp,
    },
    /// She wrote again.
    Heard {
        /// When.
        at: Timestamp,
    },
    /// A human is needed.
    HumanCalled(Reason),
    /// The bot answers from now on.
    BotCalled(Reason),
    /// This human answers from now on.
    Assigned(String),
    /// It is over.
    Closed(Reason),
}

/// It can't be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is over.
    #[error("the conversation is closed")]
    Closed,
    /// Somebody else has it.
    #[error("somebody else has the conversation")]
    Taken(String),
    /// There is no bot to hand it to.
    #[error("there is no bot")]
    NoBot,
}

/// What follows from a command; nothing where all is so already.
///
/// # Errors
/// [`Refusal`].
pub fn decide(current: Option<&Conversation>, command: &Command) -> Result<Vec<Event>, Refusal> {
    let open = current.filter(|it| it.state != State::Closed);
    if let Command::Hear { at, declares, bot, new } = command {
        return Ok(hear(open, *at, *declares, *bot, *new));
    }
    let Some(open) = open else { return Err(Refusal::Closed) };
    Ok(match command {
        Command::Assign { to, from } => match &open.state {
            State::Human(has) if has == to => Vec::new(),
            State::Human(has) if from.as_ref() != Some(has) => {
                return Err(Refusal::Taken(has.clone()));
            }
            _ => vec![Event::Assigned(to.clone())],
        },
        Command::CallHuman(_) if open.state == State::Waiting => Vec::new(),
        Command::CallHuman(reason) => vec![Event::HumanCalled(*reason)],
        Command::CallBot { bot: false } => return Err(Refusal::NoBot),
        Command::CallBot { .. } if open.state == State::Bot => Vec::new(),
        Command::CallBot { .. } => vec![Event::BotCalled(Reason::Operator)],
        Command::Close => vec![Event::Closed(Reason::Operator)],
        Command::Hear { .. } => Vec::new(),
    })
}

fn hear(
    open: Option<&Conversation>,
    at: Timestamp,
    declares: Declares,
    bot: bool,
    new: Uuid,
) -> Vec<Event> {
    let opened = Event::Opened { id: new, bot, heard_at: at };
    match (open, declares) {
        (_, Declares::PerhapsStop | Declares::Request) => {
            let mut events = hear(open, at, Declares::Nothing, bot, new);
            let after = events.iter().fold(open.cloned(), evolve);
            let is_new = events.iter().any(|event| matches!(event, Event::Opened { .. }));
            // Who has it reads it anyway.
            if is_new || after.is_some_and(|it| it.state == State::Bot) {
                events.push(Event::HumanCalled(match declares {
                    Declares::Request => Reason::Request,
                    _ => Reason::StopUnclear,
                }));
            }
            events
        }
        (None, Declares::Nothing) => vec![opened],
        (None, _) => Vec::new(),
        // Nothing that the bot was about to say is said after a stop.
        (Some(Conversation { state: State::Bot, .. }), Declares::Stop) => {
            vec![Event::Heard { at }, Event::Closed(Reason::Stopped)]
        }
        (Some(it), Declares::Nothing)
            if it.state == State::Bot && at.duration_since(it.heard_at) > IDLE_AFTER =>
        {
            vec![Event::Closed(Reason::Idle), opened]
        }
        // The bot is gone from the configuration: somebody must answer.
        (Some(it), Declares::Nothing) if it.state == State::Bot && !bot => {
            vec![Event::Heard { at }, Event::HumanCalled(Reason::NoBot)]
        }
        (Some(_), _) => vec![Event::Heard { at }],
    }
}

/// The conversation after an event.
#[must_use]
pub fn evolve(current: Option<Conversation>, event: &Event) -> Option<Conversation> {
    if let Event::Opened { id, bot, heard_at } = event {
        let state = if *bot { State::Bot } else { State::Waiting };
        return Some(Conversation { id: *id, state, heard_at: *heard_at });
    }
    let mut it = current?;
    match event {
        Event::Opened { .. } => {}
        // Webhooks come in any order.
        Event::Heard { at } => it.heard_at = it.heard_at.max(*at),
        Event::HumanCalled(_) => it.state = State::Waiting,
        Event::BotCalled(_) => it.state = State::Bot,
        Event::Assigned(to) => it.state = State::Human(to.clone()),
        Event::Closed(_) => it.state = State::Closed,
    }
    Some(it)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn hears(hours: i64) -> Command {
        let new = Uuid::from_u128(hours as u128 + 1);
        Command::Hear { at: at(hours), declares: Declares::Nothing, bot: true, new }
    }

    fn assign(to: &str, from: Option<&str>) -> Command {
        Command::Assign { to: to.to_owned(), from: from.map(str::to_owned) }
    }

    fn after(commands: &[Command]) -> Option<Conversation> {
        commands.iter().fold(None, |current, command| {
            let events = decide(current.as_ref(), command).unwrap();
            events.iter().fold(current, evolve)
        })
    }

    fn refusal(given: &[Command], command: &Command) -> Option<Refusal> {
        decide(after(given).as_ref(), command).err()
    }

    #[test]
    fn a_message_opens_one_and_the_next_belongs_to_it() {
        let it = after(&[hears(0), hears(1)]).unwrap();
        assert_eq!((it.id, &it.state, it.heard_at), (Uuid::from_u128(1), &State::Bot, at(1)));
        assert_eq!(after(&[hears(2), hears(1)]).unwrap().heard_at, at(2));
    }

    #[test]
    fn what_is_with_a_human_stays_there_whatever_she_writes_and_however_late() {
        let given = [hears(0), Command::CallHuman(Reason::HumanAsked), hears(100)];
        assert_eq!(after(&given).unwrap().state, State::Waiting);
        let given = [hears(0), assign("lea", None), hears(100)];
        let it = after(&given).unwrap();
        assert_eq!((it.id, it.state), (Uuid::from_u128(1), State::Human("lea".to_owned())));
    }

    #[test]
    fn a_day_of_silence_ends_a_conversation_with_the_bot() {
        assert_eq!(after(&[hears(0), hears(24)]).unwrap().id, Uuid::from_u128(1));
        let it = after(&[hears(0), hears(25)]).unwrap();
        assert_eq!((it.id, it.state), (Uuid::from_u128(26), State::Bot));
    }

    #[test]
    fn two_humans_never_answer_at_once() {
        let given = [hears(0), assign("lea", None)];
        let taken = Some(Refusal::Taken("lea".to_owned()));
        assert_eq!(refusal(&given, &assign("max", None)), taken);
        assert_eq!(refusal(&given, &assign("max", Some("ada"))), taken);
        assert_eq!(refusal(&given, &assign("lea", None)), None);
        let given = [hears(0), assign("lea", None), assign("max", Some("lea"))];
        assert_eq!(after(&given).unwrap().state, State::Human("max".to_owned()));
    }

    #[test]
    fn what_is_closed_takes_nothing_and_her_next_message_opens_another() {
        let given = [hears(0), Command::Close];
        for command in [assign("lea", None), Command::CallBot { bot: true }, Command::Close] {
            assert_eq!(refusal(&given, &command), Some(Refusal::Closed));
        }
        let it = after(&[hears(0), Command::Close, hears(1)]).unwrap();
        assert_eq!((it.id, it.state), (Uuid::from_u128(2), State::Bot));
    }

    #[test]
    fn a_stop_opens_nothing_ends_the_bot_and_leaves_it_with_a_human() {
        let stop = |hours| Command::Hear {
            at: at(hours),
            declares: Declares::Stop,
            bot: true,
            new: Uuid::from_u128(99),
        };
        assert_eq!(after(&[stop(0)]), None);
        assert_eq!(after(&[hears(0), stop(1)]).unwrap().state, State::Closed);
        let given = [hears(0), assign("lea", None), stop(1)];
        assert_eq!(after(&given).unwrap().state, State::Human("lea".to_owned()));
    }

    #[test]
    fn what_she_asks_for_is_answered_by_a_human_and_not_by_the_bot() {
        let asks = |hours, bot| Command::Hear {
            at: at(hours),
            declares: Declares::Request,
            bot,
            new: Uuid::from_u128(99),
        };
        let called = Event::HumanCalled(Reason::Request);
        for bot in [true, false] {
            assert_eq!(after(&[asks(0, bot)]).unwrap().state, State::Waiting);
            assert_eq!(decide(None, &asks(0, bot)).unwrap().last(), Some(&called));
        }
        assert_eq!(after(&[hears(0), asks(1, true)]).unwrap().state, State::Waiting);
        let given = [hears(0), assign("lea", None), asks(1, true)];
        assert_eq!(after(&given).unwrap().state, State::Human("lea".to_owned()));
    }

    #[test]
    fn what_may_be_a_stop_is_read_by_a_human_and_not_by_the_bot() {
        let perhaps = |hours, bot| Command::Hear {
            at: at(hours),
            declares: Declares::PerhapsStop,
            bot,
            new: Uuid::from_u128(99),
        };
        let called = Event::HumanCalled(Reason::StopUnclear);
        for bot in [true, false] {
            assert_eq!(after(&[perhaps(0, bot)]).unwrap().state, State::Waiting);
            assert_eq!(decide(None, &perhaps(0, bot)).unwrap().last(), Some(&called));
        }
        let given = [hears(0), perhaps(1, true)];
        assert_eq!(after(&given).unwrap().id, Uuid::from_u128(1), "the same conversation");
        assert_eq!(after(&given).unwrap().state, State::Waiting);
        let given = [hears(0), perhaps(30, true)];
        assert_eq!(after(&given).unwrap().state, State::Waiting);
        let given = [hears(0), assign("lea", None), perhaps(1, true)];
        assert_eq!(after(&given).unwrap().state, State::Human("lea".to_owned()));
    }

    #[test]
    fn without_a_bot_a_human_is_needed_from_the_first_message_on() {
        let hears = |hours| Command::Hear {
            at: at(hours),
            declares: Declares::Nothing,
            bot: false,
            new: Uuid::from_u128(7),
        };
        assert_eq!(after(&[hears(0)]).unwrap().state, State::Waiting);
        assert_eq!(refusal(&[hears(0)], &Command::CallBot { bot: false }), Some(Refusal::NoBot));
        // It was taken out of the configuration meanwhile.
        assert_eq!(after(&[super::tests::hears(0), hears(1)]).unwrap().state, State::Waiting);
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let declares = prop_oneof![
            Just(Declares::Nothing),
            Just(Declares::Stop),
            Just(Declares::OptIn),
            Just(Declares::PerhapsStop),
            Just(Declares::Request)
        ];
        prop_oneof![
            (0_i64..200, declares, any::<bool>(), any::<u128>()).prop_map(
                |(hours, declares, bot, new)| Command::Hear {
                    at: at(hours),
                    declares,
                    bot,
                    new: Uuid::from_u128(new)
                }
            ),
            ("[ab]", proptest::option::of("[ab]"))
                .prop_map(|(to, from)| Command::Assign { to, from }),
            Just(Command::CallHuman(Reason::HumanAsked)),
            any::<bool>().prop_map(|bot| Command::CallBot { bot }),
            Just(Command::Close),
        ]
    }

    proptest! {
        /// Only a human's own act brings the bot back.
        #[test]
        fn a_human_never_loses_it_to_the_bot_by_what_she_writes(
            commands in proptest::collection::vec(any_command(), 0..20)
        ) {
            let mut current: Option<Conversation> = None;
            for command in &commands {
                let before = current.clone();
                let events = decide(current.as_ref(), command).unwrap_or_default();
                current = events.iter().fold(current, evolve);
                let (Some(before), Some(now)) = (&before, &current) else { continue };
                let had_human = matches!(before.state, State::Human(_) | State::Waiting);
                if had_human && now.state == State::Bot {
                    let by_human = matches!(command, Command::CallBot { .. });
                    prop_assert!(by_human, "{command:?}");
                }
                if before.id != now.id {
                    prop_assert!(matches!(before.state, State::Closed | State::Bot));
                }
            }
        }
    }
}
