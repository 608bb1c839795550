//! A message template as Meta keeps it, and what a send must bring to it. It decides only; who asks
//! for what, and which webhooks follow, is the business of `templates` and `review`.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::graph_error::GraphError;
use crate::message::{Given, Parameter};

/// Most characters of a body once its parameters are filled in.
const HYDRATED_CHARS_MAX: usize = 1024;
/// How long the first and the second pause for low quality last; the third time disables.
pub const PAUSES: [SignedDuration; 2] =
    [SignedDuration::from_hours(3), SignedDuration::from_hours(6)];
/// How long pacing holds messages back when no feedback comes.
pub const PACING_MAX: SignedDuration = SignedDuration::from_hours(1);

/// A template in one language.
#[derive(Debug, Clone)]
pub struct Template {
    /// Its id.
    pub id: String,
    /// Its name, shared by its languages.
    pub name: String,
    /// Its language code.
    pub language: String,
    /// `MARKETING`, `UTILITY` or `AUTHENTICATION`.
    pub category: String,
    /// The category before Meta changed it.
    pub previous_category: Option<String>,
    /// The category that Meta will give it, and when.
    pub correct_category: Option<(String, Timestamp)>,
    /// `APPROVED`, `PENDING`, `REJECTED`, `PAUSED`, `DISABLED`, ….
    pub status: String,
    /// Why it was rejected.
    pub rejected_reason: Option<String>,
    /// Its components as they were given.
    pub components: Vec<Value>,
    /// Whether its parameters have names instead of numbers.
    pub named: bool,
    /// `message_send_ttl_seconds`.
    pub ttl_s: Option<i64>,
    /// `GREEN`, `YELLOW`, `RED` or `UNKNOWN`, and since when.
    pub quality: (String, Timestamp),
    /// How often it was paused for its quality.
    pub pauses: usize,
    /// When its pause ends.
    pub paused_until: Option<Timestamp>,
    /// When it was edited while approved.
    pub edits: Vec<Timestamp>,
    /// Pacing, where it is being paced.
    pub pacing: Option<Pacing>,
    /// Whether nobody made it: it exists because it was sent, and takes whatever parameters come.
    pub adopted: bool,
}

/// Messages go out until the threshold; the rest is held until the template's quality is known.
#[derive(Debug, Clone, Default)]
pub struct Pacing {
    /// Messages that still go out.
    pub left: u64,
    /// Messages held back, by wamid.
    pub held: Vec<String>,
    /// When the first was held.
    pub since: Option<Timestamp>,
}

impl Template {
    /// One that exists because it was sent.
    pub fn adopted(id: String, name: &str, language: &str, now: Timestamp) -> Self {
        Self {
            id,
            name: name.to_owned(),
            language: language.to_owned(),
            category: "MARKETING".to_owned(),
            previous_category: None,
            correct_category: None,
            status: "APPROVED".to_owned(),
            rejected_reason: None,
            components: vec![json!({"type": "BODY", "text": format!("[{name}]")})],
            named: false,
            ttl_s: None,
            quality: ("UNKNOWN".to_owned(), now),
            pauses: 0,
            paused_until: None,
            edits: Vec::new(),
            pacing: None,
            adopted: true,
        }
    }

    /// The template as the Graph API shows it.
    pub fn node(&self) -> Value {
        let (score, since) = &self.quality;
        let mut node = json!({
            "id": self.id,
            "name": self.name,
            "language": self.language,
            "category": self.category,
            "status": self.status,
            "components": self.components,
            "parameter_format": if self.named { "NAMED" } else { "POSITIONAL" },
            "quality_score": {"score": score, "date": since.as_second()},
            "rejected_reason": self.rejected_reason.as_deref().unwrap_or("NONE"),
        });
        if let Some(category) = &self.previous_category {
            node["previous_category"] = json!(category);
        }
        if let Some((category, _)) = &self.correct_category {
            node["correct_category"] = json!(category);
        }
        if let Some(seconds) = self.ttl_s {
            node["message_send_ttl_seconds"] = json!(seconds);
        }
        node
    }

