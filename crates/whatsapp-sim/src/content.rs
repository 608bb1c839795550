//! Free-form messages other than interactive ones: text, media, locations, contacts, reactions, each
//! with Meta's limits.

use serde_json::Value;

use crate::graph_error::GraphError;
use crate::message::{Content, invalid, missing, string};

/// Most characters of a text body.
const TEXT_CHARS_MAX: usize = 4096;
/// Most characters of a caption.
const CAPTION_CHARS_MAX: usize = 1024;
/// Most characters of a document's file name.
const FILENAME_CHARS_MAX: usize = 240;
/// Most contact cards of a message.
const CONTACTS_MAX: usize = 257;

/// Reads the part of a message that its type names.
pub fn parse(kind: &str, part: &Value) -> Result<Content, GraphError> {
    match kind {
        "text" => text(part),
        "image" => media("image", part),
        "audio" => media("audio", part),
        "document" => media("document", part),
        "sticker" => media("sticker", part),
        "video" => media("video", part),
        "location" => location(part),
        "contacts" => contacts(part),
        "reaction" => reaction(part),
        other => Err(GraphError::new(131_051, format!("Unsupported message type {other}"))),
    }
}

fn text(text: &Value) -> Result<Content, GraphError> {
    let body = string(text, "body").ok_or_else(|| missing("text.body"))?;
    if body.is_empty() || body.chars().count() > TEXT_CHARS_MAX {
        return Err(invalid("text.body", "must have 1 to 4096 characters"));
    }
    Ok(Content::Free { kind: "text" })
}

fn media(kind: &'static str, media: &Value) -> Result<Content, GraphError> {
    let id = string(media, "id").filter(|id| !id.is_empty()).map(str::to_owned);
    let link = string(media, "link").filter(|link| !link.is_empty());
    match (&id, link) {
        (None, None) => return Err(missing(&format!("{kind}.id or {kind}.link"))),
        (None, Some(link)) if !link.starts_with("https://") && !link.starts_with("http://") => {
            return Err(invalid(&format!("{kind}.link"), "is not an HTTP or HTTPS address"));
        }
        _ => {}
    }
    if let Some(caption) = string(media, "caption") {
        if matches!(kind, "audio" | "sticker") {
            return Err(GraphError::new(
                100,
                format!("Unexpected key \"caption\" on param \"{kind}\"."),
            ));
        }
        if caption.chars().count() > CAPTION_CHARS_MAX {
            return Err(invalid(&format!("{kind}.caption"), "is longer than 1024 characters"));
        }
    }
    if let Some(name) = string(media, "filename") {
        if kind != "document" {
            return Err(GraphError::new(
                100,
                format!("Unexpected key \"filename\" on param \"{kind}\"."),
            ));
        }
        if name.chars().count() > FILENAME_CHARS_MAX {
            return Err(invalid("document.filename", "is longer than 240 characters"));
        }
    }
    Ok(Content::Media { kind, id })
}

fn location(location: &Value) -> Result<Content, GraphError> {
    for (name, most) in [("latitude", 90.0), ("longitude", 180.0)] {
        let value = match &location[name] {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => return Err(missing(&format!("location.{name}"))),
        };
        if !value.is_some_and(|value: f64| value.abs() <= most) {
            return Err(invalid(&format!("location.{name}"), "is not a coordinate"));
        }
    }
    Ok(Content::Free { kind: "location" })
}

fn contacts(contacts: &Value) -> Result<Content, GraphError> {
    let contacts =
        contacts.as_array().filter(|it| !it.is_empty()).ok_or_else(|| missing("contacts"))?;
    if contacts.len() > CONTACTS_MAX {
        return Err(invalid("contacts", "has more than 257 entries"));
    }
    for contact in contacts {
        let name = &contact["name"];
        string(name, "formatted_name").ok_or_else(|| missing("contacts.name.formatted_name"))?;
        let parts = ["first_name", "last_name", "middle_name", "suffix", "prefix"];
        if !parts.iter().any(|part| string(name, part).is_some()) {
            return Err(missing("contacts.name.first_name"));
        }
    }
    Ok(Content::Free { kind: "contacts" })
}

fn reaction(reaction: &Value) -> Result<Content, GraphError> {
    let id = string(reaction, "message_id").ok_or_else(|| missing("reaction.message_id"))?;
    if !id.starts_with("wamid.") {
        return Err(invalid("reaction.message_id", "is not a message id"));
    }
    // An empty emoji takes the reaction away.
    let emoji = string(reaction, "emoji").ok_or_else(|| missing("reaction.emoji"))?;
    if emoji.chars().count() > 16 {
        return Err(invalid("reaction.emoji", "must be one emoji"));
    }
    Ok(Content::Free { kind: "reaction" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(kind: &str, part: Value) -> i64 {
        parse(kind, &part).unwrap_err().code
    }

    #[test]
    fn each_type_has_metas_limits() {
        assert_eq!(code("text", json!({"body": "x".repeat(4097)})), 131_009);
        assert_eq!(code("carrier_pigeon", json!({})), 131_051);
        assert_eq!(code("image", json!({})), 131_008);
        assert_eq!(code("image", json!({"link": "ftp://shop.example/a.png"})), 131_009);
        assert_eq!(code("image", json!({"id": "1", "caption": "x".repeat(1025)})), 131_009);
        assert_eq!(code("audio", json!({"id": "1", "caption": "x"})), 100);
        assert_eq!(code("location", json!({"latitude": 91, "longitude": 0})), 131_009);
        assert_eq!(code("contacts", json!([])), 131_008);
        assert_eq!(code("contacts", json!([{"name": {"formatted_name": "Ana"}}])), 131_008);
        assert_eq!(code("reaction", json!({"message_id": "1", "emoji": "👍"})), 131_009);
        let part = json!({"latitude": "48.85", "longitude": 2.35, "name": "The shop"});
        assert_eq!(parse("location", &part).unwrap(), Content::Free { kind: "location" });
        parse("reaction", &json!({"message_id": "wamid.x", "emoji": ""})).unwrap();
        let id = Some("1".to_owned());
        let document = parse("document", &json!({"id": "1", "filename": "terms.pdf"})).unwrap();
        assert_eq!(document, Content::Media { kind: "document", id });
    }
}
