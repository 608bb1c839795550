//! What the Cloud API accepts as a message, and the error it gives for everything else. It only
//! looks at the body; tokens, faults, rates and windows are the business of `send`.

use serde_json::Value;

use crate::graph_error::GraphError;
use crate::{content, interactive};

/// Most characters of `biz_opaque_callback_data`.
const CALLBACK_DATA_CHARS_MAX: usize = 512;

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

/// The kinds of message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An approved template.
    Template {
        /// Its name.
        name: String,
        /// Its language code.
        language: String,
        /// What it is sent with.
        given: Given,
    },
    /// An image, a sound, a document, a sticker or a video.
    Media {
        /// Which of these.
        kind: &'static str,
        /// The id of uploaded media; none: a link.
        id: Option<String>,
    },
    /// Everything else free-form.
    Free {
        /// Its type: `text`, `interactive`, `location`, `contacts`, `reaction`.
        kind: &'static str,
    },
}

/// What a template is sent with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The header's parameters.
    pub header: Vec<Parameter>,
    /// The body's parameters.
    pub body: Vec<Parameter>,
    /// The buttons' parameters.
    pub buttons: Vec<GivenButton>,
}

/// A parameter of a header or a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `text`, `currency`, `date_time`, `image`, `video`, `document` or `location`.
    pub kind: String,
    /// Its name, where the template's parameters have names.
    pub name: Option<String>,
    /// What is put in its place; of a file its id, or nothing where it has a link.
    pub text: String,
}

impl Parameter {
    /// Whether it is a file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind.as_str(), "image" | "video" | "document")
    }
}

/// A button's parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenButton {
    /// Which button, from 0.
    pub index: usize,
    /// `quick_reply`, `url`, `copy_code`, ….
    pub sub_type: String,
    /// The payload or the end of the address.
    pub value: String,
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

    /// Its type, as the Cloud API calls it.
    pub fn kind(&self) -> &'static str {
        match &self.content {
            Content::Template { .. } => "template",
            Content::Media { kind, .. } | Content::Free { kind } => kind,
        }
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
    let kind = string(body, "type").unwrap_or("text");
    let content = match kind {
        "template" => template(&body["template"])?,
        "interactive" => interactive::parse(&body["interactive"])?,
        _ => content::parse(kind, &body[kind])?,
    };
    if !body["context"].is_null() && string(&body["context"], "message_id").is_none() {
        return Err(missing("context.message_id"));
    }
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
    let mut given = Given::default();
    for component in template["components"].as_array().into_iter().flatten() {
        let parameters = component["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let kind = string(component, "type").unwrap_or_default().to_ascii_lowercase();
        let read = parameters.iter().map(parameter).collect::<Result<Vec<_>, _>>()?;
        match kind.as_str() {
            "body" => given.body.extend(read),
            "header" => given.header.extend(read),
            "button" => given.buttons.push(button(component, read)?),
            "carousel" | "limited_time_offer" => {}
            other => return Err(invalid("components.type", &format!("{other:?} is unknown"))),
        }
    }
    Ok(Content::Template { name: name.into(), language: language.into(), given })
}

fn button(component: &Value, read: Vec<Parameter>) -> Result<GivenButton, GraphError> {
    let sub_type = string(component, "sub_type").unwrap_or_default().to_ascii_lowercase();
    if !matches!(
        sub_type.as_str(),
        "quick_reply" | "url" | "copy_code" | "catalog" | "mpm" | "flow" | "voice_call"
    ) {
        return Err(invalid("components.sub_type", "must be quick_reply or url"));
    }
    let index = match &component["index"] {
        Value::String(index) => index.parse().ok(),
        Value::Number(index) => index.as_u64().and_then(|index| usize::try_from(index).ok()),
        Value::Null => return Err(missing("components.index")),
        _ => None,
    };
    let index = index.filter(|index| *index < 10);
    let index = index.ok_or_else(|| invalid("components.index", "must be 0 to 9"))?;
    let value = read.into_iter().next().map(|it| it.text).unwrap_or_default();
    Ok(GivenButton { index, sub_type, value })
}

fn parameter(parameter: &Value) -> Result<Parameter, GraphError> {
    let kind = string(parameter, "type").ok_or_else(|| missing("parameters.type"))?;
    let text = match kind.to_ascii_lowercase().as_str() {
        kind @ ("text" | "payload" | "coupon_code") => string(parameter, kind)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| missing(&format!("parameters.{kind}")))?,
        kind @ ("currency" | "date_time") => string(&parameter[kind], "fallback_value")
            .ok_or_else(|| missing(&format!("parameters.{kind}.fallback_value")))?,
        kind @ ("image" | "video" | "document" | "location") => {
            let part = &parameter[kind];
            let (id, link) = (string(part, "id"), string(part, "link"));
            if !part.is_object() || (kind != "location" && id.is_none() && link.is_none()) {
                return Err(missing(&format!("parameters.{kind}")));
            }
            id.unwrap_or_default()
        }
        "action" | "product" => "",
        other => return Err(GraphError::new(132_012, format!("parameter type {other:?}"))),
    };
    Ok(Parameter {
        kind: kind.to_ascii_lowercase(),
        name: string(parameter, "parameter_name").map(str::to_owned),
        text: text.to_owned(),
    })
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

/// A member that is a string.
pub fn string<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// A member is missing (131008).
pub fn missing(parameter: &str) -> GraphError {
    GraphError::new(131_008, format!("Required parameter is missing: {parameter}"))
}

/// A member has a value that it may not have (131009).
pub fn invalid(parameter: &str, why: &str) -> GraphError {
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
        assert_eq!(code(json!({"messaging_product": "sms"})), 131_008);
        assert_eq!(code(json!({"context": {}})), 131_008);
    }

    #[test]
    fn a_template_needs_name_language_and_whole_parameters() {
        let template = |template: Value| json!({"type": "template", "template": template});
        let whole = send(template(
            json!({"name": "news", "language": {"code": "fr"}, "components": [
            {"type": "body", "parameters": [{"type": "text", "text": "Ana"}]},
            {"type": "button", "sub_type": "quick_reply", "index": "0", "parameters": [{"type": "payload", "payload": "stop"}]}]}),
        ));
        let Content::Template { name, language, given } = whole.unwrap().content else { panic!() };
        assert_eq!((name.as_str(), language.as_str(), given.body.len()), ("news", "fr", 1));
        assert_eq!(given.buttons[0].value, "stop");
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
