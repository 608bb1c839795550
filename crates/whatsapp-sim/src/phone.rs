//! `GET /phone`: a person's phone. She reads and writes, presses buttons, stops, blocks, changes her
//! number, loses it to somebody else, turns the phone off, all with plain forms; the conversation is a
//! frame that loads itself anew, so that it is live without a script and never takes away what she is
//! typing.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::response::{Html, Redirect};
use jiff::Timestamp;
use serde::Deserialize;

use crate::acts::{self, Button, InboundRequest, Reply, party};
use crate::bubble::{self, escape};
use crate::fates;
use crate::people::Person;
use crate::world::World;

/// Seconds between two looks at the conversation.
const REFRESH_S: u32 = 2;

const STYLE: &str = "*{box-sizing:border-box}body{font:16px/1.45 system-ui,sans-serif;margin:0 auto;max-width:46rem;padding:1rem;background:#efeae2;color:#111b21}\
h1{font-size:1.15rem;margin:.2rem 0}nav a{margin-right:.8rem}iframe{width:100%;height:55vh;border:1px solid #cfc8bd;border-radius:.6rem;background:#fff}\
form{display:flex;gap:.4rem;margin:.5rem 0;flex-wrap:wrap}form.grow input{flex:1}input,button{font:inherit;padding:.4rem .7rem;border:1px solid #b9b2a7;border-radius:.4rem}\
button{background:#00806a;color:#fff;border:0;cursor:pointer}button.plain{background:#fff;color:#111b21;border:1px solid #b9b2a7}\
.state{color:#54656f;font-size:.9rem}.note{background:#fff3c4;padding:.4rem .7rem;border-radius:.4rem}";

/// Whose phone.
#[derive(Debug, Deserialize)]
pub struct Whose {
    /// Her number or BSUID.
    #[serde(default)]
    person: Option<String>,
    /// What came of the last thing she did.
    #[serde(default)]
    note: Option<String>,
}

/// The page.
pub async fn page(State(world): State<Arc<World>>, Query(whose): Query<Whose>) -> Html<String> {
    let mut page = head("A person's phone", None);
    let whose_party = whose.person.as_deref().map(party).filter(|party| !party.is_empty());
    page.push_str("<h1>A person's phone</h1><nav>");
    let state = world.state();
    for known in state.people.parties() {
        let name = state.people.get(known).and_then(|person| person.name.as_deref());
        page.push_str(&format!(
            "<a href=\"/phone?person={}\">{}</a>",
            escape(known),
            escape(name.map_or(known.to_owned(), |name| format!("{name} ({known})")).as_str())
        ));
    }
    page.push_str("</nav>");
    if let Some(note) = whose.note.as_deref().and_then(note_text) {
        page.push_str(&format!("<p class=note role=status>{note}</p>"));
    }
    match whose_party {
        Some(party) => {
            let person = state.people.get(&party).cloned().unwrap_or_default();
            page.push_str(&hers(&party, &person, world.now()));
        }
        None => page.push_str("<p>Take somebody's phone, or invent one:</p>"),
    }
    page.push_str(
        "<form method=get action=/phone class=grow><input name=person required placeholder=\"+33 6 39 98 00 01\" aria-label=\"Her number\"> <button class=plain>Take this phone</button></form></html>",
    );
    Html(page)
}

/// Everything on her own phone.
fn hers(party: &str, person: &Person, now: Timestamp) -> String {
    let mut page = String::new();
    let window = if person.window_open(now) { "open" } else { "closed" };
    let marketing = if person.stopped { "stopped" } else { "on" };
    let who = person.name.as_deref().map_or(party.to_owned(), |name| format!("{name}, {party}"));
    page.push_str(&format!(
        "<p class=state>{} · window {window} · promotions {marketing}{}{}</p>\
         <iframe src=\"/phone/chat?person={party}\" title=Conversation></iframe>",
        escape(&who),
        if person.blocked { " · business blocked" } else { "" },
        if person.off { " · phone off" } else { "" },
    ));
    page.push_str(&form(
        party,
        "write",
        "<input name=text required autofocus autocomplete=off placeholder=Message aria-label=Message> <button>Send</button>",
        "grow",
    ));
    let (act, label) =
        if person.stopped { ("resume", "Resume promotions") } else { ("stop", "Stop promotions") };
    page.push_str(&form(party, act, &format!("<button class=plain>{label}</button>"), ""));
    let (act, label) = if person.blocked {
        ("unblock", "Unblock the business")
    } else {
        ("block", "Block the business")
    };
    page.push_str(&form(party, act, &format!("<button class=plain>{label}</button>"), ""));
    page.push_str(&form(
        party,
        "move",
        "<input name=to required placeholder=\"Her new number\" aria-label=\"Her new number\"> <button class=plain>Change number</button>",
        "grow",
    ));
    if !crate::message::is_bsuid(party) {
        page.push_str(&form(
            party,
            "recycle",
            "<button class=plain>Give the number to somebody else</button>",
            "",
        ));
    }
    page.push_str(&form(
        party,
        "reinstall",
        "<button class=plain>Set up WhatsApp anew</button>",
        "",
    ));
    let (act, label) =
        if person.off { ("on", "Turn the phone on") } else { ("off", "Turn the phone off") };
    page.push_str(&form(party, act, &format!("<button class=plain>{label}</button>"), ""));
    page.push_str(&form(
        party,
        "name",
        "<input name=text required placeholder=\"Her name\" aria-label=\"Her name\"> <button class=plain>Set name</button>",
        "grow",
    ));
    page
}