    /// The first component of a type.
    pub fn component(&self, kind: &str) -> Option<&Value> {
        self.components
            .iter()
            .find(|it| it["type"].as_str().is_some_and(|it| it.eq_ignore_ascii_case(kind)))
    }

    /// Its buttons, in order.
    pub fn buttons(&self) -> &[Value] {
        let buttons = self.component("BUTTONS").and_then(|it| it["buttons"].as_array());
        buttons.map_or(&[], Vec::as_slice)
    }

    /// Whether it may be sent with these parameters.
    pub fn accepts(&self, given: &Given) -> Result<(), GraphError> {
        match self.status.as_str() {
            "APPROVED" => {}
            "PAUSED" => {
                return Err(GraphError::new(
                    132_015,
                    "Template is paused due to low quality so it cannot be sent in a template message.",
                ));
            }
            "DISABLED" => {
                return Err(GraphError::new(
                    132_016,
                    "Template has been paused too many times due to low quality and is now permanently disabled.",
                ));
            }
            _ => return Err(missing(&self.name, &self.language)),
        }
        if self.adopted {
            return Ok(());
        }
        self.header_takes(&given.header)?;
        let body = self.component("BODY").and_then(|it| it["text"].as_str()).unwrap_or_default();
        let filled = fill("body", body, self.named, &given.body)?;
        if filled.chars().count() > HYDRATED_CHARS_MAX {
            return Err(GraphError::new(132_005, "Translated text is too long"));
        }
        self.buttons_take(given)
    }

    fn header_takes(&self, given: &[Parameter]) -> Result<(), GraphError> {
        let header = self.component("HEADER").unwrap_or(&Value::Null);
        let format = header["format"].as_str().unwrap_or_default().to_ascii_uppercase();
        match format.as_str() {
            "" | "TEXT" => {
                let text = header["text"].as_str().unwrap_or_default();
                fill("header", text, self.named, given).map(drop)
            }
            _ => {
                let kind = given.first().map_or("UNKNOWN", |it| it.kind.as_str());
                if kind.eq_ignore_ascii_case(&format) {
                    return Ok(());
                }
                Err(GraphError::new(
                    132_012,
                    format!(
                        "header: Format mismatch, expected {format}, received {}",
                        kind.to_ascii_uppercase()
                    ),
                ))
            }
        }
    }

    fn buttons_take(&self, given: &Given) -> Result<(), GraphError> {
        let buttons = self.buttons();
        for button in &given.buttons {
            let kind = buttons.get(button.index).and_then(|it| it["type"].as_str());
            if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(&button.sub_type)) {
                return Err(GraphError::new(
                    132_012,
                    format!(
                        "button: Button at index {} is not of type {}",
                        button.index, button.sub_type
                    ),
                ));
            }
        }
        for (index, button) in buttons.iter().enumerate() {
            let open = button["url"].as_str().is_some_and(|url| !places(url, false).is_empty());
            if open && !given.buttons.iter().any(|it| it.index == index) {
                return Err(GraphError::new(
                    131_008,
                    format!("buttons: Button at index {index} of type Url requires a parameter"),
                ));
            }
        }
        Ok(())
    }
}

/// A template that doesn't exist, or isn't approved.
pub fn missing(name: &str, language: &str) -> GraphError {
    GraphError::new(132_001, format!("template name ({name}) does not exist in {language}"))
}

/// The text with its parameters in place, or why they don't fit.
pub fn fill(
    part: &str,
    text: &str,
    named: bool,
    given: &[Parameter],
) -> Result<String, GraphError> {
    let wanted = places(text, named);
    if wanted.len() != given.len() {
        return Err(GraphError::new(
            132_000,
            format!(
                "{part}: number of localizable_params ({}) does not match the expected number of params ({})",
                given.len(),
                wanted.len()
            ),
        ));
    }
    let mut filled = text.to_owned();
    for (at, parameter) in given.iter().enumerate() {
        if !matches!(parameter.kind.as_str(), "text" | "currency" | "date_time") {
            return Err(GraphError::new(
                132_012,
                format!("{part}: Parameter format does not match format in the created template"),
            ));
        }
        let place = if named {
            parameter.name.clone().filter(|name| wanted.contains(name))
        } else {
            Some((at + 1).to_string())
        };
        let place = place.ok_or_else(|| {
            GraphError::new(132_012, format!("{part}: Parameter name is missing or not known"))
        })?;
        filled = filled.replace(&format!("{{{{{place}}}}}"), &parameter.text);
    }
    Ok(filled)
}

