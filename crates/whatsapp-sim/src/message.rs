//! What the Cloud API accepts as a message, and the error it gives for everything else. It only
//! looks at the body; tokens, faults, rates and windows are the business of `send`.

use serde_json::Value;

use crate::graph_error::GraphError;

/// Most characters of `biz_opaque_callback_data`.
const CALLBACK_DATA_CHARS_MAX: usize = 512;
/// Most characters of a text body.
const TEXT_CHARS_MAX: usize = 4096;
/// Most characters of an interactive body.
const INTERACTIVE_CHARS_MAX: usize = 1024;

/// A message that is well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `to` as given.
    pub to: Option<String>,
    /// The BSUID of `recipient`, which counts only without `to`.
    pub user_id: Option<String>,
    /// The digits that Meta would send to; without `+` the business's country code is put in front.
    pub digits: Option<String>,
    /// What kind of message.
    pub content: Content,
    /// `biz_opaque_callback_data`.
    pub callback_data: Option<String>,
}

/// The kinds that the simulator knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An approved template.
    Template {
        /// Its name.
        name: String,
        /// Its language code.
        language: String,
        /// How many parameters its body is given.
        body_parameters: usize,
    },
    /// Free text.
    Text,
    /// Free text with reply buttons.
    Interactive,
}

impl Message {
    /// Who is meant: digits, or else the BSUID.
    pub fn party(&self) -> &str {
        self.digits.as_deref().or(self.user_id.as_deref()).unwrap_or_default()
    }

    /// Whether it may be sent outside the 24-hour window.
    pub fn opens_conversation(&self) -> bool {
        matches!(self.content, Content::Template { .. })
    }
}

/// Reads a message as Meta would. `country_code` is the business's own.
pub fn parse(body: &Value, country_code: &str) -> Result<Message, GraphError> {
    if !body.is_object() {
        return Err(GraphError::new(100, "The request body is not a JSON object"));
    }
    if string(body, "messaging_product") != Some("whatsapp") {
        return Err(missing("messaging_product"));
    }
    if let Some(kind) = string(body, "recipient_type")
        && kind != "individual"
    {
        return Err(invalid("recipient_type", "must be individual"));
    }
    let to = string(body, "to").filter(|to| !to.is_empty()).map(str::to_owned);
    let user_id = string(body, "recipient").filter(|id| !id.is_empty()).map(str::to_owned);
    let digits = to.as_deref().map(|to| digits(to, country_code)).transpose()?;
    match (&digits, &user_id) {
        (None, None) => return Err(missing("to")),
        (None, Some(id)) if !is_bsuid(id) => return Err(invalid("recipient", "is not a BSUID")),
        _ => {}
    }
    let callback_data = string(body, "biz_opaque_callback_data").map(str::to_owned);
    if callback_data.as_ref().is_some_and(|data| data.chars().count() > CALLBACK_DATA_CHARS_MAX) {
        return Err(invalid("biz_opaque_callback_data", "is longer than 512 characters"));
    }
    let content = match string(body, "type").unwrap_or("text") {
        "template" => template(&body["template"])?,
        "text" => text(&body["text"])?,
        "interactive" => interactive(&body["interactive"])?,
        other => return Err(GraphError::new(131_051, format!("Unsupported message type {other}"))),
    };
    Ok(Message {
        to,
        user_id: user_id.filter(|_| digits.is_none()),
        digits,
        content,
        callback_data,
    })
}

fn template(template: &Value) -> Result<Content, GraphError> {
    let name = string(template, "name").ok_or_else(|| missing("template.name"))?;
    let language =
        string(&template["language"], "code").ok_or_else(|| missing("template.language.code"))?;
    let mut body_parameters = 0;
    for component in template["components"].as_array().into_iter().flatten() {
        let parameters = component["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        match string(component, "type").unwrap_or_default() {
            "body" => body_parameters += parameters.len(),
            "header" => {}
            "button" => {
                if !matches!(string(component, "sub_type"), Some("quick_reply" | "url")) {
                    return Err(invalid("components.sub_type", "must be quick_reply or url"));
                }
                if component["index"].is_null() {
                    return Err(missing("components.index"));
                }
            }
            other => return Err(invalid("components.type", &format!("{other:?} is unknown"))),
        }
        for parameter in parameters {
            let kind = string(parameter, "type").ok_or_else(|| missing("parameters.type"))?;
            match kind {
                "text" | "payload" if string(parameter, kind).is_none_or(str::is_empty) => {
                    return Err(missing(&format!("parameters.{kind}")));
                }
                "text" | "payload" | "image" => {}
                other => {
                    return Err(GraphError::new(132_012, format!("parameter type {other:?}")));
                }
            }
        }
    }
    Ok(Content::Template { name: name.into(), language: language.into(), body_parameters })
}

fn text(text: &Value) -> Result<Content, GraphError> {
    let body = string(text, "body").ok_or_else(|| missing("text.body"))?;
    if body.is_empty() || body.chars().count() > TEXT_CHARS_MAX {
        return Err(invalid("text.body", "must have 1 to 4096 characters"));
    }
    Ok(Content::Text)
}