/// `GET /phone/chat`: the conversation alone, newest at the bottom and in sight.
pub async fn chat(State(world): State<Arc<World>>, Query(whose): Query<Whose>) -> Html<String> {
    let party = party(whose.person.as_deref().unwrap_or_default());
    let mut page = head("Conversation", Some(REFRESH_S));
    page.push_str(bubble::STYLE);
    let state = world.state();
    let lines = bubble::conversation(&world, &state, &party);
    if lines.is_empty() {
        page.push_str("<p class=state>No messages yet.</p></html>");
        return Html(page);
    }
    page.push_str("<ol class=chat>");
    // The list is drawn from its end, so that the newest message is in sight.
    page.extend(lines.into_iter().rev());
    page.push_str("</ol></html>");
    Html(page)
}

/// What the forms send.
#[derive(Debug, Deserialize)]
pub struct Act {
    person: String,
    act: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    reply_to: Option<String>,
    #[serde(default)]
    to: Option<String>,
}

/// `POST /phone/act`: does it, then shows the phone again.
pub async fn act(State(world): State<Arc<World>>, Form(form): Form<Act>) -> Redirect {
    let mut her = party(&form.person);
    if her.is_empty() {
        return Redirect::to("/phone");
    }
    let bsuid = crate::message::is_bsuid(&her);
    let (digits, user_id) =
        if bsuid { (None, Some(her.clone())) } else { (Some(her.clone()), None) };
    let text = form.text.unwrap_or_default();
    let id = form.id.unwrap_or_default();
    let mut request = InboundRequest { reply_to: form.reply_to, ..InboundRequest::default() };
    request.from.clone_from(&digits);
    request.user_id.clone_from(&user_id);
    let mut answered = Some(200);
    match form.act.as_str() {
        "write" => request.text = Some(text),
        "button" => request.button = Some(Button { payload: id, text: Some(text) }),
        "reply" => request.interactive = Some(Reply { id, title: text }),
        "list" => request.list = Some(Reply { id, title: text }),
        "stop" | "resume" => {
            answered = acts::prefer(&world, digits, user_id, form.act == "stop").await;
        }
        "block" => world.state().people.person(&her).blocked = true,
        "unblock" => world.state().people.person(&her).blocked = false,
        "name" => world.state().people.person(&her).name = Some(text),
        "recycle" if !bsuid => fates::goes_on(&world, &her, None),
        "reinstall" => world.state().people.person(&her).installs += 1,
        "off" | "on" => fates::turns(&world, &her, form.act == "off"),
        "move" => {
            let to = party(form.to.as_deref().unwrap_or_default());
            if !to.is_empty() && to != her {
                answered = acts::moves(&world, &her, &to).await;
                her = to;
            }
        }
        _ => {}
    }
    let mut note = if answered == Some(200) { "" } else { "unheard" };
    if matches!(form.act.as_str(), "write" | "button" | "reply" | "list") {
        note = match acts::receive(&world, request).await {
            Ok((_, Some(200))) => "",
            Ok(_) => "unheard",
            Err(_) => "unsent",
        };
    }
    let note = if note.is_empty() { String::new() } else { format!("&note={note}") };
    Redirect::to(&format!("/phone?person={her}{note}"))
}

fn note_text(note: &str) -> Option<&'static str> {
    match note {
        "unheard" => Some("The business's webhook didn't take it yet; it will be told again."),
        "unsent" => Some("Not sent: she blocked the business, or it blocked her."),
        _ => None,
    }
}

fn head(title: &str, refresh_s: Option<u32>) -> String {
    let refresh = refresh_s
        .map(|seconds| format!("<meta http-equiv=refresh content={seconds}>"))
        .unwrap_or_default();
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">{refresh}<title>{title}</title><style>{STYLE}</style>"
    )
}

/// A form that does one thing as this person.
fn form(party: &str, act: &str, inside: &str, class: &str) -> String {
    format!(
        "<form method=post action=/phone/act class=\"{class}\"><input type=hidden name=person value=\"{party}\"><input type=hidden name=act value={act}>{inside}</form>"
    )
}