/// The placeholders of a text: numbers, or names where `named`.
pub fn places(text: &str, named: bool) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((place, after)) = after.split_once("}}") else { break };
        let number = !place.is_empty() && place.bytes().all(|c| c.is_ascii_digit());
        let name = place.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_');
        if (named && name && !place.is_empty()) || (!named && number) {
            places.insert(place.to_owned());
        }
        rest = after;
    }
    places
}

/// Why Meta would not take this as a template's components; the subcode and words are Meta's.
pub fn faulty(components: &[Value], named: bool) -> Option<GraphError> {
    let fault = |subcode, title: &'static str, details: String| {
        Some(GraphError::of_management(subcode, title, details))
    };
    let mut body_seen = false;
    for component in components {
        let kind = component["type"].as_str().unwrap_or_default().to_ascii_uppercase();
        let text = component["text"].as_str().unwrap_or_default();
        let (name, chars_max, subcode) = match kind.as_str() {
            "BODY" => {
                body_seen = true;
                ("body", 1024, 2_388_072)
            }
            "HEADER" => ("header", 60, 2_388_047),
            "FOOTER" => ("footer", 60, 2_388_073),
            "BUTTONS" => {
                if let Some(fault) = faulty_buttons(component) {
                    return Some(fault);
                }
                continue;
            }
            "CAROUSEL" | "LIMITED_TIME_OFFER" | "CALL_PERMISSION_REQUEST" => continue,
            _ => return Some(GraphError::new(100, format!("Unknown component type {kind:?}"))),
        };
        if text.chars().count() > chars_max {
            let details = format!("The {name} has more than {chars_max} characters.");
            return fault(2_388_040, "Character limit exceeded", details);
        }
        if kind == "BODY"
            && (text.trim().is_empty() && component.get("add_security_recommendation").is_none())
        {
            let details = "The body must have text.".to_owned();
            return fault(subcode, "Message body format is incorrect", details);
        }
        let places = places(text, named);
        if kind == "FOOTER" && !places.is_empty() {
            let details = "The footer can't have variables.".to_owned();
            return fault(subcode, "Message footer format is incorrect", details);
        }
        if kind == "HEADER" && places.len() > 1 {
            let details = "The header can have one variable only.".to_owned();
            return fault(subcode, "Message header format is incorrect", details);
        }
        let edge = text.trim();
        if kind == "BODY" && (edge.starts_with("{{") || edge.ends_with("}}")) {
            let details = "Variables can't be at the start or end of the template.".to_owned();
            return fault(2_388_299, "Leading or trailing params not allowed", details);
        }
        if !places.is_empty() && component["example"].is_null() {
            let details = format!("The {name} has variables but no example of them.");
            return fault(2_388_043, "Message template is missing expected field(s)", details);
        }
    }
    if body_seen {
        None
    } else {
        let details = "A template needs a body.".to_owned();
        fault(2_388_043, "Message template is missing expected field(s)", details)
    }
}

fn faulty_buttons(component: &Value) -> Option<GraphError> {
    let buttons = component["buttons"].as_array().map_or(&[][..], Vec::as_slice);
    if buttons.is_empty() || buttons.len() > 10 {
        return Some(GraphError::new(100, "A template has 1 to 10 buttons"));
    }
    let long =
        buttons.iter().any(|it| it["text"].as_str().unwrap_or_default().chars().count() > 25);
    long.then(|| {
        GraphError::of_management(
            2_388_040,
            "Character limit exceeded",
            "A button has more than 25 characters.".to_owned(),
        )
    })
}

/// The components of a template whose body takes this many parameters.
pub fn plain_components(parameters: usize) -> Vec<Value> {
    let places: Vec<String> = (1..=parameters).map(|at| format!("{{{{{at}}}}}")).collect();
    vec![json!({"type": "BODY", "text": format!("Hello {}.", places.join(", "))})]
}

