//! What becomes of a well-formed message: refused at once, accepted and failed later, held, or on
//! its way. Faults come first, then the rates, then the template and the media, then what Meta says
//! only by webhook: blocks, the window, stops, caps, tiers.

use crate::graph_error::GraphError;
use crate::limits::capped;
use crate::media;
use crate::message::{Content, Message};
use crate::scenario::FaultKind;
use crate::template::{self, Template};
use crate::violations::Rule;
use crate::world::{State, World};

/// A message that was not refused.
#[derive(Debug, Default)]
pub struct Admitted {
    /// The fault that strikes it.
    pub fault: Option<FaultKind>,
    /// Why it will be reported as failed.
    pub failure: Option<GraphError>,
    /// Whether pacing holds it back.
    pub held: bool,
    /// Its template's category.
    pub category: Option<String>,
}

/// Decides, counts what was used and which rules it broke.
pub fn admit(
    world: &World,
    state: &mut State,
    call: u64,
    message: &Message,
    wamid: &str,
) -> Result<Admitted, GraphError> {
    let fault = state.strike(message.party(), &world.random);
    if let Some(FaultKind::Error { code }) = fault {
        return Err(injected(code));
    }
    rates(world, state, call, message)?;
    if message.digits.as_ref() == Some(&world.options.display_phone_number) {
        let error = GraphError::new(131_021, "Recipient and sender are the same number");
        return Err(broken(state, call, error));
    }
    if !state.number.registered {
        return Err(GraphError::new(133_010, "The business phone number is not registered"));
    }
    let mut admitted = Admitted { fault, ..Admitted::default() };
    if let Content::Template { name, language, given } = &message.content {
        let template = find_or_adopt(world, state, name, language);
        let checked = template
            .ok_or_else(|| template::missing(name, language))
            .and_then(|template| template.accepts(given).map(|()| template.category.clone()));
        match checked {
            Ok(category) => admitted.category = Some(category),
            Err(error) => return Err(broken(state, call, error)),
        }
    }
    media::expire(state, world.now());
    if let Content::Template { given, .. } = &message.content {
        for file in given.header.iter().filter(|it| it.is_file() && !it.text.is_empty()) {
            let (kind, medium) = (&file.kind, state.media.get(&file.text));
            if !medium.is_some_and(|medium| medium.suits(kind)) {
                let what = format!("header: {kind}['id'] is not a valid media attachment ID");
                return Err(broken(state, call, GraphError::new(131_009, what)));
            }
        }
    }
    if let Content::Media { kind, id: Some(id) } = &message.content {
        let suits = state.media.get(id).map(|medium| medium.suits(kind));
        match suits {
            None => {
                let what = format!(
                    "Param {kind}['id'] is not a valid whatsapp business account media attachment ID"
                );
                return Err(broken(state, call, GraphError::new(100, what)));
            }
            Some(false) => {
                let what = format!("The media is not one for {kind} messages");
                admitted.failure = Some(GraphError::new(131_053, what));
            }
            Some(true) => {}
        }
    }
    if let Some(FaultKind::FailedStatus { code }) = admitted.fault {
        admitted.failure = Some(injected(code));
    }
    if admitted.failure.is_none() {
        let category = admitted.category.as_deref();
        admitted.failure = later_failure(world, state, call, message, category);
    }
    let whole = !matches!(admitted.fault, Some(FaultKind::HttpStatus { .. }));
    if admitted.failure.is_none() && whole {
        admitted.held = paced(world, state, message, wamid);
    }
    Ok(admitted)
}

fn injected(code: i64) -> GraphError {
    GraphError::new(code, "Injected by the simulator")
}

/// An error that stands for a broken rule.
fn broken(state: &mut State, call: u64, error: GraphError) -> GraphError {
    if let Some(rule) = Rule::behind(&error) {
        state.violations.count(rule, call);
    }
    error
}