fn interactive(interactive: &Value) -> Result<Content, GraphError> {
    if string(interactive, "type") != Some("button") {
        return Err(invalid("interactive.type", "the simulator knows only button"));
    }
    let body =
        string(&interactive["body"], "text").ok_or_else(|| missing("interactive.body.text"))?;
    if body.is_empty() || body.chars().count() > INTERACTIVE_CHARS_MAX {
        return Err(invalid("interactive.body.text", "must have 1 to 1024 characters"));
    }
    let buttons = interactive["action"]["buttons"]
        .as_array()
        .ok_or_else(|| missing("interactive.action.buttons"))?;
    if buttons.is_empty() || buttons.len() > 3 {
        return Err(invalid("interactive.action.buttons", "must be 1 to 3"));
    }
    for button in buttons {
        let id = string(&button["reply"], "id").ok_or_else(|| missing("buttons.reply.id"))?;
        let title =
            string(&button["reply"], "title").ok_or_else(|| missing("buttons.reply.title"))?;
        if id.is_empty() || id.chars().count() > 256 {
            return Err(invalid("buttons.reply.id", "must have 1 to 256 characters"));
        }
        if title.is_empty() || title.chars().count() > 20 {
            return Err(invalid("buttons.reply.title", "must have 1 to 20 characters"));
        }
    }
    Ok(Content::Interactive)
}

/// The digits that a `to` means.
fn digits(to: &str, country_code: &str) -> Result<String, GraphError> {
    let digits: String = to.chars().filter(char::is_ascii_digit).collect();
    let strange = to
        .chars()
        .enumerate()
        .any(|(at, c)| !(c.is_ascii_digit() || " -()".contains(c) || (c == '+' && at == 0)));
    if strange || !(5..=20).contains(&digits.len()) {
        return Err(invalid("to", "is not a phone number"));
    }
    if to.starts_with('+') { Ok(digits) } else { Ok(format!("{country_code}{digits}")) }
}

/// `CC.` and up to 128 alphanumerics; the parent form has `ENT.` between.
pub fn is_bsuid(id: &str) -> bool {
    let Some((country, rest)) = id.split_once('.') else { return false };
    let rest = rest.strip_prefix("ENT.").unwrap_or(rest);
    country.len() == 2
        && country.bytes().all(|c| c.is_ascii_uppercase())
        && (1..=128).contains(&rest.len())
        && rest.bytes().all(|c| c.is_ascii_alphanumeric())
}

fn string<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn missing(parameter: &str) -> GraphError {
    GraphError::new(131_008, format!("Required parameter is missing: {parameter}"))
}

fn invalid(parameter: &str, why: &str) -> GraphError {
    GraphError::new(131_009, format!("Parameter value is not valid: {parameter} {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn send(more: Value) -> Result<Message, GraphError> {
        let mut body = json!({"messaging_product": "whatsapp", "to": "+33612345678", "type": "text", "text": {"body": "hello"}});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        parse(&body, "33")
    }

    fn code(more: Value) -> i64 {
        send(more).unwrap_err().code
    }

    #[test]
    fn without_its_plus_a_number_gets_the_businesss_country_code() {
        assert_eq!(send(json!({"to": "+1 (650) 555-1234"})).unwrap().party(), "16505551234");
        assert_eq!(send(json!({"to": "16505551234"})).unwrap().party(), "3316505551234");
    }

    #[test]
    fn a_bsuid_is_a_recipient_and_to_wins_over_it() {
        let only = send(json!({"to": "", "recipient": "US.13491208655302741918"})).unwrap();
        assert_eq!(only.party(), "US.13491208655302741918");
        let both = send(json!({"recipient": "US.13491208655302741918"})).unwrap();
        assert_eq!((both.party(), &both.user_id), ("33612345678", &None));
        assert_eq!(code(json!({"to": "", "recipient": "13491208655302741918"})), 131_009);
        assert_eq!(code(json!({"to": ""})), 131_008);
    }

    #[test]
    fn limits_are_metas() {
        assert_eq!(code(json!({"biz_opaque_callback_data": "x".repeat(513)})), 131_009);
        assert_eq!(code(json!({"text": {"body": "x".repeat(4097)}})), 131_009);
        assert_eq!(code(json!({"messaging_product": "sms"})), 131_008);
        assert_eq!(code(json!({"type": "carrier_pigeon"})), 131_051);
        let button = json!({"type": "reply", "reply": {"id": "1", "title": "Yes"}});
        let interactive = |buttons: Vec<Value>| json!({"type": "interactive", "interactive": {"type": "button", "body": {"text": "?"}, "action": {"buttons": buttons}}});
        assert!(send(interactive(vec![button.clone(); 3])).is_ok());
        assert_eq!(code(interactive(vec![button; 4])), 131_009);
        let long = json!({"type": "reply", "reply": {"id": "1", "title": "x".repeat(21)}});
        assert_eq!(code(interactive(vec![long])), 131_009);
    }

    #[test]
    fn a_template_needs_name_language_and_whole_parameters() {
        let template = |template: Value| json!({"type": "template", "template": template});
        let whole = send(template(
            json!({"name": "news", "language": {"code": "fr"}, "components": [
            {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]},
            {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "stop"}]}]}),
        ));
        assert_eq!(
            whole.unwrap().content,
            Content::Template { name: "news".into(), language: "fr".into(), body_parameters: 1 }
        );
        assert_eq!(code(template(json!({"name": "news"}))), 131_008);
        assert_eq!(
            code(template(
                json!({"name": "news", "language": {"code": "fr"}, "components": [{"type": "body", "parameters": [{"type": "text", "text": ""}]}]})
            )),
            131_008
        );
        assert_eq!(
            code(template(
                json!({"name": "news", "language": {"code": "fr"}, "components": [{"type": "button", "sub_type": "quick_reply"}]})
            )),
            131_008
        );
    }
}