/// A value of a creation or an edit.
pub fn text_of<'a>(body: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::GivenButton;

    fn template(components: Value) -> Template {
        let mut template = Template::adopted("1".into(), "news", "fr", Timestamp::UNIX_EPOCH);
        template.adopted = false;
        template.components = components.as_array().unwrap().clone();
        template
    }

    fn text(text: &str) -> Parameter {
        Parameter { kind: "text".into(), name: None, text: text.into() }
    }

    fn code(template: &Template, given: &Given) -> i64 {
        template.accepts(given).unwrap_err().code
    }

    #[test]
    fn a_send_brings_what_the_template_has_places_for() {
        let template = template(json!([
            {"type": "HEADER", "format": "IMAGE"},
            {"type": "BODY", "text": "Hello {{1}}, {{2}} is open."},
            {"type": "BUTTONS", "buttons": [
                {"type": "QUICK_REPLY", "text": "Stop"},
                {"type": "URL", "text": "See", "url": "https://shop.example/{{1}}"}]},
        ]));
        let image = Parameter { kind: "image".into(), name: None, text: String::new() };
        let url = GivenButton { index: 1, sub_type: "url".into(), value: "a".into() };
        let whole = Given {
            header: vec![image],
            body: vec![text("Ana"), text("the shop")],
            buttons: vec![url],
        };
        template.accepts(&whole).unwrap();
        assert_eq!(code(&template, &Given { body: vec![text("Ana")], ..whole.clone() }), 132_000);
        assert_eq!(code(&template, &Given { header: vec![], ..whole.clone() }), 132_012);
        assert_eq!(code(&template, &Given { buttons: vec![], ..whole.clone() }), 131_008);
        let reply = GivenButton { index: 1, sub_type: "quick_reply".into(), value: "x".into() };
        assert_eq!(code(&template, &Given { buttons: vec![reply], ..whole.clone() }), 132_012);
        let long = vec![text("Ana"), text(&"x".repeat(1024))];
        assert_eq!(code(&template, &Given { body: long, ..whole }), 132_005);
    }

    #[test]
    fn named_places_are_filled_by_name() {
        let mut template = template(json!([{"type": "BODY", "text": "Hello {{first_name}}!"}]));
        template.named = true;
        let named = |name: &str| Given {
            body: vec![Parameter { name: Some(name.into()), ..text("Ana") }],
            ..Given::default()
        };
        template.accepts(&named("first_name")).unwrap();
        assert_eq!(code(&template, &named("last_name")), 132_012);
    }

    #[test]
    fn a_template_that_may_not_be_sent_says_why() {
        let mut template = template(json!([{"type": "BODY", "text": "Hello"}]));
        for (status, expected) in [
            ("PAUSED", 132_015),
            ("DISABLED", 132_016),
            ("PENDING", 132_001),
            ("REJECTED", 132_001),
        ] {
            template.status = status.to_owned();
            assert_eq!(code(&template, &Given::default()), expected, "{status}");
        }
    }

    #[test]
    fn faults_of_a_new_template_have_metas_subcodes() {
        let subcode = |components: Value| {
            faulty(components.as_array().unwrap(), false).map(|it| it.subcode.unwrap_or_default())
        };
        assert_eq!(subcode(json!([{"type": "BODY", "text": "Hello"}])), None);
        assert_eq!(subcode(json!([{"type": "FOOTER", "text": "Bye"}])), Some(2_388_043));
        assert_eq!(subcode(json!([{"type": "BODY", "text": "x".repeat(1025)}])), Some(2_388_040));
        assert_eq!(
            subcode(json!([{"type": "BODY", "text": "Hello {{1}}", "example": {}}])),
            Some(2_388_299)
        );
        assert_eq!(subcode(json!([{"type": "BODY", "text": "Hello {{1}}."}])), Some(2_388_043));
        assert_eq!(
            subcode(
                json!([{"type": "BODY", "text": "Hello"}, {"type": "FOOTER", "text": "{{1}}"}])
            ),
            Some(2_388_073)
        );
    }
}