fn rates(world: &World, state: &mut State, call: u64, message: &Message) -> Result<(), GraphError> {
    let limits = state.limits;
    let over = state.used.take(limits, message.party(), world.now_ms());
    if over.pair {
        state.violations.count(Rule::PairRate, call);
        if limits.per_pair {
            let what = "Too many messages sent from this phone number to the same phone number in a short period of time.";
            return Err(GraphError::new(131_056, what));
        }
    }
    if over.number {
        state.violations.count(Rule::NumberRate, call);
        if limits.per_second.is_some() {
            return Err(GraphError::new(130_429, "Cloud API message throughput has been reached."));
        }
    }
    Ok(())
}

/// The template that is meant. An account that was never given one takes up those that are sent.
fn find_or_adopt<'a>(
    world: &World,
    state: &'a mut State,
    name: &str,
    language: &str,
) -> Option<&'a mut Template> {
    let templates = &mut state.templates;
    let at = templates.iter().position(|it| it.name == name && it.language == language);
    if at.is_none() && templates.iter().all(|it| it.adopted) {
        let id = world.random.object_id();
        templates.push(Template::adopted(id, name, language, world.now()));
        return templates.last_mut();
    }
    templates.get_mut(at?)
}

/// What Meta accepts and then reports as failed by webhook.
fn later_failure(
    world: &World,
    state: &mut State,
    call: u64,
    message: &Message,
    category: Option<&str>,
) -> Option<GraphError> {
    let (now, party, limits) = (world.now(), message.party(), state.limits);
    if state.blocks.contains(party) {
        state.violations.count(Rule::ToBlocked, call);
        return Some(GraphError::new(131_026, "The business blocked this person"));
    }
    if state.people.is_gone(party) {
        return Some(GraphError::new(131_026, "Message undeliverable"));
    }
    let in_window = state.people.window_open(party, now);
    if !message.opens_conversation() && !in_window {
        state.violations.count(Rule::OutsideWindow, call);
        return Some(GraphError::new(
            131_047,
            "Message failed to send because more than 24 hours have passed since the customer last replied to this number.",
        ));
    }
    if category == Some("MARKETING") {
        let person = state.people.person(party);
        if person.stopped || person.said_stop {
            state.violations.count(Rule::AfterStop, call);
        }
        let person = state.people.person(party);
        if person.stopped {
            return Some(GraphError::new(
                131_050,
                "Unable to deliver the message. This recipient has chosen to stop receiving marketing messages on WhatsApp from your business.",
            ));
        }
        if person.capped_at.is_some_and(|at| now.duration_since(at) < crate::limits::DAY) {
            state.violations.count(Rule::AgainAfterCap, call);
        }
        let person = state.people.person(party);
        // What is sent inside the window doesn't count against the cap.
        if !in_window && capped(limits, person, now) {
            person.capped_at = Some(now);
            return Some(GraphError::new(
                131_049,
                "This message was not delivered to maintain healthy ecosystem engagement.",
            ));
        }
    }
    if !in_window && !state.used.reach(limits, party, now) {
        state.violations.count(Rule::DailyPeople, call);
        return Some(GraphError::new(
            131_048,
            "Message failed to send because there are restrictions on how many messages can be sent from this phone number.",
        ));
    }
    None
}

/// Whether the template's pacing holds this message back; it then keeps it until the quality is known.
fn paced(world: &World, state: &mut State, message: &Message, wamid: &str) -> bool {
    let Content::Template { name, language, .. } = &message.content else { return false };
    let mut templates = state.templates.iter_mut();
    let template = templates.find(|it| it.name == *name && it.language == *language);
    let Some(pacing) = template.and_then(|it| it.pacing.as_mut()) else { return false };
    if pacing.left > 0 {
        pacing.left -= 1;
        return false;
    }
    pacing.held.push(wamid.to_owned());
    pacing.since.get_or_insert_with(|| world.now());
    true
}
