//! Given what happened, when somebody wants something, then this follows.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn drafted() -> Event {
    Event::Drafted(CampaignDrafted {
        name: "spring".to_owned(),
        purpose: "marketing".to_owned(),
        channel: "whatsapp".to_owned(),
        template: "spring_offer".to_owned(),
        language: "en".to_owned(),
        drafted_by: "crm".to_owned(),
        at: at(1),
    })
}

fn taken(members: u64) -> Event {
    Event::AudienceTaken(CampaignAudienceTaken { members, at: at(2) })
}

fn tried() -> Event {
    Event::DryRunDone(CampaignDryRunDone {
        allowed: 1,
        excluded: BTreeMap::new(),
        category: Some("MARKETING".to_owned()),
        content: Some("text".to_owned()),
        at: at(3),
    })
}

fn approved() -> Event {
    let (approved_by, reason) = ("dpo".to_owned(), "checked".to_owned());
    Event::Approved(CampaignApproved { approved_by, reason, at: at(4) })
}

fn started() -> Event {
    let (started_by, category) = ("crm".to_owned(), "MARKETING".to_owned());
    Event::Started(CampaignStarted { started_by, category, at: at(5) })
}

fn paused() -> Event {
    let reason = PauseReason::Operator;
    Event::Paused(CampaignPaused { reason, paused_by: Some("crm".to_owned()), at: at(6) })
}

fn template() -> Template {
    let content = Some("text".to_owned());
    Template { category: "MARKETING".to_owned(), content, unavailable: None }
}

fn start() -> Command {
    Command::Start { by: "crm".to_owned(), template: template(), approval_above: 100 }
}

fn approve(by: &str) -> Command {
    Command::Approve { by: by.to_owned(), reason: "checked".to_owned() }
}

fn resume() -> Command {
    Command::Resume { by: "crm".to_owned(), template: template() }
}

fn given(events: &[Event]) -> Option<Campaign> {
    events.iter().fold(None, evolve)
}

fn when(events: &[Event], command: Command) -> Result<Option<Event>, Refusal> {
    decide(given(events).as_ref(), command, at(9))
}

#[test]
fn nobody_approves_what_they_drafted() {
    let given = [drafted(), taken(5), tried()];
    assert_eq!(when(&given, approve("crm")), Err(Refusal::SamePerson));
    let Ok(Some(Event::Approved(event))) = when(&given, approve("dpo")) else { panic!("approved") };
    assert_eq!((&*event.approved_by, &*event.reason), ("dpo", "checked"));
    let given = [drafted(), taken(5), tried(), approved()];
    assert_eq!(when(&given, approve("dpo")), Ok(None), "saying so again changes nothing");
    assert_eq!(when(&given, approve("crm")), Err(Refusal::State(CampaignState::Approved)));
}

#[test]
fn nothing_is_approved_or_started_before_it_was_tried_dry() {
    let given = [drafted(), taken(5)];
    assert_eq!(when(&given, approve("dpo")), Err(Refusal::NotTried));
    assert_eq!(when(&given, start()), Err(Refusal::NotTried));
    assert_eq!(when(&[drafted()], start()), Err(Refusal::State(CampaignState::Gathering)));
}

#[test]
fn a_second_person_is_needed_above_the_set_size_and_not_below() {
    assert!(matches!(
        when(&[drafted(), taken(100), tried()], start()),
        Ok(Some(Event::Started(_)))
    ));
    assert_eq!(when(&[drafted(), taken(101), tried()], start()), Err(Refusal::NotApproved));
    let given = [drafted(), taken(101), tried(), approved()];
    assert!(matches!(when(&given, start()), Ok(Some(Event::Started(_)))));
}

#[test]
fn a_new_dry_run_takes_the_approval_back() {
    let given = [drafted(), taken(101), tried(), approved(), tried()];
    assert_eq!(when(&given, start()), Err(Refusal::NotApproved));
    let again = when(&given, approve("dpo"));
    assert!(
        matches!(again, Ok(Some(Event::Approved(_)))),
        "what was said before was of another one"
    );
}

#[test]
fn what_the_provider_does_not_send_does_not_start_or_go_on() {
    let unavailable = Template { unavailable: Some("template_paused"), ..template() };
    let refused = Err(Refusal::TemplateUnavailable("template_paused"));
    let by = || "crm".to_owned();
    let start = Command::Start { by: by(), template: unavailable.clone(), approval_above: 100 };
    assert_eq!(when(&[drafted(), taken(1), tried()], start), refused);
    let running = [drafted(), taken(1), tried(), started(), paused()];
    assert_eq!(when(&running, Command::Resume { by: by(), template: unavailable }), refused);
    let other = Template { category: "UTILITY".to_owned(), ..template() };
    let resumed = when(&running, Command::Resume { by: by(), template: other });
    assert_eq!(resumed, Err(Refusal::Recategorised));
}

