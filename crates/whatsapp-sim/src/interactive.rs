//! Interactive messages: reply buttons, lists, a button with an address, a request for a location,
//! each with Meta's limits. Catalogues and flows are unknown here.

use serde_json::Value;

use crate::graph_error::GraphError;
use crate::message::{Content, invalid, missing, string};

/// Reads the `interactive` part of a message.
pub fn parse(interactive: &Value) -> Result<Content, GraphError> {
    let kind = string(interactive, "type").ok_or_else(|| missing("interactive.type"))?;
    let body =
        string(&interactive["body"], "text").ok_or_else(|| missing("interactive.body.text"))?;
    chars("interactive.body.text", body, if kind == "list" { 4096 } else { 1024 })?;
    if let Some(header) = string(&interactive["header"], "text") {
        chars("interactive.header.text", header, 60)?;
    }
    if let Some(footer) = string(&interactive["footer"], "text") {
        chars("interactive.footer.text", footer, 60)?;
    }
    let action = &interactive["action"];
    match kind {
        "button" => buttons(action)?,
        "list" => list(action)?,
        "cta_url" => cta_url(action)?,
        "location_request_message" | "request_contact_info" => {}
        _ => {
            let known =
                "must be button, list, cta_url, location_request_message or request_contact_info";
            return Err(invalid("interactive.type", known));
        }
    }
    Ok(Content::Free { kind: "interactive" })
}

fn buttons(action: &Value) -> Result<(), GraphError> {
    let buttons =
        action["buttons"].as_array().ok_or_else(|| missing("interactive.action.buttons"))?;
    if buttons.is_empty() || buttons.len() > 3 {
        return Err(invalid("interactive.action.buttons", "must be 1 to 3"));
    }
    let mut ids = Vec::new();
    let mut titles = Vec::new();
    for button in buttons {
        let id = string(&button["reply"], "id").ok_or_else(|| missing("buttons.reply.id"))?;
        let title =
            string(&button["reply"], "title").ok_or_else(|| missing("buttons.reply.title"))?;
        chars("buttons.reply.id", id, 256)?;
        chars("buttons.reply.title", title, 20)?;
        if ids.contains(&id) || titles.contains(&title) {
            return Err(invalid("interactive.action.buttons", "have the same id or title twice"));
        }
        ids.push(id);
        titles.push(title);
    }
    Ok(())
}

fn list(action: &Value) -> Result<(), GraphError> {
    let label = string(action, "button").ok_or_else(|| missing("interactive.action.button"))?;
    chars("interactive.action.button", label, 20)?;
    let sections =
        action["sections"].as_array().ok_or_else(|| missing("interactive.action.sections"))?;
    if sections.is_empty() || sections.len() > 10 {
        return Err(invalid("interactive.action.sections", "must be 1 to 10"));
    }
    let mut ids = Vec::new();
    for section in sections {
        match string(section, "title") {
            Some(title) => chars("sections.title", title, 24)?,
            None if sections.len() > 1 => return Err(missing("sections.title")),
            None => {}
        }
        for row in section["rows"].as_array().ok_or_else(|| missing("sections.rows"))? {
            let id = string(row, "id").ok_or_else(|| missing("rows.id"))?;
            chars("rows.id", id, 200)?;
            chars("rows.title", string(row, "title").ok_or_else(|| missing("rows.title"))?, 24)?;
            if let Some(description) = string(row, "description") {
                chars("rows.description", description, 72)?;
            }
            if ids.contains(&id) {
                return Err(invalid("rows.id", "is there twice"));
            }
            ids.push(id);
        }
    }
    if ids.is_empty() || ids.len() > 10 {
        return Err(invalid("interactive.action.sections", "must have 1 to 10 rows in all"));
    }
    Ok(())
}

fn cta_url(action: &Value) -> Result<(), GraphError> {
    if string(action, "name") != Some("cta_url") {
        return Err(invalid("interactive.action.name", "must be cta_url"));
    }
    let parameters = &action["parameters"];
    let label =
        string(parameters, "display_text").ok_or_else(|| missing("parameters.display_text"))?;
    chars("parameters.display_text", label, 20)?;
    let url = string(parameters, "url").ok_or_else(|| missing("parameters.url"))?;
    if url.starts_with("https://") || url.starts_with("http://") {
        Ok(())
    } else {
        Err(invalid("parameters.url", "is not an HTTP or HTTPS address"))
    }
}

/// 1 to `most` characters.
fn chars(what: &str, text: &str, most: usize) -> Result<(), GraphError> {
    if text.is_empty() || text.chars().count() > most {
        return Err(invalid(what, &format!("must have 1 to {most} characters")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(kind: &str, action: Value) -> Value {
        json!({"type": kind, "body": {"text": "?"}, "action": action})
    }

    fn code(interactive: Value) -> i64 {
        parse(&interactive).unwrap_err().code
    }

    #[test]
    fn there_are_at_most_three_short_buttons() {
        let button =
            |id: &str, title: &str| json!({"type": "reply", "reply": {"id": id, "title": title}});
        let buttons = |buttons: Vec<Value>| with("button", json!({"buttons": buttons}));
        let three = vec![button("1", "Yes"), button("2", "No"), button("3", "Later")];
        parse(&buttons(three.clone())).unwrap();
        assert_eq!(code(buttons([three, vec![button("4", "Never")]].concat())), 131_009);
        assert_eq!(code(buttons(vec![button("1", &"x".repeat(21))])), 131_009);
        assert_eq!(code(buttons(vec![button("1", "Yes"), button("1", "No")])), 131_009);
    }

    #[test]
    fn a_list_has_at_most_ten_rows_in_all() {
        let rows = |from: usize, to: usize| -> Vec<Value> {
            (from..to).map(|id| json!({"id": id.to_string(), "title": "row"})).collect()
        };
        let list =
            |sections: Value| with("list", json!({"button": "Choose", "sections": sections}));
        parse(&list(json!([{"rows": rows(0, 10)}]))).unwrap();
        let eleven =
            json!([{"title": "a", "rows": rows(0, 6)}, {"title": "b", "rows": rows(6, 11)}]);
        assert_eq!(code(list(eleven)), 131_009);
        assert_eq!(code(list(json!([{"rows": rows(0, 1)}, {"rows": rows(1, 2)}]))), 131_008);
        assert_eq!(code(list(json!([{"rows": [{"id": "1", "title": "x".repeat(25)}]}]))), 131_009);
    }

    #[test]
    fn an_address_button_has_a_label_and_an_address() {
        let cta = |parameters: Value| {
            with("cta_url", json!({"name": "cta_url", "parameters": parameters}))
        };
        parse(&cta(json!({"display_text": "See", "url": "https://shop.example"}))).unwrap();
        assert_eq!(code(cta(json!({"display_text": "See", "url": "shop.example"}))), 131_009);
        assert_eq!(code(cta(json!({"url": "https://shop.example"}))), 131_008);
        assert_eq!(code(with("carrier_pigeon", json!({}))), 131_009);
    }
}