#[test]
fn what_was_approved_is_what_starts_and_goes_on() {
    let by = || "crm".to_owned();
    let start = |template| Command::Start { by: by(), template, approval_above: 100 };
    let recategorised = Template { category: "UTILITY".to_owned(), ..template() };
    let rewritten = Template { content: Some("another".to_owned()), ..template() };
    let approved = [drafted(), taken(101), tried(), approved()];
    let paused = [drafted(), taken(1), tried(), started(), paused()];
    for (template, refusal) in
        [(recategorised, Refusal::Recategorised), (rewritten, Refusal::Rewritten)]
    {
        assert_eq!(when(&approved, start(template.clone())), Err(refusal));
        assert_eq!(when(&paused, Command::Resume { by: by(), template }), Err(refusal));
    }
    let unknown = CampaignDryRunDone {
        allowed: 1,
        excluded: BTreeMap::new(),
        category: None,
        content: None,
        at: at(3),
    };
    let given = [drafted(), taken(1), Event::DryRunDone(unknown)];
    assert!(when(&given, start(template())).is_ok(), "what was not known then is not compared");
}

#[test]
fn what_has_paused_keeps_its_reason_until_somebody_resumes_it() {
    let given = [drafted(), taken(1), tried(), started(), paused()];
    let again = Command::Pause { by: None, reason: PauseReason::Quality };
    assert_eq!(when(&given, again), Ok(None));
    assert_eq!(self::given(&given).unwrap().pause_reason, Some(PauseReason::Operator));
    let Ok(Some(resumed)) = when(&given, resume()) else { panic!("resumed") };
    let it = evolve(self::given(&given), &resumed).unwrap();
    assert_eq!((it.state, it.pause_reason), (CampaignState::Running, None));
}

#[test]
fn nothing_follows_an_end() {
    let ends = [
        Event::Cancelled(CampaignCancelled { cancelled_by: "crm".to_owned(), at: at(7) }),
        Event::Completed(CampaignCompleted { at: at(7) }),
    ];
    for end in ends {
        let given = [drafted(), taken(1), tried(), started(), end];
        for command in every_command() {
            let follows = when(&given, command.clone());
            assert!(!matches!(follows, Ok(Some(_))), "{command:?}: {follows:?}");
        }
    }
}

fn every_command() -> Vec<Command> {
    vec![
        Command::TakeAudience { members: 200 },
        Command::FinishDryRun {
            allowed: 200,
            excluded: BTreeMap::new(),
            template: Some(template()),
        },
        approve("crm"),
        approve("dpo"),
        start(),
        Command::Pause { by: None, reason: PauseReason::Failures },
        resume(),
        Command::Cancel { by: "crm".to_owned() },
        Command::Complete,
    ]
}

/// Every sequence of up to six commands: 597,871 of them. What is sent is what a feeder sends that looks
/// before each message, as the claim does.
#[test]
fn no_sequence_of_commands_sends_while_paused_or_without_a_second_person() {
    struct Walk {
        sequences: usize,
        ran: usize,
    }
    fn step(walk: &mut Walk, campaign: &Campaign, path: &[Command], left: usize) {
        walk.sequences += 1;
        if campaign.state == CampaignState::Running {
            walk.ran += 1;
            assert!(campaign.tried.is_some() && campaign.approval.is_some(), "{path:?}");
            assert_ne!(campaign.approval.as_ref().unwrap().0, campaign.drafted_by, "{path:?}");
            let last = path.iter().rev().find(|it| {
                matches!(it, Command::Start { .. } | Command::Resume { .. } | Command::Pause { .. })
            });
            assert!(!matches!(last, Some(Command::Pause { .. })), "{path:?}");
            let ended = |it: &Command| matches!(it, Command::Cancel { .. } | Command::Complete);
            let after = path.iter().position(|it| matches!(it, Command::Start { .. })).unwrap();
            assert!(!path[after..].iter().any(ended), "{path:?}");
        }
        if left == 0 {
            return;
        }
        for command in every_command() {
            let event = decide(Some(campaign), command.clone(), at(9)).ok().flatten();
            let (next, path) = match &event {
                Some(event) => {
                    let next = evolve(Some(campaign.clone()), event).unwrap();
                    (next, [path, &[command]].concat())
                }
                None => (campaign.clone(), path.to_vec()),
            };
            step(walk, &next, &path, left - 1);
        }
    }
    let mut walk = Walk { sequences: 0, ran: 0 };
    let first = evolve(None, &drafted()).unwrap();
    step(&mut walk, &first, &[], 6);
    assert_eq!(walk.sequences, (0..=6).map(|length| 9_usize.pow(length)).sum::<usize>());
    assert!(walk.ran > 0, "some of them do send");
}
